"""The ledger: one line for each beginning and each end of an execution of a cached function, by any process.

    begun 4711 card 1 a 2
    done 4711 card 1 a 2

A line is one write to a file opened with O_APPEND, so lines of several processes never mix (POSIX write(2), "If the
O_APPEND flag is set"), and a killed process leaves the line that it has written. The cache knows nothing of this file:
how often a function ran is counted here, not asked of the cache.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

FILE = "ledger.txt"


class Line(NamedTuple):
    """One line.

    Attributes:
        word: `begun` or `done`.
        pid: of the process that executes.
        key: of what it computes.
    """

    word: str
    pid: int
    key: str


class Ledger:
    """The file, as one process sees it. It is made by whoever comes first."""

    def __init__(self, directory: Path) -> None:
        self._fd = os.open(directory / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, word: str, key: str) -> None:
        """Add a line."""
        os.write(self._fd, f"{word} {os.getpid()} {key}\n".encode())

    def end(self) -> int:
        """Where the next line will stand: what `since` takes."""
        return os.fstat(self._fd).st_size

    def since(self, start: int = 0) -> list[Line]:
        """The lines from `start` on."""
        text = os.pread(self._fd, max(0, self.end() - start), start).decode()
        return [Line(word, int(pid), key) for word, pid, key in (line.split(" ", 2) for line in text.splitlines())]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def begun(lines: list[Line]) -> list[str]:
    """The keys of the executions that began, in order."""
    return [line.key for line in lines if line.word == "begun"]
