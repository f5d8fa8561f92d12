"""The oracle: what is true, in a mapped file that the cache knows nothing of.

All words are native u64, aligned, each with one writer, so none is ever torn:

    0               the number of the last order to stop; whoever roams stops when it changes (the director writes)
    1               milliseconds that the slow query takes at present (the director writes)
    2 ...           for each tag, in the order of `world.INDEX`: the version whose invalidation has returned (the
                    process that updates writes, after `invalidate` has returned)
    then, ROW_WORDS for each process, written by it alone:
        reads       that were judged
        stale       that were older than an invalidation that had returned before they began
        begun       invalidations that were about to begin
        updates     of the database, each with its invalidation, that are done
        longest_ns  of its reads since it last began to roam

A read is judged like this: take the words of its tags, then ask the cache, then compare. An answer whose version of a
tag is below the word that was taken before is stale. What is invalidated during the read decides nothing.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from zoocache.demo.world import INDEX, Question

FILE = "oracle.bin"
ROWS = 64

STOP, COST_MS, FLOORS = 0, 1, 2
READS, STALE, BEGUN, UPDATES, LONGEST_NS, ROW_WORDS = range(6)

_WORDS = FLOORS + len(INDEX) + ROWS * ROW_WORDS
_BYTES = _WORDS * 8


class Oracle:
    """The file, as one process sees it.

    Args:
        directory: where it lies.
        row: of this process; -1 for the director, who has none.
    """

    def __init__(self, directory: Path, row: int = -1) -> None:
        fd = os.open(directory / FILE, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, _BYTES)
        finally:
            os.close(fd)
        self._raw = memoryview(self._map)
        self.words = self._raw.cast("Q")
        self.row_at = _row_at(row)

    def order_stop(self) -> None:
        """Whoever roams stops."""
        self.words[STOP] += 1

    def orders(self) -> int:
        """The number of the last order to stop."""
        return self.words[STOP]

    def settle(self, tag: str, version: int) -> None:
        """The invalidation of a tag's version has returned."""
        self.words[FLOORS + INDEX[tag]] = version

    def floors(self, question: Question) -> list[int]:
        """The versions below which an answer to a read that begins now is stale."""
        return [self.words[FLOORS + INDEX[tag]] for tag in question.tags]

    def judge(self, floors: Sequence[int], versions: Sequence[int]) -> bool:
        """Count a read of this process; whether its answer was fresh."""
        stale = len(floors) != len(versions) or any(map(int.__lt__, versions, floors))
        self.words[self.row_at + READS] += 1
        self.words[self.row_at + STALE] += stale
        return not stale

    def add(self, count: int, amount: int = 1) -> None:
        """Raise a count of this process."""
        self.words[self.row_at + count] += amount

    def took(self, duration_ns: int) -> None:
        """Remember the longest duration."""
        self.words[self.row_at + LONGEST_NS] = max(duration_ns, self.words[self.row_at + LONGEST_NS])

    def forget_longest(self) -> None:
        """Begin a new longest."""
        self.words[self.row_at + LONGEST_NS] = 0

    def count(self, what: int, row: int) -> int:
        """A count of one process."""
        return self.words[_row_at(row) + what]

    def total(self, what: int) -> int:
        """A count over all processes, those that have ended included."""
        return sum(self.words[_row_at(row) + what] for row in range(ROWS))

    def close(self) -> None:
        """Let go of the file."""
        self.words.release()
        self._raw.release()
        self._map.close()


def _row_at(row: int) -> int:
    return FLOORS + len(INDEX) + row * ROW_WORDS


def create(directory: Path) -> None:
    """Make the file: version 1 of everything is what a reader may rely on."""
    (directory / FILE).write_bytes(bytes(_BYTES))
    oracle = Oracle(directory)
    for tag in INDEX:
        oracle.settle(tag, 1)
    oracle.close()
