"""Between an invalidation that the server has not taken and the word that says so, nobody takes anything from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

import zoocache
from tests.crowd import until
from tests.engine.peopled import Host
from tests.servers import Servers
from zoocache import cacheable, configure, runtime
from zoocache.bus.redis import RedisBus
from zoocache.errors import ServerDown
from zoocache.shm import points

MakeHost = Callable[..., Host]


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

    def reached(name: str) -> None:
        if name == "trie.committed":
            reader = threading.Thread(target=look)
            reader.start()
            reader.join()

    with monkeypatch.context() as patch:
        patch.setattr(RedisBus, "send", no_send)
        patch.setattr(points, "ARMED", {"trie.committed": ("", 1)})
        patch.setattr(points, "reach", reached)
        truth[0] = 1
        zoocache.invalidate("truth:number")
    at_once = look()
    until(runtime.engine().trie.segment.outbox.is_empty)
    assert (1, 1) == (at_once, look())


@pytest.fixture
def host(prefix: str, redis_url: str) -> Iterator[MakeHost]:
    """Makes hosts under this test's prefix."""
    made: list[Host] = []

    def make(host_id: str, url: str = redis_url, **options: object) -> Host:
        made.append(Host(prefix, host_id, url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.leave()


def test_what_the_dead_had_begun_is_hidden_until_it_is_sent(host: MakeHost, servers: Servers) -> None:
    """What the listener does for a caller that is gone the server does not know either, as long as it is away."""
    server = servers.start()
    one = host("one", server.url, through=True)
    assert one.drain()
    one.catch_up()
    one.hosts.abandon(one.trie, one.begin("a"))
    since = one.trie.seq()
    server.kill()
    assert not one.drain()
    assert (True, True) == (one.stale(since, "a"), one.hosts.takes_nothing(one.trie))
    server.start()
    one.link.breaker.succeeded()
    assert one.drain()
    assert (False, []) == (one.hosts.takes_nothing(one.trie), one.faults())
