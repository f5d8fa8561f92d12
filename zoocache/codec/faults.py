"""What goes wrong in the codec: `Undecodable` on the way out of the store, `Unkeepable` on the way in."""

from __future__ import annotations

import struct

from msgpack.exceptions import UnpackException

from zoocache.errors import ZooCacheError


class Undecodable(ZooCacheError, ValueError):
    """Bytes from a store are not a value: corrupt, of another format, or of a class that changed. It is a miss."""


MALFORMED = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, MemoryError, struct.error,
    UnpackException, NotImplementedError,
)  # fmt: skip
"""What msgpack and the constructors raise at bytes that are no value. All else is no word about the bytes: a signal
handler may raise its own, a deadline most of all, in the middle of a decoding, and that belongs to the caller."""


class Unkeepable(Exception):
    """A value would not come back as it is. `why` says more than its type does, or is empty."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why
