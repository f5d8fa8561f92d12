"""zoocache/shm/outbox.py: what the other hosts have still to be told."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forks import Forks
from zoocache.shm import points
from zoocache.shm.layout import (
    H_OUT_CLEAR_TO,
    H_OUT_HEAD,
    H_OUT_LOST,
    H_OUT_TAIL,
    HEADER_WORDS,
    MIN_SIZE,
    R_SIZE,
    R_STATE,
    RECORD_WORDS,
    WORD,
    layout_of,
)
from zoocache.shm.outbox import BEGUN, DONE, NOWHERE, UNSENT, Outbox, Place, Unsound
from zoocache.shm.segment import Segment

LAYOUT = layout_of(MIN_SIZE)
ALL = LAYOUT.outbox
OWNER = 77


def outbox_in(raw: bytearray) -> tuple[Outbox, memoryview]:
    """An outbox in memory of this process alone, and its words."""
    view = memoryview(raw)
    return Outbox(view.cast("Q"), view, LAYOUT), view.cast("Q")


@pytest.fixture
def words() -> memoryview:
    """The words of a segment that is not shared."""
    return memoryview(bytearray(MIN_SIZE)).cast("Q")


@pytest.fixture
def outbox(words: memoryview) -> Outbox:
    """An outbox in them."""
    return Outbox(words, words.cast("B"), LAYOUT)


def unsent(outbox: Outbox, payload: bytes) -> Place:
    """Append what is to be told."""
    place = outbox.append(OWNER, payload)
    outbox.become(place, UNSENT)
    return place


def told(outbox: Outbox, *places: Place) -> None:
    """Tell these."""
    for place in places:
        assert outbox.become(place, DONE)
    outbox.settle()


def payloads(outbox: Outbox) -> list[bytes]:
    """What waits."""
    return [record.payload for record in outbox.waiting(ALL)]


def test_an_empty_outbox(outbox: Outbox) -> None:
    """Where nothing was said, there is nothing to tell."""
    assert (True, [], False, (0, 0)) == (
        outbox.is_empty(), outbox.waiting(ALL), outbox.hides_something(), outbox.lost(),
    )  # fmt: skip


def test_what_is_appended_waits_in_order(outbox: Outbox) -> None:
    """Records are found in their order, with their owner and their state."""
    first, second = outbox.append(OWNER, b"one"), unsent(outbox, b"")
    assert [(first, BEGUN, OWNER, b"one"), (second, UNSENT, OWNER, b"")] == outbox.waiting(ALL)
    assert not outbox.is_empty()


def test_what_is_told_is_gone(outbox: Outbox) -> None:
    """The tail moves over what is told, and no further than the first that is not."""
    one, two, three = (unsent(outbox, payload) for payload in (b"1", b"22", b"333"))
    told(outbox, two)
    assert (False, False) == (outbox.is_told(one.end), outbox.is_told(two.end))
    told(outbox, one)
    assert (True, True, False) == tuple(outbox.is_told(place.end) for place in (one, two, three))
    told(outbox, three)
    assert outbox.is_empty()


def test_a_record_changes_once(outbox: Outbox) -> None:
    """Who comes back to a record that was told by another, or lost, learns that it is not there."""
    place = unsent(outbox, b"x")
    told(outbox, place)
    assert not outbox.become(place, UNSENT)
    lost = unsent(outbox, b"y")
    outbox.lose()
    assert not outbox.become(lost, DONE)
    assert not outbox.become(Place(NOWHERE, 8), DONE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=900), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_ring_goes_round(steps: list[tuple[bytes, int]]) -> None:
    """Whatever the lengths are, what waits is what was appended and not told, across the ring's end and for ever."""
    outbox, words = outbox_in(bytearray(MIN_SIZE))
    waiting: list[tuple[Place, bytes]] = []
    for payload, tell in steps * 3:
        waiting.append((unsent(outbox, payload), payload))
        if outbox.lost()[1]:
            lost, _ = outbox.lost()
            assert outbox.told_lost(lost)
            waiting = [each for each in waiting if not outbox.is_told(each[0].end)]
        for place, _ in waiting[:tell]:
            told(outbox, place)
        del waiting[:tell]
        assert [payload for _, payload in waiting] == payloads(outbox)
        assert [] == outbox.faults()
    assert words[H_OUT_TAIL] <= words[H_OUT_HEAD]


def fill(outbox: Outbox) -> list[Place]:
    """Append until something is lost; the last one is there."""
    places = []
    while not outbox.lost()[1]:
        places.append(unsent(outbox, bytes(200)))
    return places


def test_full_is_not_wrong(outbox: Outbox) -> None:
    """Where there is no room, all that waits is lost, and one message stands for it; the newest goes in."""
    places = fill(outbox)
    assert [bytes(200)] == payloads(outbox)
    assert 10 < len(places)
    assert not any(outbox.is_told(place.end) for place in places)
    assert outbox.told_lost(outbox.lost()[0])
    assert [True] * (len(places) - 1) + [False] == [outbox.is_told(place.end) for place in places]
    told(outbox, places[-1])
    assert outbox.is_empty()
    assert [] == outbox.faults()


def test_what_is_lost_while_it_is_told_is_told_again(outbox: Outbox) -> None:
    """More that is lost after a message that clears everything was begun is not covered by it."""
    fill(outbox)
    lost, pending = outbox.lost()
    late = outbox.append(OWNER, bytes(ALL))
    assert (1, NOWHERE) == (pending, late.start)
    assert not outbox.told_lost(lost)
    assert not outbox.is_told(late.end)
    assert outbox.told_lost(outbox.lost()[0])
    assert outbox.is_told(late.end)


def test_what_was_told_behind_the_lost(outbox: Outbox) -> None:
    """What was told while something before it was lost does not hold the tail up once that is told too."""
    outbox.lose()
    place = unsent(outbox, b"x")
    told(outbox, place)
    assert not outbox.is_told(place.end)
    outbox.told_lost(outbox.lost()[0])
    assert outbox.is_told(place.end)
    assert outbox.is_empty()


def test_too_large_for_any_room(outbox: Outbox) -> None:
    """A payload that can never fit is lost at once, even from an empty outbox, and that is told."""
    place = outbox.append(OWNER, bytes(ALL))
    assert (NOWHERE, 1, False) == (place.start, outbox.lost()[1], outbox.is_told(place.end))
    assert outbox.told_lost(1)
    assert outbox.is_told(place.end)
    assert outbox.is_empty()


def test_the_largest_that_fits(outbox: Outbox) -> None:
    """A payload that leaves no word free is kept whole."""
    payload = bytes(range(256)) * (ALL // 256)
    payload = payload[: ALL - RECORD_WORDS * WORD]
    unsent(outbox, payload)
    assert [payload] == payloads(outbox)


def test_only_some_are_handed_out(outbox: Outbox) -> None:
    """Who asks for some bytes gets the first records only."""
    for number in range(10):
        unsent(outbox, bytes([number]) * 64)
    assert [bytes([number]) * 64 for number in range(3)] == [each.payload for each in outbox.waiting(3 * 96)]


def test_nobody_holds_up_those_behind_him(outbox: Outbox) -> None:
    """However much was told behind a record that is only begun, what is unsent after that is found."""
    begun = outbox.append(OWNER, b"stopped")
    for number in range(30):
        told(outbox, unsent(outbox, bytes([number]) * 64))
    last = unsent(outbox, b"last")
    assert [begun, last] == [record.place for record in outbox.waiting(64)]
    assert [last] == [record.place for record in outbox.peek(64) or []]


def test_a_peek(outbox: Outbox, words: memoryview) -> None:
    """Without the lock one sees what is unsent, if there is any and it makes sense."""
    assert outbox.peek(ALL) is None
    outbox.append(OWNER, b"begun")
    assert outbox.peek(ALL) is None
    place = unsent(outbox, b"x")
    assert [(place, UNSENT, OWNER, b"x")] == outbox.peek(ALL)
    words[LAYOUT.outbox_at + R_SIZE] = 3
    assert outbox.peek(ALL) is None
    assert (0, 0) == outbox.lost()


def test_what_the_store_does_not_know(outbox: Outbox) -> None:
    """Something is hidden from the store until nothing is unsent any more, whoever else is still at it."""
    begun = outbox.append(OWNER, b"stopped")
    place = unsent(outbox, b"x")
    outbox.hide(place.end)
    assert outbox.hides_something()
    told(outbox, place)
    assert not outbox.hides_something()
    assert outbox.become(begun, UNSENT)
    outbox.hide(begun.end)
    outbox.lose()
    assert outbox.hides_something()
    outbox.told_lost(outbox.lost()[0])
    assert not outbox.hides_something()


@pytest.mark.parametrize("word", [R_SIZE, R_STATE])
@pytest.mark.parametrize("value", [0, 9, 2**64 - 8])
def test_what_makes_no_sense_is_lost(outbox: Outbox, words: memoryview, word: int, value: int) -> None:
    """A record that somebody scribbled over is a fault, and is told as everything."""
    place = unsent(outbox, b"x")
    unsent(outbox, b"y")
    words[LAYOUT.outbox_at + word] = value
    assert 1 == len(outbox.faults())
    assert [] == outbox.waiting(ALL)
    assert 1 == outbox.lost()[1]
    assert [] == outbox.faults()
    assert not outbox.is_told(place.end)
    outbox.told_lost(outbox.lost()[0])
    unsent(outbox, b"z")
    assert [b"z"] == payloads(outbox)


def test_faults_of_the_header(outbox: Outbox, words: memoryview) -> None:
    """A tail above the head, and more than there can be, are faults."""
    words[H_OUT_TAIL] = 8
    assert ["the outbox's tail is above its head, or something is unsent behind that"] == outbox.faults()
    words[H_OUT_TAIL], words[H_OUT_HEAD] = 0, ALL + 8
    assert ["the outbox holds more than it can"] == outbox.faults()


def test_it_keeps_to_its_part() -> None:
    """No byte outside the header and the ring is written."""
    raw = bytearray(MIN_SIZE)
    outbox, _ = outbox_in(raw)
    for _ in range(3):
        fill(outbox)
        outbox.told_lost(outbox.lost()[0])
    start = LAYOUT.outbox_at * WORD
    assert not any(raw[HEADER_WORDS * WORD : start])
    assert not any(raw[start + ALL :])


def append_two(segment: Segment) -> None:
    """In a child: append, twice."""
    for payload in (b"one", b"two"):
        segment.write(segment.outbox.append, 0, payload)


def lose_all(segment: Segment) -> None:
    """In a child: append what cannot fit."""
    segment.write(segment.outbox.append, 0, bytes(ALL))


MOMENTS: list[tuple[str, Callable[[Segment], None], list[bytes], int]] = [
    ("outbox.written", append_two, [], 0),
    ("outbox.written@2", append_two, [b"one"], 0),
    ("outbox.appended", append_two, [b"one"], 0),
    ("outbox.lost", lose_all, [], 1),
]


@pytest.mark.parametrize(("point", "work", "there", "lost"), MOMENTS)
def test_a_kill_anywhere(
    point: str, work: Callable[[Segment], None], there: list[bytes], lost: int, segment: Segment, forks: Forks
) -> None:  # fmt: skip
    """Whoever is killed in it leaves a record that is whole or not there, and the next one goes on."""
    name, _, at = point.partition("@")

    def armed() -> None:
        segment.after_fork()
        points.ARMED = points._parse(f"{name}=kill@{at or 1}")
        work(segment)

    assert -signal.SIGKILL == forks.fork(armed).wait()
    outbox = segment.outbox
    assert (there, lost) == (payloads(outbox), outbox.lost()[1])
    place = segment.write(unsent, outbox, b"next")
    assert [*there, b"next"] == payloads(outbox)
    assert [] == outbox.faults()
    assert not outbox.is_told(place.end)
    outbox.told_lost(outbox.lost()[0])
    told(outbox, *(record.place for record in outbox.waiting(ALL)))
    assert outbox.is_empty()
    assert segment.words[H_OUT_CLEAR_TO] <= segment.words[H_OUT_TAIL]


def test_a_head_that_jumped(outbox: Outbox, words: memoryview) -> None:
    """Records that would come round again and again are none: all is lost at once."""
    for _ in range(ALL // (RECORD_WORDS * WORD)):
        unsent(outbox, b"")
    words[H_OUT_HEAD] += ALL << 30
    assert outbox.peek(1 << 50) is None
    assert [] == outbox.waiting(1 << 50)
    assert (1, 1) == outbox.lost()


def test_a_tail_that_jumped(outbox: Outbox, words: memoryview) -> None:
    """Where the tail is above the head, nobody appends what would never be told."""
    words[H_OUT_TAIL] = 800
    with pytest.raises(Unsound, match="never be told"):
        outbox.append(OWNER, b"x")


def test_killed_while_it_is_lost(outbox: Outbox, words: memoryview) -> None:
    """What was lost by somebody who was killed in the middle of that is told, and nothing is wrong with the outbox."""
    unsent(outbox, b"x")
    words[H_OUT_LOST] += 1
    words[H_OUT_CLEAR_TO] = words[H_OUT_HEAD] + WORD
    assert outbox.told_lost(1)
    assert ([], True) == (outbox.faults(), outbox.is_empty())
    assert outbox.append(OWNER, b"y").start == words[H_OUT_CLEAR_TO]
