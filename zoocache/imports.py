"""What must be whole when the process forks: a module that is just being loaded, and what is just being opened.

    with whole:
        from zoocache.storage.lmdb import LmdbStore

A fork while another thread is in the middle of an import leaves the child with a module that is half made, whose lock
belongs to a thread that is not there: whoever wants that module in the child hangs, or gets an ImportError. And a fork
while another thread opens a segment or LMDB leaves the child with descriptors that nobody there knows of: they carry
the parent's locks, which outlive the parent then, so that it does not count as dead. So whoever imports inside a
function, or opens what a child has to let go of, holds `whole`, and a fork takes it first. Rejected: to import
everything at the top, which would cost each process what few of them need.

What guards what: `_lock` is held by who imports or opens, and by who forks; it may be taken again by the thread that
has it, as a signal handler does; who opens takes it after the locks of his own (runtime.py, engine/core.py), and none
of those inside it. A fork waits for FORK_S at most: a disk that stands still, or a stopped process that is building,
must not keep this one from forking for ever. A child of such a fork gets a new lock, and the trouble that all others
have.

Who has no descriptor left cannot read a module; that is said as this library says things.

What guards what: `_lock` is held by who imports, and by who forks; it may be taken again by the thread that has it, as
a signal handler does. A fork waits for FORK_S at most: an import that takes longer (a disk that stands still) must not
keep a process from forking for ever. A child of such a fork gets a new lock, and the trouble that all others have.
"""

from __future__ import annotations

import errno
import os
import threading

from zoocache.errors import StorageError

FORK_S = 5.0
"""How long a fork waits for another thread."""


class Whole:
    """See the head of this file; there is one."""

    __slots__ = ("_lock", "_taken")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._taken: dict[int, bool] = {}  # of each thread that forks: whether it has got the lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._lock.release()
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            raise StorageError(
                error.errno,
                f"zoocache cannot load a part of itself ({os.strerror(error.errno)}): close some descriptors, or raise "
                "the limit (ulimit -n, fs.file-max), and call again",
            ) from error

    def before_fork(self) -> None:
        """In the thread that forks."""
        self._taken[threading.get_ident()] = self._lock.acquire(timeout=FORK_S)

    def after_in_parent(self) -> None:
        """In the same thread."""
        if self._taken.pop(threading.get_ident(), False):
            self._lock.release()

    def after_in_child(self) -> None:
        """In the only thread that is left."""
        if self._taken.get(threading.get_ident(), False):
            self._lock.release()
        else:
            self._lock = threading.RLock()
        self._taken.clear()


whole = Whole()

os.register_at_fork(
    before=whole.before_fork, after_in_parent=whole.after_in_parent, after_in_child=whole.after_in_child
)  # fmt: skip
