"""P10: threads, tasks, forks, spawned and forked pools, prefork servers, handlers: everywhere Python runs code."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import types
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

import zoocache
from tests.children import DEADLINE_S, ROOT, Children
from tests.crowd import Gate, Runner, followers_elsewhere, together, until
from tests.forks import Forks
from tests.patience import be_patient
from tests.peers import Peer, fork_peer
from tests.promises import world
from zoocache import RecursiveFill, cacheable, invalidate
from zoocache._zoocache import Core
from zoocache.engine import effects

METHODS = ["fork", "spawn", "forkserver"]


# Pools and programs.


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the children of pools


@pytest.mark.parametrize("method", METHODS)
def test_pools_share_one_cache(lmdb: Path, method: str) -> None:
    """However a pool starts its processes: what one computed all have, and an invalidation reaches them all."""
    assert 0 == world.thing("mine")
    with multiprocessing.get_context(method).Pool(2, be_patient) as pool:
        assert [0] * 8 == pool.map(world.thing, ["mine"] * 8)
        assert [0] * 8 == pool.map(world.thing, ["theirs"] * 8)
        assert 0 == world.thing("theirs")
        assert ([os.getpid()], 1) == (world.fills("mine"), len(world.fills("theirs")))
        world.change("theirs", 1)
        invalidate("thing:theirs")
        assert [1] * 8 == pool.map(world.thing, ["theirs"] * 8)
        assert 2 == len(world.fills("theirs"))


def test_executors(storage: str) -> None:
    """The pools of concurrent.futures, of processes and of threads."""
    assert 0 == world.thing("a")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        assert [0] * 6 == list(pool.map(world.thing, ["a"] * 6))
        world.change("a", 1)
        invalidate("thing")
        assert [1] * 6 == list(pool.map(world.thing, ["a"] * 6))
    with ThreadPoolExecutor(4) as threads:
        assert [1] * 20 == list(threads.map(world.thing, ["a"] * 20))


def test_a_process_that_was_spawned_invalidates(storage: str) -> None:
    """What a spawned process kills is dead in the one that spawned it."""
    assert 0 == world.thing("a")
    world.change("a", 1)
    process = multiprocessing.get_context("spawn").Process(target=invalidate, args=("thing:a",))
    process.start()
    process.join(DEADLINE_S)
    assert 0 == process.exitcode
    assert 1 == world.thing("a")


def test_an_unrelated_program(storage: str) -> None:
    """A program of another folder that only has the prefix in common kills what it names."""
    assert 0 == world.thing("a")
    world.change("a", 1)
    command = [sys.executable, "-c", "import zoocache; zoocache.invalidate('thing')"]
    subprocess.run(command, cwd="/", check=True, timeout=DEADLINE_S)
    assert 1 == world.thing("a")


@pytest.mark.usefixtures("patient")
def test_a_prefork_server(lmdb: Path, children: Children) -> None:
    """A master that warmed the cache forks workers; they share it, die, are replaced, and it stays sound."""
    assert 0 == world.thing("warm")
    workers = [fork_peer(children) for _ in range(3)]
    assert [0] * 3 == [worker.call("thing", "warm") for worker in workers]
    assert [os.getpid()] == world.fills("warm")
    for number in range(1, 4):
        victim = workers.pop(0)
        victim.child.kill()
        victim.child.wait()
        workers.append(fork_peer(children))
        world.change("warm", number)
        workers[0].call("zoocache.invalidate", "thing:warm")
        assert [number] * 3 == [worker.call("thing", "warm") for worker in workers]
        assert number == world.thing("warm")
    assert 4 == len(world.fills("warm"))
    assert [] == Core().check()


# Forks at bad moments.


def test_a_fork_while_another_thread_computes(storage: str, forks: Forks) -> None:
    """A child does not wait for a thread that it does not have; with a store it waits for its parent's."""
    gate, result = Gate(), os.pipe()

    @cacheable
    def get() -> str:
        if os.getpid() == parent:
            gate.stop()
            return "of the parent"
        return "of the child"

    def work() -> None:
        os.write(result[1], get().encode())

    parent = os.getpid()
    leader = Runner(get)
    gate.wait_inside()
    child = forks.fork(work)
    if storage != "memory":
        until(followers_elsewhere)
        gate.open()
    assert 0 == child.wait()
    gate.open()
    assert "of the parent" == leader.result()
    expected = b"of the child" if storage == "memory" else b"of the parent"
    assert expected == os.read(result[0], 100)
    for end in result:
        os.close(end)


def test_a_fork_in_the_middle_of_a_fill(storage: str, forks: Forks) -> None:
    """A function that forks while it computes: the child uses the cache freely, the parent's value is kept."""

    @cacheable(deps="inner:x")
    def inner(n: int) -> int:
        return n

    @cacheable(deps="outer:x")
    def outer() -> int:
        child = forks.fork(work)
        assert 0 == child.wait()
        return inner(1)

    def work() -> None:
        assert (2, 2) == (inner(2), inner(2))
        zoocache.set("k", 5)
        assert 5 == zoocache.get("k")
        invalidate("other")

    assert (1, 1) == (outer(), outer())
    assert 1 == outer.info().fills


@pytest.mark.usefixtures("patient")
def test_parent_and_child_write_at_once(storage: str, forks: Forks) -> None:
    """After a fork both invalidate, fill and read as fast as they can: the segment stays sound, no kill is lost."""

    @cacheable(deps=lambda n: f"n:{n}")
    def get(n: int) -> int:
        return n

    def work() -> None:
        for n in range(150):
            invalidate(f"n:{n % 10}", f"fresh:{os.getpid()}:{n}")
            assert n % 10 == get(n % 10)

    get(1)
    before = Core().seq()
    children = [forks.fork(work) for _ in range(3)]
    work()
    assert [0, 0, 0] == [child.wait() for child in children]
    assert before + 4 * 150 <= Core().seq()  # a listener that comes in between moves it too
    assert [] == Core().check()


def test_a_fork_in_a_running_loop(storage: str, forks: Forks) -> None:
    """A task forks while other tasks wait for a flight: they get their value, and the child rings no bell of theirs."""

    @cacheable
    async def slow() -> int:
        await asyncio.sleep(0.02)
        return 5

    def work() -> None:
        assert 7 == asyncio.run(as_coroutine())

    async def as_coroutine() -> int:
        return await fresh()

    @cacheable
    async def fresh() -> int:
        return 7

    async def main() -> tuple[list[int], int]:
        tasks = [asyncio.create_task(slow()) for _ in range(5)]
        await asyncio.sleep(0.001)
        child = forks.fork(in_a_thread)
        values = await asyncio.gather(*tasks)
        return values, await asyncio.to_thread(child.wait)

    def in_a_thread() -> None:  # the child's main thread still counts as one with a running loop
        Runner(work).result()

    assert ([5] * 5, 0) == asyncio.run(main())


# Threads.


def test_three_hundred_threads_one_after_another(storage: str) -> None:
    """Threads that come and go, each with a first and a second call, leave nothing that runs out."""

    @cacheable(deps="a")
    def get(n: int) -> list[int]:
        return [n]

    def work(n: int) -> tuple[list[int], list[int]]:
        return get(n % 7), get(n)

    for n in range(300):
        assert ([n % 7], [n]) == Runner(work, n).result()


def test_two_hundred_threads_at_once(storage: str) -> None:
    """As many threads as a crowded server has, at one moment."""
    runs = []

    @cacheable(deps="a")
    def get(n: int) -> list[int]:
        runs.append(n)
        return [n]

    results = [runner.result() for runner in together([lambda n=n: get(n % 20) for n in range(200)])]  # type: ignore[misc]
    assert [[n % 20] for n in range(200)] == results
    assert list(range(20)) == sorted(runs)


@pytest.mark.usefixtures("patient")
def test_threads_that_read_and_kill(storage: str) -> None:
    """Threads that read, kill, set, delete and clear at random break nothing."""

    @cacheable(deps=lambda n: f"n:{n}")
    def get(n: int) -> list[int]:
        return [n]

    def work(seed: int) -> None:
        for step in range(120):
            n = (step * seed) % 11
            assert [n] == get(n)
            if step % 5 == 0:
                invalidate(f"n:{n}")
            if step % 7 == 0:
                zoocache.set(f"k{n}", n, deps=f"n:{n}", ttl=0.01)
                assert zoocache.get(f"k{n}") in {n, None}
            if step % 17 == 0:
                get.invalidate_call(n)
            if step % 53 == 0:
                zoocache.clear()
            if step % 41 == 0:
                zoocache.prune(0)

    for runner in together([lambda seed=seed: work(seed) for seed in (1, 2, 3, 5)]):  # type: ignore[misc]
        runner.result()
    assert [] == Core().check()


# Tasks.


def test_many_loops(storage: str) -> None:
    """One loop after the other, and several at once in threads, with the same functions."""

    @cacheable(deps="a")
    async def get(n: int) -> list[int]:
        await asyncio.sleep(0)
        return [n]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(get(n % 5) for n in range(50)))

    expected = [[n % 5] for n in range(50)]
    for _ in range(3):
        assert expected == asyncio.run(main())
    assert [expected] * 4 == [runner.result() for runner in together([lambda: asyncio.run(main())] * 4)]
    assert 5 == get.info().fills


def test_a_sync_function_inside_a_loop(storage: str) -> None:
    """Plain cached functions work in tasks, and their tags reach the coroutine that called them."""
    runs = []

    @cacheable(deps="plain:x")
    def plain() -> int:
        return 1

    @cacheable
    async def outer() -> int:
        runs.append(plain())
        return len(runs)

    async def main() -> list[int]:
        first = [await outer(), await outer()]
        await zoocache.invalidate_async("plain")
        return [*first, await outer()]

    assert [1, 1, 2] == asyncio.run(main())


def test_tasks_that_are_cancelled_at_random(storage: str) -> None:
    """However tasks are cancelled, leaders and followers: the others have their values, and nothing is left over."""
    from zoocache import runtime

    @cacheable
    async def get(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    async def main() -> None:
        for number in range(40):
            tasks = [asyncio.create_task(get(number)) for _ in range(8)]
            for step in range(number % 5):
                await asyncio.sleep(0 if step else 0.0005)
            for victim in range(number % 7):
                tasks[victim].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert number in done or number % 7 == 7
            assert all(value == number or isinstance(value, asyncio.CancelledError) for value in done)

    asyncio.run(main())
    assert {} == runtime.engine().flights._flights


def test_a_timeout_around_a_call(storage: str) -> None:
    """A caller that runs out of patience goes; the next one computes, and waits for nobody."""
    runs = []

    @cacheable
    async def get() -> int:
        runs.append(1)
        running.set()
        await asyncio.sleep(1000 if len(runs) == 1 else 0)
        return len(runs)

    async def main() -> int:
        nonlocal running
        running = asyncio.Event()
        caller = asyncio.create_task(get())
        await running.wait()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(caller, 0.01)
        return await get()

    running: asyncio.Event

    assert 2 == asyncio.run(main())


def test_a_loop_that_is_closed_under_a_call(near: str) -> None:
    """Its task is left unfinished; once that is collected, as all that is left unfinished is, the next caller, in
    another loop, computes and waits for nobody."""
    from zoocache import runtime

    runs = []

    @cacheable
    async def get() -> int:
        runs.append(1)
        await asyncio.sleep(1000 if len(runs) == 1 else 0)
        return len(runs)

    async def begin() -> None:
        task = asyncio.create_task(get())
        await asyncio.wait((task,), timeout=0.01)
        assert ([1], False) == (runs, task.done())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()

    def is_collected() -> bool:
        gc.collect()
        return not runtime.engine().flights._flights

    until(is_collected)
    assert 2 == asyncio.run(get())


def test_a_coroutine_that_nobody_awaits(near: str) -> None:
    """A call whose coroutine is closed unstarted, or thrown away half-way, holds nothing up."""

    @cacheable
    async def get() -> int:
        await suspended()
        return 5

    @types.coroutine
    def suspended() -> Any:
        if abandoned:
            yield
        return None

    abandoned = True
    get().close()
    half_way = get()
    half_way.send(None)
    del half_way
    gc.collect()
    half_way = get()
    half_way.send(None)
    half_way.close()
    abandoned = False

    async def main() -> int:
        return await get()

    assert 5 == asyncio.run(main())


# Handlers and finalizers.


def test_a_signal_handler_may_use_the_cache(storage: str, children: Children) -> None:
    """A handler that reads, computes and kills while the main thread does the same."""
    text = """
        import os, signal, zoocache
        from zoocache import Busy, RecursiveFill, cacheable, invalidate
        from zoocache._zoocache import Core
        @cacheable(deps=lambda n: f"n:{n}")
        def get(n):
            return [n]
        get(0)
        calls = 0
        def handler(*_):
            global calls
            calls += 1
            try:
                assert [calls % 7] == get(calls % 7)
                invalidate(f"n:{calls % 5}")
            except (Busy, RecursiveFill):  # it interrupted a write, or the very function that it calls
                pass
            signal.setitimer(signal.ITIMER_REAL, 0.0007)  # after all that, or nothing else might ever run
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        for n in range(int(os.environ["ROUNDS"])):
            assert [n % 9] == get(n % 9)
            if n % 3 == 0:
                invalidate(f"n:{n % 9}")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print(calls > 5, Core().check())
    """
    rounds = "100" if "redis" in storage else "1500"
    assert "True []\n" == children.code(text, env={"ROUNDS": rounds}).output()


def test_a_handler_in_the_middle_of_its_own_function(storage: str) -> None:
    """A handler that calls the very function that it interrupted is told of the recursion, and does not wait."""
    seen = []

    @cacheable
    def get() -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return 5

    def handler(*_: object) -> None:
        with pytest.raises(RecursiveFill):
            get()
        seen.append(True)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        assert (5, [True]) == (get(), seen)
    finally:
        signal.signal(signal.SIGUSR1, before)


@dataclasses.dataclass(frozen=True)
class Ringing:
    """Its hash is asked for when a set of it is read; a signal comes in the middle of that."""

    rings: ClassVar[bool] = False

    def __hash__(self) -> int:
        if self.rings:
            signal.raise_signal(signal.SIGUSR1)
        return 5


@pytest.mark.parametrize("kept", [{Ringing()}, [(Ringing(), {Ringing()})], {"a": Counter([Ringing()])}])
def test_what_a_handler_raises_while_a_value_is_read(kept: object, lmdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that runs out while a value is decoded reaches the caller, who finds the value afterwards."""

    @cacheable
    def get() -> object:
        runs.append(1)
        return kept

    runs: list[int] = []

    class MyDeadline(Exception):
        """Of the caller."""

    def handler(*_: object) -> None:
        raise MyDeadline

    assert kept == get()
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for prepare in (lambda: None, zoocache.reset):  # what is live, what lies in the store
            prepare()
            monkeypatch.setattr(Ringing, "rings", True)
            with pytest.raises(MyDeadline):
                get()
            monkeypatch.setattr(Ringing, "rings", False)
            assert kept == get()
    finally:
        monkeypatch.setattr(Ringing, "rings", False)
        signal.signal(signal.SIGUSR1, before)
    assert [1] == runs


@pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="before 3.12 the interpreter itself crashes if a finalizer sets a context variable while another is set",
)
def test_a_finalizer_may_use_the_cache(storage: str) -> None:
    """An object that uses the cache when it is collected does so at any moment, also in the middle of a call."""

    @cacheable(deps="a")
    def get(n: int) -> list[int]:
        return [n]

    class Careless:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            collected.append(self)
            with contextlib.suppress(zoocache.Busy, RecursiveFill):
                n = len(collected) % 50
                assert [n] == get(n)
                invalidate("b")

    collected: list[object] = []
    before = gc.get_threshold()
    gc.set_threshold(20)
    try:
        for n in range(300):
            Careless()
            assert [n % 50] == get(n % 50)
            if n % 10 == 0:
                invalidate("a")
    finally:
        gc.set_threshold(*before)
    until(lambda: (gc.collect(), len(collected))[1] == 300)  # if another thread collects, this collects nothing


# Waiting.


@pytest.mark.parametrize("waits_for", ["a thread", "a process", "a lock"])
def test_a_loop_is_never_blocked(
    lmdb: Path, peer: Callable[[], Peer], forks: Forks, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    """While a task waits for a flight of a thread, of another process, or for a lock, the loop comes round."""
    monkeypatch.setattr(effects, "DEFAULT_TIMEOUT_S", DEADLINE_S)  # a machine may need more than 2 s for all the ticks
    gate, other = Gate(), peer()

    @cacheable
    async def slow() -> int:
        await asyncio.to_thread(gate.stop)
        return 0

    async def ask() -> int:
        return await slow()

    pipes = os.pipe(), os.pipe()
    leader: Runner | None = None
    invalidate("x")
    if waits_for == "a thread":
        leader = Runner(asyncio.run, ask())
        gate.wait_inside()
    elif waits_for == "a process":
        other.call("close_gate", "a")
        other.begin("call_async", "a")
        other.wait_inside("a")
    else:
        forks.fork(_hold_lock, pipes)
        os.read(pipes[0][0], 1)

    def release() -> None:
        gate.open()
        (world.folder() / ".open-a").touch()
        os.write(pipes[1][1], b"!")

    async def main() -> int:
        ticks = 0
        wait = {"a thread": slow, "a process": lambda: world.thing_async("a"), "a lock": lambda: world.thing_async("b")}
        task = asyncio.ensure_future(wait[waits_for]())
        while ticks < 30:
            ticks += 1
            await asyncio.sleep(0.001)
            assert not task.done()
        release()
        assert 0 == await task
        return ticks

    assert 30 == asyncio.run(main())
    if leader:
        leader.result()
    for end in (*pipes[0], *pipes[1]):
        os.close(end)


def _hold_lock(pipes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    from zoocache import runtime

    runtime.engine().trie.segment.write(lambda: (os.write(pipes[0][1], b"!"), os.read(pipes[1][0], 1)))


def test_the_main_module_of_a_test_program(children: Children, tmp_path: Path) -> None:
    """A program that is one file, uses threads, tasks, forks and a pool in one go, and ends well."""
    script = tmp_path / "everything.py"
    script.write_text(textwrap.dedent(EVERYTHING))
    assert "well\n" == children.script(script, env={"ZOOCACHE_STORAGE_URL": f"lmdb://{tmp_path}/cache"}).output()


EVERYTHING = """
    import asyncio, multiprocessing, os, threading
    from zoocache import cacheable, invalidate, invalidate_async

    @cacheable(deps=lambda n: f"n:{n}")
    def get(n):
        return {"n": n}

    @cacheable(deps="all")
    async def fetch(n):
        return {"n": n, "plain": get(n)}

    async def main():
        expected = [{"n": n % 3, "plain": {"n": n % 3}} for n in range(9)]
        assert expected == await asyncio.gather(*(fetch(n % 3) for n in range(9)))
        await invalidate_async("all", "n")

    if __name__ == "__main__":
        threads = [threading.Thread(target=get, args=(n % 4,)) for n in range(8)]
        for thread in threads:
            thread.start()
        asyncio.run(main())
        for thread in threads:
            thread.join()
        pid = os.fork()
        if not pid:
            assert {"n": 1} == get(1)
            invalidate("n:1")
            os._exit(0)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            assert [{"n": n} for n in range(6)] == pool.map(get, range(6))
        asyncio.run(main())
        print("well")
"""
