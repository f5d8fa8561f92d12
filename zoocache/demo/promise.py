"""A promise: what was said, what was seen, and whether it held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Promise(NamedTuple):
    """One line of the summary.

    Attributes:
        said: the promise, as a sentence.
        seen: what was measured.
        kept: whether that is what the promise says.
    """

    said: str
    seen: str
    kept: bool


def all_kept(promises: Sequence[Promise]) -> bool:
    """Whether there was something to see, and all of it as promised."""
    return bool(promises) and all(promise.kept for promise in promises)
