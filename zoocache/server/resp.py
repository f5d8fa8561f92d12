r"""The bytes of the protocol, RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec/).

    command   *N\r\n, then N times $LENGTH\r\n BYTES \r\n
    reply     +text\r\n   -CODE text\r\n   :number\r\n
              $LENGTH\r\n BYTES \r\n, $-1\r\n for none   *N\r\n, then N replies, *-1\r\n for none

Why it is spelled out here and not left to redis-py: a call must end by one deadline for all of it, however slowly the
bytes drip; a task that is cancelled must not leave a reply for the next caller; an import of redis-py costs every
process about 70 ms and 6 MB; and its connection takes half as long again for a round trip as the socket does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, Union

Argument: TypeAlias = "bytes | str | int"
Reply: TypeAlias = Union[bytes, int, "list[Reply]", "Refusal", None]

_DEEPEST = 16
_LONGEST_LINE = 1 << 16


class Refusal(NamedTuple):
    """An error that the server replied; inside an array it is one of the replies.

    Attributes:
        code: its first word, as LOADING.
        text: the rest of it.
    """

    code: str
    text: str


class Incomplete(Exception):
    """More bytes must come: so many in all, at least.

    Attributes:
        size: how many bytes there must be.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Garbled(Exception):
    """These bytes are no reply."""


def pack(arguments: Iterable[Argument]) -> bytes:
    """The bytes of a command; text goes as UTF-8, a number in decimal digits."""
    parts = []
    for each in arguments:
        data = each if isinstance(each, bytes) else str(each).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def first(data: bytes) -> tuple[Reply, int] | Incomplete:
    """The first reply and where it ends, or what is missing of it; raises `Garbled`."""
    try:
        return parse(data)
    except Incomplete as missing:
        return missing


def parse(data: bytes, at: int = 0, depth: int = 0) -> tuple[Reply, int]:
    """The reply that begins there.

    Args:
        data: what has come.
        at: where it begins.
        depth: in how many arrays it is.

    Returns:
        The reply, and where it ends.

    Raises:
        Incomplete: it has not all come.
        Garbled: it is none.
    """
    end = data.find(b"\r\n", at)
    if end < 0:
        if len(data) - at > _LONGEST_LINE:
            raise Garbled("a line without an end")
        raise Incomplete(len(data) + 1)
    kind = data[at : at + 1]
    if kind == b"$":
        return _bulk(data, _number(data, at, end), end + 2)
    if kind == b":":
        return _number(data, at, end), end + 2
    if kind == b"*":
        return _array(data, _number(data, at, end), end + 2, depth)
    line = data[at + 1 : end]
    if kind == b"+":
        return line, end + 2
    if kind == b"-":
        code, _, text = line.decode(errors="replace").partition(" ")
        return Refusal(code, text), end + 2
    raise Garbled("a line of no known kind")


def _number(data: bytes, at: int, end: int) -> int:
    try:
        return int(data[at + 1 : end])
    except ValueError:
        raise Garbled("a number that is none") from None


def _bulk(data: bytes, size: int, at: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, at
    end = at + size
    if len(data) < end + 2:
        raise Incomplete(end + 2)
    return data[at:end], end + 2


def _array(data: bytes, size: int, at: int, depth: int) -> tuple[list[Reply] | None, int]:
    if size < 0:
        return None, at
    if depth == _DEEPEST:
        raise Garbled("arrays in arrays without end")
    replies = []
    for _ in range(size):
        reply, at = parse(data, at, depth + 1)
        replies.append(reply)
    return replies, at
