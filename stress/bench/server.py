"""A Redis server for the bench, a host of several that use it, and redis-py to compare with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zoocache
from stress.bench.place import Place
from zoocache import runtime
from zoocache.shm.layout import H_LISTENER_PID

PATIENCE_S = 60.0
STEP_S = 0.005


def missing() -> str:
    """Why there is no server, or nothing to compare with; empty if both are there."""
    try:
        from tests import servers
    except ImportError as error:
        return f"{error.name} is not installed"
    try:
        servers.binary()
    except AssertionError as error:
        return str(error)
    return ""


@contextmanager
def started() -> Iterator[str]:
    """The URL of a new server, for a while."""
    from tests.servers import Servers

    running = Servers()
    try:
        yield running.start().url
    finally:
        running.end()


@contextmanager
def client(url: str) -> Iterator[Any]:
    """A client of redis-py."""
    import redis

    with redis.Redis.from_url(url) as found:
        yield found


def be_host(place: Place, storage: str, work: Callable[[], Any], **options: Any) -> Any:
    """What `work()` returns on a host whose listener, if it has one, has caught up; the listener ends with it."""
    zoocache.configure(**place.settings(storage, **options))
    try:
        if "bus_url" in options:
            _until(_is_listened)
        return work()
    finally:
        _end_listener()
        zoocache.reset()


def _is_listened() -> bool:
    engine = runtime.engine()
    assert engine.hosts is not None
    zoocache.get("anything")  # who uses the cache looks after its listener
    return engine.trie.segment.has_listener() and engine.hosts.has_caught_up(engine.trie)


def _end_listener() -> None:
    segment = runtime.engine().trie.segment
    _until(lambda: not segment.has_listener() or segment.words[H_LISTENER_PID])
    if segment.has_listener():
        os.kill(segment.words[H_LISTENER_PID], signal.SIGTERM)
        _until(lambda: not segment.has_listener())


def _until(condition: Callable[[], object]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError("the host's listener did not do what was expected of it")
        time.sleep(STEP_S)
