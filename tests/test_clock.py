"""zoocache/clock.py: what time it is, and a stamp that never goes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.children import Children
from zoocache import clock

WALLS_MS = st.integers(0, 2**47)
STAMPS = st.integers(0, 2**63)


@given(st.lists(WALLS_MS, min_size=1, max_size=50))
def test_stamps_grow_wherever_the_clock_goes(walls_ms: list[int]) -> None:
    """Each stamp is above the one before, though the wall clock be set back, stand still or jump."""
    stamps = [0]
    for wall_ms in walls_ms:
        stamps.append(clock.hlc_next(stamps[-1], wall_ms))
    assert sorted(set(stamps)) == stamps


@given(STAMPS, WALLS_MS)
def test_a_stamp_is_not_behind_the_wall_clock(last: int, wall_ms: int) -> None:
    """A stamp tells the wall clock's time, or a later one if the last stamp was later."""
    assert max(last, wall_ms << clock.COUNTER_BITS) <= clock.hlc_next(last, wall_ms)


@given(WALLS_MS)
def test_a_stamp_tells_its_seconds(wall_ms: int) -> None:
    """People read the wall clock's seconds out of a stamp, whatever its counter."""
    stamp = clock.hlc_next(0, wall_ms) + 17
    assert wall_ms / 1000 == pytest.approx(clock.hlc_wall_s(stamp))


def test_a_burst_within_a_millisecond_is_told_apart() -> None:
    """The counter orders what the clock cannot."""
    first = clock.hlc_next(0, 1_000)
    second = clock.hlc_next(first, 1_000)
    assert (1_000 << 16, (1_000 << 16) + 1) == (first, second)


def test_up_never_runs_backwards() -> None:
    """The host's clock stands or goes forwards."""
    moments = [clock.up_ms() for _ in range(1_000)]
    assert sorted(moments) == moments
    assert moments[0] >= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000 - 1_000


def test_up_is_the_same_in_all_processes(children: Children) -> None:
    """What one process wrote another may compare."""
    before = clock.up_ms()
    theirs = int(
        children.code("from zoocache import clock; print(clock.up_ms(), clock.now().boot)").output().split()[0]
    )
    assert before <= theirs <= clock.up_ms()


def test_now_has_all_three() -> None:
    """A moment is the wall clock, the host's clock, and the name of the boot."""
    before = time.time_ns() // 1_000_000
    moment = clock.now()
    assert before <= moment.wall_ms <= time.time_ns() // 1_000_000
    assert (True, clock.boot_id()) == (moment.up_ms <= clock.up_ms(), moment.boot)


def test_before_1970_it_is_1970(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wall clock that has never been set gives times that fit into words."""
    monkeypatch.setattr(time, "time_ns", lambda: -5_000_000_000)
    assert (0, 0) == (clock.wall_ms(), clock.now().wall_ms)


def test_a_boot_has_a_name(children: Children) -> None:
    """All processes of a boot know it by one number of 64 bits."""
    theirs = int(children.code("from zoocache import clock; print(clock.boot_id())").output())
    assert clock.boot_id() == theirs
    assert 0 <= theirs < 2**64


def test_a_system_without_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another boot has another name, and where the system tells none it is 0."""
    file = tmp_path / "boot_id"
    monkeypatch.setattr(clock, "_BOOT_ID_FILE", str(file))
    assert 0 == clock.boot_id()
    file.write_text("one\n")
    one = clock.boot_id()
    file.write_text("two\n")
    assert len({0, one, clock.boot_id()}) == 3
