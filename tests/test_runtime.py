"""This process's engine: started by the first use, one for all threads, carried over a fork, let go at exit."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import pytest

import zoocache
from tests.children import Children
from tests.crowd import Runner, together
from tests.forks import Forks
from tests.shared_memory import harm
from zoocache import cacheable, clock, invalidate, keys, runtime
from zoocache._zoocache import Core
from zoocache.storage.lmdb import LmdbStore


def open_files() -> list[str]:
    """What the descriptors of this process lead to."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:  # noqa: PERF203  # the descriptor of this very listing
            continue
    return found


def test_nothing_runs_before_the_first_use() -> None:
    """Decorating, configuring and asking start no engine."""

    @cacheable(deps="a")
    def get() -> int:
        return 1

    zoocache.configure(default_ttl=5)
    get.key_for()
    get.info()
    assert None is runtime.running()
    get()
    assert None is not runtime.running()


def test_one_engine_for_all_threads() -> None:
    """Threads that come first at one moment share one engine."""
    engines = {id(runner.result()) for runner in together([runtime.engine] * 20)}
    assert 1 == len(engines)


def test_the_environment_settles_what_nobody_configured(tmp_path: Path, children: Children) -> None:
    """Without `configure` the variables are in force; an explicit argument goes before them."""
    text = """
        import sys, zoocache
        if sys.argv[1:]:
            zoocache.configure(default_ttl=float(sys.argv[1]))
        zoocache.set("k", 1)
        from zoocache._zoocache import Core
        settings = Core().settings()
        print(settings.storage_kind, settings.default_ttl, settings.max_entries)
    """
    env = {"ZOOCACHE_STORAGE_URL": f"lmdb://{tmp_path}/c", "ZOOCACHE_DEFAULT_TTL": "5.5", "ZOOCACHE_MAX_ENTRIES": "9"}
    assert "lmdb 5.5 9\n" == children.code(text, env=env).output()
    assert "lmdb 7.0 9\n" == children.code(text, "7", env=env).output()


def test_a_wrong_environment_is_an_error_at_the_first_use(children: Children) -> None:
    """A variable with a wrong value is named when the cache is first used, and at `configure`."""
    env = {"ZOOCACHE_DEFAULT_TTL": "soon"}
    child = children.code("import zoocache; zoocache.get('k')", env=env)
    assert 1 == child.wait()
    assert "ZOOCACHE_DEFAULT_TTL" in child.errors()
    child = children.code("import zoocache; zoocache.configure()", env=env)
    assert 1 == child.wait()
    assert "ZOOCACHE_DEFAULT_TTL" in child.errors()


def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path, prefix: str) -> None:
    """A foreign segment is an error at every call, not a leak; once it is gone, the cache works."""
    from zoocache.shm import identity

    foreign = Path(identity.segment_file(identity.segment_name(prefix)))
    foreign.write_bytes(b"not a segment")
    foreign.chmod(0o666)

    @cacheable
    def get() -> int:
        return 1

    with pytest.raises(zoocache.SegmentRefused):
        get()
    gc.collect()  # what other tests left is closed before, or never
    before = len(open_files())
    for _ in range(20):
        with pytest.raises(zoocache.SegmentRefused):
            get()
    assert before == len(open_files())
    foreign.unlink()
    assert 1 == get()


def test_reset_gives_all_descriptors_back(tmp_path: Path) -> None:
    """Starting and resetting again and again leaves nothing open."""

    @cacheable(deps="a")
    def get() -> int:
        return 1

    counts = []
    for _ in range(5):
        zoocache.configure(storage_url=f"lmdb://{tmp_path}/cache")
        get()
        invalidate("a")
        zoocache.reset()
        gc.collect()
        counts.append(len(open_files()))
    assert [counts[1]] * 4 == counts[1:]


def test_no_thread_of_ours(tmp_path: Path, children: Children) -> None:
    """After everything was used, in both storages, the process has the one thread that it began with."""
    text = """
        import asyncio, os, sys, threading, zoocache
        from zoocache import *
        configure(storage_url=sys.argv[1], prune_after=0.001, auto_prune_interval=0.001, default_ttl=1)
        @cacheable(deps="a:b")
        def get(n): return [n]
        @cacheable
        async def fetch(n): return [n]
        async def main():
            await fetch(1)
            await invalidate_async("a")
            print(threading.active_count(), len(os.listdir("/proc/self/task")))
        for n in range(5):
            get(n), get(n), invalidate("a")
        prune(0)
        asyncio.run(main())
    """
    for url in ("memory://", f"lmdb://{tmp_path}/cache"):
        assert "1 1\n" == children.code(text, url).output()


def test_a_fork_after_use_warns_of_nothing(tmp_path: Path, children: Children) -> None:
    """A process that has used the cache forks without a warning, and both go on."""
    text = """
        import os, sys, warnings
        warnings.simplefilter("always")
        import zoocache
        zoocache.configure(storage_url=sys.argv[1])
        get = zoocache.cacheable(lambda n: [n])
        get(1)
        pid = os.fork()
        print(f"{get(1)} {get(2)} {zoocache.invalidate('a')}\\n", end="", flush=True)
        if pid:
            os.waitpid(pid, 0)
    """
    for url in ("memory://", f"lmdb://{tmp_path}/cache"):
        child = children.code(text, url)
        assert "[1] [2] None\n" * 2 == child.output()
        assert "" == child.errors()


def test_a_forked_child_is_a_process_of_its_own(forks: Forks) -> None:
    """It has its own slot, its own counters from zero, and keeps what its parent held."""

    @cacheable
    def get(n: int) -> int:
        return n

    get(1)
    get(1)
    parent = runtime.engine().trie.segment.slots.owner

    def work() -> None:
        assert (0, 0, 0) == get.info()[:3]
        assert 1 == get(1)
        assert (1, 0, 0) == get.info()[:3]
        get(2)
        engine = runtime.engine()
        engine.look_around()
        assert engine.trie.segment.claim_slot(0)
        assert parent != engine.trie.segment.slots.owner

    assert 0 == forks.fork(work).wait()
    assert (1, 1, 1) == get.info()[:3]


def test_a_child_of_a_child(forks: Forks) -> None:
    """Forks of forks work, and all see each other's invalidations."""
    runs: list[int] = []

    @cacheable(deps="a")
    def get() -> int:
        runs.append(1)
        return len(runs)

    get()

    def grandchild() -> None:
        assert 1 == get()
        invalidate("a")
        assert 2 == get()

    def child() -> None:
        inner = Forks()
        assert 0 == inner.fork(grandchild).wait()
        assert 2 == get()

    assert 0 == forks.fork(child).wait()
    assert 2 == get()


@pytest.mark.usefixtures("patient")
def test_a_fork_while_threads_are_busy(forks: Forks) -> None:
    """A child that is forked while other threads read, write and compute finds every lock free."""

    @cacheable(deps=lambda n: f"n:{n % 10}")
    def get(n: int) -> list[int]:
        return [n]

    stop = threading.Event()

    def churn(seed: int) -> int:
        n = 0
        while not stop.is_set():
            n += 1
            get((n * seed) % 50)
            if n % 20 == 0:
                invalidate(f"n:{n % 7}")
        return n

    def work() -> None:
        for n in range(50):
            assert [n] == get(n)
        invalidate("n")
        assert [5] == get(5)

    runners = [Runner(churn, seed) for seed in (1, 3, 7)]
    try:
        for _ in range(15):
            assert 0 == forks.fork(work).wait()
    finally:
        stop.set()
    assert all(runner.result() for runner in runners)
    assert [] == Core().check()


def test_threads_may_decorate_while_others_count() -> None:
    """Functions that are decorated in one thread do not disturb another that adds up the counters."""
    stop = threading.Event()

    def decorate() -> int:
        made = 0
        while not stop.is_set():
            cacheable(lambda: None)
            made += 1
        return made

    runner = Runner(decorate)
    kept = [cacheable(lambda n=n: n) for n in range(200)]  # type: ignore[misc]
    try:
        for _ in range(300):
            runtime._totals()
    finally:
        stop.set()
    assert runner.result() > 0
    assert 200 == len(kept)


def test_functions_that_are_gone_are_forgotten() -> None:
    """A decorated function that nobody holds any more leaves nothing behind."""
    gc.collect()
    before = len(runtime._specs)
    functions = [cacheable(lambda n=n: n) for n in range(20)]  # type: ignore[misc]
    assert before + 20 == len(runtime._specs)
    del functions
    gc.collect()
    assert before >= len(runtime._specs)


AT_EXIT = """
import atexit, sys, threading, zoocache
zoocache.configure(storage_url=sys.argv[1])
@zoocache.cacheable(deps="a")
def get(n):
    return [n]
atexit.register(lambda: print(get(1), get(2), zoocache.invalidate("a"), flush=True))
get(1)
"""


def test_use_at_the_very_end(tmp_path: Path, children: Children) -> None:
    """Handlers at exit may use the cache, though it was let go before them."""
    for url in ("memory://", f"lmdb://{tmp_path}/cache"):
        child = children.code(AT_EXIT, url)
        assert "[1] [2] None\n" == child.output()
        assert "" == child.errors()


LATE_AT_EXIT = """
import atexit, sys, threading, zoocache
zoocache.configure(storage_url=sys.argv[1])
atexit.register(lambda: zoocache.set("late", 2, deps=["a"]))
zoocache.set("early", 1, deps=["a"])
"""


def test_what_is_kept_at_the_very_end_survives_a_reboot(tmp_path: Path, children: Children) -> None:
    """What a handler at exit keeps in LMDB after it was let go is on the disk, and the store was closed in order."""
    child = children.code(LATE_AT_EXIT, f"lmdb://{tmp_path}/cache")
    assert "" == child.output()
    assert "" == child.errors()
    prefix = os.environ["ZOOCACHE_PREFIX"]
    store = LmdbStore(tmp_path / "cache", prefix=prefix, boot=clock.now().boot + 1)
    found = [store.load(keys.digest(key), clock.now()) is not None for key in ("early", "late")]
    assert [True, True] == found


def test_daemon_threads_at_exit(children: Children) -> None:
    """A process whose daemon threads are in the middle of calls ends, and leaves a sound segment."""
    text = """
        import threading, time, zoocache
        @zoocache.cacheable(deps=lambda n: f"n:{n}")
        def get(n):
            return [n]
        def churn(seed):
            n = 0
            while True:
                n += 1
                get(n * seed % 100)
                zoocache.invalidate(f"n:{n % 100}")
        for seed in range(4):
            threading.Thread(target=churn, args=(seed,), daemon=True).start()
        time.sleep(0.1)
    """
    for _ in range(3):
        assert 0 == children.code(text).wait()
    assert [] == harm()


def test_an_exec_after_use(tmp_path: Path, children: Children) -> None:
    """A program that replaces itself takes nothing of the segment along, and the next one shares what it kept."""
    text = f"""
        import os, sys, zoocache
        zoocache.configure(storage_url="lmdb://{tmp_path}/cache")
        zoocache.set("k", "before", deps="a")
        os.execv(sys.executable, [sys.executable, "-c", '''
        import os, zoocache
        held = [os.readlink(f"/proc/self/fd/{{n}}") for n in range(3, 64) if os.path.exists(f"/proc/self/fd/{{n}}")]
        held = [name for name in held if "shm" in name or "lock" in name]
        zoocache.configure(storage_url="lmdb://{tmp_path}/cache")
        print(held, zoocache.get("k"), zoocache.invalidate("a"), zoocache.get("k"))
        '''.replace("        ", "")])
    """
    assert "[] before None None\n" == children.code(text).output()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the warning is new in 3.12")
def test_the_warning_about_threads_is_the_users_own(children: Children) -> None:
    """Python warns of a fork beside threads if the user has some, so the test above would see ours."""
    child = children.code("""
        import os, threading, time, warnings
        warnings.simplefilter("always")
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        os._exit(0)
    """)
    assert 0 == child.wait()
    assert "DeprecationWarning" in child.errors()
