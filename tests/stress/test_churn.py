"""python -m stress churn: ever new tags through a segment that holds few of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.stress.conftest import Ended

Stress = Callable[..., Ended]

SHORT = ("--processes", "2", "--seconds", "2", "--slack", "5", "--least", "5000")
UNTIL_CAUGHT = ("--processes", "3", "--seconds", "180", "--slack", "5")


@pytest.mark.parametrize("mixture", [("memory",), ("lmdb",), ("memory", "--bus"), ("redis",)], ids="".join)
def test_churn_holds(mixture: tuple[str, ...], stress: Stress) -> None:
    """More tags than the segment has room for: some give way, unless prune was quicker, and nothing that is read is
    stale."""
    ended = stress("churn", "--seed", "1", *SHORT, "--storage", *mixture)
    assert 0 == ended.status, ended.said
    assert "churn: every promise held (seed 1)" in ended.said
    assert int(re.findall(r"(\d+) distinct tags were invalidated", ended.said)[0]) >= 5000
    assert mixture == ("redis",) or re.findall(r"(\d+) prunes, (\d+) tags given up", ended.said) != [("0", "0")]
    assert "0 stale reads;" in ended.said


@pytest.mark.parametrize("mutant", ["deaf", "floorless"])
def test_the_oracle_sees(mutant: str, stress: Stress) -> None:
    """With one rule of safety turned off, churn fails within seconds, and tells which tag's value was stale."""
    ended = stress("churn", "--seed", "2", "--mutant", mutant, *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert re.search(r"STALE: key \d+ was read .*\n  seed 2, .* tag churn:\d:\d+:\d+; the last events", ended.said)
    assert "churn: BROKEN (seed 2)" in ended.said
