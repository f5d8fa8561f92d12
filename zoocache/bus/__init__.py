"""What the engine will ask of a bus: that invalidations cross to other hosts. This release has no bus.

The contract is here because the rest leans on it already: stores keep their numbers beside the entries (so that an
entry is judged by its store and by no message), the segment gives every invalidation a stamp of the hybrid clock,
and `bus_url` is refused at `configure` rather than ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """One invalidation on its way.

    Attributes:
        number: the bus's own; who misses one reads the gap before going on.
        tags: that were invalidated together.
        origin: which host sent it; a host skips its own.
        hlc: the hybrid logical clock there, for people.
    """

    number: int
    tags: tuple[str, ...]
    origin: str
    hlc: int


class Bus(Protocol):
    """Messages may be lost, repeated and reordered; numbers tell."""

    def send(self, tags: Sequence[str], hlc: int) -> int:
        """Give one invalidation to the other hosts; returns its number once the bus has it."""

    def heard(self) -> Sequence[Message]:
        """What has arrived since the last call, in the order of arrival; waits for nothing."""

    def since(self, number: int) -> Sequence[Message] | None:
        """All messages after a number; None if the bus does not reach back so far: then everything is stale."""

    def close(self) -> None:
        """Let go of the connection."""
