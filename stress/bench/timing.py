"""Timing: the least of many samples, the candidates taking turns."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Effort(NamedTuple):
    """How much is spent on a measurement.

    Attributes:
        samples: of each candidate.
        sample_s: how long one takes.
        scale: multiplies sizes of what is built up, from 0 to 1.
    """

    samples: int
    sample_s: float
    scale: float


FULL = Effort(240, 0.001, 1.0)
QUICK = Effort(40, 0.001, 0.1)
"""Samples are shorter than what the kernel gives a process at a time, so that many are whole on a busy machine."""

Loop = Callable[[int], object]
"""Does the thing so many times."""


def loop_of(statement: str, **names: object) -> Loop:
    """A loop over a statement, as `timeit` makes it.

    Args:
        statement: a line of Python.
        **names: what it may use.
    """
    scope: dict[str, Loop] = {}
    arguments = ", ".join(f"{name}={name}" for name in names)
    exec(  # noqa: S102  # the statements stand in this package
        f"def loop(count, {arguments}):\n    for _ in range(count):\n        {statement}\n", dict(names), scope
    )
    return scope["loop"]


def race(candidates: Mapping[str, Loop], effort: Effort) -> dict[str, float]:
    """Measure candidates side by side.

    Args:
        candidates: by name.
        effort: how much to spend.

    Returns:
        Nanoseconds for one turn of each loop, at best.
    """
    counts = {name: _count_for(loop, effort.sample_s) for name, loop in candidates.items()}
    best = dict.fromkeys(candidates, float("inf"))
    turns, chance = list(candidates.items()), random.Random(7)
    for _ in range(effort.samples):
        chance.shuffle(turns)  # or one of them might always come after what cools the caches, or slows the core
        for name, loop in turns:
            best[name] = min(best[name], sample_ns(loop, counts[name]))
    return best


def sample_ns(loop: Loop, count: int) -> float:
    """Nanoseconds for one turn of a loop, with the garbage collector quiet."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        start_ns = time.perf_counter_ns()
        loop(count)
        return (time.perf_counter_ns() - start_ns) / count
    finally:
        if was_enabled:
            gc.enable()


def _count_for(loop: Loop, sample_s: float) -> int:
    """How many turns make a sample."""
    count = 1
    while sample_ns(loop, count) * count < sample_s * 1e9 / 4:
        count *= 4
    return max(1, round(sample_s * 1e9 / sample_ns(loop, count)))
