"""The segment: one object in shared memory that all processes of a user and prefix on this host are attached to.

How it is found, made and proved whole: object.py. What its words mean: layout.py.

Names vanish under one (systemd's RemoveIPC at logout, a person's rm). An object without a name is an orphan: others
attach to a new one and their invalidations do not reach it. Every mutation looks whether the object still has its
name (a link count of 0 tells), and reading looks now and then. Who finds an orphan retires it: floor and `inserts` to
the top, then state, then seq; every process that is attached falls out of its fast path at once and attaches anew.

Nothing is unlinked at exit; `destroy` does that, alone.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from zoocache.errors import Busy, SegmentError
from zoocache.log import log
from zoocache.shm import identity, kernel
from zoocache.shm import layout as at
from zoocache.shm.claims import Claims
from zoocache.shm.layout import DEFAULT_SIZE, MAGIC, layout_of
from zoocache.shm.lock import DEFAULT_TIMEOUT_S, Lock
from zoocache.shm.object import (
    CURRENT_S,
    allocate,
    is_sound_header,
    map_object,
    open_gate,
    open_object,
    retire,
    settle,
    unlink,
    unlink_semaphore,
    write_header,
)
from zoocache.shm.outbox import Outbox, Unsound
from zoocache.shm.slots import Slots
from zoocache.shm.tables import Tables
from zoocache.shm.wake import Wake

T = TypeVar("T")

ATTEMPTS = 50

_monotonic = time.monotonic

LOCK_FREE = os.uname().machine in ("x86_64", "amd64", "AMD64") and sys.maxsize > 2**32
"""Whether lock-free readers see whole words, and stores in the program's order (x86-TSO, Sewell et al. 2010).
Elsewhere everything but "seq is unchanged" is read under the lock."""


class Orphaned(Exception):
    """The segment has lost its name or its sanity and was retired: attach anew, try again. Never leaves the engine."""


class Segment:
    """An attached segment. `attach` and `private` make one.

    Attributes:
        words: all of it as aligned u64.
        shared: False for a private segment, which only forked children share.
        lock: the write lock; `write` takes it.
        outbox: what the other hosts have still to be told.
        wake: wakes the listener; None for a private segment, which cannot have one.
    """

    def __init__(
        self, name: str, description: kernel.Description, size: int, shared: bool, lock_timeout_s: float
    ) -> None:
        self.name = name
        self.shared = shared
        self.layout = layout_of(size)
        self._description: kernel.Description | None = description  # None once this process has left
        raw = memoryview(map_object(description.fd, size))
        self.words = raw.cast("Q")
        gate = open_gate(name) if shared else None
        self.lock = Lock(self._open_again, gate, f"segment {name}", lock_timeout_s)
        self.lock.open()
        self.tables = Tables(self.words, raw, self.layout)
        self.slots = Slots(self.words, self.layout, description)
        self.claims = Claims(self.words, raw, self.layout, self.slots)
        self.outbox = Outbox(self.words, raw, self.layout)
        self.wake = Wake(identity.wake_name(name)) if shared else None
        self.incarnation = self.words[at.H_INCARNATION]
        self._current_s = 0.0
        # Two threads of a process must not take two slots. Re-entrant: a signal handler's call must not wait for the
        # one that it interrupted; it takes a slot of its own, and the one that it interrupted gives his back.
        self._claiming = threading.RLock()

    def _open_again(self) -> int:
        """Another description of the object, for the lock."""
        description = self._description
        if description is None:
            raise Orphaned(self.name)
        return kernel.reopen(description.fd)

    def write(self, action: Callable[..., T], *args: Any) -> T:
        """Call `action(*args)` under the write lock, on a segment that is proved to be the host's.

        Raises:
            Busy: another process kept the lock beyond the time-out.
            Orphaned: the segment was retired.
        """
        result: T = self.run(self._checked, action, args)
        return result

    def run(self, action: Callable[..., T], *args: Any) -> T:
        """Call `action(*args)` under the write lock. The action itself insists on currency, first thing.

        Whoever can write to the object may scribble over it. A counter that leaves its word, or a record that is none,
        shows it here; then the header tells whether that is what happened, or something else raised (a signal handler).

        Raises:
            Busy: another process kept the lock beyond the time-out.
            Orphaned: the segment was retired, or is damaged.
        """
        try:
            return self.lock.run(action, *args)
        except (ValueError, IndexError, OverflowError, Unsound):
            self._insist_on_sanity()
            raise

    def _insist_on_sanity(self) -> None:
        """Give a damaged segment up.

        Raises:
            Orphaned: it is damaged.
        """
        if not is_sound_header(self.words, self.layout.size):
            log.warning("zoocache: segment %s is damaged while in use; it is replaced", self.name)
            self._give_up()

    def is_still_current(self) -> bool:
        """`is_current`, asked at most every CURRENT_S: a burst of writes does not ask the kernel each time."""
        now_s = _monotonic()
        if now_s - self._current_s < CURRENT_S and self.words[at.H_STATE] == at.LIVE:
            return True
        if not self.is_current():
            return False
        self._current_s = now_s
        return True

    def try_write(self, action: Callable[..., T], *args: Any) -> tuple[bool, T | None]:
        """As `write`, but give up at once, with (False, None), if the lock is taken."""
        try:
            return self.lock.try_run(self._checked, action, args)
        except (ValueError, IndexError, OverflowError, Unsound):
            self._insist_on_sanity()
            raise

    def _checked(self, action: Callable[..., T], args: tuple[Any, ...]) -> T:
        if not self.is_still_current():
            self._give_up()
        return action(*args)

    def insist_on_currency(self) -> None:
        """Writer, under the lock, first thing.

        Raises:
            Orphaned: the segment has lost its name or its sanity and is retired, or this process has left it.
        """
        if not self.is_still_current():
            self._give_up()

    def _give_up(self) -> NoReturn:
        self.retire()
        raise Orphaned(self.name)

    def is_current(self) -> bool:
        """Whether this process is attached to it, and it still has its name and its sanity. Costs one system call."""
        words, description = self.words, self._description
        sane = words[at.H_MAGIC] == MAGIC and words[at.H_STATE] == at.LIVE
        return sane and description is not None and (not self.shared or os.fstat(description.fd).st_nlink > 0)

    def retire(self) -> None:
        """Make all who are attached let go. Needs no lock: each store only makes more of it stale.

        One who has left retires nothing: it no longer knows, and the others may be well.
        """
        if self._description is not None:
            retire(self.words)

    def claim_slot(self, wall_ms: int) -> int:
        """The word that names this process in claims; 0 if all slots are taken."""
        with self._claiming:
            return self.slots.owner or self.slots.claim(wall_ms)

    # The listener: a kernel lock tells whether there is one, whoever is killed.

    def become_listener(self) -> bool:
        """Be this host's listener as long as the process lives, unless another is."""
        description = self._description
        return description is not None and kernel.try_exclusive(description.fd, at.LOCK_LISTENER)

    def has_listener(self) -> bool:
        """Whether another process is."""
        description = self._description
        return description is not None and kernel.is_held(description.fd, at.LOCK_LISTENER)

    def has_others(self) -> bool:
        """Whether anybody else is attached."""
        description = self._description
        return description is not None and kernel.is_held(description.fd, at.LOCK_ATTACHED)

    def after_fork(self) -> None:
        """In a forked child: a description of its own first, then let go of the parent's.

        The lock comes before that: what it closes makes room for the descriptor to be opened. A child that cannot have
        a description counts as one that has left, and attaches anew at its next write.
        """
        self._claiming = threading.RLock()
        self.lock.after_fork()
        self.slots.after_fork(None)
        inherited, self._description = self._description, None
        if inherited is None:
            return
        try:
            own = kernel.Description(kernel.reopen(inherited.fd))
            kernel.try_shared(own.fd, at.LOCK_ATTACHED)
            self.slots.after_fork(own)
            self._description = own
            self.lock.open()
        except OSError as error:
            log.warning("zoocache: a forked child could not keep segment %s: %s; it attaches anew", self.name, error)
        finally:
            inherited.close()

    def leave(self) -> None:
        """Detach in order. A thread that is in the middle of a write ends it; later ones meet `Orphaned`. The mapping
        goes with the last live object that refers to it."""
        self.slots.leave()
        self.lock.close()
        self._description = None


def attach(
    prefix: str, size: int | None = None, lock_timeout_s: float = DEFAULT_TIMEOUT_S, host_id: str = ""
) -> Segment:  # fmt: skip
    """Attach to the host's segment for `prefix`; create it if there is none.

    Args:
        prefix: of the configuration; "" for none.
        size: bytes. It is fixed at creation: a segment in use keeps its own. None: DEFAULT_SIZE, or less where
            `/dev/shm` has no room for that.
        lock_timeout_s: how long a write waits for a living holder of the lock.
        host_id: tells the hosts apart that share one `/dev/shm`, where some do.

    Returns:
        The segment; a private one, with one warning, where the system has no shared memory.

    Raises:
        SegmentRefused: something foreign has the name.
        SegmentTooSmall: no room.
        SegmentError: whatever else the system says.
    """
    segment = _settled(identity.segment_name(prefix, host_id=host_id), size, lock_timeout_s, create=True)
    assert segment is not None
    return segment


def _settled(name: str, size: int | None, lock_timeout_s: float, create: bool) -> Segment | None:
    """The segment of that name, or a private one; None where there is none, and none is to be made."""
    try:
        with kernel.stdio_taken():
            for _ in range(ATTEMPTS):
                fd = open_object(name, create)
                if fd is None:
                    return private(name, size, lock_timeout_s) if create else None
                if settle(name, fd, size):
                    return _attached(name, fd, True, lock_timeout_s)
                os.close(fd)
    except Busy:
        raise
    except SegmentError as error:
        if type(error) is not SegmentError or not identity.way_out(error):
            raise
        raise SegmentError(error.errno, f"{error.strerror}{identity.way_out(error)}") from error.__cause__
    except OSError as error:
        text = f"segment {name} cannot be attached: {error}{identity.way_out(error)}"
        raise SegmentError(error.errno, text) from error
    raise SegmentError(errno.EAGAIN, f"segment {name} was replaced {ATTEMPTS} times while attaching; is something "
                                     "removing it again and again?")  # fmt: skip


def attach_to_existing(prefix: str, host_id: str = "") -> Segment | None:
    """As `attach`, but None where there is no segment, or none any more: the listener makes none, it leaves."""
    name = identity.segment_name(prefix, host_id=host_id)
    fd = open_object(name, create=False)
    if fd is None:
        return None
    try:
        is_made = os.fstat(fd).st_size > 0
    finally:
        os.close(fd)
    return _settled(name, None, DEFAULT_TIMEOUT_S, create=False) if is_made else None


def _attached(name: str, fd: int, shared: bool, lock_timeout_s: float) -> Segment:
    """The segment behind a descriptor; if it cannot be had, the descriptor is closed, and with it goes its lock."""
    description = kernel.Description(fd)
    try:
        return Segment(name, description, os.fstat(fd).st_size, shared, lock_timeout_s)
    except BaseException:
        description.close()
        raise


def private(name: str, size: int | None = None, lock_timeout_s: float = DEFAULT_TIMEOUT_S) -> Segment:
    """A segment without a name, which only this process and its forked children share."""
    log.warning(
        "zoocache: there is no shared memory here (%s is missing), so invalidations stay inside this process and the "
        "children it forks", identity.SHM_DIR,
    )  # fmt: skip
    fd = os.memfd_create("zoocache")
    size = size or DEFAULT_SIZE
    allocate(fd, name, size)
    write_header(fd, size)
    return _attached(name, fd, False, lock_timeout_s)


def destroy(prefix: str, host_id: str = "") -> bool:
    """Remove the segment of `prefix` and its semaphores, if nobody is attached.

    Returns:
        Whether there was one.

    Raises:
        SegmentError: somebody is attached.
    """
    name = identity.segment_name(prefix, host_id=host_id)
    fd = open_object(name, create=False)
    if fd is None:
        return False
    try:
        identity.refuse_foreign(os.fstat(fd), identity.segment_file(name))
        if not kernel.try_exclusive(fd, at.LOCK_ATTACHED):
            raise SegmentError(errno.EBUSY, f"segment {name} is in use; end the processes that are attached first")
        unlink(name, fd)
        unlink_semaphore(identity.gate_name(name))
        unlink_semaphore(identity.wake_name(name))
    finally:
        os.close(fd)
    return True
