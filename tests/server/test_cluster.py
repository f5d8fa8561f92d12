"""A cluster, as a link meets it: any node may be named, and calls go where the keys lie."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time

import pytest
import redis

from tests.crowd import until
from tests.servers import Server, Servers
from tests.storage.steps import START, body, hashed, save
from zoocache.errors import ServerDown
from zoocache.server.link import Link
from zoocache.server.replies import moved_to
from zoocache.server.resp import Refusal
from zoocache.server.url import Address, address_of
from zoocache.storage.redis import RedisStore

GENEROUS_S = 30.0


def free_port() -> int:
    """A port that nobody listens on, below those of tests/servers.py and of the kernel: it stays free. Other
    tests do not get it as long as this process lives: it binds a name for it, in the abstract namespace (unix(7))."""
    while True:
        port = random.SystemRandom().randrange(10_000, 20_000)  # not the seeded one, which other workers have as well
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as name:
            name.bind(f"\0port {port} of a test of zoocache")
            with socket.create_server(("", port)):
                name.detach()
                return port


def node(servers: Servers) -> tuple[Server, tuple[str, ...]]:
    """A node, and where others meet it."""
    port, bus = free_port(), free_port()
    started = servers.start("--cluster-enabled", "yes", "--port", str(port), "--cluster-port", str(bus))
    return started, ("127.0.0.1", str(port), str(bus))


@pytest.fixture
def cluster(servers: Servers) -> tuple[Server, Server]:
    """Two nodes: the first knows that the second has all keys."""
    (named, _), (owner, place) = node(servers), node(servers)
    owner.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    named.ask("CLUSTER", "MEET", *place)
    until(lambda: serves(owner) and knows(named))
    return named, owner


def serves(server: Server) -> bool:
    """Whether a node is ready."""
    return b"cluster_state:ok" in server.ask("CLUSTER", "INFO")


def knows(server: Server) -> bool:
    """Whether a node knows where keys lie."""
    try:
        server.ask("GET", "k")
    except redis.exceptions.MovedError:
        return True
    except redis.exceptions.RedisError:
        return False
    return False


def test_a_cluster_is_followed(cluster: tuple[Server, Server]) -> None:
    """A store works through any node, for threads and for tasks, and all keys lie on their own node."""
    named, owner = cluster
    link = Link(address_of(named.url), GENEROUS_S)
    store = RedisStore(link, "p", host_time=True)
    assert 0 == store.count()
    assert save(store, "k", "a")
    assert b"k" == body(store, "k")
    assert 1 == store.count() == owner.ask("EXISTS", "{zoocache:p}:e:" + hashed("k").hex())
    store.invalidate([hashed("a")], START)
    assert None is body(store, "k")
    store.prune(0, START)
    store.clear()
    link.close()

    later = Link(address_of(named.url), GENEROUS_S)
    assert 0 == asyncio.run(RedisStore(later, "p").later("count"))
    later.close()


def test_a_node_that_is_gone(cluster: tuple[Server, Server]) -> None:
    """When the node with the keys is gone, that is an outage, and over when it is back."""
    named, owner = cluster
    link = Link(address_of(named.url), GENEROUS_S)
    link.command("SET", "k", "v")
    owner.kill()
    with pytest.raises(ServerDown):
        link.command("GET", "k")
    owner.start()
    until = time.monotonic() + GENEROUS_S
    reply: object = b""
    while reply != b"OK" and time.monotonic() < until:
        with contextlib.suppress(ServerDown):
            reply = link.command("SET", "k", "v")
        time.sleep(0.02)
    assert b"OK" == reply
    link.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3999 127.0.0.1:6381", Address("redis", "127.0.0.1", 6381, password="p")),
        ("3999 ::1:6381", Address("redis", "::1", 6381, password="p")),
        ("3999 :6381", Address("redis", "host", 6381, password="p")),
        ("3999 ?:6381", Address("redis", "host", 6381, password="p")),
        ("3999", None),
        ("3999 host:", None),
        ("3999 host:0", None),
        ("3999 host:70000", None),
        ("", None),
    ],
)
def test_where_keys_have_moved(text: str, expected: Address | None) -> None:
    """What a node says about a key's place is understood, and nothing else believed."""
    assert expected == moved_to(address_of("redis://:p@host:1"), Refusal("MOVED", text))
