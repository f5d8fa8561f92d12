"""The processes of herd: threads and tasks that all call at once, and the function that they call.

A **cell** is a key that all processes want: threads share the cells of SYNC_CELLS, tasks those of ASYNC_CELLS (the
function of a task is another function, so it has keys of its own). For each cell a process has CELL_WORDS words on the
board, and each caller has one, with which it says how its call ended.

Whoever raises or dies in a fill does it when all others wait. That they wait is told by two places of the library
itself, `Flights.wait` and `Claims.join`, which are listened to here: time would only make it likely.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import zoocache
from stress.board import C_FREE, L_READS, Board
from stress.run import Lane, Run
from stress.threads import run_together
from tests.patience import be_patient
from zoocache import cacheable, keys
from zoocache.flight import Flight, Flights
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.layout import C_HIGH
from zoocache.trie import hash_words

THREADS, TASKS = 4, 6
CALLERS = THREADS + TASKS
LANES = 1 + THREADS + 1
SYNC_CELLS, ASYNC_CELLS = (0, 1), (2, 3)
CELLS = (*SYNC_CELLS, *ASYNC_CELLS)

VALUE, RAISE, KILL = 0, 1, 2
KINDS = {VALUE: "that return", RAISE: "that raise", KILL: "with a kill"}

# Control words. A round is opened (by one process, which invalidates), then begun.
C_KIND = C_FREE
C_VICTIM_CELL = C_FREE + 1
C_VICTIM_SLOT = C_FREE + 2  # in memory, where each process fills for itself
C_OPENER = C_FREE + 3
C_OPEN = C_FREE + 4  # the round that the opener is to open
C_OPENED = C_FREE + 5
C_ROUND = C_FREE + 6  # the round that all play

# Words of a process for each cell.
BEGUN = 0  # fills that began
DONE = 1  # fills that came to their end, in whatever way
BEGAN_NS = 2
KILLED_NS = 3
JOINED = 4  # callers that follow a flight in their process
FOLLOWED = 5  # 1: a process follows the claim of another
CELL_WORDS = 6
OUTCOMES_AT = CELL_WORDS * len(CELLS)
WORDS = OUTCOMES_AT + CALLERS

# How a call ended, beside its round: round << 4 | outcome.
GOT, OWN, TOLD, WRONG = 1, 2, 3, 4

ROUNDS_A_BATCH = 5
"""So many rounds use the same keys, invalidated in between; then come new ones."""
FILL_S = 0.003
GATHER_S = 10.0
POLL_S = 0.0005


class Planned(Exception):
    """What the function raises."""


def callers_of(cell: int) -> list[int]:
    """Which callers of a process want a cell; the threads come first."""
    if cell in SYNC_CELLS:
        return [caller for caller in range(THREADS) if SYNC_CELLS[caller % len(SYNC_CELLS)] == cell]
    return [THREADS + task for task in range(TASKS) if ASYNC_CELLS[task % len(ASYNC_CELLS)] == cell]


class World:
    """What the cached functions of this process look at; `main` sets it up before anything is called."""

    run: Run
    slot: int
    raised: dict[int, Planned]
    mutex: threading.Lock

    @property
    def board(self) -> Board:
        """Of the run."""
        return self.run.board

    def words(self, cell: int, slot: int | None = None) -> memoryview:
        """The words of a process, of this one by default, for a cell."""
        own = self.board.cells(self.slot if slot is None else slot)
        return own[cell * CELL_WORDS : (cell + 1) * CELL_WORDS]

    def count(self, cell: int, word: int) -> None:
        """Add one to a word of this process."""
        with self.mutex:
            self.words(cell)[word] += 1

    def total(self, cell: int, word: int) -> int:
        """The sum over all processes."""
        return sum(self.words(cell, slot)[word] for slot in range(self.board.shape.slots))


world = World()


@cacheable(deps="herd")
def fetch(cell: int, batch: int) -> int:
    """What threads want: the round in which it was computed."""
    assert batch >= 0
    for pause_s in _fill(cell):
        time.sleep(pause_s)
    return world.board.control[C_ROUND]


@cacheable(deps="herd")
async def fetch_async(cell: int, batch: int) -> int:
    """What tasks want."""
    assert batch >= 0
    for pause_s in _fill(cell):
        await asyncio.sleep(pause_s)
    return world.board.control[C_ROUND]


def _fill(cell: int) -> Iterator[float]:
    """One execution: what it does in this kind of round; yields pauses."""
    control, words = world.board.control, world.words(cell)
    words[BEGAN_NS] = time.monotonic_ns()
    world.count(cell, BEGUN)
    if control[C_KIND] == RAISE:
        yield from _gather(cell)
        world.count(cell, DONE)
        error = world.raised[cell] = Planned(_reason(cell, control[C_ROUND]))
        raise error
    if control[C_KIND] == KILL and _is_victim(cell):
        yield from _gather(cell)
        words[KILLED_NS] = time.monotonic_ns()
        os.kill(os.getpid(), signal.SIGKILL)
    yield FILL_S
    world.count(cell, DONE)


def _reason(cell: int, number: int) -> str:
    return f"cell {cell} in round {number}"


def _is_victim(cell: int) -> bool:
    """Whether this fill is the one that is to be killed. In memory each process fills, so one of them is named."""
    control = world.board.control
    if cell != control[C_VICTIM_CELL] or world.total(cell, KILLED_NS):
        return False
    return world.run.options.storage != "memory" or world.slot == control[C_VICTIM_SLOT]


def _gather(cell: int) -> Iterator[float]:
    """Pauses until all others wait for this fill."""
    until_s = time.monotonic() + world.run.limit_s(GATHER_S)
    while not _all_wait(cell):
        if time.monotonic() > until_s:
            world.run.fail(
                f"cell {cell}: only {world.total(cell, JOINED)} callers and {world.total(cell, FOLLOWED)} processes "
                f"follow its fill after {GATHER_S:g} s, seed {world.run.options.seed}"
            )
            return
        yield POLL_S


def _all_wait(cell: int) -> bool:
    followers = len(callers_of(cell)) - 1
    if world.run.options.storage == "memory":
        return world.words(cell)[JOINED] >= followers
    slots = range(world.board.shape.slots)
    return all(world.words(cell, slot)[JOINED] >= followers for slot in slots) and (
        world.total(cell, FOLLOWED) >= len(slots) - 1
    )


# Where the library tells that somebody waits.


def listen() -> None:
    """Count on the board who follows which cell."""
    wait, join = Flights.wait, Claims.join

    def wait_and_tell(self: Flights, flight: Flight, waker: Callable[[], object], waiting: Iterable[Flight]) -> bool:
        under_way = wait(self, flight, waker, waiting)
        cell = _cell_of(lambda key: key == flight.key)
        if under_way and cell is not None:
            world.count(cell, JOINED)
        return under_way

    def join_and_tell(self: Claims, claim: Claim) -> None:
        join(self, claim)
        high = self._words[claim.at + C_HIGH]
        cell = _cell_of(lambda key: hash_words(keys.digest(key))[0] == high)
        if cell is not None:
            world.words(cell)[FOLLOWED] = 1

    Flights.wait = wait_and_tell  # type: ignore[method-assign]
    Claims.join = join_and_tell  # type: ignore[method-assign]


def _cell_of(fits: Callable[[str], bool]) -> int | None:
    batch = _batch(world.board.control[C_ROUND])
    return next((cell for cell in CELLS if fits(_function(cell).key_for(cell, batch))), None)


def _function(cell: int) -> Any:
    return fetch if cell in SYNC_CELLS else fetch_async


def _batch(number: int) -> int:
    return number // ROUNDS_A_BATCH


# The process.


def main(run: Run, slot: int) -> None:
    """What a process of herd does until the run is over."""
    run.settle()
    be_patient()  # fills are counted, and who gives up a lock that the lender has no processor for computes for himself
    listen()
    world.run, world.slot, world.raised, world.mutex = run, slot, {}, threading.Lock()
    lanes = [Lane(run, slot, number) for number in range(LANES)]
    start = threading.Barrier(LANES)
    run_together(Leader(lanes[0], start), [Caller(lane, start) for lane in lanes[1:]])


class Leader:
    """Opens rounds when it is this process's turn, and lets the callers go when a round begins.

    Args:
        lane: its own.
        start: where they wait for it.
    """

    def __init__(self, lane: Lane, start: threading.Barrier) -> None:
        self.lane = lane
        self._start = start
        control = world.board.control
        self._played, self._opened = control[C_ROUND], control[C_OPEN]

    def run(self) -> None:
        """Play until the run is over."""
        try:
            while self.lane.goes_on():
                self._open()
                self._begin()
                time.sleep(POLL_S)
        finally:
            self._start.abort()

    def _open(self) -> None:
        control = world.board.control
        if control[C_OPEN] != self._opened:
            self._opened = control[C_OPEN]
            if control[C_OPENER] == self.lane.slot:
                zoocache.invalidate("herd")
                control[C_OPENED] = self._opened

    def _begin(self) -> None:
        control = world.board.control
        if control[C_ROUND] != self._played:
            self._played = control[C_ROUND]
            self._start.wait()


class Caller:
    """A thread that calls, or the thread of the loop whose tasks call.

    Args:
        lane: its own.
        start: where it waits for a round.
    """

    def __init__(self, lane: Lane, start: threading.Barrier) -> None:
        self.lane = lane
        self._caller = lane.number - 1
        self._start = start

    def run(self) -> None:
        """Play round after round."""
        try:
            while True:
                self._start.wait()
                self._play(world.board.control[C_ROUND])
        except threading.BrokenBarrierError:
            return

    def _play(self, number: int) -> None:
        self.lane.counters[L_READS] += 1 if self._caller < THREADS else TASKS
        if self._caller < THREADS:
            cell = SYNC_CELLS[self._caller % len(SYNC_CELLS)]
            try:
                value = fetch(cell, _batch(number))
            except Exception as error:  # noqa: BLE001  # judged
                _ended_with(self._caller, cell, number, error)
            else:
                _ended_well(self._caller, cell, number, value)
        else:
            asyncio.run(self._play_tasks(number))

    async def _play_tasks(self, number: int) -> None:
        await asyncio.gather(*(self._task(task, number) for task in range(TASKS)))

    async def _task(self, task: int, number: int) -> None:
        cell = ASYNC_CELLS[task % len(ASYNC_CELLS)]
        try:
            value = await fetch_async(cell, _batch(number))
        except Exception as error:  # noqa: BLE001  # judged
            _ended_with(THREADS + task, cell, number, error)
        else:
            _ended_well(THREADS + task, cell, number, value)


def _ended_well(caller: int, cell: int, number: int, value: int) -> None:
    if value != number:
        world.run.fail(
            f"STALE: cell {cell} was read in round {number} as of round {value}, seed {world.run.options.seed}"
        )
    _tell(caller, number, GOT)


def _ended_with(caller: int, cell: int, number: int, error: Exception) -> None:
    if error is world.raised.get(cell):
        outcome = OWN
    elif isinstance(error, zoocache.FillFailed) and (error.type_name, error.reason) == (
        Planned.__name__, _reason(cell, number)
    ):  # fmt: skip
        outcome = TOLD
    else:
        world.run.fail(
            f"cell {cell} raised in round {number}, seed {world.run.options.seed}:\n"
            f"{''.join(traceback.format_exception(error))}"
        )
        outcome = WRONG
    _tell(caller, number, outcome)


def _tell(caller: int, number: int, outcome: int) -> None:
    world.board.cells(world.slot)[OUTCOMES_AT + caller] = number << 4 | outcome
