"""One connection to a server, for one thread at a time: a command out, its reply in, all by one deadline.

Whoever gets anything but a reply from `call` must close it: what is still on its way would be taken for the reply to
the next command. After a TimeoutError of `read` alone, what had come is kept, and the next `read` goes on from there.

A deadline is a moment of `time.monotonic`, in seconds.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from zoocache.server.greeting import Target, check, greeting, socket_for, targets
from zoocache.server.resp import Garbled, Incomplete, Reply, first, pack
from zoocache.server.url import Address

if TYPE_CHECKING:
    import ssl

CHUNK = 1 << 16
QUEUE_PAUSE_S = 0.002
"""A UNIX socket whose server has its queue full says so at once (connect(2), EAGAIN), where TCP waits: many who connect
in one moment are no outage, and try again after this."""
_monotonic = time.monotonic


def refuse_more(unread: bytes) -> None:
    """Raise `Garbled` if more has come than the one reply: then nobody knows which of them is the reply."""
    if unread:
        raise Garbled("more replies than commands")


def _left_s(until_s: float) -> float:
    left_s = until_s - _monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


class Wire:
    """See the head of this file. Made by `dial`."""

    __slots__ = ("__weakref__", "_sock", "_unread")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""

    def fileno(self) -> int:
        """The descriptor, to wait for."""
        return self._sock.fileno()

    def call(self, packed: bytes, until_s: float) -> Reply:
        """Send a command and read its reply.

        Raises:
            OSError: the connection broke, or (TimeoutError) the reply did not come in time.
            Garbled: what came is no reply.
        """
        try:
            self.send(packed, until_s)
        except ConnectionError as broken:
            return self._last_words(broken, until_s)
        reply = self.read(until_s)
        refuse_more(self._unread)
        return reply

    def _last_words(self, broken: ConnectionError, until_s: float) -> Reply:
        """What the server said before it closed the connection: that it was sent too much, for one."""
        try:
            return self.read(until_s)
        except OSError:
            raise broken from None

    def send(self, packed: bytes, until_s: float) -> None:
        """Send commands, and read nothing."""
        self._sock.settimeout(_left_s(until_s))
        self._sock.sendall(packed)

    def read(self, until_s: float) -> Reply:
        """The next reply or message."""
        data = self._unread or self._receive(until_s)
        while isinstance(found := first(data), Incomplete):
            self._unread = data
            data = self._at_least(data, found.size, until_s)
        reply, end = found
        self._unread = data[end:]
        return reply

    def _at_least(self, data: bytes, size: int, until_s: float) -> bytes:
        """So many bytes, of which these have come; they are kept if the others do not come in time."""
        chunks, had = [data], len(data)
        try:
            while had < size:
                chunks.append(self._receive(until_s))
                had += len(chunks[-1])
        finally:
            self._unread = b"".join(chunks)
        return self._unread

    def _receive(self, until_s: float) -> bytes:
        self._sock.settimeout(_left_s(until_s))
        data = self._sock.recv(CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def close(self) -> None:
        """Let go of it, and say no farewell: in a forked child the connection is the parent's too."""
        self._sock.close()


def dial(address: Address, tls: ssl.SSLContext | None, until_s: float) -> Wire:
    """A new connection, greeted.

    Raises:
        OSError: nobody answers.
        Garbled: something else than a server answers.
        ServerDown, ServerRefused, ConfigError: see `greeting.check`.
    """
    wire = Wire(_connected(address, tls, until_s))
    try:
        said = greeting(address)
        if said:
            wire.send(b"".join(pack(each) for each in said), until_s)
        for each in said:
            check(address, each, wire.read(until_s))
    except BaseException:
        wire.close()
        raise
    return wire


def _connected(address: Address, tls: ssl.SSLContext | None, until_s: float) -> socket.socket:
    trouble: OSError | None = None
    for target in targets(address):
        try:
            return _connected_to(target, address, tls, until_s)
        except OSError as error:  # noqa: PERF203  # a host has one address or two
            trouble = trouble or error  # the first address is the likely one
    raise trouble or ConnectionRefusedError("the host has no address")


def _connect(sock: socket.socket, where: Any, until_s: float) -> None:
    while True:
        sock.settimeout(_left_s(until_s))
        try:
            return sock.connect(where)
        except BlockingIOError:
            time.sleep(QUEUE_PAUSE_S)


def _connected_to(target: Target, address: Address, tls: ssl.SSLContext | None, until_s: float) -> socket.socket:
    family, where = target
    sock = socket_for(family)
    try:
        _connect(sock, where, until_s)
        if tls is None:
            return sock
        sock.settimeout(_left_s(until_s))
        return tls.wrap_socket(sock, server_hostname=address.host)
    except BaseException:
        sock.close()
        raise
