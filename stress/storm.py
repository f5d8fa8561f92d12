"""storm: readers and writers over a small tree of tags; nothing that is read may be older than what was finished.

Each process has one writer, READERS readers in threads, and a loop with tasks that read. The segment is as small as it
may be, so tags give way for want of room all the time. Late dependencies, nested calls, several tags, names that are
set and deleted, refresh, short lives, prune and clear are mixed in by the seed. See oracle.py for the judgement.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stress import once, oracle, tree, ways
from stress.board import (
    L_BUSY,
    L_FILLS,
    L_HITS,
    L_LONGEST_HIT_NS,
    L_LONGEST_WRITE_NS,
    L_RAISED,
    L_READS,
    L_SINCE_NS,
    L_WRITES,
    Shape,
)
from stress.fleet import Fleet
from stress.proof import proven
from stress.reading import Looper, Reader
from stress.run import Lane, Options, Run, opened
from stress.server import served
from stress.threads import run_together
from stress.verdict import pass_verdict
from stress.writing import Writer

READERS = 2
LANES = 1 + READERS + 1

FLIGHT_TIMEOUT_S = 5.0
TICK_S = 0.05
STUCK_S = 10.0
"""So long no read and no write may be under way, and the fleet may be without a finished write; one operation may wait
for two locks, and for a flight that is given up."""
LEAVE_S = 15.0
LONGEST_HIT_S = 2.0
LONGEST_WRITE_S = 10.0
"""A write waits for at most two locks, one in the store and one in the segment, each with a time-out of two seconds."""


def work(run: Run, slot: int) -> None:
    """What a process of the fleet does until the run is over."""
    once.listen()
    run.settle()
    lanes = [Lane(run, slot, number) for number in range(LANES)]
    writer, *readers, looper = lanes
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("fills", slot)
    run_together(Writer(writer), [*map(Reader, readers), Looper(looper)])


def main(options: Options) -> bool:
    """Run storm; whether all promises held."""
    shape = Shape(options.processes, LANES, tree.KEYS)
    with opened(options, shape, FLIGHT_TIMEOUT_S) as run, served(run), proven(run, is_once=True) as proof:
        have_done(run, work, Watch(run))
        proof.end()
        return conclude(run, lambda: read_all(run))


def have_done(run: Run, do: Callable[[Run, int], None], watch: Watch) -> None:
    """Have a fleet in which nobody is killed do something until time is over, and let it end in order."""
    fleet = Fleet(run.board, lambda slot: do(run, slot), run.directory)
    try:
        for slot in range(run.options.processes):
            fleet.start(slot)
        _watch(run, fleet, watch)
        leave(run, fleet)
    finally:
        fleet.end()


def _watch(run: Run, fleet: Fleet, watch: Watch) -> None:
    end_s = time.monotonic() + run.options.seconds
    while run.goes_on(end_s, watch.done()):
        time.sleep(TICK_S)
        for departure in fleet.look():
            if not run.failed:  # who has reported a failure leaves, and so do the others
                run.fail(f"process {departure.member.pid} ended with {departure.status}, seed {run.options.seed}")
        watch.look(fleet)


class Watch:
    """Sees to it that the fleet gets on, and tells how far it is.

    Args:
        run: the run.
        also: what the program itself has to tell with each line of progress.
        done: how much it has done of what it is there for.
    """

    def __init__(self, run: Run, also: Callable[[], str] = str, done: Callable[[], int] = int) -> None:
        self.done = done
        self._run = run
        self._also = also
        self._start_s = time.monotonic()
        self._writes, self._written_ns = 0, time.monotonic_ns()

    def look(self, fleet: Fleet) -> None:
        """Show the progress; a failure if somebody is at one operation for too long, or no write comes to its end."""
        board = self._run.board
        now_ns = time.monotonic_ns()
        if board.total(L_WRITES) != self._writes:
            self._writes, self._written_ns = board.total(L_WRITES), now_ns
        if now_ns - self._written_ns > self._run.limit_s(STUCK_S) * 1e9:
            stuck(self._run, fleet, f"no write has come to its end for {STUCK_S:g} s")
        since_ns = board.earliest(L_SINCE_NS) or now_ns
        if now_ns - since_ns > self._run.limit_s(STUCK_S) * 1e9:
            stuck(self._run, fleet, f"an operation has been under way for {STUCK_S:g} s")
        self._run.progress(
            f"{now_ns / 1e9 - self._start_s:5.0f} s  {board.total(L_READS)} reads, {board.total(L_HITS)} hits, "
            f"{board.total(L_FILLS)} fills, {board.total(L_WRITES)} writes{self._also()}"
        )


def stuck(run: Run, fleet: Fleet, what: str) -> None:
    """Report that the fleet does not get on, with the place where each of its threads stands."""
    stacks = "\n".join(f"slot {slot}:\n{fleet.stacks(member)}" for slot, member in fleet.members.items())
    run.fail(f"STUCK, seed {run.options.seed}: {what}\n{stacks}")


def leave(run: Run, fleet: Fleet) -> None:
    """Let the fleet end in order; a failure if somebody does not. After a failure there is nothing to wait for."""
    run.halt()
    if run.failed:
        return
    end_s = time.monotonic() + run.limit_s(LEAVE_S)
    while fleet.members and time.monotonic() < end_s:
        for departure in fleet.look():
            if departure.status and not departure.member.killed:
                run.fail(f"process {departure.member.pid} ended with {departure.status}, seed {run.options.seed}")
        time.sleep(TICK_S / 5)
    if fleet.members:
        stuck(run, fleet, f"{len(fleet.members)} processes do not leave")


def conclude(run: Run, last_look: Callable[[], list[str]], settle: Callable[[], None] | None = None) -> bool:
    """Judge what was measured and what is left, and sum up; whether all promises held.

    Args:
        run: all its processes are gone.
        last_look, settle: see `pass_verdict`.
    """
    board = run.board
    hit_s, write_s = board.longest(L_LONGEST_HIT_NS) / 1e9, board.longest(L_LONGEST_WRITE_NS) / 1e9
    if hit_s > run.limit_s(LONGEST_HIT_S):
        run.fail(f"a hit took {hit_s:.3f} s, seed {run.options.seed}")
    if write_s > run.limit_s(LONGEST_WRITE_S):
        run.fail(f"a write took {write_s:.3f} s, seed {run.options.seed}")
    run.say(
        f"{board.total(L_READS)} reads, {board.total(L_HITS)} of them hits, {board.total(L_RAISED)} raised as planned; "
        f"{board.total(L_WRITES)} writes, {board.total(L_BUSY)} gave up at the time-out"
    )
    pass_verdict(run, last_look, settle)
    return run.all_held()


def read_all(run: Run) -> list[str]:
    """A last read of every key in every way, with the whole truth finished or not."""
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("last")
    return [fault for way in ways.WAYS for key in tree.ANIMAL_KEYS for fault in _faults_of(run, way, key)]


def _faults_of(run: Run, way: ways.Way, key: int) -> list[str]:
    reading = oracle.Reading(run.board, way.covers(key))
    try:
        reading.judge(way.call(key))
    except ways.Planned:
        return []
    except oracle.Wrong as wrong:
        return [f"{wrong}\n{oracle.history(run.board, key)}"]
    return []
