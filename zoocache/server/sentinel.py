"""Which server is the master now, as Sentinels say (https://redis.io/docs/latest/develop/reference/sentinel-clients/).

They are asked before each new connection, one after the other, until one knows; each gets its share of the time that is
left, so that one that stands still does not cost all of it. Nothing is remembered: connections are few, and live long.
What they say may be old for a moment. A server that is a replica by now refuses every script (READONLY), which ends the
connection; the next begins with the question again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from zoocache.errors import ServerDown
from zoocache.server.replies import error_of
from zoocache.server.resp import Garbled, Refusal, Reply, pack
from zoocache.server.url import Address
from zoocache.server.wire import dial

if TYPE_CHECKING:
    import ssl

_monotonic = time.monotonic


def master(address: Address, tls: ssl.SSLContext | None, until_s: float) -> Address:
    """Where the server of an address is now.

    Args:
        address: with Sentinels.
        tls: to speak with them, too.
        until_s: the monotonic second by which the answer must be there.

    Raises:
        ServerDown: no Sentinel answers, or none knows.
        ServerRefused: one wants another password.
    """
    asked = _Asked(address)
    for sentinel, share_until_s in _turns(address, until_s):
        try:
            wire = dial(sentinel, tls, share_until_s)
            try:
                reply = wire.call(_question(address), share_until_s)
            finally:
                wire.close()
        except (OSError, Garbled, ServerDown) as error:  # noqa: PERF203  # there are few
            asked.note(sentinel, error, share_until_s)
        else:
            if found := asked.found(sentinel, reply):
                return found
    raise asked.trouble


async def master_async(address: Address, tls: ssl.SSLContext | None, until_s: float) -> Address:
    """`master`, for a task."""
    from zoocache.server.wire_async import dial_async

    asked = _Asked(address)
    for sentinel, share_until_s in _turns(address, until_s):
        try:
            wire = await dial_async(sentinel, tls, share_until_s)
            try:
                reply = await wire.call(_question(address), share_until_s)
            finally:
                wire.abandon()
        except (OSError, Garbled, ServerDown) as error:  # noqa: PERF203  # there are few
            asked.note(sentinel, error, share_until_s)
        else:
            if found := asked.found(sentinel, reply):
                return found
    raise asked.trouble


class _Asked:
    """What came of asking.

    Attributes:
        trouble: why nobody knows: what the first one said.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._trouble: ServerDown | None = None

    @property
    def trouble(self) -> ServerDown:
        return self._trouble or ServerDown(f"{self._address}: no Sentinel was asked in time")

    def note(self, sentinel: Address, error: Exception, until_s: float) -> None:
        """One did not answer. A time-out before its time is not ours: a signal handler's, and its caller wants it."""
        if isinstance(error, TimeoutError) and not error.args and _monotonic() < until_s:
            raise error
        reason = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        self._say(sentinel, reason)

    def found(self, sentinel: Address, reply: Reply) -> Address | None:
        """The master that one has named; None if it knows none."""
        if isinstance(reply, Refusal):
            self._say(sentinel, str(error_of(sentinel, reply)))
            return None
        place = _place_of(reply)
        if place is None:
            self._say(sentinel, f"it knows no server named {self._address.master}")
            return None
        return replace(self._address, host=place[0], port=place[1], sentinels=())

    def _say(self, sentinel: Address, reason: str) -> None:
        shown = reason if reason.startswith(str(sentinel)) else f"{sentinel}: {reason}"
        self._trouble = self._trouble or ServerDown(f"{self._address}: no Sentinel says where the server is ({shown})")


def _question(address: Address) -> bytes:
    return pack((b"SENTINEL", b"get-master-addr-by-name", address.master))


def _place_of(reply: Reply) -> tuple[str, int] | None:
    """Host and port, or None if a reply says none."""
    if not isinstance(reply, list) or len(reply) != 2:
        return None
    host, port = reply
    if not (isinstance(host, bytes) and isinstance(port, bytes) and host.isascii() and port.isdigit()):
        return None
    return host.decode(), int(port)


def _turns(address: Address, until_s: float) -> Iterator[tuple[Address, float]]:
    """Each Sentinel, and by when it must have answered; the server itself needs some of the time, too."""
    left = len(address.sentinels)
    for host, port in address.sentinels:
        now_s = _monotonic()
        yield _sentinel(address, host, port), now_s + (until_s - now_s) / (left + 1)
        left -= 1


def _sentinel(address: Address, host: str, port: int) -> Address:
    return replace(
        address, host=host, port=port, db=0, sentinels=(), master="",
        username=address.sentinel_username, password=address.sentinel_password,
    )  # fmt: skip
