"""python -m stress killer: processes die and stand still everywhere, and the others go on."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from stress.killer import births_of, points_of
from stress.listener import POINTS as LISTENER_POINTS
from stress.run import Options
from tests.stress.conftest import Ended
from zoocache.shm import points

Stress = Callable[..., Ended]

SHORT = ("--processes", "3", "--seconds", "4", "--slack", "5")
UNTIL_CAUGHT = ("--processes", "4", "--seconds", "180", "--slack", "1")


def test_the_points_that_can_be_reached() -> None:
    """Each storage has its own; together with partition, which kills listeners, all are walked over."""
    every = [Options(1, 1, 1, storage, bus=bus) for storage in ("memory", "lmdb", "redis") for bus in (False, True)]
    walks = [{*births_of(options), *points_of(options)} for options in every]
    assert {"lock.held", "trie.changed"} <= set.intersection(*walks)
    assert {name for name in points.ALL if not name.startswith("hosts.")} == set.union(*walks)
    assert {name for name in points.ALL if name.startswith("hosts.")} <= set(LISTENER_POINTS)


@pytest.mark.parametrize("mixture", [("memory",), ("lmdb",), ("lmdb", "--bus"), ("redis",)], ids="".join)
def test_killer_holds(mixture: tuple[str, ...], stress: Stress) -> None:
    """Kills and stops at named points and anywhere: nothing stale, nobody stuck, nothing lost."""
    ended = stress("killer", "--seed", "1", *SHORT, "--storage", *mixture)
    assert 0 == ended.status, ended.said
    assert "killer: every promise held (seed 1)" in ended.said
    killed, at_points = map(int, re.findall(r"killed: (\d+), of them (\d+) at ", ended.said)[0])
    assert killed >= at_points > 3, "more than those who died when the segment was made"


def test_a_lost_token_is_seen(stress: Stress) -> None:
    """Where the death of a lock's holder goes unnoticed, killer fails within seconds."""
    ended = stress("killer", "--seed", "2", "--mutant", "no-recovery", "--points", "lock.held", *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert "killer: BROKEN (seed 2)" in ended.said
