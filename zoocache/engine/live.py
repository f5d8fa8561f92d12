"""Live objects: the decoded values that this process holds, in front of a store or, in memory, all there is.

An **entry** is a list, because the generated wrapper (`zoocache.wrapper`) unpacks it in one instruction:

    [words, seq, value, thaw, until_s, live, *types of the arguments]

    words     the segment's words under which it was validated
    seq       the host's moment at which it was last found valid; the wrapper trusts it while seq stands still
    value     the object, or its packed bytes when `thaw` makes a fresh object of them at every hit
    thaw      None, or bytes -> object
    until_s   None, or the monotonic second at which the wrapper must ask `recheck`
    live      the rest, below

`_mutex` guards the table, its queue of expiries and its count of bytes. It is an RLock: a signal handler or a
finalizer may call a cached function while its thread is inside.

Lock-free: the wrapper and `recheck` read and write entries without a lock. That is safe because an entry's value
never changes (a new value is a new list), and each of the words that do change (seq, until_s) is stored after the
check that it stands for.

`until_s` serves three ends: expiry, the batched extension of a sliding ttl (a touch at most every TOUCH_PARTS-th of
it), and the second chance of a bounded table: an entry not yet marked as used has 0 there, so that its next hit comes
here once and is marked, and hits after that cost nothing more (the CLOCK policy; Corbato 1968).
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from zoocache import deps, keys
from zoocache.engine import fill
from zoocache.shm.layout import H_INSERTS, H_SEQ
from zoocache.shm.segment import LOCK_FREE
from zoocache.storage import FOREVER, Life
from zoocache.trie import UNSEEN, Trie, Words, hash_words, words_of

WORDS, SEQ, VALUE, THAW, UNTIL, LIVE = range(6)
HEAD = 6
Entry = list[Any]

TOUCH_PARTS = 8
UNUSED = 0.0
EXPIRED_AT_ONCE = 4
SWEPT_AT_ONCE = 16

_monotonic = time.monotonic


class Live:
    """What the fast path does not need of an entry.

    It is made when a fill or a load has landed, and is what followers are handed; a table may take it in later.

    Attributes:
        key: full text.
        tags: what it depends on.
        trie, since: where and when its fill began, in the host's order.
        value, thaw: as in the entry.
        payload: the packed value; None without a store.
        life: as it was given.
        sight: which nodes to look at, and for how long (zoocache.trie).
        ends_s: when it expires unless it is touched; `oldest_s` when it does anyhow; `touched_s` when its ttl began.
        used: marked by a hit since the hand of the clock last passed.
        front: (table, key) of the wrapper's table that it stands in, if any.
    """

    __slots__ = (
        "_digest", "_paths", "ends_s", "front", "key", "life", "oldest_s", "payload", "sight", "since", "tags", "thaw",
        "touched_s", "trie", "used", "value",
    )  # fmt: skip

    def __init__(
        self, key: str, tags: tuple[str, ...], trie: Trie, since: int, value: Any,
        thaw: Callable[[Any], Any] | None = None, payload: bytes | None = None, life: Life = FOREVER,
        digest: bytes | None = None,
    ) -> None:  # fmt: skip
        self.key = key
        self.tags = tags
        self.trie = trie
        self.since = since
        self.value = value
        self.thaw = thaw
        self.payload = payload
        self.life = life
        self.sight = UNSEEN
        self.ends_s: float | None = None
        self.oldest_s: float | None = None
        self.touched_s = 0.0
        self.used = False
        self.front: tuple[dict[Any, Entry], Any] | None = None
        self._digest = digest
        self._paths: tuple[Words, ...] | None = None

    @property
    def digest(self) -> bytes:
        """Of the key; made when it is first needed, which in memory may be never."""
        if self._digest is None:
            self._digest = keys.digest(self.key)
        return self._digest

    @property
    def paths(self) -> tuple[Words, ...]:
        """Of all tags, and last the key's own; made when they are first needed."""
        if self._paths is None:
            self._paths = (*map(words_of, deps.paths_of(self.tags)), hash_words(self.digest))
        return self._paths

    def hand_out(self) -> Any:
        """A value for one caller."""
        return self.value if self.thaw is None else self.thaw(self.value)


class LiveTable:
    """The live objects of one process.

    Args:
        max_entries: how many at most; None: as many as come.
        max_bytes: how much they may be counted as at most; None: no limit.
        touched: told the digest of an entry whose sliding ttl began anew.
    """

    def __init__(
        self, max_entries: int | None, max_bytes: int | None, touched: Callable[[bytes], object] | None
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bounded = max_entries is not None or max_bytes is not None
        self._touched = touched
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

    def keep(self, live: Live, seq: int) -> Entry:
        """Take an entry in, in place of the one with its key.

        Args:
            live: with its life set.
            seq: the host's moment, taken before its sight.

        Returns:
            The entry.
        """
        until_s = UNUSED if self._bounded else _soft_end_s(live)
        entry: Entry = [live.trie.words, seq, live.value, live.thaw, until_s, live]
        with self._mutex:
            old = self._entries.get(live.key)
            if old is not None:
                self.drop(old)
            self._entries[live.key] = entry
            if live.payload is not None:
                self._bytes += len(live.payload)
            if live.ends_s is not None:
                heapq.heappush(self._expiries, (live.ends_s, live.key))
            self._give_back()
        return entry

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
                    del table[key]
            if self._entries.get(live.key) is entry:
                del self._entries[live.key]
                self._bytes -= len(live.payload or b"")

    def clear(self) -> None:
        """Forget all."""
        with self._mutex:
            for entry in list(self._entries.values()):
                self.drop(entry)
            self._expiries.clear()

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._mutex = threading.RLock()

    def expire(self) -> None:
        """Drop all that has expired."""
        with self._mutex:
            now_s = _monotonic()
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
        if live.ends_s is None:
            entry[UNTIL] = None
            return True
        now_s = _monotonic()
        if now_s >= live.ends_s:
            return False
        if live.life.sliding and now_s >= live.touched_s + _touch_s(live.life):
            _touch(live, now_s)
            if self._touched is not None:
                self._touched(live.digest)
        entry[UNTIL] = _soft_end_s(live)
        return True

    def _give_back(self) -> None:
        """Drop a few expired and stale entries, and what is beyond the bounds."""
        if self._expiries:
            self._expire_a_few()
        if self._bounded:
            while self._is_over():
                self._turn_clock()
        else:
            self._kept += 1
            if not self._kept % SWEPT_AT_ONCE:
                self._sweep()

    def _sweep(self) -> None:
        """Look at as many of the oldest entries as came since the last time: what nobody asks for any more must not
        stay for ever when it has become stale."""
        for key, entry in list(islice(self._entries.items(), SWEPT_AT_ONCE)):
            if entry[WORDS][H_SEQ] == entry[SEQ] or revalidate(entry):
                self._entries.move_to_end(key)
            else:
                self.drop(entry)

    def _expire_a_few(self) -> None:
        now_s = _monotonic()
        for _ in range(EXPIRED_AT_ONCE):
            if not self._expiries or self._expiries[0][0] > now_s:
                break
            self._expire_head(now_s)

    def _expire_head(self, now_s: float) -> None:
        _, key = heapq.heappop(self._expiries)
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
        key, entry = next(iter(self._entries.items()))
        live: Live = entry[LIVE]
        if live.used and (entry[WORDS][H_SEQ] == entry[SEQ] or revalidate(entry)):
            live.used = False
            entry[UNTIL] = UNUSED
            self._entries.move_to_end(key)
        else:
            self.drop(entry)


def set_life(live: Live, left_s: float | None, oldest_in_s: float | None) -> None:
    """Tell a live object how much of its life is left.

    Args:
        live: the object.
        left_s: seconds until it expires unless it is read; None for never.
        oldest_in_s: seconds until it expires though it be read; None for never.
    """
    now_s = live.touched_s = _monotonic()
    live.ends_s = None if left_s is None else now_s + left_s
    live.oldest_s = None if oldest_in_s is None else now_s + oldest_in_s
    if live.life.ttl_ms and left_s is not None and (oldest_in_s is None or left_s < oldest_in_s):
        live.touched_s = min(now_s, now_s + left_s - live.life.ttl_ms / 1000)


def _touch_s(life: Life) -> float:
    """How long after its ttl began an entry is worth a touch."""
    return life.ttl_ms / 1000 / TOUCH_PARTS


def _touch(live: Live, now_s: float) -> None:
    """Start a sliding ttl again, within the age limit."""
    live.touched_s = now_s
    ends_s = now_s + live.life.ttl_ms / 1000
    live.ends_s = ends_s if live.oldest_s is None else min(ends_s, live.oldest_s)


def _soft_end_s(live: Live) -> float | None:
    """When the fast path must come back: at the end, or when the next touch is due."""
    if live.ends_s is None or not live.life.sliding:
        return live.ends_s
    return min(live.ends_s, live.touched_s + _touch_s(live.life))


def _revalidate_freely(entry: Entry) -> bool:
    """Whether an entry is still valid though seq has moved; if so it is noted under the present seq. No lock.

    The reader's steps of shm/tables.py: seq first, the known nodes, `inserts` last.
    """
    words, live = entry[WORDS], entry[LIVE]
    seq = words[H_SEQ]
    inserts, changed = live.sight
    since = live.since
    for index in changed:
        if words[index] > since:
            return False
    if words[H_INSERTS] == inserts:
        entry[SEQ] = seq
        return True
    return _look_again(entry)


def _look_again(entry: Entry) -> bool:
    """The same from the beginning, all paths; takes the lock where stores may be seen out of order."""
    live: Live = entry[LIVE]
    seq = entry[WORDS][H_SEQ]
    sight = live.trie.look(live.paths, live.since)
    if sight is None:
        return False
    live.sight = sight
    entry[SEQ] = seq
    return True


revalidate = _revalidate_freely if LOCK_FREE else _look_again
