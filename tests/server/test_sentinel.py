"""Sentinels, as a link meets them: real ones, that watch a real master and its replica."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.children import DEADLINE_S
from tests.server.test_cluster import free_port
from tests.servers import Servers
from zoocache import cacheable, configure, invalidate, reset
from zoocache.errors import ServerDown, ServerRefused
from zoocache.server.link import Link
from zoocache.server.url import address_of

GENEROUS_S = 30.0
HERE = "127.0.0.1"
SOON = ("--repl-diskless-sync-delay", "0")


class Guarded:
    """A master and its replica, and one Sentinel that watches them.

    Attributes:
        places: host and port of each, the master first.
        members: the servers, in that order.
        sentinel: where it listens.
    """

    def __init__(self, servers: Servers, tmp_path: Path, password: str = "") -> None:
        ports = [free_port() for _ in range(3)]
        self.places = [(HERE, port) for port in ports[:2]]
        self.members = [servers.start("--port", str(port), "--bind", HERE, *SOON) for port in ports[:2]]
        self.members[1].ask("REPLICAOF", HERE, ports[0])
        self.port = ports[2]
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main {HERE} {ports[0]} 1\nsentinel down-after-milliseconds main 3600000\n"
            + (f"requirepass {password}\n" if password else "")
        )
        self._password = password or None
        self.sentinel = servers.start_sentinel(config, self.port)
        wait_until(lambda: self.members[1].ask("INFO", "replication")["master_link_status"] == "up")
        wait_until(lambda: len(self._ask("REPLICAS")) == 1)

    def fail_over(self) -> None:
        """Let the replica be the master; returns once the other one knows that, too, which Sentinels tell it late."""
        wait_until(lambda: self._ask("FAILOVER"))
        wait_until(lambda: self.members[1].ask("INFO", "replication")["role"] == "master")
        self.members[0].ask("REPLICAOF", *self.places[1])

    def be_quick(self) -> None:
        """Let the Sentinel take who is silent for dead, and try again soon; before, a busy machine would be enough. It
        takes a replica that has missed its master for ten times as long, so for longer than it may be held up itself.
        """
        self._ask("SET", "down-after-milliseconds", 4000, "failover-timeout", 2000)

    def _ask(self, question: str, *others: object) -> Any:
        with self.sentinel.client(password=self._password) as client:
            return client.execute_command("SENTINEL", question, "main", *others)

    def url(self, *others: int) -> str:
        """Of the master, through these that do not know it, and the one that does."""
        places = ",".join(f"{HERE}:{port}" for port in (*others, self.port))
        return f"redis+sentinel://{places}/main"


def wait_until(holds: Callable[[], object]) -> None:
    """Wait for what comes by itself."""
    until = time.monotonic() + DEADLINE_S  # a Sentinel that was held up does nothing for 30 s (TILT)
    while True:
        with contextlib.suppress(redis.RedisError):
            if holds():
                return
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def guarded(servers: Servers, tmp_path: Path) -> Guarded:
    """A master that is watched."""
    return Guarded(servers, tmp_path)


def written(link: Link) -> bytes:
    """Write what only a master takes, as soon as one is found, and say where."""

    def write() -> bool:
        with contextlib.suppress(ServerDown):
            return link.command("SET", "k", "v") == b"OK"
        return False

    wait_until(write)
    reply = link.command("INFO", "server")
    assert isinstance(reply, bytes)
    return reply.partition(b"tcp_port:")[2].split()[0]


def test_the_master_is_found(guarded: Guarded) -> None:
    """Threads and tasks find the master, and after a failover the other one, though the first lives on."""
    link = Link(address_of(guarded.url()), GENEROUS_S)
    assert b"%d" % guarded.places[0][1] == written(link)
    guarded.fail_over()
    assert b"%d" % guarded.places[1][1] == written(link)
    assert b"v" == asyncio.run(link.command_async("GET", "k"))
    link.close()


def test_a_cache_behind_sentinels(guarded: Guarded) -> None:
    """Entries and messages go where the master is: what was kept before a failover is found after it, while valid."""
    configure(storage_url=guarded.url(), bus_url=guarded.url(), redis_timeout=GENEROUS_S)
    get = cacheable(deps="tag", namespace="n")(time.monotonic_ns)
    first = get()
    with guarded.members[0].client() as client:
        client.set("k", "v")
        assert 1 == client.wait(1, int(1000 * GENEROUS_S))
    guarded.fail_over()
    reset()
    link = Link(address_of(guarded.url()), GENEROUS_S)
    assert b"%d" % guarded.places[1][1] == written(link)  # before that, a call would compute, and keep what it has
    link.close()
    configure(storage_url=guarded.url(), bus_url=guarded.url(), redis_timeout=GENEROUS_S)
    assert first == get()
    invalidate("tag", wait=True)
    assert first < get()


def test_a_master_that_is_killed(guarded: Guarded) -> None:
    """When the master is gone that is an outage, and over when the Sentinels have found another."""
    link = Link(address_of(guarded.url()), GENEROUS_S)
    written(link)
    guarded.members[0].kill()
    with pytest.raises(ServerDown):
        link.command("GET", "k")
    guarded.be_quick()
    assert b"%d" % guarded.places[1][1] == written(link)
    link.close()


@pytest.mark.parametrize("kind", ["away", "mute"])
def test_a_sentinel_that_does_not_answer(guarded: Guarded, kind: str) -> None:
    """One that is away, or stands still, costs its share of the time; the next one answers."""
    with socket.create_server((HERE, 0)) as mute:
        other = free_port() if kind == "away" else mute.getsockname()[1]
        link = Link(address_of(guarded.url(other)), 12.0)
        assert b"OK" == link.command("SET", "k", "v")
        assert b"v" == asyncio.run(link.command_async("GET", "k"))
        link.close()


def test_a_name_that_no_sentinel_knows(guarded: Guarded) -> None:
    """An unknown name is an outage that says who was asked for what, and no secret."""
    link = Link(address_of(f"redis+sentinel://:secret@{HERE}:{guarded.port}/nobody"), GENEROUS_S)
    with pytest.raises(ServerDown, match=f"{HERE}:{guarded.port}.*no server named nobody") as raised:
        link.command("GET", "k")
    assert "secret" not in str(raised.value)
    with pytest.raises(ServerDown):
        asyncio.run(link.command_async("GET", "k"))


def test_no_sentinel_at_all() -> None:
    """Where none answers, that is an outage, which names the first."""
    port = free_port()
    link = Link(address_of(f"redis+sentinel://{HERE}:{port},{HERE}:{free_port()}/main"), 1.0)
    with pytest.raises(ServerDown, match=f"no Sentinel says where the server is .*{HERE}:{port}"):
        link.command("GET", "k")


def test_passwords_of_both(servers: Servers, tmp_path: Path) -> None:
    """User and password of the URL are the master's, those after the ? the Sentinels'; a wrong one is an error."""
    guarded = Guarded(servers, tmp_path, password="theirs")
    guarded.members[0].ask("CONFIG", "SET", "requirepass", "its")
    places = f"{HERE}:{guarded.port}/main"
    link = Link(address_of(f"redis+sentinel://:its@{places}?sentinel_password=theirs"), GENEROUS_S)
    assert b"OK" == link.command("SET", "k", "v")
    link.close()
    for its, theirs in (("its", "x"), ("x", "theirs")):
        wrong = address_of(f"redis+sentinel://:{its}@{places}?sentinel_password={theirs}")
        with pytest.raises(ServerRefused):
            Link(wrong, GENEROUS_S).command("GET", "k")
