"""Mount namespaces: a forked child with a /dev/shm of its own, tiny, missing or forbidden, that nobody else sees."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

CLONE_NEWNS = 0x0002_0000
CLONE_NEWPID = 0x2000_0000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
MS_RDONLY = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter() -> None:
    """Move this process (a forked child with one thread) into a mount namespace of its own.

    Raises:
        OSError: it is not permitted.
    """
    _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def mount_tmpfs(path: str, options: str, flags: int = 0) -> None:
    """Put an empty file system over a folder."""
    _check(_libc.mount(b"tmpfs", path.encode(), b"tmpfs", flags, options.encode()))


def as_first(work: Callable[[], object]) -> Callable[[], None]:
    """`work` for a forked child: it is done by process 1 of a container, and an error ends the child too."""

    def run() -> None:
        enter()
        _check(_libc.unshare(CLONE_NEWPID))
        first = os.fork()
        if first:
            assert os.waitpid(first, 0)[1] == 0
            return
        _check(_libc.mount(b"proc", b"/proc", b"proc", 0, None))
        work()

    return run


def with_shm(options: str, work: Callable[[], object], flags: int = 0) -> Callable[[], None]:
    """`work` for a forked child that sees a fresh /dev/shm with these mount options."""

    def run() -> None:
        enter()
        mount_tmpfs("/dev/shm", options, flags)
        work()

    return run


def without_proc(work: Callable[[], object]) -> Callable[[], None]:
    """`work` for a forked child that sees no processes, itself neither."""

    def run() -> None:
        enter()
        mount_tmpfs("/proc", "size=64k")
        work()

    return run


def without_shm(work: Callable[[], object]) -> Callable[[], None]:
    """`work` for a forked child in whose /dev there is no shm."""

    def run() -> None:
        enter()
        mount_tmpfs("/dev", "size=64k")
        work()

    return run
