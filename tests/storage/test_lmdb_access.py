"""The LMDB store among processes and threads: killed, stopped, forked; removed, moved, damaged and full under them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import DEADLINE_S, ROOT, Children
from tests.storage.kin import (
    family,
    interrupted,
    orphan_maker,
    read,
    reader_of_forker,
    slot_keeper,
    use_scribbled,
    write,
)
from tests.storage.steps import BOOT, START, after, body, hashed, living, save, store_at, works
from zoocache.errors import Busy
from zoocache.storage import Life, lmdb_files
from zoocache.storage import lmdb_locked as locked
from zoocache.storage.lmdb import LmdbStore

MIB = 1 << 20
POINTS = ("store.begun", "store.written", "store.committed")
WRITES = ("save", "anew", "invalidate", "delete", "touch", "prune", "clear", "first")


# Killed.


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("point", POINTS)
def test_a_write_that_is_killed(place: Path, children: Children, what: str, point: str) -> None:
    """Whoever is killed inside a write has done all of it or nothing; the others go on at once, and dead stays dead."""
    store = store_at(place)
    if what != "first":
        save(store, "dead", "d")
        store.invalidate([hashed("d")], START)
        save(store, "k", "t", body=b"old", life=Life(1000, True))
        save(store, "other")
    child = children.call(write, str(place), what, points=f"{point}=kill")
    assert -signal.SIGKILL == child.wait()

    done = {"save": b"new", "first": b"new", "touch": b"old", "prune": b"old"}.get(what)
    undone = None if what == "first" else b"old"
    assert (done if point == "store.committed" else undone) == body(store, "k")
    if what == "touch":
        assert (b"old" if point == "store.committed" else None) == body(store, "k", after(1500))
    assert None is body(store, "dead")
    assert None is body(store_at(place), "dead")

    stamp = store.stamp()
    store.invalidate([hashed("t")], START)
    assert None is body(store, "k")
    assert not save(store, "k", "t", stamp=stamp)
    assert save(store, "k", "t", body=b"newer")
    assert b"newer" == body(store_at(place), "k")


def test_a_marking_that_is_killed(place: Path, children: Children) -> None:
    """Killed after it had put down that writing begins, a process has written nothing; the store is as it was."""
    store = store_at(place)
    save(store, "k")
    store.close()
    child = children.call(write, str(place), "save", points="store.marked=kill")
    assert -signal.SIGKILL == child.wait()
    assert b"k" == body(store_at(place), "k")
    assert works(store_at(place))
    assert None is body(store_at(place, BOOT + 1), "k")


# Stopped.


@pytest.mark.parametrize("point", [*POINTS, "lock.held"])
def test_behind_a_stopped_writer(place: Path, children: Children, point: str) -> None:
    """While a writer is stopped, everybody reads, also who comes anew; writes end in Busy and have done nothing; when
    it goes on, so do they."""
    store = LmdbStore(place, timeout_s=0.1, boot=BOOT)
    save(store, "k", "t", body=b"old", life=Life(1000, True))
    stamp = store.stamp()
    child = children.call(write, str(place), "invalidate", points=f"{point}=stop")
    child.wait_stopped()

    seen = None if point == "store.committed" else b"old"
    assert seen == body(store, "k")
    newcomer = LmdbStore(place, timeout_s=0.1, boot=BOOT)
    newcomer_process = children.call(read, str(place), "k")
    assert seen == body(newcomer, "k")
    assert repr(seen) == newcomer_process.output().strip()
    assert newcomer.stamp().n in {stamp.n, stamp.n + 1}
    for each in (store, newcomer):
        with pytest.raises(Busy):
            each.invalidate([hashed("x")], START)
        with pytest.raises(Busy):
            save(each, "k", "t")
        with pytest.raises(Busy):
            each.touch([hashed("k")], START, wait=True)
        assert not each.touch([hashed("k")], START)
    each.close()

    child.resume()
    assert "done" == child.output().strip()
    assert None is body(store, "k")
    assert stamp.n + 1 == store.stamp().n
    assert save(store, "k", "t", body=b"new")
    assert b"new" == body(store, "k")


# Forked.


@pytest.mark.parametrize("told", [True, False])
def test_fork_after_use(place: Path, children: Children, told: bool) -> None:
    """Parent, child and grandchild use one store, also while the others do, and each of them ends without harm to the
    others, whether or not somebody told it of the fork."""
    assert "done" == children.call(family, str(place), told).output().strip()


def test_a_forked_child_does_not_keep_its_parents_lock(place: Path, children: Children) -> None:
    """A parent that dies inside a write leaves the lock free, though a child that it forked lives on."""
    child = children.call(orphan_maker, str(place))
    child.wait_for("forked")
    child.kill()
    assert -signal.SIGKILL == child.process.wait(DEADLINE_S)
    assert works(store_at(place))


def test_readers_of_a_parent_are_safe_from_its_children(place: Path, children: Children) -> None:
    """A child that ends does not give up what the parent's threads are reading."""
    env = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}  # the test has threads and forks, on purpose
    assert "done" == children.call(reader_of_forker, str(place), env=env).output().strip()


def test_a_child_that_ends_leaves_its_parents_reader_slots(place: Path, children: Children) -> None:
    """A forked child never closes what it inherited, not even when its interpreter ends."""
    assert "done" == children.call(slot_keeper, str(place)).output().strip()


# Threads.


def test_many_threads(place: Path) -> None:
    """Threads load, save and invalidate at once, and each finds what it saved until somebody invalidates it."""
    store = LmdbStore(place, map_size=64 * MIB)
    wrong: list[object] = []

    def work(name: str) -> None:
        for index in range(120):
            key = f"{name}{index}"
            saved = save(store, key, name, body=key.encode() * 20)
            if not saved or body(store, key) != key.encode() * 20:
                wrong.append((key, saved))
            if index % 10 == 9:
                store.invalidate([hashed(name)], START)
                if body(store, key) is not None:
                    wrong.append((key, "came back"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert [] == wrong


def test_threads_that_close(place: Path) -> None:
    """One thread may close a store that others are using."""
    store = LmdbStore(place, map_size=64 * MIB)
    save(store, "k")
    wrong: list[object] = []

    def work() -> None:
        wrong.extend("lost" for _ in range(300) if body(store, "k") != b"k" or not save(store, "l"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        store.close()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert [] == wrong


@pytest.mark.parametrize("interval_s", [0.0002, 0.0011])
def test_interrupted_again_and_again(place: Path, children: Children, interval_s: float) -> None:
    """A signal handler that raises inside a write leaves neither lock nor transaction behind: this thread, another
    thread and another process write on."""
    assert "done" == children.call(interrupted, str(place), interval_s).output().strip()
    assert works(store_at(place))


# Removed, moved, damaged under those who use it.


def remove_all(place: Path) -> None:
    """What `rm -rf` does."""
    shutil.rmtree(place)


def remove_contents(place: Path) -> None:
    """What `rm -rf place/*` does."""
    for each in place.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def remove_lock(place: Path) -> None:
    """Somebody cleans up lock files; another process comes and finds none."""
    (place / lmdb_files.LOCK).unlink()
    store_at(place).stamp()


def remove_link(place: Path) -> None:
    """Somebody cleans up links."""
    (place / lmdb_files.LINK).unlink()


def remove_environment(place: Path) -> None:
    """The environment goes, and another process notices first."""
    shutil.rmtree(living(place))
    store_at(place).stamp()


def move_away(place: Path) -> None:
    """The directory gets another name."""
    place.rename(place.with_name(f"{place.name}.old"))


REMOVALS = [remove_all, remove_contents, remove_lock, remove_link, remove_environment, move_away]


@pytest.mark.parametrize("remove", REMOVALS, ids=lambda remove: remove.__name__)
@pytest.mark.parametrize("first", ["load", "save", "invalidate", "stamp", "touch", "clear"])
def test_removed_under_those_who_use_it(place: Path, remove: Callable[[Path], None], first: str) -> None:
    """Whoever has a store open that is removed or moved away notices as soon as the last look at the link is too old to
    be believed: what was in it is gone, stamps of before are worth nothing, and all meet again in the new one."""
    cache = place / "cache"
    one, two = store_at(cache), store_at(cache)
    for store in (one, two):
        save(store, "k", "t", life=Life(1000, True))
    stamp = one.stamp()
    remove(cache)
    time.sleep(lmdb_files.CURRENT_S)
    if first == "load":
        assert None is body(one, "k")
    elif first == "save":
        assert not save(one, "k", stamp=stamp)
    elif first == "invalidate":
        one.invalidate([hashed("t")], START)
    elif first == "touch":
        one.touch([hashed("k")], START)
    elif first == "clear":
        one.clear()
    assert stamp.epoch != one.stamp().epoch
    assert one.stamp() == two.stamp()
    assert [None, None] == [body(store, "k") for store in (one, two)]
    assert save(one, "k", "t", body=b"again")
    assert b"again" == body(two, "k")
    two.invalidate([hashed("t")], START)
    assert None is body(one, "k")


@pytest.fixture
def long_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the link is believed for long enough to do things meanwhile."""
    monkeypatch.setattr(lmdb_files, "CURRENT_S", 0.1)


@pytest.mark.usefixtures("long_looks")
@pytest.mark.parametrize("remove", REMOVALS, ids=lambda remove: remove.__name__)
def test_replaced_under_those_who_use_it(place: Path, remove: Callable[[Path], None]) -> None:
    """What was done in a new store is seen at once by whoever had the old one open and had just looked at it."""
    cache = place / "cache"
    one = store_at(cache)
    save(one, "k", "t")
    assert b"k" == body(one, "k")
    remove(cache)
    two = store_at(cache)
    two.invalidate([hashed("t")], START)
    assert None is body(one, "k")
    assert two.stamp() == one.stamp()


@pytest.mark.usefixtures("long_looks")
def test_an_environment_that_is_given_up_is_believed_by_nobody(place: Path) -> None:
    """Once somebody has withdrawn the environment, a look of just before at the link counts no more."""
    one, two = store_at(place), store_at(place)
    save(one, "k", "t")
    attached = two._access.here()
    assert b"k" == body(one, "k")
    attached.lock.run(locked.dispose, attached, "a test", False)
    assert None is body(one, "k")


def test_damaged_while_in_use(place: Path, children: Children) -> None:
    """A file that is overwritten under a process is a miss, is set aside, and the store goes on empty."""
    child = children.call(use_scribbled, str(place))
    assert "done" == child.output().strip()
    assert list(place.glob("set-aside.*"))


def test_one_process_several_stores(place: Path) -> None:
    """Two stores of one directory in one process share what LMDB allows a process to open once."""
    one, two = store_at(place), store_at(place)
    save(one, "k")
    assert b"k" == body(two, "k")
    one.close()
    assert b"k" == body(two, "k")
    assert save(two, "l")
    assert b"l" == body(one, "l")


# No room on the disk.

FULL_DISK = """
import os, sys
from pathlib import Path
from tests.storage.kin import is_lost
from tests.storage.steps import START, body, hashed, save
from zoocache.errors import StorageError
from zoocache.storage.lmdb import LmdbStore

place = Path(sys.argv[1])
store = LmdbStore(place / "cache", map_size=64 << 20)
for index in range(200):
    save(store, f"k{index}", f"t:{index}", body=bytes(2000))
with open(place / "ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError as error:
        print(error)
assert os.statvfs(place).f_bavail == 0
try:
    LmdbStore(place / "another").stamp()
except StorageError as error:
    print(error)

kept = refused = 0
for index in range(300):
    try:
        kept += save(store, f"new{index}", body=bytes(3000))
    except StorageError:
        refused += 1
print("saves", kept, refused)

living = [index for index in range(200) if not is_lost(store, f"k{index}")]
for index in living:
    store.invalidate([hashed(f"t:{index}")], START)
    assert is_lost(store, f"k{index}"), index
for number in range(500):
    store.invalidate([hashed(f"more:{number}")], START)
assert all(is_lost(store, f"k{index}") for index in range(200))

(place / "ballast").unlink()
assert save(store, "again", "t:1")
store.invalidate([hashed("t:1")], START)
assert body(store, "again") is None
assert LmdbStore(place / "another").stamp().n == 0
print("done")
"""


FILLED_BY_ITSELF = """
import os, sys
from pathlib import Path
from tests.storage.steps import START, body, hashed, save
from zoocache.errors import StorageError
from zoocache.storage.lmdb import LmdbStore

place = Path(sys.argv[1])
store = LmdbStore(place / "cache", map_size=64 << 20)
for index in range(800):
    for step in (lambda: save(store, f"k{index}", "t", body=bytes(5000)),
                 lambda: save(store, f"s{index}", "t", body=bytes(3000), anew=True)):
        try:
            step()
        except StorageError as error:
            print(error)
assert os.statvfs(place).f_bavail * 4096 < 1 << 18
for number in range(20):
    store.invalidate([hashed("t")], START)
    assert not any(body(store, f"{kind}{index}") for kind in "ks" for index in range(800))
    try:
        save(store, "k0", "t", body=bytes(5000))
    except StorageError as error:
        print(error)
print("done")
"""


def test_a_full_disk(place: Path) -> None:
    """On a full disk saves find room in what is there or are refused, invalidations are never lost, a new store cannot
    be made and says why; and when there is room again, all goes on."""
    said = on_a_small_disk("3m", FULL_DISK, place)
    assert said.rstrip().endswith("done")
    assert "the disk is full" in said


def test_a_store_that_fills_its_disk(place: Path) -> None:
    """Where the store itself takes the last block, in the middle of a write, nothing else is said than of a full disk,
    and no invalidation fails."""
    *refusals, end = on_a_small_disk("1500k", FILLED_BY_ITSELF, place).splitlines()
    assert "done" == end
    assert all("the disk is full" in refusal for refusal in refusals)


def on_a_small_disk(size: str, program: str, place: Path) -> str:
    """Run a program with a file system of that size mounted at its place; what it says."""
    script = f'mount -t tmpfs -o size={size} none "$1" && exec "{sys.executable}" -c "$2" "$1"'
    trial = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(place)]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("mounting in a namespace of one's own is not permitted here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(place), program],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return done.stdout
