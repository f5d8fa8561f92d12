"""Something of a test's that happens at a named point of the library, in the thread that comes there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zoocache.shm import points


def act_at(point: str, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Have something done whenever anybody comes to a point, until the patch is taken back."""

    def reached(name: str) -> None:
        if name == point:
            act()

    patch.setattr(points, "reach", reached)
    patch.setattr(points, "ARMED", {point: ("act", 1)})
