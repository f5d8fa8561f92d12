"""Reads that extend a sliding ttl in a store, gathered so that there is no write per read.

A live entry reports itself at most every eighth of its ttl (engine/live.py). Where the store is near, the first BURST
reports of a second are written at once, so that nothing waits in a process that may fall idle; beyond that they are
written BATCH at a time, with the next fill, or at the end. A report that meets another writer waits here: a hit waits
for nobody.

A store that is far away is told at most once in PAUSE_S, by who can wait for it: a thread in passing, a task by its
steps (`taken` and `told`).
"""

from __future__ import annotations

import time

from zoocache import clock
from zoocache.errors import Busy, StorageError
from zoocache.log import log
from zoocache.storage import Store

BURST = 64
BATCH = 64
PAUSE_S = 0.25


class Touches:
    """The reports of one process that are not written yet.

    Args:
        store: None: nothing slides but what this process holds.
        far: whether to ask the store means to wait for it.
    """

    def __init__(self, store: Store | None, *, far: bool = False) -> None:
        self._store = store
        self._far = far
        self._pending: dict[bytes, None] = {}
        self._second = 0
        self._written = 0
        self._due_s = 0.0

    def add(self, digest: bytes) -> None:
        """An entry was read and its ttl began anew."""
        self._pending[digest] = None
        if self._far:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written < BURST or len(self._pending) >= BATCH:
            self._written += 1
            self.flush_if_any()

    @property
    def is_due(self) -> bool:
        """Whether a store that is far away should be told now."""
        return self._far and bool(self._pending) and time.monotonic() >= self._due_s

    def taken(self) -> list[bytes]:
        """What is pending, to be told to a store that is far away."""
        self._due_s = time.monotonic() + PAUSE_S
        pending, self._pending = self._pending, {}
        return list(pending)

    def flush_if_any(self) -> None:
        """Write what is pending, unless somebody else is writing."""
        if not self._pending or self._store is None:
            return
        pending = self.taken()
        try:
            written = self._store.touch(pending, clock.now(), wait=False)
        except (StorageError, Busy) as error:
            log.debug("zoocache: %d reads could not be noted in the storage: %s", len(pending), error)
            written = True  # the entries expire a little early; holding on to them would only grow
        if not written:
            self._pending = {**dict.fromkeys(pending), **self._pending}

    def after_fork(self) -> None:
        """In a forked child: the parent writes its own."""
        self._pending = {}
