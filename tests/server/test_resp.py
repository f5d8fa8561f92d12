"""The bytes of the protocol."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache.server.resp import Garbled, Incomplete, Refusal, Reply, first, pack, parse

texts = st.text("abc -", max_size=8)
replies = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=30) | st.builds(Refusal, st.just("ERR"), texts),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def written(reply: Reply) -> bytes:
    """As a server writes it."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, Refusal):
        return f"-{reply.code} {reply.text}\r\n".encode()
    return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


def test_a_command() -> None:
    """Bytes go as they are, text as UTF-8, numbers as digits."""
    expected = b"*4\r\n$3\r\nSET\r\n$3\r\n\0\r\n\r\n$2\r\n\xc3\xa9\r\n$3\r\n-12\r\n"
    assert expected == pack(["SET", b"\0\r\n", "é", -12])


@given(replies, st.binary(max_size=20))
def test_a_reply_is_read(reply: Reply, behind: bytes) -> None:
    """A reply is read as it was written, and what comes behind it is left."""
    data = written(reply)
    assert (reply, len(data)) == parse(data + behind)


@given(replies)
def test_a_part_is_incomplete(reply: Reply) -> None:
    """However much is missing, it is known that something is; and never more is asked for than there will be."""
    data = written(reply)
    for end in range(len(data)):
        found = first(data[:end])
        assert isinstance(found, Incomplete)
        assert end < found.size <= len(data)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Bytes of nobody knows whom are a reply, a part of one, or garbled."""
    with contextlib.suppress(Garbled):
        found = first(data)
        assert isinstance(found, Incomplete) or found[1] <= len(data)


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 400 Bad\r\n", b"$x\r\n", b":1.5\r\n", b"*1\r\n" * 100 + b":1\r\n", b"x" * 100_000, b"\r\n", b"$\r\n"],
)
def test_garbled(data: bytes) -> None:
    """What is no reply is told apart from what has not come yet."""
    with pytest.raises(Garbled):
        first(data)


def test_none() -> None:
    """Both nulls of the protocol are None."""
    assert [(None, 5), (None, 5)] == [parse(b"$-1\r\n"), parse(b"*-1\r\n")]
