"""`zoocache.keys`: the text of a call, the receiver of a method, and what is said of what has no key."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import math
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.specimens import (
    PATIENT,
    Bag,
    Color,
    Fussy,
    Keyed,
    Lying,
    Number,
    Outer,
    Pair,
    Plain,
    Point,
    Rank,
    Slots,
    function,
    noted,
)
from zoocache import keys
from zoocache.errors import UnkeyableArgument

LOCAL_LAMBDA = lambda: None  # noqa: E731  # its qualname does not lead back to it


def local_enum() -> enum.Enum:
    """A member of an Enum that no name leads to."""

    class Local(enum.Enum):
        A = 1

    return Local.A


def local_dataclass() -> object:
    """An instance of a dataclass that no name leads to."""

    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


def without_field() -> object:
    """A dataclass instance that lacks a field."""
    point = Point(1)
    del point.x
    return point


UNKEYABLE = [
    (object(), "(object)"),
    (Plain(), "(Plain)"),
    (LOCAL_LAMBDA, "(function) has no stable key (<lambda> cannot be found by its name"),
    (local_enum(), "(Local) has no stable key (local_enum.<locals>.Local cannot be found by its name"),
    (type(local_enum()), "(EnumMeta)" if sys.version_info < (3, 11) else "(EnumType)"),
    (local_dataclass(), "(Local) has no stable key"),
    (memoryview(b""), "(memoryview)"),
    ([Lying()], "[0] (Lying)"),
    (iter([]), "(list_iterator)"),
    (functools.partial(function), "(partial)"),
    ([].append, "(builtin_function_or_method)"),
    (Outer().method, "(method)"),
    (time.gmtime(0), "(struct_time) has no stable key (its class is not made in Python"),
    (collections.defaultdict(lambda: 1), "has no stable key"),
    (without_field(), "(Point) has no stable key (its field x was never set)"),
    (Keyed(object()), "(Keyed) has no stable key (its __cache_key__ returned what will not do: object has no"),
    ({"a": [1, 2, object()]}, """["a"][2] (object)"""),
    ({"a'b": object()}, """["a'b"] (object)"""),
    ({1: (object(),)}, "[1][0] (object)"),
    ({object(): 1}, "[key <object>] (object)"),
    ({(1, object()): 1}, "[key <tuple>][1] (object)"),
    ({object()}, "{…} (object)"),
    (Point(1, [object()]), ".y[0] (object)"),
    (Pair(1, {2: object()}), "[1][2] (object)"),
    (noted(Bag(), more=object()), ".more (object)"),
    (slice(None, None, [object()]), ".step[0] (object)"),
    pytest.param({10**5000: object()}, "[<int>] (object)", id="long int"),
    ({"x" * 100: object()}, '["' + "x" * 40 + '…"] (object)'),
]


@pytest.mark.parametrize(("value", "says"), UNKEYABLE)
def test_what_has_no_stable_key_is_named(value: object, says: str) -> None:
    """The error names the function, the parameter, the path inside the value, the type, and the way out."""
    with pytest.raises(UnkeyableArgument) as caught:
        keys.encode_call("get_user()", ("user", "filter"), (1, value))
    message = str(caught.value)
    assert message.startswith("get_user(): argument 'filter'")
    assert says in message
    assert message.endswith("; give it a __cache_key__ method, or pass something that has one")


def test_a_secret_in_an_argument_stays_out_of_the_error() -> None:
    """The error shows types and paths, no values."""
    with pytest.raises(UnkeyableArgument) as caught:
        keys.encode_call("f()", ("a",), ([{"url": "redis://:hunter2@host", "socket": Plain}, object(), "hunter2"],))
    assert "hunter2" not in str(caught.value)


def nested(depth: int, wrap: Any) -> Any:
    """A value so deep."""
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def cyclic(wrap: Any) -> Any:
    """A value that contains itself."""
    inner: list[Any] = []
    inner.append(wrap(inner))
    return inner


WRAPS = [
    lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}, Point, Keyed,
    lambda inner: collections.OrderedDict(a=inner), lambda inner: Bag(a=inner),
]  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
def test_cycles_and_absurd_depth_are_refused(wrap: Any) -> None:
    """What contains itself, or is nested more than a hundred deep, is an UnkeyableArgument and no RecursionError."""
    keys.encode(nested(100, wrap))
    for value in (nested(101, wrap), nested(5000, wrap), cyclic(wrap)):
        with pytest.raises(UnkeyableArgument, match=r"nested (too deeply|deeper than 100 levels), or contains itself"):
            keys.encode(value)


def test_a_call_is_one_text_of_names_and_values() -> None:
    """The text of a call tells which parameter has which value."""
    texts = {
        keys.encode_call("f()", names, values)
        for names in (("a", "b"), ("b", "a"), ("ab", "c"))
        for values in ((1, 2), (2, 1), ("1", 2), ((1,), {"x": 2}))
    }
    assert 12 == len(texts)
    assert keys.encode_call("f()", (), ()) not in texts


def test_what_a_cache_key_method_raises_reaches_the_caller() -> None:
    """An error in a user's `__cache_key__` is not disguised."""

    class Broken:
        def __cache_key__(self) -> object:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        keys.encode(Broken())


def keyed_class(name: str) -> type[Keyed]:
    """A class that shares its name with others."""
    return type(name, (Keyed,), {"__qualname__": "keyed_class.<locals>.Local"})


def test_a_local_class_with_a_key_of_its_own_serves_this_process() -> None:
    """Two local classes of one name never share a key, though their instances return the same one."""
    one, other = keyed_class("Local"), keyed_class("Local")
    assert keys.encode(one(1)) == keys.encode(one(1))
    assert keys.encode(one(1)) != keys.encode(other(1))
    assert keys.encode(one(1)) != keys.encode(one(2))


@pytest.mark.parametrize("receiver", [Point(1), Color.RED, Keyed(1), Point, "text", 5, Pair(1, 2)])
def test_a_receiver_with_a_value_counts_by_its_value(receiver: object) -> None:
    """A receiver that is keyable by value has the text of its value."""
    assert keys.encode(receiver) == keys.encode_self(receiver)


@pytest.mark.parametrize(
    "make", [Plain, Fussy, lambda: Point(object()), local_dataclass, lambda: type("Local", (), {})]
)
def test_two_receivers_without_a_value_never_share_a_key(make: Any) -> None:
    """Instances that have no value of their own are told apart, each by one token for its life."""
    one, other = make(), make()
    assert keys.encode_self(one) == keys.encode_self(one)
    assert keys.encode_self(one) != keys.encode_self(other)
    assert keys.encode_self(one).startswith("@")


@pytest.mark.parametrize("receiver", [Slots(), object()])
def test_a_receiver_that_cannot_be_referenced_weakly_is_refused(receiver: object) -> None:
    """Without a value and without weak references there is no key; the error says so, and what to do."""
    with pytest.raises(
        UnkeyableArgument, match=r"get\(\): argument 'self' .* cannot be weakly referenced.*__cache_key__"
    ):
        keys.encode_self(receiver, "get()")


def test_a_receivers_own_key_must_be_keyable() -> None:
    """A receiver whose `__cache_key__` returns what has no key is an error, not a token."""
    with pytest.raises(UnkeyableArgument, match=r"argument 'self' \(Keyed\).*its __cache_key__ returned"):
        keys.encode_self(Keyed(object()))


numbers = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, -0.0, 1.0, 2.0, math.nan, math.inf]))


@PATIENT
@given(st.lists(st.one_of(st.none(), numbers, st.text("ab"), st.binary(max_size=1)), min_size=2, max_size=2))
def test_what_fits_the_front_has_one_key_if_it_is_equal(pair: list[Any]) -> None:
    """Two values that fit the front table, of one exact type and equal, have one key."""
    one, other = pair
    if keys.fits_front(one) and keys.fits_front(other) and type(one) is type(other):
        assert (one == other) == (keys.encode(one) == keys.encode(other))


@pytest.mark.parametrize(
    ("value", "fits"),
    [(1, True), ("a", True), (b"a", True), (True, True), (None, True), (1.5, True), (math.inf, True),
     (0.0, False), (-0.0, False), (math.nan, False), ((1,), False), (Number(1), False), (Rank.LOW, False), ([], False)],
)  # fmt: skip
def test_what_fits_the_front(value: object, fits: bool) -> None:
    """Only exact hashable types of which equality says all fit, and floats but 0.0, -0.0 and nan."""
    assert fits == keys.fits_front(value)


def test_a_digest_is_sixteen_bytes_of_the_whole_text() -> None:
    """Digests are told apart by any character of the text, lone surrogates too."""
    digests = {keys.digest(text) for text in ("", "a", "b", "a" * 10_000, "a" * 10_001, "\ud800", "\udfff")}
    assert 7 == len(digests)
    assert {16} == set(map(len, digests))
