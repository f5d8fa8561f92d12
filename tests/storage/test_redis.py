"""The Redis store: that it is one, at once and later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.storage.contract import FarContract, Opened, opening
from zoocache.server.link import Link
from zoocache.server.url import address_of
from zoocache.storage.redis import RedisStore

GENEROUS_S = 20.0


class TestRedis(FarContract):
    """It is a store, for threads."""

    @pytest.fixture
    def opened(self, redis_url: str, prefix: str) -> Iterator[Opened]:
        yield from opening(lambda: RedisStore(Link(address_of(redis_url), GENEROUS_S), prefix, host_time=True))


class Later:
    """A store whose methods are all awaited, in one event loop until it is closed."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._await(name, *args, **kwargs)

    def _await(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(self._store.later(name, *args, **kwargs))

    def close(self) -> None:
        """The next call begins in another loop."""
        self._store.close()
        if self._loop is not None:
            self._loop.close()
            self._loop = None


class TestRedisLater(FarContract):
    """It is a store, for tasks."""

    @pytest.fixture
    def opened(self, redis_url: str, prefix: str) -> Iterator[Opened]:
        stores = opening(lambda: Later(RedisStore(Link(address_of(redis_url), GENEROUS_S), prefix, host_time=True)))
        yield from stores
