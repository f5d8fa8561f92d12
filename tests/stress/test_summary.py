"""The line that every program ends with, and what it is made of."""

from __future__ import annotations

from pathlib import Path

import zoocache
from stress.board import C_FAULTS, C_KILLED, L_KILLED, L_LONGEST_HIT_NS, L_READS, L_WRITES, Board, Shape
from stress.summary import figures_of, objects_of, summed_up
from tests.shared_memory import objects_of as paths_of


def test_the_figures_stand_on_the_board(tmp_path: Path) -> None:
    """What the supervisor and all lanes have counted is added up."""
    board = Board(tmp_path / "board", Shape(slots=2, lanes=1))
    board.control[C_KILLED], board.control[C_FAULTS] = 2, 3
    for slot in range(2):
        board.lane(slot, 0)[L_KILLED] = 1
        board.lane(slot, 0)[L_READS], board.lane(slot, 0)[L_WRITES] = 10, 1
        board.lane(slot, 0)[L_LONGEST_HIT_NS] = 1_500_000 * (slot + 1)
    assert (
        "summary: 4 killed, 3 other faults, 22 operations, 5 stale reads; longest hit 3.0 ms, longest write -; "
        "1 tokens lost, 64 bytes leaked"
    ) == summed_up(figures_of(board), 5, 1, 64)


def test_what_is_left_is_found(prefix: str) -> None:
    """Segment and semaphores of a prefix, whichever host they are of; nobody else's."""
    zoocache.configure(prefix=prefix, shm_size=2**18, host_id="one")
    zoocache.invalidate("anything")
    assert {path.name: path.stat().st_size for path in paths_of(prefix)} == objects_of(prefix)
    assert max(objects_of(prefix).values()) == 2**18
    assert {} == objects_of(prefix[:-1])
