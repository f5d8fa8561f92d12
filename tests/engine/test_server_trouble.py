"""Cached functions while their Redis is in trouble: an outage is computed through, and nothing stale comes of it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.children import Children
from tests.crowd import until
from tests.peers import PeerError, fork_peer
from tests.promises import world
from tests.proxy import Proxy
from tests.servers import Server, Servers
from zoocache import StorageError, cacheable, configure, runtime
from zoocache.engine import core, leased
from zoocache.errors import ConfigError, ServerRefused
from zoocache.server.link import Link
from zoocache.server.resp import Reply

TIMEOUT_S = 0.3
GENEROUS_S = 20.0
"""Where a slow answer would be an outage, and hide what is looked for."""
PASSWORD = "s3cr3t-of-the-server"


def is_refused(action: Callable[[], object]) -> bool:
    """Whether the server refuses it."""
    try:
        action()
    except ServerRefused:
        return True
    return False


@pytest.fixture(params=[True, False], ids=["bus", "no bus"])
def has_bus(request: pytest.FixtureRequest) -> bool:
    """Whether live objects stand in front of the server."""
    found: bool = request.param
    return found


class Truth:
    """A number, and a cached function that looks at it.

    Attributes:
        number: the truth.
        fills: how often it was looked at.
    """

    def __init__(self) -> None:
        self.number = self.fills = 0

        @cacheable(namespace="truth", deps="truth:number")
        def look() -> int:
            self.fills += 1
            return self.number

        self.get = look

    def is_shared(self) -> bool:
        """Whether a look is answered by the server, and not computed."""
        before = self.fills
        self.get()
        engine = runtime.engine()
        engine.lives.clear()
        self.get()
        return self.fills == before and engine.takes_from_store()


def kill(server: Server) -> Callable[[], None]:
    """It is gone, and comes back empty."""
    server.kill()
    return server.start


def freeze(server: Server) -> Callable[[], None]:
    """It answers nothing."""
    server.freeze()
    return server.thaw


def demote(server: Server) -> Callable[[], None]:
    """It is a read-only replica (READONLY)."""
    server.ask("REPLICAOF", "127.0.0.1", 1)
    return lambda: server.ask("REPLICAOF", "NO", "ONE")


def fill(server: Server) -> Callable[[], None]:
    """It has no memory left (OOM)."""
    server.ask("CONFIG", "SET", "maxmemory", 1)
    return lambda: server.ask("CONFIG", "SET", "maxmemory", 0)


def load(server: Server) -> Callable[[], None]:
    """It still reads its data (LOADING)."""
    server.ask("DEBUG", "POPULATE", "20000")
    server.ask("SAVE")
    server.kill()
    server.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    return lambda: server.ask("CONFIG", "SET", "key-load-delay", "0")


def flush_scripts(server: Server) -> Callable[[], None]:
    """It has forgotten all scripts (NOSCRIPT)."""
    server.ask("SCRIPT", "FLUSH")
    return lambda: None


@pytest.mark.parametrize("trouble", [kill, freeze, demote, fill, load, flush_scripts])
def test_what_a_server_cannot_do_is_computed(
    trouble: Callable[[Server], Callable[[], None]], has_bus: bool, servers: Servers,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In every trouble calls bring what is true, an invalidation is done when it returns, one warning is enough; and
    afterwards the cache is shared again, with nothing older than that invalidation."""
    server = servers.start("--enable-debug-command", "yes")
    configure(storage_url=server.url, bus_url=server.url if has_bus else None, redis_timeout=TIMEOUT_S)
    truth = Truth()
    assert [0, 0] == [truth.get(), truth.get()]
    until(truth.is_shared)
    monkeypatch.setattr(core, "WARN_S", 3600.0)
    caplog.clear()
    end = trouble(server)
    truth.number = 1
    zoocache.invalidate("truth")
    assert [1] * 20 == [truth.get() for _ in range(20)]
    assert 1 >= sum("does not answer" in record.message for record in caplog.records)
    end()
    until(truth.is_shared)
    assert 1 == truth.get()


def test_a_server_that_is_not_there_at_the_first_use(has_bus: bool, servers: Servers) -> None:
    """It is an outage like any other."""
    server = servers.start()
    server.kill()
    configure(storage_url=server.url, bus_url=server.url if has_bus else None, redis_timeout=TIMEOUT_S)
    truth = Truth()
    assert 0 == truth.get()
    assert runtime.engine().troubles
    server.start()
    until(truth.is_shared)


def test_a_slow_server_costs_a_time_out_and_then_nothing(servers: Servers, children: Children) -> None:
    """Where answers take longer than the time-out, calls give up on them, and most do not even ask."""
    server = servers.start()
    proxy = Proxy(children, server.path)
    configure(storage_url=proxy.url, redis_timeout=0.1)
    truth = Truth()
    assert 0 == truth.get()
    proxy.delay(400)
    assert [0] * 200 == [truth.get() for _ in range(200)]
    assert 0 < runtime.engine().troubles
    proxy.heal()
    until(truth.is_shared)


def test_who_is_cancelled_while_a_lease_is_granted(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cancelled before the server's answer comes keeps nobody of his process waiting for the lease."""
    monkeypatch.setattr(leased, "LONE_LEASE_MS", 3_600_000)
    server, granted, ask = servers.start(), asyncio.Event(), Link.run_async
    configure(storage_url=server.url, redis_timeout=GENEROUS_S, flight_timeout=3600)

    def leases() -> list[bytes]:
        with server.client() as client:
            found: list[bytes] = client.keys("*:l:*")
        return found

    async def answer_late(*args: Any) -> Reply:
        reply = await ask(*args)
        if leases() and not granted.is_set():
            granted.set()
            await asyncio.Event().wait()
        return reply

    @cacheable
    async def get() -> int:
        return 5

    async def go() -> None:
        asking = asyncio.create_task(get())
        await granted.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert 5 == await get()

    monkeypatch.setattr(Link, "run_async", answer_late)
    asyncio.run(go())
    assert [] == leases()


def test_who_prefers_an_error(servers: Servers) -> None:
    """With on_storage_error="raise" a call raises what is wrong with the storage."""
    server = servers.start()
    configure(storage_url=server.url, redis_timeout=GENEROUS_S, on_storage_error="raise")
    truth = Truth()
    assert 0 == truth.get()
    server.kill()
    with pytest.raises(StorageError, match="out of reach"):
        truth.get()


def test_a_wrong_password_is_an_error_at_once(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    """It names the server, and no secret."""
    caplog.set_level(logging.DEBUG)
    server = servers.start("--requirepass", "another")
    configure(storage_url=f"unix://:{PASSWORD}@{server.path}", redis_timeout=GENEROUS_S)
    with pytest.raises(ServerRefused, match=str(server.path)) as raised:
        Truth().get()
    assert PASSWORD not in f"{raised.value!r} {raised.value} {caplog.text}"


@pytest.mark.parametrize(
    "url", ["redis://:pw@h:port/0", f"redis://:{PASSWORD}@host/notanumber", "unix://", "rediss://"]
)
def test_a_malformed_url_is_an_error_at_once(url: str) -> None:
    """Before anything is used; and no secret is told."""
    with pytest.raises(ConfigError) as raised:
        configure(storage_url=url)
    assert PASSWORD not in str(raised.value)


def test_every_hit_asks_unless_there_is_a_bus(has_bus: bool, servers: Servers) -> None:
    """Without a bus the server is asked at each hit, once; with one a warm hit asks nobody."""
    server = servers.start()
    configure(storage_url=server.url, bus_url=server.url if has_bus else None, redis_timeout=GENEROUS_S)
    truth = Truth()
    truth.get()
    until(truth.is_shared)
    truth.get()

    def asked() -> int:
        stats = server.ask("INFO", "commandstats")
        return sum(found["calls"] for name, found in stats.items() if name in {"cmdstat_evalsha", "cmdstat_eval"})

    before = asked()
    for _ in range(100):
        assert 0 == truth.get()
    many = asked() - before
    assert many < 100 if has_bus else 100 <= many < 200
    assert 1 == truth.fills


def test_no_listener_and_yet_nothing_stale(
    servers: Servers, children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Where no listener can be started, that is said once, and what another host invalidates reaches who reads."""
    monkeypatch.setenv("WORLD", str(tmp_path))
    server = servers.start()
    ann = fork_peer(children, env={"ZOOCACHE_BUS_URL": server.url, "ZOOCACHE_HOST_ID": "other"})
    for name, value in {"executable": "", "prefix": "/nowhere", "exec_prefix": "/nowhere"}.items():
        monkeypatch.setattr(sys, name, value)
    configure(bus_url=server.url, host_id="one")
    assert 0 == world.thing("a") == ann.call("thing", "a")
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a", wait=True)
    until(lambda: world.thing("a") == 1)
    assert 1 == sum("cannot be started" in record.message for record in caplog.records)


@pytest.mark.parametrize("storage", ["memory", "lmdb"])
def test_a_wrong_password_of_the_bus_is_told(storage: str, tmp_path: Path, servers: Servers) -> None:
    """Only the listener asks the server then: what it is refused, whoever invalidates is told, and no secret; what was
    said meanwhile is sent once the password is right."""
    server = servers.start("--requirepass", "another")
    url = server.url.replace("unix://", f"unix://:{PASSWORD}@")
    configure(storage_url=f"lmdb://{tmp_path}/c" if storage == "lmdb" else None, bus_url=url)

    def invalidate() -> None:
        zoocache.invalidate("a")

    until(lambda: is_refused(invalidate))
    with pytest.raises(ServerRefused, match=str(server.path)) as refused:
        zoocache.invalidate("a", wait=True)
    assert PASSWORD not in str(refused.value)
    with pytest.raises(ServerRefused):
        zoocache.clear()
    with server.client(password="another") as client:
        client.config_set("requirepass", PASSWORD)
    until(lambda: not is_refused(lambda: zoocache.invalidate("a", wait=True)))


def mistype(server: Server) -> tuple[str, Callable[[], None]]:
    """The password of the URL is wrong."""
    server.ask("CONFIG", "SET", "requirepass", "another")

    def mend() -> None:
        with server.client(password="another") as client:
            client.config_set("requirepass", PASSWORD)

    return f":{PASSWORD}", mend


def forbid(*rights: str) -> Callable[[Server], tuple[str, Callable[[], None]]]:
    """The user of the URL lacks a right."""

    def begin(server: Server) -> tuple[str, Callable[[], None]]:
        server.ask("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all", *rights)
        return f"ann:{PASSWORD}", lambda: server.ask("ACL", "SETUSER", "ann", "&*", "+@all")

    return begin


REFUSALS = {
    "password": (mistype, False),
    "password, with a bus": (mistype, True),
    "scripts": (forbid("-evalsha", "-eval"), False),
    "writing": (forbid("-hset"), False),
    "channels, with a bus": (forbid("resetchannels"), True),
}


def is_shared_again(truth: Truth) -> bool:
    """Whether the server is asked: one that refused is left alone for a while, though an answer may come in between."""
    try:
        return truth.is_shared()
    except ServerRefused:
        return False


@pytest.mark.parametrize(("refuse", "has_bus"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_at_every_call(
    refuse: Callable[[Server], tuple[str, Callable[[], None]]], has_bus: bool, servers: Servers
) -> None:
    """Whoever invalidates is told that the server refuses, though it is done on this host; so is whoever needs the
    server as long as that is unsent. Once the server does not refuse any more, all goes on by itself."""
    server = servers.start()
    user, mend = refuse(server)
    url = server.url.replace("unix://", f"unix://{user}@")
    configure(storage_url=url, bus_url=url if has_bus else None, redis_timeout=GENEROUS_S)
    truth = Truth()
    changes = [
        lambda: zoocache.invalidate("truth"), lambda: zoocache.invalidate("truth", wait=True), zoocache.clear,
        lambda: zoocache.delete("k"), lambda: zoocache.prune(0),
        lambda: asyncio.run(zoocache.invalidate_async("truth")),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ServerRefused, match=str(server.path)) as refused:
            change()
        assert PASSWORD not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"
        assert "done on this host" in str(refused.value)
        for need in (truth.get, lambda: zoocache.set("k", 1), lambda: zoocache.get("k")):
            assert is_refused(need)
    mend()
    until(lambda: is_shared_again(truth))
    zoocache.invalidate("truth", wait=True)
    zoocache.set("k", 1)
    assert 1 == zoocache.get("k")


@pytest.mark.parametrize("change", [zoocache.clear, lambda: zoocache.invalidate("truth")], ids=["clear", "invalidate"])
def test_what_the_server_refuses_is_done_on_this_host(change: Callable[[], None], servers: Servers) -> None:
    """Live objects are overtaken by what the server refuses to hear of; nothing stale comes back with it."""
    server = servers.start()
    server.ask("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    url = server.url.replace("unix://", f"unix://ann:{PASSWORD}@")
    configure(storage_url=url, bus_url=url, redis_timeout=GENEROUS_S)
    truth = Truth()
    assert 0 == truth.get()
    until(truth.is_shared)
    assert 0 == truth.get()
    server.ask("ACL", "SETUSER", "ann", "-evalsha", "-eval")
    truth.number = 1
    assert is_refused(change)
    assert is_refused(truth.get)
    server.ask("ACL", "SETUSER", "ann", "+@all")
    until(lambda: not is_refused(truth.get))
    assert 1 == truth.get()


def test_a_refusal_is_known_to_the_whole_host(servers: Servers, children: Children, tmp_path: Path) -> None:
    """Where one process was refused what it had to send, the others raise, too, instead of computing silently."""
    server = servers.start()
    server.ask("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-publish")
    url = server.url.replace("unix://", f"unix://ann:{PASSWORD}@")
    configure(storage_url=url, host_id="one", redis_timeout=GENEROUS_S)
    env = {"ZOOCACHE_STORAGE_URL": url, "ZOOCACHE_HOST_ID": "one", "ZOOCACHE_REDIS_TIMEOUT": str(GENEROUS_S)}
    peer = fork_peer(children, env=env | {"WORLD": str(tmp_path)})
    assert 0 == peer.call("thing", "a")
    assert is_refused(lambda: zoocache.invalidate("thing"))
    with pytest.raises(PeerError, match="ServerRefused"):
        peer.call("thing", "a")


def test_who_prefers_an_error_has_it_after_an_invalidation(servers: Servers) -> None:
    """With on_storage_error="raise" a call raises, too, while the server does not know what was invalidated."""
    server = servers.start()
    configure(storage_url=server.url, redis_timeout=GENEROUS_S, on_storage_error="raise")
    truth = Truth()
    assert 0 == truth.get()
    server.kill()
    zoocache.invalidate("truth")
    with pytest.raises(StorageError, match="has not been told"):
        truth.get()
    server.start()

    def brought() -> bool:
        try:
            return truth.get() == 0
        except StorageError:
            return False

    until(brought)


def test_a_listener_that_may_hear_and_not_send(servers: Servers) -> None:
    """Where the server refuses only what is sent, whoever invalidates is told that, too, for as long as it lasts."""
    server = servers.start()
    server.ask("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-publish")
    configure(bus_url=server.url.replace("unix://", f"unix://ann:{PASSWORD}@"))
    until(lambda: is_refused(lambda: zoocache.invalidate("a")))
    for _ in range(100):
        assert is_refused(lambda: zoocache.invalidate("a"))
    server.ask("ACL", "SETUSER", "ann", "+publish")
    until(lambda: not is_refused(lambda: zoocache.invalidate("a", wait=True)))
