"""Time, for tests that must not fail because a machine was slow: an attempt that was held up is made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.children import DEADLINE_S

T = TypeVar("T")


class Disturbed(Exception):
    """So long a pause came into an attempt that nothing can be told from it."""


class Watch:
    """Notices when too much time passes between two looks.

    Args:
        longest_s: the longest pause that does no harm.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self.start_s = self._last_s = time.monotonic()

    def look(self) -> float:
        """How long it has been since the beginning.

        Raises:
            Disturbed: since the last look it was too long.
        """
        now_s = time.monotonic()
        last_s, self._last_s = self._last_s, now_s
        if now_s - last_s > self._longest_s:
            raise Disturbed
        return now_s - self.start_s


def undisturbed(attempt: Callable[[int], T]) -> T:
    """Make an attempt, again if it was disturbed; it is given its number, from 0."""
    end_s, number = time.monotonic() + DEADLINE_S, 0
    while True:
        try:
            return attempt(number)
        except Disturbed:  # noqa: PERF203  # that is what the loop is for
            assert time.monotonic() < end_s, "the machine is too busy to tell"
            number += 1
