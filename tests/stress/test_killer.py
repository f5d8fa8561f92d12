"""python -m stress killer: processes die and stand still everywhere, and the others go on."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.stress.conftest import Ended

Stress = Callable[..., Ended]

SHORT = ("--processes", "3", "--seconds", "4", "--slack", "5")
UNTIL_CAUGHT = ("--processes", "4", "--seconds", "40", "--slack", "1")


@pytest.mark.parametrize("storage", ["memory", "lmdb"])
def test_killer_holds(storage: str, stress: Stress) -> None:
    """Kills and stops at named points and anywhere: nothing stale, nobody stuck, nothing lost."""
    ended = stress("killer", "--seed", "1", "--storage", storage, *SHORT)
    assert 0 == ended.status, ended.said
    assert "killer: every promise held (seed 1)" in ended.said
    killed, at_points = map(int, re.findall(r"killed: (\d+), of them (\d+) at ", ended.said)[0])
    assert killed >= at_points > 3, "more than those who died when the segment was made"


def test_a_lost_token_is_seen(stress: Stress) -> None:
    """Where the death of a lock's holder goes unnoticed, killer fails within seconds."""
    ended = stress("killer", "--seed", "2", "--mutant", "no-recovery", *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert "killer: BROKEN (seed 2)" in ended.said
