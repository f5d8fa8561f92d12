"""The rings: what is noted is told once, and nothing that somebody attends to is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from stress.board import Board, Shape
from stress.events import NONE, RING_EVENTS, Event, Ring, Unseen, events_of
from tests.forks import Forks

LONG_S = 60.0


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """For two threads."""
    return Board(tmp_path / "board", Shape(slots=1, lanes=2))


def note_all(ring: Ring, first: int, last: int) -> None:
    """So many events, which begin at these moments."""
    for number in range(first, last):
        ring.note("read", 1, number, number)


def taken(ring: Ring) -> list[int]:
    """When those began that nobody had taken."""
    return [event.start_ns for event in events_of(ring.take())]


def test_a_ring_tells_what_is_new(board: Board) -> None:
    """Each event is told once, across the end of the ring too; what was written over is not told at all."""
    ring = board.ring(0, 1)
    seen = 0
    for many in (3, 0, RING_EVENTS - 2, RING_EVENTS - 1, 5):
        for number in range(many):
            ring.note("read", 1, number, number, filled_ns=7, way=2)
        words, count = ring.since(seen)
        assert [
            Event(number, number, "read", 1, NONE, 0, 0, 7, 2, os.getpid(), 0, 1) for number in range(many)
        ] == events_of(words)
        assert seen + many == count
        seen = count
    note_all(ring, 0, 2 * RING_EVENTS)
    words, count = ring.since(seen)
    told = [event.start_ns for event in events_of(words)]
    assert seen + 2 * RING_EVENTS == count
    assert list(range(2 * RING_EVENTS - len(told), 2 * RING_EVENTS)) == told
    assert RING_EVENTS - 1 == len(told), "the oldest may be the one that is being written over"


def test_nothing_is_written_over_unseen(board: Board) -> None:
    """A lane that is quicker than the checker waits for it: each event is taken once, in its order."""
    ring = board.ring(0, 1)
    ring.note("begun", 1, 1, 1)
    ring.attend(LONG_S)
    lane = threading.Thread(target=lambda: note_all(board.ring(0, 1), 0, 3 * RING_EVENTS))
    lane.start()
    found: list[int] = []
    while lane.is_alive():
        time.sleep(0.05)
        found += taken(ring)
    found += taken(ring)
    assert list(range(3 * RING_EVENTS)) == found


def test_a_lane_waits_before_an_operation(board: Board) -> None:
    """There is room then for all that it may note, so that it need not wait inside."""
    ring = board.ring(0, 1)
    ring.attend(0.05)
    note_all(ring, 0, RING_EVENTS - 10)
    with pytest.raises(Unseen):
        ring.await_room()
    ring.take()
    ring.await_room()


def test_nobody_comes(board: Board) -> None:
    """A checker that is dead lets nobody hang: after its patience the lane raises, and what is there stays there."""
    ring = board.ring(0, 1)
    ring.attend(0.05)
    note_all(ring, 0, RING_EVENTS - 1)
    with pytest.raises(Unseen, match=r"^the history checker has taken no event for 0.05 s, .*--slack"):
        ring.note("read", 1, 0, 0)
    assert list(range(RING_EVENTS - 1)) == taken(ring)
    ring.note("read", 1, 5, 5)
    assert [5] == taken(ring)


def test_a_lane_is_killed(board: Board, forks: Forks) -> None:
    """Wherever it was, waiting for room or not: all that it has noted is taken, and the next in its place goes on."""
    ring = board.ring(0, 1)
    ring.attend(LONG_S)
    found: list[int] = []
    for waits in (True, False):
        first = len(found)
        lane = forks.fork(note_all, board.ring(0, 1), first, first + 3 * RING_EVENTS)
        while waits and ring.since(0)[1] - len(found) < RING_EVENTS - 1:
            time.sleep(0.001)
        while not waits and len(found) < 2 * RING_EVENTS:
            found += taken(ring)
        os.kill(lane.pid, signal.SIGKILL)
        assert -signal.SIGKILL == lane.wait()
        found += taken(ring)
    assert list(range(len(found))) == found
