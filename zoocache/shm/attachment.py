"""How a process comes to have a segment: the host's, or a private one; and how the host's is removed.

Nothing is unlinked at exit; `destroy` does that, alone.
"""

from __future__ import annotations

import errno
import os

from zoocache.errors import Busy, SegmentError
from zoocache.log import log
from zoocache.shm import identity, kernel
from zoocache.shm import layout as at
from zoocache.shm.layout import DEFAULT_SIZE
from zoocache.shm.lock import DEFAULT_TIMEOUT_S
from zoocache.shm.object import allocate, open_object, retire_object, settle, unlink, unlink_semaphore, write_header
from zoocache.shm.segment import Segment

ATTEMPTS = 50


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
        retire_object(fd)  # who was attached and has lost his descriptors is seen by no lock
        unlink(name, fd)
        unlink_semaphore(identity.gate_name(name))
        unlink_semaphore(identity.wake_name(name))
    finally:
        os.close(fd)
    return True
