"""The bytes of a message.

    message = msgpack [VERSION, kind, [tag, ...], [digest, ...], older_than_ms, origin, hlc]

Whoever may publish on the channel may write anything there: what is not exactly this is no message (None).
"""

from __future__ import annotations

from typing import Any, get_args

import msgpack

from zoocache import deps
from zoocache.bus import Kind, Message
from zoocache.errors import InvalidTag

VERSION = 1
MOST_BYTES = 1 << 20
"""A longer message is not read, and not sent: more tags than fit are everything."""

_KINDS = frozenset(get_args(Kind))
_DIGEST_SIZE = 16
_pack = (
    msgpack.Packer().pack
)  # one call of it is one step of the interpreter; a new packer each time takes twice as long


def pack(message: Message, room_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a message; of a `clear`, if it is too long, or longer than the room that there is for it."""
    packed: bytes = _pack((VERSION, *message))
    size = len(packed)
    return packed if size <= room_bytes and size <= MOST_BYTES else pack(clear_in_place_of(message))


def clear_in_place_of(message: Message) -> Message:
    """The message that stands for one that cannot be sent, and for any number of others."""
    return message._replace(kind="clear", tags=(), keys=())


EVERYTHING = pack(Message("clear", (), (), 0, 0, 0))
"""What is told where the server has lost something: everything is stale, also for whoever tells it."""


def paths_of(message: Message) -> list[bytes]:
    """The paths and digests whose numbers a message raises."""
    return [*map(deps.own_path, message.tags), *message.keys]


def unpack(packed: bytes) -> Message | None:
    """The message that was packed, or None if it was none."""
    if len(packed) > MOST_BYTES:
        return None
    try:
        version, *rest = msgpack.unpackb(packed)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException):
        return None
    return _checked(*rest) if version == VERSION and len(rest) == len(Message._fields) else None


def _checked(kind: Any, tags: Any, keys: Any, older_than_ms: Any, origin: Any, hlc: Any) -> Message | None:
    numbers = (older_than_ms, origin, hlc)
    if type(kind) is not str or kind not in _KINDS or type(tags) is not list or type(keys) is not list:
        return None
    if not all(type(number) is int and 0 <= number < 1 << 64 for number in numbers):
        return None
    if not all(type(key) is bytes and len(key) == _DIGEST_SIZE for key in keys) or not all(map(_is_tag, tags)):
        return None
    return Message(kind, tuple(tags), tuple(keys), older_than_ms, origin, hlc)  # type: ignore[arg-type]


def _is_tag(tag: Any) -> bool:
    try:
        deps.check_tag(tag)
    except InvalidTag:
        return False
    return True
