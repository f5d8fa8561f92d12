"""Invalidations: of a tag with 10, 1 000 and 100 000 entries below it."""

from __future__ import annotations

import time
from typing import Any

import zoocache
from stress.bench import rivals
from stress.bench.place import Place, measured
from stress.bench.table import Row, compare, limit
from stress.bench.timing import Effort
from zoocache import cacheable

BELOW = (10, 1_000, 100_000)
MOST_FILLS = 50_000
"""So many entries are computed for the samples of one size, at most."""
RIVAL_BELOW = 1_000
"""diskcache needs long to fill and to empty; beyond this it is not measured."""
SAME = 1.2


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    sizes = [below for below in BELOW if below <= 100_000 * effort.scale]
    table = []
    for storage, title, most_ns in (("memory", "memory", 5_000.0), ("lmdb", "LMDB", 12_000.0)):
        found = measured(storage, lambda place: _measure(place, sizes, effort))
        own = {int(below): nanoseconds for below, nanoseconds in found["zoocache"].items()}
        for below, nanoseconds in own.items():
            table.append(limit(f"invalidate, {title}, {below} entries below", nanoseconds, most_ns))
        table.append(
            compare(f"invalidate, {title}, {sizes[-1]} entries below", own[sizes[-1]], "10 below", own[10], SAME)
        )
        table += [
            compare(f"invalidate, {title}, {below} entries below", own[int(below)], "diskcache evict", other)
            for below, other in found["diskcache"].items()
        ]
    return table


def _measure(place: Place, sizes: list[int], effort: Effort) -> dict[str, dict[int, float]]:
    return {
        "zoocache": {below: _least_of_ours(below, effort) for below in sizes},
        "diskcache": {below: _least_of_diskcache(place, below) for below in sizes if below <= RIVAL_BELOW}
        if "diskcache" not in rivals.missing() else {},
    }  # fmt: skip


@cacheable(deps=lambda below, key: f"org:{below}:user:{key}")
def _entry(below: int, key: int) -> int:
    return below + key


def _least_of_ours(below: int, effort: Effort) -> float:
    """Each sample computes all entries anew, warms the path of an invalidation with others' tags, and times one."""
    best = float("inf")
    for _ in range(max(2, min(effort.samples, MOST_FILLS // below))):
        for key in range(below):
            _entry(below, key)
        for _ in range(20):
            zoocache.invalidate("elsewhere:1")
        start_ns = time.perf_counter_ns()
        zoocache.invalidate(f"org:{below}")
        best = min(best, time.perf_counter_ns() - start_ns)
        assert zoocache.get(_entry.key_for(below, 0)) is None
    return best


def _least_of_diskcache(place: Place, below: int) -> float:
    cache: Any = rivals.disk_cache(place.directory)
    best = float("inf")
    for _ in range(2):
        for key in range(below):
            cache.set(key, key, tag="org")
        start_ns = time.perf_counter_ns()
        cache.evict("org")
        best = min(best, time.perf_counter_ns() - start_ns)
    cache.close()
    return best
