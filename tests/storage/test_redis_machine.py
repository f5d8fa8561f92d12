"""The Redis store against a plain dict, with threads' and tasks' methods in turn."""

from __future__ import annotations

import os
import secrets

import pytest
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.fuzz import LONG, is_long
from tests.storage.machine import StoreMachine
from tests.storage.test_redis import GENEROUS_S, Later
from zoocache.server.link import Link
from zoocache.server.url import address_of
from zoocache.storage import Store
from zoocache.storage.redis import RedisStore


class RedisMachine(StoreMachine):
    """Two hosts' stores: one is called by a thread, one by tasks."""

    url: str
    tells_n = True

    def open(self) -> list[Store]:
        """Under a prefix of this run's own."""
        self.prefix = f"machine{os.getpid()}n{secrets.token_hex(4)}"
        return [self.opened(), Later(self.opened())]  # type: ignore[list-item]

    def opened(self) -> RedisStore:
        """A store with a link of its own."""
        return RedisStore(Link(address_of(self.url), GENEROUS_S), self.prefix, host_time=True)

    def teardown(self) -> None:
        """Leave nothing in the server."""
        for store in getattr(self, "stores", ()):
            store.clear()
            store.close()

    @rule()
    def close(self) -> None:
        """A process lets go, and comes again."""
        self.store().close()


@pytest.mark.timeout(0 if is_long() else 300)
def test_a_redis_store_is_a_dict(redis_url: str) -> None:
    """Whatever is done in whatever order, the store and the dict tell the same."""
    RedisMachine.url = redis_url
    most = 25 * (LONG if is_long() else 1)
    run_state_machine_as_test(RedisMachine, settings=settings(max_examples=most, stateful_step_count=40, deadline=None))
