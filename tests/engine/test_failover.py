"""A replica that lacks the latest becomes the master: real servers, and hosts of real processes with real listeners."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import DEADLINE_S, Children
from tests.crowd import until
from tests.engine.peopled import Host
from tests.peers import Peer, fork_peer
from tests.promises import world
from tests.proxy import Proxy
from tests.servers import Pair, Servers
from zoocache import clock, deps
from zoocache.server.link import Link
from zoocache.server.names import names_of
from zoocache.server.url import address_of
from zoocache.shm.layout import H_FLOORED
from zoocache.storage import FOREVER
from zoocache.storage.redis import RedisStore

MIXTURES = {
    "memory, bus": ("memory://", True), "lmdb, bus": ("lmdb://{folder}/{host}", True), "redis, bus": ("{url}", True),
    "redis, no bus": ("{url}", False),
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the world's things lie in."""
    monkeypatch.setenv("WORLD", str(tmp_path))
    return tmp_path


@pytest.fixture(params=list(MIXTURES))
def peer_on(request: pytest.FixtureRequest, children: Children, folder: Path) -> Callable[[str, str], Peer]:
    """Starts a process on a host that reaches its server at a URL; for each mixture in turn."""
    storage, has_bus = MIXTURES[request.param]

    def start(host: str, url: str) -> Peer:
        env = {"ZOOCACHE_STORAGE_URL": storage.format(folder=folder, host=host, url=url), "ZOOCACHE_HOST_ID": host}
        return fork_peer(children, env=env | ({"ZOOCACHE_BUS_URL": url} if has_bus else {}))

    return start


def floor_of(pair: Pair) -> int:
    """The server's."""
    return int(pair.master.ask("HGET", names_of(os.environ["ZOOCACHE_PREFIX"]).numbers, "floor") or 0)


@pytest.mark.parametrize("later", [0, 5])
def test_what_was_lost_is_stale_all_the_same(
    peer_on: Callable[[str, str], Peer], later: int, servers: Servers, children: Children
) -> None:
    """An invalidation that only the dead master knew, and no other host, is true on every host once that has settled:
    also where others have taken as many numbers from the new master as were lost."""
    pair = servers.pair()
    proxy = Proxy(children, pair.path)
    ann, bob, cat = peer_on("one", pair.url), peer_on("two", proxy.url), peer_on("three", proxy.url)
    for each in (ann, bob, cat):
        each.call("zoocache.invalidate", "start", wait=True)
        until(lambda each=each: 0 == each.call("thing", "a") == each.call("thing", "a"))  # type: ignore[misc]
    pair.part()
    proxy.cut()
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a", wait=True)
    assert 1 == ann.call("thing", "a")
    pair.fail_over()
    proxy.heal()
    for number in range(later):
        cat.call("zoocache.invalidate", f"another:{number}", wait=True)
    until(lambda: floor_of(pair) > 0)
    until(lambda: bob.call("thing", "a") == cat.call("thing", "a") == 1)
    assert [1, 1, 1] == [each.call("thing", "a") for each in (ann, bob, cat)]
    world.change("a", 2)
    bob.call("zoocache.invalidate", "thing", wait=True)
    until(lambda: ann.call("thing", "a") == cat.call("thing", "a") == 2)


@pytest.mark.parametrize("later", [0, 5])
def test_a_key_set_anew_is_not_what_it_was(
    children: Children, servers: Servers, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With entries in Redis a key that was set is never found with what was there before, though the master died."""
    pair = servers.pair()
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", pair.url)
    monkeypatch.setenv("ZOOCACHE_REDIS_TIMEOUT", str(DEADLINE_S))  # a dead master refuses at once
    ann, bob = (fork_peer(children, env={"ZOOCACHE_HOST_ID": name}) for name in ("one", "two"))
    ann.call("zoocache.set", "k", "old")
    assert "old" == bob.call("zoocache.get", "k")
    pair.part()
    ann.call("zoocache.set", "k", "new")
    pair.fail_over()
    for number in range(later):
        bob.call("zoocache.invalidate", f"another:{number}")
    until(lambda: floor_of(pair) > 0)
    assert [None, None] == [each.call("zoocache.get", "k") for each in (ann, bob)]


@pytest.mark.parametrize("hears", [True, False])
def test_a_caller_finds_out_at_once(host: Callable[..., Host], servers: Servers, hears: bool) -> None:
    """The first message that a host sends to a server that lost an earlier one overtakes everything, in that step."""
    pair = servers.pair()
    one = host("one", pair.url, through=True, hears=hears)
    one.send("a")
    pair.part()
    one.send("lost")
    pair.fail_over()
    one.link.breaker.succeeded()
    assert 0 == floor_of(pair)
    one.send("b")
    assert floor_of(pair) == one.bus.now().n > 2
    one.send("c")
    assert floor_of(pair) == one.bus.now().n - 1


@pytest.mark.parametrize("through", [True, False])
def test_what_the_others_have_taken_meanwhile(host: Callable[..., Host], servers: Servers, through: bool) -> None:
    """A host that hears finds its own message missing though the numbers have grown beyond it, and asks but once."""
    pair = servers.pair()
    one, other = host("one", pair.url, through=through), host("other", pair.url, through=through)
    for each in (one, other):
        each.catch_up()
    pair.part()
    if through:
        one.send("lost")
    else:
        one.tell("lost")
        one.drain()
    pair.fail_over()
    for each in (one, other):
        each.link.breaker.succeeded()
    for _ in range(3):
        other.bus.send(other.message("another"), [deps.own_path("another")])
    since = other.trie.seq()
    one.catch_up()
    other.catch_up()
    assert (True, 1) == (other.stale(since, "lost"), one.words[H_FLOORED])
    floor = floor_of(pair)
    assert floor > 0
    for each in (one, other):
        each.catch_up()
    assert floor == floor_of(pair)


def test_a_stamp_that_the_new_master_never_gave(host: Callable[..., Host], servers: Servers, prefix: str) -> None:
    """A fill that began with a number that was lost is not kept, though the new master has taken that number again, for
    what overtakes the fill."""
    pair = servers.pair()
    one, other = host("one", pair.url, through=True, hears=False), host("other", pair.url, through=True, hears=False)
    link = Link(address_of(pair.url), DEADLINE_S)
    store = RedisStore(link, prefix)
    for each in (one, other):
        each.catch_up()
    pair.part()
    one.send("lost")
    stamp = store.stamp()
    one.hosts.behind(one.trie, stamp.n)
    pair.fail_over()
    for each in (one, other):
        each.link.breaker.succeeded()
    link.breaker.succeeded()
    other.send("a")
    one.catch_up()
    assert not store.save(bytes(16), deps.paths("a"), stamp, b"old", FOREVER, clock.now())
    link.close()


@pytest.mark.parametrize("storage", ["memory://", "redis"])
def test_who_only_invalidates_is_heard(children: Children, servers: Servers, storage: str) -> None:
    """A process that does nothing but invalidate, on a host where nobody else is, sees to a listener too: what it said
    during an outage is sent."""
    server = servers.start()
    env = {"ZOOCACHE_STORAGE_URL": storage if storage != "redis" else server.url, "ZOOCACHE_BUS_URL": server.url}
    ann = fork_peer(children, env=env | {"ZOOCACHE_HOST_ID": "one"})
    server.kill()
    ann.call("zoocache.invalidate", "thing:a")
    server.start()
    until(lambda: server.ask("XLEN", names_of(os.environ["ZOOCACHE_PREFIX"]).stream) > 0)


def test_a_host_that_is_left_with_a_replica(children: Children, servers: Servers) -> None:
    """A server that becomes a read-only replica is an outage: calls compute, nothing old is believed, and what was
    invalidated meanwhile is sent once there is a master again."""
    pair = servers.pair()
    replica = pair.replica
    assert replica is not None
    env = {"ZOOCACHE_HOST_ID": "one", "ZOOCACHE_STORAGE_URL": pair.url}
    ann, bob = fork_peer(children, env=env), fork_peer(children, env=env | {"ZOOCACHE_HOST_ID": "two"})
    assert [0, 0] == [each.call("thing", "a") for each in (ann, bob)]
    replica.ask("REPLICAOF", "NO", "ONE")
    pair.master.ask("REPLICAOF", "127.0.0.1", replica.open_port())
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a")
    assert [1, 1] == [each.call("thing", "a") for each in (ann, bob)]
    assert ann.pid in world.fills("a")
    pair.master.ask("REPLICAOF", "NO", "ONE")
    until(lambda: fills_of_a_round(ann, bob) == 0)
    assert [1, 1] == [each.call("thing", "a") for each in (ann, bob)]


def fills_of_a_round(*peers: Peer) -> int:
    """How many computations it takes if each asks once: none, if they share the cache again."""
    before = len(world.fills("a"))
    for each in peers:
        each.call("thing", "a")
    return len(world.fills("a")) - before


def test_a_host_never_takes_what_it_had_overtaken_itself(children: Children, servers: Servers) -> None:
    """From the first question on the host that had said so gets nothing old from a server that lost it."""
    pair = servers.pair()
    ann = fork_peer(children, env={"ZOOCACHE_STORAGE_URL": pair.url, "ZOOCACHE_HOST_ID": "one"})
    assert [0, 0] == [ann.call("thing", "a"), ann.call("outer", "a")]
    pair.part()
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a")
    pair.fail_over()
    for _ in range(20):
        assert [1, 10] == [ann.call("thing", "a"), ann.call("outer", "a")]
