"""Time: the only room that asks the operating system what time it is, and the hybrid logical clock for people.

Two clocks tell how old an entry is. `up_ms` (CLOCK_BOOTTIME) is the same in all processes of a host, never runs
backwards, and ends with the boot; `wall_ms` survives a reboot but may be set. What was written under this boot is
aged by `up_ms` alone; what was written under another boot by `wall_ms`, and counts as expired when that ran backwards.

The hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014) stamps invalidations for journals and
listings: 48 bits of wall milliseconds, 16 bits of counter. Validity never depends on it: see
`docs/decisions/0003-two-orders.md`.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from zoocache.digests import blake2b

_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
_UP_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
COUNTER_BITS = 16


class Now(NamedTuple):
    """A moment.

    Attributes:
        wall_ms: milliseconds since 1970, UTC; may be set by anybody.
        up_ms: milliseconds since the boot, suspend included; never runs backwards.
        boot: 64 bits that name the boot `up_ms` counts from.
    """

    wall_ms: int
    up_ms: int
    boot: int


def boot_id() -> int:
    """64 bits that differ from boot to boot; 0 where the system does not tell."""
    try:
        with open(_BOOT_ID_FILE, "rb") as file:
            text = file.read()
    except OSError:
        return 0
    return int.from_bytes(blake2b(text.strip(), digest_size=8).digest(), "little")


_boot = boot_id()


def wall_ms() -> int:
    """Milliseconds since 1970, UTC; 0 by a clock that stands before that: words and records have no sign."""
    return max(0, time.time_ns() // 1_000_000)


def up_ms() -> int:
    """Milliseconds since the boot."""
    return time.clock_gettime_ns(_UP_CLOCK) // 1_000_000


def now() -> Now:
    """This moment."""
    return Now(max(0, time.time_ns() // 1_000_000), time.clock_gettime_ns(_UP_CLOCK) // 1_000_000, _boot)


def hlc_next(last: int, wall_ms: int) -> int:
    """The stamp after `last`: the wall clock's if that is later, else the next counter.

    Args:
        last: the latest stamp known; 0 if none.
        wall_ms: the wall clock, in milliseconds.

    Returns:
        A stamp above `last`, wherever the clock went.
    """
    return max(last + 1, wall_ms << COUNTER_BITS)


def hlc_wall_s(stamp: int) -> float:
    """The wall seconds inside a stamp, for people."""
    return (stamp >> COUNTER_BITS) / 1000
