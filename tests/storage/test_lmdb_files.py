"""The directory of an LMDB store: whom it refuses, what it sets aside, what a reboot leaves."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lmdb
import pytest

from tests.children import Children
from tests.crowd import Runner, stopping_at
from tests.logs import said
from tests.storage.steps import BOOT, START, body, hashed, living, save, store_at, works
from zoocache.errors import StorageError
from zoocache.storage import lmdb_closing
from zoocache.storage import lmdb_environment as environments
from zoocache.storage import lmdb_files as files
from zoocache.storage import lmdb_locked as locked
from zoocache.storage.lmdb import MIN_MAP_SIZE, LmdbStore
from zoocache.storage.lmdb_access import Access

NOBODY = 65_534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def filled(place: Path) -> LmdbStore:
    """A store with an entry that lives and one that is dead, closed in order."""
    store = store_at(place)
    save(store, "alive", "a")
    save(store, "dead", "b")
    store.invalidate([hashed("b")], START)
    store.close()
    return store


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said so loudly that somebody reads it."""
    return [record.getMessage() for record in said(caplog) if record.levelno >= logging.WARNING]


# What a reboot leaves.


def test_what_was_closed_survives_a_reboot(place: Path) -> None:
    """After an orderly end, the next boot finds all that lived, and nothing that was dead."""
    filled(place)
    store = store_at(place, BOOT + 1)
    assert [b"alive", None] == [body(store, key) for key in ("alive", "dead")]


@pytest.mark.parametrize("writes", [
    lambda store: save(store, "late"), lambda store: store.invalidate([hashed("c")], START),
    lambda store: store.delete(hashed("late"), START), lambda store: store.touch([hashed("alive")], START),
    lambda store: store.touch([hashed("alive")], START, wait=True), lambda store: store.prune(1, START),
])  # fmt: skip
def test_what_is_used_after_it_was_closed_survives_a_reboot(writes: Callable[[LmdbStore], object], place: Path) -> None:
    """Who writes to a store that was closed leaves it closed."""
    store = filled(place)
    writes(store)
    assert b"alive" == body(store, "alive")
    assert [b"alive", None] == [body(store_at(place, BOOT + 1), key) for key in ("alive", "dead")]


@pytest.mark.parametrize("where", ["before it opens", "before the lock", "holding it"])
def test_closed_in_the_middle_of_a_write(where: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one thread closes a store while another is at a write, that one closes it when it is done."""
    store = store_at(place)
    save(store, "alive")
    stamp = store.stamp()
    if where == "before it opens":
        store = store_at(place)
    owner, name = {
        "before it opens": (environments, "attach"), "before the lock": (Access, "_run"),
        "holding it": (locked, "_look"),
    }[where]  # fmt: skip
    gate = stopping_at(owner, name, monkeypatch)
    writer = Runner(partial(save, stamp=stamp), store, "late")
    gate.wait_inside()
    store.close()
    gate.open()
    assert writer.result()
    assert [b"alive", b"late"] == [body(store_at(place, BOOT + 1), key) for key in ("alive", "late")]


def test_a_write_that_fails_after_the_close(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept before survives it."""
    store = filled(place)

    def full(*_: object) -> None:
        raise RuntimeError("a signal handler")

    with monkeypatch.context() as patch:
        patch.setattr(locked, "_transact", full)
        with pytest.raises(RuntimeError):
            save(store, "late")
    assert b"alive" == body(store_at(place, BOOT + 1), "alive")


def test_pages_that_do_not_get_to_the_disk(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a sync failed the store begins anew, for the next one would succeed without these pages."""
    store = store_at(place)
    save(store, "torn")

    def failing(_: object) -> list[int]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(lmdb_closing, "_synced", failing)
        store.close()
    assert ["could not be synced" in said for said in warnings(caplog)] == [True]
    assert None is body(store, "torn")
    assert works(store)


def test_what_was_not_closed_does_not_survive_a_power_cut(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without an orderly end the file may be torn: the next boot begins empty under another epoch, without alarm."""
    store = store_at(place)
    save(store, "k")
    stamp = store.stamp()
    after = store_at(place, BOOT + 1)
    with caplog.at_level(logging.INFO, "zoocache"):
        assert None is body(after, "k")
    assert stamp.epoch != after.stamp().epoch
    assert works(after)
    assert [] == warnings(caplog)
    assert "last boot" in caplog.text


def test_a_write_after_an_orderly_end_counts(place: Path) -> None:
    """What was closed, opened and written to again is not clean until it is closed again."""
    filled(place)
    store = store_at(place)
    save(store, "later")
    assert None is body(store_at(place, BOOT + 1), "alive")


def test_reading_leaves_a_clean_store_clean(place: Path) -> None:
    """Who only reads need not close."""
    filled(place)
    assert b"alive" == body(store_at(place), "alive")
    assert b"alive" == body(store_at(place, BOOT + 1), "alive")


def test_one_that_goes_on_writing_keeps_it_from_being_clean(place: Path) -> None:
    """A close says nothing about what another process writes afterwards."""
    one, two = store_at(place), store_at(place)
    save(one, "k")
    save(two, "l")
    one.close()
    save(two, "m")
    assert None is body(store_at(place, BOOT + 1), "k")


def test_a_killed_process_loses_nothing(place: Path, children: Children) -> None:
    """What was written before a SIGKILL is there for the next process of the same boot."""
    child = children.code(
        """
        import os, signal, sys
        from tests.storage.steps import save, store_at
        from pathlib import Path
        store = store_at(Path(sys.argv[1]))
        save(store, "k")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        str(place),
    )
    assert -9 == child.wait()
    assert b"k" == body(store_at(place), "k")


def test_without_a_boot_id_every_commit_is_synced(place: Path) -> None:
    """Where the system names no boot, what was written survives without an orderly end."""
    save(store_at(place, 0), "k")
    store = store_at(place, 0)
    assert b"k" == body(store, "k")
    assert b"k" == body(store_at(place, BOOT), "k")


def test_a_dirty_store_of_a_named_boot_is_not_believed_without_one(place: Path) -> None:
    """A process that does not know its boot cannot know whether another one's writes are whole."""
    save(store_at(place), "k")
    assert None is body(store_at(place, 0), "k")


# What is set aside.


def scribble(place: Path) -> None:
    """Overwrite the head of the entries' file."""
    with (living(place) / "entries.mdb").open("r+b") as file:
        file.write(b"no such thing as a free page" * 400)


def cut(place: Path) -> None:
    """Cut the entries' file short."""
    os.truncate(living(place) / "entries.mdb", 8192)


def empty(place: Path) -> None:
    """Leave nothing of the numbers' file."""
    os.truncate(living(place) / "numbers.mdb", 0)


def remove_numbers(place: Path) -> None:
    """Remove the numbers, without which no entry can be believed."""
    (living(place) / "numbers.mdb").unlink()


def remove_lock_file(place: Path) -> None:
    """Remove the file in which LMDB's readers are known."""
    (living(place) / "entries.mdb-lock").unlink()


def replace_by_another(place: Path) -> None:
    """Put an LMDB file of somebody else's in the place of ours."""
    file = living(place) / "entries.mdb"
    file.unlink()
    with lmdb.open(str(file), subdir=False, map_size=MIN_MAP_SIZE) as env, env.begin(write=True) as txn:
        txn.put(b"not", b"ours")


def restore_a_copy(place: Path) -> None:
    """What a backup would do: the same bytes, as other files."""
    original = living(place)
    copy = place / "copy"
    shutil.copytree(original, copy)
    shutil.rmtree(original)
    copy.rename(original)


def change_format(place: Path) -> None:
    """Write the table's own record as another release might."""
    file = living(place) / "numbers.mdb"
    size = file.stat().st_size
    with lmdb.open(str(file), subdir=False, map_size=size, lock=False) as env, env.begin(write=True) as txn:
        txn.put(b"own", b"zooLMDB9" + bytes(24))


def change_lock_format(place: Path) -> None:
    """Let the lock file be one of another release."""
    with (place / files.LOCK).open("r+b") as file:
        file.write(b"zooLock9")


DAMAGES = [
    scribble, cut, empty, remove_numbers, remove_lock_file, replace_by_another, restore_a_copy, change_format,
    change_lock_format,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_damaged_is_set_aside(
    place: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is not what was made here is kept beside, with one warning, and an empty store takes its place."""
    before = filled(place).stamp()
    filled(place)
    damage(place)
    store = store_at(place)
    assert None is body(store, "alive")
    assert before.epoch != store.stamp().epoch
    assert works(store)
    assert works(store_at(place))
    assert 1 == len(warnings(caplog))
    asides = list(place.glob("set-aside.*"))
    assert 1 == len(asides)
    assert str(asides[0]) in warnings(caplog)[0]
    assert any(asides[0].rglob("*.mdb"))


def test_not_too_much_is_set_aside(place: Path) -> None:
    """A few damaged environments are kept to look at, not every one."""
    for _ in range(files.SET_ASIDES + 3):
        filled(place)
        scribble(place)
    assert works(store_at(place))
    assert files.SET_ASIDES == len(list(place.glob("set-aside.*")))


def test_the_bytes_of_others_are_never_removed(place: Path) -> None:
    """Whatever was put in the place of our files is kept, however often."""
    for _ in range(files.SET_ASIDES + 2):
        filled(place)
        replace_by_another(place)
    assert works(store_at(place))
    assert files.SET_ASIDES + 2 == len(list(place.glob("set-aside.*")))


def test_an_lmdb_directory_of_somebody_else_is_left_alone(place: Path) -> None:
    """A directory that is another program's LMDB environment stays one."""
    with lmdb.open(str(place), map_size=MIN_MAP_SIZE) as env, env.begin(write=True) as txn:
        txn.put(b"not", b"ours")
    store = filled(place)
    store.clear()
    with lmdb.open(str(place), map_size=MIN_MAP_SIZE) as env, env.begin() as txn:
        assert b"ours" == txn.get(b"not")


def test_what_a_killed_builder_left_is_removed(place: Path) -> None:
    """An environment that no link leads to belongs to nobody."""
    filled(place)
    left = place / "epoch.0123456789abcdef"
    left.mkdir()
    (left / "entries.mdb").write_bytes(b"half")
    (place / files.LINK).unlink()
    assert works(store_at(place))
    assert [living(place)] == list(place.glob("epoch.*"))


def test_files_in_an_environment_that_are_not_ours_stay(place: Path) -> None:
    """Where an environment is removed, what somebody else put into it is not."""
    filled(place)
    note = living(place) / "note"
    note.write_text("mine")
    save(store_at(place), "k")
    assert works(store_at(place, BOOT + 1))
    assert "mine" == note.read_text()


# Who is refused.


@pytest.mark.parametrize("below", ["", "cache", "cache/deeper"])
def test_a_path_that_is_a_file(place: Path, below: str) -> None:
    """Where the directory should be, or above it, is a file: an error that says so."""
    file = place / "file"
    file.write_text("text")
    with pytest.raises(StorageError, match=r"it is a file|above it, is a file"):
        store_at(file / below).stamp()
    assert "text" == file.read_text()


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "second name"])
def test_a_lock_file_that_is_none(place: Path, kind: str) -> None:
    """The lock file must be a plain file with one name; nothing else is opened or changed."""
    name = place / files.LOCK
    if kind == "link":
        name.symlink_to(place / "elsewhere")
    elif kind == "directory":
        name.mkdir()
    elif kind == "fifo":
        os.mkfifo(name, 0o600)
    else:
        (place / "other").touch(0o600)
        os.link(place / "other", name)
    with pytest.raises(StorageError, match=files.LOCK):
        store_at(place).stamp()
    assert not (place / "elsewhere").exists()


@pytest.mark.parametrize("name", [files.LOCK, "entries.mdb", "numbers.mdb-lock"])
def test_a_file_that_others_may_write(place: Path, name: str) -> None:
    """A file that others could have written to is refused, with what to do."""
    filled(place)
    next(place.rglob(name)).chmod(0o666)
    with pytest.raises(StorageError, match="chmod go-w"):
        store_at(place).stamp()


@as_root
@pytest.mark.parametrize("name", [".", files.LOCK, "entries.mdb"])
def test_what_belongs_to_another_user(place: Path, name: str) -> None:
    """A directory or file of another user's is refused."""
    filled(place)
    given = place if name == "." else next(place.rglob(name))
    os.chown(given, NOBODY, NOBODY)
    with pytest.raises(StorageError, match=f"belongs to uid {NOBODY}"):
        store_at(place).stamp()
    os.chown(given, 0, 0)
    assert b"alive" == body(store_at(place), "alive")


AS_NOBODY = """
import os, sys
from pathlib import Path
from tests.storage.steps import store_at
from zoocache.errors import StorageError
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    store_at(Path(sys.argv[1])).stamp()
except StorageError as error:
    print(error)
"""


@as_root
def test_a_directory_that_cannot_be_written(place: Path, children: Children) -> None:
    """Who may not make the directory is told so, and what to do."""
    place.chmod(0o755)
    child = children.code(AS_NOBODY, str(place / "cache"), str(NOBODY))
    assert "this user may not write there; choose another directory" in child.output()
    assert not (place / "cache").exists()
