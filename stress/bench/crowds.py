"""Crowds: whether N processes on one segment have N times the hits of one, as long as there are cores for them.

That is: whether a second of CPU time brings as many hits as with one process. Processes that share nothing at all, with
hits of `functools.lru_cache`, tell what the machine has to give at this moment, by the clock and in a second of CPU
time: two virtual cores that are one physical core, or that heat each other, bring less in it whatever they do. So what
is asked of ours is that they lose no more than these.
"""

from __future__ import annotations

import functools
import mmap
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import zoocache
from stress.bench.place import Place, opened
from stress.bench.table import Row, times
from stress.bench.timing import Effort, loop_of
from stress.fleet import reap, spawn
from zoocache import cacheable

PROCESSES = (1, 2, 4, 8)
BATCH = 5_000
NEAR = 0.9
"""So much of what one process has counts as all of it."""
SETTLE_S = 0.2
SECONDS = 0.25
HITS, CPU_NS, WORDS = 0, 1, 2


class Rate(NamedTuple):
    """Hits of all processes: in a second, and in a second of their CPU time."""

    a_second: float
    a_cpu_second: float


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows. The sizes take turns, and the best of each counts."""
    shared = dict.fromkeys(PROCESSES, Rate(0, 0))
    apart = dict.fromkeys(PROCESSES, Rate(0, 0))
    with opened() as place:
        for _ in range(max(2, effort.samples // 40)):
            for count in PROCESSES:
                shared[count] = _best(shared[count], _rate(lambda: _shared_loop(place), count))
                apart[count] = _best(apart[count], _rate(_lone_loop, count))
    return [_row(count, shared, apart) for count in PROCESSES[1:]]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _best(one: Rate, other: Rate) -> Rate:
    return Rate(*map(max, one, other))


def _row(count: int, shared: dict[int, Rate], apart: dict[int, Rate]) -> Row:
    thrift, most = (rates[count].a_cpu_second / rates[1].a_cpu_second for rates in (shared, apart))
    own, possible = (rates[count].a_second / rates[1].a_second for rates in (shared, apart))
    return Row(
        f"hits of {count} processes in a second of CPU time, memory",
        f"{shared[count].a_cpu_second / 1e6:.2f} million",
        f"1 process {shared[1].a_cpu_second / 1e6:.2f} million, lru_cache {times(most)}; "
        f"by the clock {times(own)}, lru_cache {times(possible)}",
        times(thrift),
        f"≥ {NEAR} x, of lru_cache's",
        "yes" if thrift >= NEAR * min(1.0, most) else "no",
    )


def _rate(make_loop: Callable[[], Callable[[int], object]], count: int) -> Rate:
    words = memoryview(mmap.mmap(-1, count * WORDS * 8)).cast("Q")
    start_s = time.monotonic() + SETTLE_S
    pids = [spawn(functools.partial(_hit, make_loop, words[n * WORDS :], start_s)) for n in range(count)]
    reap(pids)
    hits, cpu_ns = sum(words[HITS::WORDS]), sum(words[CPU_NS::WORDS])
    return Rate(hits / SECONDS, hits / (cpu_ns / 1e9))


def _hit(make_loop: Callable[[], Callable[[int], object]], words: memoryview, start_s: float) -> None:
    loop = make_loop()
    loop(BATCH)
    time.sleep(max(0.0, start_s - time.monotonic()))
    cpu_ns, hits = time.process_time_ns(), 0
    while time.monotonic() < start_s + SECONDS:
        loop(BATCH)
        hits += BATCH
    words[HITS], words[CPU_NS] = hits, time.process_time_ns() - cpu_ns
    zoocache.reset()


@cacheable(deps=lambda key: f"org:1:user:{key}")
def _entry(key: int) -> int:
    return key


def _shared_loop(place: Place) -> Callable[[int], object]:
    zoocache.configure(**place.settings("memory"))
    return loop_of("call(7)", call=_entry)


def _lone_loop() -> Callable[[int], object]:
    return loop_of("call(7)", call=functools.lru_cache(maxsize=64)(_entry.__wrapped__))
