"""The readers of storm and killer: they read, judge what they get, and measure how long a hit took."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import zoocache
from stress import oracle, tree
from stress.board import L_BUSY, L_HITS, L_LONGEST_HIT_NS, L_RAISED, L_READS, L_SINCE_NS
from stress.run import Lane
from stress.ways import (
    AGE_S,
    ASYNC_WAYS,
    BY_NAME,
    PART,
    WAY_NUMBERS,
    WAYS,
    Calling,
    Planned,
    Way,
    aging,
    calling,
    quietly,
    refreshed,
)

TASKS = 3
"""Tasks of a process that read at the same time."""

BY_NAME_PART = 0.15
QUIET_PART = 0.1
GRACE_S = 0.05
"""Ages are told in milliseconds, by several clocks."""
BREATH_PART, BREATH_S = 0.05, 0.0003
"""Now and then a reader lets go: whoever only hits would hardly let the writer of its process have the interpreter."""
_WEIGHTS = [way.weight for way in WAYS]


class Reader:
    """The reads of one lane.

    Args:
        lane: whose counters, events and chance are used.

    Attributes:
        lane: as given.
        gives_up: what the one way that writes may raise, though nobody is to blame.
        breath_part: after so many of its reads it lets go of the interpreter for a moment.
    """

    gives_up: tuple[type[Exception], ...] = (zoocache.Busy,)
    breath_part = BREATH_PART

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._board = lane.run.board
        self._process = os.getpid()
        if lane.run.server_url is not None:
            self.gives_up = (zoocache.Busy, zoocache.StorageError)
        self._young_ns = self._young_stops = self._held_late_ns = 0
        self._spoils = lane.run.options.storage == "lmdb"

    def run(self) -> None:
        """Read until the run is over."""
        chance = self.lane.chance
        while self.lane.goes_on():
            self.read_any()
            if chance.random() < self.breath_part:
                time.sleep(BREATH_S)

    def read_any(self) -> None:
        """One read, by chance."""
        chance = self.lane.chance
        part = chance.random()
        if part < BY_NAME_PART:
            self.read(BY_NAME, chance.choice(tree.NAME_KEYS))
        elif part < BY_NAME_PART + QUIET_PART:
            self.hit()
        else:
            self.read(chance.choices(WAYS, _WEIGHTS)[0], chance.choice(tree.ANIMAL_KEYS))

    def expect(self, keys: tuple[int, ...]) -> oracle.Reading:
        """What a read that is about to begin must bring."""
        return oracle.Reading(self._board, keys)

    def read(self, way: Way, key: int) -> None:
        """A read of a key, judged."""
        keys = way.covers(key)
        self.lane.ring.await_room()
        reading, start_ns = self.expect(keys), time.monotonic_ns()
        self.lane.counters[L_SINCE_NS] = start_ns
        calling.set(Calling(self.lane.ring, start_ns))
        try:
            found = way.call(key)
        except (Planned, zoocache.FillFailed) as error:
            self._raised(error, key, start_ns)
        except self.gives_up:
            if way.call is not refreshed:  # the one way that writes
                raise
            self.lane.counters[L_BUSY] += 1
        else:
            self._judge(reading, found, way, keys, start_ns)
        self.lane.counters[L_SINCE_NS] = 0

    async def read_async(self, way: Way, key: int) -> None:
        """As `read`, for a task."""
        keys = way.covers(key)
        self.lane.ring.await_room()
        reading, start_ns = self.expect(keys), time.monotonic_ns()
        try:
            found = await way.call(key)
        except (Planned, zoocache.FillFailed) as error:
            self._raised(error, key, start_ns)
        else:
            self._judge(reading, found, way, keys, start_ns)

    def hit(self) -> None:
        """Measure a hit that has nobody to wait for; a fill does not count, nor what was stopped meanwhile."""
        lane, counters = self.lane, self.lane.counters
        stops, start_ns = lane.stops(), time.monotonic_ns()
        filled_ns = self._moment(quietly(self._process, lane.number))
        took_ns = time.monotonic_ns() - start_ns
        if filled_ns < start_ns and lane.stops() == stops:
            counters[L_LONGEST_HIT_NS] = max(counters[L_LONGEST_HIT_NS], took_ns)
        self._age()

    def _age(self) -> None:
        """What nobody invalidates is not read when its time is over. Its time began, at the latest, when the call ended
        that filled it. A call that loads it may lose the processor between asking how old it is and holding it, for as
        long as it takes altogether; and a process that was stopped since, for longer.
        """
        lane = self.lane
        stops, start_ns = lane.stops(), time.monotonic_ns()
        filled_ns = self._moment(aging(self._process, lane.number))
        end_ns = time.monotonic_ns()
        if filled_ns >= start_ns:
            self._young_ns, self._young_stops, self._held_late_ns = end_ns, stops, 0
        elif self._young_ns and stops == self._young_stops:
            late_s = (start_ns - self._young_ns - self._held_late_ns) / 1e9 - AGE_S
            self._held_late_ns = max(self._held_late_ns, end_ns - start_ns)
            if late_s > GRACE_S:
                lane.run.fail(f"OLD: what may be {AGE_S:g} s old was read {late_s:.3f} s after that, {lane}")
                lane.run.halt()

    def _moment(self, found: Any) -> int:
        """What a call brought that computes nothing but when it was filled; now, if that is the value of another."""
        if type(found) is int:
            return found
        self.lane.run.fail(f"a read of a moment brought {found!r}, {self.lane}")
        self.lane.run.halt()
        return time.monotonic_ns()

    def _raised(self, error: Exception, key: int, start_ns: int) -> None:
        lane = self.lane
        lane.counters[L_READS] += 1
        lane.counters[L_RAISED] += 1
        lane.ring.note("raised", key, start_ns, time.monotonic_ns())
        if Planned.__name__ not in f"{type(error).__name__} {error}":  # one FillFailed may be the reason of another
            raise error

    def _judge(self, reading: oracle.Reading, found: Any, way: Way, keys: tuple[int, ...], start_ns: int) -> None:
        end_ns = time.monotonic_ns()
        counters = self.lane.counters
        counters[L_READS] += 1
        if found is None and keys[0] in tree.NAME_KEYS:
            return
        if reading.is_about_its_keys(found):
            self._note(reading, found, way, keys, (start_ns, end_ns))
        try:
            reading.judge(found)
        except oracle.Wrong as wrong:
            self._report(wrong, keys)
            return
        if found[0] < start_ns:
            counters[L_HITS] += 1
        if self._spoils and isinstance(found, list):
            found.append(-1)  # a caller's own copy: nobody else may ever see this

    def _note(
        self, reading: oracle.Reading, found: Any, way: Way, keys: tuple[int, ...], span_ns: tuple[int, int]
    ) -> None:  # fmt: skip
        """One event for each key that was read; the first of them is the call's own. When a name was set is told by
        whoever set it: the moment in the testimony is from before, and no fill saw it."""
        filled_ns, number = (0 if way is BY_NAME else found[0]), WAY_NUMBERS.get(way.call, PART)
        for key, version, least in zip(keys, found[2::2], reading.least, strict=False):
            self.lane.ring.note(
                "read", key, *span_ns, version=version, finished=least, filled_ns=filled_ns, way=number
            )  # fmt: skip
            number = PART

    def _report(self, wrong: oracle.Wrong, keys: tuple[int, ...]) -> None:
        run, lane = self.lane.run, self.lane
        for key in keys:
            run.fail(
                f"{wrong}\n  {lane}, key {key}, tag {self.tag_of(key)}; the last events of this key:\n"
                f"{self.history(key)}"
            )
        run.halt()

    def tag_of(self, key: int) -> str:
        """The tag that a key depends on."""
        return tree.own_tag(key)

    def history(self, key: int) -> str:
        """The last events that concern a key."""
        return oracle.history(self._board, key)


class Looper(Reader):
    """Reads with several tasks on a loop."""

    def run(self) -> None:
        """Read until the run is over."""
        asyncio.run(self._gather())

    async def _gather(self) -> None:
        await asyncio.gather(*(self._run_task() for _ in range(TASKS)))

    async def _run_task(self) -> None:
        chance = self.lane.chance
        while self.lane.goes_on():
            await self.read_any_async()
            if chance.random() < self.breath_part:
                await asyncio.sleep(BREATH_S)

    async def read_any_async(self) -> None:
        """One read, by chance."""
        chance = self.lane.chance
        await self.read_async(chance.choice(ASYNC_WAYS), chance.choice(tree.ANIMAL_KEYS))
