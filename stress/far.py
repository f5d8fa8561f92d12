"""The writers and readers of partition, on several hosts: they work in turmoil, rest, and check, all at the same time.

What they are about stands on the board, as a stage; each says there where it has arrived.
"""

from __future__ import annotations

import asyncio
import time

import zoocache
from stress import oracle, tree, ways
from stress.board import C_IDLE, C_STAGE, L_LONGEST_READ_NS, L_SINCE_NS
from stress.reading import Reader
from stress.run import Lane
from stress.ways import ASYNC_WAYS, BY_NAME, WAYS, Way
from stress.writing import Write, Writer
from zoocache import NotSent

LONGEST_S = 3.0
WAITING_S = 11.0
"""Who waits for the server gives up after ten."""

WAITS = 0.04
"""So many of the writes do."""

BREATH_S = 0.002
PACES_S = (0.0, 0.002, 0.01, 0.03)

QUIET_WAYS = [way for way in WAYS if way.call is not ways.refreshed]
"""They tell nobody anything."""

TURMOIL, REST, CHECK, IDLE = range(4)
STAGES = 4
"""A stage is a round's number times this, plus one of the first three above."""
IDLE_HERE = 2**63
"""What a lane of a host that is idle says, in place of a stage."""


class Stages:
    """What all are about: one word of the board, and a word for each lane that says where it has arrived.

    Args:
        lane: whose.
    """

    def __init__(self, lane: Lane) -> None:
        self._control = lane.run.board.control
        self._cells = lane.run.board.cells(lane.slot)
        self._number = lane.number
        self._host = lane.slot // lane.run.options.processes

    @property
    def present(self) -> int:
        """TURMOIL, REST or CHECK; IDLE, if this host has its own idea."""
        return IDLE if self._control[C_IDLE] == self._host + 1 else int(self._control[C_STAGE]) % STAGES

    def is_new(self) -> bool:
        """Whether this lane has not yet arrived there."""
        return bool(self._cells[self._number] != self._control[C_STAGE])

    def arrive(self, stage: int) -> None:
        """Say that this lane is through with everything of an earlier stage, and with the checks of this one."""
        if stage == IDLE:
            self._cells[self._number] = IDLE_HERE
        elif self._control[C_STAGE] % STAGES == stage:
            self._cells[self._number] = self._control[C_STAGE]


class FarWriter(Writer):
    """Writes in turmoil, and rests. Some invalidations wait until the server has them, as long as an outage takes."""

    gives_up = (zoocache.Busy, zoocache.StorageError, NotSent)
    alone_s = LONGEST_S

    def any_write(self) -> Write:
        """As all writers', and some that wait."""
        waits = self._chance.random() < WAITS
        self.alone_s = WAITING_S if waits else LONGEST_S
        return self._waiting() if waits else super().any_write()

    def _waiting(self) -> Write:
        keys = self._some(1)
        tag = tree.own_tag(keys[0]) if keys else "zoo:visitors"
        return Write("invalidate", keys, tag, lambda _: self._wait(tag))

    def _wait(self, tag: str) -> None:
        """It is not stuck, whatever the others think."""
        self.lane.counters[L_SINCE_NS] = 0
        if self._chance.random() < 0.5:
            zoocache.invalidate(tag, wait=True)
        else:
            asyncio.run(zoocache.invalidate_async(tag, wait=True))

    def run(self) -> None:
        """Write until the run is over."""
        stages = Stages(self.lane)
        while self.lane.goes_on():
            stage = stages.present
            if stage == TURMOIL:
                self.do(self.any_write())
            else:
                stages.arrive(stage)
                self.count_fills()
            time.sleep(self._chance.choice(PACES_S))


class FarReader(Reader):
    """Reads: its own host's keys are always judged, the others' once everything has settled."""

    gives_up = (zoocache.Busy, zoocache.StorageError)

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self._stages = Stages(lane)
        self._per_host = lane.run.options.processes

    def run(self) -> None:
        """Read until the run is over."""
        while self.lane.goes_on():
            stage = self._stages.present
            if stage == TURMOIL:
                self.read_any()
            elif stage == REST:  # whoever uses the cache sees to it that the host has a listener
                self.read(self.lane.chance.choice(QUIET_WAYS), self.lane.chance.choice(tree.ANIMAL_KEYS))
            elif stage == CHECK and self._stages.is_new():
                self._check()
            self._stages.arrive(stage)
            if stage != IDLE:
                self.hit()
            time.sleep(BREATH_S)

    def _check(self) -> None:
        for way in WAYS:
            for key in tree.ANIMAL_KEYS:
                self.read(way, key)
        for key in tree.NAME_KEYS:
            self.read(BY_NAME, key)

    def expect(self, keys: tuple[int, ...]) -> oracle.Reading:
        """Nothing of the other hosts' keys before everything has settled."""
        reading = super().expect(keys)
        if self._stages.present != CHECK:
            reading.least = [least if self._is_own(key) else 0 for key, least in zip(keys, reading.least, strict=True)]
        return reading

    def _is_own(self, key: int) -> bool:
        lane = self.lane
        return key % lane.run.board.shape.slots // self._per_host == lane.slot // self._per_host

    def read(self, way: Way, key: int) -> None:
        """A read, and how long it took."""
        lane = self.lane
        stopped_ns, start_ns = lane.others_stopped_ns(), time.monotonic_ns()
        super().read(way, key)
        took_ns = time.monotonic_ns() - start_ns - (lane.others_stopped_ns() - stopped_ns)
        lane.counters[L_LONGEST_READ_NS] = max(lane.counters[L_LONGEST_READ_NS], took_ns, 0)


class FarLooper(FarReader):
    """The same, with a task."""

    def run(self) -> None:
        """Read until the run is over."""
        asyncio.run(self._run_in_turns())

    async def _run_in_turns(self) -> None:
        chance = self.lane.chance
        while self.lane.goes_on():
            stage = self._stages.present
            if stage in {TURMOIL, REST}:
                await self.read_async(chance.choice(ASYNC_WAYS), chance.choice(tree.ANIMAL_KEYS))
            elif stage == CHECK and self._stages.is_new():
                for way in ASYNC_WAYS:
                    for key in tree.ANIMAL_KEYS:
                        await self.read_async(way, key)
            self._stages.arrive(stage)
            await asyncio.sleep(BREATH_S)
