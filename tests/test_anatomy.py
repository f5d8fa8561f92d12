"""`zoocache.anatomy`: what an instance holds, and where in a value the fault is."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest

from tests.specimens import Bag, Pair, Plain, Point, Right, Text, noted
from zoocache import anatomy


class Base:
    __slots__ = ("__hidden", "shown")

    def __init__(self) -> None:
        self.__hidden = 1


class Derived(Base):
    __slots__ = "only"  # noqa: PLC0205  # one name as a string is allowed


class Loose(Derived):
    @functools.cached_property
    def memo(self) -> int:
        return 5


class _Private:
    __slots__ = ("__slot",)


@dataclasses.dataclass
class Fields:
    first: int
    made: int = dataclasses.field(init=False, default=2)
    only_init: dataclasses.InitVar[int] = 3
    shared = 4


def test_the_state_of_an_instance_is_all_it_holds() -> None:
    """Slots of all classes, private ones too, and the `__dict__` count; empty slots and memos do not."""
    value = Loose()
    value.only = 2
    value.free = 3  # type: ignore[attr-defined]
    assert 5 == value.memo
    assert {"_Base__hidden": 1, "only": 2, "free": 3} == anatomy.own_state(value)
    assert {"only": 2, "free": 3} == anatomy.own_state(value, Base)


def test_a_private_slot_of_a_private_class_is_found() -> None:
    """Names are mangled without the underscores that the class's name begins with."""
    assert ("_Private__slot",) == anatomy.slot_names(_Private)


def test_fields_are_what_dataclasses_says() -> None:
    """Fields that are not in `__init__` count, class variables and InitVars do not."""
    assert ("first", "made") == anatomy.field_names(Fields)
    assert anatomy.is_dataclass(Fields)
    assert not anatomy.is_dataclass(Plain)


FAULT = Plain()


def is_or_holds_fault(value: Any) -> bool:
    """Whether the fault is in a value."""
    return value is FAULT or any(is_or_holds_fault(part) for _, part in anatomy.parts(value))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (FAULT, ""),
        ({"a": [0, (FAULT,)]}, '["a"][1][0]'),
        ({1: 2, (3, FAULT): 4}, "[key <tuple>][1]"),
        ({None: {2.5: {True: FAULT}}}, "[None][2.5][True]"),
        ({b"secret": FAULT}, "[<bytes>]"),
        ({Right.READ: FAULT}, "[<Right>]"),
        (frozenset({1, FAULT}), "{…}"),
        (Point(Pair(1, FAULT)), ".x[1]"),
        (slice(1, FAULT), ".stop"),
        (noted(Bag(), note=[FAULT]), ".note[0]"),
        (noted(Text("a"), lang=FAULT), ".lang"),
    ],
)
def test_the_fault_is_located(value: Any, path: str) -> None:
    """The path leads to the innermost part that fails."""
    assert (path, FAULT) == anatomy.locate(value, is_or_holds_fault)


def test_an_opaque_object_is_not_taken_apart() -> None:
    """The attributes of an object that is no container are its own affair: the object is to blame."""
    value = noted(Plain(), socket=FAULT)
    assert ("[0]", value) == anatomy.locate([value], lambda part: part is value or part is FAULT)


def test_a_value_that_fails_for_ever_ends() -> None:
    """The way into a value that contains itself is cut off."""
    value: list[Any] = []
    value.append(value)
    path, culprit = anatomy.locate(value, lambda _: True)
    assert "[0]" * 20 + "…" + "[0]" * 20 == path
    assert culprit is value
