"""The judge of P4: two fills of a key at the same time, and what excuses them."""

from __future__ import annotations

from array import array

import pytest

from stress import once
from stress.events import Event, Ring
from stress.once import Once
from stress.ways import Calling, calling
from zoocache.flight import Flight, Flights
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.segment import Segment

MS = 1_000_000
OVERDUE_NS = 1000 * MS
LATE_NS = 10_000 * MS


def fill(called: int, start: int, end: int, key: int = 1, way: int = 2, process: int = 7, vain: int = 0) -> Event:
    """A fill, when the call began that it is for, in milliseconds; and how many flights that had followed in vain."""
    return Event(start * MS, end * MS, "fill", key, version=vain, way=way, filled_ns=called * MS, process=process)


def judged(*events: Event) -> list[tuple[int, int]]:
    """The pairs that nothing excuses, by when they began."""
    judge = Once(lambda each: each.process, OVERDUE_NS)
    judge.hear(events)
    return [(first.start_ns // MS, second.start_ns // MS) for first, second in judge.judge(LATE_NS)]


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


def test_who_follows_in_vain() -> None:
    """Who comes when a fill was overtaken waits for its end, however many are; it gives up at the eighth, no sooner."""
    many = [Event(10 * MS, 11 * MS, "invalidate", 1)] * 100
    assert [(1, 50)] == judged(fill(0, 1, 90), fill(4, 50, 70, vain=7), *many)
    assert [] == judged(fill(0, 1, 90), fill(4, 50, 70, vain=8))


def test_beside_one_who_gave_up() -> None:
    """It computes apart: who comes then finds nobody to follow, and a third may come when its claim is over."""
    assert [] == judged(fill(0, 20, 90, vain=8), fill(40, 41, 70))
    assert [] == judged(fill(0, 20, 50, vain=8), fill(40, 41, 90), fill(60, 61, 80))


def test_what_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call follows a flight once, however often it asks for it; flights and claims are counted apart."""
    for owner, name in ((Claims, "lead"), (Claims, "join"), (Segment, "claim_slot"), (Flights, "wait")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    once.listen()
    flights, call = Flights(), Calling(Ring(memoryview(array("Q", [0])), 0, 0), 0)
    one, other = flights.join(Flight("a")), flights.join(Flight("b"))
    flights.wait(one, int, ())
    token = calling.set(call)
    assert 0 == call.attempts
    for expected, flight in ((1, one), (1, one), (2, other)):
        assert flights.wait(flight, int, ())
        assert expected == call.attempts
    call.follow(Claim(1, 2))
    assert 2 == call.attempts
    for ticket in (2, 3, 4):
        call.follow(Claim(1, ticket))
    assert 3 == call.attempts
    calling.reset(token)


def test_the_overdue_are_replaced() -> None:
    """A leader that takes longer than `flight_timeout` is; and nothing is expected of its key soon after that."""
    assert [] == judged(fill(0, 1, 3000), fill(5, 1001, 1002))
    assert [] == judged(fill(0, 1, 3000), fill(3001, 3002, 3009), fill(3003, 3004, 3005))


def test_who_waits_for_a_lock_in_vain() -> None:
    """After so long a call computes without telling the others."""
    for late, expected in ((2001, 0), (1999, 1)):
        judge = Once(lambda each: each.process, 5 * OVERDUE_NS)
        judge.hear([fill(0, late, late + 9), fill(late, late + 3, late + 4)])
        assert expected == len(judge.judge(LATE_NS))


def test_what_is_not_ripe_waits() -> None:
    """A pair is judged once everything was heard up to its end."""
    judge = Once(lambda each: each.process, OVERDUE_NS)
    judge.hear([fill(0, 1, 9), fill(4, 5, 7)])
    assert [] == judge.judge(7 * MS)
    assert 1 == len(judge.judge(7 * MS + 1))
    assert [] == judge.judge(LATE_NS)
    assert 2 == judge.fills
