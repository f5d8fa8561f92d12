"""`zoocache.codec`: what comes back is what went in, type and all."""

from __future__ import annotations

import collections
import datetime as dt
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.codec.kinds import KEPT, Boxed, Made, Strict
from tests.codec.sameness import same
from tests.specimens import BERLIN, PATIENT, Color, Frozen, OtherPair, Pair, Plain, Point, Right, noted
from zoocache import codec


def round_trip(value: Any) -> Any:
    """There and back."""
    return codec.decode(codec.encode(value, label="f()"))


@pytest.mark.parametrize("value", KEPT, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    """Every kind of value comes back equal and of the same type, at every depth, dicts in their order."""
    assert same(value, round_trip(value))


dates = st.datetimes(timezones=st.one_of(st.none(), st.timezones(), st.just(dt.timezone.utc)), allow_imaginary=True)
atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(st.characters()), st.binary(),
    st.dates(), st.times(), dates, st.timedeltas(), st.decimals(allow_nan=False), st.fractions(),
    st.uuids(), st.sampled_from(Color),
    st.sampled_from([Right.READ, Right.READ | Right.WRITE, BERLIN]), st.builds(range, st.integers(), st.integers()),
)  # fmt: skip
hashables = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3), st.builds(Pair, inner, inner),
        st.builds(Frozen, inner, inner),
    ),
    max_leaves=6,
)  # fmt: skip
values = st.recursive(
    st.one_of(hashables, st.binary().map(bytearray)),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.sets(hashables), st.dictionaries(hashables, inner),
        st.dictionaries(hashables, inner).map(collections.OrderedDict), st.builds(Point, inner, inner),
        st.builds(OtherPair, inner, inner), st.lists(inner).map(collections.deque),
    ),
    max_leaves=12,
)  # fmt: skip


@PATIENT
@given(values)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    """Whatever is built of keepable values comes back equal and of the same types."""
    assert same(value, round_trip(value))


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=9), inner, max_size=5)),
    max_leaves=10,
)


@PATIENT
@given(plain)
def test_plain_values_are_plain_msgpack(value: Any) -> None:
    """JSON-like values are written as msgpack alone would, so any tool can read them, at the speed of C."""
    assert msgpack.packb(value) == codec.encode(value, label="f()")


def test_nothing_of_a_memo_is_kept() -> None:
    """What `functools.cached_property` remembered is not stored; it comes again when it is asked for."""
    made = Made(3)
    assert [3] == made.memo
    again = round_trip(made)
    assert "memo" not in vars(again)
    assert [3] == again.memo


def test_type_arguments_are_no_part_of_a_value() -> None:
    """An instance of a generic class that was called with type arguments is like any other."""
    boxed = Boxed[int](5)
    assert boxed == round_trip(boxed)
    assert codec.encode(Boxed(5), label="f()") == codec.encode(boxed, label="f()")


def test_no_constructor_runs() -> None:
    """A dataclass comes back though its `__post_init__` would refuse what it holds by now."""
    value = Strict(1)
    vars(value)["x"] = -1
    assert -1 == round_trip(value).x


def test_the_attributes_of_an_instance_are_a_dict_like_any_other() -> None:
    """What `vars` gives, whose items CPython may keep elsewhere, comes back with its types as well."""
    plain = noted(Plain(), x=bytearray(b"a"), y=[bytearray(b"b")], z=b"c")
    assert same(dict(vars(plain)), round_trip(vars(plain)))
