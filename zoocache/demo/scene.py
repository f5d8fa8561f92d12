"""What an act works with, and what a stage shows of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import zoocache
from zoocache import ZooCacheError, _zoocache
from zoocache._zoocache import Core
from zoocache.demo.crew import DEADLINE_S, TICK_S, Crew, Member
from zoocache.demo.database import Database
from zoocache.demo.ledger import Ledger
from zoocache.demo.oracle import READS, STALE, UPDATES, Oracle
from zoocache.demo.pace import Pace, Sleeper
from zoocache.demo.promise import Promise

HERD = 8
"""So many want one cold key."""

FAULTS_TOLD = 3
COMPLAINTS = 5
"""So many stale reads, and lines of a process, are told in words."""

SEGMENT_BYTES = 1024 * 1024
"""The demo's segment is small, for containers with little /dev/shm."""


class Plan(NamedTuple):
    """What was asked for.

    Attributes:
        seconds: how long the demo takes, about.
        workers: how many processes read.
        storage: `lmdb` or `memory`.
        plain: lines of text, though there is a terminal.
    """

    seconds: float
    workers: int
    storage: str
    plain: bool


class Act(NamedTuple):
    """One act.

    Attributes:
        name: a word or two.
        title: one sentence.
        told: one or two more.
        until: the share of the whole time at which it should be over.
        play: does it.
    """

    name: str
    title: str
    told: str
    until: float
    play: Callable[[Scene], None]


class Counts(NamedTuple):
    """A process's counters, as it shows them in the segment."""

    hits: int
    misses: int
    fills: int


class Reached(NamedTuple):
    """The last invalidation of a tag: its number, and the wall clock then in seconds since 1970."""

    version: int
    at_s: float


class Stage(Protocol):
    """Where the demo is shown: lines of text, or a live picture."""

    def begin(self, number: int, act: Act) -> None:
        """An act begins."""

    def tell(self, text: str) -> None:
        """Something happened."""

    def judge(self, promise: Promise) -> None:
        """A promise was tested."""

    def tick(self, scene: Scene) -> None:
        """Time passes."""

    def close(self) -> None:
        """Nothing more is shown before the summary."""


@dataclass
class Scene:
    """Everything at hand.

    Attributes:
        plan: what was asked for.
        prefix: of this demo's cache; no other run has it.
        core: of the segment; None while the director is not attached.
        frozen: whether somebody stands still with the write lock, so that nobody may ask for the tags.
        trouble: why the segment could not be looked at, last.
        counts: the last known counters, by pid.
        tags: the last known invalidations, by tag.
    """

    plan: Plan
    prefix: str
    stage: Stage
    pace: Pace
    sleeper: Sleeper
    crew: Crew
    oracle: Oracle
    ledger: Ledger
    database: Database
    core: Core | None = None
    workers: list[Member] = field(default_factory=list)
    guests: list[Member] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    frozen: bool = False
    trouble: str = ""
    counts: dict[int, Counts] = field(default_factory=dict)
    tags: dict[str, Reached] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.crew.tick = self.tick

    def attach(self) -> None:
        """Look at the segment from here on. The director keeps no entries, so it needs no storage.

        Raises:
            ZooCacheError: there can be no segment, so there is nothing to show.
        """
        zoocache.configure(storage_url=None, prefix=self.prefix, shm_size=SEGMENT_BYTES)
        self.core = Core()
        self.core.seq()

    def leave(self) -> str:
        """Detach, and remove the segment; if somebody else looks at it, it stays, and the words say so."""
        self.core, self.tags = None, {}
        zoocache.reset()
        gc.collect()  # an engine is a knot of objects; the mapping of the segment goes with the last of them
        try:
            _zoocache.destroy(self.prefix)
        except zoocache.SegmentError:
            return f"the segment stays, for somebody looks at it: zoocache destroy --prefix {self.prefix}"
        return ""

    @property
    def writer(self) -> Member:
        """The process that changes the database: the first that was hired."""
        return self.crew.members[0]

    @property
    def limit_s(self) -> float:
        """After so many seconds even who is never told to stop has stopped."""
        return self.plan.seconds + DEADLINE_S

    @property
    def shared(self) -> bool:
        """Whether the storage keeps entries for all processes."""
        return self.plan.storage == "lmdb"

    def readers(self) -> list[Member]:
        """The processes that read and are there."""
        return [each for each in (*self.workers, *self.guests) if each.state not in ("killed", "ended")]

    def complaints(self) -> list[str]:
        """What the processes wrote last to standard error."""
        return [f"{each.name}: {line}" for each in self.crew.members for line in each.complaints()[-COMPLAINTS:]]

    def judge(self, said: str, seen: str, kept: bool, faults: Iterable[str] = ()) -> None:
        """Keep a promise for the summary, and show it; a fault breaks it, and the first are told in words."""
        faults = list(faults)
        for fault in faults[:FAULTS_TOLD]:
            self.stage.tell(fault)
        self.promises.append(Promise(said, seen, kept and not faults))
        self.stage.judge(self.promises[-1])

    def tick(self) -> None:
        """Look at the segment, and let the stage show it."""
        if self.core is not None:
            self._look(self.core)
        self.stage.tick(self)

    def _look(self, core: Core) -> None:
        try:
            self.counts.update({each.pid: Counts(each.hits, each.misses, each.fills) for each in core.processes()})
            if not self.frozen:
                self.tags = {each.tag: Reached(each.changed, each.at_s) for each in core.tags()}
        except ZooCacheError as error:
            if str(error) != self.trouble:
                self.stage.tell(str(error))
            self.trouble = str(error)

    def pause(self, duration_s: float) -> None:
        """Let time pass while the picture goes on."""
        deadline_s = time.monotonic() + duration_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(TICK_S, left_s))
        self.tick()

    def totals(self) -> tuple[int, int, int]:
        """Reads judged, stale ones, and changes with their invalidations, by all processes so far."""
        return self.oracle.total(READS), self.oracle.total(STALE), self.oracle.total(UPDATES)
