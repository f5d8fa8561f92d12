"""The bus through a Redis server: what is sent, numbered, kept and told in one script.

    stream     "n-0" -> mark (8 bytes), mark of the message before it (8 bytes), message
    channel    epoch (16 hex digits) " " n " " the same three

Each message carries the mark of the one before it: the marks are a chain. Who knows the last message knows the next one
by it, whoever may have written something else on the channel; and a stream whose chain does not begin at one's own
position tells another history (a failover that lost the latest of it). Numbers alone would not tell: a store beside the
bus takes some that nobody is told about.

Another epoch is another history too. An empty server is no danger, for all entries of another epoch are stale; but one
that was left, and is gone back to, has entries of its own, and knows nothing of what was invalidated meanwhile.

A stream is trimmed. Where the chain is broken and the oldest message is younger than what is known, nobody can tell
whether history is the same; then what is missing is missed, and that is all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from zoocache.bus import UNKNOWN, Catch, Heard, Message, Position
from zoocache.bus.message import EVERYTHING, MOST_BYTES, pack, unpack
from zoocache.bus.redis_scripts import RAISE, SEND, SINCE
from zoocache.errors import ServerDown, StorageError
from zoocache.server.link import Link
from zoocache.server.names import names_of
from zoocache.server.replies import error_of
from zoocache.server.resp import Argument, Garbled, Refusal, Reply
from zoocache.server.resp import pack as pack_command
from zoocache.server.scripts import LARGEST_N, Script
from zoocache.server.wire import Wire

T = TypeVar("T")

PAGE = 1000
"""So many messages of the stream are read at once."""

QUIET_S = 1.0
"""Who has heard nothing for so long asks whether the connection is still there."""

_NEVER = Position(0, 0, UNKNOWN)


class _Ask(NamedTuple):
    """A question to the server."""

    script: Script
    keys: Sequence[bytes]
    arguments: Sequence[Argument]
    read: Callable[[Reply], Any]


class _Page(NamedTuple):
    """A piece of the stream.

    Attributes:
        now: where the server is.
        heard: the next messages after a position.
        oldest_n: the number of the oldest message of all; above all numbers if there is none.
        is_lost: whether the server contradicts what else is known.
    """

    now: Position
    heard: list[Heard]
    oldest_n: int
    is_lost: bool


class RedisBus:
    """See the head of this file, and `zoocache.bus.Bus`.

    Args:
        link: to the server; the bus does not close it.
        prefix: of the configuration; "" for none.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._names = names_of(prefix)
        self._keys = (self._names.numbers, self._names.stream, self._names.channel)

    def __str__(self) -> str:
        return str(self._link.address)

    # The contract.

    def send(self, message: Message, paths: Sequence[bytes], known: Position | None = None) -> Position:
        """See `Bus.send`."""
        sent: Position = self._asked(self._send(message, paths, known))
        return sent

    def now(self) -> Position:
        """See `Bus.now`."""
        return self._page(_NEVER, 0).now

    def since(self, position: Position, own: Position | None = None) -> Catch:
        """See `Bus.since`."""
        heard: list[Heard] = []
        last = position
        while True:
            now, page, oldest_n, is_lost = self._page(last, PAGE, own)
            broken = True if is_lost else _broken_at(last, now, page, oldest_n)
            if broken is not None:
                return Catch(now, (), whole=False, forked=broken)
            heard += page
            if len(page) < PAGE:
                return Catch(now, heard, whole=True)
            last = page[-1].position

    def compare(self, known: Position | None) -> Catch:
        """See `Bus.compare`."""
        now, _, _, is_lost = self._page(_NEVER, 0, known)
        return Catch(now, (), whole=not is_lost, forked=is_lost)

    def raise_floor(self, known: Position) -> int:
        """See `Bus.raise_floor`."""
        return int(self._asked(self._raise_floor(known)))

    def listen(self) -> RedisEar:
        """See `Bus.listen`."""
        return RedisEar(self._link, self._names.channel)

    async def later(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """See `Bus.later`; for `send` and `raise_floor`."""
        ask: _Ask = getattr(self, f"_{method}")(*args, **kwargs)
        return ask.read(await self._link.run_async(*ask[:3]))

    def after_fork(self) -> None:
        """In a forked child."""
        self._link.after_fork()

    def close(self) -> None:
        """See `Bus.close`."""
        self._link.close()

    # What is asked, and what a reply means.

    def _asked(self, ask: _Ask) -> Any:
        return ask.read(self._link.run(*ask[:3]))

    def _send(self, message: Message, paths: Sequence[bytes], known: Position | None = None) -> _Ask:
        mark, everything = _mark(), "clear" if message.kind == "clear" else ""
        said: list[Argument] = [_fresh(), mark, pack(message), *_said(known), EVERYTHING, everything, *paths]
        return _Ask(SEND, self._keys, said, lambda reply: _read(self._link, lambda: _sent(reply, mark)))

    def _raise_floor(self, known: Position) -> _Ask:
        said = (_fresh(), _mark(), EVERYTHING, b"%016x" % known.epoch, min(known.n, LARGEST_N))
        return _Ask(RAISE, self._keys, said, self._number)

    def _number(self, reply: Reply) -> int:
        return _read(self._link, lambda: _n(reply))

    def _page(self, last: Position, most: int, own: Position | None = None) -> _Page:
        """The next messages after a position, and whether the server contradicts another."""
        arguments = (_fresh(), b"%016x" % last.epoch, min(last.n, LARGEST_N), most, *_said(own))
        reply = self._link.run(SINCE, self._keys[:2], arguments)
        return _read(self._link, lambda: _page_of(reply))


class RedisEar:
    """See `zoocache.bus.Ear`.

    Args:
        link: gives the connection.
        channel: to listen to.

    Raises:
        ServerDown, ServerRefused: there is no connection to be had.
    """

    def __init__(self, link: Link, channel: bytes) -> None:
        self._link = link
        self._wire: Wire = link.dial()
        self._heard_s = time.monotonic()
        self._asked_s = 0.0
        try:
            self._subscribe(channel)
        except BaseException:
            self.close()
            raise

    def _subscribe(self, channel: bytes) -> None:
        """Returns once the server has it: what is sent from here on is heard."""
        until_s = time.monotonic() + self._link.timeout_s
        try:
            self._wire.send(pack_command((b"SUBSCRIBE", channel)), until_s)
            reply = self._wire.read(until_s)
        except (OSError, Garbled) as error:
            raise self._down(error) from error
        if isinstance(reply, Refusal):
            raise error_of(self._link.address, reply)

    def hear(self, timeout_s: float) -> Sequence[Heard]:
        """See `Ear.hear`.

        Raises:
            ServerDown: the connection is broken, or nothing comes back over it.
        """
        now_s = time.monotonic()
        try:
            self._ask_if_quiet(now_s)
            return [heard for each in self._replies(now_s + timeout_s) if (heard := _heard_of(each)) is not None]
        except (OSError, Garbled) as error:
            raise self._down(error) from error

    def _ask_if_quiet(self, now_s: float) -> None:
        """A connection that was cut without a word looks like one on which nobody speaks."""
        if now_s - self._heard_s < QUIET_S:
            return
        if self._asked_s < self._heard_s:
            self._asked_s = now_s
            self._wire.send(pack_command((b"PING",)), now_s + self._link.timeout_s)
        elif now_s - self._asked_s > self._link.timeout_s:
            raise TimeoutError

    def _replies(self, until_s: float) -> list[Reply]:
        """What has come: waits for the first, and takes what came with it."""
        replies: list[Reply] = []
        try:
            while True:
                replies.append(self._wire.read(until_s))
                self._heard_s = time.monotonic()
                until_s = 0.0
        except TimeoutError:
            return replies

    def _down(self, error: Exception) -> ServerDown:
        reason = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return ServerDown(f"{self._link.address}: the connection to listen on is lost ({reason})")

    def close(self) -> None:
        """See `Ear.close`."""
        self._wire.close()


def _fresh() -> bytes:
    """An epoch, should the server have none."""
    return os.urandom(8).hex().encode()


def _mark() -> bytes:
    return os.urandom(8)


def _broken_at(last: Position, now: Position, page: Sequence[Heard], oldest_n: int) -> bool | None:
    """None if a page goes on from a position without a gap; else whether it tells another history."""
    if now.epoch != last.epoch:
        return True
    if last.mark == UNKNOWN:
        return False
    if now.n < last.n or (now.n == last.n and now.mark != last.mark):
        return True
    expected = last
    for each in page:
        if not each.follows(expected):
            return each.n == expected.n + 1 or oldest_n <= last.n
        expected = each.position
    if len(page) < PAGE and expected.mark != now.mark:
        return oldest_n <= last.n
    return None


def _read(link: Link, read: Callable[[], T]) -> T:
    """What a reply means, or an error that names the server."""
    try:
        return read()
    except (ValueError, TypeError, IndexError) as error:
        raise StorageError(f"{link.address}: what it replied makes no sense; is that a Redis server?") from error


def _n(reply: Any) -> int:
    n = int(reply)
    if not 0 <= n <= LARGEST_N:
        raise ValueError("no number of a message")
    return n


def _said(known: Position | None) -> tuple[bytes, int, bytes]:
    """How scripts are told of what is known."""
    return (b"", 0, b"") if known is None else (b"%016x" % known.epoch, min(known.n, LARGEST_N), known.mark)


def _sent(reply: Any, mark: bytes) -> Position:
    epoch, n = reply
    return Position(int(epoch, 16), _n(n), mark)


def _page_of(reply: Any) -> _Page:
    epoch, n, mark, found, oldest, is_lost = reply
    now = Position(int(epoch, 16), _n(n), bytes(mark))
    heard = [_kept(now.epoch, bytes(id_), fields) for id_, fields in found]
    return _Page(now, heard, _stream_n(bytes(oldest[0][0])) if oldest else LARGEST_N + 1, is_lost == 1)


def _stream_n(id_: bytes) -> int:
    return _n(id_.partition(b"-")[0])


def _kept(epoch: int, id_: bytes, fields: Sequence[bytes]) -> Heard:
    """A message of the stream; one that makes no sense has a number that follows none."""
    data = bytes(fields[1]) if len(fields) == 2 else b""
    return Heard(epoch, _stream_n(id_) if len(data) >= 16 else 0, data[:8], data[8:16], unpack(data[16:]))


def _heard_of(reply: Reply) -> Heard | None:
    """A message of the channel, or None if it is none: whoever may publish there may write anything."""
    if not isinstance(reply, list) or len(reply) != 3 or reply[0] != b"message" or not isinstance(reply[2], bytes):
        return None
    epoch, _, rest = reply[2].partition(b" ")
    n, _, data = rest.partition(b" ")
    if len(epoch) != 16 or len(n) > 16 or not n.isdigit() or not 16 <= len(data) <= MOST_BYTES + 16:
        return None
    try:
        return Heard(int(epoch, 16), _n(n), data[:8], data[8:16], unpack(data[16:]))
    except ValueError:
        return None
