"""Specimens: values of every kind that keys and codec know, no two of them the same, and values that neither takes."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import uuid
import zoneinfo
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For every test with random values: none fails on a time alone."""

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Shade(enum.Enum):
    RED = 1


class Rank(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    A = "a"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: Any


class NotedPoint(Point):
    note: str


class Pair(NamedTuple):
    x: Any
    y: Any


OtherPair = collections.namedtuple("OtherPair", "x y")  # noqa: PYI024  # the untyped form is in wide use


class Text(str):
    __slots__ = ("lang",)

    def __str__(self) -> str:
        return "always the same"

    def __format__(self, spec: str) -> str:
        return "always the same"


class Number(int):
    def __repr__(self) -> str:
        return "always the same"

    __str__ = __repr__


class Bag(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return {}.items()


class Keyed:
    def __init__(self, key: object) -> None:
        self.key = key

    def __cache_key__(self) -> object:
        return self.key


class OtherKeyed(Keyed):
    pass


class Plain:
    pass


class Fussy:
    """Its author's idea of equality is of no use to us."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        raise AssertionError


class Slots:
    __slots__ = ("x",)


class Outer:
    class Inner(enum.Enum):  # noqa: D106
        RED = 1

    def method(self) -> None:
        pass


class ForeignZone(dt.tzinfo):
    def __init__(self, name: str, hours: int) -> None:
        self.name, self.hours = name, hours

    def utcoffset(self, moment: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=self.hours)

    def tzname(self, moment: dt.datetime | None) -> str:
        return self.name

    def dst(self, moment: dt.datetime | None) -> None:
        return None


def function() -> None:
    """A module's function."""


def other_function() -> None:
    """Another one."""


def noted(value: Any, **attributes: object) -> Any:
    """The value, with attributes of its own."""
    for name, attribute in attributes.items():
        setattr(value, name, attribute)
    return value


MOMENT = dt.datetime(2024, 10, 27, 2, 30)  # noqa: DTZ001  # naive on purpose
DIFFERENT = [
    None, ..., True, False, 1, 0, -1, 2**64, 2**64 + 1, -(2**64), 10**5000, 1.0, 0.0, -0.0, math.inf, -math.inf,
    math.nan,
    1 + 0j, complex(0.0, 1.0), complex(-0.0, 1.0), complex(0.0, -0.0),
    "", "1", "a", "None", "\ud800", "\udcff", "i1", b"", b"1", b"a", bytearray(b"a"), bytearray(),
    (), (1,), (1, 2), (2, 1), ((1,), 2), (1, (2,)), [], [1], [1, 2], [2, 1], [[1], 2], [(1,), 2], ["a", "b"],
    ["a,s1:b"],
    set(), {1}, {1, 2}, {True}, frozenset(), frozenset({1}), frozenset({1, 2}), {"1"},
    {}, {1: 2}, {2: 1}, {1: None}, {"1": 2}, {True: 2}, {(1,): 2}, {1: {1: 2}}, {1: 2, 3: 4}, {(1, 2): 3}, [{1: 2}],
    collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}, [("a", 1), ("b", 2)],
    collections.Counter(a=1, b=2), collections.defaultdict(None, a=1, b=2), collections.defaultdict(int, a=1, b=2),
    collections.defaultdict(list, a=1, b=2), Bag(a=1, b=2), Bag(a=1), noted(Bag(a=1), more=2),
    range(3), range(1, 3), range(0, 3, 2), slice(3), slice(1, 3), slice(None), slice((1,)),
    MOMENT, MOMENT.replace(fold=1), MOMENT.replace(microsecond=1), MOMENT.replace(tzinfo=dt.timezone.utc),
    MOMENT.replace(tzinfo=BERLIN), MOMENT.replace(tzinfo=BERLIN, fold=1),
    MOMENT.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
    MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
    MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")), MOMENT.replace(tzinfo=ForeignZone("A", 2)),
    MOMENT.replace(tzinfo=ForeignZone("B", 2)), MOMENT.replace(tzinfo=ForeignZone("A", 3)),
    MOMENT.date(), MOMENT.time(), dt.time(2, 30, fold=1), dt.time(2, 30, tzinfo=dt.timezone.utc), dt.time(2, 30, 0, 1),
    dt.time(2, 30, tzinfo=BERLIN), dt.timedelta(1), dt.timedelta(0, 1), dt.timedelta(0, 0, 1), dt.timedelta(-1),
    dt.timezone.utc, dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=1), "X"), BERLIN,
    zoneinfo.ZoneInfo("UTC"),
    decimal.Decimal(1), decimal.Decimal("1.0"), decimal.Decimal("NaN"), decimal.Decimal("sNaN"), decimal.Decimal("-0"),
    fractions.Fraction(1), fractions.Fraction(1, 2), fractions.Fraction(-1, 2), uuid.UUID(int=1), uuid.UUID(int=2),
    pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("a"), pathlib.Path("a/b"),
    Color.RED, Color.GREEN, Shade.RED, Outer.Inner.RED, Rank.LOW, Word.A,
    Right.READ, Right.WRITE, Right.READ | Right.WRITE, Right(0),
    Point(1, 2), Point(2, 1), Point((1, 2)), Point(1, "2"), Frozen(1, 2), Slotted(1), Slotted(2), NotedPoint(1, 2),
    noted(NotedPoint(1, 2), note="x"), noted(NotedPoint(1, 2), note="y"),
    Pair(1, 2), Pair(2, 1), OtherPair(1, 2), Pair((1, 2), None),
    Text("a"), Text("b"), noted(Text("a"), lang="en"), noted(Text("a"), lang="de"), Number(1), Number(2),
    noted(Number(1), unit="m"),
    int, str, Color, Point, Outer, Outer.Inner, Exception, len, print, function, other_function, Outer.method,
    math.sqrt,
    Keyed(1), Keyed(2), Keyed("1"), Keyed((1, 2)), OtherKeyed(1), Keyed(Keyed(1)),
]  # fmt: skip


class Lying:
    """A proxy that claims to be a dict, as lazy objects of some libraries do."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return dict
