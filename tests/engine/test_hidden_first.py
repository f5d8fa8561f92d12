"""Between an invalidation that the server has not taken and the word that says so, nobody takes anything from it."""

from __future__ import annotations

import pytest

import zoocache
from tests.crowd import Runner, until
from tests.engine.peopled import Host, MakeHost
from tests.points import act_at
from tests.servers import Servers
from zoocache import cacheable, configure, runtime
from zoocache.bus.redis import RedisBus
from zoocache.errors import ServerDown


def test_who_reads_in_the_middle_of_an_untold_invalidation(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded between the two words of an invalidation that could not be sent is not served after it."""
    configure(storage_url=redis_url, bus_url=redis_url)
    truth = [0]

    @cacheable(namespace="truth", deps="truth:number")
    def look() -> int:
        return truth[0]

    assert 0 == look()
    until(lambda: runtime.engine().hosts.has_caught_up(runtime.engine().trie))  # type: ignore[union-attr]
    assert 0 == look()

    def no_send(*_: object) -> None:
        raise ServerDown("this caller's connection is broken")

    with monkeypatch.context() as patch:
        patch.setattr(RedisBus, "send", no_send)
        act_at("trie.committed", lambda: Runner(look).result(), patch)
        truth[0] = 1
        zoocache.invalidate("truth:number")
    at_once = look()
    until(runtime.engine().trie.segment.outbox.is_empty)
    assert (1, 1) == (at_once, look())


@pytest.fixture
def one(host: MakeHost) -> Host:
    """A host with entries in the server, that has heard and sent all there is."""
    return begun(host("one", through=True))


def begun(one: Host) -> Host:
    """Let it send and hear all there is."""
    assert one.drain()
    one.catch_up()
    return one


def test_what_is_left_the_server_knows_before_the_host(one: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the listener finishes for a caller that is gone the server has when the trie changes; nothing is hidden."""
    since, before = one.trie.seq(), one.bus.now()
    one.hosts.abandon(one.trie, one.begin("a"))
    seen: list[tuple[int, bool]] = []

    def look() -> None:
        seen.append((one.bus.now().n - before.n, one.hosts.takes_nothing(one.trie)))

    with monkeypatch.context() as patch:
        act_at("trie.committed", look, patch)
        assert one.drain()
    assert [(1, False)] == seen
    assert (True, 0, []) == (one.stale(since, "a"), one.payloads(), one.faults())


def test_what_is_left_is_hidden_until_it_can_be_sent(
    host: MakeHost, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the server is away, all that is left is done on the host, and nothing is taken from the server from
    before the trie changes until it knows."""
    server = servers.start()
    one = begun(host("one", server.url, through=True))
    for tag in ("a", "b"):
        one.hosts.abandon(one.trie, one.begin(tag))
    since, seen = one.trie.seq(), list[bool]()
    server.kill()
    with monkeypatch.context() as patch:
        act_at("trie.committed", lambda: seen.append(one.hosts.takes_nothing(one.trie)), patch)
        assert not one.drain()
    assert [True, True] == seen
    assert (True, True, True) == (one.stale(since, "a"), one.stale(since, "b"), one.hosts.takes_nothing(one.trie))
    server.start()
    one.link.breaker.succeeded()
    assert one.drain()
    assert (False, []) == (one.hosts.takes_nothing(one.trie), one.faults())


def test_what_is_lost_may_have_been_left(one: Host) -> None:
    """Where something that a caller left is lost with the outbox, this host clears what is live, like the others."""
    since = one.trie.seq()
    one.hosts.abandon(one.trie, one.begin("a"))
    one.trie.segment.write(one.trie.segment.outbox.lose)
    assert one.drain()
    one.catch_up()
    assert (True, 0, []) == (one.stale(since, "a"), one.payloads(), one.faults())
