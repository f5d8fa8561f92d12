"""Trouble around the cache, as its user meets it: no shared memory, no rights, no room, no descriptors.

What stands elsewhere: tags, keys, results and `deps` that are refused in test_functions.py and decorator/; full
and tiny tables, storages and /dev/shm in promises/test_p08; foreign and broken segments in promises/test_p11; storages
that fail or vanish in engine/test_core.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zoocache
from tests.children import Children
from tests.forks import Forks
from tests.shm import namespaces
from zoocache import SegmentError, StorageError, cacheable, configure, invalidate
from zoocache._zoocache import Core

NOBODY = 65_534
MS_RDONLY = namespaces.MS_RDONLY

InNamespace = Callable[[Callable[[], None]], None]


@pytest.fixture
def in_namespace(forks: Forks) -> InNamespace:
    """Has a forked child do something in a mount namespace of its own, where that is permitted."""
    if forks.fork(namespaces.enter).wait():
        pytest.skip("mount namespaces are not permitted here")

    def run(work: Callable[[], None]) -> None:
        assert 0 == forks.fork(work).wait()

    return run


class Told(logging.Handler):
    """Remembers what the log was told."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("zoocache").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Of logging.Handler."""
        self.lines.append(record.getMessage())


def child_does(work: Callable[[], None]) -> None:
    """Have a forked child do something, and see that it ended well."""
    inner = Forks()
    assert 0 == inner.fork(work).wait()


# Without shared memory.


@pytest.mark.parametrize("storage_kind", ["memory", "lmdb"])
def test_without_shared_memory_the_process_has_a_cache_of_its_own(
    in_namespace: InNamespace, tmp_path: Path, storage_kind: str
) -> None:
    """Where there is no /dev/shm, one warning says what that means; calls, kills and forked children work."""

    def kill() -> None:
        invalidate("a")

    def work() -> None:
        told = Told()
        configure(storage_url="memory://" if storage_kind == "memory" else f"lmdb://{tmp_path / 'cache'}")
        numbers = iter(range(100))
        get = cacheable(deps="a:b")(lambda: next(numbers))
        assert (0, 0) == (get(), get())
        invalidate("a")
        assert (1, 1) == (get(), get())
        zoocache.set("k", [1], deps="a")
        assert [1] == zoocache.get("k")
        assert [] == Core().check()
        assert 1 == len([line for line in told.lines if "no shared memory" in line])
        child_does(kill)
        assert 2 == get()
        assert None is zoocache.get("k")

    in_namespace(namespaces.without_shm(work))


def as_nobody(work: Callable[[], None]) -> Callable[[], None]:
    """`work` as a user without any rights."""

    def run() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        work()

    return run


def is_told_why(error: type[Exception], words: str) -> Callable[[], None]:
    """Whoever uses the cache, in whatever way, is told the same, every time."""

    def work() -> None:
        for use in (cacheable(lambda: 1), lambda: invalidate("a"), lambda: zoocache.get("k"), Core().tags):
            for _ in range(2):
                with pytest.raises(error, match=words):
                    use()

    return work


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_shm_that_is_closed_to_this_user(in_namespace: InNamespace) -> None:
    """No permission for /dev/shm is a clear error, not a private cache that nobody else's invalidations reach."""
    work = as_nobody(is_told_why(SegmentError, r"(?s)cannot be opened.*another prefix"))
    in_namespace(namespaces.with_shm("size=1m,mode=0700", work))


def test_a_shm_that_is_read_only(in_namespace: InNamespace) -> None:
    """Neither is a file system that cannot be written."""
    in_namespace(namespaces.with_shm("size=1m", is_told_why(SegmentError, "zoocache-"), MS_RDONLY))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_two_users_with_one_prefix(in_namespace: InNamespace) -> None:
    """Each has a segment of its own; neither sees nor disturbs the other's."""

    def work() -> None:
        invalidate("a")
        before = Core().seq()
        child_does(as_nobody(use_it))
        assert before == Core().seq()
        assert {0, NOBODY} == {path.stat().st_uid for path in Path("/dev/shm").iterdir()}

    def use_it() -> None:
        zoocache.reset()
        get = cacheable(deps="a")(lambda: 1)
        assert (1, 1) == (get(), get())
        invalidate("a", "b")
        assert 1 == Core().seq()

    in_namespace(namespaces.with_shm("size=64m,mode=1777", work))


# Storages.


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_directory_that_this_user_may_not_write(in_namespace: InNamespace, tmp_path: Path) -> None:
    """Calls go on without the storage, with a word in the log; what must not pass for done is an error with a place."""
    place = tmp_path / "closed"
    place.mkdir(0o755)
    for above in [tmp_path, *tmp_path.parents]:
        if stat.S_IMODE(above.stat().st_mode) & 0o011 != 0o011 and above.owner() == "root" and "pytest" in str(above):
            above.chmod(0o755)

    def work() -> None:
        told = Told()
        configure(storage_url=f"lmdb://{place / 'cache'}")
        get = cacheable(deps="a")(lambda: [1])
        assert [[1]] * 5 == [get() for _ in range(5)]
        assert 1 == len([line for line in told.lines if "storage" in line])
        for act in (lambda: invalidate("a"), lambda: zoocache.set("k", 1), zoocache.clear):
            with pytest.raises(StorageError, match="closed"):
                act()

    in_namespace(namespaces.with_shm("size=64m,mode=1777", as_nobody(work)))


def test_a_disk_without_room(in_namespace: InNamespace, tmp_path: Path) -> None:
    """On a full disk calls go on, nothing stale is handed out, and what could not be done does not pass for done."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def work() -> None:
        namespaces.mount_tmpfs(str(disk), "size=2m")
        configure(storage_url=f"lmdb://{disk / 'cache'}")
        truth = 0
        get = cacheable(deps=lambda n: f"n:{n}")(lambda n: (n, truth, os.urandom(20_000)))
        first = get(0)
        assert first == get(0)
        (disk / "greedy").write_bytes(b"")
        with contextlib.suppress(OSError), (disk / "greedy").open("wb") as greedy:
            while True:
                greedy.write(bytes(4096))
        for n in range(20):  # each looks for room in vain
            assert (n, 0) == get(n)[:2]
        truth = done = 1
        try:
            invalidate("n")
        except StorageError:
            done = 0
        if done:
            assert [(n, 1) for n in range(50)] == [get(n)[:2] for n in range(50)]
        refusals = []
        for n in range(200):  # some find the room of what is there
            try:
                zoocache.set(f"k{n}", os.urandom(20_000))
            except StorageError as error:  # noqa: PERF203
                refusals.append(str(error))
        assert [] == [each for each in refusals if not re.search("disk|full", each)]
        (disk / "greedy").unlink()
        invalidate("n")
        assert [(n, 1) for n in range(50)] == [get(n)[:2] for n in range(50)]

    in_namespace(namespaces.with_shm("size=64m", work))


def test_a_disk_without_any_room_at_the_start(in_namespace: InNamespace, tmp_path: Path) -> None:
    """Where not even an empty storage fits: calls go on, and `set` says so."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def work() -> None:
        namespaces.mount_tmpfs(str(disk), "size=4k")
        configure(storage_url=f"lmdb://{disk / 'cache'}")
        get = cacheable(deps="a")(lambda: [1])
        assert ([1], [1]) == (get(), get())
        with pytest.raises(StorageError, match="disk"):
            zoocache.set("k", 1)
        assert None is zoocache.get("k")

    in_namespace(namespaces.with_shm("size=64m", work))


# Descriptors.


@pytest.mark.parametrize("storage_kind", ["memory", "lmdb"])
def test_a_process_that_runs_out_of_descriptors(forks: Forks, tmp_path: Path, storage_kind: str) -> None:
    """One that used the cache before goes on: hits, fills, kills."""

    def work() -> None:
        zoocache.reset()
        configure(storage_url="memory://" if storage_kind == "memory" else f"lmdb://{tmp_path / 'cache'}")
        numbers = iter(range(100))
        get = cacheable(deps="a")(lambda n: (n, next(numbers)))
        assert (1, 0) == get(1)
        invalidate("a")
        get(1)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        assert (1, 1) == get(1)
        assert (2, 2) == get(2)
        invalidate("a")
        assert (1, 3) == get(1)
        zoocache.set("k", 5, deps="a")
        assert 5 == zoocache.get("k")

    assert 0 == forks.fork(work).wait()


def test_a_start_without_descriptors(forks: Forks) -> None:
    """A first use that finds none is a clear error, again and again, and works once there are some."""

    def work() -> None:
        zoocache.reset()
        get = cacheable(deps="a")(lambda: 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for _ in range(3):
            with pytest.raises(SegmentError, match=r"files open|open files"):
                get()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (1, 1) == (get(), get())

    assert 0 == forks.fork(work).wait()


NO_DESCRIPTOR = """
import resource, sys, zoocache
zoocache.configure(storage_url=sys.argv[1], **({"bus_url": sys.argv[2]} if sys.argv[2] else {}))
get = zoocache.cacheable(deps="a")(lambda: 1)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
for _ in range(3):
    try:
        get()
    except zoocache.ZooCacheError as error:
        assert "descriptors" in str(error), str(error)
    else:
        raise AssertionError("it started")
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(get(), get())
"""


@pytest.mark.parametrize("storage", ["memory", "lmdb", "redis"])
def test_a_new_process_without_descriptors(
    storage: str, children: Children, tmp_path: Path, redis_url: str
) -> None:  # fmt: skip
    """One that has loaded nothing yet says so as well, whatever it is to load first, and works once there are some."""
    url = {"memory": "memory://", "lmdb": f"lmdb://{tmp_path}/cache", "redis": redis_url}[storage]
    child = children.code(NO_DESCRIPTOR, url, redis_url if storage == "redis" else "")
    assert ("1 1\n", "") == (child.output(), child.errors())


# Programs that do as they please.


def test_a_program_that_changes_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative storage stays where it was when it was configured."""
    monkeypatch.chdir(tmp_path)
    configure(storage_url="lmdb://./cache")
    monkeypatch.chdir("/")
    zoocache.set("k", 1)
    assert (tmp_path / "cache").is_dir()


def test_a_program_that_changes_its_user(forks: Forks) -> None:
    """A server that starts as root, uses the cache and drops its rights goes on with the segment that it has."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")

    def work() -> None:
        zoocache.reset()
        numbers = iter(range(10))
        get = cacheable(deps="a")(lambda: next(numbers))
        assert (0, 0) == (get(), get())
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        assert 0 == get()
        invalidate("a")
        assert (1, 1) == (get(), get())

    assert 0 == forks.fork(work).wait()


@pytest.mark.parametrize("storage_kind", ["memory", "lmdb"])
def test_clocks_that_jump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, storage_kind: str) -> None:
    """Validity asks no clock: with the wall clock set back or forth, before 1970 too, what was killed is dead and the
    rest alive."""
    zoocache.configure(storage_url="memory://" if storage_kind == "memory" else f"lmdb://{tmp_path / 'cache'}")
    numbers = iter(range(100))
    get = cacheable(deps="a:b")(lambda: next(numbers))
    assert 0 == get()
    for number, jump_s in enumerate((-(10**9), 10**9, -5, 5, -(10**8), -3 * 10**9), 1):
        present_ns = time.time_ns() + jump_s * 10**9
        with monkeypatch.context() as jumped:  # what the fixtures have set stays
            jumped.setattr(time, "time_ns", lambda present_ns=present_ns: present_ns)
            invalidate("a")
            assert number == get() == get()
        assert number == get()
    assert [] == Core().check()


@pytest.mark.parametrize("storage_kind", ["memory", "lmdb"])
def test_with_the_standard_streams_closed(forks: Forks, tmp_path: Path, storage_kind: str) -> None:
    """What a C library writes to a closed standard error goes into no segment and no storage."""

    def daemon() -> None:
        for fd in range(3):
            os.close(fd)
        configure(storage_url=None if storage_kind == "memory" else f"lmdb://{tmp_path / 'cache'}")
        zoocache.set("key", 1)
        invalidate("tag")
        zoocache.set("key", 2)
        assert not [fd for fd in range(3) if Path(f"/proc/self/fd/{fd}").exists()]

    assert 0 == forks.fork(daemon).wait()
