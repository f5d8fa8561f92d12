"""soak: hours of mixed load, by --seconds; memory, descriptors, threads and shared memory must stay flat.

The processes are storm's, with one more thread each, the host of guests: threads and event loops that come, use the
cache once and go, and calls that nobody repeats, each with a tag of its own. All that is kept has a bound, so after a
warm-up nothing may grow: see meters.py for what is watched, and how far is too far. A run of less than JUDGED_S is too
short for that; then only the bounds of shared memory and LMDB are looked at, and storm's promises as always.
"""

from __future__ import annotations

import asyncio
import gc
import time

import zoocache
from stress import meters, tree, ways
from stress.board import L_BUSY, S_PID, Shape
from stress.fleet import Fleet
from stress.meters import Series
from stress.proof import proven
from stress.reading import Looper, Reader
from stress.run import Lane, Options, Run, opened
from stress.server import listener_of, served
from stress.storm import FLIGHT_TIMEOUT_S, TICK_S, Watch, conclude, leave, read_all
from stress.summary import objects_of
from stress.threads import in_thread, run_together
from stress.ways import ASYNC_WAYS, Way
from stress.writing import Writer
from zoocache import cacheable
from zoocache.shm.layout import MIN_SIZE

READERS = 2
LANES = 1 + READERS + 1 + 1

MOST_ENTRIES = 2000
MAP_SIZE = 8 * 2**20
PRUNE_AFTER_S, PRUNE_EVERY_S = 1.0, 1.0

JUDGED_S = 30.0
READ_EVERY_S = 0.5
MOST_READINGS = 1000
MOST_OBJECTS = 3
"""Segment, gate, and the semaphore that wakes a listener."""
SEMAPHORE_BYTES = 4096

PAUSES_S = (0.0, 0.001, 0.005)
LETTERS = "x" * 200
DROPPED_PART = 0.1


@cacheable(deps=lambda slot, number: f"fleeting:{slot}:{number}")
def fleeting(slot: int, number: int) -> str:
    """What nobody asks for again."""
    return f"{slot} {number} {LETTERS}"


class PatientWriter(Writer):
    """Writes for hours, in which the machine may have much else to do for a moment."""

    alone_s = 5.0


class Guests(Reader):
    """Threads, loops and calls that come once."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self._cells = lane.run.board.cells(lane.slot)

    def run(self) -> None:
        """Be their host until the run is over."""
        chance = self.lane.chance
        while self.lane.goes_on():
            chance.choices((self._pass_by, self._visit, self._loop), (20, 3, 2))[0]()
            time.sleep(chance.choice(PAUSES_S))

    def _pass_by(self) -> None:
        slot, number = self.lane.slot, self._cells[0]
        self._cells[0] = number + 1
        if (found := fleeting(slot, number)) != f"{slot} {number} {LETTERS}":
            self.lane.run.fail(f"fleeting({slot}, {number}) was {found!r}, {self.lane}")
        if self.lane.chance.random() < DROPPED_PART:
            try:
                zoocache.invalidate(f"fleeting:{slot}:{number}")
            except self.gives_up:
                self.lane.counters[L_BUSY] += 1

    def _visit(self) -> None:
        in_thread(self.read_any, self.lane).join()

    def _loop(self) -> None:
        chance = self.lane.chance
        asyncio.run(self._read_once(chance.choice(ASYNC_WAYS), chance.choice(tree.ANIMAL_KEYS)))

    async def _read_once(self, way: Way, key: int) -> None:
        await self.read_async(way, key)


def work(run: Run, slot: int) -> None:
    """What a process of the fleet does until the run is over."""
    gc.collect()  # it writes to every object: what a forked child shares with its parent is its own from here on
    run.settle(
        max_entries=MOST_ENTRIES, lmdb_map_size=MAP_SIZE, prune_after=PRUNE_AFTER_S, auto_prune_interval=PRUNE_EVERY_S
    )
    writer, *readers, looper, host = [Lane(run, slot, number) for number in range(LANES)]
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("fills", slot)
    run_together(PatientWriter(writer), [*map(Reader, readers), Looper(looper), Guests(host)])


def main(options: Options) -> bool:
    """Run soak; whether all promises held."""
    shape = Shape(options.processes, LANES, tree.KEYS, cells=1)
    with opened(options, shape, FLIGHT_TIMEOUT_S) as run, proven(run) as proof, served(run):
        fleet = Fleet(run.board, lambda slot: work(run, slot), run.directory)
        series = Series()
        try:
            for slot in range(options.processes):
                fleet.start(slot)
            _watch(run, fleet, series)
            leave(run, fleet)
        finally:
            fleet.end()
        _tell(run, series)
        proof.end()
        return conclude(run, lambda: read_all(run))


def _watch(run: Run, fleet: Fleet, series: Series) -> None:
    """Read the meters now and then, from when all are at work."""
    last: dict[str, float] = {}
    watch = Watch(run, lambda: f", pss {sum(v for k, v in last.items() if k.startswith('pss')) / meters.MIB:.0f} MiB")
    start_s, next_s = time.monotonic(), 0.0
    while time.monotonic() < start_s + run.options.seconds and not run.failed:
        time.sleep(TICK_S)
        for departure in fleet.look():
            run.fail(f"process {departure.member.pid} ended with {departure.status}, seed {run.options.seed}")
        watch.look(fleet)
        if time.monotonic() >= next_s and all(map(fleet.is_ready, fleet.members)):
            next_s = time.monotonic() + max(READ_EVERY_S, run.options.seconds / MOST_READINGS)
            last = _readings(run)
            series.note(time.monotonic() - start_s, last)
            _judge_bounds(run, last)


def _readings(run: Run) -> dict[str, float]:
    """Of all meters at this moment."""
    board, objects = run.board, objects_of(run.prefix)
    pids = {f"worker {slot}": board.slot(slot)[S_PID] for slot in range(board.shape.slots)}
    if listener := listener_of(run.prefix):
        pids["the listener"] = listener
    found = {
        f"{name} of {who}": reading for who, pid in pids.items() for name, reading in meters.of_process(pid).items()
    }  # fmt: skip
    if server := meters.of_process(run.server_pid):
        found["server"] = server["rss"]  # alone: it has a connection for each loop that comes and goes
    return found | {
        "shm bytes": float(sum(objects.values())), "shm objects": float(len(objects)),
        "lmdb bytes": meters.of_files(run.directory),
    }  # fmt: skip


def _judge_bounds(run: Run, readings: dict[str, float]) -> None:
    """What may never be exceeded, however short the run is."""
    bounds = {
        "shm objects": MOST_OBJECTS, "shm bytes": MIN_SIZE + MOST_OBJECTS * SEMAPHORE_BYTES,
        "lmdb bytes": MAP_SIZE * 1.1 + meters.MIB,
    }  # fmt: skip
    for name, bound in bounds.items():
        if readings[name] > bound:
            run.fail(f"{name}: {readings[name]:.0f}, more than {bound:.0f}; seed {run.options.seed}")


def _tell(run: Run, series: Series) -> None:
    """Judge whether all is flat, and show what stood where."""
    if run.options.seconds < JUDGED_S:
        run.say(f"{run.options.seconds:g} s are too short to judge growth")
        return
    for name, (before, after) in series.judged(run.options.seconds).items():
        run.say(f"  {name}: {before / meters.MIB:.2f} MiB, then {after / meters.MIB:.2f}" if before >= meters.MIB
                else f"  {name}: {before:g}, then {after:g}")  # fmt: skip
    for report in series.grown(run.options.seconds):
        run.fail(f"GROWTH, seed {run.options.seed}: {report}")
