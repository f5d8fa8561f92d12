"""Misses: what a call costs above the function itself when nothing is kept for it yet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from stress.bench import rivals
from stress.bench.place import Place, measured
from stress.bench.table import Row, compare, limit
from stress.bench.timing import Effort, sample_ns
from zoocache import cacheable

MOST_CALLS = 1000


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    table = []
    for storage, title, most_ns in (("memory", "memory", 13_000.0), ("lmdb", "LMDB", 25_000.0)):
        found = measured(storage, lambda place: _measure(place, effort))
        own = found.pop("zoocache")
        table.append(limit(f"miss, {title}, above the function", own, most_ns))
        table += [compare(f"miss, {title}, above the function", own, name, other) for name, other in found.items()]
    return table


def _measure(place: Place, effort: Effort) -> dict[str, float]:
    def get(key: int) -> int:
        return key

    functions = {
        name: decorate(get) for name, decorate in {**rivals.in_memory(), **rivals.on_disk(place.directory)}.items()
    }
    functions["zoocache"] = cacheable(deps=lambda key: f"user:{key}")(get)
    return above(get, functions, effort)


def above(function: Callable[[int], int], decorated: Mapping[str, Any], effort: Effort) -> dict[str, float]:
    """Nanoseconds that a miss of each of these costs above the function itself.

    Args:
        function: without a cache.
        decorated: it in caches, by name.
        effort: how much to spend.
    """
    functions = {**decorated, "function": function}
    fresh = itertools.count(1)
    calls = {name: _calls_for(each, fresh, effort.sample_s) for name, each in functions.items()}
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(effort.samples):
        for name, each in functions.items():
            best[name] = min(best[name], _sample(each, fresh, calls[name]))
    itself = best.pop("function")
    return {name: nanoseconds - itself for name, nanoseconds in best.items()}


def _calls_for(function: Any, fresh: itertools.count[int], sample_s: float) -> int:
    """How many calls make a sample."""
    least_ns = min(_sample(function, fresh, 10) for _ in range(10))
    return min(MOST_CALLS, max(4, round(sample_s * 1e9 / least_ns)))


def _sample(function: Any, fresh: itertools.count[int], calls: int) -> float:
    """Calls with arguments that nobody had before."""
    keys = list(itertools.islice(fresh, calls))

    def loop(_: int) -> None:
        for key in keys:
            function(key)

    return sample_ns(loop, 1) / calls
