"""python -m stress mutants: each mutant with the program that has to catch it, and a table of who did.

Each runs in a process of its own, with a fixed seed, and ends at the first failure. Who caught it is read from what the
run says: the oracle (a read older than what was finished), the history checker, who looks after the progress (a call
that does not come back, hosts that do not settle), the check at the end, or a judge of the program's own.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from stress import remains
from stress.mutants import MUTANTS

SEED = 2
SECONDS = 60.0
OF_PROGRAM = {
    "storm": ("--processes", "3", "--slack", "5"),
    "herd": ("--processes", "3", "--slack", "1"),
    "killer": ("--processes", "4", "--slack", "1"),
    "churn": ("--processes", "3", "--slack", "5"),
    "reboot": ("--processes", "3", "--slack", "5"),
    "forks": ("--processes", "3", "--slack", "5"),
    "partition": ("--hosts", "2", "--processes", "2", "--slack", "1"),
}
"""Small fleets: what is left of a window when everybody waits for a processor is less."""
GRACE_S = 120.0
"""How much longer than it should work a run may take."""
END_S = 60.0
"""How long it may take to end after that, when it is told to."""

JUDGES = {
    "oracle": r"^STALE: |^OLD: | brought ", "history": r"^HISTORY, ", "once": r"^TWICE, ",
    "progress": "^STUCK|^UNSETTLED", "check": "^at the end, ",
    "exception": "^an exception that was not planned",
}  # fmt: skip
"""Whose report begins how. A mutant that makes the library raise, and nothing else, may be none: it was not caught."""
FAILURE = re.compile(r"caught after ([\d.]+) s")


class Caught(NamedTuple):
    """How a run with a mutant ended.

    Attributes:
        name: of the mutant.
        seconds: until the first failure; None: there was none.
        by: who reported one; "stuck": nobody, and the run had to be ended.
        said: the whole output.
    """

    name: str
    seconds: float | None
    by: tuple[str, ...]
    said: str


def main(only: Sequence[str] | None, seconds: float) -> bool:
    """Run the mutants and print the table; whether all were caught.

    Args:
        only: these; None for all.
        seconds: how long each may go uncaught.
    """
    print(_row("mutant", "rule that is turned off", "program", "seconds", "caught by"), flush=True)
    found = []
    for name in only or MUTANTS:
        found.append(_run(name, seconds))
        print(_line(found[-1]), flush=True)
        if found[-1].seconds is None:
            print(found[-1].said)
    missed = [each.name for each in found if each.seconds is None]
    print(f"{len(found) - len(missed)} of {len(found)} caught" + (f"; not: {', '.join(missed)}" if missed else ""))
    return not missed


def _run(name: str, seconds: float) -> Caught:
    mutant = MUTANTS[name]
    command = [
        sys.executable, "-m", "stress", mutant.program, "--storage", mutant.storage, "--mutant", name, "--seed",
        str(SEED), "--seconds", str(seconds), *OF_PROGRAM[mutant.program], *mutant.options,
    ]  # fmt: skip
    # No pipe, which who outlives the run could keep open; and a session of its own, so that Ctrl-C comes to it once.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status: int | None = process.wait(seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        said.seek(0)
        return judged(name, status, said.read())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run as an interruption does, if it has not ended; or kill it, and remove what is left of it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        remains.remove(process.pid)


def judged(name: str, status: int | None, said: str) -> Caught:
    """What became of a run.

    Args:
        name: of the mutant.
        status: of the run; None: it did not come to an end, which is nobody's catch.
        said: its output.
    """
    if status is None:
        return Caught(name, None, ("stuck",), said)
    by = tuple(judge for judge, report in JUDGES.items() if re.search(report, said, re.MULTILINE))
    failed = FAILURE.search(said)
    if not status or failed is None or by == ("exception",):
        return Caught(name, None, by, said)
    return Caught(name, float(failed[1]), by or ("own judge",), said)


def _line(caught: Caught) -> str:
    mutant = MUTANTS[caught.name]
    seconds = "not caught" if caught.seconds is None else f"{caught.seconds:.1f}"
    return _row(caught.name, mutant.rule, f"{mutant.program}, {mutant.storage}", seconds, ", ".join(caught.by))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
