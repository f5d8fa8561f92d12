"""Effects and their drivers: the same steps for threads and for tasks, and a loop that is never blocked."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import pytest

import zoocache
from tests.children import Children
from tests.crowd import Gate, Runner, until
from tests.forks import Forks
from tests.peers import start_peer
from zoocache import Busy, cacheable, invalidate, invalidate_async, runtime
from zoocache.engine.effects import Compute, Follow, Pause, drive, drive_async, patiently
from zoocache.flight import ABANDONED, ERROR, VALUE, Flight, Flights
from zoocache.shm import lock as locks

Steps = Generator[Any, Any, Any]
Drive = Callable[[Steps], Any]


def in_a_loop(steps: Steps) -> Any:
    """`drive_async`, from outside."""

    async def main() -> Any:
        return await drive_async(steps)

    return asyncio.run(main())


both = pytest.mark.parametrize("run", [drive, in_a_loop], ids=["thread", "task"])


def compute(run: Drive, function: Callable[[Any], Any], values: Any) -> Compute:
    """`Compute` for either driver: a function in a thread, a coroutine function in a task."""
    if run is drive:
        return Compute(function, values)

    async def as_coroutine(given: Any) -> Any:
        return function(given)

    return Compute(as_coroutine, values)


@both
def test_steps_get_answers_and_return(run: Drive) -> None:
    """Each effect is answered into the steps; what they return comes out."""

    def steps() -> Steps:
        one = yield compute(run, lambda n: n + 1, 1)
        yield Pause(0.0001)
        two = yield compute(run, lambda n: n + 1, one)
        return one, two

    assert (2, 3) == run(steps())


@both
def test_steps_that_do_nothing(run: Drive) -> None:
    """Steps without any effect return at once."""

    def steps() -> Steps:
        return 5
        yield

    assert 5 == run(steps())


@both
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_of_an_effect_is_thrown_into_the_steps(run: Drive, error: type[BaseException]) -> None:
    """They may catch it and go on."""

    def fail(_: Any) -> None:
        raise error("x")

    def steps() -> Steps:
        try:
            yield compute(run, fail, None)
        except error:
            return (yield compute(run, lambda n: n, "caught"))

    assert "caught" == run(steps())


@both
def test_an_exception_that_nobody_catches_comes_out(run: Drive) -> None:
    """The very same, and the steps are closed."""
    thrown, closed = KeyError("x"), []

    def fail(_: Any) -> None:
        raise thrown

    def steps() -> Steps:
        try:
            yield compute(run, fail, None)
        finally:
            closed.append(True)

    with pytest.raises(KeyError) as raised:
        run(steps())
    assert thrown is raised.value
    assert [True] == closed


def test_a_stop_iteration_is_an_exception_like_others() -> None:
    """A StopIteration of a function does not look like the end of the steps, and comes out as it is."""
    thrown = StopIteration("mine")

    def fail(_: Any) -> None:
        raise thrown

    def steps() -> Steps:
        yield Compute(fail, None)
        return "went on"

    with pytest.raises(StopIteration) as raised:
        drive(steps())
    assert thrown is raised.value


def test_a_driver_that_is_interrupted_closes_the_steps() -> None:
    """An exception between two effects, out of a signal handler for example, leaves no steps half done."""
    closed = []

    class Odd:
        @property
        def block(self) -> Any:
            raise KeyboardInterrupt

    def steps() -> Steps:
        try:
            yield Odd()
        except GeneratorExit:
            closed.append("closed")
            raise
        except KeyboardInterrupt:
            closed.append("thrown in")
            raise

    with pytest.raises(KeyboardInterrupt):
        drive(steps())
    assert 1 == len(closed)


def test_a_task_that_is_cancelled_ends_its_steps() -> None:
    """Cancellation is thrown into the steps at the effect that was waited for."""
    seen = []

    def steps() -> Steps:
        try:
            yield Pause(1000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        task = asyncio.create_task(drive_async(steps()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ["cancelled"] == seen


# Following.


@both
@pytest.mark.parametrize("kind", [VALUE, ERROR, ABANDONED])
def test_a_follower_wakes_when_the_flight_ends(run: Drive, kind: Any) -> None:
    """However it ends."""
    flights, flight = Flights(), Flight("k")
    assert flight is flights.join(flight)

    def steps() -> Steps:
        return (yield Follow(flights, flight, (), 1000))

    follower = Runner(run, steps())
    until(lambda: flight.wakers)
    flights.end(flight, kind, "payload")
    assert follower.result()
    assert (kind, "payload") == (flight.kind, flight.payload)


@both
def test_a_follower_of_a_flight_that_has_ended_does_not_wait(run: Drive) -> None:
    """It is told at once."""
    flights, flight = Flights(), Flight("k")
    flights.join(flight)
    flights.end(flight, VALUE)

    def steps() -> Steps:
        return (yield Follow(flights, flight, (), 1000))

    assert run(steps())


@both
def test_patience_has_an_end(run: Drive) -> None:
    """A follower that waits too long is told so, and no longer waits for anybody."""
    flights, flight, mine = Flights(), Flight("k"), Flight("mine")
    flights.join(flight)

    def steps() -> Steps:
        return (yield Follow(flights, flight, (mine,), 0.001))

    assert not run(steps())
    assert not mine.waits_for
    flights.end(flight, VALUE)


def test_a_thread_does_not_wait_for_itself() -> None:
    """A flight that the same thread leads, below on its stack, is not waited for."""
    flights, flight = Flights(), Flight("k")
    flights.join(flight)

    def steps() -> Steps:
        return (yield Follow(flights, flight, (), 1_000_000))

    assert not drive(steps())
    flights.end(flight, VALUE)
    assert drive(steps())


def test_recursion_in_a_fresh_context_is_found() -> None:
    """A function that calls itself where its context does not reach is told of the recursion at once."""
    zoocache.configure(flight_timeout=1_000_000)

    @cacheable
    def get() -> int:
        return contextvars.Context().run(get)

    with pytest.raises(zoocache.RecursiveFill):
        get()


# Locks that are taken.


def test_patiently_tries_again_until_it_works() -> None:
    """An action that finds a lock taken is repeated."""
    answers = iter([Busy("taken"), Busy("taken"), 5])

    def act() -> int:
        answer = next(answers)
        if isinstance(answer, Busy):
            raise answer
        return answer

    assert 5 == drive(patiently(act))


def test_patiently_has_an_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that stays taken is an error in the end; other errors are not repeated."""
    monkeypatch.setattr("zoocache.engine.effects.DEFAULT_TIMEOUT_S", 0.01)
    tried = []

    def act() -> None:
        tried.append(1)
        raise Busy("taken")

    with pytest.raises(Busy):
        drive(patiently(act))
    assert 1 < len(tried)

    def fail() -> None:
        tried.clear()
        raise KeyError

    with pytest.raises(KeyError):
        drive(patiently(fail))
    assert [] == tried


def test_patiently_bears_to_be_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stopped process, or a loop that does other things, takes for a pause is not the lock's holder's time."""
    now_s, tried = 0.0, 0
    for room in ("zoocache.engine.effects", "zoocache.shm.lock"):
        monkeypatch.setattr(f"{room}.time", SimpleNamespace(monotonic=lambda: now_s))

    def act() -> int:
        nonlocal tried
        tried += 1
        if tried < 4:
            raise Busy("taken")
        return tried

    steps = patiently(act)
    for held_up_s in (0.0, 100.0):
        assert isinstance(next(steps), Pause)
        now_s += held_up_s
    next(steps)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert 4 == stop.value.value


def test_patiently_does_not_wait_for_its_own_thread() -> None:
    """A lock that this very thread holds, below on its stack, is Busy at once."""
    tried = []

    def act() -> None:
        tried.append(1)
        invalidate("a")

    with pytest.raises(Busy, match="this thread"):
        runtime.engine().trie.segment.write(lambda: drive(patiently(act)))
    assert [1] == tried


def hold_lock(ready: int, go_on: int) -> None:
    """In a forked child: be inside a write until told."""
    import os

    def wait() -> None:
        os.write(ready, b"!")
        os.read(go_on, 1)

    runtime.engine().trie.segment.write(wait)


class Ticker:
    """Counts how often the loop comes round, in a task of its own."""

    def __init__(self) -> None:
        self.ticks = 0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0)

    async def wait(self, ticks: int) -> None:
        """Let the loop come round so many times more."""
        end = self.ticks + ticks
        while self.ticks < end:  # noqa: ASYNC110  # rounds of the loop are what is counted
            await asyncio.sleep(0)

    def stop(self) -> None:
        """End the task."""
        self._task.cancel()


@pytest.mark.usefixtures("patient")
def test_a_loop_runs_on_while_a_lock_is_taken(forks: Forks) -> None:
    """Tasks that write while another process is inside let the loop come round, and write in the end."""
    import os

    ready, go_on = os.pipe(), os.pipe()
    invalidate("a")
    child = forks.fork(hold_lock, ready[1], go_on[0])
    os.read(ready[0], 1)
    version = zoocache.get_tag_version

    async def main() -> int:
        ticker = Ticker()
        writers = [asyncio.create_task(invalidate_async("b")) for _ in range(3)]
        writers.append(asyncio.create_task(zoocache.clear_async()))
        writers.append(asyncio.create_task(zoocache.delete_async("k")))
        await ticker.wait(50)
        waiting = sum(not task.done() for task in writers)
        os.write(go_on[1], b"!")
        await asyncio.gather(*writers)
        ticker.stop()
        return waiting

    assert 5 == asyncio.run(main())
    assert 0 == child.wait()
    assert 0 < version("b")
    for end in (*ready, *go_on):
        os.close(end)


def test_a_loop_runs_on_while_a_flight_is_followed(storage: str) -> None:
    """Tasks that wait for a thread's flight let the loop come round."""
    gate = Gate()

    @cacheable
    async def get() -> int:
        await asyncio.to_thread(gate.stop)
        return 5

    async def ask() -> int:
        return await get()

    async def main() -> tuple[int, int]:
        ticker = Ticker()
        follower = asyncio.create_task(get())
        await ticker.wait(50)
        waiting = not follower.done()
        gate.open()
        value = await follower
        ticker.stop()
        return waiting, value

    leader = Runner(asyncio.run, ask())
    gate.wait_inside()
    assert (True, 5) == asyncio.run(main())
    assert 5 == leader.result()


def test_a_loop_runs_on_while_another_process_computes(
    lmdb: object, children: Children, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that wait for another process' flight let the loop come round."""
    from tests.promises import world

    monkeypatch.setenv("WORLD", str(tmp_path))
    leader = start_peer(children)
    leader.call("close_gate", "a")
    leader.begin("call_async", "a")
    leader.wait_inside("a")

    async def main() -> tuple[int, int]:
        ticker = Ticker()
        follower = asyncio.create_task(world.thing_async("a"))
        await ticker.wait(50)
        waiting = not follower.done()
        (tmp_path / ".open-a").touch()
        value = await follower
        ticker.stop()
        return waiting, value

    assert (True, 0) == asyncio.run(main())
    assert 0 == leader.result()
    assert [leader.pid] == world.fills("a")


@pytest.mark.usefixtures("patient")
def test_at_once_waits_for_nobody(forks: Forks) -> None:
    """Inside `at_once` a lock that is taken is Busy immediately; outside it is waited for."""
    import os

    ready, go_on = os.pipe(), os.pipe()
    invalidate("a")
    child = forks.fork(hold_lock, ready[1], go_on[0])
    os.read(ready[0], 1)
    with pytest.raises(Busy):
        locks.at_once(invalidate, "a")
    waiter = Runner(invalidate, "a")
    waiter.thread.join(0.01)
    assert waiter.thread.is_alive()
    os.write(go_on[1], b"!")
    assert None is waiter.result()
    assert 0 == child.wait()
    for end in (*ready, *go_on):
        os.close(end)
