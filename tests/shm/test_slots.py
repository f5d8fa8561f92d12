"""zoocache/shm/slots.py: a process is named by a word, and its death is proved by a lock."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.crowd import together
from tests.forks import Forks
from zoocache.shm import kernel, points
from zoocache.shm.layout import LOCK_SLOTS
from zoocache.shm.segment import Segment
from zoocache.shm.slots import NOBODY, Slots

WALL_MS = 1_700_000_000_000


def slot_of(owner: int) -> int:
    """Where the process that a word names has its slot."""
    return owner & 0xFFFF


@pytest.fixture
def make_slots(segment: Segment) -> Iterator[Callable[[], Slots]]:
    """The slots of one segment as further processes see them: through a description of their own."""

    def make() -> Slots:
        return Slots(segment.words, segment.layout, kernel.Description(segment._open_again()))

    return make


def claim_and_sleep(segment: Segment, say: int) -> None:
    """In a forked child: take a slot, tell its word, and sleep."""
    segment.after_fork()
    os.write(say, str(segment.claim_slot(WALL_MS)).encode())
    time.sleep(1000)


def test_a_word_names_one_process(segment: Segment, make_slots: Callable[[], Slots]) -> None:
    """Two processes have two words; asking again gives the same one."""
    mine = segment.claim_slot(WALL_MS)
    theirs = make_slots().claim(WALL_MS)
    assert len({NOBODY, mine, theirs}) == 3
    assert mine == segment.claim_slot(WALL_MS) == segment.slots.owner


def test_the_living_are_not_dead(segment: Segment, make_slots: Callable[[], Slots]) -> None:
    """Each sees itself and the other alive."""
    other = make_slots()
    mine, theirs = segment.claim_slot(WALL_MS), other.claim(WALL_MS)
    assert [False] * 4 == [each.is_dead(word) for each in (segment.slots, other) for word in (mine, theirs)]


def test_who_left_in_order_is_gone(segment: Segment, make_slots: Callable[[], Slots]) -> None:
    """The word of one who left is dead, now and when another has the slot."""
    other = make_slots()
    left = other.claim(WALL_MS)
    other.leave()
    assert segment.slots.is_dead(left)
    heir = segment.claim_slot(WALL_MS)
    assert slot_of(left) == slot_of(heir)
    assert heir != left
    assert segment.slots.is_dead(left)


def test_a_kill_is_proved(segment: Segment, forks: Forks) -> None:
    """The word of a living process is alive while it runs or is stopped, and dead once it was killed."""
    readable, writable = os.pipe()
    child = forks.fork(claim_and_sleep, segment, writable)
    word = int(os.read(readable, 30))
    assert not segment.slots.is_dead(word)
    child.stop()
    assert not segment.slots.is_dead(word)
    child.kill()
    assert segment.slots.is_dead(word)
    os.close(readable)
    os.close(writable)


def test_words_that_nobody_has(segment: Segment) -> None:
    """Nobody, a slot beyond the last one, and an epoch that was never reached are dead."""
    segment.claim_slot(WALL_MS)
    beyond = 1 << 16 | segment.layout.slots
    assert [True] * 3 == [segment.slots.is_dead(word) for word in (NOBODY, beyond, segment.slots.owner + (1 << 16))]


def test_a_forked_child_is_somebody_else(segment: Segment, forks: Forks) -> None:
    """A child has no slot until it claims one, gets another than its parent's, and sees its parent alive."""
    parent = segment.claim_slot(WALL_MS)

    def look() -> None:
        segment.after_fork()
        assert NOBODY == segment.slots.owner
        assert slot_of(parent) != slot_of(segment.claim_slot(WALL_MS))
        assert not segment.slots.is_dead(parent)

    assert 0 == forks.fork(look).wait()


def test_a_child_does_not_keep_its_dead_parents_slot_alive(segment: Segment, forks: Forks) -> None:
    """A parent that is killed is proved dead though its forked child lives on, attached."""
    readable, writable = os.pipe()

    def parent() -> None:
        segment.after_fork()
        word = segment.claim_slot(WALL_MS)
        child = os.fork()
        if not child:
            segment.after_fork()
            segment.claim_slot(WALL_MS)
            os.write(writable, f"{word} {os.getpid()}".encode())
        time.sleep(1000)

    killed = forks.fork(parent)
    word, grandchild = map(int, os.read(readable, 60).split())
    try:
        assert not segment.slots.is_dead(word)
        killed.kill()
        assert segment.slots.is_dead(word)
        os.kill(grandchild, 0)  # it lives
    finally:
        os.kill(grandchild, 9)
    os.close(readable)
    os.close(writable)


def test_all_slots_taken(segment: Segment, make_slots: Callable[[], Slots]) -> None:
    """When every slot has a living owner the next one is nobody; a slot that is given back serves it."""
    crowd = [make_slots() for _ in range(segment.layout.slots)]
    words = [each.claim(WALL_MS) for each in crowd]
    assert segment.layout.slots == len({slot_of(word) for word in words})
    assert NOBODY == segment.claim_slot(WALL_MS)
    crowd[5].leave()
    assert slot_of(words[5]) == slot_of(segment.claim_slot(WALL_MS))


def test_slots_of_the_dead_serve_again(segment: Segment, make_slots: Callable[[], Slots], forks: Forks) -> None:
    """A slot whose owner was killed is taken when no other is left."""
    readable, writable = os.pipe()
    child = forks.fork(claim_and_sleep, segment, writable)
    word = int(os.read(readable, 30))
    crowd = [make_slots() for _ in range(segment.layout.slots - 1)]
    assert NOBODY not in [each.claim(WALL_MS) for each in crowd]
    assert NOBODY == segment.claim_slot(WALL_MS)
    child.kill()
    assert slot_of(word) == slot_of(segment.claim_slot(WALL_MS))
    os.close(readable)
    os.close(writable)


def test_threads_of_a_process_share_its_slot(attach_here: Callable[..., Segment]) -> None:
    """Threads that need a slot at the same moment get one, and one word: a second would declare the first one dead."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            segment = attach_here()
            words = {each.result() for each in together([lambda s=segment: s.claim_slot(WALL_MS)] * 4)}
            assert {segment.slots.owner} == words
            segment.leave()
    finally:
        sys.setswitchinterval(before)


def test_processes_show_their_counters(segment: Segment, make_slots: Callable[[], Slots]) -> None:
    """The living are listed with pid and counters; who has left is not."""
    other = make_slots()
    other.claim(WALL_MS)
    segment.claim_slot(WALL_MS + 5)
    segment.slots.report(3, 2, 1, 77)
    mine = (os.getpid(), WALL_MS + 5, 3, 2, 1, 77)
    assert [(os.getpid(), WALL_MS, 0, 0, 0, 0), mine] == sorted(map(tuple, segment.slots.processes()))
    other.leave()
    assert [mine] == list(map(tuple, segment.slots.processes()))


def test_counters_begin_at_nothing(segment: Segment, make_slots: Callable[[], Slots]) -> None:
    """Who takes a used slot does not inherit its counters."""
    other = make_slots()
    other.claim(WALL_MS)
    other.report(9, 9, 9, 9)
    other.leave()
    segment.claim_slot(WALL_MS)
    assert [(0, 0, 0)] == [(each.hits, each.misses, each.fills) for each in segment.slots.processes()]


def test_who_has_left_is_nobody(segment: Segment) -> None:
    """After `leave` there is no slot to be had, everybody counts as dead, and nothing is listed or reported."""
    mine = segment.claim_slot(WALL_MS)
    slots = segment.slots
    slots.leave()
    slots.leave()
    slots.report(1, 1, 1, 1)
    assert (NOBODY, True, []) == (slots.claim(WALL_MS), slots.is_dead(mine), list(slots.processes()))
    assert not kernel.is_held(segment._description.fd, LOCK_SLOTS + slot_of(mine))


@pytest.mark.parametrize("point", ["slot.locked", "slot.named"])
def test_a_handler_that_takes_a_slot_too(segment: Segment, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """A signal handler's call that interrupts the taking of a slot leaves the process with one slot, and whatever it
    leads with an owner who can end it."""
    led = []

    def interrupt(name: str) -> None:
        if name == point and not led:
            led.append(None)
            segment.claim_slot(0)
            led[0] = segment.write(segment.claims.lead, 1, 2, 0)[0]

    monkeypatch.setattr(points, "ARMED", {point: ("handler", 1)})
    monkeypatch.setattr(points, "reach", interrupt)
    assert segment.claim_slot(0) == segment.slots.owner
    assert led[0] is not None
    segment.claims.end(led[0])
    assert 0 == segment.claims.running()
    assert 1 == len(list(segment.slots.processes()))
    another = kernel.Description(segment._open_again())
    assert 1 == sum(kernel.is_held(another.fd, LOCK_SLOTS + index) for index in range(8))
