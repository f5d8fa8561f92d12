"""What crosses between hosts: messages about what was invalidated, each with a number of the server's.

The server numbers what is sent, keeps the latest of it in a stream, and tells who listens. What is heard may be lost,
repeated, reordered, forged: the numbers and marks tell, and the stream is the truth. If the stream does not reach back
far enough, or another history is found there, everything older is stale.

The contract is held by `tests/bus/contract.py`. Every method of a bus may be called by any thread and raises
`ServerDown` where the server is out of reach, `ServerRefused` where it does not want this user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["tags", "clear", "prune"]


class Message(NamedTuple):
    """What one host tells the others.

    Attributes:
        kind: `tags`: these tags and keys are overtaken; `clear`: everything is; `prune`: give old nodes back.
        tags: that were invalidated together.
        keys: digests of keys that were dropped or set anew.
        older_than_ms: of a prune.
        origin: the incarnation of the sender's segment: who sent it has done it already. 0: nobody has.
        hlc: the hybrid logical clock there, for people.
    """

    kind: Kind
    tags: tuple[str, ...]
    keys: tuple[bytes, ...]
    older_than_ms: int
    origin: int
    hlc: int


UNKNOWN = bytes(8)
"""A mark that no message has: the one of a position that was not written whole."""


class Position(NamedTuple):
    """How far a host has heard.

    Attributes:
        epoch: the server's random name for the life of its numbers.
        n: the last number; it may be above that of the last message.
        mark: 8 random bytes of the last message: that of another history has others.
    """

    epoch: int
    n: int
    mark: bytes


class Heard(NamedTuple):
    """A message as it came.

    Attributes:
        epoch, n, mark: its position.
        before: the mark of the message before it. Whoever does not know the last message cannot forge the next one;
            numbers are no proof, for some stand for nothing that is told.
        message: None where it cannot be read: it may be of a newer release, and mean everything.
    """

    epoch: int
    n: int
    mark: bytes
    before: bytes
    message: Message | None

    @property
    def position(self) -> Position:
        """Where who has heard this stands."""
        return Position(self.epoch, self.n, self.mark)

    def follows(self, position: Position) -> bool:
        """Whether it is the very next one after a position."""
        return self.epoch == position.epoch and self.before == position.mark and self.n > position.n


class Catch(NamedTuple):
    """What was sent since a position.

    Attributes:
        now: the position after it.
        heard: in the order of the numbers.
        whole: False: something is missing, or history is another one; everything before `now` may be stale.
        forked: history is another one: another epoch (an empty server, or an older one that is back), numbers that ran
            backwards, a message where another one stood.
    """

    now: Position
    heard: Sequence[Heard]
    whole: bool
    forked: bool = False


class Ear(Protocol):
    """A subscription."""

    def hear(self, timeout_s: float) -> Sequence[Heard]:
        """What has come; waits for the first at most so long. Only a hint: see the head of this file."""

    def close(self) -> None:
        """Let go of the connection."""


class Bus(Protocol):
    """See the head of this file."""

    def send(self, message: Message, paths: Sequence[bytes], known: Position | None = None) -> Position:
        """Number a message, raise the numbers of `paths` (of everything, for `clear`), keep and tell it, in one step.

        Args:
            message, paths: what is told, and what of the server's own numbers it raises.
            known: what this host knows of the server's order. A server that contradicts it has lost what it was told:
                in the same step it overtakes everything, as `raise_floor` does, and that is told instead.

        Returns:
            The position of what was told.
        """

    def now(self) -> Position:
        """The position of the server."""

    def since(self, position: Position, own: Position | None = None) -> Catch:
        """What was sent since.

        Args:
            position: up to where it is known.
            own: of a message of this host's, which the server must have, too; else history is another one.
        """

    def compare(self, known: Position | None) -> Catch:
        """As `since`, without what was sent: only whether the server contradicts what is known."""

    def raise_floor(self, known: Position) -> int:
        """Make everything stale for everybody, under a number far above all that are known; returns it.

        Args:
            known: up to where the host had heard from a server that tells another history now.
        """

    def listen(self) -> Ear:
        """Subscribe."""

    def later(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """The twin of a method, for tasks."""

    def close(self) -> None:
        """Let go of what is open."""
