"""The writers and readers of reboot, under whom the segment is removed.

Who works on a segment that was removed learns of it at his next write. Until every process has come through a write
that began after the removal, a reader expects of the others' keys nothing; of its own process's keys it always does.
"""

from __future__ import annotations

from stress import oracle
from stress.board import C_REMOVALS
from stress.reading import Looper, Reader
from stress.writing import Write, Writer

C_NOTICED = 0  # of the cells of a place: the number of removals that its process has noticed; by its writer
NOTICES = ("invalidate", "visitors", "clear")
"""Writes that come to the segment in every storage."""


class Survivor(Writer):
    """Writes, and notices with it that the segment was removed."""

    alone_s = 3.0
    """Where a semaphore was removed, some have another than the others, and look after each other by the clock."""

    def do(self, write: Write) -> None:
        """A write; see the head of this file."""
        board, finished = self.lane.run.board, self.finished
        removals = board.control[C_REMOVALS]
        super().do(write)
        if write.kind in NOTICES and self.finished > finished and removals % 2 == 0:
            board.cells(self.lane.slot)[C_NOTICED] = removals


class Doubter(Reader):
    """Expects nothing of others' keys while somebody may not have noticed a removal."""

    def expect(self, keys: tuple[int, ...]) -> oracle.Reading:
        """What was finished is looked at first: what was so in the old segment was seen by all who were there."""
        reading, board = super().expect(keys), self.lane.run.board
        removals, slots = board.control[C_REMOVALS], board.shape.slots
        if any(board.cells(slot)[C_NOTICED] != removals for slot in range(slots)):
            own = self.lane.slot
            reading.least = [
                least if key % slots == own else 0 for key, least in zip(keys, reading.least, strict=True)
            ]  # fmt: skip
        return reading


class DoubtingLoop(Looper, Doubter):
    """The same, with tasks."""
