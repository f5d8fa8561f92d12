"""churn: ever new tags, a million and more, go through a segment that holds some thousands; prune runs meanwhile.

Each process has one writer, READERS readers in threads, and a loop with tasks that read. A writer goes through numbers
that are its own; each is a call with a tag of its own, "churn:<slot>:<batch>:<number>". It is brought in, is read for
a while by everybody, is invalidated at least once, and never comes again. So the trie is always full, the older half of
its tags gives way again and again, and with LMDB the store's table of numbers grows until it is cut.

A key of the board serves one number after the other: `number % WINDOW` of its writer. The truth about it is a word,
number << VERSION_BITS | version, which only grows; so what a fill finds there when the key serves a later number
already is no older than anything finished for its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import zoocache
from stress import ways
from stress.board import L_FILLS, Board, Shape
from stress.events import told
from stress.oracle import LAST_EVENTS, Reading, Wrong
from stress.reading import QUIET_PART, Looper, Reader
from stress.run import Lane, Options, Run, opened
from stress.server import served
from stress.storm import FLIGHT_TIMEOUT_S, Watch, conclude, have_done
from stress.threads import run_together
from stress.ways import Testimony, Way
from stress.writing import COUNT_EVERY, PACES_S, Write, Writer
from zoocache import cacheable

READERS = 2
LANES = 1 + READERS + 1

VERSION_BITS = 16
WINDOW = 2048
"""So many numbers of a writer are in use at a time."""
BATCH = 128
"""So many numbers share the tag above theirs, and are brought in at a time."""
READ_BACK = 2 * BATCH
"""So many of the latest are read."""
SETTLED = 3 * BATCH
"""So far behind the latest every number is invalidated once."""

PRUNE_AFTER_S, PRUNE_EVERY_S = 0.2, 0.5

C_HEAD = 0  # of the cells of a place: how many numbers were brought in; by its writer


def tag_of(slot: int, number: int) -> str:
    """The tag of a number, below that of its batch."""
    return f"{batch_of(slot, number)}:{number}"


def batch_of(slot: int, number: int) -> str:
    """The tag above the one of a number."""
    return f"churn:{slot}:{number // BATCH}"


def key_of(slot: int, number: int) -> int:
    """The key that serves a number for a while."""
    return slot * WINDOW + number % WINDOW


def number_of(word: int) -> int:
    """The number that a word of the truth is about."""
    return word >> VERSION_BITS


@cacheable(deps=tag_of)
def passing(slot: int, number: int) -> Testimony:
    """The truth about a number."""
    key = key_of(slot, number)
    return time.monotonic_ns(), key, ways.seen.truth[key]


@cacheable(deps=tag_of)
async def passing_async(slot: int, number: int) -> Testimony:
    """The same, for tasks."""
    key = key_of(slot, number)
    testimony = time.monotonic_ns(), key, ways.seen.truth[key]
    await asyncio.sleep(ways.seen.chance.choice(ways.DAWDLES_S))
    return testimony


class Stream(Writer):
    """The writer of one place: brings numbers in, and invalidates them."""

    alone_s = 5.0
    """Every write is large, and now and then one has to wait for several that prune."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self._board = lane.run.board
        self._cells = self._board.cells(lane.slot)

    def run(self) -> None:
        """Write until the run is over."""
        steps = 0
        while self.lane.goes_on():
            self._bring_in()
            self.do(self._last_call())
            self.do(self.any_write())
            steps += 1
            if steps % COUNT_EVERY == 0:
                self.lane.counters[L_FILLS] = passing.info().fills + passing_async.info().fills
            time.sleep(self._chance.choice(PACES_S))

    @property
    def _head(self) -> int:
        return self._cells[C_HEAD]

    def _bring_in(self) -> None:
        """The next numbers; the keys that serve them are taken from those that have had their time."""
        numbers = range(self._head, self._head + BATCH)
        for number in numbers:
            word, key = number << VERSION_BITS, key_of(self.lane.slot, number)
            self._board.truth[key] = word
            self._board.finished[key] = word
        self._cells[C_HEAD] = numbers.stop

    def _last_call(self) -> Write:
        """All numbers of a batch, each by its own tag."""
        first = max(0, self._head - SETTLED)
        return self._of_numbers(range(first, first + BATCH))

    def any_write(self) -> Write:
        """One of all kinds, by chance."""
        choices = [(self._few, 60), (self._batch, 30), (self._prune, 0.3), (self._clear, 0.01)]
        return self._chance.choices([kind for kind, _ in choices], [weight for _, weight in choices])[0]()

    def _few(self) -> Write:
        """Numbers that are read just now."""
        recent = range(max(0, self._head - READ_BACK), self._head)
        return self._of_numbers(self._chance.sample(recent, min(len(recent), 2)))

    def _batch(self) -> Write:
        """All numbers of a batch, by the tag above theirs."""
        number = self._chance.randrange(max(0, self._head - READ_BACK), self._head)
        first = number - number % BATCH
        tag = batch_of(self.lane.slot, number)
        return Write("invalidate", self._keys(range(first, first + BATCH)), "", lambda _: zoocache.invalidate(tag))

    def _clear(self) -> Write:
        keys = self._keys(range(max(0, self._head - WINDOW), self._head))
        return Write("clear", keys, "", lambda _: zoocache.clear())

    def _of_numbers(self, numbers: range | list[int]) -> Write:
        tags = [tag_of(self.lane.slot, number) for number in numbers]
        return Write("invalidate", self._keys(numbers), "", lambda _: zoocache.invalidate(*tags))

    def _keys(self, numbers: range | list[int]) -> list[int]:
        return [key_of(self.lane.slot, number) for number in numbers]


class Passer(Reader):
    """Reads numbers of all writers, mostly the latest."""

    breath_part = 0.5
    """Here it is the writers that matter."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self._wanted = 0

    def read_any(self) -> None:
        """One read, by chance."""
        if self.lane.chance.random() < QUIET_PART:
            self.hit()
        elif (place := self._choose()) is not None:
            self.read(_way(passing, *place), key_of(*place))

    def _choose(self) -> tuple[int, int] | None:
        """Somebody's number; `expect` is called for it before this lane chooses another one."""
        chance, board = self.lane.chance, self.lane.run.board
        slot = chance.randrange(board.shape.slots)
        head = board.cells(slot)[C_HEAD]
        if not head:
            return None
        self._wanted = max(0, head - 1 - int(READ_BACK * chance.random() ** 2))
        return slot, self._wanted

    def expect(self, keys: tuple[int, ...]) -> Reading:
        """Nothing, if the key has gone on to serve another number."""
        reading = super().expect(keys)
        reading.least = [least if number_of(least) == self._wanted else 0 for least in reading.least]
        return reading

    def tag_of(self, key: int) -> str:
        """The tag of the number that was wanted."""
        return tag_of(key // WINDOW, self._wanted)

    def history(self, key: int) -> str:
        """The last events of a key and of everything."""
        return history(self.lane.run.board, key)


class PassingLoop(Looper, Passer):
    """The same, with tasks."""

    async def read_any_async(self) -> None:
        """One read, by chance."""
        if (place := self._choose()) is not None:
            await self.read_async(_way(passing_async, *place), key_of(*place))


def _way(function: Callable[[int, int], Any], slot: int, number: int) -> Way:
    return Way(lambda _: function(slot, number))


def history(board: Board, key: int) -> str:
    """The last events that concern a key; numbers and versions are in one word."""
    return told(board.rings(), lambda event: event.key == key or event.kind in ("clear", "prune"), LAST_EVENTS, [])


def work(run: Run, slot: int) -> None:
    """What a process of the fleet does until the run is over."""
    run.settle(prune_after=PRUNE_AFTER_S, auto_prune_interval=PRUNE_EVERY_S)
    writer, *readers, looper = [Lane(run, slot, number) for number in range(LANES)]
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("fills", slot)
    run_together(Stream(writer), [*map(Passer, readers), PassingLoop(looper)])


def main(options: Options) -> bool:
    """Run churn; whether all promises held."""
    shape = Shape(options.processes, LANES, options.processes * WINDOW, cells=1)
    with opened(options, shape, FLIGHT_TIMEOUT_S) as run, served(run):
        have_done(run, work, Watch(run, lambda: f", {tags_of(run.board)} tags", lambda: tags_of(run.board)))
        run.say(f"{tags_of(run.board)} distinct tags were invalidated")
        return conclude(run, lambda: _read_last(run))


def tags_of(board: Board) -> int:
    """How many distinct tags have been invalidated, those above the numbers' not counted."""
    heads = [board.cells(slot)[C_HEAD] for slot in range(board.shape.slots)]
    return sum(max(0, head - SETTLED + BATCH) for head in heads)


def _read_last(run: Run) -> list[str]:
    """A last read of every number that still has a key."""
    board = run.board
    ways.seen.truth, ways.seen.chance = board.truth, run.chance("last")
    faults = []
    for slot in range(board.shape.slots):
        head = board.cells(slot)[C_HEAD]
        for number in range(max(0, head - WINDOW), head):
            key = key_of(slot, number)
            try:
                Reading(board, [key]).judge(passing(slot, number))
            except Wrong as wrong:
                faults.append(f"{wrong}, tag {tag_of(slot, number)}\n{history(board, key)}")
    return faults
