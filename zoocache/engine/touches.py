"""Reads that extend a sliding ttl in a store, gathered so that there is no write per read.

A live entry reports itself at most every eighth of its ttl (engine/live.py). The first BURST reports of a second are
written at once, so that nothing waits in a process that may fall idle; beyond that they are written BATCH at a time,
with the next fill, or at the end. A report that meets another writer waits here: a hit waits for nobody.
"""

from __future__ import annotations

import logging
import time

from zoocache import clock
from zoocache.errors import Busy, StorageError
from zoocache.storage import Store

log = logging.getLogger("zoocache")

BURST = 64
BATCH = 64


class Touches:
    """The reports of one process that are not written yet."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._pending: dict[bytes, None] = {}
        self._second = 0
        self._written = 0

    def add(self, digest: bytes) -> None:
        """An entry was read and its ttl began anew."""
        self._pending[digest] = None
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written < BURST or len(self._pending) >= BATCH:
            self._written += 1
            self.flush_if_any()

    def flush_if_any(self) -> None:
        """Write what is pending, unless somebody else is writing."""
        if not self._pending or self._store is None:
            return
        pending, self._pending = self._pending, {}
        try:
            written = self._store.touch(list(pending), clock.now(), wait=False)
        except (StorageError, Busy) as error:
            log.debug("zoocache: %d reads could not be noted in the storage: %s", len(pending), error)
            written = True  # the entries expire a little early; holding on to them would only grow
        if not written:
            self._pending = {**pending, **self._pending}

    def after_fork(self) -> None:
        """In a forked child: the parent writes its own."""
        self._pending = {}
