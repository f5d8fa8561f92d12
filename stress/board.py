"""The board: words in a mapped file that all processes of a run share, beside the library and not through it.

    control     what the supervisor says: halt, and the words of its program
    slots       SLOT_WORDS each, one for each place in the fleet; whoever is replaced leaves its place to the next
    lanes       LANE_WORDS each, one for each thread of each place: counters
    truth       the true version of each key; written by the one thread that owns the key
    finished    the version of each key that the last finished invalidation was for; by the same thread
    cells       words of the program's own, so many for each place
    rings       one for each lane: its last events, see events.py; and one for the supervisor

Native aligned u64, one store a word, so none is ever torn; a word has one writer, so none is lost. A process that is
killed leaves its words behind, the last events too. Whoever reads `finished` before it reads the cache, and `truth`
after it, sees them in that order on x86-64; on weaker machines a read may look newer than it is, which hides a fault
and invents none.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import NamedTuple

from stress.events import RING_WORDS, Ring

CONTROL_WORDS = 32
C_HALT = 0  # all lanes leave
C_FAILED = 1  # somebody has written a report, then: monotonic ns
C_STOPPED_NS = 2  # how long, altogether, some process was stopped
C_FREE = 3  # from here on: the program's own
C_STAGE = 3  # of partition: see there
C_IDLE = 4  # of partition: one more than the number of the host that is to be idle; see idleness.py
C_CLOCKS = 8  # and the seven after it, of partition: by what the clock of a host is wrong; see hosts.py
C_KILLED = 16  # processes of the fleet that SIGKILL has ended
C_FAULTS = 17  # what else was done to a run
C_BOOT, C_BOOTED_MS, C_WALL = 18, 19, 20  # of reboot; see boots.py
C_REMOVALS = 21  # of reboot: odd while something is removed under those who run

SLOT_WORDS = 16
S_PID = 0
S_LIFE = 1  # how many processes had this place before
S_STOPS = 2  # moved before a process is stopped and after it goes on: what it measured meanwhile does not count
S_READY = 3  # life + 1, once the process is at work
S_FREE = 4

LANE_WORDS = 16
L_READS = 0
L_HITS = 1  # of them: their fill had begun before the read did
L_RAISED = 2  # of them: ended by an exception that was planned
L_WRITES = 3  # mutations that returned
L_BUSY = 4  # mutations that gave up after the time-out
L_FILLS = 5
L_LONGEST_HIT_NS = 6
L_LONGEST_WRITE_NS = 7
L_SINCE_NS = 8  # when the operation that is under way began; 0: none is
L_LONGEST_READ_NS = 9  # of partition: whatever it took, but for the time in which somebody was stopped

L_KILLED = 10  # processes that this lane has killed itself

WORD = 8


class Shape(NamedTuple):
    """How large a board is.

    Attributes:
        slots: places in the fleet.
        lanes: threads of each process.
        keys: how many have a truth.
        cells: words of the program's own, for each place.
    """

    slots: int
    lanes: int
    keys: int = 0
    cells: int = 0


class Board:
    """See the head of this file. Forked children inherit it.

    Args:
        path: of the file.
        shape: how large it is.
        is_new: it is made, instead of found.

    Attributes:
        control, truth, finished: words.
    """

    def __init__(self, path: Path, shape: Shape, is_new: bool = True) -> None:
        self.shape = shape
        lanes = shape.slots * shape.lanes
        sizes = (
            CONTROL_WORDS, shape.slots * SLOT_WORDS, lanes * LANE_WORDS, shape.keys, shape.keys,
            shape.slots * shape.cells, (lanes + 1) * RING_WORDS,
        )  # fmt: skip
        with open(path, "w+b" if is_new else "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, sum(sizes) * WORD)
            words = memoryview(mmap.mmap(file.fileno(), sum(sizes) * WORD)).cast("Q")
        parts, start = [], 0
        for size in sizes:
            parts.append(words[start : start + size])
            start += size
        self.control, self._slots, self._lanes, self.truth, self.finished, self._cells, self._rings = parts

    def slot(self, slot: int) -> memoryview:
        """The words of a place."""
        return self._slots[slot * SLOT_WORDS : (slot + 1) * SLOT_WORDS]

    def cells(self, slot: int) -> memoryview:
        """The program's own words for a place."""
        return self._cells[slot * self.shape.cells : (slot + 1) * self.shape.cells]

    def lane(self, slot: int, lane: int) -> memoryview:
        """The counters of a thread."""
        start = (slot * self.shape.lanes + lane) * LANE_WORDS
        return self._lanes[start : start + LANE_WORDS]

    def ring(self, slot: int, lane: int) -> Ring:
        """The last events of a thread."""
        start = (slot * self.shape.lanes + lane) * RING_WORDS
        return Ring(self._rings[start : start + RING_WORDS], slot, lane)

    def own_ring(self) -> Ring:
        """The last events of the supervisor."""
        return self.ring(self.shape.slots, 0)

    def rings(self) -> list[Ring]:
        """The last events of all threads of all places."""
        return [self.ring(slot, lane) for slot in range(self.shape.slots) for lane in range(self.shape.lanes)]

    def earliest(self, counter: int) -> int:
        """The smallest of a counter over all lanes that have one; 0 if none has."""
        return min(filter(None, self._lanes[counter::LANE_WORDS]), default=0)

    def total(self, counter: int) -> int:
        """The sum of a counter over all lanes."""
        return sum(self._lanes[counter::LANE_WORDS])

    def longest(self, counter: int) -> int:
        """The largest of a counter over all lanes."""
        return max(self._lanes[counter::LANE_WORDS])
