"""The boots of a run of reboot: processes are told by their clocks that the machine was started again.

The library asks `zoocache.clock` alone what time it is and which boot this is. In a process of this run that room
answers by three words of the board: another boot has another number, its uptime begins anew, and its wall clock is the
machine's plus what stands there, which may change at any moment.
"""

from __future__ import annotations

from stress import mutants
from stress.board import C_BOOT, C_BOOTED_MS, C_WALL
from zoocache import clock

UNSET = 2**40
"""The word of the wall clock is what it is off by, plus this; 0 on a new board: by nothing."""


def enter(control: memoryview) -> None:
    """Live, as a process, under the present boot."""
    whole, up, wall = clock.now, clock.up_ms, clock.wall_ms
    boot, booted_ms = int(control[C_BOOT]), int(control[C_BOOTED_MS])

    def moment() -> clock.Now:
        real = whole()
        return clock.Now(real.wall_ms + off_ms(control), real.up_ms - booted_ms, real.boot ^ boot)

    mutants.put(clock, "now", moment)
    mutants.put(clock, "up_ms", lambda: up() - booted_ms)
    mutants.put(clock, "wall_ms", lambda: wall() + off_ms(control))


def off_ms(control: memoryview) -> int:
    """By what the wall clock is off."""
    return int(control[C_WALL] or UNSET) - UNSET


def set_clock(control: memoryview, by_ms: int) -> None:
    """Set the wall clock, forward or back."""
    control[C_WALL] = UNSET + off_ms(control) + by_ms


def reboot(control: memoryview) -> None:
    """The next boot; nobody is alive at that moment."""
    control[C_BOOT] += 1
    control[C_BOOTED_MS] = clock.up_ms()
