"""What hosts that share a server do for each other, by the public names: one fill, one word, one bound."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.children import DEADLINE_S, Children
from tests.crowd import Gate, Runner, followers, until
from tests.listener.conftest import end_listeners
from tests.peers import Peer, PeerError, fork_peer
from tests.promises import world
from tests.proxy import Proxy
from tests.servers import Server, Servers
from zoocache import cacheable, configure, keys
from zoocache.engine import leased, mutations
from zoocache.engine.watch import SERVED_S, WATCH_S
from zoocache.errors import NotSent, StorageError
from zoocache.listener import starter
from zoocache.server.names import names_of
from zoocache.shm.attachment import attach_to_existing
from zoocache.shm.layout import H_BUS_N, H_CAUGHT_UP, H_LISTENER_PID
from zoocache.storage import redis_steps
from zoocache.storage.redis import RedisStore


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the world's things lie in."""
    monkeypatch.setenv("WORLD", str(tmp_path))
    return tmp_path


@pytest.fixture
def peer_on(children: Children, redis_url: str) -> Callable[[str], Peer]:
    """Starts a process on a host that shares its entries with the others."""
    return lambda host: _start(children, host, redis_url, redis_url)


def _start(children: Children, host: str, storage_url: str, bus_url: str) -> Peer:
    env = {"ZOOCACHE_STORAGE_URL": storage_url, "ZOOCACHE_BUS_URL": bus_url, "ZOOCACHE_HOST_ID": host}
    return fork_peer(children, env={name: value for name, value in env.items() if value})


@pytest.fixture
def lasting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that outlive a machine that stands still; who is there to renew them would shorten them."""
    (tmp_path / "nothing.py").touch()
    monkeypatch.setattr(starter, "PROGRAM", str(tmp_path / "nothing.py"))
    monkeypatch.setattr(leased, "LONE_LEASE_MS", 600_000)
    monkeypatch.setattr(redis_steps, "FAILURE_MS", 600_000)


@pytest.mark.usefixtures("lasting")
def test_one_fill_among_hosts(peer_on: Callable[[str], Peer]) -> None:
    """Who wants on another host what is being computed waits for it, and has it."""
    ann, bob = peer_on("one"), peer_on("two")
    ann.call("close_gate", "a")
    ann.begin("thing", "a")
    ann.wait_inside("a")
    world.change("a", 7)
    bob.begin("thing", "a")
    time.sleep(0.3)  # no more than a chance to go wrong: whoever does not wait computes at once
    ann.go_on()
    assert [0, 0] == [ann.result(), bob.result()]
    assert [ann.pid] == world.fills("a")


def test_a_leader_on_another_host_is_killed(peer_on: Callable[[str], Peer]) -> None:
    """Whoever waits for a process of another host that is killed computes in its place."""
    ann, bob = peer_on("one"), peer_on("two")
    ann.call("close_gate", "a")
    ann.begin("thing", "a")
    ann.wait_inside("a")
    bob.begin("thing", "a")
    ann.child.kill()
    assert 0 == bob.result()
    assert [ann.pid, bob.pid] == world.fills("a")


@pytest.mark.usefixtures("lasting")
def test_a_leader_on_another_host_raises(peer_on: Callable[[str], Peer], shared_server: Server) -> None:
    """Whoever waits for a flight of another host that raises is told the type and the message, and tries no more."""
    ann, bob = peer_on("one"), peer_on("two")
    ann.call("close_gate", "a")
    ann.begin("broken", "a")
    ann.wait_inside("a")
    with shared_server.client() as client, client.monitor() as seen:
        bob.begin("tell_failure", "a")
        _wait_for_claims(seen, world.broken.key_for("a"), 2)  # so the first was answered, and it waits: who came
        ann.go_on()  # later would compute, and raise what the function does
    with pytest.raises(PeerError, match="no a here"):
        ann.result()
    assert ["LookupError", "no a here"] == bob.result()[:2]
    assert [ann.pid] == world.fills("a")


def _wait_for_claims(seen: Any, key: str, count: int) -> None:
    """Until so many questions for the lease of a key have come to the server."""
    names, digest = names_of(os.environ["ZOOCACHE_PREFIX"]), keys.digest(key)
    asked = names.entry(digest).decode(), names.lease(digest).decode()
    for each in seen.listen():
        count -= all(name in each["command"] for name in asked)
        if not count:
            return


def followed(look: Callable[[], Any], count: int, gate: Gate, bob: Peer, tag: str) -> list[Any]:
    """What so many threads get that join the flight at the gate after another host's word, which has come by then."""
    bob.call("zoocache.invalidate", tag, wait=True)
    herd = [Runner(look) for _ in range(count)]
    until(lambda: followers() == count)
    gate.open()
    return [each.result() for each in herd]


def test_a_follower_without_a_bus(children: Children, redis_url: str) -> None:
    """Where the host hears nothing, who joins a flight after another host's word asks the server, as at every hit."""
    configure(storage_url=redis_url, host_id="one")
    truth, gate = ["old"], Gate()

    @cacheable(deps="truth")
    def look() -> str:
        found = truth[0]
        gate.stop()
        return found

    bob, leader = _start(children, "two", redis_url, ""), Runner(look)
    gate.wait_inside()
    truth[0] = "new"
    assert ["new"] * 3 == followed(look, 3, gate, bob, "truth")
    assert ("old", 2) == (leader.result(), look.info().fills)


def test_a_follower_of_one_that_only_loads(
    children: Children, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The same where the leader has its value from the server: its answer may be older than the other host's word."""
    configure(storage_url=redis_url, host_id="one")
    truth, gate, load = ["old"], Gate(), RedisStore.load

    @cacheable(deps="truth")
    def look() -> str:
        return truth[0]

    def slow(*args: Any) -> Any:
        answer = load(*args)
        if not gate.entered.is_set():
            gate.stop()
        return answer

    assert "old" == look()
    bob = _start(children, "two", redis_url, "")
    monkeypatch.setattr(RedisStore, "load", slow)
    leader = Runner(look)
    gate.wait_inside()
    truth[0] = "new"
    assert ["new"] * 3 == followed(look, 3, gate, bob, "truth")
    assert "old" == leader.result()


def test_followers_where_nothing_can_be_kept(
    children: Children, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Where the server takes nothing more (it is full, and evicts nothing), those who came after another host's word
    share the next flight."""
    configure(storage_url=redis_url, host_id="one")
    gate = Gate()

    def full(*_args: object, **_options: object) -> bool:
        raise StorageError("OOM command not allowed")

    @cacheable(deps="truth")
    def look() -> int:
        if gate.entered.is_set():
            until(lambda: followers() == 11)  # who comes to it later would find nothing
        gate.stop()
        return 1

    monkeypatch.setattr(RedisStore, "save", full)
    bob, leader = _start(children, "two", redis_url, ""), Runner(look)
    gate.wait_inside()
    assert [1] * 12 == followed(look, 12, gate, bob, "something:else")
    assert (1, 2) == (leader.result(), look.info().fills)


@pytest.mark.parametrize("storage", ["memory", "lmdb"])
def test_who_hears_nothing_believes_nothing_for_long(
    storage: str, servers: Servers, children: Children, tmp_path: Path
) -> None:
    """With max_bus_lag a host whose network swallows everything stops to hand out what it has, live or in LMDB."""
    server = servers.start()
    proxy = Proxy(children, server.path)
    ann = fork_peer(children, env={"ZOOCACHE_BUS_URL": server.url, "ZOOCACHE_HOST_ID": "other"})
    env = {"ZOOCACHE_BUS_URL": proxy.url, "ZOOCACHE_HOST_ID": "one"}
    if storage == "lmdb":
        env["ZOOCACHE_STORAGE_URL"] = f"lmdb://{tmp_path / 'cache'}"
    bob = fork_peer(children, env=env | {"ZOOCACHE_MAX_BUS_LAG": "1"})
    deaf = fork_peer(children, env=env | {"ZOOCACHE_HOST_ID": "two"})
    assert [0, 0] == [each.call("thing", "a") for each in (bob, deaf)]
    for number in (1, 2):  # once they have heard something, their first contact is behind them
        world.change("a", number)
        ann.call("zoocache.invalidate", "thing:a", wait=True)
        until(lambda: bob.call("thing", "a") == deaf.call("thing", "a") == number)  # noqa: B023
    for host in ("one", "two"):
        _wait_until_heard(host, server)  # what was computed before it had heard of 2 would be stale by that
    assert [2, 2] == [each.call("thing", "a") for each in (bob, deaf)]
    proxy.drop()
    world.change("a", 3)
    ann.call("zoocache.invalidate", "thing:a", wait=True)
    until(lambda: 3 == bob.call("thing", "a"))
    assert 2 == deaf.call("thing", "a")


@pytest.fixture(params=["memory", "lmdb", "redis"])
def two_hosts(
    request: pytest.FixtureRequest, children: Children, redis_url: str, tmp_path: Path
) -> Callable[[str], Peer]:
    """Starts a process on a host, with a bus, and each storage in turn."""
    urls = {"memory": lambda _: "", "lmdb": lambda host: f"lmdb://{tmp_path / host}", "redis": lambda _: redis_url}
    return lambda host: _start(children, host, urls[request.param](host), redis_url)


def _wait_until_heard(host: str, server: Server) -> None:
    """Until a host has heard all that was said."""
    prefix = os.environ["ZOOCACHE_PREFIX"]
    with server.client() as client:
        n = int(client.hget(names_of(prefix).numbers, "n"))
    segment = attach_to_existing(prefix, host_id=host)
    assert segment is not None
    try:
        until(lambda: segment.words[H_BUS_N] >= n)
    finally:
        segment.leave()


def _listener_of(host: str) -> int:
    """The process that has caught up for a host."""
    segment = attach_to_existing(os.environ["ZOOCACHE_PREFIX"], host_id=host)
    assert segment is not None
    try:
        until(lambda: segment.words[H_LISTENER_PID] and segment.words[H_CAUGHT_UP])
        return segment.words[H_LISTENER_PID]
    finally:
        segment.leave()


def _end_listeners(but_of: str, number: int = signal.SIGKILL) -> None:
    """On all hosts but one."""
    end_listeners(os.environ["ZOOCACHE_PREFIX"], number, [_listener_of(but_of)])
    time.sleep(SERVED_S)  # until a look from before it is too old to be believed


def test_what_is_said_when_nobody_listens_is_sent(two_hosts: Callable[[str], Peer]) -> None:
    """Who invalidates a moment after the listener and its keeper were killed, and is idle from then on, has told the
    other hosts all the same."""
    ann, bob = two_hosts("one"), two_hosts("two")
    assert [0, 0] == [each.call("thing", "a") for each in (ann, bob)]
    _listener_of("one")
    ann.call("zoocache.invalidate", "other")
    _end_listeners(but_of="two")
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a")
    until(lambda: 1 == bob.call("thing", "a"))


@pytest.mark.parametrize("storage", ["memory", "lmdb", "redis"])
def test_what_is_unsent_when_the_last_one_leaves_is_sent(
    storage: str, children: Children, servers: Servers, tmp_path: Path
) -> None:
    """Who invalidated while the network was cut, and ends after the listener and its keeper were killed, leaves
    somebody behind who sends it."""
    server = servers.start()
    proxy = Proxy(children, server.path)
    urls = {"memory": ("", ""), "lmdb": (f"lmdb://{tmp_path / 'one'}", f"lmdb://{tmp_path / 'two'}")}
    ann_url, bob_url = urls.get(storage, (proxy.url, server.url))
    ann = _start(children, "one", ann_url, proxy.url)
    bob = _start(children, "two", bob_url, server.url)
    assert [0, 0] == [each.call("thing", "a") for each in (ann, bob)]
    _listener_of("one")
    proxy.drop()
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a")
    _end_listeners(but_of="two")
    ann.end()
    proxy.heal()
    until(lambda: 1 == bob.call("thing", "a"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_listener_of_an_idle_host_is_killed(number: int, two_hosts: Callable[[str], Peer]) -> None:
    """What a host missed while nobody there used the cache, and nobody heard, is not served: neither by who held it nor
    out of what lies there."""
    ann, bob = two_hosts("one"), two_hosts("two")
    assert [0, 0] == [each.call("thing", "a") for each in (ann, bob)]
    pid = _listener_of("two")
    assert [0, 0] == [each.call("thing", "a") for each in (ann, bob)]
    _end_listeners(but_of="one", number=number)
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a", wait=True)
    time.sleep(2 * WATCH_S)  # it is idle: no process there looks whether it is listened to
    late = two_hosts("two")
    late.begin("thing", "a")
    assert [1, 1] == [bob.call("thing", "a"), late.result()]
    assert pid != _listener_of("two")
    assert [1, 1] == [bob.call("thing", "a"), late.call("thing", "a")]


@pytest.mark.parametrize("is_new", [False, True])
def test_who_comes_first_to_an_idle_host_has_to_look(is_new: bool, two_hosts: Callable[[str], Peer]) -> None:
    """Nor is it served to who has none of it in memory, and looks into the store first: a process that begins, or one
    that has been there all the time and asks for something else."""
    ann, bob, eve = two_hosts("one"), two_hosts("two"), two_hosts("two")
    assert [0, 0, 0] == [ann.call("thing", "a"), bob.call("thing", "b"), eve.call("thing", "a")]
    _listener_of("two")
    assert [0, 0, 0] == [ann.call("thing", "a"), bob.call("thing", "b"), eve.call("thing", "a")]
    _end_listeners(but_of="one")
    world.change("a", 1)
    ann.call("zoocache.invalidate", "thing:a", wait=True)
    time.sleep(2 * WATCH_S)  # as above
    first = two_hosts("two") if is_new else bob
    assert 1 == first.call("thing", "a")
    assert [1, 1] == [bob.call("thing", "a"), eve.call("thing", "a")]


@pytest.mark.parametrize("storage", ["memory", "redis"])
@pytest.mark.parametrize("is_task", [False, True])
def test_who_waits_knows_that_it_is_sent(
    storage: str, is_task: bool, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With wait=True an invalidation returns when the server has it; else it raises, is done here, and sent later."""
    server = servers.start()
    configure(
        storage_url=server.url if storage == "redis" else None, bus_url=server.url, redis_timeout=DEADLINE_S
    )  # what it takes after a time-out, it takes twice
    stream = names_of(os.environ["ZOOCACHE_PREFIX"]).stream

    def invalidate() -> None:
        if is_task:
            asyncio.run(zoocache.invalidate_async("a", wait=True))
        else:
            zoocache.invalidate("a", wait=True)

    monkeypatch.setattr(mutations, "WAIT_S", DEADLINE_S)
    invalidate()
    assert 1 <= server.ask("XLEN", stream)  # two may send the same, where one of them stood still
    server.kill()
    monkeypatch.setattr(mutations, "WAIT_S", 0.3)
    before = zoocache.get_tag_version("a")
    with pytest.raises(NotSent):
        invalidate()
    assert before < zoocache.get_tag_version("a")
    server.start()
    until(lambda: server.ask("XLEN", stream) > 0)
