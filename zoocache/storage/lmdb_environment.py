"""The living environment of a directory: opening it, or building it.

    attach   the link leads to an environment that is whole and to be believed: open it, without the lock
             otherwise take the lock, look again, get rid of what is there, build a new one, publish it

An environment is two tables, each one of LMDB's environments, for the entries and for the numbers. Neither has
sub-databases: py-lmdb opens their handles only in a write transaction, and a process that comes while another one is
stopped in a write would wait for that.

What guards what: `_opening` lets one thread of this process open or build at a time; a forked child gets a new one.
"""

from __future__ import annotations

import errno
import os
import threading
import time

import lmdb

from zoocache.errors import Busy, StorageError, ZooCacheError
from zoocache.log import log
from zoocache.shm import kernel
from zoocache.storage import lmdb_files as files
from zoocache.storage.lmdb_files import Home
from zoocache.storage.lmdb_numbers import OWN
from zoocache.storage.lmdb_refusals import prepare, trouble
from zoocache.storage.lmdb_table import Table, abandon, build_table, open_table, own_process
from zoocache.storage.record import own, pack_own

DAMAGE = (
    lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.IncompatibleError,
    lmdb.NotFoundError, lmdb.MapResizedError, lmdb.BadDbiError, lmdb.ProblemError,
)  # fmt: skip
"""What LMDB says of a file that is not the one that was made: it can only be set aside."""

MIN_NUMBERS = 1 << 19

LARGEST = 8
"""The largest record of an entry is the size of its table divided by this."""

_ATTEMPTS = 8

_readlink = os.readlink
_monotonic = time.monotonic


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

    __slots__ = ("_current_s", "entries", "epoch", "home", "link", "lock", "mark", "numbers", "pid", "target")

    def __init__(self, home: Home, epoch: int, mark: int, entries: Table, numbers: Table) -> None:
        self.pid = os.getpid()
        self.home, self.lock, self.link = home, home.lock, home.link
        self.epoch, self.target, self.mark = epoch, files.target_of(epoch), mark
        self.entries, self.numbers = entries, numbers
        self._current_s = 0.0

    def is_living(self) -> bool:
        """Whether this still is the store, for whoever opens the directory now."""
        try:
            return _readlink(self.link) == self.target
        except OSError:
            return False

    def is_still_living(self) -> bool:
        """`is_living`, asked at most every CURRENT_S; see the head of `lmdb_files`."""
        now_s = _monotonic()
        if now_s < self._current_s:
            return True
        if not self.is_living():
            return False
        self._current_s = now_s + files.CURRENT_S
        return True


_opening = threading.RLock()


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
        own_process()
        try:
            return _attach(directory, map_size, boot or files.SYNCED, timeout_s)
        except ZooCacheError:
            raise
        except (OSError, lmdb.Error) as error:
            raise any_trouble(directory, error) from error


def _attach(directory: str, map_size: int, mark: int, timeout_s: float) -> Attached:
    for _ in range(_ATTEMPTS):
        try:
            prepare(directory)
            home = Home(directory, timeout_s)
            attached = _without_lock(home, mark) or home.lock.run(_living_or_built, home, map_size, mark)
            if attached is not None:
                time.sleep(files.CURRENT_S)  # until nobody takes another one for the living one any more
                if attached.is_living():
                    return attached
        except (OSError, lmdb.Error) as error:  # noqa: PERF203  # it is what the loop is for
            if not _is_about_vanishing(error):
                raise
    raise StorageError(f"lmdb storage {directory}: its files vanish again and again; does something clean up there?")


def _is_about_vanishing(error: BaseException) -> bool:
    """Whether somebody is removing what is being opened."""
    cause = error.__cause__ or error
    return isinstance(cause, FileNotFoundError) or getattr(cause, "code", 0) == errno.ENOENT


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
    size = home.words[files.word(name, files.SIZE)]
    return open_table(home.file(epoch, name), size, synced=mark == files.SYNCED)


def _build(home: Home, map_size: int, mark: int) -> Attached:
    """Make an environment, and publish it."""
    epoch = int.from_bytes(os.urandom(8), "little") or 1
    os.mkdir(home.environment(epoch), 0o700)
    numbers_size = max(map_size // 8, MIN_NUMBERS)
    entries = _new_table(home, epoch, "entries", map_size - numbers_size, mark)
    numbers = _new_table(home, epoch, "numbers", numbers_size, mark)
    home.publish(epoch, mark)
    return Attached(home, epoch, mark, entries, numbers)


def _new_table(home: Home, epoch: int, name: str, size: int, mark: int) -> Table:
    return build_table(home.file(epoch, name), size, (OWN, pack_own(epoch, 0, 0)), synced=mark == files.SYNCED)


def give_up(attached: Attached, *, lost: bool) -> None:
    """Let go of an environment; the next `attach` opens it anew.

    Args:
        attached: LMDB itself has given it up (a panic), or other code has closed its descriptors.
        lost: the latter.
    """
    with _opening:
        for table in (attached.entries, attached.numbers):
            abandon(table, lost=lost)
    if lost:
        log.warning(
            "zoocache: lmdb storage %s: its descriptors were closed by other code here; the next use opens new ones",
            attached.home.directory,
        )  # fmt: skip
        kernel.keep_mapped(attached.home.words)


def after_fork(attached: Attached | None) -> None:
    """In a forked child: leave the parent's environment alone, and let go of its lock's descriptor."""
    global _opening  # noqa: PLW0603  # the copied one may be held by a thread that is not here
    _opening = threading.RLock()
    own_process()
    if attached is not None:
        attached.lock.after_fork()


def any_trouble(path: str, error: OSError | lmdb.Error) -> StorageError:
    """The same as `trouble`, also for an error of LMDB's."""
    if isinstance(error, OSError):
        return trouble(path, error)
    code = getattr(error, "code", 0)
    return trouble(path, OSError(code, os.strerror(code)) if code > 0 else OSError(0, str(error)))
