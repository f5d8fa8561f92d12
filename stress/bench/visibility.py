"""From an invalidation on one host to the first call on another that sees it.

One process invalidates, and notes when it began to. Another, on another host, calls the function every tenth of a
millisecond, and notes when it began the call that got the next value: what computing it costs is not counted. Both
clocks are the machine's one.
"""

from __future__ import annotations

import functools
import mmap
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import zoocache
from stress.bench.place import PATIENCE_S, Place
from stress.bench.server import be_host
from stress.bench.table import Row, duration, limit
from stress.bench.timing import Effort
from stress.fleet import ask, reap, spawn
from zoocache import cacheable

MOST_P50_NS, MOST_P99_NS = 2e6, 10e6
LONG_IDLE_S, SHORT_IDLE_S = 60.0, 1.0
LOOK_S = 0.0001
PAUSE_S = 0.02
"""Between two samples of a quiet host."""
A_SECOND = 1000
EVERY = 20
"""So many invalidations of a busy host come to one sample."""
ROUND, SEEN, SEEN_NS, READY, HALT = range(5)


class Times(NamedTuple):
    """Nanoseconds: of the first sample after a pause, of those after it, of those amid others; and their rate."""

    first: int
    quiet: list[int]
    busy: list[int]
    a_second: float


def rows(place: Place, url: str, storage: str, effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    idle_s = LONG_IDLE_S if effort.scale == 1 else SHORT_IDLE_S
    found = Times(*_measure(place, url, storage, idle_s, effort.samples))
    what = f"invalidation to visibility on another host, {'Redis' if storage == 'redis' else storage}"
    busy = f"amid {found.a_second:.0f} a second"
    first = Row(f"{what}, the first after {idle_s:g} s", duration(found.first))
    return [first, *_two(f"{what}, idle", found.quiet), *_two(f"{what}, {busy}", found.busy)]


def _two(what: str, times: list[int]) -> list[Row]:
    ordered = sorted(times)
    p50, p99 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    rest = f"{len(ordered)} samples"
    return [limit(f"{what}, p50", p50, MOST_P50_NS, rest), limit(f"{what}, p99", p99, MOST_P99_NS, rest)]


def _measure(place: Place, url: str, storage: str, idle_s: float, samples: int) -> Any:
    words = memoryview(mmap.mmap(-1, 8 * 8)).cast("Q")
    options = {"storage_url": url} if storage == "redis" else {}

    def host(host_id: str, work: Callable[[], Any]) -> Callable[[], Any]:
        return functools.partial(be_host, place, storage, work, bus_url=url, host_id=host_id, **options)

    watcher = spawn(host("there", lambda: _watch(words)))
    try:
        return ask(host("here", lambda: _send(words, idle_s, samples)), PATIENCE_S)
    finally:
        words[HALT] = 1
        reap([watcher])


def _function(words: memoryview) -> Any:
    @cacheable(deps="seen:probe")
    def probe() -> int:
        return words[ROUND]

    return probe


def _watch(words: memoryview) -> None:
    """On the other host."""
    probe = _function(words)
    words[READY] = 1
    while not words[HALT]:
        start_ns, value = time.perf_counter_ns(), probe()
        if value != words[SEEN]:
            words[SEEN_NS] = start_ns
            words[SEEN] = value
        time.sleep(LOOK_S)


def _send(words: memoryview, idle_s: float, samples: int) -> Times:
    """On this host."""
    while not words[READY]:
        time.sleep(LOOK_S)
    _sample(words)
    time.sleep(idle_s)
    first = _sample(words)
    quiet = [_after_a_pause(words) for _ in range(samples)]
    start_s = time.monotonic()
    busy = [_amid_others(words, number, start_s) for number in range(samples)]
    return Times(first, quiet, busy, samples * EVERY / (time.monotonic() - start_s))


def _after_a_pause(words: memoryview) -> int:
    time.sleep(PAUSE_S)
    return _sample(words)


def _amid_others(words: memoryview, number: int, start_s: float) -> int:
    """One sample after the others that were due before it."""
    for other in range(1, EVERY):
        due_s = start_s + (number * EVERY + other) / A_SECOND
        time.sleep(max(0.0, due_s - time.monotonic()))
        zoocache.invalidate(f"seen:other:{other}")
    return _sample(words)


def _sample(words: memoryview) -> int:
    """Nanoseconds until the other host has seen it."""
    words[ROUND] += 1
    start_ns = time.perf_counter_ns()
    zoocache.invalidate("seen:probe")
    until_ns = start_ns + int(PATIENCE_S * 1e9)
    while words[SEEN] != words[ROUND]:
        if time.perf_counter_ns() > until_ns:
            raise TimeoutError("the other host never saw it")
        time.sleep(LOOK_S)
    return int(words[SEEN_NS]) - start_ns
