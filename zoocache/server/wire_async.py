"""One connection to a server, for the tasks of one event loop, one at a time: see `zoocache.server.wire`.

The socket is this file's own, and the loop only says when it is ready: so it can be closed at any moment, also when its
loop is closed, and a task that is cancelled in the middle of a call takes its connection with it (`Link` closes it).
A deadline shuts the socket down, which ends whatever the loop waits for on it; there is no time-out that cancels, for
a cancellation could not be told from one of the caller's.

TLS runs over the same socket through memory (`ssl.MemoryBIO`), since the loop's own socket calls know none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoocache.errors import ZooCacheError
from zoocache.imports import whole
from zoocache.server.greeting import Target, check, greeting, known_targets, socket_for, targets_of
from zoocache.server.resp import Incomplete, Reply, first, pack
from zoocache.server.url import Address
from zoocache.server.wire import CHUNK, QUEUE_PAUSE_S, refuse_more

if TYPE_CHECKING:
    import ssl

    from zoocache.server.tls import Memory


class AsyncWire:
    """See the head of this file. Made by `dial_async`.

    Attributes:
        is_spent: its deadline passed, though perhaps too late to matter; it must be closed.
    """

    __slots__ = ("__weakref__", "_loop", "_sock", "_tls", "_unread", "is_spent")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop
        self._tls: Memory | None = None
        self._unread = b""
        self.is_spent = False

    async def call(self, packed: bytes, until_s: float) -> Reply:
        """As `Wire.call`."""
        with self._deadline(until_s):
            try:
                await self._send(packed)
            except ConnectionError as broken:
                return await self._last_words(broken)
            reply = await self._read()
        refuse_more(self._unread)
        return reply

    async def _last_words(self, broken: ConnectionError) -> Reply:
        """As `Wire._last_words`."""
        try:
            return await self._read()
        except OSError:
            raise broken from None

    async def connect(self, target: Target, address: Address, tls: ssl.SSLContext | None, until_s: float) -> None:
        """Connect to one of the server's addresses, and greet it."""
        with self._deadline(until_s):
            await self._connect(target[1])
            if tls is not None:
                await self._shake_hands(tls, address)
            said = greeting(address)
            if said:
                await self._send(b"".join(pack(each) for each in said))
            for each in said:
                check(address, each, await self._read())

    async def _connect(self, where: Any) -> None:
        """As in wire.py; the loop's own call would take a UNIX socket that waits for room for one that is connected."""
        if self._sock.family != socket.AF_UNIX:
            return await self._loop.sock_connect(self._sock, where)
        while True:
            try:
                return self._sock.connect(where)
            except BlockingIOError:  # noqa: PERF203  # it is what the loop is for
                if self.is_spent:
                    raise TimeoutError from None
                await asyncio.sleep(QUEUE_PAUSE_S)

    def close(self) -> None:
        """As `Wire.close`, when nobody waits for it; from anywhere."""
        self._sock.close()

    def abandon(self) -> None:
        """Close it in the middle of a call; in its loop. The loop must forget the descriptor first: the next socket may
        get the same number, and asyncio clears up after a cancelled wait only in its next round.
        """
        descriptor = self._sock.fileno()
        if descriptor >= 0 and not self._loop.is_closed():
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._sock.close()

    @contextlib.contextmanager
    def _deadline(self, until_s: float) -> Iterator[None]:
        timer = self._loop.call_later(until_s - time.monotonic(), self._pass_by)
        try:
            yield
        except OSError:
            if self.is_spent:
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def _pass_by(self) -> None:
        self.is_spent = True
        with contextlib.suppress(OSError):  # it is not connected, or no longer
            self._sock.shutdown(socket.SHUT_RDWR)

    async def _send(self, packed: bytes) -> None:
        if self._tls is None:
            await self._loop.sock_sendall(self._sock, packed)
        else:
            self._tls.tls.write(packed)
            await self._flush(self._tls)

    async def _read(self) -> Reply:
        data = self._unread or await self._receive()
        while isinstance(found := first(data), Incomplete):
            data = await self._at_least(data, found.size)
        reply, end = found
        self._unread = data[end:]
        return reply

    async def _at_least(self, data: bytes, size: int) -> bytes:
        chunks, had = [data], len(data)
        while had < size:
            chunks.append(await self._receive())
            had += len(chunks[-1])
        return b"".join(chunks)

    async def _receive(self) -> bytes:
        if self._tls is None:
            return await self._receive_raw()
        while (data := self._tls.read(CHUNK)) is None:
            self._tls.incoming.write(await self._receive_raw())
        return data

    async def _receive_raw(self) -> bytes:
        data = await self._loop.sock_recv(self._sock, CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    async def _shake_hands(self, context: ssl.SSLContext, address: Address) -> None:
        with whole:
            from zoocache.server.tls import Memory

        self._tls = tls = Memory(context, address.host)
        while tls.shakes_hands():
            await self._flush(tls)
            tls.incoming.write(await self._receive_raw())
        await self._flush(tls)

    async def _flush(self, tls: Memory) -> None:
        if tls.outgoing.pending:
            await self._loop.sock_sendall(self._sock, tls.outgoing.read())


async def dial_async(address: Address, tls: ssl.SSLContext | None, until_s: float) -> AsyncWire:
    """A new connection for the running loop, greeted; raises what `dial` raises."""
    loop = asyncio.get_running_loop()
    trouble: OSError | None = None
    for target in await _targets(address, loop, until_s):
        wire = AsyncWire(socket_for(target[0]), loop)
        try:
            await wire.connect(target, address, tls, until_s)
        except BaseException as error:
            wire.abandon()
            if not isinstance(error, OSError) or isinstance(error, ZooCacheError):
                raise
            trouble = trouble or error  # the first address is the likely one
        else:
            return wire
    raise trouble or ConnectionRefusedError("the host has no address")


async def _targets(address: Address, loop: asyncio.AbstractEventLoop, until_s: float) -> list[Target]:
    """As `greeting.targets`; a name is looked up in a thread of the loop's own executor."""
    known = known_targets(address)
    if known is not None:
        return known
    looked_up = loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    try:
        return targets_of(await asyncio.wait_for(looked_up, max(0.0, until_s - time.monotonic())))
    except asyncio.TimeoutError:  # which Python 3.10 does not know as TimeoutError
        raise TimeoutError from None
