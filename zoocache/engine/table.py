"""The table of the live objects of a process: key -> entry, with its bounds.

`_mutex` guards the table, its queue of expiries and its count of bytes. It is an RLock: a signal handler or a
finalizer may call a cached function while its thread is inside. So between any two steps here an entry may have gone:
what is taken out is taken by one step that bears its absence. Whoever asks for an entry takes no lock.

What goes when: expired entries, a few with each that comes; beyond the bounds the one that was not used since the hand
of the clock last passed (CLOCK; Corbato 1968); without bounds what has become stale, found by a slow sweep.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from zoocache.engine import fill
from zoocache.engine.live import (
    HEAD,
    LIVE,
    SEQ,
    UNTIL,
    UNUSED,
    WORDS,
    Entry,
    Live,
    monotonic,
    revalidate,
    soft_end_s,
    touch,
    touch_s,
)
from zoocache.shm.layout import H_SEQ

if TYPE_CHECKING:
    from zoocache.flight import Flight

EXPIRED_AT_ONCE = 4
SWEPT_AT_ONCE = 16
CLEARINGS = 3

FORGOTTEN = 256
"""So many notes of expiry may stand for entries that are gone, beside one for each that is there."""


class Watched(NamedTuple):
    """What makes live objects doubtful though nothing on this host says so: that other hosts are not heard.

    Attributes:
        holds: whether they may be believed.
        pause_s: how often that is asked.
    """

    holds: Callable[[], bool]
    pause_s: float


class LiveTable:
    """The live objects of one process.

    Args:
        max_entries: how many at most; None: as many as come.
        max_bytes: how much they may be counted as at most; None: no limit.
        touched: told the digest of an entry whose sliding ttl began anew.
        watched: None: what this host knows is all there is.
    """

    def __init__(
        self, max_entries: int | None, max_bytes: int | None, touched: Callable[[bytes], object] | None,
        watched: Watched | None = None,
    ) -> None:  # fmt: skip
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bounded = max_entries is not None or max_bytes is not None
        self._touched = touched
        self._watched = watched
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._expiries: list[tuple[float, str]] = []
        self._bytes = 0
        self._kept = 0
        self._mutex = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """The entry of a key, valid or not."""
        return self._entries.get(key)

    def keep(self, live: Live, seq: int, flight: Flight | None = None) -> Entry:
        """Take an entry in, in place of the one with its key, unless its flight is not kept.

        That is looked at under the mutex: who overtakes the flight, and comes for the entry after that, finds it here
        or has prevented it. A look before this call would be too early: a `set` in between would be lost.

        Args:
            live: with its life set.
            seq: the host's moment, taken before its sight.
            flight: that has brought it; None: nothing can overtake it any more.

        Returns:
            The entry.
        """
        key, ends_s, entries = live.key, live.ends_s, self._entries
        until_s = UNUSED if self._bounded or self._watched is not None else ends_s and soft_end_s(live)
        entry: Entry = [live.trie.words, seq, live.value, live.thaw, until_s, live]
        with self._mutex:
            if flight is not None and not flight.is_kept:
                return entry
            self.forget(key)
            entries[key] = entry
            if live.payload is not None:
                self._bytes += len(live.payload)
            if ends_s is not None:
                self._expect(ends_s, key)
            self._kept = kept = self._kept + 1
            if self._expiries or self._bounded or not kept % SWEPT_AT_ONCE:
                self._give_back()
        return entry

    def _expect(self, ends_s: float, key: str) -> None:
        """Note when an entry expires. Notes of entries that are gone stay, but not many more than there are entries."""
        heapq.heappush(self._expiries, (ends_s, key))
        if len(self._expiries) > 2 * len(self._entries) + FORGOTTEN:
            ends = [(entry[LIVE].ends_s, key) for key, entry in self._oldest(len(self._entries))]
            if ends:
                self._expiries = [(ends_s, key) for ends_s, key in ends if ends_s is not None]
                heapq.heapify(self._expiries)

    def put_in_front(self, entry: Entry, table: dict[Any, Entry], key: Any, types: Sequence[type]) -> None:
        """Let a wrapper find the entry by its raw arguments."""
        live = entry[LIVE]
        with self._mutex:
            if live.front is None and self._entries.get(live.key) is entry:
                live.front = (table, key)
                entry[HEAD:] = types
                table[key] = entry

    def drop(self, entry: Entry) -> None:
        """Forget an entry."""
        live: Live = entry[LIVE]
        with self._mutex:
            if live.front is not None:
                table, key = live.front
                if table.get(key) is entry:
                    table.pop(key, None)  # a signal handler's call may drop it between any two steps
            if self._entries.get(live.key) is entry and self._entries.pop(live.key, None) is not None:
                self._bytes -= len(live.payload or b"")

    def forget(self, key: str) -> None:
        """Forget the entry of a key, if there is one."""
        with self._mutex:
            entry = self._entries.get(key)
            if entry is not None:
                self.drop(entry)

    def clear(self) -> None:
        """Forget all."""
        with self._mutex:
            self._expiries.clear()
            self._drop_all()

    def _drop_all(self) -> None:  # loops stand in frames that hold no lock: see shm/lock.py
        for _ in range(CLEARINGS):
            for _, entry in self._oldest(len(self._entries)):
                self.drop(entry)

    def close(self) -> None:
        """Forget all, and hold nothing any more: a thread that is still computing may come with a value."""
        with self._mutex:
            self._max_entries, self._bounded = 0, True
            self.clear()

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._mutex = threading.RLock()

    def expire(self) -> None:
        """Drop all that has expired."""
        with self._mutex:
            self._expire_all(monotonic())

    def _expire_all(self, now_s: float) -> None:
        while self._expiries and self._expiries[0][0] <= now_s:
            self._expire_head(now_s)

    def recheck(self, entry: Entry) -> bool:
        """Whether an entry that the fast path did not trust is valid after all; waits for nobody on x86-64.

        Returns:
            True: hand it out. False: it is stale or expired, and forgotten.
        """
        until_s = entry[UNTIL]
        if until_s is not None and not self._extend(entry, until_s):
            self.drop(entry)
            return False
        if entry[WORDS][H_SEQ] != entry[SEQ] and not revalidate(entry):
            self.drop(entry)
            return False
        if fill.ACTIVE:
            fill.note(entry[LIVE].tags)
        return True

    def _extend(self, entry: Entry, until_s: float) -> bool:
        """Mark as used, expire or touch; whether it lives."""
        live: Live = entry[LIVE]
        live.used = True
        watched = self._watched
        if watched is not None and not (watched.holds() and self._entries.get(live.key) is entry):
            return False  # a look since the caller took the entry out may have dropped all there was
        if live.ends_s is None:
            entry[UNTIL] = None if watched is None else monotonic() + watched.pause_s
            return True
        now_s = monotonic()
        if now_s >= live.ends_s:
            return False
        if live.life.sliding and now_s >= live.touched_s + touch_s(live.life):
            touch(live, now_s)
            if self._touched is not None:
                self._touched(live.digest)
        entry[UNTIL] = self._next_look_s(live, now_s)
        return True

    def _next_look_s(self, live: Live, now_s: float) -> float | None:
        """When the fast path must come back to an entry that ends."""
        end_s = soft_end_s(live)
        if self._watched is None or end_s is None:
            return end_s
        return min(end_s, now_s + self._watched.pause_s)

    def _give_back(self) -> None:
        """Drop a few expired and stale entries, and what is beyond the bounds."""
        if self._expiries:
            self._expire_a_few()
        if self._bounded:
            while self._is_over():
                self._turn_clock()
        elif not self._kept % SWEPT_AT_ONCE:
            self._sweep()

    def _sweep(self) -> None:
        """Look at as many of the oldest entries as came since the last time: what nobody asks for any more must not
        stay for ever when it has become stale."""
        for key, entry in self._oldest(SWEPT_AT_ONCE):
            if entry[WORDS][H_SEQ] == entry[SEQ] or revalidate(entry):
                self._to_end(key)
            else:
                self.drop(entry)

    def _oldest(self, count: int) -> list[tuple[str, Entry]]:
        """The entries that have stood here for longest; none if a finalizer changed the table meanwhile, for making the
        list may set the garbage collector off."""
        try:
            return list(islice(self._entries.items(), count))
        except RuntimeError:
            return []

    def _to_end(self, key: str) -> None:
        with contextlib.suppress(KeyError):
            self._entries.move_to_end(key)

    def _expire_a_few(self) -> None:
        now_s = monotonic()
        for _ in range(EXPIRED_AT_ONCE):
            if not self._expiries or self._expiries[0][0] > now_s:
                break
            self._expire_head(now_s)

    def _expire_head(self, now_s: float) -> None:
        try:
            _, key = heapq.heappop(self._expiries)
        except IndexError:
            return
        entry = self._entries.get(key)
        if entry is None:
            return
        ends_s = entry[LIVE].ends_s
        if ends_s is None or ends_s > now_s:
            if ends_s is not None:
                heapq.heappush(self._expiries, (ends_s, key))
            return
        self.drop(entry)

    def _is_over(self) -> bool:
        many = self._max_entries is not None and len(self._entries) > self._max_entries
        much = self._max_bytes is not None and self._bytes > self._max_bytes and len(self._entries) > 1
        return many or much

    def _turn_clock(self) -> None:
        """Look at the oldest entry: used since the last time and not stale, it goes to the end; else it goes."""
        oldest = self._oldest(1)
        if not oldest:
            return
        key, entry = oldest[0]
        live: Live = entry[LIVE]
        if live.used and (entry[WORDS][H_SEQ] == entry[SEQ] or revalidate(entry)):
            live.used = False
            entry[UNTIL] = UNUSED
            self._to_end(key)
        else:
            self.drop(entry)
