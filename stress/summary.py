"""The summary of a run: the same figures for every program, and what is left when everything was removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from stress.board import (
    C_FAULTS,
    C_KILLED,
    L_KILLED,
    L_LONGEST_HIT_NS,
    L_LONGEST_WRITE_NS,
    L_READS,
    L_WRITES,
    Board,
)
from zoocache.shm import identity


class Figures(NamedTuple):
    """What a run came to.

    Attributes:
        killed: processes.
        faults: whatever else was done to them.
        operations: reads and writes.
        longest_hit_s, longest_write_s: of those in which their process was not stopped; 0 if none was measured.
    """

    killed: int
    faults: int
    operations: int
    longest_hit_s: float
    longest_write_s: float


def figures_of(board: Board) -> Figures:
    """What stands on a board."""
    return Figures(
        board.control[C_KILLED] + board.total(L_KILLED), board.control[C_FAULTS],
        board.total(L_READS) + board.total(L_WRITES),
        board.longest(L_LONGEST_HIT_NS) / 1e9, board.longest(L_LONGEST_WRITE_NS) / 1e9,
    )  # fmt: skip


def summed_up(figures: Figures, stale: int, tokens_lost: int, bytes_leaked: int) -> str:
    """The line that every program ends with."""
    return (
        f"summary: {figures.killed} killed, {figures.faults} other faults, {figures.operations} operations, "
        f"{stale} stale reads; longest hit {_shown(figures.longest_hit_s)}, "
        f"longest write {_shown(figures.longest_write_s)}; {tokens_lost} tokens lost, {bytes_leaked} bytes leaked"
    )


def _shown(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds else "-"


def objects_of(prefix: str) -> dict[str, int]:
    """What lies in shared memory under a prefix, of all hosts: name -> bytes."""
    known = tuple(identity.slug(prefix).rsplit("-", 1)[0] + end for end in "-@")
    starts = tuple(f"{kind}-{os.geteuid()}-{start}" for kind in ("zoocache", "sem.zoocache") for start in known)
    found = [path for path in Path(identity.SHM_DIR).iterdir() if path.name.startswith(starts)]
    return {path.name: path.stat().st_size for path in found}
