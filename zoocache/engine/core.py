"""The engine of one process: it alone knows trie, flights, live objects and store together.

Which order decides what (docs/consistency.md):

    live objects, fills under way, followers    the host's order: `seq` and `changed` in the segment
    entries of a store                          the store's own order: stamps and numbers beside the entries

An invalidation goes to the store first and to the segment second, then it returns. A fill and a load note `seq` (and
the store's stamp) before they begin. So whatever a call that starts after the return finds was noted after both.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from zoocache import clock, deps, keys
from zoocache.config import Settings
from zoocache.engine import fill as fills
from zoocache.engine import keeping
from zoocache.engine.live import THAW, VALUE, Entry
from zoocache.engine.table import LiveTable
from zoocache.engine.touches import Touches
from zoocache.errors import Busy, SegmentError, StorageError, StorageIsFull
from zoocache.flight import Flights
from zoocache.shm.segment import Orphaned, attach
from zoocache.storage import FOREVER, Life, Store
from zoocache.trie import Trie, target_of, words_of

log = logging.getLogger("zoocache")
T = TypeVar("T")

LIVE_BYTES = 64 * 1024 * 1024
"""How much packed data a process holds live in front of a store; without a store nothing is counted."""

LOOK_S = 0.1
"""How often, in passing, a process looks whether its segment still has its name, and shows its counters."""

WARN_S = 10.0
"""A storage that does not answer is warned of at most so often."""

REATTACHMENTS = 50

LIVES = 256
"""So many combinations of ttl and age limit are remembered as a Life."""


class Engine:
    """See the head of this file.

    Attributes:
        settings: as configured.
        trie: of the present segment; replaced, under `_reattaching`, when the segment is found orphaned.
        store: None in memory.
        lives, flights, touches: of this process.
        report: tells hits, misses and fills of this process.
    """

    def __init__(self, settings: Settings, open_store: Callable[[Settings], Store | None]) -> None:
        self.settings = settings
        self.store = open_store(settings)
        self.trie = Trie(attach(settings.prefix or "", settings.shm_size))
        self.flights = Flights()
        self.touches = Touches(self.store)
        self.lives = (
            LiveTable(settings.max_entries, None, None) if self.store is None
            else LiveTable(settings.max_entries, LIVE_BYTES, self.touches.add)
        )  # fmt: skip
        self.report: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        self._reattaching = threading.RLock()
        self._looked_s = 0.0
        self._warned_s = -WARN_S
        self._prunes = bool(settings.prune_after_ms)
        self._lives: dict[tuple[float | None, float | None], Life] = {}

    # The segment.

    def on_segment(self, action: Callable[[Trie], T]) -> T:
        """Do `action` on the host's trie; attach anew if the segment turns out to be an orphan.

        Raises:
            SegmentError: it is removed again and again.
        """
        for _ in range(REATTACHMENTS):
            trie = self.trie
            try:
                return action(trie)
            except Orphaned:
                self.reattach(trie)
        raise SegmentError(
            errno.EAGAIN,
            f"segment {self.trie.segment.name} was removed {REATTACHMENTS} times during one operation, which was not "
            "done; is something removing it again and again?",
        )

    def reattach(self, orphan: Trie) -> None:
        """Let go of an orphaned segment. What was live under it is dead: its words say so to every reader."""
        with self._reattaching:
            if self.trie is not orphan:
                return
            log.warning("zoocache: segment %s was removed under this process; attaching anew", orphan.segment.name)
            self.trie = Trie(attach(self.settings.prefix or "", self.settings.shm_size))
            self.lives.clear()
            orphan.segment.leave()

    def look_around(self) -> None:
        """In passing: is the segment still the host's, and how are we doing. Now and then, or if it was retired: to
        those who stay on a retired segment nobody tells anything any more."""
        now_s, trie = time.monotonic(), self.trie
        if now_s - self._looked_s < LOOK_S and trie.is_live():
            return
        self._looked_s = now_s
        if not trie.segment.is_current():
            trie.segment.retire()
            self.reattach(trie)
        elif trie.segment.claim_slot(clock.wall_ms()):
            trie.segment.slots.report(*self.report(), clock.up_ms())

    def prune_in_passing(self) -> None:
        """The automatic prune, by one process of the host at a time, if it is due and nobody is writing.

        Fills and invalidations come by here, hits do not: a prune of a large trie takes many milliseconds.
        """
        if not self._prunes:
            return
        settings, store = self.settings, self.store
        moment = clock.now()
        dropped = self.on_segment(
            lambda trie: trie.prune_if_due(settings.prune_after_ms, settings.auto_prune_interval_ms, moment)
        )
        if dropped and store is not None:
            self.guarded(store.prune, settings.prune_after_ms, moment)

    # The store.

    def guarded(self, action: Callable[..., T], *args: Any) -> T | None:
        """A store's action that the caller can do without: None, and a warning now and then, where it fails."""
        try:
            return action(*args)
        except (StorageError, Busy) as error:
            self.warn(error)
            return None

    def warn(self, error: Exception) -> None:
        """Tell the log that the storage fails; a value that can never fit is the caller's to know, not the log's."""
        if isinstance(error, StorageIsFull):
            raise error
        now_s = time.monotonic()
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            log.warning("zoocache: the storage does not answer, going on without it: %s", error)

    def life_of(self, ttl_s: float | None, max_age_s: float | None) -> Life:
        """The life of an entry with these options; None: the configuration's."""
        options = (ttl_s, max_age_s)
        life = self._lives.get(options)
        if life is None:
            if len(self._lives) >= LIVES:  # somebody computes a ttl for each entry
                self._lives.clear()
            life = self._lives[options] = self._life_of(ttl_s, max_age_s)
        return life

    def _life_of(self, ttl_s: float | None, max_age_s: float | None) -> Life:
        settings = self.settings
        ttl_ms = settings.default_ttl_ms if ttl_s is None else _ms(ttl_s)
        age_ms = settings.max_age_ms if max_age_s is None else _ms(max_age_s)
        if not ttl_ms and not age_ms:
            return FOREVER
        return Life(ttl_ms, settings.read_extend_ttl and bool(ttl_ms), age_ms)

    # Questions.

    def believed(self, key: str) -> Entry | None:
        """The live entry of a key, if it is valid and may be handed to this caller; waits for nobody on x86-64."""
        entry = self.lives.get(key)
        if entry is not None and self.believes_lives() and self.lives.recheck(entry):
            return entry
        return None

    def believes_lives(self) -> bool:
        """Whether this caller may have live objects, and what other flights of the process brought.

        They follow the host's order. A fill with a store has noted a stamp of the store's order, and an invalidation
        tells the store first: between its two halves the store's n has moved, and a live object still looks valid.
        An outer value built on it would be kept under a stamp that says it was built afterwards. So what a fill
        builds on comes from the store, which judges it in the order of the stamp, or is computed.
        """
        return self.store is None or fills.current() is None

    def find(self, key: str) -> tuple[Any] | None:
        """The value kept under a key, in a tuple of one; None: a miss."""
        entry = self.believed(key)
        if entry is not None:
            value = entry[VALUE]
            return (value if entry[THAW] is None else entry[THAW](value),)
        self.look_around()
        found = keeping.load(self, key, keys.digest(key), share=False)
        return None if found is None else (found[1],)

    def tag_version(self, tag: str) -> int:
        """See `zoocache.get_tag_version`."""
        return self.on_segment(lambda trie: trie.version(tag))

    # Mutations.

    def invalidate(self, tags: Sequence[str]) -> None:
        """Overtake everything that depends on the tags or on anything below them.

        Raises:
            InvalidTag: a tag breaks the rules; nothing was invalidated.
        """
        targets = [target_of(tag) if type(tag) is str else target_of(deps.check_tag(tag)) for tag in tags]
        if self.store is not None:
            self.store.invalidate([deps.own_path(tag) for tag in tags], clock.now())
        wall_ms = clock.wall_ms()
        try:
            self.trie.invalidate(targets, wall_ms)
        except Orphaned:
            self.on_segment(lambda trie: trie.invalidate(targets, wall_ms))
        self.prune_in_passing()

    def overtake_key(self, digest: bytes) -> int:
        """Make what is live under a key stale in every process; returns the host's number of that."""
        target = (*words_of(digest), b"")
        return self.on_segment(lambda trie: trie.invalidate([target], clock.wall_ms()))

    def delete(self, key: str) -> bool:
        """Drop a key everywhere on the host; whether a valid entry was there."""
        digest = keys.digest(key)
        entry = self.lives.get(key)
        there = entry is not None and self.lives.recheck(entry)
        self.flights.overtake(key)
        if self.store is not None:
            there = self.store.delete(digest, clock.now()) or there
        self.overtake_key(digest)
        if entry is not None:
            self.lives.drop(entry)
        return there

    def clear(self) -> None:
        """Drop all entries and reset the trie, here and in every process of the host."""
        self.flights.overtake_all()
        if self.store is not None:
            self.store.clear()
        self.on_segment(lambda trie: trie.clear(clock.now().wall_ms))
        self.lives.clear()

    def prune(self, older_than_ms: int) -> int:
        """Drop what was last invalidated longer ago, in the trie and in the store; returns how many trie nodes."""
        moment = clock.now()
        dropped = self.on_segment(lambda trie: trie.prune(older_than_ms, moment.wall_ms))
        if self.store is not None:
            self.store.prune(older_than_ms, moment)
        self.lives.expire()
        return dropped

    # Life of the process.

    def after_fork(self) -> None:
        """In a forked child, before anything else; the segment first, since what follows may raise."""
        self.trie.segment.after_fork()
        self._reattaching = threading.RLock()
        self.flights.after_fork()
        self.lives.after_fork()
        fills.after_fork()
        self.touches.after_fork()
        if self.store is not None:
            self.store.after_fork()

    def close(self) -> None:
        """Write out what is pending and let go."""
        self.lives.close()
        self.touches.flush_if_any()
        if self.store is not None:
            self.guarded(self.store.close)
        self.trie.segment.leave()


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
