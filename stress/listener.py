"""The program of a listener in a run of partition or reboot: the library's own, with the clock of its host or of the
present boot, and with the run's mutant.

Started as zoocache/listener/detached.py is, and it does the same. What else it needs comes with the settings. In a
turmoil of partition every other one kills itself at a named point of the library.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import runpy
import sys
from pathlib import Path

ARMED_PART = 0.5
POINTS = ("lock.held", "trie.changed", "trie.committed", "hosts.sent", "hosts.stored", "hosts.changed", "hosts.heard")
TIMES = (1, 2, 5, 20)

DETACHED = Path(__file__).parent.parent / "zoocache" / "listener" / "detached.py"


def main() -> None:
    """See the head of this file."""
    detached = runpy.run_path(str(DETACHED))
    detached["close_inherited"]()
    detached["detach"]()
    said = json.loads(detached["read_all"]())
    detached["stay_in_child"]()
    sys.path[:] = said["path"]
    _prepare(Path(said["run"]["directory"]), said["run"]["host"], said["run"]["mutant"])

    from zoocache.listener.process import run_detached

    run_detached(said["settings"])


def _prepare(directory: Path, host: int | None, mutant: str) -> None:
    from stress import boots, mutants
    from stress.board import C_STAGE, CONTROL_WORDS, WORD
    from stress.far import STAGES, TURMOIL
    from stress.hosts import skew
    from stress.run import keep_log
    from zoocache.shm import points

    keep_log(directory)
    with open(directory / "board", "rb") as board:
        control = memoryview(mmap.mmap(board.fileno(), CONTROL_WORDS * WORD, prot=mmap.PROT_READ)).cast("Q")
    if host is None:
        boots.enter(control)
    else:
        skew(control, host)
    mutants.plant(mutant)
    chance = random.Random(os.getpid())
    if host is not None and control[C_STAGE] % STAGES == TURMOIL and chance.random() < ARMED_PART:
        points.ARMED = {chance.choice(POINTS): ("kill", chance.choice(TIMES))}


if __name__ == "__main__":
    main()
