"""Locks that the kernel releases at death: open-file-description locks on single bytes of the segment's object.

They belong to an open description, so a descriptor that a fork copied shares its parent's lock: every process opens
a description of its own. Classic record locks were rejected: any close of any descriptor of the file loses them.
Source: fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid on 64-bit Linux
_UNLOCKED = struct.pack("h", fcntl.F_UNLCK)  # what an answer begins with where nobody holds the byte
_asking: dict[int, bytes] = {}  # byte -> the question who holds it, which invalidations ask again and again


class Description:
    """An open description of a file. It is closed when nobody refers to it any more: a thread that is in the middle of
    using it keeps it open, so its number cannot come to mean another file under that thread.

    Attributes:
        fd: the descriptor; -1 once it is closed.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it now, whoever refers to it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def try_exclusive(fd: int, byte: int) -> bool:
    """Take the byte for writing, without waiting; whether it worked."""
    return _set(fd, fcntl.F_WRLCK, byte)


def try_shared(fd: int, byte: int) -> bool:
    """Take the byte for reading (or turn one's exclusive lock into that), without waiting; whether it worked."""
    return _set(fd, fcntl.F_RDLCK, byte)


def release(fd: int, byte: int) -> None:
    """Give the byte back; harmless where nothing was held."""
    _set(fd, fcntl.F_UNLCK, byte)


def is_held(fd: int, byte: int) -> bool:
    """Whether a description other than `fd`'s holds the byte, in either way."""
    request = _asking.get(byte)
    if request is None:
        request = _asking[byte] = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    return not fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request).startswith(_UNLOCKED)


def reopen(fd: int) -> int:
    """A description of one's own of the object behind `fd`, though its name may be gone."""
    return above_stdio(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC))


LAST_OF_STDIO = 2


def above_stdio(fd: int) -> int:
    """The same description under a number that is none of standard input, output and error.

    Where those are closed, whatever is opened next gets their numbers, and what anybody writes to standard error goes
    into it.
    """
    if fd > LAST_OF_STDIO:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LAST_OF_STDIO + 1)
    finally:
        os.close(fd)


def _root() -> int:
    """A descriptor of what is always there, and takes nothing that is written to it."""
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextlib.contextmanager
def stdio_taken() -> Iterator[None]:
    """For what opens files by itself: meanwhile the numbers of a closed standard input, output or error are taken."""
    taken = [_root()]
    try:
        while taken[-1] <= LAST_OF_STDIO:
            taken.append(_root())
        yield
    finally:
        for fd in taken:
            os.close(fd)


def _set(fd: int, kind: int, byte: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
