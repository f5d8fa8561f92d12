"""herd: many processes, threads and tasks want the same cold keys at the same moment; one fill a key and round.

In each round one process invalidates, then all call at once. With LMDB one fill runs for each key on the whole host, in
memory one in each process. What the fill does changes from round to round:

    VALUE   it returns: everybody gets that
    RAISE   once all others wait, it raises: the callers of its process get that very exception, those of other
            processes a FillFailed that tells of it, and nobody runs the function again
    KILL    its process is killed in the middle: with LMDB exactly one of those who waited computes instead, within a
            second; in memory the others are not concerned

The rounds are judged here, by the words that fills and callers leave on the board; see crowd.py for the processes.
"""

from __future__ import annotations

import random
import signal
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from stress import crowd
from stress.board import Shape
from stress.crowd import BEGAN_NS, BEGUN, CALLERS, CELLS, DONE, GOT, KILL, KILLED_NS, KINDS, OWN, RAISE, TOLD, VALUE
from stress.fleet import Fleet
from stress.run import Options, Run, opened
from stress.storm import leave, stuck
from stress.verdict import pass_verdict

TICK_S = 0.001
ROUND_S = 15.0
READY_S = 15.0
HEIR_S = 1.0
WEIGHTS = (12, 4, 3)  # of VALUE, RAISE, KILL


@dataclass
class Score:
    """What a run saw."""

    rounds: Counter[int] = field(default_factory=Counter)
    fills: int = 0
    calls: int = 0
    heirs: int = 0
    longest_heir_s: float = 0.0


def main(options: Options) -> bool:
    """Run herd; whether all promises held."""
    shape = Shape(options.processes, crowd.LANES, cells=crowd.WORDS)
    with opened(options, shape) as run:
        fleet = Fleet(run.board, lambda slot: crowd.main(run, slot), run.directory)
        score = Score()
        try:
            _drive(run, fleet, score)
            leave(run, fleet)
        finally:
            fleet.end()
        _tell(run, score)
        pass_verdict(run)
        return run.all_held()


def _tell(run: Run, score: Score) -> None:
    run.expect_some("rounds", score.rounds.total())
    rounds = ", ".join(f"{score.rounds[kind]} {name}" for kind, name in KINDS.items())
    run.say(f"rounds: {rounds}; {score.calls} calls, {score.fills} fills")
    longest = f"{score.longest_heir_s * 1e3:.0f} ms" if score.heirs else "-"
    run.say(f"{score.heirs} fills went on to a follower, the longest wait for one was {longest}")


def _drive(run: Run, fleet: Fleet, score: Score) -> None:
    chance = run.chance("rounds")
    start_s = time.monotonic()
    number = 0
    while not number or run.goes_on(start_s + run.options.seconds, _least_of(run, score)):
        if not _fill_places(run, fleet):
            return
        number += 1
        one = Round(run, fleet, number, chance)
        if one.play():
            one.judge(score)
        run.progress(f"{time.monotonic() - start_s:5.0f} s  {number} rounds, {score.calls} calls, {score.fills} fills")


def _least_of(run: Run, score: Score) -> int:
    """How many rounds there were of the kind of which there were fewest."""
    return min(score.rounds[kind] for kind in kinds_of(run))


def kinds_of(run: Run) -> tuple[int, ...]:
    """The kinds of rounds that a run has: where one process is alone, none is killed."""
    return (VALUE, RAISE, KILL) if run.options.processes > 1 else (VALUE, RAISE)


def _fill_places(run: Run, fleet: Fleet) -> bool:
    """Start who is missing, and wait until all are at work."""
    for slot in range(run.options.processes):
        if slot not in fleet.members:
            fleet.start(slot)
    return _until(run, fleet, READY_S, "processes do not get to work", lambda: all(map(fleet.is_ready, fleet.members)))


def _until(run: Run, fleet: Fleet, seconds: float, otherwise: str, holds: Callable[[], bool]) -> bool:
    """Wait until something holds; whether it came to that before time was over or somebody failed."""
    end_s = time.monotonic() + run.limit_s(seconds)
    while not holds():
        if run.failed:
            return False
        if time.monotonic() > end_s:
            stuck(run, fleet, otherwise)
            return False
        time.sleep(TICK_S)
    return True


class Round:
    """One round.

    Args:
        run, fleet: its processes are all at work.
        number: from 1.
        chance: says what kind it is.
    """

    def __init__(self, run: Run, fleet: Fleet, number: int, chance: random.Random) -> None:
        kinds = kinds_of(run)
        self.kind = chance.choices(kinds, WEIGHTS[: len(kinds)])[0]
        self._run, self._fleet, self._number = run, fleet, number
        self._control = run.board.control
        self._victim = chance.choice(CELLS)
        self._slots = list(fleet.members)
        self._in_store = run.options.storage != "memory"
        self._dead: int | None = None
        self._control[crowd.C_KIND] = self.kind
        self._control[crowd.C_VICTIM_CELL] = self._victim
        self._control[crowd.C_VICTIM_SLOT] = chance.choice(self._slots)
        self._control[crowd.C_OPENER] = chance.choice(self._slots)

    def play(self) -> bool:
        """Open it, begin it, and wait until all calls have ended; whether they did."""
        for slot in self._slots:
            self._run.board.cells(slot)[: crowd.OUTCOMES_AT] = memoryview(array("Q", bytes(crowd.OUTCOMES_AT * 8)))
        self._control[crowd.C_OPEN] = self._number
        if not self._until("nobody opens the round", lambda: self._control[crowd.C_OPENED] == self._number):
            return False
        self._control[crowd.C_ROUND] = self._number
        return self._until(f"calls of round {self._number} ({KINDS[self.kind]}) do not end", self._is_over)

    def _until(self, otherwise: str, holds: Callable[[], bool]) -> bool:
        return _until(self._run, self._fleet, ROUND_S, otherwise, holds)

    def _is_over(self) -> bool:
        for departure in self._fleet.look():
            if departure.status != -signal.SIGKILL or self.kind != KILL or self._dead is not None:
                self._fail(f"process {departure.member.pid} ended with {departure.status}")
            self._dead = departure.member.slot
        if self.kind == KILL and self._dead is None:
            return False
        return all(word >> 4 == self._number for slot in self._alive() for word in self._outcomes(slot))

    def _alive(self) -> Iterator[int]:
        return (slot for slot in self._slots if slot != self._dead)

    def _outcomes(self, slot: int) -> memoryview:
        return self._run.board.cells(slot)[crowd.OUTCOMES_AT :]

    def _word(self, slot: int, cell: int, word: int) -> int:
        return self._run.board.cells(slot)[cell * crowd.CELL_WORDS + word]

    def _fail(self, what: str) -> None:
        self._run.fail(f"round {self._number} ({KINDS[self.kind]}), seed {self._run.options.seed}: {what}")

    # Judging.

    def judge(self, score: Score) -> None:
        """Compare what happened with what was promised."""
        for cell in CELLS:
            fills = {slot: self._word(slot, cell, BEGUN) for slot in self._alive()}
            if self._in_store:
                self._judge_on_host(cell, fills)
            elif any(count != 1 for count in fills.values()):
                self._fail(f"cell {cell}: fills by slot {fills}, not one in each process")
            self._judge_outcomes(cell, fills)
            score.fills += sum(fills.values())
        if self.kind == KILL and self._in_store:
            self._judge_heir(score)
        score.rounds[self.kind] += 1
        score.calls += CALLERS * len(self._slots)

    def _judge_on_host(self, cell: int, fills: dict[int, int]) -> None:
        """One fill; who died in it, or before the others could know that it had ended, is followed by one more."""
        total = sum(fills.values())
        allowed = {1}
        if self._dead is not None and self._word(self._dead, cell, DONE):
            allowed = {0, 1}
        if total not in allowed:
            self._fail(f"cell {cell}: {total} fills in the processes that live (by slot {fills}), not one")

    def _judge_outcomes(self, cell: int, fills: dict[int, int]) -> None:
        for slot in self._alive():
            expected = GOT if self.kind != RAISE else OWN if fills[slot] else TOLD
            outcomes = [self._outcomes(slot)[caller] & 0xF for caller in crowd.callers_of(cell)]
            if any(outcome != expected for outcome in outcomes):
                self._fail(f"cell {cell}: calls in slot {slot} ended with {outcomes}, not all with {expected}")

    def _judge_heir(self, score: Score) -> None:
        assert self._dead is not None
        killed_ns = self._word(self._dead, self._victim, KILLED_NS)
        began_ns = max(self._word(slot, self._victim, BEGAN_NS) for slot in self._alive())
        waited_s = (began_ns - killed_ns) / 1e9
        if not killed_ns or not 0 < waited_s <= self._run.limit_s(HEIR_S):
            self._fail(f"cell {self._victim}: a follower took over {waited_s:.3f} s after the kill")
        score.heirs += 1
        score.longest_heir_s = max(score.longest_heir_s, waited_s)
