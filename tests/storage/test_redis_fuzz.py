"""A Redis store and a bus whose keys were scribbled over, or whose replies were damaged on their way: a miss or an
error of the library. Values are told from what was never put by the checksum of a body (zoocache/entry.py).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import Edit, busy_at_most, edited, edits, examples
from tests.servers import Server
from tests.storage.steps import after, hashed, paths_of, save, works
from zoocache import entry
from zoocache.bus import UNKNOWN, Message, Position
from zoocache.bus.redis import RedisBus
from zoocache.errors import ZooCacheError
from zoocache.server.link import Link
from zoocache.server.names import Names, names_of
from zoocache.server.url import address_of
from zoocache.storage import FOREVER, Life
from zoocache.storage.redis import RedisStore

KEYS = {f"k{number}": b"%d" % number * (1 + number**2) for number in range(4)}
LIVES = [FOREVER, Life(5000), Life(5000, sliding=True), Life(5000, sliding=True, max_age_ms=7000)]
TOKEN, OTHER = bytes(range(16)), bytes(16)
NOW = after(10)
MESSAGE = Message("tags", ("a:b",), (hashed("k1"),), 0, 5, 6)
GENEROUS_S = 20.0


class Far(NamedTuple):
    """A store and a bus over one link, and a client that knows nothing of zoocache."""

    store: RedisStore
    bus: RedisBus
    names: Names
    client: redis.Redis

    def fill(self) -> None:
        """Entries, a lease, a failure, messages."""
        for number, key in enumerate(KEYS):
            body = entry.pack(key, (f"t:{key}",), KEYS[key])
            save(self.store, key, f"t:{key}", body=body, life=LIVES[number], now=NOW)
        self.store.invalidate(paths_of("x"), NOW)
        self.store.claim(hashed("leased"), TOKEN, 60_000, None, NOW)
        self.store.end(hashed("failed"), OTHER, b"ValueError\nwhy")
        for _ in range(3):
            self.bus.send(MESSAGE, paths_of("a"))

    def value(self, key: str) -> bytes | None:
        """As the engine reads it."""
        loaded = self.store.load(hashed(key), NOW)
        body = None if loaded is None else entry.unpack(loaded.body)
        return body.payload if body is not None and body.key == key else None


_START = Position(1, 0, UNKNOWN)
ACTS: list[Callable[[Far], Any]] = [
    lambda far: far.store.stamp(),
    lambda far: far.store.claim(hashed("k1"), TOKEN, 1000, OTHER, NOW),
    lambda far: far.store.claim(hashed("leased"), OTHER, 1000, None, NOW),
    lambda far: far.store.claim(hashed("failed"), TOKEN, 1000, OTHER, NOW),
    lambda far: far.store.renew([(hashed("leased"), TOKEN), (hashed("k1"), OTHER)], 1000),
    lambda far: far.store.end(hashed("leased"), TOKEN, None),
    lambda far: far.store.touch([hashed(key) for key in KEYS], after(20)),
    lambda far: far.store.invalidate(paths_of("t:k1"), NOW),
    lambda far: far.store.delete(hashed("k2"), NOW),
    lambda far: far.store.prune(0, NOW),
    lambda far: far.store.prune(10**12, NOW),
    lambda far: (far.store.count(), far.store.size_bytes()),
    lambda far: save(far.store, "k3", "t:k3", body=entry.pack("k3", ("t:k3",), KEYS["k3"]), anew=True, now=NOW),
    lambda far: far.store.clear(),
    lambda far: far.bus.now(),
    lambda far: far.bus.since(far.bus.now()),
    lambda far: far.bus.since(far.bus.now()._replace(n=0)),
    lambda far: far.bus.since(far.bus.now()._replace(n=1, mark=TOKEN[:8])),
    lambda far: far.bus.send(MESSAGE, paths_of("a")),
    lambda far: far.bus.raise_floor(_START),
    lambda far: far.store.save(hashed("big"), (), far.store.stamp(), bytes(100_000), FOREVER, NOW),
]
acts_ = st.lists(st.sampled_from(range(len(ACTS))), min_size=1, max_size=5)


def act_and_look(far: Far, acts: list[int]) -> None:
    """Do these, and look at every value in between."""
    for act in [*acts, None]:
        for key, expected in KEYS.items():
            with contextlib.suppress(ZooCacheError):
                assert far.value(key) in {None, expected}
        if act is not None:
            with contextlib.suppress(ZooCacheError):
                ACTS[act](far)


@pytest.fixture
def far(redis_url: str, shared_server: Server, prefix: str) -> Iterator[Far]:
    """A store with something in it, and a bus."""
    link = Link(address_of(redis_url), GENEROUS_S)
    with shared_server.client() as client:
        yield Far(RedisStore(link, prefix, host_time=True), RedisBus(link, prefix), names_of(prefix), client)
    link.close()


FIELDS = [b"epoch", b"epoch", b"n", b"n", b"floor", b"mark", paths_of("x")[0], hashed("k1")]
PLACES = st.one_of(
    st.tuples(st.just("entry"), st.sampled_from([hashed(key) for key in KEYS])),
    st.tuples(st.just("field"), st.sampled_from(FIELDS)),
    st.tuples(st.sampled_from(["stream", "lease", "failure"]), st.just(b"")),
    st.tuples(st.just("type"), st.sampled_from([b"numbers", b"stream", b"entry", b"lease"])),
)


def damage(far: Far, where: str, which: bytes, how: list[Edit]) -> None:
    """Change what lies in the server."""
    names, client = far.names, far.client
    if where == "field":
        client.hset(names.numbers, which, edited(client.hget(names.numbers, which) or b"3 1700000000000", how))
    elif where == "stream":
        found = client.xrevrange(names.stream, count=1) or [(b"0-0", {b"payload": TOKEN + b"message"})]
        n = int(found[0][0].partition(b"-")[0]) + 1
        client.xadd(names.stream, {b"payload": edited(found[0][1].get(b"payload", TOKEN), how)}, id=f"{n}-0")
    elif where == "type":
        name = {b"entry": names.entry(hashed("k1")), b"lease": names.lease(hashed("leased"))}.get(which)
        name = name or getattr(names, which.decode())
        client.delete(name)
        client.rpush(name, edited(b"something else", how))
    else:
        name = {"entry": names.entry(which), "lease": names.lease(hashed("leased")), "failure": names.failure(OTHER)}
        with contextlib.suppress(redis.ResponseError):  # another change made it a list
            client.set(name[where], edited(client.get(name[where]) or TOKEN, how))


@examples(60)
@given(st.lists(st.tuples(PLACES, edits), min_size=1, max_size=3), acts_)
def test_fuzz_keys(far: Far, changes: list[tuple[tuple[str, bytes], list[Edit]]], acts: list[int]) -> None:
    """Whatever lies under the keys of the store and of the bus: a miss, or an error of the library; and the store keeps
    again what it is given."""
    far.client.delete(*far.client.keys(far.names.pattern), far.names.numbers)
    far.fill()
    with busy_at_most(10):
        for (where, which), how in changes:
            with contextlib.suppress(redis.ResponseError):  # the damage before this one does not allow it
                damage(far, where, which, how)
        act_and_look(far, acts)
        assert works(far.store)


@pytest.mark.parametrize("epoch", ["z" * 16, "-00000000000000f", "0" * 16, "ABCDEFABCDEFABCD", "00x0000000000000"])
def test_an_epoch_that_is_none(far: Far, epoch: str) -> None:
    """An epoch that nobody has given is another life: everything is stale, and what comes is kept."""
    far.fill()
    far.client.hset(far.names.numbers, "epoch", epoch)
    assert far.value("k0") is None
    assert works(far.store)
    assert far.store.stamp().epoch == far.bus.now().epoch > 0


class Relay:
    """A socket in front of the server's that changes what the server replies.

    Attributes:
        url: of it.
        changes: what happens to a piece of a reply.
        passing: how many pieces pass unchanged before.
    """

    def __init__(self, place: Path, target: Path) -> None:
        self.url = f"unix://{place}"
        self.changes: list[Edit] = []
        self.passing = 0
        self._target = str(target)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(place))
        self._listening.listen()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._listening, selectors.EVENT_READ, None)
            ready.register(self._stopped, selectors.EVENT_READ, None)
            while not self._go_on(ready):
                pass
            for key in list(ready.get_map().values()):
                if key.data is not None:
                    key.fileobj.close()  # type: ignore[union-attr]  # a socket

    def _go_on(self, ready: selectors.BaseSelector) -> bool:
        """Do what is there to do; whether that was the last."""
        for key, _ in ready.select():
            if key.fileobj is self._stopped:
                return True
            if key.data is None:
                self._take(ready)
            else:
                self._pass_on(ready, key.fileobj, key.data)
        return False

    def _take(self, ready: selectors.BaseSelector) -> None:
        near, _ = self._listening.accept()
        far = socket.socket(socket.AF_UNIX)
        far.connect(self._target)
        ready.register(near, selectors.EVENT_READ, (far, False))
        ready.register(far, selectors.EVENT_READ, (near, True))

    def _pass_on(self, ready: selectors.BaseSelector, source: Any, way: tuple[socket.socket, bool]) -> None:
        target, is_reply = way
        with contextlib.suppress(OSError):
            data = source.recv(1 << 16)
            if data:
                target.sendall(self._changed(data) if is_reply else data)
                return
        for each in (source, target):
            with contextlib.suppress(KeyError, ValueError):
                ready.unregister(each)
            each.close()

    def _changed(self, data: bytes) -> bytes:
        self.passing -= 1
        return edited(data, self.changes) if self.passing < 0 else data

    def end(self) -> None:
        """Stop, and wait for that."""
        self._stop.send(b"x")
        self._thread.join(GENEROUS_S)
        for each in (self._listening, self._stop, self._stopped):
            each.close()


@pytest.fixture
def relay(tmp_path: Path, shared_server: Server) -> Iterator[Relay]:
    """In front of the shared server."""
    relay = Relay(tmp_path / "r", shared_server.path)
    yield relay
    relay.end()


BRIEF_S = 0.05


@examples(150)
@given(edits, st.integers(0, 3), acts_)
def test_fuzz_replies(far: Far, relay: Relay, changes: list[Edit], passing: int, acts: list[int]) -> None:
    """Whatever comes from the server: a miss, or an error of the library, in the time that a call may take."""
    if not far.client.exists(far.names.numbers):
        far.fill()
    relay.changes, relay.passing = changes, passing
    link = Link(address_of(relay.url), BRIEF_S)
    prefix = far.names.numbers.decode().partition(":")[2].partition("}")[0]
    there = Far(RedisStore(link, prefix, host_time=True), RedisBus(link, prefix), far.names, far.client)
    began_s = time.monotonic()
    with busy_at_most(10):
        act_and_look(there, acts[:2])
        with contextlib.suppress(ZooCacheError), contextlib.closing(there.bus.listen()) as ear:
            far.bus.send(MESSAGE, paths_of("a"))
            ear.hear(BRIEF_S)
    link.close()
    assert time.monotonic() - began_s < GENEROUS_S
