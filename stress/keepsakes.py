"""Keepsakes: what one process keeps in LMDB when the fleet is gone, and what another finds there after the end.

    lasting     no limit of time: survives restarts, and orderly reboots whatever the clock says then
    ageing      LIFE_S: survives them too, but not a reboot after which the clock is set so far, or earlier than before
    named       kept with `set`
    doomed      invalidated before the end, by a tag of its own or one above: never comes back

What is found was kept if it bears the moment of its first fill: a fill afterwards bears a later one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import zoocache
from zoocache import cacheable

EACH = 4
LIFE_S = 600.0
ABOVE = "keepsake:doomed"


@cacheable(deps="keepsake:lasting")
def lasting(age: int, number: int) -> int:
    """When it was filled."""
    assert age >= 0 <= number
    return time.monotonic_ns()


@cacheable(deps="keepsake:ageing", max_age=LIFE_S)
def ageing(age: int, number: int) -> int:
    """When it was filled."""
    assert age >= 0 <= number
    return time.monotonic_ns()


@cacheable(deps=lambda age, number: f"{ABOVE}:{age}:{number}")
def doomed(age: int, number: int) -> int:
    """When it was filled."""
    assert age >= 0 <= number
    return time.monotonic_ns()


class Found(NamedTuple):
    """What somebody found of an age's keepsakes: the moments that they bear."""

    lasting: list[int]
    ageing: list[int]
    named: list[int]
    doomed: list[int]


def keep(age: int, in_order: bool, kept_all: Callable[[], object]) -> Found:
    """Keep all of an age.

    Args:
        age: a number that no other one has.
        in_order: let go of the cache at the end, instead of ending with it.
        kept_all: called when all is kept, and nothing is invalidated yet.
    """
    for number in range(EACH):
        zoocache.set(_name(age, number), time.monotonic_ns(), deps=["keepsake:named"])
    kept = look(age)
    kept_all()
    for number in range(EACH):
        zoocache.invalidate(f"{ABOVE}:{age}:{number}" if number % 2 else f"{ABOVE}:{age}")
    if in_order:
        zoocache.reset()
    return kept


def look(age: int) -> Found:
    """See what is there of an age; what is not is filled."""
    numbers = range(EACH)
    return Found(
        [lasting(age, number) for number in numbers], [ageing(age, number) for number in numbers],
        [zoocache.get(_name(age, number)) or 0 for number in numbers], [doomed(age, number) for number in numbers],
    )  # fmt: skip


def _name(age: int, number: int) -> str:
    return f"keepsake {age} {number}"
