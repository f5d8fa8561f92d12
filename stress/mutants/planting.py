"""How a fault is planted: from outside, in a process of the fleet; the library has no switch for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

OPEN_S = 0.001
"""Where a fault has a window of a few instructions, the mutant holds it open for so long, so that seconds suffice."""


class Mutant(NamedTuple):
    """A fault that can be planted, and who has to catch it.

    Attributes:
        rule: which rule of the library it turns off.
        plant: turns it off in this process.
        program, storage: that must fail with it.
        options: of the command line, beside those.
    """

    rule: str
    plant: Callable[[], None]
    program: str
    storage: str = "memory"
    options: tuple[str, ...] = ()


class Same:  # noqa: PLW1641  # those who mix it in have their own hash
    """Equal to everything."""

    __slots__ = ()

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False


_REPLACED: list[tuple[Any, str, Any]] = []
"""What mutants stand in the place of, in this process, the oldest first."""


def put(owner: Any, name: str, mutant: Any) -> Any:
    """Put a mutant in the place of a function or a method; returns what was there."""
    original = getattr(owner, name)
    _REPLACED.append((owner, name, original))
    setattr(owner, name, mutant)
    return original


def pull() -> None:
    """Put everything back: for tests, which go on in the same process."""
    while _REPLACED:
        owner, name, original = _REPLACED.pop()
        setattr(owner, name, original)
