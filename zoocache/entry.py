r"""What a store keeps as the body of an entry, opaque to it: the full key, the tags, and the packed value.

    body = CRC-32 of the rest (4 bytes, little-endian),
           msgpack [key: bin (UTF-8, lone surrogates passed), tags: bin (ASCII, joined by "\n"), payload: bin (codec)]

The checksum (ITU-T V.42, as zlib and PNG have it) tells bytes that a disk, a memory or a network has spoilt: with a
wrong bit in the payload another value of the same type would come back, under the right key. It is no proof against
who forges.
The full key is there because a store finds entries by a hash: on every load it is compared. The tags are there for
the outer entry of a nested call, and to look at their nodes; the store has their hashes beside the body.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterable
from typing import NamedTuple

import msgpack

_SUM_SIZE = 4


class Body(NamedTuple):
    """An opened body."""

    key: str
    tags: tuple[str, ...]
    payload: bytes


def pack(key: str, tags: Iterable[str], payload: bytes) -> bytes:
    """The body of an entry.

    Args:
        key: full text.
        tags: valid tags.
        payload: the packed value.
    """
    packed: bytes = msgpack.packb((key.encode("utf-8", "surrogatepass"), "\n".join(tags).encode("ascii"), payload))
    return crc32(packed).to_bytes(_SUM_SIZE, "little") + packed


def unpack(body: bytes) -> Body | None:
    """The parts of a body, or None if it is damaged or of another make."""
    try:
        packed = memoryview(body)[_SUM_SIZE:]
        if crc32(packed) != int.from_bytes(body[:_SUM_SIZE], "little"):
            return None
        parts: object = msgpack.unpackb(packed)
        if not isinstance(parts, list):
            return None
        key, tags, payload = parts
        names = tags.decode("ascii")
        opened = Body(key.decode("utf-8", "surrogatepass"), tuple(names.split("\n")) if names else (), payload)
    except (ValueError, TypeError, AttributeError, msgpack.exceptions.UnpackException):
        return None
    return opened if isinstance(payload, bytes) else None
