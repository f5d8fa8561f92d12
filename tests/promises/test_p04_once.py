"""P4: one cold key, one fill; and however a fill ends, all who wait for it go on."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

import zoocache
from tests.children import DEADLINE_S, Children
from tests.crowd import Gate, Runner, followers, followers_elsewhere, together, until
from tests.peers import Peer, PeerError, start_peer
from tests.promises import world
from zoocache import FillFailed, RecursiveFill, cacheable, configure


def test_a_herd_of_threads_computes_once(storage: str) -> None:
    """Fifty threads that want one cold key at one moment: one execution, fifty results."""
    gate, runs = Gate(), []

    @cacheable
    def compute(name: str) -> list[str]:
        runs.append(name)
        gate.stop()
        return [name]

    leader = Runner(compute, "a")
    gate.wait_inside()
    herd = [Runner(compute, "a") for _ in range(50)]
    until(lambda: followers() == 50)
    gate.open()
    assert [["a"]] * 51 == [each.result() for each in [leader, *herd]]
    assert ["a"] == runs


def test_threads_that_begin_together_compute_once(storage: str) -> None:
    """Whatever the moment at which each of them comes: for each of many cold keys one execution."""
    runs = []

    @cacheable
    def compute(number: int) -> int:
        runs.append(number)
        return number

    for number in range(30):
        assert [number] * 6 == [each.result() for each in together([functools.partial(compute, number)] * 6)]
    assert list(range(30)) == runs


def test_a_herd_of_tasks_computes_once(storage: str) -> None:
    """A thousand tasks that want one cold key: one execution, and the same for the next key."""
    runs = []

    @cacheable
    async def compute(name: str) -> str:
        runs.append(name)
        await asyncio.sleep(0.001)
        return name

    async def main() -> list[str]:
        return [*await asyncio.gather(*(compute("a") for _ in range(1000))), await compute("b"), await compute("b")]

    assert ["a"] * 1000 + ["b"] * 2 == asyncio.run(main())
    assert ["a", "b"] == runs


def test_loops_of_several_threads_share_a_flight(storage: str) -> None:
    """Tasks of two event loops in two threads wait for the same execution."""
    gate, runs = Gate(), []

    @cacheable
    async def compute() -> int:
        runs.append(1)
        await asyncio.to_thread(gate.stop)
        return 5

    async def ask() -> list[int]:
        return await asyncio.gather(compute(), compute(), compute())

    first = Runner(asyncio.run, ask())
    gate.wait_inside()
    second = Runner(asyncio.run, ask())
    until(lambda: followers() == 5)
    gate.open()
    assert [5, 5, 5] == first.result() == second.result()
    assert 1 == len(runs)


def test_a_herd_of_processes_computes_once(lmdb: object, peer: Callable[[], Peer]) -> None:
    """Six processes that want one cold key: one of them computes, all have it; and so for a mutable value."""
    herd = [peer() for _ in range(6)]
    herd[0].call("close_gate", "a")
    herd[0].begin("page", "a")
    herd[0].wait_inside("a")
    for each in herd[1:]:
        each.begin("page", "a")
    until(followers_elsewhere)
    herd[0].go_on()
    expected = {"name": "a", "number": 0, "lines": [1, 2, 3]}
    assert [expected] * 6 == [each.result() for each in herd]
    assert [herd[0].pid] == world.fills("a")


@pytest.mark.usefixtures("patient")
def test_processes_that_begin_together_compute_once(lmdb: object, peer: Callable[[], Peer]) -> None:
    """Whoever comes first: for each of many cold keys one execution on the host."""
    zoocache.get("anything")  # the environment is there: to make one takes as long as the disk does
    herd = [peer() for _ in range(4)]
    names = [f"n{number}" for number in range(15)]
    for name in names:
        for each in herd:
            each.begin("thing", name)
        assert [0] * 4 == [each.result() for each in herd]
    assert [1] * 15 == [len(world.fills(name)) for name in names]


def test_a_task_waits_for_another_process(lmdb: object, peer: Callable[[], Peer]) -> None:
    """A coroutine follows the flight of another process, and computes nothing."""
    leader, follower = peer(), peer()
    leader.call("close_gate", "a")
    leader.begin("call_async", "a")
    leader.wait_inside("a")
    follower.begin("call_async", "a")
    until(followers_elsewhere)
    (world.folder() / ".open-a").touch()
    assert (0, 0) == (leader.result(), follower.result())
    assert [leader.pid] == world.fills("a")


def test_other_keys_do_not_wait(storage: str) -> None:
    """While one key is computed, another key of the same function is computed and handed out."""
    gate = Gate()

    @cacheable
    def compute(name: str) -> str:
        if name == "slow":
            gate.stop()
        return name

    slow = Runner(compute, "slow")
    gate.wait_inside()
    assert "quick" == compute("quick")
    gate.open()
    assert "slow" == slow.result()


# A leader that raises.


def test_one_exception_for_all_threads(storage: str) -> None:
    """All threads that waited get the leader's exception itself; the function ran once, and runs again next time."""
    gate, runs = Gate(), []

    @cacheable
    def compute() -> int:
        runs.append(1)
        gate.stop()
        raise LookupError("down")

    leader = Runner(compute)
    gate.wait_inside()
    herd = [Runner(compute) for _ in range(20)]
    until(lambda: followers() == 20)
    gate.open()
    errors = {id(each.error()) for each in [leader, *herd]}
    assert ("down",) == leader.error().args  # type: ignore[union-attr]
    assert 1 == len(errors)
    assert 1 == len(runs)
    with pytest.raises(LookupError):
        compute()
    assert 2 == len(runs)


def test_one_exception_for_all_tasks(storage: str) -> None:
    """All tasks that waited get the leader's exception itself; the function ran once."""
    runs = []

    @cacheable
    async def compute() -> int:
        runs.append(1)
        await asyncio.sleep(0.001)
        raise LookupError("down")

    async def main() -> list[int | BaseException]:
        return await asyncio.gather(*(compute() for _ in range(50)), return_exceptions=True)

    errors = asyncio.run(main())
    assert isinstance(errors[0], LookupError)
    assert [errors[0]] * 50 == errors
    assert 1 == len(runs)


def test_an_exception_reaches_other_processes(lmdb: object, peer: Callable[[], Peer]) -> None:
    """In another process who waited gets a FillFailed with the type's name and the message; one execution."""
    leader, follower = peer(), peer()
    leader.call("close_gate", "a")
    leader.begin("broken", "a")
    leader.wait_inside("a")
    follower.begin("tell_failure", "a")
    until(followers_elsewhere)
    leader.go_on()
    with pytest.raises(PeerError, match="'LookupError', 'no a here'"):
        leader.result()
    *attributes, message = follower.result()
    assert ["LookupError", "no a here"] == attributes
    assert "LookupError: no a here" in message
    assert [leader.pid] == world.fills("a")


def test_a_failure_is_told_on_as_it_was(lmdb: object, peer: Callable[[], Peer]) -> None:
    """Who follows a follower gets the type's name and the message of what was raised at first, not of a FillFailed."""
    leader, follower, last = peer(), peer(), peer()
    leader.call("close_gate", "a")
    leader.begin("broken", "a")
    leader.wait_inside("a")
    follower.call("close_gate", "outer a")
    follower.begin("tell_outer_failure", "a")
    follower.wait_inside("outer a")
    last.begin("tell_outer_failure", "a")
    until(followers_elsewhere)
    follower.go_on()
    until(lambda: followers_elsewhere() > 1)
    leader.go_on()
    with pytest.raises(PeerError, match="'LookupError', 'no a here'"):
        leader.result()
    assert [["LookupError", "no a here"]] * 2 == [each.result()[:2] for each in (follower, last)]


def test_exceptions_are_not_kept(storage: str, peer: Callable[[], Peer]) -> None:
    """The next call computes again, in this and in every other process."""
    peers = [peer(), peer()]
    for each in peers * 2:
        with pytest.raises(PeerError, match="LookupError"):
            each.call("broken", "a")
    assert 4 == len(world.fills("a"))


class Unspeakable(Exception):
    """An exception that cannot even be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_printed(storage: str) -> None:
    """An exception whose own `__str__` raises still ends the flight and reaches its caller."""
    runs = []

    @cacheable
    def compute() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise Unspeakable
        return 5

    with pytest.raises(Unspeakable):
        compute()
    assert 5 == compute()


@pytest.mark.parametrize("error", [StopIteration(3), StopAsyncIteration(), GeneratorExit(), KeyError("a"), EOFError()])
def test_every_exception_passes_as_it_is(storage: str, error: BaseException) -> None:
    """Whatever a function raises, its caller gets that very exception, also where it means something to generators."""

    @cacheable
    def compute() -> int:
        raise error

    with pytest.raises(type(error)) as raised:
        compute()
    assert raised.value is error


# Recursion.


def test_recursion_into_the_own_key_is_an_error_at_once(storage: str) -> None:
    """A function that needs its own value is told so, and is not left waiting for itself."""
    configure(flight_timeout=1_000_000)

    @cacheable
    def compute(n: int) -> int:
        return compute(n)

    with pytest.raises(RecursiveFill, match="compute"):
        compute(1)


def test_recursion_into_other_keys_is_fine(storage: str) -> None:
    """Fibonacci through the cache: each number is computed once."""
    runs = []

    @cacheable
    def fib(n: int) -> int:
        runs.append(n)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert 832_040 == fib(30)
    assert 31 == len(runs)


def test_mutual_recursion_is_an_error_at_once(storage: str) -> None:
    """Two functions that need each other's value are told so; and each can be called again afterwards."""
    configure(flight_timeout=1_000_000)
    end = False

    @cacheable
    def ping() -> int:
        return 1 if end else pong()

    @cacheable
    def pong() -> int:
        return ping()

    with pytest.raises(RecursiveFill):
        ping()
    end = True
    assert (1, 1) == (ping(), pong())


def test_recursion_through_a_caught_error(storage: str) -> None:
    """Who catches the error of the recursion may return something else, which is kept."""

    @cacheable
    def compute() -> str:
        try:
            return compute()
        except RecursiveFill:
            return "way out"

    assert ("way out", "way out") == (compute(), compute())


def test_recursion_of_a_coroutine(storage: str) -> None:
    """Directly, and in tasks and threads that it started."""
    configure(flight_timeout=1_000_000)

    @cacheable
    async def direct() -> int:
        return await direct()

    @cacheable
    async def in_a_task() -> int:
        return (await asyncio.gather(in_a_task()))[0]

    @cacheable
    def in_a_thread() -> int:
        return asyncio.run(asyncio.to_thread(in_a_thread))

    for function in (direct, in_a_task):
        with pytest.raises(RecursiveFill):
            asyncio.run(function())
    with pytest.raises(RecursiveFill):
        in_a_thread()


def test_mutual_recursion_across_tasks(storage: str) -> None:
    """Two tasks, each computing what the other one waits for, are told at once instead of waiting for each other."""
    configure(flight_timeout=1_000_000)

    @cacheable
    async def ping(started: int) -> str:
        await asyncio.sleep(0.01)
        return await pong(started)

    @cacheable
    async def pong(started: int) -> str:
        await asyncio.sleep(0.01)
        return await ping(started)

    async def main() -> list[str | BaseException]:
        return await asyncio.gather(ping(1), pong(1), return_exceptions=True)

    assert [RecursiveFill, RecursiveFill] == [type(each) for each in asyncio.run(main())]


def test_mutual_recursion_across_threads(storage: str) -> None:
    """The same in two threads."""
    configure(flight_timeout=1_000_000)
    barrier = threading.Barrier(2)

    @cacheable
    def ping() -> str:
        barrier.wait(DEADLINE_S)
        return pong()

    @cacheable
    def pong() -> str:
        barrier.wait(DEADLINE_S)
        return ping()

    assert [RecursiveFill, RecursiveFill] == [type(each.error()) for each in together([ping, pong])]


def test_three_who_wait_in_a_circle_after_one_gave_up(storage: str) -> None:
    """A circle is found though one of two tasks that made it stopped waiting before it was closed."""
    configure(flight_timeout=1_000_000)
    go_on: asyncio.Event

    @cacheable
    async def far() -> str:
        await go_on.wait()
        return await near()

    @cacheable
    async def near() -> str:
        impatient, patient = asyncio.create_task(far()), asyncio.create_task(far())
        await asyncio.sleep(0.01)
        impatient.cancel()
        await asyncio.wait([impatient])
        go_on.set()
        return await patient

    async def main() -> list[type]:
        nonlocal go_on
        go_on = asyncio.Event()
        leader = asyncio.create_task(far())
        await asyncio.sleep(0)
        return [type(each) for each in await asyncio.gather(leader, near(), return_exceptions=True)]

    assert [RecursiveFill, RecursiveFill] == asyncio.run(main())


# A leader that goes away.


def test_a_cancelled_leader_has_one_heir(storage: str) -> None:
    """When the task that computes is cancelled, exactly one of those who wait computes, and all have its value."""
    runs = []

    @cacheable
    async def compute() -> int:
        runs.append(1)
        running.set()
        number = len(runs)
        await asyncio.sleep(0.01 if number > 1 else 1000)
        return number

    async def main() -> list[int]:
        nonlocal running
        running = asyncio.Event()
        leader = asyncio.create_task(compute())
        await running.wait()
        herd = [asyncio.create_task(compute()) for _ in range(20)]
        await asyncio.sleep(0.01)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        return await asyncio.gather(*herd)

    running: asyncio.Event
    assert [2] * 20 == asyncio.run(main())
    assert 2 == len(runs)


def test_a_follower_that_is_cancelled_disturbs_nobody(storage: str) -> None:
    """A cancelled follower goes; the leader and the others have their value."""
    runs = []

    @cacheable
    async def compute() -> int:
        runs.append(1)
        await asyncio.sleep(0.02)
        return 5

    async def main() -> list[int]:
        tasks = [asyncio.create_task(compute()) for _ in range(3)]
        await asyncio.sleep(0.001)
        tasks[1].cancel()
        return await asyncio.gather(tasks[0], tasks[2])

    assert [5, 5] == asyncio.run(main())
    assert 1 == len(runs)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_leader_has_one_heir(storage: str, error: type[BaseException]) -> None:
    """When the thread that computes is interrupted, exactly one of those who wait computes."""
    gate, runs = Gate(), []

    @cacheable
    def compute() -> int:
        runs.append(1)
        gate.stop()
        if len(runs) == 1:
            raise error
        return len(runs)

    leader = Runner(compute)
    gate.wait_inside()
    herd = [Runner(compute) for _ in range(5)]
    until(lambda: followers() == 5)
    gate.open()
    assert isinstance(leader.error(), error)
    assert [2] * 5 == [each.result() for each in herd]


def test_a_real_interrupt_ends_the_flight(storage: str, children: Children) -> None:
    """After Ctrl-C in the middle of a computation the next call computes, and waits for nobody."""
    child = children.code("""
        import time, zoocache
        zoocache.configure(flight_timeout=1_000_000)
        runs = []
        @zoocache.cacheable
        def compute():
            runs.append(1)
            if len(runs) == 1:
                print("inside", flush=True)
                while True:  # what comes right before a sleep is seen after it
                    time.sleep(0.01)
            return len(runs)
        try:
            compute()
        except KeyboardInterrupt:
            print(compute(), compute())
    """)
    child.wait_for("inside")
    os.kill(child.pid, signal.SIGINT)
    assert "2 2\n" == child.output()


def test_a_loop_that_was_closed_harms_no_leader(storage: str) -> None:
    """A follower whose event loop is gone by the time the flight ends does not disturb the leader, nor the others."""
    gate = Gate()

    @cacheable
    def blocking() -> int:
        gate.stop()
        return 5

    @cacheable
    async def compute() -> int:
        return await asyncio.to_thread(blocking)

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(compute(), 0.01)

    async def ask() -> int:
        return await compute()

    leader = Runner(asyncio.run, ask())
    gate.wait_inside()
    Runner(asyncio.run, give_up()).result()
    patient = Runner(asyncio.run, ask())
    until(lambda: followers() >= 1)
    gate.open()
    assert (5, 5) == (leader.result(), patient.result())


def test_a_killed_leader_is_replaced_by_one(lmdb: object, peer: Callable[[], Peer]) -> None:
    """SIGKILL while it computes: exactly one of those who wait computes in its place, without the time-out."""
    leader, *herd = [peer() for _ in range(4)]
    leader.call("close_gate", "a")
    leader.begin("thing", "a")
    leader.wait_inside("a")
    for each in herd:
        each.begin("thing", "a")
    until(followers_elsewhere)
    killed_s = time.monotonic()
    leader.child.kill()
    assert [0, 0, 0] == [each.result() for each in herd]
    assert 20 > time.monotonic() - killed_s  # the time-out of a flight is 30 s
    assert 2 == len(world.fills("a"))


def test_a_killed_leader_in_memory_leaves_no_trace(peer: Callable[[], Peer]) -> None:
    """In memory each process computes for itself; one that is killed leaves nothing that others wait for."""
    leader, other = peer(), peer()
    leader.call("close_gate", "a")
    leader.begin("thing", "a")
    leader.wait_inside("a")
    leader.child.kill()
    assert 0 == other.call("thing", "a")


def test_a_stopped_leader_is_overdue(lmdb: object, children: Children) -> None:
    """A leader that stands still longer than `flight_timeout` is replaced; awake again, it has its own value."""
    leader, follower = (start_peer(children, env={"ZOOCACHE_FLIGHT_TIMEOUT": "0.3"}) for _ in range(2))
    leader.call("close_gate", "a")
    leader.begin("thing", "a")
    leader.wait_inside("a")
    leader.child.stop()
    world.change("a", 1)
    assert 1 == follower.call("thing", "a")
    leader.child.resume()
    leader.go_on()
    assert 0 == leader.result()
    assert [leader.pid, follower.pid] == world.fills("a")


def test_a_slow_leader_of_this_process_is_overdue(storage: str) -> None:
    """A thread that computes longer than `flight_timeout` is replaced by one of those who wait."""
    configure(flight_timeout=0.05)
    gate, runs = Gate(), []

    @cacheable
    def compute() -> int:
        runs.append(1)
        if len(runs) == 1:
            gate.stop()
        return 5

    leader = Runner(compute)
    gate.wait_inside()
    assert 5 == compute()
    gate.open()
    assert 5 == leader.result()
    assert 2 == len(runs)


def test_what_an_overdue_leader_brings_does_not_replace_what_was_set(storage: str) -> None:
    """A value that was set by hand stays, also when a leader comes back that everybody had given up."""
    configure(flight_timeout=0.05)
    gate, runs = Gate(), []

    @cacheable
    def compute() -> str:
        runs.append(1)
        if len(runs) == 1:
            gate.stop()
            return "overdue"
        return "in time"

    leader = Runner(compute)
    gate.wait_inside()
    assert "in time" == compute()
    zoocache.set(compute.key_for(), "set")
    gate.open()
    assert ("overdue", "set") == (leader.result(), compute())


def test_the_longest_patience(storage: str) -> None:
    """A `flight_timeout` as long as it may be is waited for like any other, by threads and by tasks."""
    configure(flight_timeout=10_000_000_000)
    gate = Gate()

    @cacheable
    def compute() -> int:
        gate.stop()
        return 5

    @cacheable
    async def compute_async() -> int:
        return await asyncio.to_thread(compute)

    async def ask() -> list[int]:
        return await asyncio.gather(compute_async(), compute_async())

    leader = Runner(compute)
    gate.wait_inside()
    follower, tasks = Runner(compute), Runner(asyncio.run, ask())
    until(lambda: followers() == 3)
    gate.open()
    assert (5, 5, [5, 5]) == (leader.result(), follower.result(), tasks.result())


def test_a_context_of_its_own_is_no_recursion(storage: str) -> None:
    """Another caller's fill of the same key, in a fresh context, is followed and not taken for recursion."""
    gate, runs = Gate(), []

    @cacheable
    def compute() -> int:
        runs.append(1)
        gate.stop()
        return 5

    leader = Runner(compute)
    gate.wait_inside()
    follower = Runner(contextvars.Context().run, compute)
    until(lambda: followers() == 1)
    gate.open()
    assert (5, 5) == (leader.result(), follower.result())
    assert 1 == len(runs)


def test_fill_failed_can_be_pickled_by_pools() -> None:
    """FillFailed keeps its attributes on the way through a pool of processes."""
    import copy

    error = copy.copy(FillFailed("LookupError", "no a"))
    assert ("LookupError", "no a") == (error.type_name, error.reason)
