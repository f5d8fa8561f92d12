"""A server behind TLS: who it is is checked, and calls are calls."""

from __future__ import annotations

import asyncio
import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server
from zoocache.errors import ConfigError, ServerDown
from zoocache.server.link import Link
from zoocache.server.scripts import script
from zoocache.server.url import address_of

GENEROUS_S = 20.0
ECHO = script("return ARGV[1]")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost's own, in the file with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH; it makes the certificate to test with")
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", place / "key.pem", "-out", place / "cert.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return place


class Front:
    """What takes TLS in front of a server: the one of the tests has none. Runs in threads of the test."""

    def __init__(self, certificate: Path, target: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        self._target = str(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, work: object, *args: object) -> None:
        self._threads.append(threading.Thread(target=work, args=args))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._listener.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        self._sockets.append(server)
        with contextlib.suppress(OSError), plain:
            client = self._context.wrap_socket(plain, server_side=True)
            self._sockets.append(client)
            server.connect(self._target)
            while _pass_on(client, server):
                pass

    def end(self) -> None:
        """Close all, and wait for the threads."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                # A TLS socket's own would take from its thread what that uses.
                socket.socket.shutdown(each, socket.SHUT_RDWR)
        for each in self._threads:
            each.join(GENEROUS_S)
        for each in self._sockets:
            each.close()


def _pass_on(client: ssl.SSLSocket, server: socket.socket) -> bool:
    """Wait for either, and hand what it says to the other; False at the end."""
    ready = [client] if client.pending() else select.select([client, server], [], [])[0]
    for one, other in ((client, server), (server, client)):
        if one in ready:
            data = one.recv(1 << 20)
            other.sendall(data)
            if not data:
                return False
    return True


@pytest.fixture
def front(certificate: Path, shared_server: Server) -> Iterator[Front]:
    """TLS in front of the shared server."""
    made = Front(certificate, shared_server.path)
    yield made
    made.end()


def test_calls(front: Front, certificate: Path) -> None:
    """Calls of threads and tasks go through TLS, short and long ones."""
    link = Link(address_of(f"rediss://localhost:{front.port}?ssl_ca_certs={certificate}/cert.pem"), GENEROUS_S)
    for text in ("hello", "x" * 200_000):
        assert text.encode() == link.run(ECHO, (), (text,))
        assert text.encode() == asyncio.run(link.run_async(ECHO, (), (text,)))
    link.close()


def test_a_server_that_nobody_vouches_for(front: Front) -> None:
    """A certificate that is not trusted is an outage that says so, unless the URL waives it."""
    url = f"rediss://localhost:{front.port}"
    link = Link(address_of(url), GENEROUS_S)
    with pytest.raises(ServerDown, match="certificate"):
        link.run(ECHO, (), ("x",))
    link.breaker.succeeded()
    with pytest.raises(ServerDown, match="certificate"):
        asyncio.run(link.run_async(ECHO, (), ("x",)))
    waived = Link(address_of(f"{url}?ssl_cert_reqs=none"), GENEROUS_S)
    assert b"x" == waived.run(ECHO, (), ("x",))
    waived.close()


def test_a_file_that_is_not_there() -> None:
    """A file of certificates that cannot be read is an error before anything is asked."""
    with pytest.raises(ConfigError, match="ssl_ca_certs"):
        Link(address_of("rediss://localhost?ssl_ca_certs=/nowhere"))
