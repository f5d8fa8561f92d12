"""The LMDB store against a plain dict."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tests.fuzz import LONG, is_long
from tests.storage.machine import StoreMachine
from tests.storage.steps import BOOT, store_at
from zoocache.clock import Now
from zoocache.storage import Store

MEMORY = Path("/dev/shm")
FOR_NUMBERS_MS = 10**15
"""No number is so old."""


class LmdbMachine(StoreMachine):
    """Two processes' stores (here in one), on a host whose clocks jump and that starts again."""

    def open(self) -> list[Store]:
        """In a directory of this run's own."""
        self.place = Path(tempfile.mkdtemp(prefix="zoomachine-", dir=MEMORY if MEMORY.is_dir() else None))
        return [store_at(self.place, BOOT), store_at(self.place, BOOT)]

    def teardown(self) -> None:
        """Remove it."""
        if hasattr(self, "place"):
            shutil.rmtree(self.place)

    @rule(ms=st.sampled_from([-5000, -1, 3000]))
    def set_the_clock(self, ms: int) -> None:
        """Somebody sets the wall clock."""
        self.give_back()
        self.now = self.now._replace(wall_ms=self.now.wall_ms + ms)

    def give_back(self) -> None:
        """What has expired, and would not have by the clock that counts from here on, is gone: any save may have swept
        it, so nobody could tell whether it is there."""
        if any(self.living(key) is None for key in self.entries):
            self.store().prune(FOR_NUMBERS_MS, self.now)
            self.entries = {key: kept for key, kept in self.entries.items() if self.living(key)}

    @rule()
    def close_and_open(self) -> None:
        """A process ends in order, another one comes."""
        self.stores[0].close()
        self.stores[0] = store_at(self.place, self.now.boot)

    @rule()
    def reboot(self) -> None:
        """All processes end in order, and the machine starts again."""
        self.give_back()
        for store in self.stores:
            store.close()
        self.now = Now(self.now.wall_ms + 10, 1000, self.now.boot + 1)
        self.stores = [store_at(self.place, self.now.boot), store_at(self.place, self.now.boot)]

    @invariant()
    def only_entries_have_lives(self) -> None:
        """What is noted of touches belongs to entries that are there, and is counted right."""
        attached = self.store()._access.here()
        found = [bytes(key) for key in attached.entries.begin().cursor().iternext(values=False)]
        lives = {key[:16] for key in found if len(key) == 17}
        assert lives <= {key for key in found if len(key) == 16}
        assert len(found) - 1 - len(lives) == self.store().count()


TestLmdbMachine = pytest.mark.timeout(0 if is_long() else 300)(LmdbMachine.TestCase)
TestLmdbMachine.settings = settings(max_examples=60 * (LONG if is_long() else 1), stateful_step_count=50, deadline=None)
