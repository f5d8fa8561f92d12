"""Locks that the kernel releases at death: open-file-description locks on single bytes of the segment's object.

They belong to an open description, so a descriptor that a fork copied shares its parent's lock: every process opens
a description of its own. Classic record locks were rejected: any close of any descriptor of the file loses them.
Source: fcntl(2), "Open file description locks".

A program may close what it has not opened: one that becomes a daemon closes all descriptors but three. Their numbers
then lead to whatever is opened next, and a lock on that guards nothing. So each description carries a mark, its file
position, which nobody moves (all that is read and written here names its place): who wants the number asks for the
position first, and meets `Lost`. Rejected: `fstat`, which takes four times as long, and tells the file only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid on 64-bit Linux
_UNLOCKED = struct.pack("h", fcntl.F_UNLCK)  # what an answer begins with where nobody holds the byte
_MARKS = 1 << 30  # the first position that is a mark; any file system has files of 2 GiB
_LOST = "a descriptor of the cache was closed by somebody who had not opened it"
_lseek, _CUR = os.lseek, os.SEEK_CUR
_kept: list[memoryview] = []
_asking: dict[int, bytes] = {}  # byte -> the question who holds it, which invalidations ask again and again


class Lost(OSError):
    """A descriptor was closed under its owner; whatever lock went with it is gone."""


class Description:
    """An open description of a file. It is closed when nobody refers to it any more: a thread that is in the middle of
    using it keeps it open, so its number cannot come to mean another file under that thread.

    Args:
        fd: a descriptor of a regular file or a shared-memory object, with a description of its own.
    """

    __slots__ = ("_fd", "_mark")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mark = _MARKS + int.from_bytes(os.urandom(4), "little") % _MARKS
        _lseek(fd, self._mark, os.SEEK_SET)

    @property
    def fd(self) -> int:
        """The descriptor.

        Raises:
            Lost: it is closed, or leads elsewhere by now.
        """
        try:  # as `is_whole`, which would be one call more in each write
            if _lseek(self._fd, 0, _CUR) == self._mark:
                return self._fd
        except OSError as error:
            raise Lost(errno.EBADF, _LOST) from error
        raise Lost(errno.EBADF, _LOST)

    def is_whole(self) -> bool:
        """Whether its descriptor still leads to it."""
        try:
            return _lseek(self._fd, 0, _CUR) == self._mark
        except OSError:
            return False

    def close(self) -> None:
        """Close it now, whoever refers to it."""
        is_whole, fd, self._fd = self.is_whole(), self._fd, -1
        if is_whole:
            os.close(fd)

    __del__ = close


def keep_mapped(words: memoryview) -> None:
    """Keep a mapping until the interpreter ends, for its process has lost its descriptors: mmap has a duplicate of one
    and would close it, and that number, too, may be another's by now. Each loss costs the mapping's addresses.
    """
    _kept.append(words)


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
