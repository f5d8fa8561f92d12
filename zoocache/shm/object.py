"""The shared-memory object behind a segment: found or made, proved to be ours and whole, mapped, removed.

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
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import threading
import time

import posix_ipc

from zoocache.errors import Busy, SegmentError, SegmentRefused, SegmentTooSmall
from zoocache.log import log
from zoocache.shm import identity, kernel, points
from zoocache.shm import layout as at
from zoocache.shm.layout import DEFAULT_SIZE, HEADER_WORDS, LAYOUT, MAGIC, MIN_SIZE, NEVER, WORD, Layout, layout_of
from zoocache.shm.lock import Lock

SEMAPHORE_BYTES = 32  # a POSIX semaphore of glibc on 64-bit machines

CURRENT_S = 0.001
"""What was current so lately counts as current: a burst of writes does not ask the kernel each time. A name may go
meanwhile, but nobody uses the object that is made under it next until this time has passed, so whoever invalidates what
was computed there looks again before, and finds out."""

_COUNTERS = (
    at.H_SEQ, at.H_GEN, at.H_INSERTS, at.H_TICKETS, at.H_HLC, at.H_OUT_HEAD, at.H_OUT_TAIL, at.H_OUT_CLEAR_TO,
    at.H_OUT_LOST, at.H_UNSENT_TO,
)  # fmt: skip
_FAR = 2**63  # no counter ever gets there; one that has would soon be beyond a word

CREATION_S = 5.0
"""How long a newcomer waits for whoever is making the object."""


def open_object(name: str, create: bool = True) -> int | None:
    """A description of the object.

    Args:
        name: of the object.
        create: make it if there is none.

    Returns:
        None where there is no shared memory at all, or no such object and none is to be made.

    Raises:
        SegmentRefused: it is not ours, or not for us. SegmentError: whatever else the system says.
    """
    try:
        return kernel.above_stdio(posix_ipc.SharedMemory(name, posix_ipc.O_CREAT if create else 0, 0o600).fd)
    except posix_ipc.PermissionsError as error:
        raise SegmentRefused(
            errno.EACCES,
            f"shared-memory object {name} cannot be opened: {error}. It belongs to another user, or "
            f"{identity.SHM_DIR} is closed to this one; configure another prefix or ask for the right to use it.",
        ) from error
    except (posix_ipc.ExistentialError, OSError, ValueError) as error:
        if not os.path.isdir(identity.SHM_DIR) or getattr(error, "errno", None) == errno.ENOSYS:
            return None
        if not create and isinstance(error, posix_ipc.ExistentialError):
            return None
        if isinstance(error, ValueError) or error.errno == errno.ELOOP:  # a folder, a symbolic link
            raise identity.refusal(identity.segment_file(name), "is not a regular object") from error
        raise SegmentError(_number(error), f"shared-memory object {name}: {error}") from error


def _number(error: Exception) -> int:
    """An error's errno; posix_ipc leaves it out where there are no more descriptors to be had."""
    number: int | None = getattr(error, "errno", None)
    return errno.EMFILE if number is None else number


def settle(name: str, fd: int, size: int | None) -> bool:
    """Steps 2 to 6 of the head of this file; False: begin again."""
    try:
        identity.refuse_foreign(os.fstat(fd), identity.segment_file(name))
        if kernel.try_exclusive(fd, at.LOCK_ATTACHED):
            return _noted_as_alone(name, fd, size) and kernel.try_shared(fd, at.LOCK_ATTACHED)
        if name in getattr(_alone, "names", ()):
            raise Busy(f"segment {name}: this very thread is creating it, below the frame that asks")
        return _settle_among_others(name, fd)
    except BaseException:
        os.close(fd)
        raise


def _noted_as_alone(name: str, fd: int, size: int | None) -> bool:
    before = getattr(_alone, "names", ())
    _alone.names = (*before, name)
    try:
        return _settle_alone(name, fd, size)
    finally:
        _alone.names = before


_alone = threading.local()
"""`names`: of the segments that this thread settles alone. A signal handler or a finalizer that interrupts it must not
wait for it."""


def _settle_alone(name: str, fd: int, size: int | None) -> bool:
    if not _has_name(name, fd):
        return False
    actual = os.fstat(fd).st_size
    if actual == 0:
        _create(name, fd, size)
        time.sleep(CURRENT_S)  # until nobody takes a removed one for current any more; see there
        return True
    if not _is_sound(fd):
        log.warning("zoocache: segment %s is damaged or of another make; it is replaced", name)
    elif _keep_for_the_next(fd, size is None or size == actual):
        return True
    else:
        retire_object(fd)  # for who has lost his descriptors: no lock shows him
    unlink(name, fd)
    return False


def _keep_for_the_next(fd: int, fits: bool) -> bool:
    """Whether a sound segment that everybody has left is used further. What its outbox holds must not be lost for a
    wish to have another size. What the host had heard is some time ago: it has to catch up before it knows all."""
    with mmap.mmap(fd, HEADER_WORDS * WORD) as header, memoryview(header).cast("Q") as words:
        words[at.H_CAUGHT_UP] = 0
        return fits or words[at.H_OUT_HEAD] != words[at.H_OUT_TAIL]


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
    retire_object(fd)
    unlink(name, fd)
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
        return is_sound_header(words, size)


def is_sound_header(words: memoryview | list[int], size: int) -> bool:
    """Whether a header can be that of a segment of `size` bytes of this layout. Others may write to it meanwhile."""
    parts: Layout = layout_of(size)
    fixed = {
        at.H_MAGIC: MAGIC, at.H_LAYOUT: LAYOUT, at.H_SIZE: size, at.H_STATE: at.LIVE, at.H_NODES: parts.nodes,
        at.H_ARENA: parts.arena, at.H_SLOTS: parts.slots, at.H_CLAIMS: parts.claims, at.H_OUTBOX: parts.outbox,
    }  # fmt: skip
    return (
        all(words[index] == value for index, value in fixed.items())
        and all(words[index] < _FAR for index in _COUNTERS)
        and words[at.H_FLOOR] <= words[at.H_SEQ] + 1
        and max(words[at.H_COUNT], words[at.H_COUNT + 1]) <= parts.nodes
        and max(words[at.H_USED], words[at.H_USED + 1]) <= parts.arena
        and words[at.H_OUT_TAIL] <= words[at.H_OUT_HEAD]  # the smaller one is read first: both grow
    )


def retire_object(fd: int) -> None:
    """`Segment.retire` for an object that is not attached, if it still has a header to write to."""
    if os.fstat(fd).st_size < HEADER_WORDS * WORD:
        return
    with mmap.mmap(fd, HEADER_WORDS * WORD) as header, memoryview(header).cast("Q") as words:
        retire(words)


def retire(words: memoryview) -> None:
    """Make all who read these words let go. Needs no lock.

    The state comes first, since a writer in the middle of a mutation may store its own floor or `inserts` over these:
    whoever looks after that reads a dead state, last, and whoever looked before finds another `inserts`. All of it
    comes before seq is read, so whoever validates under the seq that is read sees it.
    """
    words[at.H_STATE] = at.DEAD
    words[at.H_FLOOR] = NEVER
    words[at.H_INSERTS] = NEVER
    words[at.H_SEQ] = (words[at.H_SEQ] + 1) & NEVER


def unlink(name: str, fd: int) -> None:
    """Remove the name if it still leads to this object: two who want that must not remove a newcomer's."""
    Lock(lambda: kernel.reopen(fd), None, f"segment {name}").run(_unlink_mine, name, fd)


def _unlink_mine(name: str, fd: int) -> None:
    if _has_name(name, fd):
        posix_ipc.unlink_shared_memory(name)


def _create(name: str, fd: int, size: int | None) -> None:
    os.fchmod(fd, 0o600)  # the umask may have cut its owner's rights
    if size is not None:
        _allocate_or_unlink(name, fd, size)
        write_header(fd, size)
        return
    size = DEFAULT_SIZE
    while size > MIN_SIZE and not _try_allocate(fd, size):
        size //= 2
    _allocate_or_unlink(name, fd, size)
    if size < DEFAULT_SIZE:
        log.warning("zoocache: %s has little room; segment %s is %d KiB", identity.SHM_DIR, name, size // 1024)
    write_header(fd, size)


def _allocate_or_unlink(name: str, fd: int, size: int) -> None:
    try:
        allocate(fd, name, size)
    except SegmentTooSmall:
        unlink(name, fd)
        raise


def _try_allocate(fd: int, size: int) -> bool:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.ftruncate(fd, 0)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM):
            raise
        return False
    return True


def allocate(fd: int, name: str, size: int) -> None:
    """Give the object its room, all of it.

    Raises:
        SegmentTooSmall: there is not so much.
    """
    if not _try_allocate(fd, size):
        smaller = f", or configure a smaller shm_size (at least {MIN_SIZE})" if size > MIN_SIZE else ""
        raise SegmentTooSmall(
            errno.ENOSPC,
            f"{identity.SHM_DIR} has no room for segment {name} of {size} bytes; enlarge it or empty it{smaller}",
        )
    if points.ARMED:
        points.reach("segment.sized")


def write_header(fd: int, size: int) -> None:
    """Write the header of a new segment, H_MAGIC last."""
    parts = layout_of(size)
    with mmap.mmap(fd, HEADER_WORDS * WORD) as header, memoryview(header).cast("Q") as words:
        values = {
            at.H_LAYOUT: LAYOUT, at.H_SIZE: size, at.H_INCARNATION: int.from_bytes(os.urandom(8), "little"),
            at.H_STATE: at.LIVE, at.H_NODES: parts.nodes, at.H_ARENA: parts.arena,
            at.H_SLOTS: parts.slots, at.H_CLAIMS: parts.claims, at.H_OUTBOX: parts.outbox,
        }  # fmt: skip
        for index, value in values.items():
            words[index] = value
        if points.ARMED:
            points.reach("segment.headed")
        words[at.H_MAGIC] = MAGIC
        if points.ARMED:
            points.reach("segment.live")


def map_object(fd: int, size: int) -> mmap.mmap:
    """Map the object through a description that carries no lock: mmap keeps a duplicate of its descriptor, and in a
    forked child that duplicate would keep the locks of a dead parent alive."""
    unlocked = kernel.reopen(fd)
    try:
        return mmap.mmap(unlocked, size)
    finally:
        os.close(unlocked)


def open_gate(name: str) -> posix_ipc.Semaphore | None:
    """The semaphore in front of a segment's lock; see `open_semaphore`."""
    return open_semaphore(identity.gate_name(name), 1)


def open_semaphore(name: str, tokens: int) -> posix_ipc.Semaphore | None:
    """A semaphore, made with so many tokens if need be; None where there is no room for one.

    Raises:
        SegmentRefused: it is not ours. SegmentError: whatever else the system says.
    """
    if not _is_semaphore_whole(identity.semaphore_file(name)):
        log.warning("zoocache: semaphore %s is damaged; it is replaced", name)
        unlink_semaphore(name)
    try:
        semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREAT, 0o600, tokens)
    except posix_ipc.PermissionsError as error:
        raise SegmentRefused(errno.EACCES, f"semaphore {name} cannot be opened: {error}; it is not ours") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return None  # whatever it is for works without it, by looking now and then
        raise SegmentError(_number(error), f"semaphore {name}: {error}") from error
    _own_semaphore(identity.semaphore_file(name))
    return semaphore


def _is_semaphore_whole(file: str) -> bool:
    """Whether nothing, or at least a whole semaphore, has the name: the first touch of a shorter one is SIGBUS."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(file).st_size >= SEMAPHORE_BYTES
    return True


def _own_semaphore(file: str) -> None:
    """Refuse a semaphore that is not ours, and give its owner the rights that the umask may have cut.

    It may have two names: glibc makes it under another one and links it, and who is killed in between leaves both.
    """
    with contextlib.suppress(FileNotFoundError):  # musl shows it elsewhere; or somebody has just removed it
        info = os.stat(file)
        identity.refuse_foreign(info, file, links=2)
        if stat.S_IMODE(info.st_mode) != 0o600:
            os.chmod(file, 0o600)


def unlink_semaphore(name: str) -> None:
    """Remove a semaphore, if there is one."""
    with contextlib.suppress(posix_ipc.ExistentialError):
        posix_ipc.unlink_semaphore(name)
