"""Opening the living environment of a directory, or building it: each file once a process, never one of before a fork.

    attach   the link leads to an environment that is whole and to be believed: open it, without the lock
             otherwise take the lock, look again, get rid of what is there, build a new one, publish it

An environment is two of LMDB's, one for the entries and one for the numbers. Neither has sub-databases: py-lmdb opens
their handles only in a write transaction, and a process that comes while another one is stopped in a write would wait.

All stores of a process share what is in `_present`. LMDB's locks are record locks, which a process loses when it closes
any descriptor of the file: a second opening of the same file would unlock the first when it ends.

After a fork the child must neither use nor close what it inherited: closing gives up reader slots of the parent, under
its feet. So the child keeps a reference to it, for ever, and opens its own.

What guards what: `_opening` lets one thread of this process open or build at a time; a forked child gets a new one.
`_inherited` only grows.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator

import lmdb
from lmdb import _envid

from zoocache.errors import Busy, StorageError, ZooCacheError
from zoocache.storage import lmdb_files as files
from zoocache.storage.lmdb_files import Home
from zoocache.storage.lmdb_numbers import OWN
from zoocache.storage.lmdb_refusals import prepare, trouble
from zoocache.storage.record import own, pack_own

DAMAGE = (
    lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.IncompatibleError,
    lmdb.NotFoundError, lmdb.MapResizedError, lmdb.BadDbiError, lmdb.ProblemError,
)  # fmt: skip
"""What LMDB says of a file that is not the one that was made: it can only be set aside."""

MAX_READERS = 2048
MIN_NUMBERS = 1 << 19

LARGEST = 8
"""The largest record of an entry is the size of its table divided by this."""

_LOCK_BYTES = 64 * (MAX_READERS + 2)
"""LMDB's lock file: 64 bytes a reader, and a head. It takes as many readers as there is room for."""

_ATTEMPTS = 8
_CLOSING_S = 1.0


class Table:
    """One of LMDB's environments, open in this process.

    Attributes:
        env, begin: LMDB's.
        main: the handle of its only database.
        size: of its map, in bytes.
        full: the bytes of its pages in use from which on something has to give way: three quarters. The rest is for the
            copies that LMDB writes of what it changes, and for gaps too small for a large value.
        is_full: whether it was found so full; then it stays worth while to note what is used.
    """

    __slots__ = ("__weakref__", "begin", "env", "full", "is_full", "main", "size")

    def __init__(self, env: lmdb.Environment, size: int) -> None:
        self.env, self.begin, self.main = env, env.begin, env.open_db()
        self.size = size
        self.full = size * 3 // 4
        self.is_full = False


class Attached:
    """A process's hold of a living environment.

    Attributes:
        pid: the process that may use it.
        home, lock: the directory and its write lock.
        epoch: which life of the store this is.
        link, target: where the link leads as long as this is the store.
        mark: what stands in the lock file while this boot writes.
        entries, numbers: the tables.
    """

    __slots__ = ("entries", "epoch", "home", "link", "lock", "mark", "numbers", "pid", "target")

    def __init__(self, home: Home, epoch: int, mark: int, entries: Table, numbers: Table) -> None:
        self.pid = os.getpid()
        self.home, self.lock, self.link = home, home.lock, home.link
        self.epoch, self.target, self.mark = epoch, files.target_of(epoch), mark
        self.entries, self.numbers = entries, numbers

    def is_living(self) -> bool:
        """Whether this still is the store, for whoever opens the directory now."""
        try:
            return os.readlink(self.link) == self.target
        except OSError:
            return False


_opening = threading.RLock()
_present: weakref.WeakValueDictionary[tuple[int, int, int], Table] = weakref.WeakValueDictionary()
_inherited: list[lmdb.Environment] = []


class Unbuilt(StorageError):
    """There is no living environment any more, and none could be built: nothing that is kept can be stale."""


class _Unfit(Exception):
    """The environment that is there cannot be used. `damaged`: somebody should look at it."""

    def __init__(self, why: str, *, damaged: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.damaged = damaged


def attach(directory: str, map_size: int, boot: int, timeout_s: float) -> Attached:
    """Open the living environment of a directory, or build one if there is none that can be believed.

    Args:
        directory: is made if need be.
        map_size: bytes for the files of an environment that has to be built.
        boot: names this boot; 0 if the system does not tell: then every commit is synced.
        timeout_s: how long to wait for a process that is building, and later for one that writes.

    Raises:
        StorageError: the directory cannot be used.
        Busy: there is something to build, and a process that holds the lock was stopped; or this thread is opening
            already.
    """
    if _opening._is_owned():  # type: ignore[attr-defined]  # as threading.Condition does
        raise Busy(f"lmdb storage {directory}: this thread is opening a storage; a signal handler cannot use one then")
    with _opening:
        try:
            return _attach(directory, map_size, boot or files.SYNCED, timeout_s)
        except ZooCacheError:
            raise
        except (OSError, lmdb.Error) as error:
            raise any_trouble(directory, error) from error


def _attach(directory: str, map_size: int, mark: int, timeout_s: float) -> Attached:
    for _ in range(_ATTEMPTS):
        prepare(directory)
        home = Home(directory, timeout_s)
        attached = _without_lock(home, mark) or home.lock.run(_living_or_built, home, map_size, mark)
        if attached is not None and attached.is_living():
            return attached
    raise StorageError(f"lmdb storage {directory}: its files vanish again and again; does something clean up there?")


def _without_lock(home: Home, mark: int) -> Attached | None:
    try:
        return _living(home, mark)
    except _Unfit:
        return None


def _living_or_built(home: Home, map_size: int, mark: int) -> Attached | None:
    """By the holder of the lock. None if that is no longer the lock of the directory: there is another to try."""
    if not home.is_locked_by_all():
        return None
    if home.words[files.WORD_MAGIC] not in {0, files.MAGIC}:
        home.disown()
        return None
    try:
        return _living(home, mark)
    except _Unfit as unfit:
        home.dispose(unfit.why, damaged=unfit.damaged)
    try:
        return _build(home, map_size, mark)
    except FileExistsError:  # somebody removed everything meanwhile, and somebody else was faster
        return None
    except (OSError, lmdb.Error) as error:
        home.sweep()
        raise Unbuilt(*any_trouble(home.directory, error).args) from error


def _living(home: Home, mark: int) -> Attached:
    """Open what the link leads to. LMDB makes files that it does not find, so all is looked at before; and afterwards
    the caller looks whether it was the living one all the time."""
    words = home.words
    epoch = home.living()
    if not epoch:
        raise _Unfit("there is none", damaged=False)
    if words[files.WORD_MARK] not in {0, mark, files.SYNCED}:
        raise _Unfit("it was not closed before the last boot, so it may be torn", damaged=False)
    if not home.is_whole(epoch):
        raise _Unfit("its files are gone, were replaced, restored from a copy, or cut short")
    try:
        entries, numbers = (_table(home, epoch, name, mark) for name in files.TABLES)
        last_txns = [table.env.info()["last_txnid"] for table in (entries, numbers)]
        epochs = [_epoch(table) for table in (entries, numbers)]
    except DAMAGE as error:
        raise _Unfit(f"it is damaged ({error})") from error
    if epochs != [epoch, epoch]:
        raise _Unfit("it is not the environment that was made here")
    if words[files.WORD_MARK] == 0 and last_txns != [words[files.word(name, files.CLEAN_TXN)] for name in files.TABLES]:
        raise _Unfit("it is not as it was when it was closed")
    return Attached(home, epoch, mark, entries, numbers)


def _epoch(table: Table) -> int:
    found = own(table.begin().get(OWN))
    return found[0] if found else 0


def _table(home: Home, epoch: int, name: str, mark: int) -> Table:
    """A table of the living environment, which this process may have open already."""
    file = home.file(epoch, name)
    key = _key(file)
    table = _present.get(key)
    if table is None:
        size = home.words[files.word(name, files.SIZE)]
        _present[key] = table = Table(_open(file, size, mark), size)
        table.env.reader_check()
    return table


def _key(file: str) -> tuple[int, int, int]:
    found = os.stat(file)
    return os.getpid(), found.st_dev, found.st_ino


def _build(home: Home, map_size: int, mark: int) -> Attached:
    """Make an environment, and publish it."""
    epoch = secrets.randbelow((1 << 64) - 1) + 1
    os.mkdir(home.environment(epoch), 0o700)
    numbers_size = max(map_size // 8, MIN_NUMBERS)
    entries = _build_table(home.file(epoch, "entries"), map_size - numbers_size, mark, epoch)
    numbers = _build_table(home.file(epoch, "numbers"), numbers_size, mark, epoch)
    home.publish(epoch, mark)
    return Attached(home, epoch, mark, entries, numbers)


def _build_table(file: str, size: int, mark: int, epoch: int) -> Table:
    """The file gets its whole size at once, as a hole: one that is shorter was cut, and no page of it is a SIGBUS.
    LMDB's lock file is made before LMDB would make it, with all its pages: LMDB maps a hole and writes into that."""
    size -= size % mmap.PAGESIZE
    with open(os.open(f"{file}-lock", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
        made.write(bytes(_LOCK_BYTES))
    table = Table(_open(file, size, mark), size)
    with table.begin(write=True) as txn:
        txn.put(OWN, pack_own(epoch, 0, 0))
    os.truncate(file, size)
    _present[_key(file)] = table
    return table


def _open(file: str, size: int, mark: int) -> lmdb.Environment:
    """Open a file as LMDB; wait for a thread of this process that is just closing it."""
    deadline = time.monotonic() + _CLOSING_S
    while True:
        try:
            return _open_beside_inherited(file, size, synced=mark == files.SYNCED)
        except lmdb.Error as error:
            if "already open in this process" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.001)


def _open_beside_inherited(file: str, size: int, *, synced: bool) -> lmdb.Environment:
    """py-lmdb keeps a set of the files that are open in this process, to refuse a second opening. A fork copies the set
    into a process where none of them is open; there, for this call, its keys say whose they are."""
    with _keys_of_this_process() if _inherited else contextlib.nullcontext():
        return lmdb.open(
            file, subdir=False, map_size=size, max_readers=MAX_READERS, mode=0o600, sync=synced, metasync=synced,
            max_spare_txns=1,  # so a load takes no new slot, nor with it a mutex in which a stopped process may stand
            lib_version=0,  # whatever LMDB_DEFAULT_LIB_VERSION says: another format is for another release
        )  # fmt: skip


@contextlib.contextmanager
def _keys_of_this_process() -> Iterator[None]:
    original = _envid.env_keys
    _envid.env_keys = lambda *args: tuple((*key, os.getpid()) for key in original(*args))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        _envid.env_keys = original


def abandon(attached: Attached) -> None:
    """Close an environment that LMDB itself has given up (a panic); the next `attach` opens it anew."""
    with _opening:
        for table in (attached.entries, attached.numbers):
            _forget(table)
            table.env.close()


def _forget(table: Table) -> None:
    for key in [key for key, each in _present.items() if each is table]:
        del _present[key]


def after_fork(attached: Attached | None) -> None:
    """In a forked child: keep the parent's environment untouched, for ever, and let go of its lock's descriptor."""
    global _opening  # noqa: PLW0603  # the copied one may be held by a thread that is not here
    _opening = threading.RLock()
    for key in [key for key in _present if key[0] != os.getpid()]:
        del _present[key]
    if attached is not None:
        if not _inherited:
            atexit.register(_leak)
        _inherited.extend((attached.entries.env, attached.numbers.env))
        attached.lock.after_fork()


def _leak() -> None:
    """At its end the interpreter would collect them, and so close them. With one reference more it does not."""
    import ctypes

    for env in _inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(env))


def any_trouble(path: str, error: OSError | lmdb.Error) -> StorageError:
    """The same as `trouble`, also for an error of LMDB's."""
    if isinstance(error, OSError):
        return trouble(path, error)
    code = getattr(error, "code", 0)
    return trouble(path, OSError(code, os.strerror(code)) if code > 0 else OSError(0, str(error)))
