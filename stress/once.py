"""The judge of P4 under invalidations and kills: on a host no key is computed twice at the same time.

The fills of the ways that no reader takes inside another one, and that nobody refreshes, are noted with start and end,
and with the start of their call. Two of one key overlap only if the second one's call

    began, altogether, so long after the first one's that this counts as overdue (`flight_timeout`)
    or met so many mutations while it waited that it may have given up following: each can spoil one flight for it
    or waited so long that it may have done without a lock that cannot be had; or the first one's did
    or came after a leader who was overdue, and may have ended the claim of its successor when it woke

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
from zoocache.engine.call import TRIES
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.lock import DEFAULT_TIMEOUT_S
from zoocache.shm.segment import Segment

MUTATIONS = frozenset(("invalidate", "set", "delete", "clear", "prune", "visitors", "drop", "busy"))
KEPT_FILLS, KEPT_MUTATIONS = 64, 20_000
LOCKLESS_NS = int(DEFAULT_TIMEOUT_S * 0.75e9)


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
        self._mutations: deque[Event] = deque(maxlen=KEPT_MUTATIONS)
        self._pairs: list[Pair] = []

    def hear(self, events: Iterable[Event]) -> None:
        """Take in what was noted."""
        for event in events:
            if event.kind == "fill":
                self._hear_fill(event)
            elif event.kind in MUTATIONS:
                self._mutations.append(event)

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
        if any(each.end_ns - each.filled_ns >= self._overdue_ns for each in self._recent[self._place(first)]):
            return True
        met = sum(each.start_ns < second.start_ns and each.end_ns > second.filled_ns for each in self._mutations)
        return met >= TRIES


def listen() -> None:
    """In a process of the fleet, before a mutant is planted: find out which fills nobody can be told of."""
    lead, claim_slot = Claims.lead, Segment.claim_slot

    def lead_and_tell(self: Claims, high: int, low: int, up_ms: int) -> tuple[Claim | None, bool]:
        found = lead(self, high, low, up_ms)
        _tell(found[0] is not None)
        return found

    def claim_slot_and_tell(self: Segment, wall_ms: int) -> int:
        found = claim_slot(self, wall_ms)
        _tell(found != 0)
        return found

    Claims.lead = lead_and_tell  # type: ignore[method-assign]
    Segment.claim_slot = claim_slot_and_tell  # type: ignore[method-assign]


def _tell(is_told: bool) -> None:
    call = calling.get()
    if call is not None and not is_told:
        call.is_untold = True
