"""The engine of one process: it alone knows trie, flights, live objects and store together.

Which order decides what (docs/consistency.md):

    live objects, fills under way, followers    the host's order: `seq` and `changed` in the segment
    entries of a store                          the store's own order: stamps and numbers beside the entries

An invalidation goes to the store first and to the segment second, then it returns. A fill and a load note `seq` (and
the store's stamp) before they begin. So whatever a call that starts after the return finds was noted after both.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from zoocache import clock, keys
from zoocache.config import Settings
from zoocache.engine import fill as fills
from zoocache.engine import keeping
from zoocache.engine.effects import Ask, Steps
from zoocache.engine.hosts import Hosts
from zoocache.engine.live import Entry
from zoocache.engine.table import LiveTable, Watched
from zoocache.engine.touches import Touches
from zoocache.engine.watch import Watch
from zoocache.errors import Busy, SegmentError, StorageError, StorageIsFull
from zoocache.flight import Flights
from zoocache.forks import undivided
from zoocache.log import log
from zoocache.shm.attachment import attach
from zoocache.shm.segment import Orphaned
from zoocache.storage import FOREVER, FarStore, Life, NearStore, Store
from zoocache.trie import Trie

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


class Outside(NamedTuple):
    """What an engine has beside its host's segment.

    Attributes:
        near: a store on this host.
        far: one of which to ask it means to wait for another machine. Neither: entries lie in memory.
        hosts: what crosses to other hosts; None: nothing does.
        ensure_listener: sees that the host of a segment has a listener; whether it has.
    """

    near: NearStore | None = None
    far: FarStore | None = None
    hosts: Hosts | None = None
    ensure_listener: Callable[[Trie], bool] = lambda _trie: False


class Engine:
    """See the head of this file.

    Attributes:
        settings: as configured.
        trie: of the present segment; replaced, under `_reattaching`, when the segment is found orphaned.
        near, far, hosts: see Outside.
        store: one of the two, or None.
        holds_lives: whether invalidations of other hosts reach the live objects, or there are none.
        lives, flights, touches: of this process.
        report: tells hits, misses and fills of this process.
        troubles: how often the storage failed.
        left_leases: digest -> token, of callers that were interrupted (zoocache.engine.leased).
    """

    def __init__(self, settings: Settings, outside: Outside) -> None:
        self.settings = settings
        self.near, self.far, self.hosts, ensure = outside
        self.store: Store | None = self.far or self.near
        self.holds_lives = self.far is None or settings.bus_url is not None
        self.trie = self._attached()
        if self.far is not None and self.hosts is not None:
            hosts = self.hosts
            self.far.compare_with(lambda: hosts.glimpse(self.trie))
        self.flights = Flights()
        self.touches = Touches(self.store, far=self.far is not None)
        self._watch: Watch | None = None
        if self.hosts is not None:
            self._watch = Watch(self.hosts, ensure, self._drop_lives, settings.max_bus_lag_ms)
        watched = Watched(self.watch, self._watch.pause_s) if self._watch is not None and self.holds_lives else None
        self.lives = (
            LiveTable(settings.max_entries, None, None, watched) if self.store is None
            else LiveTable(settings.max_entries, LIVE_BYTES, self.touches.add, watched)
        )  # fmt: skip
        self.report: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        self._reattaching = threading.RLock()
        self._looked_s = 0.0
        self._warned_s = -WARN_S
        self._prunes = bool(settings.prune_after_ms)
        self.troubles = 0
        self.left_leases: dict[bytes, bytes] = {}
        self._lives: dict[tuple[float | None, float | None], Life] = {}

    # The segment.

    def _attached(self) -> Trie:
        settings = self.settings
        return Trie(attach(settings.prefix or "", settings.shm_size, host_id=settings.host_id or ""))

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
            orphan.segment.warn_if_removed()
            with undivided():
                self.trie = self._attached()
                self.lives.clear()
                orphan.segment.leave()

    def look_around(self) -> None:
        """In passing: is the segment still the host's, and how are we doing. Now and then, or if it was retired: to
        those who stay on a retired segment nobody tells anything any more."""
        now_s, trie = time.monotonic(), self.trie
        if now_s - self._looked_s < LOOK_S and trie.is_live():
            return
        self._looked_s = now_s
        trie.segment.lock.heal()
        if not trie.segment.is_current():
            trie.segment.retire()
            self.reattach(trie)
        elif trie.segment.claim_slot(clock.wall_ms()):
            trie.segment.slots.report(*self.report(), clock.up_ms())
        if self.hosts is not None:
            self.watch()

    # Other hosts.

    def watch(self) -> bool:
        """In passing: does the host's listener live, and may live objects be believed."""
        return self._watch is None or self._watch.look(self.trie)

    def see_to_sending(self) -> None:
        """After something was left to the host's listener: is there one."""
        if self._watch is not None:
            self._watch.see_to_sending(self.trie)

    def _drop_lives(self) -> None:
        self.lives.clear()

    @property
    def has_listener(self) -> bool:
        """Whether the host had one when this process last looked."""
        return self._watch is not None and self._watch.has_listener

    def takes_from_store(self) -> bool:
        """Whether the store knows all that was invalidated here; see engine/hosts.py."""
        return self.far is None or self.hosts is None or not self.hosts.takes_nothing(self.trie)

    def first_catch_up(self) -> Steps[None]:
        """Before a load from what lies on this host: wait for what it missed while it was away."""
        if self._watch is not None and self.far is None:
            yield from self._watch.first_catch_up(self.trie)

    def may_load(self) -> bool:
        """Whether what lies on this host may be believed: not before the host has heard what it missed."""
        return self._watch is None or self.far is not None or self._watch.may_load(self.trie)

    def prune_in_passing(self) -> None:
        """The automatic prune, by one process of the host at a time, if it is due and nobody is writing.

        Fills and invalidations come by here, hits do not: a prune of a large trie takes many milliseconds.
        """
        if not self._prunes:
            return
        settings, moment = self.settings, clock.now()
        dropped = self.on_segment(
            lambda trie: trie.prune_if_due(settings.prune_after_ms, settings.auto_prune_interval_ms, moment)
        )
        if dropped and self.near is not None:  # one that is far away is pruned by the listener
            self.guarded(self.near.prune, settings.prune_after_ms, moment)

    # The store.

    @property
    def store_name(self) -> str:
        """What a message calls it; no secret."""
        return str(self.settings.storage_path or self.far or "the storage in memory")

    def ask(self, method: str, *args: Any) -> Steps[Any]:
        """A question to the store, for steps that can do without an answer: None where it fails, where it does not know
        all that was invalidated here, or where there is none. ServerRefused is everybody's to know, and raised."""
        if self.store is None:
            return None
        try:
            if self.hosts is not None:
                self.hosts.insist_all_is_told(self.trie)
            return (yield from self.asked(method, *args))
        except (StorageError, Busy) as error:
            self.warn(error)
            return None

    def asked(self, method: str, *args: Any) -> Steps[Any]:
        """A question to the store, which there is; raises what it raises."""
        return (yield Ask(self.far, method, *args)) if self.far is not None else getattr(self.store, method)(*args)

    def tell_touches(self) -> Steps[None]:
        """Write down which entries were read, if it is time to."""
        if self.far is None:
            self.touches.flush_if_any()
        elif self.touches.is_due:
            yield from self.ask("touch", self.touches.taken(), clock.now())

    def guarded(self, action: Callable[..., T], *args: Any) -> T | None:
        """A store's action that the caller can do without: None, and a warning now and then, where it fails."""
        try:
            return action(*args)
        except (StorageError, Busy) as error:
            self.warn(error)
            return None

    def warn(self, error: Exception) -> None:
        """Tell the log that the storage fails; a value that can never fit is the caller's to know, not the log's."""
        if isinstance(error, StorageIsFull) or self.settings.on_storage_error == "raise":
            raise error
        self.tell_log(error)

    def tell_log(self, error: Exception) -> None:
        """Count a failure, and tell the log of it now and then."""
        self.troubles += 1
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

    def find(self, key: str) -> Steps[tuple[Any] | None]:
        """The value kept under a key, in a tuple of one; None: a miss."""
        entry = self.believed(key)
        if entry is not None and (held := keeping.handed_out(self, entry)) is not None:
            return held
        self.look_around()
        found = yield from keeping.load(self, key, keys.digest(key), share=False)
        yield from self.tell_touches()
        return None if found is None else (found[1],)

    def tag_version(self, tag: str) -> int:
        """See `zoocache.get_tag_version`."""
        return self.on_segment(lambda trie: trie.version(tag))

    # Life of the process.

    def after_fork(self) -> None:
        """In a forked child, before anything else; the segment first, since what follows may raise."""
        self.trie.segment.after_fork()
        self._reattaching = threading.RLock()
        self.flights.after_fork()
        self.lives.after_fork()
        fills.after_fork()
        self.left_leases = {}
        self.touches.after_fork()
        if self.hosts is not None:
            self.hosts.after_fork()
        if self.store is not None:
            self.store.after_fork()

    def end_soon(self) -> None:
        """The process is ending, and nobody will close this one: a store on this host is closed after each write."""
        if self.near is not None:
            self.near.close()

    def close(self) -> None:
        """Write out what is pending and let go."""
        self.lives.close()
        self.touches.flush_if_any()
        if self.hosts is not None and not self.trie.segment.outbox.is_empty():
            self.see_to_sending()
        for part in (self.store, self.hosts):
            if part is not None:
                self.guarded(part.close)
        self.trie.segment.leave()


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
