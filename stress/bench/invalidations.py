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
SAMPLES, TIMES = 3, 30
SAME = 1.2


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    sizes = [below for below in BELOW if below <= 100_000 * effort.scale]
    table = []
    for storage, title, most_ns in (("memory", "memory", 5_000.0), ("lmdb", "LMDB", 12_000.0)):
        found = measured(storage, lambda place: _measure(place, sizes, effort))
        first, again, evict = ({int(below): each for below, each in times.items()} for times in found)
        what = f"invalidate, {title}, {{}} entries below"
        table += [limit(what.format(below), again[below], most_ns) for below in sizes]
        most = sizes[-1]
        table.append(compare(what.format(most), again[most], "10 below", again[10], SAME))
        table.append(compare(f"{what.format(most)}, the first", first[most], "10 below", first[10]))
        table += [compare(what.format(below), again[below], "diskcache evict", evict[below]) for below in evict]
    return table


def _measure(place: Place, sizes: list[int], effort: Effort) -> list[dict[int, float]]:
    """For each size: the least of the first invalidations, of all, and of diskcache's evictions."""
    ours = {below: _least_of_ours(below, effort) for below in sizes}
    evicted = [] if "diskcache" in rivals.missing() else [below for below in sizes if below <= RIVAL_BELOW]
    return [
        {below: first for below, (first, _) in ours.items()},
        {below: again for below, (_, again) in ours.items()},
        {below: _least_of_diskcache(place, below) for below in evicted},
    ]


@cacheable(deps=lambda below, key: f"org:{below}:user:{key}")
def _entry(below: int, key: int) -> int:
    return below + key


def _least_of_ours(below: int, effort: Effort) -> tuple[float, float]:
    """Each sample computes all entries anew, warms the path of an invalidation with others' tags, and times some."""
    first = again = float("inf")
    for _ in range(max(SAMPLES, min(effort.samples, MOST_FILLS // below))):
        for key in range(below):
            _entry(below, key)
        for _ in range(20):
            zoocache.invalidate("elsewhere:1")
        times = [_invalidation_ns(f"org:{below}") for _ in range(TIMES)]
        first, again = min(first, times[0]), min(again, *times)
        assert zoocache.get(_entry.key_for(below, 0)) is None
    return first, again


def _invalidation_ns(tag: str) -> int:
    start_ns = time.perf_counter_ns()
    zoocache.invalidate(tag)
    return time.perf_counter_ns() - start_ns


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
