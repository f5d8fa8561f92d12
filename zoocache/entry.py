r"""What a store keeps as the body of an entry, opaque to it: the full key, the tags, and the packed value.

    body = msgpack [key: bin (UTF-8, lone surrogates passed), tags: bin (ASCII, joined by "\n"), payload: bin (codec)]

The full key is there because a store finds entries by a hash: on every load it is compared. The tags are there for
the outer entry of a nested call, and to look at their nodes; the store has their hashes beside the body.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgpack


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
    return packed


def unpack(body: bytes) -> Body | None:
    """The parts of a body, or None if it is damaged or of another make."""
    try:
        parts: object = msgpack.unpackb(body)
        if not isinstance(parts, list):
            return None
        key, tags, payload = parts
        names = tags.decode("ascii")
        opened = Body(key.decode("utf-8", "surrogatepass"), tuple(names.split("\n")) if names else (), payload)
    except (ValueError, TypeError, AttributeError, msgpack.exceptions.UnpackException):
        return None
    return opened if isinstance(payload, bytes) else None
