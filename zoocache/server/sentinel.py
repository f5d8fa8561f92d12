"""Which server is the master now, as Sentinels say (https://redis.io/docs/latest/develop/reference/sentinel-clients/).

They are asked before each new connection, one after the other, until one knows; each gets its share of the time that is
left, so that one that stands still does not cost all of it. Nothing is remembered: connections are few, and live long.
What they say may be old for a moment. A server that is a replica by now refuses every script (READONLY), which ends the
connection; the next begins with the question again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from zoocache.errors import ServerDown
from zoocache.imports import whole
from zoocache.server.replies import error_of
from zoocache.server.resp import Garbled, Refusal, Reply, pack
from zoocache.server.url import Address
from zoocache.server.wire import dial

if TYPE_CHECKING:
    import ssl

_monotonic = time.monotonic


class Turn(NamedTuple):
    """A question to one of the Sentinels.

    Attributes:
        sentinel: whom to ask.
        until_s: the monotonic second by which it must have answered.
        question: to send.
    """

    sentinel: Address
    until_s: float
    question: bytes


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
    steps = _steps(address, until_s)
    try:
        turn = next(steps)
        while True:
            try:
                reply = _asked(turn, tls)
            except (OSError, Garbled) as error:  # noqa: PERF203  # there are few
                turn = steps.throw(error)
            else:
                turn = steps.send(reply)
    except StopIteration as found:
        return cast("Address", found.value)


async def master_async(address: Address, tls: ssl.SSLContext | None, until_s: float) -> Address:
    """`master`, for a task."""
    steps = _steps(address, until_s)
    try:
        turn = next(steps)
        while True:
            try:
                reply = await _asked_async(turn, tls)
            except (OSError, Garbled) as error:  # noqa: PERF203  # there are few
                turn = steps.throw(error)
            else:
                turn = steps.send(reply)
    except StopIteration as found:
        return cast("Address", found.value)


def _asked(turn: Turn, tls: ssl.SSLContext | None) -> Reply:
    wire = dial(turn.sentinel, tls, turn.until_s)
    try:
        return wire.call(turn.question, turn.until_s)
    finally:
        wire.close()


async def _asked_async(turn: Turn, tls: ssl.SSLContext | None) -> Reply:
    with whole:
        from zoocache.server.wire_async import dial_async

    wire = await dial_async(turn.sentinel, tls, turn.until_s)
    try:
        return await wire.call(turn.question, turn.until_s)
    finally:
        wire.abandon()


def _steps(address: Address, until_s: float) -> Generator[Turn, Reply, Address]:
    """Ask one Sentinel after the other: its reply is sent in, its error thrown. Where nobody knows, the first one says
    why."""
    trouble: ServerDown | None = None
    for turn in _turns(address, until_s):
        try:
            host, port = _place_of(turn, address, (yield turn))
        except (OSError, Garbled) as error:  # noqa: PERF203  # as above
            _refuse_foreign(error, turn.until_s)
            reason = _reason(turn.sentinel, error)
            trouble = trouble or ServerDown(f"{address}: no Sentinel says where the server is ({reason})")
        else:
            return replace(address, host=host, port=port, sentinels=())
    raise trouble or ServerDown(f"{address}: no Sentinel was asked in time")


def _turns(address: Address, until_s: float) -> Iterator[Turn]:
    """Each gets its share of the time; the server itself needs some of it, too."""
    question = pack((b"SENTINEL", b"get-master-addr-by-name", address.master))
    left = len(address.sentinels)
    for host, port in address.sentinels:
        now_s = _monotonic()
        yield Turn(_sentinel(address, host, port), now_s + (until_s - now_s) / (left + 1), question)
        left -= 1


def _sentinel(address: Address, host: str, port: int) -> Address:
    return replace(
        address, host=host, port=port, db=0, sentinels=(), master="",
        username=address.sentinel_username, password=address.sentinel_password,
    )  # fmt: skip


def _place_of(turn: Turn, address: Address, reply: Reply) -> tuple[str, int]:
    """Host and port that a Sentinel has named.

    Raises:
        ServerDown: it has named none.
    """
    if isinstance(reply, Refusal):
        raise ServerDown(str(error_of(turn.sentinel, reply)))
    if isinstance(reply, list) and len(reply) == 2:
        host, port = reply
        if isinstance(host, bytes) and isinstance(port, bytes) and host.isascii() and port.isdigit():
            return host.decode(), int(port)
    raise ServerDown(f"{turn.sentinel}: it knows no server named {address.master}")


def _refuse_foreign(error: Exception, until_s: float) -> None:
    """A time-out before its time is not ours: a signal handler's, and its caller wants it."""
    if isinstance(error, TimeoutError) and not error.args and _monotonic() < until_s:
        raise error


def _reason(sentinel: Address, error: Exception) -> str:
    """Why one did not say it, beginning with its name."""
    reason = "no answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return reason if reason.startswith(str(sentinel)) else f"{sentinel}: {reason}"
