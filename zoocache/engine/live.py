"""Live objects: the decoded values that this process holds, in front of a store or, in memory, all there is.

An **entry** is a list, because the generated wrapper (`zoocache.wrapper`) unpacks it in one instruction:

    [words, seq, value, thaw, until_s, live, *types of the arguments]

    words     the segment's words under which it was validated
    seq       the host's moment at which it was last found valid; the wrapper trusts it while seq stands still
    value     the object, or its packed bytes when `thaw` makes a fresh object of them at every hit
    thaw      None, or bytes -> object
    until_s   None, or the monotonic second at which the wrapper must ask `recheck`
    live      the rest, below

Lock-free: the wrapper and `recheck` read and write entries without a lock. That is safe because an entry's value
never changes (a new value is a new list), and each of the words that do change (seq, until_s) is stored after the
check that it stands for. The table that holds them is `zoocache.engine.table`.

`until_s` serves three ends: expiry, the batched extension of a sliding ttl (a touch at most every TOUCH_PARTS-th of
it), and the second chance of a bounded table: an entry not yet marked as used has 0 there, so that its next hit comes
here once and is marked, and hits after that cost nothing more (the CLOCK policy; Corbato 1968).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zoocache import deps, keys
from zoocache.shm.layout import H_INSERTS, H_SEQ
from zoocache.shm.segment import LOCK_FREE
from zoocache.storage import FOREVER, Life
from zoocache.trie import UNSEEN, Trie, Words, hash_words, words_of

WORDS, SEQ, VALUE, THAW, UNTIL, LIVE = range(6)
HEAD = 6
Entry = list[Any]

TOUCH_PARTS = 8
UNUSED = 0.0

monotonic = time.monotonic


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


def set_life(live: Live, left_s: float | None, oldest_in_s: float | None, since_s: float | None = None) -> None:
    """Tell a live object how much of its life is left.

    Args:
        live: the object.
        left_s: seconds until it expires unless it is read; None for never.
        oldest_in_s: seconds until it expires though it be read; None for never.
        since_s: from when on these count; None: from now on.
    """
    now_s = live.touched_s = monotonic() if since_s is None else since_s
    live.ends_s = None if left_s is None else now_s + left_s
    live.oldest_s = None if oldest_in_s is None else now_s + oldest_in_s
    if live.life.ttl_ms and left_s is not None and (oldest_in_s is None or left_s < oldest_in_s):
        live.touched_s = min(now_s, now_s + left_s - live.life.ttl_ms / 1000)


def touch_s(life: Life) -> float:
    """How long after its ttl began an entry is worth a touch."""
    return life.ttl_ms / 1000 / TOUCH_PARTS


def touch(live: Live, now_s: float) -> None:
    """Start a sliding ttl again, within the age limit."""
    live.touched_s = now_s
    ends_s = now_s + live.life.ttl_ms / 1000
    live.ends_s = ends_s if live.oldest_s is None else min(ends_s, live.oldest_s)


def soft_end_s(live: Live) -> float | None:
    """When the fast path must come back: at the end, or when the next touch is due."""
    if live.ends_s is None or not live.life.sliding:
        return live.ends_s
    return min(live.ends_s, live.touched_s + touch_s(live.life))


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
