"""What wakes the listener of a host: a semaphore that anybody posts who has left it something to do.

    ring    a token, if there is none
    wait    take a token, however long that takes

No token stands for one certain piece of work, so each step may be lost or repeated: a listener that was killed with a
token in its hand costs the next work a second at most, since the listener also looks by itself. Nobody posts for the
dead, and nobody is kept out by it: it guards nothing. So a plain semaphore will do here, as it would not for the lock.

The listener waits without a time-out, in a thread that has nothing else to do: `sem_timedwait` follows the wall clock,
and would sleep for an hour when that is set back by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoocache.errors import SegmentError
from zoocache.log import log
from zoocache.shm.object import open_semaphore

if TYPE_CHECKING:
    import posix_ipc


class Wake:
    """One host's, as one process has it open; opened by the first use. A forked child may use its parent's.

    Args:
        name: of the semaphore.
    """

    __slots__ = ("_name", "_semaphore", "_tried")

    def __init__(self, name: str) -> None:
        self._name = name
        self._semaphore: posix_ipc.Semaphore | None = None
        self._tried = False

    def ring(self) -> None:
        """Wake the listener, now or, if it is at work, once it is done."""
        semaphore = self._semaphore or self._open()
        if semaphore is not None and not semaphore.value:
            semaphore.release()

    def wait(self) -> bool:
        """Sleep until somebody rings; False, at once, where there can be no semaphore."""
        semaphore = self._semaphore or self._open()
        if semaphore is None:
            return False
        semaphore.acquire()
        return True

    def _open(self) -> posix_ipc.Semaphore | None:
        """Tried once: without it the listener looks by itself, about once a second."""
        if not self._tried:
            self._tried = True
            try:
                self._semaphore = open_semaphore(self._name, 0)
            except SegmentError as error:
                log.warning("zoocache: what wakes the listener cannot be opened, so it takes longer: %s", error)
        return self._semaphore
