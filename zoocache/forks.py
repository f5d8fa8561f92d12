"""What a fork waits for: threads that are in the middle of opening what a child has to let go of.

    with undivided():
        self.attached = attach(...)

A fork while another thread opens a segment or LMDB leaves the child with descriptors that nobody there knows of. They
carry the parent's kernel locks, which outlive the parent then, so that it does not count as dead as long as the child
lives. So a fork waits until nobody else is opening anything, and who is about to waits until nobody else is forking.

Why no lock: to open may take seconds (a stopped process is building), and those who open must not wait for one another,
nor for a log handler or a finalizer of the user's that opens something too. Two sets do: each side adds itself to its
own before it looks at the other's, which under the interpreter's lock cannot both miss. If they meet, the opener steps
back. Each waits for a while at most, whatever holds what: other hooks of a fork may want what an opener has.

What guards what: each element is added and removed by its own thread, in single steps of a set.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORK_S = 5.0
"""How long a fork waits for other threads; they wait for twice as long."""

STEP_S = 0.0005

_Mark = tuple[int, object]
_opening: set[_Mark] = set()
_forking: set[_Mark] = set()


@contextmanager
def undivided() -> Iterator[None]:
    """For as long as this lasts other threads do not fork, but for those that have waited for FORK_S."""
    mark, until_s = (threading.get_ident(), object()), time.monotonic() + 2 * FORK_S
    try:  # twice: a signal handler may raise anywhere, and each fork would wait for a mark that was left
        try:
            _opening.add(mark)
            while _others(_forking) and time.monotonic() < until_s:
                _opening.discard(mark)
                time.sleep(STEP_S)
                _opening.add(mark)
            yield
        finally:
            _opening.discard(mark)
    finally:
        _opening.discard(mark)


def watch() -> None:
    """See to all forks from here on. Called at the import, for a fork amid the first use; and again when `logging` is
    loaded, for a fork must wait here before it takes the lock of that, which who opens may want. The hooks bear it."""
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _others(marks: set[_Mark]) -> bool:
    ident = threading.get_ident()
    return any(mark[0] != ident for mark in marks.copy())


def _before_fork() -> None:
    until_s = time.monotonic() + FORK_S
    _forking.add((threading.get_ident(), None))
    while _others(_opening) and time.monotonic() < until_s:
        time.sleep(STEP_S)


def _after_in_parent() -> None:
    _forking.discard((threading.get_ident(), None))


def _after_in_child() -> None:
    """The other threads are not here; this one may be opening something itself, and fork in a signal handler."""
    _forking.clear()
    for mark in _opening.copy():
        if mark[0] != threading.get_ident():
            _opening.discard(mark)


watch()
