"""Hosts for tests: segments of their own under one prefix, with the real code between them and a real server.

    one, other = host("one"), host("other")
    since = other.trie.seq()
    one.tell("a:b")
    one.drain()
    other.catch_up()
    assert other.stale(since, "a:b:c")

A host is a segment with a host_id; nothing of it runs by itself: a test says when it sends and when it hears.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.children import DEADLINE_S
from zoocache import clock, deps
from zoocache.bus import Bus, Heard, Message, Position
from zoocache.bus.redis import RedisBus, RedisEar
from zoocache.engine.hosts import Hosts
from zoocache.engine.positions import position_of
from zoocache.errors import ServerDown
from zoocache.server.link import Link
from zoocache.server.url import address_of
from zoocache.shm.attachment import attach
from zoocache.shm.layout import MIN_SIZE
from zoocache.shm.outbox import Place
from zoocache.storage.lmdb import LmdbStore
from zoocache.trie import Trie, target_of, words_of

MakeHost = Callable[..., "Host"]
"""What the fixture `host` makes them with: `host("one", [url], **options)`."""


class Host:
    """One host; closed by `leave`.

    Args:
        prefix: of all hosts of a test.
        host_id: of this one.
        url: of the server.
        through: whether entries lie in the server.
        store: a directory for LMDB on this host.
        timeout_s: what a question to the server may take.
    """

    def __init__(
        self, prefix: str, host_id: str, url: str, *, through: bool = False, store: Path | None = None,
        timeout_s: float = DEADLINE_S, hears: bool = True,
    ) -> None:  # fmt: skip
        self.prefix, self.host_id = prefix, host_id
        self.trie = Trie(attach(prefix, MIN_SIZE, 20.0, host_id))
        self.trie.segment.claim_slot(1)
        self.link = Link(address_of(url), timeout_s)
        self.bus = RedisBus(self.link, prefix)
        self.store = None if store is None else LmdbStore(store, prefix=prefix, map_size=1 << 22)
        self.hosts = Hosts(self.bus, self.store, through, hears)
        self._ear: RedisEar | None = None

    @property
    def words(self) -> memoryview:
        """Of the segment."""
        return self.trie.words

    def message(self, *tags: str, **parts: Any) -> Message:
        """What this host says."""
        return Message("tags", tags, (), 0, self.trie.segment.incarnation, 7)._replace(**parts)

    def tell(self, *tags: str) -> int:
        """Invalidate, without or in front of the server."""
        if self.store is not None:
            self.store.invalidate([deps.own_path(tag) for tag in tags], clock.now())
        return self.hosts.tell(self.trie, self.message(*tags), [target_of(tag) for tag in tags], 1)

    def clear(self) -> int:
        """Clear everything."""
        if self.store is not None:
            self.store.clear()
        return self.hosts.tell(self.trie, self.message(kind="clear"), (), 1)

    def send(self, *tags: str) -> int:
        """Invalidate, as a caller does where entries lie in the server."""
        place = self.begin(*tags)
        return self.finish(place, *tags, sent=self.try_send(*tags))

    def begin(self, *tags: str) -> Place:
        """The first step of that."""
        return self.hosts.begin(self.trie, self.message(*tags))

    def try_send(self, *tags: str) -> Position | None:
        """The second."""
        try:
            return self.bus.send(
                self.message(*tags), [deps.own_path(tag) for tag in tags], self.hosts.known(self.trie)
            )  # fmt: skip
        except ServerDown:
            return None

    def finish(self, place: Place, *tags: str, sent: Position | None) -> int:
        """The third."""
        return self.hosts.finish(self.trie, place, self.message(*tags), [target_of(tag) for tag in tags], 1, sent)

    def drain(self) -> bool:
        """What the listener does for the outbox."""
        return self.hosts.drain(self.trie, clock.now())

    def catch_up(self) -> None:
        """What it does now and then."""
        self.hosts.catch_up(self.trie, clock.now())

    def listen(self) -> None:
        """Subscribe, and catch up."""
        self._ear = self.bus.listen()
        self.catch_up()

    def hear(self, timeout_s: float = DEADLINE_S) -> list[Heard]:
        """Do what comes next."""
        assert self._ear is not None
        heard: list[Heard] = []
        while not heard:  # what else comes is the answer to whether the connection is there
            heard = list(self._ear.hear(timeout_s))
        self.hosts.hear(self.trie, heard, clock.now())
        return heard

    def stale(self, since: int, tag: str) -> bool:
        """Whether a live object of this tag that was filled at `since` is overtaken."""
        return self.trie.overtaken(tuple(map(words_of, deps.paths(tag))), since)

    def is_at(self, bus: Bus) -> bool:
        """Whether it stands where the server does."""
        return self.trie.segment.write(position_of, self.trie) == bus.now()

    def payloads(self) -> int:
        """How many records are in the outbox."""
        return len(self.trie.segment.outbox.waiting(1 << 20))

    def faults(self) -> list[str]:
        """What is wrong with the segment."""
        return self.trie.segment.write(self.trie.faults)

    def leave(self) -> None:
        """Let go of everything."""
        if self._ear is not None:
            self._ear.close()
        self.link.close()
        if self.store is not None:
            self.store.close()
        self.trie.segment.leave()
