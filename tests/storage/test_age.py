"""How old an entry is, by which clock."""

from __future__ import annotations

import pytest

from zoocache.clock import Now
from zoocache.storage import FOREVER, Life
from zoocache.storage.age import UNKNOWN, age_ms, left_ms

MADE = Now(1_000_000, 500, 7)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Now(1_000_000, 500, 7), 0),
        (Now(1_000_000, 750, 7), 250),
        (Now(1, 750, 7), 250),
        (Now(9_000_000, 750, 7), 250),
        (Now(1_000_000, 499, 7), 0),
        (Now(1_000_300, 10, 8), 300),
        (Now(1_000_000, 10, 8), 0),
        (Now(999_999, 10**9, 8), UNKNOWN),
    ],
)
def test_the_age_of_what_was_made(now: Now, expected: int) -> None:
    """Within a boot the uptime counts, across boots the wall clock, and backwards is older than anything."""
    assert expected == age_ms(MADE, now)


def test_without_a_boot_the_wall_clock_counts() -> None:
    """Two moments of no known boot may be of two boots."""
    made = Now(1_000, 500, 0)
    assert [100, UNKNOWN] == [age_ms(made, Now(wall_ms, 9, 0)) for wall_ms in (1_100, 999)]


@pytest.mark.parametrize(
    ("life", "touched_after", "expected"),
    [
        (FOREVER, 0, (None, None)),
        (Life(100), 0, (60, None)),
        (Life(100, True), 30, (90, None)),
        (Life(0, False, 100), 0, (60, 60)),
        (Life(100, True, 50), 30, (10, 10)),
        (Life(20, True, 500), 30, (10, 460)),
        (Life(5), 0, (-35, None)),
    ],
)
def test_what_is_left(life: Life, touched_after: int, expected: tuple[int | None, int | None]) -> None:
    """The ttl counts from the last touch, the greatest age from the making, and the nearer end counts."""
    touched = MADE._replace(up_ms=MADE.up_ms + touched_after)
    assert expected == left_ms(life, MADE, touched, MADE._replace(up_ms=MADE.up_ms + 40))
