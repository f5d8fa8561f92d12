"""zoocache/bus/message.py: the bytes of a message."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import Edit, busy_at_most, edited, edits, examples
from zoocache import deps
from zoocache.bus import Message
from zoocache.bus.message import MOST_BYTES, VERSION, clear_in_place_of, pack, paths_of, unpack

U64 = st.integers(0, 2**64 - 1)
TAGS = st.lists(st.sampled_from(["a", "a:b", "org:1:user:2", "x.y-z_0"]), max_size=5).map(tuple)
DIGESTS = st.lists(st.binary(min_size=16, max_size=16), max_size=5).map(tuple)
MESSAGES = st.builds(Message, st.sampled_from(["tags", "clear", "prune"]), TAGS, DIGESTS, U64, U64, U64)
PLAIN = Message("tags", ("a",), (), 0, 1, 2)


@given(MESSAGES)
def test_what_is_packed_is_unpacked(message: Message) -> None:
    """A message comes back as it was."""
    assert message == unpack(pack(message))


@examples(100)
@given(st.binary(max_size=200))
def test_fuzz_any_bytes(garbage: bytes) -> None:
    """Whatever anybody writes into the channel is a message or None, never an error."""
    found = unpack(garbage)
    assert found is None or found == unpack(pack(found))


@examples(200)
@given(MESSAGES, edits)
def test_fuzz_messages(message: Message, changes: list[Edit]) -> None:
    """A damaged message is None, or one that could have been sent: its tags, keys and numbers are such."""
    with busy_at_most(5):
        found = unpack(edited(pack(message), changes))
    if found is not None:
        assert found == unpack(pack(found))
        assert all(len(path) == 16 for path in paths_of(found))
        assert all(0 <= number < 2**64 for number in (found.older_than_ms, found.origin, found.hlc))


@given(MESSAGES, st.data())
def test_a_damaged_message(message: Message, data: st.DataObject) -> None:
    """One that lost its end, or has something behind it, is none."""
    packed = pack(message)
    assert unpack(packed[: data.draw(st.integers(0, len(packed) - 1))]) is None
    assert unpack(packed + data.draw(st.binary(min_size=1, max_size=9))) is None


@pytest.mark.parametrize(
    "parts",
    [
        (VERSION + 1, *PLAIN),
        (VERSION, *PLAIN, "more"),
        (VERSION, *PLAIN[:-1]),
        (VERSION, *PLAIN._replace(kind="drop")),  # type: ignore[arg-type]
        (VERSION, *PLAIN._replace(kind=["tags"])),  # type: ignore[arg-type]
        (VERSION, *PLAIN._replace(tags="abc")),  # type: ignore[arg-type]
        (VERSION, *PLAIN._replace(tags=("a::b",))),
        (VERSION, *PLAIN._replace(tags=("a" * 300,))),
        (VERSION, *PLAIN._replace(tags=(7,))),  # type: ignore[arg-type]
        (VERSION, *PLAIN._replace(keys=(b"short",))),
        (VERSION, *PLAIN._replace(keys=("0123456789abcdef",))),  # type: ignore[arg-type]
        (VERSION, *PLAIN._replace(older_than_ms=-1)),
        (VERSION, *PLAIN._replace(origin=1.5)),  # type: ignore[arg-type]
        (VERSION, *PLAIN._replace(hlc=True)),
        VERSION,
        {"version": 1},
        [[]] * 7,
    ],
)
def test_what_is_well_formed_and_nonsense(parts: object) -> None:
    """Another version, other types, tags against the rules: no message."""
    assert unpack(msgpack.packb(parts)) is None


def test_more_than_fits_is_everything() -> None:
    """A message that would be too long to be read is one that clears everything."""
    many = tuple(f"tag:{'x' * 200}:{number}" for number in range(6000))
    assert clear_in_place_of(PLAIN) == unpack(pack(PLAIN._replace(tags=many)))
    assert unpack(b"\x97" + bytes(MOST_BYTES)) is None


def test_paths() -> None:
    """What a message raises the numbers of: its tags themselves, not what is above them, and its keys."""
    digest = bytes(range(16))
    assert [deps.own_path("a:b"), digest] == paths_of(PLAIN._replace(tags=("a:b",), keys=(digest,)))
