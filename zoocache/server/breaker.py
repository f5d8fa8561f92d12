"""When to ask a server that did not answer: a circuit breaker (M. Nygard, "Release It!", 2007).

Closed, every call goes out. A failure opens it: calls are refused at once until a probe is due, and then one caller
goes out. If that fails too, the next probe waits twice as long, up to `LONGEST_S`; if it succeeds, it is closed.

Time is a parameter, in seconds of any clock that never runs backwards. A probe that never tells how it went (its thread
was killed, its task cancelled) is replaced after `patience_s`. `_mutex` guards who is the probe; all else are single
stores, where the last one wins and none is worse than another.
"""

from __future__ import annotations

import threading

FIRST_S = 0.1
LONGEST_S = 2.0


class Breaker:
    """See the head of this file.

    Args:
        patience_s: how long a call may take.

    Attributes:
        wait_s: how long the last failure keeps it open; 0 when it is closed.
    """

    def __init__(self, patience_s: float) -> None:
        self.wait_s = 0.0
        self._patience_s = patience_s
        self._failed_at_s = 0.0
        self._probe_at_s = 0.0
        self._mutex = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused."""
        return self.wait_s > 0

    def admits(self, now_s: float) -> bool:
        """Whether a call may go out now."""
        return not self.wait_s or self._is_probe(now_s)

    def _is_probe(self, now_s: float) -> bool:
        if now_s < self._probe_at_s or not self._mutex.acquire(blocking=False):
            return False
        try:
            if now_s < self._probe_at_s:
                return False
            self._probe_at_s = now_s + self._patience_s
            return True
        finally:
            self._mutex.release()

    def succeeded(self) -> None:
        """A call was answered."""
        self.wait_s = 0.0

    def failed(self, now_s: float, began_s: float) -> None:
        """A call was not answered.

        Args:
            now_s: this moment.
            began_s: when it went out; what went out before the last failure tells nothing new.
        """
        if self.wait_s and began_s < self._failed_at_s:
            return
        wait_s = min(max(FIRST_S, 2 * self.wait_s), LONGEST_S)
        self._failed_at_s = now_s
        self._probe_at_s = now_s + wait_s
        self.wait_s = wait_s

    def after_fork(self) -> None:
        """In a forked child: the mutex may be held by a thread that is not here."""
        self._mutex = threading.Lock()
