"""Between an invalidation that the server has not taken and the word that says so, nobody takes anything from it."""

from __future__ import annotations

import threading

import pytest

import zoocache
from tests.crowd import until
from zoocache import cacheable, configure, runtime
from zoocache.bus.redis import RedisBus
from zoocache.errors import ServerDown
from zoocache.shm import points


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
