"""`zoocache.codec.immutable`: what may be handed to every caller."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import functools
import pathlib
import uuid
from typing import Any

import pytest

from tests.codec.kinds import Made, Methodical
from tests.specimens import BERLIN, MOMENT, Color, Frozen, Pair, Plain, Point, Right, Slotted
from zoocache import codec


class LooseFrozen(Frozen):
    pass


IMMUTABLE: list[Any] = [
    None, 1, 2**70, "a", b"a", (), (1, ("a", None)), frozenset({1, (2,)}), Color.RED, Right.READ | Right.WRITE, MOMENT,
    MOMENT.replace(tzinfo=BERLIN), decimal.Decimal(1), uuid.UUID(int=1), fractions.Fraction(1), pathlib.Path("a"),
    range(3), slice(1, (2,)), Frozen(1, (2, Frozen(3))), Pair(1, (2,)), BERLIN, dt.timezone.utc, 1j,
]  # fmt: skip
MUTABLE: list[Any] = [
    [], {}, set(), bytearray(), ([],), (1, (2, {})), Frozen(1, []), Frozen((1, [])), Point(1), LooseFrozen(1), Made(1),
    Pair(1, []), Methodical(), collections.deque(), collections.OrderedDict(), slice([]), Plain(), Slotted(1),
]  # fmt: skip


@pytest.mark.parametrize("value", IMMUTABLE, ids=repr)
def test_what_is_immutable(value: Any) -> None:
    """Immutable values, and immutable containers of nothing else, may be handed to everybody."""
    assert codec.is_immutable(value)


@pytest.mark.parametrize("value", MUTABLE, ids=lambda value: type(value).__name__)
def test_what_is_not_immutable(value: Any) -> None:
    """What can be changed, or holds what can, or takes new attributes, is decoded afresh for each caller."""
    assert not codec.is_immutable(value)


def test_is_immutable_bears_depth() -> None:
    """Deep tuples are no RecursionError."""
    value: Any = functools.reduce(lambda inner, _: (inner,), range(100_000), 1)
    assert codec.is_immutable(value)
