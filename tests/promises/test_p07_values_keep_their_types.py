"""P7: what comes from the cache is, in value and type, what the function returned; what cannot be kept says so."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import socket
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zoocache
from tests.codec.sameness import same
from tests.peers import Peer
from tests.promises import world
from zoocache import UnkeepableResult, cacheable, get


class Color(enum.Enum):
    """A member is one."""

    RED = "red"


class Level(enum.IntFlag):
    """A combination too."""

    LOW = 1
    HIGH = 2


class Pair(NamedTuple):
    """A namedtuple."""

    left: Any
    right: Any = None


@dataclasses.dataclass(frozen=True)
class Order:
    """A dataclass with others inside."""

    number: int
    lines: tuple[Pair, ...]
    price: decimal.Decimal


ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
NOW = dt.datetime(2026, 3, 29, 1, 59, 59, 999_999, ZONE)

VALUES: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "zero": 0,
    "minus zero": -0.0,
    "huge": 10**400,
    "negative": -(2**64),
    "nan": float("nan"),
    "infinite": float("-inf"),
    "complex": 1 - 2j,
    "text": "ä\u20ac\U0001f600\x00",
    "surrogate": "\udc80",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\x00\xff"),
    "empty tuple": (),
    "nested": ((1, [2, {3}]), frozenset({(4, 5)})),
    "set": {1, "1", (1,)},
    "dict": {1: "i", "1": "s", (1, 2): "t", None: "n", "x": 5, b"k": 6},
    "order": {"z": 1, "a": 2},
    "datetime": NOW.replace(tzinfo=None),
    "zoned": NOW,
    "fold": NOW.replace(fold=1),
    "utc": NOW.astimezone(dt.timezone.utc),
    "date": dt.date(2026, 2, 28),
    "time": dt.time(1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "decimal": decimal.Decimal("1.10"),
    "uuid": uuid.UUID(int=5),
    "range": range(1, 10, 3),
    "enum": Color.RED,
    "flags": Level.LOW | Level.HIGH,
    "pair": Pair(1, [Pair(2)]),
    "order line": Order(1, (Pair("a"),), decimal.Decimal(2)),
    "by enum": {
        Color.RED: 1,
        Level.HIGH: 2,
        Pair(1): 3,
        dt.date(2026, 1, 1): 4,
        uuid.UUID(int=1): 5,
        frozenset({1}): 6,
    },
}


@cacheable(deps="values")
def specimen(name: str) -> Any:
    """One of them."""
    world.book(name)
    return VALUES[name]


def see(name: str) -> bool:
    """In a peer: whether the cache gives the same as the function, the first time and again."""
    return same(VALUES[name], specimen(name)) and same(VALUES[name], specimen(name))


@pytest.mark.parametrize("name", VALUES)
def test_here_and_after_a_restart(storage: str, name: str) -> None:
    """A value is the same for the one who computed it, at each hit, by key, and for a later life of the process."""
    for _ in range(3):
        assert same(VALUES[name], specimen(name))
    assert same(VALUES[name], get(specimen.key_for(name)))
    zoocache.reset()
    assert same(VALUES[name], specimen(name))
    assert (2 if storage == "memory" else 1) == len(world.fills(name))


def test_in_another_process(lmdb: Path, stranger: Callable[[], Peer]) -> None:
    """A fresh interpreter gets, from the store, what this process computed: all of it the same, nothing computed."""
    for name in VALUES:
        specimen(name)
    other = stranger()
    for name in VALUES:
        assert other.call("see_value", name), name
    assert [1] * len(VALUES) == [len(world.fills(name)) for name in VALUES]


def test_no_two_kinds_are_mixed_up(storage: str) -> None:
    """Values that are equal but of different types stay apart, kept under keys of their own."""
    alike = [
        1,
        True,
        1.0,
        1 + 0j,
        decimal.Decimal(1),
        Level.LOW,
        "1",
        b"1",
        bytearray(b"1"),
        (1,),
        [1],
        {1},
        frozenset({1}),
    ]
    for n, value in enumerate(alike):
        zoocache.set(f"k{n}", value)
    zoocache.set("all", alike)
    if storage == "lmdb":
        zoocache.reset()
    for n, value in enumerate(alike):
        assert same(value, get(f"k{n}")) or storage == "memory"
    if storage == "lmdb":
        assert same(alike, get("all"))


def test_a_mutable_value_is_each_callers_own(lmdb: Path, peer: Callable[[], Peer]) -> None:
    """What one caller does to it, no other caller sees, in no process."""
    other = peer()
    for _ in range(3):
        page = world.page("a")
        assert {"name": "a", "number": 0, "lines": [1, 2, 3]} == page == other.call("page", "a")
        page["lines"].append(4)
        page["more"] = object()


class Connection:
    """Nothing that could be kept."""


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Connection(), "Connection"),
        ({"a": [1, 2, 3, Connection()]}, r'\["a"\]\[3\].*Connection'),
        ([{"x": (threading.Lock(),)}], r'\[0\]\["x"\]\[0\].*lock'),
        (Pair(1, Connection()), r"(\.right|\[1\]).*Connection"),
        (Order(1, (Pair(Connection()),), decimal.Decimal(1)), r"\.lines\[0\](\.left|\[0\]).*Connection"),
        ({"f": lambda: 1}, r'\["f"\].*function'),
        (Exception("x"), "Exception"),
        (iter([1]), "iterator"),
        (open, "builtin_function|function"),
        ({1, ipaddress.ip_address("::1")}, "IPv6Address"),
        (memoryview(b"x"), "memoryview"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept_says_where_it_is(lmdb: Path, value: Any, place: str) -> None:
    """The error names the function and the path inside; the flight has ended, and the next call works."""
    answers = iter([value, 5])

    @cacheable
    def fetch_all() -> Any:
        return next(answers)

    with pytest.raises(UnkeepableResult, match=f"(?s)fetch_all.*result.*{place}"):
        fetch_all()
    assert (5, 5) == (fetch_all(), fetch_all())


def test_a_socket_deep_inside(lmdb: Path) -> None:
    """A real thing that nobody can keep, as it is told in the guide."""

    @cacheable
    def load() -> Any:
        return {"a": [1, 2, 3, ours]}

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(UnkeepableResult, match=r'load.*result\["a"\]\[3\]: socket'):
        load()


def test_a_value_that_contains_itself(lmdb: Path) -> None:
    """Is refused, and not followed for ever."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(UnkeepableResult):
        zoocache.set("k", circle)


def test_nothing_that_is_stored_is_run(lmdb: Path) -> None:
    """A class that would do something when it is made or unpickled does nothing when its value is loaded."""
    zoocache.set("k", Guarded(5))
    made = Guarded.made
    zoocache.reset()
    value = get("k")
    assert (5, made) == (value.n, Guarded.made)


@dataclasses.dataclass
class Guarded:
    """Counts how often it is made."""

    n: int
    made = 0

    def __post_init__(self) -> None:
        Guarded.made += 1

    def __reduce__(self) -> Any:
        raise AssertionError("pickle is used")
