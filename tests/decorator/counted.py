"""What the tests of `cacheable` have in common."""

from __future__ import annotations


class Counted:
    """A function that counts its runs: `counted(7)` is always another number."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        return self.runs
