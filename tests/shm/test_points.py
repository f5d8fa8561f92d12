"""zoocache/shm/points.py: the places at which a test stops or kills a process."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.children import Children
from zoocache.shm import points

REACH = """
    import sys
    from zoocache.shm import points
    for name in sys.argv[1:]:
        if points.ARMED:
            points.reach(name)
        print(name, flush=True)
"""


def test_nothing_is_armed_in_production() -> None:
    """Without the variable a point is one test of a module variable, and an unarmed name does nothing."""
    assert points.ARMED is None
    points.reach("lock.held")


def test_a_kill_happens_at_its_point_only(children: Children) -> None:
    """The process dies of SIGKILL at the point that was armed, and passes the others."""
    child = children.code(REACH, "lock.gated", "lock.held", "lock.unlocked", points="lock.held=kill")
    assert "lock.gated" == child.line()
    assert -signal.SIGKILL == child.wait()


def test_an_exit_leaves_at_once(children: Children) -> None:
    """`exit` ends the process with status 3."""
    assert 3 == children.code(REACH, "lock.held", points="lock.held=exit").wait()


def test_a_stop_can_be_resumed(children: Children) -> None:
    """`stop` holds the process until somebody sends SIGCONT."""
    child = children.code(REACH, "lock.held", points="lock.held=stop")
    child.wait_stopped()
    child.resume()
    assert "lock.held\n" == child.output()


def test_a_count_waits_for_its_turn(children: Children) -> None:
    """`@3` means the third time, and no other."""
    child = children.code(REACH, *["slot.named"] * 5, points="slot.named=exit@3")
    assert 3 == child.wait()
    assert "slot.named\nslot.named\n" == child._unread.decode()


def test_a_log_has_every_time(children: Children, tmp_path: Path) -> None:
    """`log:PATH` writes the name down each time the point is reached; several points may be armed at once."""
    log = tmp_path / "log"
    names = ["lock.held", "claim.led", "lock.held"]
    children.code(REACH, *names, points=f"lock.held=log:{log},claim.led=log:{log}").output()
    assert names == log.read_text().split()


@pytest.mark.parametrize("armed", ["lock.hold=kill", "nonsense", "lock.held=kill,other=stop"])
def test_a_point_that_does_not_exist_is_an_error(armed: str) -> None:
    """A test that arms a misspelt point fails instead of passing for nothing."""
    with pytest.raises(ValueError, match="is no point"):
        points._parse(armed)


def test_an_action_that_does_not_exist_is_an_error(children: Children) -> None:
    """So does one that asks for an unknown action."""
    child = children.code(REACH, "lock.held", points="lock.held=explode")
    assert 1 == child.wait()
    assert "'explode' is no action" in child.errors()


def test_names_are_unique() -> None:
    """No name stands for two places."""
    assert sorted(set(points.ALL)) == sorted(points.ALL)
