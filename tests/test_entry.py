"""The body of an entry: what was packed comes back, and nothing that is damaged is taken for it."""

from __future__ import annotations

from binascii import crc32

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import damaged_or_noise, examples
from zoocache.entry import Body, pack, unpack

tags = st.sampled_from(["a", "a:b", "org:1:user:2", "x" * 256, "-._:A"])
keys = st.text(st.sampled_from("ab\x00\n|%é\U0001f600\ud800\udfff"), max_size=20)
sparing = settings(max_examples=40, deadline=None)


@sparing
@given(keys, st.lists(tags, max_size=5), st.binary())
def test_what_was_packed_comes_back(key: str, names: list[str], payload: bytes) -> None:
    """Key, tags and payload, whatever they are."""
    assert Body(key, tuple(names), payload) == unpack(pack(key, names, payload))


@sparing
@given(keys, st.lists(tags, max_size=3), st.binary(max_size=20), st.data())
def test_a_body_that_was_cut_is_no_body(key: str, names: list[str], payload: bytes, data: st.DataObject) -> None:
    """A body that lost its end is None, and so is one with something behind it."""
    body = pack(key, names, payload)
    assert None is unpack(body[: data.draw(st.integers(0, len(body) - 1))])
    assert None is unpack(body + b"\x00")


@sparing
@given(st.binary(max_size=200))
def test_noise_is_no_body(noise: bytes) -> None:
    """Whatever bytes there are: a body or None, never an exception."""
    body = unpack(noise)
    assert body is None or isinstance(body, Body)


@examples(150)
@given(keys, st.lists(tags, max_size=3), st.binary(max_size=20), st.data())
def test_fuzz_bodies(key: str, names: list[str], payload: bytes, data: st.DataObject) -> None:
    """A damaged body is no body: never an error, never another value."""
    body = pack(key, names, payload)
    spoilt = data.draw(damaged_or_noise(body))
    assert unpack(spoilt) in {None, Body(key, tuple(names), payload) if spoilt == body else None}


def summed(packed: bytes) -> bytes:
    """With the checksum of a body."""
    return crc32(packed).to_bytes(4, "little") + packed


@sparing
@given(st.data())
def test_fuzz_bodies_of_another_make(data: st.DataObject) -> None:
    """What was packed by something else, and has a right checksum, is a body or None."""
    spoilt = data.draw(damaged_or_noise(pack("key", ["a", "b:c"], b"payload")[4:]))
    opened = unpack(summed(spoilt))
    if opened is not None:
        assert (str, tuple, bytes) == (type(opened.key), type(opened.tags), type(opened.payload))
        assert all(type(tag) is str for tag in opened.tags)


@pytest.mark.parametrize(
    "other",
    [
        None, 5, "text", [], [b"k", b"t"], [b"k", b"t", b"p", b"more"], ["k", b"t", b"p"], [b"k", "t", b"p"],
        [b"k", b"t", "p"], [b"k", b"\xff", b"p"], [b"\xff", b"t", b"p"], [b"k", b"t", None],
        {b"k": 1, b"t": 2, b"p": 3},
    ],
)  # fmt: skip
def test_other_makes_are_no_bodies(other: object) -> None:
    """Sound msgpack of another shape is None."""
    assert None is unpack(summed(msgpack.packb(other)))


def test_no_tags_is_not_one_empty_tag() -> None:
    """No tags come back as no tags."""
    assert () == unpack(pack("k", (), b"")).tags  # type: ignore[union-attr]
