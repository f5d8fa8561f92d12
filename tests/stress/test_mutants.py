"""python -m stress mutants: each fault is planted where it belongs, and what catches it is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from stress import processes
from stress.__main__ import PROGRAMS
from stress.mutants import MUTANTS, table
from stress.mutants.table import OF_PROGRAM, SECONDS, Caught, judged
from tests.children import ROOT, Children
from tests.crowd import until
from tests.shared_memory import objects_of
from tests.stress.conftest import Ended

Stress = Callable[..., Ended]

PLANT = """
    import os
    from stress.mutants import MUTANTS, plant
    for name in MUTANTS:
        pid = os.fork()
        if not pid:
            plant(name)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7, name
    print("planted")
"""
STALE = "x\n\nSTALE: key 1 …\n\nHISTORY, seed 2: FRESH: …\n\ncaught after 1.5 s\nstorm: BROKEN (seed 2)\n"


def test_every_mutant_has_somebody_to_catch_it() -> None:
    """Each names a program and says what rule it turns off, in words of its own."""
    assert {mutant.program for mutant in MUTANTS.values()} <= set(OF_PROGRAM) <= set(PROGRAMS)
    assert {"memory", "lmdb", "redis"} == {mutant.storage for mutant in MUTANTS.values()}
    assert len(MUTANTS) == len({mutant.rule for mutant in MUTANTS.values()})


def test_every_mutant_finds_its_place(children: Children) -> None:
    """What it is put in the place of is there."""
    assert "planted\n" == children.code(PLANT).output()


@pytest.mark.parametrize(
    ("expected", "status", "said"),
    [
        (Caught("deaf", 1.5, ("oracle", "history"), STALE), 1, STALE),
        (Caught("deaf", None, ("oracle", "history"), STALE), 0, STALE),
        (Caught("deaf", 2.0, ("own judge",), "caught after 2.0 s"), 1, "caught after 2.0 s"),
        (Caught("deaf", None, (), "Traceback"), 1, "Traceback"),
        (
            Caught("deaf", None, ("exception",), "an exception that was not planned, x\ncaught after 2.0 s"),
            1, "an exception that was not planned, x\ncaught after 2.0 s",
        ),
    ],
    ids=["stale", "held", "own", "no run", "raises"],
)  # fmt: skip
def test_who_caught_it(expected: Caught, status: int, said: str) -> None:
    """A run that ends well, or breaks down, has caught nothing; nor has one in which the library raised, no more."""
    assert expected == judged("deaf", status, said)


class AtWork(subprocess.Popen[bytes]):
    """A run that is waited for from when it is at work: until then it may take as long as the machine needs. In the
    first wait it stands still, for else it might end.
    """

    def __init__(self, command: list[str], *, stdout: IO[str], **others: Any) -> None:
        self._said, self._is_held = stdout, True
        super().__init__(command, stdout=stdout, **others)

    def wait(self, timeout: float | None = None) -> int:
        """Its first line of progress comes first."""
        until(lambda: b"\n  " in os.pread(self._said.fileno(), 1 << 16, 0) or self.poll() is not None)
        if not self._is_held or self.poll() is not None:
            return super().wait(timeout)
        self._is_held = False
        self.send_signal(signal.SIGSTOP)
        try:
            return super().wait(timeout)
        finally:
            self.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("patience_s", [60.0, 0.0], ids=["told", "killed"])
def test_a_run_that_does_not_end(
    patience_s: float, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """It is nobody's catch, the rest of the table goes on, and nothing of it is left, though it has to be killed."""
    monkeypatch.setattr(table, "GRACE_S", 0.3 - SECONDS)  # its first life is longer, and shows nothing
    monkeypatch.setattr(subprocess, "Popen", AtWork)
    monkeypatch.setattr(table, "END_S", patience_s)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    caught = table._run("bootless", SECONDS)
    assert ("bootless", None, ("stuck",)) == caught[:3], caught.said
    assert "reboot: Options(" in caught.said
    assert (True, [], []) == (not objects_of(prefix), processes.that_map(tmp_path), list(tmp_path.iterdir()))


def test_the_table(stress: Stress) -> None:
    """A mutant that is caught has its line, with the time and with who caught it; one that is not fails the command."""
    ended = stress("mutants", "--only", "deaf", "--seconds", "40")
    assert 0 == ended.status, ended.said
    line = r"\| deaf \| invalidate changes the trie \| storm, memory \| [\d.]+ \| oracle, history(, \w+)* \|\n"
    assert re.search(line + "1 of 1 caught\n", ended.said), ended.said


def test_what_is_not_caught_fails_the_command(stress: Stress) -> None:
    """In one round, without a kill, no heir is missed: the table says so, and shows the run."""
    ended = stress("mutants", "--only", "no-heir", "--seconds", "0.001")
    assert 1 == ended.status, ended.said
    assert "| herd, lmdb | not caught |  |" in ended.said
    assert "0 of 1 caught; not: no-heir" in ended.said
    assert "herd: every promise held" in ended.said
