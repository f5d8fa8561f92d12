"""The oracle and what it stands on: the board, the rings of events, the tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stress import oracle, tree
from stress.board import L_READS, Board, Shape
from stress.events import NONE, RING_EVENTS, told

KEY = 3


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """A board for two processes of two lanes, on which the version of a key is 5, finished up to 4."""
    board = Board(tmp_path / "board", Shape(slots=2, lanes=2, keys=tree.KEYS, cells=3))
    board.truth[KEY], board.finished[KEY] = 5, 4
    return board


@pytest.mark.parametrize("version", [4, 5])
def test_what_is_not_older_is_right(board: Board, version: int) -> None:
    """What was finished before the read began may be read, and what came later, finished or not."""
    oracle.Reading(board, [KEY]).judge((1, KEY, version))


@pytest.mark.parametrize(
    ("testimony", "fault"),
    [
        ((1, KEY, 3), "STALE: key 3 was read at version 3, though 4 was finished before"),
        ((1, KEY, 6), "key 3 was read at version 6, but the truth is 5"),
        ((1, 2, 5), "brought"),
        ([1, KEY, 5, -1], "brought"),
        ((1, KEY), "brought"),
        (5, "brought"),
    ],
)
def test_what_is_wrong_is_seen(board: Board, testimony: object, fault: str) -> None:
    """Stale, from the future, of another key, spoilt, cut short, no testimony at all: each is told."""
    with pytest.raises(oracle.Wrong, match=fault):
        oracle.Reading(board, [KEY]).judge(testimony)


def test_what_finishes_during_a_read_does_not_count(board: Board) -> None:
    """A read is judged by what was finished before it began."""
    reading = oracle.Reading(board, [KEY])
    board.finished[KEY] = 5
    reading.judge((1, KEY, 4))


def test_each_key_of_a_read_is_judged(board: Board) -> None:
    """One stale part of a testimony is enough."""
    board.truth[4] = board.finished[4] = 1
    with pytest.raises(oracle.Wrong, match="key 4 was read at version 0"):
        oracle.Reading(board, [KEY, 4]).judge((1, KEY, 5, 4, 0))


def test_the_parts_of_a_board_are_apart(board: Board) -> None:
    """Nobody's words are another's."""
    lanes = [(slot, lane) for slot in range(2) for lane in range(2)]
    for place in lanes:
        board.lane(*place)[L_READS] = 1 + place[0] * 2 + place[1]
        board.ring(*place).note("read", 7, 1, 2)
    board.slot(1)[:] = board.slot(0)
    board.cells(1)[0] = 9
    assert [1, 2, 3, 4] == [board.lane(*place)[L_READS] for place in lanes]
    assert [1] * 4 == [len(ring.events()) for ring in board.rings()]
    assert (10, 4, 1) == (board.total(L_READS), board.longest(L_READS), board.earliest(L_READS))
    assert ([0, 0, 0], [9, 0, 0]) == (board.cells(0).tolist(), board.cells(1).tolist())
    assert (5, 4) == (board.truth[KEY], board.finished[KEY])


def test_a_ring_keeps_the_last_events(board: Board) -> None:
    """The oldest events give way, and the next owner of a ring goes on where the last one was. The very oldest is not
    told: it may be just about to be written over."""
    for number in range(RING_EVENTS + 3):
        board.ring(0, 1).note("read", KEY, number, number + 1, version=number, finished=1)
    events = board.ring(0, 1).events()
    assert (RING_EVENTS - 1, 4, RING_EVENTS + 2) == (len(events), events[0].version, events[-1].version)
    assert (events[0].start_ns, 5, "read", KEY, NONE, 4, 1, 0, 0, os.getpid(), 0, 1) == events[0]


def test_a_history_tells_what_concerns_a_key(board: Board) -> None:
    """Reads and writes of the key, invalidations of what it is below, and what is for all; nothing else."""
    ring, own = board.ring(0, 0), tree.TAG_NUMBERS[tree.own_tag(KEY)]
    ring.note("read", KEY, 1_000_000, 2_000_000, version=4, finished=4)
    ring.note("read", KEY + 1, 1_000_000, 2_000_000)
    board.ring(1, 0).note("invalidate", KEY + 1, 3_000_000, 4_000_000, tag=tree.TAG_NUMBERS["zoo"])
    ring.note("invalidate", KEY, 5_000_000, 6_000_000, tag=own, version=5)
    ring.note("invalidate", 11, 5_000_000, 6_000_000, tag=tree.TAG_NUMBERS[tree.own_tag(11)])
    ring.note("clear", NONE, 7_000_000, 8_000_000)
    lines = oracle.history(board, KEY).splitlines()
    assert ["read", "invalidate", "invalidate", "clear"] == [line.split("lane 0")[1].split()[0] for line in lines]
    assert "0.000 …      1.000 ms" in lines[0]
    assert lines[2].endswith(tree.own_tag(KEY))
    assert "key all" in lines[3]


def test_only_the_last_events_are_told(board: Board) -> None:
    """A history has an end."""
    for number in range(9):
        board.ring(0, 0).note("read", KEY, number, number)
    assert 4 == len(told(board.rings(), lambda _: True, 4, tree.TAGS).splitlines())


def test_the_tree_knows_what_is_below_what() -> None:
    """A tag reaches the keys of its subtree and no other, and each key reads another one together with itself."""
    for key in tree.ANIMAL_KEYS:
        assert tree.own_tag(key) == tree.ancestors(key)[-1]
        assert all(tree.is_below(key, tag) for tag in tree.ancestors(key))
        assert not any(tree.is_below(key, tag) for tag in set(tree.TAGS) - set(tree.ancestors(key)))
        assert key != tree.neighbour(key)
