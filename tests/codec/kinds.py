"""Classes that a codec may stumble over, and values of the rarer kinds, all of them keepable."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import fractions
import functools
import math
import pathlib
import uuid
from typing import Any, Generic, TypeVar

import msgpack

from tests.specimens import (
    BERLIN,
    DIFFERENT,
    MOMENT,
    Bag,
    Color,
    ForeignZone,
    Keyed,
    Number,
    OtherPair,
    Pair,
    Point,
    Right,
    Slotted,
    Text,
    noted,
)  # fmt: skip

T = TypeVar("T")
UNKEPT = (Text, Number, Bag, Keyed, ForeignZone, type(...), type, type(len), type(test := lambda: None))


def kept(value: Any) -> bool:
    """Whether a specimen is of those that the codec takes."""
    zone = getattr(value, "tzinfo", None)
    return not isinstance(value, UNKEPT) and not isinstance(zone, ForeignZone)


@dataclasses.dataclass(frozen=True)
class Made:
    """A dataclass with all that dataclasses offer."""

    x: int
    made: str = dataclasses.field(init=False, default="")
    hidden: Any = dataclasses.field(default=None, repr=False, compare=False)
    count: dataclasses.InitVar[int] = 1

    def __post_init__(self, count: int) -> None:
        object.__setattr__(self, "made", f"{self.x} times {count}")
        object.__setattr__(self, "no_field", [count])

    @functools.cached_property
    def memo(self) -> list[int]:
        return [self.x]


@dataclasses.dataclass
class Strict:
    """A dataclass of which neither `__init__`, `__post_init__` nor `__setattr__` may run again."""

    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("negative")

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise AttributeError(name)
        super().__setattr__(name, value)


class Mixed(Slotted):
    """Slots and a `__dict__`, and a slot that is no field."""

    __slots__ = ("__dict__", "__private")

    def hide(self, value: object) -> Mixed:
        self.__private = value
        return self

    def hidden(self) -> object:
        return self.__private


@dataclasses.dataclass
class Boxed(Generic[T]):
    item: T


@dataclasses.dataclass(eq=False)
class Tree:
    children: list[Tree]


@dataclasses.dataclass
class Failure(Exception):
    reason: str


@dataclasses.dataclass
class Mapped(dict):  # type: ignore[type-arg]
    x: int


class Methodical(Pair):
    """A namedtuple with a class body; its `__new__` takes other arguments."""

    def __new__(cls) -> Methodical:  # noqa: PYI034
        return super().__new__(cls, 1, 2)


MORE: list[Any] = [
    2**63, -(2**63), 2**64 - 1, -(2**63) - 1, -(2**64), 255, 256, -128, -129, 5e-324, "é" * 1000, "\ud800\udc00" * 300,
    b"x" * 70_000, bytearray(b"x" * 70_000), list(range(70_000)), tuple(range(70_000)),
    {str(i): i for i in range(70_000)},
    [[], (), {}, set()], [(1, [2, (3, {4: (5,)})])], {(1, (2, 3)): [(4,)], frozenset({1, (2,)}): {}},
    {Color.RED: Right.READ},
    {None: 1, True: 2, 1.5: 3, b"k": 4, "k": 5, (): 6, MOMENT: 7, uuid.UUID(int=3): 8, decimal.Decimal(2): 9,
    2**70: 10},
    {"z": 1, "a": 2, "m": 3}, [bytearray(b"a"), [bytearray(b"b")], {"k": bytearray(b"c")}, (bytearray(b"d"),)],
    Point(bytearray(b"e"), {"k": [bytearray(b"f")]}), collections.OrderedDict(k=bytearray(b"g")),
    [msgpack.ExtType(1, b"not ours")], [msgpack.ExtType(1, b""), b"b"], [msgpack.ExtType(32, b""), (1,), 2**70],
    [msgpack.Timestamp(1, 2), (msgpack.Timestamp(3),), {msgpack.Timestamp(4): 5}],
    (msgpack.ExtType(33, b""), bytearray(b"h")),
    [decimal.Decimal(text) for text in ("1E+1000", "-0.00", "NaN123", "-Infinity", "0." + "1" * 100)],
    fractions.Fraction(10**5000, 3), range(2**70, -(2**70), -3), complex(math.nan, -0.0),
    *(dt.datetime.min, dt.datetime.max),  # noqa: DTZ901
    dt.datetime.max.replace(tzinfo=dt.timezone.utc), dt.time.max, dt.date.min,
    dt.timedelta.min, dt.timedelta.max, dt.timezone.max, dt.timezone.min, dt.timezone(dt.timedelta(microseconds=1),
    ""),
    dt.timezone(dt.timedelta(0), "Zulu"), MOMENT.replace(tzinfo=BERLIN, fold=1), dt.time(1, 2, tzinfo=BERLIN, fold=1),
    pathlib.PurePosixPath("//x/../y"), pathlib.PureWindowsPath("c:x\\y"), pathlib.Path("\udcff"), pathlib.Path(),
    Made(3), Made(3, [1, (2,)], 5), Strict(1), [Strict(1), Strict(2)] * 3, Mixed(1).hide([2]), noted(Mixed(1),
    y=(2,)).hide(3),
    Tree([Tree([]), Tree([Tree([])])]), Methodical(), OtherPair([1], Pair(1, ())),
    collections.deque([1, (2,)], maxlen=3), collections.deque(), collections.Counter({(1,): -1, "x": 0, "y": 1.5}),
    collections.OrderedDict({2: 1, 1: (2,)}), collections.defaultdict(list, {(1,): [2]}),
    collections.defaultdict(collections.Counter, {1: collections.Counter("ab")}), slice((1,), [2], slice(3)),
    functools.reduce(lambda inner, _: (inner,), range(240), 1), functools.reduce(lambda inner, _: [inner],
    range(490), 1),
]  # fmt: skip


KEPT: list[Any] = [*filter(kept, DIFFERENT), *MORE]
