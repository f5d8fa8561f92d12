"""python -m stress: what cannot be meant so is refused in a line, with status 2; status 1 is for broken promises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stress.__main__ import PROGRAMS, WITH_HISTORY, main
from tests.stress.conftest import Ended

Stress = Callable[..., Ended]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("herd --processes 0", "argument --processes: from 1 to 30, not 0"),
        ("herd --processes -1", "argument --processes: from 1 to 30, not -1"),
        ("storm --processes 31", "argument --processes: from 1 to 30, not 31"),
        ("storm --processes many", "argument --processes: a whole number, from 1 to 30, not 'many'"),
        ("storm --seconds -5", "argument --seconds: a number above 0, not '-5'"),
        ("storm --seconds nan", "argument --seconds: a number above 0, not 'nan'"),
        ("storm --seconds inf", "argument --seconds: a number above 0, not 'inf'"),
        ("storm --seconds 0", "argument --seconds: a number above 0, not '0'"),
        ("storm --slack 0", "argument --slack: a number above 0, not '0'"),
        ("storm --seed -1", "argument --seed: 0 or more, not -1"),
        ("churn --least -1", "argument --least: 0 or more, not -1"),
        ("mutants --seconds soon", "argument --seconds: a number above 0, not 'soon'"),
        ("partition --hosts 9", "argument --hosts: from 1 to 8, not 9"),
        ("partition --hosts 0", "argument --hosts: from 1 to 8, not 0"),
        ("partition --storage memory --no-bus", "--no-bus: without a bus only hosts that share a Redis"),
        ("killer --points bogus", "--points bogus: with --storage memory a process of the fleet comes to no named"),
        ("killer --points segment.", "--points segment.: with --storage memory"),
        ("killer --points hosts. --bus", "--points hosts.: with --storage memory and a bus"),
        ("herd --history kept", "unrecognized arguments: --history kept"),
        ("history missing", "argument file: missing: No such file or directory"),
        ("history {tmp}", "argument file: {tmp}: Is a directory"),
        ("history {file}", "argument file: {file} is not what a run with --history has kept"),
        ("storm --history {file}", "argument --history: a directory, which {file} is not"),
        ("storm --history {file}/below", "argument --history: a directory, which {file} is not"),
    ],
)
def test_what_cannot_be_meant(line: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is begun, and the message names the argument, the rule and what was given."""
    file = tmp_path / "file"
    file.write_text("{}\n")
    with pytest.raises(SystemExit) as refused:
        main(line.format(tmp=tmp_path, file=file).split())
    said = capsys.readouterr()
    assert (2, "") == (refused.value.code, said.out)
    assert fault.format(tmp=tmp_path, file=file) in said.err.splitlines()[-1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_who_keeps_a_history(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only programs beside which the history checker works offer to keep one."""
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert (name in WITH_HISTORY) == ("--history" in capsys.readouterr().out)
    has_checker = hasattr(sys.modules[PROGRAMS[name].__module__], "proven")
    assert (name in WITH_HISTORY) == has_checker


def test_the_status_of_the_process(stress: Stress) -> None:
    """A shell sees 2, and no traceback."""
    ended = stress("herd", "--processes", "0")
    assert 2 == ended.status, ended.said
    assert "Traceback" not in ended.said
