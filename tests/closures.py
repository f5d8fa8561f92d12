"""A maker of closures, for tests and for children of theirs, which need no more than this of what a test imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def factory(content: Any) -> Callable[[], Any]:
    """A closure over any one thing."""

    def inner() -> Any:
        return content

    return inner
