"""Misses: what a call costs above the function itself when nothing is kept for it yet."""

from __future__ import annotations

import itertools
from typing import Any

from stress.bench import rivals
from stress.bench.place import Place, measured
from stress.bench.table import Row, compare, limit
from stress.bench.timing import Effort, sample_ns
from zoocache import cacheable

CALLS = 1000
SLOW_CALLS = 50
SLOW = "diskcache"


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
    best = dict.fromkeys([*functions, "function"], float("inf"))
    fresh = itertools.count(1)
    for _ in range(effort.samples):
        best["function"] = min(best["function"], _sample(get, fresh, CALLS))
        for name, function in functions.items():
            best[name] = min(best[name], _sample(function, fresh, SLOW_CALLS if name == SLOW else CALLS))
    itself = best.pop("function")
    return {name: nanoseconds - itself for name, nanoseconds in best.items()}


def _sample(function: Any, fresh: itertools.count[int], calls: int) -> float:
    """Calls with arguments that nobody had before."""
    keys = list(itertools.islice(fresh, calls))

    def loop(_: int) -> None:
        for key in keys:
            function(key)

    return sample_ns(loop, 1) / calls
