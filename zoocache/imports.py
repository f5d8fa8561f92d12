"""Modules that are loaded when they are first needed, and forks, which wait until that is over.

    with whole:
        from zoocache.storage.lmdb import LmdbStore

A fork while another thread is in the middle of an import leaves the child with a module that is half made, whose lock
belongs to a thread that is not there: whoever wants that module in the child hangs, or gets an ImportError. So whoever
imports inside a function holds `whole`, and a fork takes it first. Rejected: to import everything at the top, which
would cost each process what few of them need.

What guards what: `whole` is held by who imports, for as long as that takes and for nothing else, since hits take it,
and by who forks; it may be taken again by the thread that has it, as a signal handler does. It is the interpreter's own
lock, not a class around it: a handler that raises between the lines of such a class would leave it locked for ever. A
fork waits for FORK_S at most: an import that takes longer (a disk that stands still) must not keep a process from
forking for ever. A child of such a fork gets a new lock, and the trouble that all others have.
"""

from __future__ import annotations

import os
import threading

FORK_S = 5.0
"""How long a fork waits for an import."""

whole = threading.RLock()

_taken: dict[int, list[bool]] = {}
"""Of each thread that forks, and of forks in its signal handlers, the last one last: whether it has got the lock, and
has not given it back."""


def _before_fork() -> None:
    _taken.setdefault(threading.get_ident(), []).append(whole.acquire(timeout=FORK_S))


def _release() -> bool:
    """Give it back; whether there was anything to give back."""
    marks = _taken.get(threading.get_ident())
    if not (marks and marks[-1]):
        return False
    marks[-1] = False
    whole.release()
    return True


def _forget() -> None:
    _release()
    _taken.get(threading.get_ident(), [False]).pop()


def _after_in_child() -> None:
    if not _release():
        whole._at_fork_reinit()  # type: ignore[attr-defined]  # as threading.Condition does
    _taken.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_forget, after_in_child=_after_in_child)
os.register_at_fork(after_in_parent=_release)
# Of the hooks of a fork the first may be skipped: a signal that came meanwhile is handled on its entry, and what the
# handler raises is printed. So there are two. (A mark that was not forgotten says nothing more.)
