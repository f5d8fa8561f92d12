"""How old an entry is, and how long it still has, by the two clocks of `zoocache.clock`.

What was written under this boot is aged by `up_ms` alone: no setting of the wall clock moves it. What was written under
another boot, or where the system names no boot, is aged by `wall_ms`, and has expired when that ran backwards: it
is unknown how long the machine was off.
"""

from __future__ import annotations

from zoocache.clock import Now
from zoocache.storage import Life

UNKNOWN = 1 << 62
"""The age in milliseconds of what was written later than now, by a clock that cannot be right."""


def age_ms(then: Now, now: Now) -> int:
    """Milliseconds from `then` to `now`.

    Args:
        then: when something was written.
        now: this moment.

    Returns:
        At least 0, also for what another thread wrote after `now` was taken; `UNKNOWN` if the wall clock had to be
        asked and is earlier than it was.
    """
    if then.boot == now.boot != 0:
        return max(0, now.up_ms - then.up_ms)
    elapsed_ms = now.wall_ms - then.wall_ms
    return elapsed_ms if elapsed_ms >= 0 else UNKNOWN


def left_ms(life: Life, made: Now, touched: Now, now: Now) -> tuple[int | None, int | None]:
    """What is left of a life.

    Args:
        life: of the entry.
        made: when the entry was saved.
        touched: when its `ttl_ms` last began.
        now: this moment.

    Returns:
        Milliseconds until it expires unless touched, and until its `max_age_ms` is over; None where there is no limit.
        The first is 0 or less if it has expired.
    """
    age_left_ms = life.max_age_ms - age_ms(made, now) if life.max_age_ms else None
    if not life.ttl_ms:
        return age_left_ms, age_left_ms
    ttl_left_ms = life.ttl_ms - age_ms(touched, now)
    return (ttl_left_ms if age_left_ms is None else min(ttl_left_ms, age_left_ms)), age_left_ms
