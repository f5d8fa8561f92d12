"""What goes wrong in the codec: `Undecodable` on the way out of the store, `Unkeepable` on the way in."""

from __future__ import annotations

from zoocache.errors import ZooCacheError


class Undecodable(ZooCacheError, ValueError):
    """Bytes from a store are not a value: corrupt, of another format, or of a class that changed. It is a miss."""


class Unkeepable(Exception):
    """A value would not come back as it is. `why` says more than its type does, or is empty."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why
