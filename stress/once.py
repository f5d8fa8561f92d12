"""The judge of P4 under invalidations and kills: on a host no key is computed twice at the same time.

The fills of the ways that no reader takes inside another one, and that nobody refreshes, are noted with start and end,
with the start of their call, and with the number of flights that the call had followed in vain. Two of one key overlap
only if

    the second fill began so long after the first one's call that this counts as overdue (`flight_timeout`)
    or the call of one of them waited so long that it may have done without a lock that cannot be had
    or somebody gave up following, after as many vain attempts as the documents say: in its process, or on the host
    or somebody was overdue: it may have ended the claim of its successor when it woke

The figures are those of docs/reliability.md, in words of their own here: a library that gives up sooner has no excuse.
What was followed is counted where it happens (`listen`), each flight once, for nothing else tells it exactly.
Rejected: to count the mutations that reach the key meanwhile. One that stands between its two stores overtakes every
fill until it goes on; that of a killed writer has noted no end; tags that give way for room overtake other keys than
their own; and a fill that raised, or expired at once, was followed in vain though nothing overtook it.

A fill of which the library could not tell the others, for want of a claim or of a slot, is not noted (`listen`); in the
smallest segment there are few. It does not help that the first was overtaken: who comes then waits for its end all the
same, and tries again. With storage in memory each process computes for itself. Who was killed in a fill has noted none.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from stress.events import Event
from stress.ways import calling
from zoocache.flight import Flight, Flights
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.segment import Segment

VAIN_ATTEMPTS = 8
"""After so many a follower computes for itself."""
LOCKLESS_NS = 2_000_000_000
"""After so long a fill goes on without the lock that it needs to tell the others."""
KEPT_FILLS = 128


class Pair(NamedTuple):
    """Two fills of one key at the same time, the one that began first, first."""

    first: Event
    second: Event


class Once:
    """See the head of this file.

    Args:
        group_of: who computes for whom: a number for a process, or for its host.
        overdue_ns: `flight_timeout`.

    Attributes:
        fills: how many it has heard of.
    """

    def __init__(self, group_of: Callable[[Event], int], overdue_ns: int) -> None:
        self.fills = 0
        self._group_of, self._overdue_ns = group_of, overdue_ns
        self._recent: dict[tuple[int, int, int], deque[Event]] = defaultdict(lambda: deque(maxlen=KEPT_FILLS))
        self._pairs: list[Pair] = []

    def hear(self, events: Iterable[Event]) -> None:
        """Take in what was noted."""
        for event in events:
            if event.kind == "fill":
                self._hear_fill(event)

    def _hear_fill(self, fill: Event) -> None:
        self.fills += 1
        recent = self._recent[self._place(fill)]
        for other in recent:
            if other.start_ns < fill.end_ns and fill.start_ns < other.end_ns:
                self._pairs.append(Pair(*sorted((other, fill), key=lambda each: each.start_ns)))
        recent.append(fill)

    def _place(self, fill: Event) -> tuple[int, int, int]:
        return self._group_of(fill), fill.way, fill.key

    def judge(self, before_ns: int) -> list[Pair]:
        """What nothing excuses, of all that ended before a moment up to which everything was heard."""
        ripe = [pair for pair in self._pairs if pair.second.end_ns < before_ns]
        self._pairs = [pair for pair in self._pairs if pair.second.end_ns >= before_ns]
        return [pair for pair in ripe if not self._is_excused(pair)]

    def _is_excused(self, pair: Pair) -> bool:
        first, second = pair
        waited_ns = max(each.start_ns - each.filled_ns for each in pair)
        if second.start_ns - first.filled_ns >= self._overdue_ns or waited_ns >= LOCKLESS_NS:
            return True
        return any(self._is_apart(each) for each in self._recent[self._place(first)])

    def _is_apart(self, fill: Event) -> bool:
        """Whether it was overdue, or its call had given up: another may have led beside it, and followed nobody."""
        return fill.end_ns - fill.filled_ns >= self._overdue_ns or fill.version >= VAIN_ATTEMPTS


def listen() -> None:
    """In a process of the fleet, before a mutant is planted: find out which fills nobody can be told of, and what each
    call follows."""
    lead, claim_slot, join, wait = Claims.lead, Segment.claim_slot, Claims.join, Flights.wait

    def lead_and_tell(self: Claims, high: int, low: int, up_ms: int) -> tuple[Claim | None, bool]:
        found = lead(self, high, low, up_ms)
        _tell(found[0] is not None)
        return found

    def claim_slot_and_tell(self: Segment, wall_ms: int) -> int:
        found = claim_slot(self, wall_ms)
        _tell(found != 0)
        return found

    def join_and_count(self: Claims, claim: Claim) -> None:
        _count(claim)
        join(self, claim)

    def wait_and_count(
        self: Flights, flight: Flight, waker: Callable[[], object], waiting: Iterable[Flight]
    ) -> bool:  # fmt: skip
        _count(flight)
        return wait(self, flight, waker, waiting)

    Claims.lead = lead_and_tell  # type: ignore[method-assign]
    Segment.claim_slot = claim_slot_and_tell  # type: ignore[method-assign]
    Claims.join = join_and_count  # type: ignore[method-assign]
    Flights.wait = wait_and_count  # type: ignore[method-assign]


def _tell(is_told: bool) -> None:
    call = calling.get()
    if call is not None and not is_told:
        call.is_untold = True


def _count(flight: Flight | Claim) -> None:
    call = calling.get()
    if call is not None:
        call.follow(flight)
