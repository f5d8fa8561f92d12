"""The slots: one for each attached process, so that a claim can name its owner and anyone can prove its death.

A process takes a kernel lock on a byte of its slot's own and keeps it for life (kernel.py). Whoever finds that byte
free has proof that the owner is gone: a pid proves nothing (it is reused, and another PID namespace does not see it).
The slot's epoch tells one owner from the next, so a word `epoch << 16 | slot` names a process for ever.

A slot's words are written by its owner alone, lock first, and read by anybody. Crash argument: killed between the
kernel lock and the epoch, the slot is free again under the old epoch, whose owner was dead already.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from zoocache.shm import kernel, points
from zoocache.shm.layout import (
    LOCK_SLOTS,
    S_EPOCH,
    S_FILLS,
    S_HITS,
    S_MISSES,
    S_PID,
    S_SEEN_MS,
    S_STARTED_MS,
    SLOT_WORDS,
    Layout,
)

NOBODY = 0

_EPOCHS = 1 << 48
"""What fits into a word beside the number of the slot."""


class Process(NamedTuple):
    """What a slot tells of its owner: counters as of `seen_ms` (up_ms), `started_ms` by the wall clock."""

    pid: int
    started_ms: int
    hits: int
    misses: int
    fills: int
    seen_ms: int


class Slots:
    """The slots of one segment, as one process sees them.

    Args:
        words: of the segment.
        layout: of the segment.
        description: this process's own, of the segment; None after `leave`, and until `after_fork` gives another.
    """

    def __init__(self, words: memoryview, layout: Layout, description: kernel.Description) -> None:
        self._words = words
        self._layout = layout
        self._description: kernel.Description | None = description
        self._at = -1
        self.owner = NOBODY

    def claim(self, wall_ms: int) -> int:
        """Take a slot for this process.

        Args:
            wall_ms: the wall clock.

        Returns:
            The word that names this process, or NOBODY if all slots have living owners.
        """
        description = self._description
        if description is None:
            return NOBODY
        index = next((i for i in self._candidates() if _try_claim(description, i)), -1)
        if index < 0:
            return NOBODY
        if self.owner != NOBODY:
            self._give_way(description, index)
            return self.owner
        words = self._words
        at = self._index(index)
        words[at + S_EPOCH] = epoch = (words[at + S_EPOCH] + 1) % _EPOCHS
        words[at + S_STARTED_MS] = wall_ms
        for counter in (S_HITS, S_MISSES, S_FILLS, S_SEEN_MS):
            words[at + counter] = 0
        words[at + S_PID] = os.getpid()
        if points.ARMED:
            points.reach("slot.named")
        if self.owner == NOBODY:
            self._at, self.owner = at, epoch << 16 | index
        else:
            self._give_way(description, index)
        return self.owner

    def _give_way(self, description: kernel.Description, index: int) -> None:
        """A signal handler's call was quicker: what that leads has its owner, and only he can end it. It may have
        taken the same slot, for the kernel lock is the same description's."""
        at = self._index(index)
        if self.owner & 0xFFFF == index:
            self._words[at + S_EPOCH] = self.owner >> 16
        else:
            self._words[at + S_PID] = 0
            kernel.release(description.fd, LOCK_SLOTS + index)

    def _candidates(self) -> Iterator[int]:
        """The slots that were left in order first, then the others: their owners may be dead."""
        pids = [self._words[self._index(i) + S_PID] for i in range(self._layout.slots)]
        yield from (i for i, pid in enumerate(pids) if not pid)
        yield from (i for i, pid in enumerate(pids) if pid)

    def _index(self, slot: int) -> int:
        return self._layout.slots_at + slot * SLOT_WORDS

    def is_dead(self, owner: int) -> bool:
        """Whether the process that the word names is proved to be gone. For who has left the segment all are."""
        description = self._description
        if description is None:
            return True
        if owner == self.owner:
            return False
        slot, epoch = owner & 0xFFFF, owner >> 16
        if slot >= self._layout.slots or self._words[self._index(slot) + S_EPOCH] != epoch:
            return True
        try:
            return not kernel.is_held(description.fd, LOCK_SLOTS + slot)
        except kernel.Lost:  # as one who has left: the next write finds out
            return True

    def report(self, hits: int, misses: int, fills: int, up_ms: int) -> None:
        """Show this process's counters to whoever looks."""
        at, words = self._at, self._words
        if at >= 0:
            words[at + S_HITS], words[at + S_MISSES], words[at + S_FILLS] = hits, misses, fills
            words[at + S_SEEN_MS] = up_ms

    def processes(self) -> Iterator[Process]:
        """The living owners."""
        words, description = self._words, self._description
        if description is None or not description.is_whole():
            return
        for index in range(self._layout.slots):
            at = self._index(index)
            alive = at == self._at or kernel.is_held(description.fd, LOCK_SLOTS + index)
            if words[at + S_PID] and alive:
                yield Process(
                    words[at + S_PID], words[at + S_STARTED_MS], words[at + S_HITS], words[at + S_MISSES],
                    words[at + S_FILLS], words[at + S_SEEN_MS],
                )  # fmt: skip

    def after_fork(self, description: kernel.Description | None) -> None:
        """In a forked child: the parent's slot is not ours; `claim` takes another when it is needed."""
        self._description, self._at, self.owner = description, -1, NOBODY

    def leave(self) -> None:
        """Give the slot back in order, and let go of the segment."""
        description = self._description
        if self._at >= 0 and description is not None and description.is_whole():
            self._words[self._at + S_PID] = 0
            kernel.release(description.fd, LOCK_SLOTS + (self.owner & 0xFFFF))
        self._description, self._at, self.owner = None, -1, NOBODY


def _try_claim(description: kernel.Description, index: int) -> bool:
    taken = kernel.try_exclusive(description.fd, LOCK_SLOTS + index)
    if taken and points.ARMED:
        points.reach("slot.locked")
    return taken
