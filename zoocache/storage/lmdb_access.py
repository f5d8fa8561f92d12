"""Getting at an LMDB store: the environment that is the store by now, and what to do about whatever is in the way.

Readers take no lock: a read transaction is a snapshot that no writer disturbs. Before it, each makes sure that the
environment it has open still is the store, which the link in the directory tells (`lmdb_files`).

Writers take the store's own lock (a flock) around LMDB's transaction, so that nobody ever waits for LMDB's mutex, which
has no time-out: behind a stopped process a write ends in `Busy`.

No room for entries: evict and try again, with more each time; then drop all. No room for numbers: drop them all, under
a floor that overtakes everything. Where not even that can be written, the environment is given up and a new one begins
under a new epoch, which needs no room: an invalidation is never lost.

Room is made before it is needed, because LMDB needs some to make some: entries are evicted while the pages in use are
more than three quarters of the map, and the older half of the numbers is dropped when there are too many of them.

A store that was closed may be used again: by a thread in the middle of something, by an `atexit` function after ours.
Nobody says when those are done, so after the first `close` each write closes what it wrote to, and syncs the disk.

What guards what: `attached` is replaced as a whole, and a thread works on with the one it took. Whether a table is full
is a hint, set by a single store. `_is_closed` is set once, before `close` closes, and looked at after each write: one
of the two closes after it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import lmdb

from zoocache import clock
from zoocache.clock import Now
from zoocache.errors import StorageError, ZooCacheError
from zoocache.forks import undivided
from zoocache.log import log
from zoocache.shm.kernel import Lost
from zoocache.storage import lmdb_entries
from zoocache.storage import lmdb_environment as environments
from zoocache.storage import lmdb_locked as locked
from zoocache.storage.lmdb_closing import close
from zoocache.storage.lmdb_environment import DAMAGE, Attached, Unbuilt
from zoocache.storage.lmdb_locked import Moved
from zoocache.storage.lmdb_numbers import Damaged, Sight
from zoocache.storage.lmdb_refusals import is_about_room, number_of, trouble
from zoocache.storage.lmdb_table import MAX_READERS

T = TypeVar("T")

PAUSES_S = (0.001, 0.004, 0.016)
"""What a write that found no room waits before it tries again: a load in the middle of which the system switched away
keeps what was dropped since from being used."""

ROUNDS = (1, 2, 4, 8, 16, 32)
"""In so many transactions is evicted, one time after the other, before a save is tried again; so many milliseconds pass
too."""

GOAL_BYTES = 1 << 16
"""What each of these is to free."""

_TRIES = 4
_DAMAGED = (*DAMAGE, Damaged)

_getpid = os.getpid


class _NoRoom(Exception):
    """The map or the disk is full; the `__cause__` tells which."""


class Access:
    """See the head of this file.

    Args:
        directory: of the store.
        map_size: in bytes, for an environment that has to be built.
        boot: names this boot; None: the clock is asked.
        timeout_s: how long a write waits for another process.

    Attributes:
        attached: the environment this process has open.

    All methods but `close` and `after_fork` raise

        StorageError: the directory cannot be used, or its disk is full.
        Busy: a process that was stopped holds the lock; nothing was done.
    """

    __slots__ = ("_boot", "_is_closed", "_map_size", "_timeout_s", "attached", "directory")

    def __init__(self, directory: str, map_size: int, boot: int | None, timeout_s: float) -> None:
        self.directory = directory
        self.attached: Attached | None = None
        self._map_size = map_size
        self._is_closed = False
        self._boot = boot
        self._timeout_s = timeout_s

    # Where the store is.

    def here(self) -> Attached:
        """The environment that is the store at this moment, opened if need be. Waits for nobody, unless one has to be
        built."""
        attached = self.attached
        if attached is not None and attached.pid == _getpid() and attached.is_still_living():
            return attached
        return self._attach()

    def last_here(self) -> Attached:
        """The environment that was the store when somebody last looked; for those who look again under the lock."""
        attached = self.attached
        return attached if attached is not None and attached.pid == _getpid() else self._attach()

    def _leave(self, attached: Attached) -> None:
        if attached.pid != _getpid():
            self.after_fork()
        elif self.attached is attached:
            self.attached = None

    def _attach(self) -> Attached:
        attached = self.attached
        if attached is not None:
            self._leave(attached)
        boot = clock.now().boot if self._boot is None else self._boot
        with undivided():
            self.attached = attached = environments.attach(self.directory, self._map_size, boot, self._timeout_s)
        return attached

    # Work.

    def read(self, action: Callable[[Attached], T]) -> T:
        """`action(attached)`, without the lock; perhaps again, in another environment."""
        for _ in range(_TRIES):
            attached = self.here()
            try:
                return action(attached)
            except (lmdb.Error, Damaged) as error:
                self.recover(error, attached)
        raise self._hopeless()

    def write_entries(self, now: Now | None, action: Callable[[Any, Sight], T]) -> T | None:
        """`action(txn, sight)` in one write transaction of the entries; of several tries one is committed.

        Args:
            now: this moment, for evictions; None: nothing counts as expired.
            action: what to do.

        Returns:
            What it returned; None if the environment was given up instead.
        """
        attached = self.last_here()
        try:
            done: T = self._run(attached.lock.run, attached, locked.in_entries, action)
        except ZooCacheError:
            raise
        except (Moved, Damaged, lmdb.Error, OSError) as error:
            return self._write_again(error, attached, now, action)
        return done

    def _write_again(
        self, error: OSError | lmdb.Error | Damaged | Moved, attached: Attached, now: Now | None,
        action: Callable[[Any, Sight], T],
    ) -> T | None:  # fmt: skip
        try:
            self._stumble(error, attached)
            done: T = self._try(locked.in_entries, action)
        except _NoRoom:
            return self._write_with_fewer(now, action)
        return done

    def write_numbers(self, work: Callable[..., T], *args: Any) -> T | None:
        """`work(attached, *args)`, which writes numbers, by the holder of the lock.

        Returns:
            What it returned; None if everything was overtaken instead.
        """
        for pause_s in PAUSES_S:
            try:
                done: T = self._try(work, *args)
                return done
            except Unbuilt as error:  # noqa: PERF203
                log.debug("zoocache: %s: there is nothing to overtake: %s", self.directory, error)
                return None
            except _NoRoom as error:
                no_room = error
                time.sleep(pause_s)
        self._overtake_all(no_room)
        return None

    def write_at_once(self, action: Callable[[Any, Sight], object]) -> bool:
        """`write_entries` that may be lost: whether it was done, without waiting for anybody."""
        attached = self.last_here()
        try:
            return bool(self._run(attached.lock.try_run, attached, locked.in_entries, action)[0])
        except ZooCacheError:
            raise
        except (Moved, Damaged, lmdb.Error, OSError) as error:
            log.debug("zoocache: %s: a write was lost: %s", self.directory, error)
            return False

    def _run(self, take: Callable[..., Any], attached: Attached, work: Callable[..., Any], *args: Any) -> Any:
        """`work(attached, *args)`, under the lock as `take` takes it: one of its ways to run something."""
        try:
            return take(work, attached, *args)
        finally:
            if self._is_closed:
                self._let_go(attached)

    def _try(self, work: Callable[..., T], *args: Any) -> T:
        for _ in range(_TRIES):
            attached = self.last_here()
            try:
                done: T = self._run(attached.lock.run, attached, work, *args)
                return done
            except ZooCacheError:
                raise
            except (Moved, Damaged, lmdb.Error, OSError) as error:
                self._stumble(error, attached)
        raise self._hopeless()

    def _stumble(self, error: OSError | lmdb.Error | Damaged | Moved, attached: Attached) -> None:
        """After an error in a write: make another try worth while, or raise."""
        if isinstance(error, Moved):
            self._leave(attached)
        elif _is_about_room(error, self.directory):
            raise _NoRoom from error
        else:
            self.recover(error, attached)

    # When there is no room.

    def _write_with_fewer(self, now: Now | None, action: Callable[[Any, Sight], T]) -> T | None:
        self.read(_forget_dead_readers)
        done: T
        for rounds in ROUNDS:
            time.sleep(rounds / 1000)
            try:
                self._evict(rounds, now)
                done = self._try(locked.in_entries, action)
                return done
            except _NoRoom as error:
                log.debug("zoocache: %s: %s; evicting", self.directory, error.__cause__)
        log.warning("zoocache: %s: evicting made no room; all entries are dropped", self.directory)
        try:
            self._try(locked.clear_entries)
            self._try(locked.in_entries, lmdb_entries.advance)
            done = self._try(locked.in_entries, action)
        except _NoRoom as error:
            if not isinstance(error.__cause__, lmdb.MapFullError):
                raise trouble(self.directory, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
            self._give_up(f"no entry could be dropped ({error.__cause__})")
            return None
        return done

    def clear_entries(self) -> None:
        """Drop all entries; if there is no room for that, they were overtaken in any case."""
        try:
            self._try(locked.clear_entries)
        except _NoRoom as error:
            log.debug("zoocache: %s: dead entries stay for now: %s", self.directory, error.__cause__)

    def _evict(self, rounds: int, now: Now | None) -> None:
        for _ in range(rounds):
            if not self._try(locked.evict, GOAL_BYTES, now):
                return

    def _overtake_all(self, error: _NoRoom) -> None:
        log.warning("zoocache: %s: %s; all entries are overtaken instead of some", self.directory, error.__cause__)
        try:
            self._try(locked.clear_numbers)
        except _NoRoom as again:
            self._give_up(f"there is no room for an invalidation ({again.__cause__})")

    def _give_up(self, why: str) -> None:
        log.warning("zoocache: %s: the cache begins empty: %s", self.directory, why)
        attached = self.here()
        try:
            attached.lock.run(locked.dispose, attached, why, False)
        except ZooCacheError:
            raise
        except OSError as error:
            raise trouble(self.directory, error) from error

    # Trouble.

    def recover(self, error: OSError | lmdb.Error | Damaged, attached: Attached) -> None:
        """After an error: make another try worth while, or raise what the caller must know."""
        if isinstance(error, _DAMAGED):
            self._set_aside(error, attached)
        elif isinstance(error, lmdb.ReadersFullError):
            self._free_readers(attached, error)
        elif isinstance(error, (lmdb.PanicError, Lost)) or "closed" in str(error):
            environments.give_up(attached, lost=isinstance(error, Lost))
            self._leave(attached)
        elif isinstance(error, OSError) or not isinstance(error, (lmdb.BadRslotError, lmdb.BadTxnError)):
            raise environments.any_trouble(self.directory, error) from error

    def _set_aside(self, error: Exception, attached: Attached) -> None:
        try:
            attached.lock.try_run(locked.dispose, attached, f"it is damaged ({error})", True)
        except ZooCacheError:
            raise
        except OSError as stuck:
            raise trouble(self.directory, stuck) from error

    def _free_readers(self, attached: Attached, error: Exception) -> None:
        if not _forget_dead_readers(attached):
            raise StorageError(
                f"lmdb storage {self.directory}: {MAX_READERS} readers are at work, more than it has room "
                "for; use fewer processes, or several prefixes"
            ) from error

    def _hopeless(self) -> StorageError:
        return StorageError(f"lmdb storage {self.directory}: it fails again and again, although it was opened anew")

    # The process.

    def after_fork(self) -> None:
        """In a forked child: leave what the parent opened alone."""
        attached = self.attached
        if attached is None or attached.pid != _getpid():
            self.attached = None
            environments.after_fork(attached)

    def close(self) -> None:
        """Let go. The last one to close leaves a store that survives a power cut (lmdb_closing.py)."""
        self._is_closed = True
        attached = self.attached
        if attached is not None:
            self._let_go(attached)

    def _let_go(self, attached: Attached) -> None:
        if self.attached is attached:
            self.attached = None
        if attached.pid == _getpid():
            close(attached)


def _forget_dead_readers(attached: Attached) -> int:
    """Clear the slots of readers that were killed, which keep what was dropped since from being used; how many."""
    return attached.entries.env.reader_check() + attached.numbers.env.reader_check()


def _is_about_room(error: Exception, directory: str) -> bool:
    if isinstance(error, (lmdb.MapFullError, lmdb.TxnFullError, lmdb.DiskError)):
        return True
    return is_about_room(number_of(error), directory)
