"""The proof of a run: a process that reads the events of all threads as they come, and has the checker judge them.

Whoever notes an event does so a moment after it ended. So a read is judged when it is RIPE_NS old, by all that was
noted until then; after the run, the last of them. Nothing is written over unseen: who has no room for an event waits
until this process has taken some (events.py).

With `--history DIRECTORY` the events are also kept in a file there (kept_history.py), and `python -m stress history
FILE` judges its reads again; fills are judged in the run only, for what excuses them is not all in the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stress import kept_history, tree, ways
from stress.events import Event, Ring, events_of, lines
from stress.fleet import spawn, uninterrupted
from stress.history import Checker, Violation, World, check, explain
from stress.once import Once

if TYPE_CHECKING:
    from stress.run import Run

EVERY_S = 0.1
"""Often enough that hardly anybody ever waits for room."""
PATIENCE_S = 8.0
"""So long a lane waits for room: longer than a look ever takes, and shorter than storm takes a run for stuck."""
RIPE_NS = 500_000_000
MOST_REPORTS = 3


def world_of(slots_per_host: int) -> World:
    """The world of all programs that read and write the tree: storm, killer, reboot, soak and partition."""
    return World(tree.reached_by, lambda slot: slot // slots_per_host, ways.OWN_FILL, ways.OLDEST_NS)


def _once_of(run: Run, slots_per_host: int) -> Once:
    overdue_ns = int(run.flight_timeout_s * 1e9)
    if run.options.storage == "memory":
        return Once(lambda fill: fill.process, overdue_ns)
    return Once(lambda fill: fill.slot // slots_per_host, overdue_ns)


class Witness:
    """Reads the rings and judges, in the process of the proof.

    Args:
        run: of a program that reads and writes the tree.
        slots_per_host: so many places of the fleet learn at once what one of them has done.
        is_once: whether all of a host use one segment all the time, so that they compute once (once.py).

    Attributes:
        reads, unexplained: how many there were so far.
    """

    def __init__(self, run: Run, slots_per_host: int, is_once: bool) -> None:
        self.reads = self.unexplained = 0
        self._run = run
        self._world = world_of(slots_per_host)
        self._checker = Checker(self._world)
        self._rings = _rings_of(run)
        self._once = _once_of(run, slots_per_host) if is_once else None
        self._waiting: list[Event] = []
        self._file = _kept_in(Path(run.options.history), run, slots_per_host) if run.options.history else None

    def look(self) -> None:
        """Hear what is new, and judge what was read a while ago."""
        ripe_ns = time.monotonic_ns() - RIPE_NS
        reads = [*self._waiting, *self._hear()]
        self._waiting = [read for read in reads if read.end_ns >= ripe_ns]
        self._judge([read for read in reads if read.end_ns < ripe_ns])
        self._judge_fills(ripe_ns)

    def end(self) -> None:
        """Judge the rest, once nobody is left."""
        self._judge([*self._waiting, *self._hear()])
        self._judge_fills(time.monotonic_ns())
        if self._file is not None:
            self._file.end()

    def _hear(self) -> list[Event]:
        """Take in all that is new; returns the reads. It is taken from all before any of it is looked at, so that who
        waits for room goes on at once."""
        words = [word for ring in self._rings for word in ring.take()]
        if self._file is not None:
            self._file.add(words)
        events = events_of(words)
        self._checker.hear(events)
        if self._once is not None:
            self._once.hear(events)
        return [event for event in events if event.kind == "read"]

    def _judge_fills(self, before_ns: int) -> None:
        pairs = [] if self._once is None else self._once.judge(before_ns)
        for pair in pairs[:MOST_REPORTS]:
            first, second = pair
            began = min(first.filled_ns, second.filled_ns)
            self._run.fail(
                f"TWICE, seed {self._run.options.seed}: key {first.key} was computed twice at once, by way "
                f"{first.way}; the calls began at 0 ms and {abs(first.filled_ns - second.filled_ns) / 1e6:.3f} ms:\n"
                f"{lines(pair, tree.TAGS, began)}"
            )

    @property
    def fills(self) -> int:
        """How many were looked at."""
        return 0 if self._once is None else self._once.fills

    def _judge(self, reads: Sequence[Event]) -> None:
        found = self._checker.judge(reads)
        self.reads += len(reads)
        for violation in found[: max(0, MOST_REPORTS - self.unexplained)]:
            self._report(violation)
        self.unexplained += len({violation.read for violation in found})

    def _report(self, violation: Violation) -> None:
        near = [event for ring in self._rings for event in ring.events()]
        said = explain(violation, near, self._world, tree.TAGS)
        self._run.fail(f"HISTORY, seed {self._run.options.seed}: {said}")


class Proof:
    """A process of its own: its looks take time, in which the supervisor must see who was stopped.

    Args:
        run, slots_per_host, is_once: as above.
    """

    def __init__(self, run: Run, slots_per_host: int, is_once: bool) -> None:
        self._run = run
        for ring in _rings_of(run):
            ring.attend(run.limit_s(PATIENCE_S))
        told, self._tell = os.pipe()
        self._answer, answer = os.pipe()
        with uninterrupted():
            self._pid = spawn(lambda: _attend(Witness(run, slots_per_host, is_once), told, answer))
        os.close(told)
        os.close(answer)

    def end(self) -> None:
        """After the run: have the rest judged, and tell what was seen."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._tell, b".")
        with open(self._answer, "rb", closefd=False) as pipe:
            said = pipe.read()
        if not said:
            self._run.fail("the process that was to judge the history is gone")
            return
        reads, unexplained, fills = json.loads(said)
        self._run.say(f"history: {reads} reads judged, {unexplained} of them unexplained")
        if fills:
            self._run.say(f"once: {fills} fills looked at")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._tell)
        os.close(self._answer)


@contextlib.contextmanager
def proven(run: Run, slots_per_host: int = 0, is_once: bool = False) -> Iterator[Proof]:
    """The proof of a run, which leaves nothing behind.

    Args:
        run: as above.
        slots_per_host: as above; 0: as the options say.
        is_once: as above.
    """
    options = run.options
    proof = Proof(run, slots_per_host or (options.processes if options.hosts > 1 else run.board.shape.slots), is_once)
    try:
        yield proof
    finally:
        proof.close()


def _attend(witness: Witness, told: int, answer: int) -> None:
    while not select.select([told], [], [], EVERY_S)[0]:
        witness.look()
    witness.end()
    os.write(answer, json.dumps((witness.reads, witness.unexplained, witness.fills)).encode())


def _rings_of(run: Run) -> list[Ring]:
    return [*run.board.rings(), run.board.own_ring()]


def _kept_in(directory: Path, run: Run, slots_per_host: int) -> kept_history.Writer:
    """A file for the events of a run."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{run.prefix}.history"
    run.say(f"the history is kept in {path}")
    return kept_history.Writer(path, run.options.seed, slots_per_host)


def main(history: kept_history.History) -> bool:
    """Judge the reads of a run once more; whether everything in its history can be explained."""
    events, world = history.events, world_of(history.slots_per_host)
    began_s = time.monotonic()
    found = check(events, world)
    for violation in found[:MOST_REPORTS]:
        print(f"HISTORY, seed {history.seed}: {explain(violation, events, world, tree.TAGS)}\n")
    reads, took_s = sum(event.kind == "read" for event in events), time.monotonic() - began_s
    cut = "" if history.is_whole else "; the file is cut short: its run did not come to its end"
    print(f"{len(events)} events, {reads} reads, {len(found)} faults; judged in {took_s:.1f} s{cut}")
    return not found
