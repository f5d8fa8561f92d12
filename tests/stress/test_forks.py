"""python -m stress forks: processes fork anywhere in the library, and nobody reads what is stale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stress.places import Places
from tests.forks import Forks
from tests.stress.conftest import Ended

Stress = Callable[..., Ended]

SHORT = ("--processes", "2", "--seconds", "4", "--slack", "5")
UNTIL_CAUGHT = ("--processes", "3", "--seconds", "180", "--slack", "5")


@pytest.mark.parametrize("mixture", [("memory",), ("lmdb",), ("redis", "--bus")], ids="".join)
def test_forks_hold(mixture: tuple[str, ...], stress: Stress) -> None:
    """Children of forks in threads, fills and tasks, and fresh interpreters: nothing stale, nobody stuck."""
    ended = stress("forks", "--seed", "1", "--storage", *mixture, *SHORT)
    assert 0 == ended.status, ended.said
    assert "forks: every promise held (seed 1)" in ended.said
    assert int(re.findall(r"(\d+) descendants: fork", ended.said)[0]) > 0


def test_the_oracle_sees(stress: Stress) -> None:
    """Fills that forget what overtook them are seen, whoever reads."""
    ended = stress("forks", "--seed", "2", "--mutant", "late-note", *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert "STALE: key" in ended.said
    assert "forks: BROKEN (seed 2)" in ended.said


def test_waiting_for_nobody_is_seen(stress: Stress) -> None:
    """A child that inherits flights has no leader for them: who waits for one there is found, and not by time."""
    ended = stress("forks", "--seed", "2", "--mutant", "inherited-flights", *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert "STUCK, seed 2: a child that was forked, and has one thread, waits for a flight of" in ended.said
    assert "forks: BROKEN (seed 2)" in ended.said


def test_a_place_has_one_owner(tmp_path: Path, forks: Forks) -> None:
    """Each takes another place, a forked child does not have its parent's, and the dead have none."""
    places = Places(tmp_path / "places", range(3, 5))

    def take(expected: int | None) -> None:
        assert expected == places.take()

    assert [3, 4] == places.free()
    first = forks.fork(lambda: (take(3), forks.fork(take, 4).wait() and None, forks.fork(take, 4).wait()))
    assert 0 == first.wait()
    assert [3, 4] == places.free()
    assert 3 == places.take()
    assert 0 == forks.fork(lambda: (take(4), forks.fork(take, None).wait())).wait()
