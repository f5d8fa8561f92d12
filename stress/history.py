"""The history checker: whether all that was read can be explained by what was written, and when.

The oracle (oracle.py) judges each read at once, by the version that it brought. This looks at the whole afterwards: at
events with a start and an end by one clock, each of which took effect at some moment in between.

**What is allowed.** A tag is a register, an invalidation writes it, a read of a cached value reads the registers of
its tags. The strictest order, linearizability (Herlihy and Wing 1990), is not what the library promises: while an
invalidation is under way, one process may have the new value and the next one the old. P1 and P2 of the promises are
Lamport's *regular register* (On interprocess communication, 1986): a read brings what was written by the last write
that ended before the read began, or by one that overlaps it. Who checks that need not search among orders, as checkers
of linearizability must (Wing and Gong 1993; Knossos of the Jepsen tests): for each read, one number says what is the
least that it may bring. As in Elle (Kingsbury and Alvaro 2020) the values say who made them, here even when. So:

    FRESH    Let `begun` be the latest start among the mutations that overtake the value and ended before the read
             started. The fill of what was read saw the truth at `begun` or later. This is P1 word for word, P2 for
             followers (their call, too, has a start), and P3: what was dead once stays so, whatever happened since,
             for the rule forgets no mutation.
    DROPPED  The same for `invalidate_call`, which overtakes one call. Only of values that their own fill has seen: an
             outer value may be made of an inner one that is older.
    VERSION  The version that was read is not below that of any mutation of its key that ended before. It needs no
             clock in the value.
    FUTURE   The truth had that version before the read ended.
    MIXED    The truth had no later version yet when the fill saw it: nobody gets the moment of one fill with the
             version of another.
    OLD      What has a greatest age was not read later than that after the end of a call during which it was filled.

Each comparison is strict and leans to the side of what was read: a mutation counts as ended when its caller had the
control back, a fill as begun when its function looked at the truth. Events that are missing (a killed process noted no
end) make the checker see less, and never more than there was; none is written over before it was seen (events.py). With
several hosts a mutation counts on its own host from its end on, and on the others from the next moment at which all had
heard everything.

**How it is computed.** For each key the mutations are sorted by their end, with the latest start so far beside each;
one binary search a read answers FRESH, and so on: n log n altogether. Only the last KEPT mutations of a key are kept,
and among those before, the latest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

from stress.events import Event, lines

KEPT = 2048
AROUND = 40
"""So many events are told of a violation."""
BEFORE_NS = 1_000_000
"""They are told from so long before the first of what matters."""
GRACE_NS = 1_000_000_000
"""Ages are not exact: a process may lose the processor between asking how old an entry is and holding it."""

MUTATIONS = frozenset({"invalidate", "set", "delete", "clear"})


What = TypeVar("What")
Value = TypeVar("Value")


class Violation(NamedTuple):
    """A read that nothing explains.

    Attributes:
        rule: by its name above.
        read: the event.
        by: the event that forbids it.
        why: in words.
    """

    rule: str
    read: Event
    by: Event
    why: str


class World(NamedTuple):
    """What the checker has to know of a program.

    Attributes:
        reached: kind, key and tag of a mutation -> the keys that it overtakes.
        host_of: slot -> host.
        own_fill: ways of reading whose own fill sees the truth; for DROPPED.
        oldest_ns: way -> greatest age; for OLD.
    """

    reached: Callable[[str, int, int], Iterable[int]]
    host_of: Callable[[int], int] = lambda _: 0
    own_fill: Collection[int] = ()
    oldest_ns: Mapping[int, int] = {}


class Mutations:
    """Those that have ended and concern one thing: a key on a host, or a call."""

    __slots__ = ("_ends", "_events", "_highest", "_is_sorted", "_key", "_latest")

    def __init__(self, key: int) -> None:
        self._key = key
        self._events: list[Event] = []
        self._is_sorted = True
        self._ends: list[int] = []
        self._latest: list[Event] = []
        self._highest: list[Event] = []

    def add(self, event: Event) -> None:
        """One that has ended."""
        self._events.append(event)
        self._is_sorted = False

    def latest(self, before_ns: int) -> Event | None:
        """Of those that ended before a moment, the one that began last."""
        place = self._place(before_ns)
        return self._latest[place - 1] if place else None

    def highest(self, before_ns: int) -> Event | None:
        """Of those that ended before a moment, the one with the highest version of this key."""
        place = self._place(before_ns)
        return self._highest[place - 1] if place else None

    def _place(self, before_ns: int) -> int:
        """How many ended before a moment."""
        if not self._is_sorted:
            self._sort()
        return bisect_left(self._ends, before_ns)

    def _sort(self) -> None:
        self._events.sort(key=lambda each: each.end_ns)
        if len(self._events) > 2 * KEPT:
            past = self._events[:-KEPT]
            self._events[:-KEPT] = [max(past, key=lambda each: each.start_ns), max(past, key=self._version)]
            self._events.sort(key=lambda each: each.end_ns)
        self._ends = [each.end_ns for each in self._events]
        self._latest = list(accumulate(self._events, _later))
        self._highest = list(accumulate(self._events, self._higher))
        self._is_sorted = True

    def _higher(self, one: Event, other: Event) -> Event:
        return other if self._version(other) > self._version(one) else one

    def _version(self, event: Event) -> int:
        return event.version if event.key == self._key else 0


def _later(one: Event, other: Event) -> Event:
    return other if other.start_ns > one.start_ns else one


class Checker:
    """See the head of this file. Events are given in pieces: first all that mutations and fills say, then the reads.

    Args:
        world: of the program.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._on_host: dict[tuple[int, int], Mutations] = {}  # by host and key
        self._anywhere: dict[int, Mutations] = {}  # by key
        self._drops: dict[tuple[int, int, int], Mutations] = {}  # by host, way and key
        self._settled: list[int] = []  # moments, in their order
        self._begun: dict[int, dict[int, Event]] = defaultdict(dict)  # by key and version
        self._set: dict[int, dict[int, Event]] = defaultdict(dict)
        self._landed: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)  # by way; (key, filled) -> end

    def hear(self, events: Iterable[Event]) -> None:
        """Take in what the reads are to be judged by."""
        for event in events:
            if event.kind in MUTATIONS:
                self._hear_mutation(event)
            elif event.kind == "begun" and event.version:  # a drop changes no truth
                _remember(self._begun[event.key], event.version, event)
            elif event.kind == "drop" and event.way in self._world.own_fill:
                call = self._world.host_of(event.slot), event.way, event.key
                self._drops.setdefault(call, Mutations(event.key)).add(event)
            elif event.kind == "settled":
                self._settled.append(event.start_ns)
            elif event.kind == "read":
                self._hear_fill(event)

    def _hear_mutation(self, event: Event) -> None:
        host = self._world.host_of(event.slot)
        for key in self._world.reached(event.kind, event.key, event.tag):
            self._on_host.setdefault((host, key), Mutations(key)).add(event)
            self._anywhere.setdefault(key, Mutations(key)).add(event)
        if event.kind == "set":
            _remember(self._set[event.key], event.version, event)

    def _hear_fill(self, read: Event) -> None:
        """Who was there during a fill had its value, at the latest, when it came back."""
        if read.way in self._world.oldest_ns and read.start_ns <= read.filled_ns:
            landed, what = self._landed[read.way], (read.key, read.filled_ns)
            _remember(landed, what, min(read.end_ns, landed.get(what, read.end_ns)))

    def judge(self, reads: Iterable[Event]) -> list[Violation]:
        """What is wrong with these reads, by all that was heard."""
        return [found for read in reads if read.kind == "read" for found in self._judge(read)]

    def _judge(self, read: Event) -> Iterable[Violation]:
        yield from self._judge_fill(read)
        yield from self._judge_version(read)
        yield from self._judge_age(read)

    def _judge_fill(self, read: Event) -> Iterable[Violation]:
        filled_ns = self._filled_ns(read)
        if not filled_ns:
            return
        for mutations, before_ns in self._mutations(read):
            by = mutations.latest(before_ns)
            if by is not None and filled_ns < by.start_ns:
                yield Violation("FRESH", read, by, f"what was read was filled {_ms(by.start_ns - filled_ns)} before")
        drops = self._drops.get((self._world.host_of(read.slot), read.way, read.key))
        by = drops.latest(read.start_ns) if drops is not None else None
        if by is not None and filled_ns < by.start_ns:
            yield Violation("DROPPED", read, by, f"what was read was filled {_ms(by.start_ns - filled_ns)} before")

    def _filled_ns(self, read: Event) -> int:
        """What was set was there, at the latest, when the call ended; 0: nobody knows."""
        if read.filled_ns:
            return read.filled_ns
        kept = self._set[read.key].get(read.version)
        return kept.end_ns if kept is not None else 0

    def _mutations(self, read: Event) -> list[tuple[Mutations, int]]:
        """Those that a read must know of, and until when they ended."""
        on_host = self._on_host.get((self._world.host_of(read.slot), read.key))
        anywhere = self._anywhere.get(read.key) if self._settled else None
        found = [] if on_host is None else [(on_host, read.start_ns)]
        place = bisect_left(self._settled, read.start_ns)
        return found if anywhere is None or not place else [*found, (anywhere, self._settled[place - 1])]

    def _judge_version(self, read: Event) -> Iterable[Violation]:
        for mutations, before_ns in self._mutations(read):
            by = mutations.highest(before_ns)
            if by is not None and by.key == read.key and read.version < by.version:
                yield Violation("VERSION", read, by, f"version {read.version} was read, {by.version} was finished")
        begun = self._begun[read.key]
        first, later = begun.get(read.version), begun.get(read.version + 1)
        if first is not None and read.end_ns < first.start_ns:
            yield Violation("FUTURE", read, first, f"version {read.version} began later")
        if later is not None and read.filled_ns > later.end_ns:
            yield Violation("MIXED", read, later, f"version {later.version} was true when the fill saw the truth")

    def _judge_age(self, read: Event) -> Iterable[Violation]:
        landed_ns = self._landed[read.way].get((read.key, read.filled_ns)) if read.way in self._landed else None
        if landed_ns is None:
            return
        late_ns = read.start_ns - landed_ns - self._world.oldest_ns[read.way]
        if late_ns > GRACE_NS:
            yield Violation("OLD", read, read, f"it was read {_ms(late_ns)} after its end")


def _remember(place: dict[What, Value], what: What, value: Value) -> None:
    """Keep something, and the last KEPT things at least."""
    place[what] = value
    if len(place) > 2 * KEPT:
        for old in list(place)[:KEPT]:
            del place[old]


def check(events: Sequence[Event], world: World) -> list[Violation]:
    """Judge a whole history at once."""
    checker = Checker(world)
    checker.hear(events)
    return checker.judge(events)


def explain(violation: Violation, events: Iterable[Event], world: World, tags: list[str]) -> str:
    """A violation in words, with the events around it that concern its key."""
    read, by = violation.read, violation.by
    since_ns = min(read.filled_ns or by.start_ns, by.start_ns) - BEFORE_NS
    near = (each for each in events if since_ns <= each.end_ns and each.start_ns <= read.end_ns)
    around = sorted(
        (each for each in near if each.key == read.key or _overtakes(each, read, world)), key=lambda each: each.end_ns
    )
    few = around if len(around) <= AROUND else [*around[: AROUND // 2], *around[-AROUND // 2 :]]
    return (
        f"{violation.rule}: {violation.why}\n  what forbids it, and the read:\n{lines([by, read], tags, since_ns)}\n"
        f"  events of its key around, {len(few)} of {len(around)}:\n{lines(few, tags, since_ns)}"
    )


def _overtakes(event: Event, read: Event, world: World) -> bool:
    return event.kind in MUTATIONS and read.key in world.reached(event.kind, event.key, event.tag)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.3f} ms"
