"""The places of descendants: whoever is born takes a free one, and dies out of it.

A place is a byte of a file, and who has it holds a record lock on it. That is the kind that a forked child does not
inherit, and that the kernel releases at death, so a place is free exactly when nobody uses its words on the board.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from zoocache.shm import kernel


class Places:
    """The places of a run; forked children inherit it, others make their own of the same file.

    Args:
        path: of the file; it is made if it is not there.
        slots: on the board.
    """

    def __init__(self, path: Path, slots: range) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._slots = slots

    def take(self) -> int | None:
        """A free place, for as long as this process lives; None if there is none. Once in a process."""
        for slot in self._slots:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):
                continue
            return slot
        return None

    def free(self) -> list[int]:
        """Those that nobody has. For a process that has none: its own would look free."""
        return [slot for slot in self._slots if not kernel.is_held(self._fd, slot)]
