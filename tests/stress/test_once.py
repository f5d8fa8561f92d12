"""The judge of P4: two fills of a key at the same time, and what excuses them."""

from __future__ import annotations

from stress.events import Event
from stress.once import LOCKLESS_NS, Once
from zoocache.engine.call import TRIES

MS = 1_000_000
OVERDUE_NS = 1000 * MS
LATE_NS = 10_000 * MS


def fill(called: int, start: int, end: int, key: int = 1, way: int = 2, process: int = 7) -> Event:
    """A fill, and when the call began that it is for; in milliseconds."""
    return Event(start * MS, end * MS, "fill", key, way=way, filled_ns=called * MS, process=process)


def mutations(count: int, start: int, end: int) -> list[Event]:
    """So many, all in that time."""
    return [Event(start * MS, end * MS, "invalidate", 3)] * count


def judged(*events: Event) -> list[tuple[int, int]]:
    """The pairs that nothing excuses, by when they began."""
    once = Once(lambda each: each.process, OVERDUE_NS)
    once.hear(events)
    return [(first.start_ns // MS, second.start_ns // MS) for first, second in once.judge(LATE_NS)]


def test_two_at_once() -> None:
    """Two fills of a key that overlap are told of, whichever was noted first."""
    first, second = fill(0, 1, 9), fill(4, 5, 7)
    assert [(1, 5)] == judged(first, second) == judged(second, first)


def test_what_may_be() -> None:
    """One after the other, or of other keys, ways or processes: nobody computed for anybody else."""
    first = fill(0, 1, 9)
    assert [] == judged(first, fill(4, 9, 12))
    for other in (fill(4, 5, 7, key=2), fill(4, 5, 7, way=3), fill(4, 5, 7, process=8)):
        assert [] == judged(first, other)


def test_an_invalidation_is_no_excuse() -> None:
    """Who comes when a fill was overtaken waits for its end; who met that many while it waited may have given up."""
    first, second = fill(0, 1, 90), fill(4, 50, 70)
    assert [(1, 50)] == judged(first, second, *mutations(TRIES - 1, 10, 11))
    assert [] == judged(first, second, *mutations(TRIES, 10, 11))
    assert [(1, 50)] == judged(first, second, *mutations(TRIES, 2, 3)), "before its call"


def test_the_overdue_are_replaced() -> None:
    """A leader that takes longer than `flight_timeout` is; and nothing is expected of its key soon after that."""
    assert [] == judged(fill(0, 1, 3000), fill(5, 1001, 1002))
    assert [] == judged(fill(0, 1, 3000), fill(3001, 3002, 3009), fill(3003, 3004, 3005))


def test_who_waits_for_a_lock_in_vain() -> None:
    """After so long a call computes without telling the others."""
    late = LOCKLESS_NS // MS
    once = Once(lambda each: each.process, 5 * OVERDUE_NS)
    once.hear([fill(0, late + 1, late + 9), fill(late, late + 3, late + 4)])
    assert [] == once.judge(LATE_NS)


def test_what_is_not_ripe_waits() -> None:
    """A pair is judged once everything was heard up to its end."""
    once = Once(lambda each: each.process, OVERDUE_NS)
    once.hear([fill(0, 1, 9), fill(4, 5, 7)])
    assert [] == once.judge(7 * MS)
    assert 1 == len(once.judge(7 * MS + 1))
    assert [] == once.judge(LATE_NS)
    assert 2 == once.fills
