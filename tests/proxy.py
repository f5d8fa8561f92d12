"""The network between a test's host and its server: a TCP proxy on loopback, in a process of its own, that can fail.

proxy = Proxy(children, server.path)
link = Link(address_of(proxy.url))
proxy.delay(50)      each piece takes 50 ms longer, in both directions
proxy.stall()        nothing moves any more; it moves on after `heal`
proxy.stall_after(7) seven more bytes of replies get through, then as `stall`
proxy.drip(20)       replies come byte by byte, 20 ms apart
proxy.drop()         what is sent from now on, in both directions, is lost for ever
proxy.reset()        all connections break (RST); new ones work
proxy.cut()          all connections break, and new ones are refused
proxy.heal()         all of that ends
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.children import Children

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close sends RST


class Proxy:
    """See the head of this file.

    Args:
        children: starts the process.
        target: the socket of the server.

    Attributes:
        port: where it listens, on 127.0.0.1.
        url: for zoocache.
    """

    def __init__(self, children: Children, target: Path) -> None:
        self._child = children.script(Path(__file__), str(target))
        self.port = int(self._child.line())
        self.url = f"redis://127.0.0.1:{self.port}"

    def delay(self, delay_ms: float) -> None:
        """See above."""
        self._do("delay", delay_ms)

    def stall(self) -> None:
        """See above."""
        self._do("stall_after", 0)

    def stall_after(self, size: int) -> None:
        """See above."""
        self._do("stall_after", size)

    def drip(self, interval_ms: float) -> None:
        """See above."""
        self._do("drip", interval_ms)

    def drop(self) -> None:
        """See above."""
        self._do("drop", 1)

    def reset(self) -> None:
        """See above."""
        self._do("reset", 0)

    def cut(self) -> None:
        """See above."""
        self._do("cut", 0)

    def heal(self) -> None:
        """See above."""
        self._do("heal", 0)

    def _do(self, what: str, value: float) -> None:
        self._child.say(json.dumps([what, value]))
        assert "done" == self._child.line()


class _Network:
    """In the process of the proxy: what is wrong at present, and all sockets.

    Attributes:
        delay_s: of each piece.
        drip_s: between two bytes of replies; 0 for whole pieces.
        is_dropping: whether everything is lost.
        left: how many bytes of replies get through; None for all.
        moving: set while anything moves.
        listening: set while new connections are taken.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.sockets: set[socket.socket] = set()
        with socket.socket() as free:
            self.listener = socket.socket()
            for each, place in ((free, ("127.0.0.1", 0)), (self.listener, None)):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(place or free.getsockname())  # by number: so it keeps the port while it refuses
        self.listener.listen()
        self.listener.setblocking(False)
        self.listening = asyncio.Event()
        self.moving = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.reset_state()

    def reset_state(self) -> None:
        self.delay_s = self.drip_s = 0.0
        self.is_dropping = False
        self.left: int | None = None
        self.moving.set()
        self.listening.set()

    def do(self, what: str, value: float) -> None:
        if what == "delay":
            self.delay_s = value / 1000
        elif what == "drip":
            self.drip_s = value / 1000
        elif what == "drop":
            self.is_dropping = True
        elif what == "stall_after":
            self.left = int(value)
            if not self.left:
                self.moving.clear()
        elif what == "heal":
            if not self.listening.is_set():
                self.listener.listen()
            self.reset_state()
        elif what in {"reset", "cut"}:
            if what == "cut":
                self.listening.clear()
                self.listener.shutdown(socket.SHUT_RDWR)  # still bound, but refusing (Linux)
            self.break_all()

    def break_all(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self.sockets:
            for forget in (loop.remove_reader, loop.remove_writer):
                forget(each)
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()
        self.sockets.clear()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self.listening.wait()
            try:
                client, _ = await loop.sock_accept(self.listener)
            except OSError:  # shut down: refusing
                await asyncio.sleep(0.001)
                continue
            self.start(self.serve(client))

    async def serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        for each in (client, server):
            each.setblocking(False)
            self.sockets.add(each)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(server, self.target)
        except OSError:
            self.close(client, server)
            return
        self.start(self.pump(client, server, is_reply=False))
        self.start(self.pump(server, client, is_reply=True))

    def close(self, *sockets: socket.socket) -> None:
        for each in sockets:
            if each in self.sockets:
                self.sockets.discard(each)
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)  # ends the other pump's wait; that closes it
                each.close()

    async def pump(self, source: socket.socket, sink: socket.socket, *, is_reply: bool) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, ValueError):
            while data := await loop.sock_recv(source, 65_536):
                await asyncio.sleep(self.delay_s)
                await self.moving.wait()
                if not self.is_dropping:
                    await self.pass_on(data, sink, is_reply)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.sockets.discard(source)

    async def pass_on(self, data: bytes, sink: socket.socket, is_reply: bool) -> None:
        loop = asyncio.get_running_loop()
        if is_reply and self.drip_s:
            for byte in data:
                await asyncio.sleep(self.drip_s)
                await loop.sock_sendall(sink, bytes([byte]))
        elif is_reply and self.left is not None:
            let_through, data = data[: self.left], data[self.left :]
            self.left -= len(let_through)
            await loop.sock_sendall(sink, let_through)
            if not self.left:
                self.moving.clear()
                await self.moving.wait()
            await loop.sock_sendall(sink, data)
        else:
            await loop.sock_sendall(sink, data)


async def _main(target: str) -> None:
    network = _Network(target)
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    network.start(network.accept())
    print(network.listener.getsockname()[1], flush=True)
    while line := await orders.readline():
        network.do(*json.loads(line))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
