"""python -m stress reboot: everything but the files goes away again and again, and nothing dead comes back."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable

import pytest

from stress import boots
from stress.board import CONTROL_WORDS
from tests.children import Children
from tests.stress.conftest import Ended
from tests.stress.judges import who_saw
from zoocache import clock

Stress = Callable[..., Ended]

SHORT = ("--processes", "2", "--seconds", "5", "--slack", "5")
UNTIL_CAUGHT = ("--processes", "3", "--seconds", "180", "--slack", "5")


@pytest.mark.parametrize("mixture", [("memory",), ("lmdb",), ("lmdb", "--bus"), ("redis",)], ids="".join)
def test_reboot_holds(mixture: tuple[str, ...], stress: Stress) -> None:
    """Removals, reboots and clocks, with a listener and without: nothing stale, and what was kept in order survives."""
    least = 0 if mixture == ("memory",) else 1
    ended = stress("reboot", "--seed", "1", *SHORT, "--least", str(least), "--storage", *mixture)
    assert 0 == ended.status, ended.said
    assert "reboot: every promise held (seed 1)" in ended.said
    ends, survivals = map(int, re.findall(r"(\d+) ends, (\d+) of them survived", ended.said)[0])
    assert ends > 0
    assert survivals >= least


@pytest.mark.parametrize(("mutant", "storage"), [("deaf", "memory"), ("blind", "memory"), ("ageless", "lmdb")])
def test_the_oracle_sees(mutant: str, storage: str, stress: Stress) -> None:
    """Invalidations that do not reach the segment, or go to one that was removed, and entries with the stamp of a store
    that was, are seen through all the turmoil."""
    ended = stress("reboot", "--seed", "2", "--storage", storage, "--mutant", mutant, *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert who_saw(ended.said, 2), ended.said
    assert "reboot: BROKEN (seed 2)" in ended.said


def test_another_boot(children: Children) -> None:
    """After a reboot a process has another boot, an uptime that began anew, and the wall clock that was set."""
    assert "True True True True\n" == children.call(show_boots).output()


def show_boots() -> None:
    """In a child: what the clock tells."""
    control = memoryview(array("Q", bytes(8 * CONTROL_WORDS)))
    before = clock.now()
    boots.reboot(control)
    boots.enter(control)
    boots.set_clock(control, -60_000)
    now = clock.now()
    print(
        now.boot != before.boot, now.up_ms < before.up_ms, before.wall_ms - 60_000 <= now.wall_ms < before.wall_ms,
        clock.wall_ms() < before.wall_ms,
    )  # fmt: skip
