"""The demo's time: when each act should be over, and how late this machine wakes a sleeper."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

NAP_S = 0.02

DELAYS = 5
"""Whoever waits for another process is woken a few times in a row: to look, to lock, to compute, to keep, to answer."""


class Pace:
    """When the parts of the demo should be over.

    Args:
        seconds: that the whole should take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start_s = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start_s

    def left_s(self, share: float) -> float:
        """Seconds until that share of the time is over; 0 if it is."""
        return max(0.0, self._seconds * share - self.elapsed_s())

    def part_s(self, share: float, least_s: float, most_s: float) -> float:
        """So many seconds are that share of the whole, within bounds."""
        return min(most_s, max(least_s, self._seconds * share))


class Sleeper:
    """The control of the experiment: a thread that wants nothing from the cache but a nap, again and again.

    What it oversleeps is the machine's doing, so that a promise of a second is not broken by a machine that stands
    still for two. Each process of the demo has one: a machine that has too much to do need not hold up all of them. One
    writer (the thread), one reader; a float is one object, so nothing is torn.

    Attributes:
        worst_s: the most that it has overslept.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()

    def _sleep(self) -> None:
        while not self._done.is_set():
            began_s = time.monotonic()
            time.sleep(NAP_S)
            self.worst_s = max(self.worst_s, time.monotonic() - began_s - NAP_S)

    def allowed_s(self, promised_s: float, overslept_s: Iterable[float]) -> float:
        """What a promised wait may be on this machine.

        Args:
            promised_s: on one that has time.
            overslept_s: the worst of the processes that waited.
        """
        return promised_s + DELAYS * max([self.worst_s, *overslept_s])

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()
