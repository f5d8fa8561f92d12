"""The segment: one object in shared memory that all processes of a user and prefix on this host are attached to.

Attaching, so that nobody ever trusts a half-made, foreign or forgotten object:

    1  shm_open with O_CREAT and 0600, never with posix_ipc's `size` (it resizes a live object)
    2  owner, mode, type, link count
    3  a kernel lock on the byte LOCK_ATTACHED: exclusive if one is alone, else shared
    4  the name must still lead to this object, else begin again
    5  alone: an empty object is sized (posix_fallocate: ftruncate alone would let a later store die of SIGBUS on a
       full tmpfs) and its header written, H_MAGIC last; an unsound one is unlinked, never reused, so that a mapping
       that somebody still has stays what it was; a sound one is taken as it is
       not alone: an unsound one is retired and unlinked
    6  the lock becomes shared and is kept for life: the kernel counts the attached

Crash argument: killed anywhere before H_MAGIC, the object is unsound, and the next who is alone replaces it.

Names vanish under one (systemd's RemoveIPC at logout, a person's rm). An object without a name is an orphan: others
attach to a new one and their invalidations do not reach it. Every mutation looks whether the name's object still is
this one (a link count of 0), and reading looks now and then. Who finds an orphan retires it: floor to the top, then
state, then seq; every process that is attached falls out of its fast path at once and attaches anew.

Nothing is unlinked at exit; `destroy` does that, alone.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

import posix_ipc

from zoocache import clock
from zoocache.errors import SegmentError, SegmentRefused, SegmentTooSmall
from zoocache.shm import identity, kernel, points
from zoocache.shm import layout as at
from zoocache.shm.claims import Claims
from zoocache.shm.layout import DEFAULT_SIZE, HEADER_WORDS, LAYOUT, MAGIC, MIN_SIZE, WORD, Layout, layout_of
from zoocache.shm.lock import DEFAULT_TIMEOUT_S, Lock
from zoocache.shm.slots import Slots
from zoocache.shm.tables import Tables

log = logging.getLogger("zoocache")
T = TypeVar("T")

ATTEMPTS = 50
CREATION_S = 5.0
NEVER = 2**64 - 1

LOCK_FREE = os.uname().machine in ("x86_64", "amd64", "AMD64", "i686")
"""Whether lock-free readers see stores in the program's order (x86-TSO, Sewell et al. 2010). Elsewhere everything but
"seq is unchanged" is read under the lock."""


class Orphaned(Exception):
    """The segment has lost its name or its sanity and was retired: attach anew, try again. Never leaves the engine."""


class Segment:
    """An attached segment. `attach` and `private` make one.

    Attributes:
        words: all of it as aligned u64.
        shared: False for a private segment, which only forked children share.
        lock: the write lock; `write` takes it.
    """

    def __init__(self, name: str, fd: int, size: int, shared: bool, lock_timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.name = name
        self.shared = shared
        self.layout = layout_of(size)
        self._fd = fd
        raw = memoryview(_map(fd, size))
        self.words = raw.cast("Q")
        gate = _open_gate(name) if shared else None
        self.lock = Lock(lambda: kernel.reopen(self._fd), gate, f"segment {name}", lock_timeout_s)
        self.tables = Tables(self.words, raw, self.layout)
        self.slots = Slots(self.words, self.layout, fd)
        self.claims = Claims(self.words, raw, self.layout, self.slots)
        self.incarnation = self.words[at.H_INCARNATION]

    def write(self, action: Callable[..., T], *args: Any) -> T:
        """Call `action(*args)` under the write lock, on a segment that is proved to be the host's.

        Raises:
            Busy: another process kept the lock beyond the time-out.
            Orphaned: the segment was retired.
        """
        return self.lock.run(self._checked, action, args)

    def try_write(self, action: Callable[..., T], *args: Any) -> tuple[bool, T | None]:
        """As `write`, but give up at once, with (False, None), if the lock is taken."""
        return self.lock.try_run(self._checked, action, args)

    def _checked(self, action: Callable[..., T], args: tuple[Any, ...]) -> T:
        if not self.is_current():
            self.retire()
            raise Orphaned(self.name)
        return action(*args)

    def is_current(self) -> bool:
        """Whether the object still has its name and its sanity. Costs one system call."""
        words = self.words
        sane = words[at.H_MAGIC] == MAGIC and words[at.H_STATE] == at.LIVE
        return sane and (not self.shared or os.fstat(self._fd).st_nlink > 0)

    def retire(self) -> None:
        """Make all who are attached let go. Needs no lock: each store only makes more of it stale."""
        _retire(self.words)

    def claim_slot(self) -> int:
        """The word that names this process in claims; 0 if all slots are taken."""
        return self.slots.owner or self.slots.claim(clock.now().wall_ms)

    def after_fork(self) -> None:
        """In a forked child: descriptions of its own first, then let go of the parent's."""
        inherited = self._fd
        self._fd = kernel.reopen(inherited)
        kernel.try_shared(self._fd, at.LOCK_ATTACHED)
        self.lock.after_fork()
        self.slots.after_fork(self._fd)
        os.close(inherited)

    def leave(self) -> None:
        """Detach in order. The mapping goes with the last live object that refers to it."""
        if self._fd >= 0:
            self.slots.leave()
            self.lock.close()
            os.close(self._fd)
            self._fd = -1


def attach(prefix: str, size: int | None = None, lock_timeout_s: float = DEFAULT_TIMEOUT_S) -> Segment:
    """Attach to the host's segment for `prefix`; create it if there is none.

    Args:
        prefix: of the configuration; "" for none.
        size: bytes. It is fixed at creation: a segment in use keeps its own. None: DEFAULT_SIZE, or less where
            `/dev/shm` has no room for that.
        lock_timeout_s: how long a write waits for a living holder of the lock.

    Returns:
        The segment; a private one, with one warning, where the system has no shared memory.

    Raises:
        SegmentRefused: something foreign has the name.
        SegmentTooSmall: no room.
        SegmentError: whatever else the system says.
    """
    name = identity.segment_name(prefix)
    for _ in range(ATTEMPTS):
        fd = _open(name)
        if fd is None:
            return private(name, size)
        if _settle(name, fd, size):
            return Segment(name, fd, os.fstat(fd).st_size, True, lock_timeout_s)
        os.close(fd)
    raise SegmentError(errno.EAGAIN, f"segment {name} was replaced {ATTEMPTS} times while attaching; is something "
                                     "removing it again and again?")  # fmt: skip


def private(name: str, size: int | None = None) -> Segment:
    """A segment without a name, which only this process and its forked children share."""
    log.warning(
        "zoocache: there is no shared memory here (%s is missing), so invalidations stay inside this process and the "
        "children it forks", identity.SHM_DIR,
    )  # fmt: skip
    fd = os.memfd_create("zoocache")
    size = size or DEFAULT_SIZE
    _allocate(fd, name, size)
    _write_header(fd, size)
    return Segment(name, fd, size, False)


def destroy(prefix: str) -> bool:
    """Remove the segment of `prefix` and its semaphore, if nobody is attached.

    Returns:
        Whether there was one.

    Raises:
        SegmentError: somebody is attached.
    """
    name = identity.segment_name(prefix)
    try:
        fd = posix_ipc.SharedMemory(name).fd
    except posix_ipc.ExistentialError:
        return False
    try:
        identity.refuse_foreign(os.fstat(fd), name)
        if not kernel.try_exclusive(fd, at.LOCK_ATTACHED):
            raise SegmentError(errno.EBUSY, f"segment {name} is in use; end the processes that are attached first")
        _unlink(name, fd)
        if os.path.exists(identity.gate_file(identity.gate_name(name))):
            posix_ipc.unlink_semaphore(identity.gate_name(name))
    finally:
        os.close(fd)
    return True


def _open(name: str) -> int | None:
    """A description of the object, made if need be; None where there is no shared memory at all."""
    try:
        return int(posix_ipc.SharedMemory(name, posix_ipc.O_CREAT, 0o600).fd)
    except posix_ipc.PermissionsError as error:
        raise SegmentRefused(
            errno.EACCES,
            f"shared-memory object {name} cannot be opened: {error}. It belongs to another user, or "
            f"{identity.SHM_DIR} is closed to this one; configure another prefix or ask for the right to use it.",
        ) from error
    except (posix_ipc.ExistentialError, OSError) as error:
        if not os.path.isdir(identity.SHM_DIR) or getattr(error, "errno", None) == errno.ENOSYS:
            return None
        raise SegmentError(getattr(error, "errno", 0), f"shared-memory object {name}: {error}") from error


def _settle(name: str, fd: int, size: int | None) -> bool:
    """Steps 2 to 6 of the head of this file; False: begin again."""
    try:
        identity.refuse_foreign(os.fstat(fd), name)
        if kernel.try_exclusive(fd, at.LOCK_ATTACHED):
            return _settle_alone(name, fd, size) and kernel.try_shared(fd, at.LOCK_ATTACHED)
        return _settle_among_others(name, fd)
    except BaseException:
        os.close(fd)
        raise


def _settle_alone(name: str, fd: int, size: int | None) -> bool:
    if not _has_name(name, fd):
        return False
    actual = os.fstat(fd).st_size
    if actual == 0:
        _create(name, fd, size)
        return True
    if not _is_sound(fd):
        log.warning("zoocache: segment %s is damaged or of another make; it is replaced", name)
    elif size is None or size == actual:
        return True
    _unlink(name, fd)
    return False


def _settle_among_others(name: str, fd: int) -> bool:
    deadline = time.monotonic() + CREATION_S
    while not kernel.try_shared(fd, at.LOCK_ATTACHED):
        if time.monotonic() > deadline:
            raise SegmentError(errno.ETIMEDOUT, f"segment {name}: whoever creates it has stopped; resume or end it")
        time.sleep(0.001)
    if not _has_name(name, fd):
        return False
    if _is_sound(fd):
        return True
    log.warning("zoocache: segment %s is damaged while in use; it is replaced", name)
    _retire_object(fd)
    _unlink(name, fd)
    return False


def _has_name(name: str, fd: int) -> bool:
    try:
        return os.stat(identity.segment_file(name)).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _is_sound(fd: int) -> bool:
    size = os.fstat(fd).st_size
    if size < MIN_SIZE or size % WORD:
        return False
    with mmap.mmap(fd, HEADER_WORDS * WORD) as header, memoryview(header).cast("Q") as words:
        return is_sound_header(words.tolist(), size)


def is_sound_header(words: list[int], size: int) -> bool:
    """Whether a header can be that of a segment of `size` bytes of this layout."""
    parts: Layout = layout_of(size)
    fixed = {
        at.H_MAGIC: MAGIC, at.H_LAYOUT: LAYOUT, at.H_SIZE: size, at.H_STATE: at.LIVE, at.H_NODES: parts.nodes,
        at.H_ARENA: parts.arena, at.H_SLOTS: parts.slots, at.H_CLAIMS: parts.claims,
    }  # fmt: skip
    return (
        all(words[index] == value for index, value in fixed.items())
        and words[at.H_FLOOR] <= words[at.H_SEQ] + 1
        and max(words[at.H_COUNT], words[at.H_COUNT + 1]) <= parts.nodes
        and max(words[at.H_USED], words[at.H_USED + 1]) <= parts.arena
    )


def _retire_object(fd: int) -> None:
    """`Segment.retire` for an object that is not attached, if it still has a header to write to."""
    if os.fstat(fd).st_size < HEADER_WORDS * WORD:
        return
    with mmap.mmap(fd, HEADER_WORDS * WORD) as header, memoryview(header).cast("Q") as words:
        _retire(words)


def _retire(words: memoryview) -> None:
    """Floor and `inserts` come before seq is read, so whoever validates under the seq that is read sees them."""
    words[at.H_FLOOR] = NEVER
    words[at.H_INSERTS] = NEVER
    words[at.H_STATE] = at.DEAD
    words[at.H_SEQ] = (words[at.H_SEQ] + 1) & NEVER


def _unlink(name: str, fd: int) -> None:
    """Remove the name if it still leads to this object: two who want that must not remove a newcomer's."""
    object_lock = kernel.reopen(fd)
    try:
        Lock(lambda: object_lock, None, f"segment {name}").run(_unlink_mine, name, fd)
    finally:
        os.close(object_lock)


def _unlink_mine(name: str, fd: int) -> None:
    if _has_name(name, fd):
        posix_ipc.unlink_shared_memory(name)


def _create(name: str, fd: int, size: int | None) -> None:
    if size is not None:
        _allocate_or_unlink(name, fd, size)
        _write_header(fd, size)
        return
    size = DEFAULT_SIZE
    while size > MIN_SIZE and not _try_allocate(fd, size):
        size //= 2
    _allocate_or_unlink(name, fd, size)
    if size < DEFAULT_SIZE:
        log.warning("zoocache: %s has little room; segment %s is %d KiB", identity.SHM_DIR, name, size // 1024)
    _write_header(fd, size)


def _allocate_or_unlink(name: str, fd: int, size: int) -> None:
    try:
        _allocate(fd, name, size)
    except SegmentTooSmall:
        _unlink(name, fd)
        raise


def _try_allocate(fd: int, size: int) -> bool:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.ftruncate(fd, 0)
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.ENOMEM):
            raise
        return False
    return True


def _allocate(fd: int, name: str, size: int) -> None:
    if not _try_allocate(fd, size):
        raise SegmentTooSmall(
            errno.ENOSPC,
            f"{identity.SHM_DIR} has no room for segment {name} of {size} bytes; enlarge it or configure a smaller "
            f"shm_size (at least {MIN_SIZE})",
        )
    if points.ARMED:
        points.reach("segment.sized")


def _write_header(fd: int, size: int) -> None:
    parts = layout_of(size)
    with mmap.mmap(fd, HEADER_WORDS * WORD) as header, memoryview(header).cast("Q") as words:
        values = {
            at.H_LAYOUT: LAYOUT, at.H_SIZE: size, at.H_INCARNATION: secrets.randbits(64), at.H_STATE: at.LIVE,
            at.H_NODES: parts.nodes, at.H_ARENA: parts.arena, at.H_SLOTS: parts.slots, at.H_CLAIMS: parts.claims,
            at.H_CREATED_MS: clock.now().wall_ms,
        }  # fmt: skip
        for index, value in values.items():
            words[index] = value
        if points.ARMED:
            points.reach("segment.headed")
        words[at.H_MAGIC] = MAGIC
        if points.ARMED:
            points.reach("segment.live")


def _map(fd: int, size: int) -> mmap.mmap:
    """Map the object through a description that carries no lock: mmap keeps a duplicate of its descriptor, and in a
    forked child that duplicate would keep the locks of a dead parent alive."""
    unlocked = kernel.reopen(fd)
    try:
        return mmap.mmap(unlocked, size)
    finally:
        os.close(unlocked)


def _open_gate(name: str) -> posix_ipc.Semaphore | None:
    gate = identity.gate_name(name)
    try:
        semaphore = posix_ipc.Semaphore(gate, posix_ipc.O_CREAT, 0o600, 1)
    except posix_ipc.PermissionsError as error:
        raise SegmentRefused(errno.EACCES, f"semaphore {gate} cannot be opened: {error}; it is not ours") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return None  # the flock alone is as safe, and polled
        raise SegmentError(error.errno, f"semaphore {gate}: {error}") from error
    if os.path.exists(identity.gate_file(gate)):
        identity.refuse_foreign(os.stat(identity.gate_file(gate)), gate)
    return semaphore
