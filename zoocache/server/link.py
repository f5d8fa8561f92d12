"""All connections of a process to one server: calls by threads and by tasks, each at most as long as it may take.

Each call has a connection of its own while it lasts; then that waits for the next one, last in, first out. It is closed
instead after whatever was not a whole reply, so no call ever gets the reply of another. A connection that was idle may
have been closed by the server: then the call is made once more over a new one. So a command may, in rare cases, run
twice; all that are sent here bear that.

What does not answer opens the breaker (`zoocache.server.breaker`), and calls fail at once until a probe succeeds. There
is no thread here, and nothing is done in the background.

What guards what: the lists of idle connections are changed by single steps of the interpreter (append, pop), which are
whole; a connection that was popped is its caller's alone. A forked child closes its copies of the parent's descriptors,
which the server does not notice while the parent has its own, and begins with none.

Limits: in a thread, looking up a host's name takes as long as the system's resolver takes; where that may be slow, name
the server by its number. All that goes over a connection must get through within the time of one call, large values
too.

Where Sentinels know the server, they are asked before each new connection (`zoocache.server.sentinel`).

A cluster that says where the keys lie (MOVED) is followed there, and asked again at the given address after a failure:
all keys of a prefix lie in one slot, so on one node. Commands without a key go to the node that the last one with a key
went to.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from zoocache.errors import ServerDown, ServerRefused, ZooCacheError
from zoocache.imports import whole
from zoocache.server.breaker import Breaker
from zoocache.server.replies import error_of, is_unable, moved_to
from zoocache.server.resp import Argument, Garbled, Refusal, Reply, pack
from zoocache.server.scripts import Script
from zoocache.server.url import Address
from zoocache.server.wire import Wire, dial

if TYPE_CHECKING:
    import asyncio
    import ssl

    from zoocache.server.wire_async import AsyncWire

AnyWire = TypeVar("AnyWire", "Wire", "AsyncWire")

DEFAULT_TIMEOUT_S = 0.5
MOST_IDLE = 64
"""More connections than these are not kept; there are never more than calls at once."""

_monotonic = time.monotonic


class Link:
    """See the head of this file.

    Args:
        address: of the server.
        timeout_s: what a call may cost: connecting, sending and waiting for the reply together.

    Raises:
        ConfigError: a file of certificates that the URL names cannot be used.
    """

    def __init__(self, address: Address, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.breaker = Breaker(timeout_s)
        self._tls = _tls_of(address)
        self._node = address  # of a cluster: where the keys lie
        self._trouble: ZooCacheError = ServerDown(f"{address}: not asked yet")
        self._begin()

    def __repr__(self) -> str:
        return f"Link({self.address})"

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._open: WeakSet[Wire | AsyncWire] = WeakSet()  # for a child; who is interrupted leaves nothing open
        self._idle: list[Wire] = []
        self._idle_of: dict[asyncio.AbstractEventLoop, list[AsyncWire]] = {}

    # Calls.

    def run(self, script: Script, keys: Sequence[bytes] = (), arguments: Sequence[Argument] = ()) -> Reply:
        """Run a script in the server.

        Args:
            script: which.
            keys: its KEYS.
            arguments: its ARGV.

        Returns:
            What it returned.

        Raises:
            ServerDown: the server did not answer in time, cannot serve now, or did not answer lately.
            ServerRefused: a wrong password, or a right is missing.
            StorageError: the server did not understand.
        """
        return self._checked(self._ask(script.by_name(keys, arguments), lambda: script.in_full(keys, arguments)))

    async def run_async(self, script: Script, keys: Sequence[bytes] = (), arguments: Sequence[Argument] = ()) -> Reply:
        """`run`, for a task: it does not block its loop."""
        asked = script.by_name(keys, arguments), lambda: script.in_full(keys, arguments)
        return self._checked(await self._ask_async(*asked))

    def command(self, *arguments: Argument) -> Reply:
        """Send one command, which must bear being run twice; returns and raises as `run`."""
        return self._checked(self._ask(pack(arguments)))

    async def command_async(self, *arguments: Argument) -> Reply:
        """`command`, for a task."""
        return self._checked(await self._ask_async(pack(arguments)))

    def dial(self) -> Wire:
        """A connection of the caller's own, to listen on; the breaker is neither asked nor told. Raises as `run`."""
        began_s = _monotonic()
        try:
            return self._dial(began_s + self.timeout_s)
        except ZooCacheError:
            raise
        except (OSError, Garbled) as error:
            raise self._down(error) from error

    # The process.

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone. Every call looks for itself, too."""
        for wire in list(self._open):
            wire.close()
        self.breaker.after_fork()
        self._begin()

    def close(self) -> None:
        """Close what is idle; the next call opens again."""
        _close_all(self._idle, self._open)
        for idle in list(self._idle_of.values()):
            _close_all(idle, self._open)

    # For a thread.

    def _ask(self, packed: bytes, in_full: Callable[[], bytes] | None = None) -> Reply:
        """Exchange a command for its reply, all within the time of one call; `in_full`: what to send if the server does
        not know the script that the command names."""
        began_s = self._admitted()
        try:
            reply = self._ask_node(packed, began_s + self.timeout_s)
            if in_full is not None and _is_unknown(reply):
                reply = self._ask_node(in_full(), began_s + self.timeout_s)
        except (OSError, Garbled, ServerDown, ServerRefused) as error:
            self._refuse_foreign(error, began_s)
            raise self._failed(error, began_s) from error
        return self._heard(reply, began_s)

    def _ask_node(self, packed: bytes, until_s: float) -> Reply:
        reply = self._exchange(packed, until_s)
        return self._exchange(packed, until_s) if self._follows(reply) else reply

    def _exchange(self, packed: bytes, until_s: float) -> Reply:
        if self._idle:
            with contextlib.suppress(IndexError, ConnectionError):  # another thread was faster; the server closed it
                return self._over(self._idle.pop(), packed, until_s)
            _close_all(self._idle, self._open)  # those that are as old
        return self._over(self._dial(until_s), packed, until_s)

    def _over(self, wire: Wire, packed: bytes, until_s: float) -> Reply:
        try:
            reply = wire.call(packed, until_s)
        except BaseException:
            self._open.discard(wire)
            wire.close()
            raise
        _keep(wire, self._idle, self._open)
        return reply

    def _dial(self, until_s: float) -> Wire:
        node = self._node
        if node.sentinels:
            with whole:
                from zoocache.server.sentinel import master

            node = master(node, self._tls, until_s)
        wire = dial(node, self._tls, until_s)
        self._open.add(wire)
        return wire

    # For a task.

    async def _ask_async(self, packed: bytes, in_full: Callable[[], bytes] | None = None) -> Reply:
        began_s = self._admitted()
        try:
            reply = await self._ask_node_async(packed, began_s + self.timeout_s)
            if in_full is not None and _is_unknown(reply):
                reply = await self._ask_node_async(in_full(), began_s + self.timeout_s)
        except (OSError, Garbled, ServerDown, ServerRefused) as error:
            self._refuse_foreign(error, began_s)
            raise self._failed(error, began_s) from error
        return self._heard(reply, began_s)

    async def _ask_node_async(self, packed: bytes, until_s: float) -> Reply:
        reply = await self._exchange_async(packed, until_s)
        return await self._exchange_async(packed, until_s) if self._follows(reply) else reply

    async def _exchange_async(self, packed: bytes, until_s: float) -> Reply:
        idle = self._idle_here()
        if idle:
            with contextlib.suppress(IndexError, ConnectionError):  # another thread closed it; the server did
                return await self._over_async(idle.pop(), idle, packed, until_s)
            _close_all(idle, self._open)  # those that are as old
        return await self._over_async(await self._dial_async(until_s), idle, packed, until_s)

    async def _dial_async(self, until_s: float) -> AsyncWire:
        with whole:
            from zoocache.server.wire_async import dial_async

        node = self._node
        if node.sentinels:
            with whole:
                from zoocache.server.sentinel import master_async

            node = await master_async(node, self._tls, until_s)
        wire = await dial_async(node, self._tls, until_s)
        self._open.add(wire)
        return wire

    async def _over_async(self, wire: AsyncWire, idle: list[AsyncWire], packed: bytes, until_s: float) -> Reply:
        try:
            reply = await wire.call(packed, until_s)
        except BaseException:
            self._open.discard(wire)
            wire.abandon()
            raise
        if wire.is_spent:
            self._open.discard(wire)
            wire.close()
        else:
            _keep(wire, idle, self._open)
        return reply

    def _idle_here(self) -> list[AsyncWire]:
        """The idle connections of the running loop."""
        import asyncio  # loaded already: its loop runs

        loop = asyncio.get_running_loop()
        idle = self._idle_of.get(loop)
        if idle is None:
            self._forget_closed_loops()
            idle = self._idle_of.setdefault(loop, [])
        return idle

    def _forget_closed_loops(self) -> None:
        for loop in [each for each in list(self._idle_of) if each.is_closed()]:
            _close_all(self._idle_of.pop(loop, []), self._open)

    # How it went.

    def _admitted(self) -> float:
        """This moment, if a call may go out now."""
        if os.getpid() != self._pid:
            self.after_fork()
        now_s = _monotonic()
        if not self.breaker.admits(now_s):
            raise type(self._trouble)(f"{self._trouble}; it is not asked for the moment")
        return now_s

    def _follows(self, reply: Reply) -> bool:
        """Whether the keys lie on another node of a cluster, where calls go from now on."""
        node = moved_to(self._node, reply) if isinstance(reply, Refusal) else None
        if node is None:
            return False
        self._node = node
        self.close()
        return True

    def _heard(self, reply: Reply, began_s: float) -> Reply:
        if isinstance(reply, Refusal) and is_unable(reply):
            raise self._failed(error_of(self.address, reply), began_s)
        if self.breaker.is_open:
            self.breaker.succeeded()
        return reply

    def _checked(self, reply: Reply) -> Reply:
        if isinstance(reply, Refusal):
            raise error_of(self.address, reply)
        return reply

    def _refuse_foreign(self, error: Exception, began_s: float) -> None:
        """A time-out before its time is not this call's: a signal handler has raised it, and its caller wants it."""
        if isinstance(error, TimeoutError) and _monotonic() < began_s + self.timeout_s and not error.args:
            raise error

    def _failed(self, error: Exception, began_s: float) -> ZooCacheError:
        """The call came to nothing: open the breaker, and say why."""
        self._trouble = error if isinstance(error, ZooCacheError) else self._down(error)
        self.breaker.failed(_monotonic(), began_s)
        self._node = self.address
        self.close()  # whatever is idle goes to the same server, or to one that is a replica by now
        return self._trouble

    def _down(self, error: Exception) -> ServerDown:
        if isinstance(error, TimeoutError):
            return ServerDown(f"{self.address}: no answer within {self.timeout_s:g} s")
        if isinstance(error, Garbled):
            return ServerDown(f"{self.address}: what answers there is no Redis server ({error})")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServerDown(f"{self.address}: out of reach ({reason})")


def _tls_of(address: Address) -> ssl.SSLContext | None:
    if address.scheme != "rediss":
        return None
    with whole:
        from zoocache.server.tls import tls_of

    return tls_of(address)


def _is_unknown(reply: Reply) -> bool:
    return isinstance(reply, Refusal) and reply.code == "NOSCRIPT"


def _keep(wire: AnyWire, idle: list[AnyWire], open_: WeakSet[Wire | AsyncWire]) -> None:
    if len(idle) < MOST_IDLE:
        idle.append(wire)
    else:
        open_.discard(wire)
        wire.close()


def _close_all(idle: list[AnyWire], open_: WeakSet[Wire | AsyncWire]) -> None:
    """Close each; one that another thread pops meanwhile is that thread's."""
    with contextlib.suppress(IndexError):
        while True:
            wire = idle.pop()
            open_.discard(wire)
            wire.close()
