"""`zoocache.codec`: what would not come back is refused, and the error says where it is."""

from __future__ import annotations

import collections
import dataclasses
import enum
import pathlib
import socket
import threading
import zoneinfo
from typing import Any

import pytest

from tests.codec.kinds import Failure, Mapped, Methodical
from tests.specimens import MOMENT, Bag, Color, ForeignZone, Lying, NotedPoint, Number, Pair, Plain, Point, Text, noted
from zoocache import codec
from zoocache.errors import UnkeepableResult


def local_class() -> Any:
    """An instance of a dataclass that no name leads to."""

    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


def without_field() -> Point:
    """A dataclass instance that lacks a field."""
    point = Point(1)
    del point.x
    return point


def invalid_member() -> enum.Enum:
    """An object of an Enum's class that is none of its members."""
    member = object.__new__(Color)
    member._name_, member._value_ = "BLUE", 3
    return member


REFUSED: list[tuple[Any, str]] = [
    (Plain(), ": Plain cannot be kept; return plain data"),
    ({"a": [1, 2, 3, socket.socket]}, """["a"][3]: type cannot be kept"""),
    ({"a": ({1: threading.Lock()},)}, """["a"][0][1]: lock cannot be kept"""),
    ({(1, Plain()): 1}, "[key <tuple>][1]: Plain cannot be kept"),
    ({Plain()}, "{…}: Plain cannot be kept"),
    ([Point(1, Plain())], "[0].y: Plain cannot be kept"),
    ([Pair(1, Plain())], "[0][1]: Plain cannot be kept"),
    (noted(NotedPoint(1), note=Plain()), ".note: Plain cannot be kept"),
    (collections.deque([Plain()]), "[0]: Plain cannot be kept"),
    (slice(Plain(), None), ".start: Plain cannot be kept"),
    ([Text("a")], "[0]: Text cannot be kept (it would come back as a plain str)"),
    ([Number(1)], "[0]: Number cannot be kept (it would come back as a plain int)"),
    (Bag(a=1), ": Bag cannot be kept (it would come back as a plain dict)"),
    ([Lying()], "[0]: Lying cannot be kept"),
    ([memoryview(b"x")], "[0]: memoryview cannot be kept"),
    ({memoryview(b"x"): 1}, "[key <memoryview>]: memoryview cannot be kept"),
    ([{b"x": 1}, {memoryview(b"x"): 1}], "[1][key <memoryview>]: memoryview cannot be kept"),
    ({(1, (memoryview(b"x"),)): 1}, "[key <tuple>][1][0]: memoryview cannot be kept"),
    ([(b"x",), (memoryview(b"x"),)], "[1][0]: memoryview cannot be kept"),
    ([bytearray(b"x"), memoryview(b"x")], "[1]: memoryview cannot be kept"),
    (local_class(), "Local cannot be kept (class local_class.<locals>.Local cannot be found by its name"),
    (without_field(), "Point cannot be kept (its field x was never set)"),
    (invalid_member(), "Color cannot be kept (it is not a member of its class)"),
    (Failure("x"), "Failure cannot be kept (it is a dataclass, but also what its fields do not tell)"),
    (Mapped(1), "Mapped cannot be kept (it is a dataclass, but also"),
    (noted(Methodical(), note=1), "Methodical cannot be kept (it carries attributes of its own: note)"),
    (noted(collections.OrderedDict(), note=1), "OrderedDict cannot be kept (it carries attributes of its own: note)"),
    (noted(collections.Counter(), note=1), "Counter cannot be kept (it carries attributes of its own: note)"),
    (collections.defaultdict(lambda: 1), "defaultdict cannot be kept (its default_factory cannot be found"),
    (MOMENT.replace(tzinfo=ForeignZone("A", 2)), "datetime cannot be kept (its zone is a ForeignZone; only"),
    (iter([]), ": list_iterator cannot be kept"),
    ((each for each in ()), ": generator cannot be kept"),
    ([len], "[0]: builtin_function_or_method cannot be kept"),
    (Exception("x"), ": Exception cannot be kept"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_would_not_come_back_is_refused(value: Any, says: str) -> None:
    """The error names the function, the path inside the value, the type, and the way out."""
    with pytest.raises(UnkeepableResult) as caught:
        codec.encode(value, label="get_user()")
    message = str(caught.value)
    assert message.startswith("get_user(): result")
    assert says in message
    assert message.endswith("; return plain data, a dataclass, an Enum member or a namedtuple instead")


def test_a_zone_without_a_key_is_refused() -> None:
    """A ZoneInfo that was read from a file of its own cannot be found again."""
    key = next((path for path in (pathlib.Path(root, "UTC") for root in zoneinfo.TZPATH) if path.exists()), None)
    if key is None:
        pytest.skip("no time zone files on this machine")
    with key.open("rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(file)
    for value in (zone, MOMENT.replace(tzinfo=zone)):
        with pytest.raises(UnkeepableResult, match="has no key to find it by"):
            codec.encode(value, label="f()")


WRAPS = [
    lambda inner: [inner],
    lambda inner: (inner,),
    lambda inner: {"a": inner},
    Point,
    lambda inner: collections.OrderedDict(a=inner),
    lambda inner: [bytearray(b"x"), inner],
    lambda inner: {"b": [1, (inner, "ä")]},
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_is_too_deep_is_refused(wrap: Any) -> None:
    """Depth that the reader could not follow is an UnkeepableResult, however it is made up."""
    value = 1
    for _ in range(3000):
        value = wrap(value)
    with pytest.raises(UnkeepableResult, match="nested deeper"):
        codec.encode(value, label="f()")


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_contains_itself_is_refused(wrap: Any) -> None:
    """A cycle is an UnkeepableResult, also one that would fan out."""
    inner: list[Any] = []
    inner.extend([wrap(inner)] * 10)
    with pytest.raises(UnkeepableResult, match="contains itself"):
        codec.encode(inner, label="f()")


def unwrapped(value: Any) -> Any:
    """What one of the first four wraps is around."""
    if type(value) in {list, tuple}:
        return value[0]
    return value["a"] if type(value) is dict else value.x


@pytest.mark.parametrize("wrap", WRAPS[:4])
def test_what_is_written_can_be_read(wrap: Any) -> None:
    """Around the greatest depth, a value is either refused or comes back."""
    kept = set()
    for depth in range(1000, 1035):
        value: Any = "x" * 600
        for _ in range(depth):
            value = wrap(value)
        try:
            again = codec.decode(codec.encode(value, label="f()"))
        except UnkeepableResult:
            continue
        for _ in range(depth):
            assert type(value) is type(again)
            value, again = unwrapped(value), unwrapped(again)
        assert value == again
        kept.add(depth)
    assert kept == set(range(1000, max(kept) + 1))
    assert 1000 < max(kept) <= 1024
