"""python -m stress herd: one fill a key and round, whatever becomes of the one who fills."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.stress.conftest import Ended

Stress = Callable[..., Ended]

SHORT = ("--processes", "3", "--seconds", "3", "--slack", "5", "--least", "1")
UNTIL_CAUGHT = ("--processes", "3", "--seconds", "180", "--slack", "1")


@pytest.mark.parametrize("storage", ["memory", "lmdb"])
def test_herd_holds(storage: str, stress: Stress) -> None:
    """Fills that return, that raise, and whose process is killed: each runs once, and everybody gets his due."""
    ended = stress("herd", "--seed", "1", "--storage", storage, *SHORT)
    assert 0 == ended.status, ended.said
    assert "herd: every promise held (seed 1)" in ended.said
    rounds = re.findall(r"rounds: (\d+) that return, (\d+) that raise, (\d+) with a kill", ended.said)[0]
    assert all(int(count) > 0 for count in rounds)


@pytest.mark.parametrize(
    ("mutant", "storage", "report"),
    [
        ("everyone-leads", "memory", r"fills by slot|follow its fill"),
        ("everyone-leads", "lmdb", r"fills in the processes that live|follow its fill"),
        ("no-heir", "lmdb", r"STUCK|follow its fill"),
    ],
)
def test_the_judge_sees(mutant: str, storage: str, report: str, stress: Stress) -> None:
    """Without flights, or without heirs of the dead, herd fails within seconds."""
    ended = stress("herd", "--seed", "2", "--storage", storage, "--mutant", mutant, *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert re.search(report, ended.said)
    assert "herd: BROKEN (seed 2)" in ended.said
