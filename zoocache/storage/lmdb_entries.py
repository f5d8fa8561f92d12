"""The entries of an LMDB store: what happens inside one transaction of its table of entries.

    digest (16 bytes)     the entry
    digest + LIFE         its last use and last touch, if there was one since it was written: neither rewrites a body;
                          it goes when the entry goes
    OWN                   epoch, how many lives there are, how many entries were evicted

Whoever decides about an entry looks at the numbers too (`lmdb_numbers.Sight`): a reader after it has read the entry, a
writer under the store's lock, where no number moves.

Write transactions hand out memoryviews, which LMDB moves at the next change: look first, then change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from zoocache.clock import Now
from zoocache.storage import FOREVER, Life, Loaded
from zoocache.storage.age import age_ms, left_ms
from zoocache.storage.lmdb_numbers import OWN, Damaged, Sight
from zoocache.storage.record import NEVER, Head, head, own, pack_entry, pack_own, pack_touch, touch

LIFE = b"+"


def load(txn: Any, begin_numbers: Any, digest: bytes, now: Now) -> Loaded | None:
    """See `Store.load`; `begin_numbers` begins a reading transaction of the numbers."""
    entry = txn.get(digest)
    found = None if entry is None else head(entry)
    if found is None:
        return None
    sight = Sight(begin_numbers())
    if found.n != sight.n and not sight.is_valid(digest, entry, found):
        return None
    life = found.life
    if life is FOREVER:
        return Loaded(entry[found.body_at :], FOREVER, None, None)
    left, age_left = left_ms(life, found.made, _touched(txn, digest, found), now)
    if left is not None and left <= 0:
        return None
    return Loaded(entry[found.body_at :], life, left, age_left)


def _touched(txn: Any, digest: bytes, found: Head) -> Now:
    """When the ttl of an entry last began."""
    if found.life.sliding:
        last = touch(txn.get(digest + LIFE))
        if last is not None and last.at is not None:
            return last.at
    return found.made


def is_expired(txn: Any, digest: bytes, found: Head, now: Now) -> bool:
    """Whether an entry has outlived its ttl or its greatest age."""
    life, made = found.life, found.made
    if life is FOREVER or (
        made.boot == now.boot != 0 and now.up_ms - made.up_ms < min(life.ttl_ms or NEVER, life.max_age_ms or NEVER)
    ):
        return False
    left, _ = left_ms(found.life, found.made, _touched(txn, digest, found), now)
    return left is not None and left <= 0


def is_living(txn: Any, sight: Sight, digest: bytes, now: Now) -> bool:
    """Whether there is an entry, valid and not expired."""
    entry = txn.get(digest)
    found = None if entry is None else head(entry)
    return found is not None and sight.is_valid(digest, entry, found) and not is_expired(txn, digest, found, now)


def save(
    txn: Any, sight: Sight, digest: bytes, paths: Sequence[bytes], n: int, key_n: int, body: bytes, life: Life, now: Now
) -> bool:
    """Keep an entry with these two stamps, unless something overtook it."""
    if sight.is_overtaken(paths, n) or (key_n != sight.n and sight.number(digest) > key_n):
        return False
    txn.put(digest, pack_entry(paths, n, key_n, txn.id(), life, now, body))
    if txn.delete(digest + LIFE):
        count_on(txn, lives=-1)
    return True


def drop(txn: Any, digests: Iterable[bytes], *, evicted: bool = False) -> None:
    """Drop these entries and their lives."""
    entries = lives = 0
    for digest in digests:
        entries += txn.delete(digest)
        lives += txn.delete(digest + LIFE)
    if lives or (evicted and entries):
        count_on(txn, lives=-lives, evicted=entries if evicted else 0)


def touch_all(txn: Any, digests: Iterable[bytes], now: Now) -> None:
    """See `Store.touch`. What does not slide, or has expired by now, is passed over; a later touch is not set back."""
    used = txn.id()
    new = 0
    for digest in digests:
        entry = txn.get(digest)
        found = None if entry is None else head(entry)
        if found is None or not found.life.sliding or is_expired(txn, digest, found, now):
            continue
        if age_ms(_touched(txn, digest, found), now) > 0:
            new += txn.get(digest + LIFE) is None
            txn.put(digest + LIFE, pack_touch(used, now))
    if new:
        count_on(txn, lives=new)


def mark_used(txn: Any, digests: Iterable[bytes]) -> None:
    """Note that these entries were read, for eviction."""
    used = txn.id()
    new = 0
    for digest in digests:
        record = txn.get(digest + LIFE)
        if record is not None or txn.get(digest) is not None:
            new += record is None
            last = touch(record)
            txn.put(digest + LIFE, pack_touch(used, last and last.at))
    if new:
        count_on(txn, lives=new)


def clear(txn: Any, main: Any) -> None:
    """Drop all entries."""
    epoch, _, evicted = read_own(txn)
    txn.drop(main, delete=False)
    txn.put(OWN, pack_own(epoch, 0, evicted))


def advance(txn: Any, _sight: Sight) -> None:
    """Change nothing, in one transaction: LMDB gives out what one dropped only in the second one after it."""
    count_on(txn)


def read_own(txn: Any) -> tuple[int, int, int]:
    """Epoch, how many lives, how many evicted."""
    found = own(txn.get(OWN))
    if found is None:
        raise Damaged("the record of the entries cannot be read")
    return found


def count_on(txn: Any, lives: int = 0, evicted: int = 0) -> None:
    """Add to what the table knows of itself."""
    epoch, lives_before, evicted_before = read_own(txn)
    txn.put(OWN, pack_own(epoch, max(0, lives_before + lives), evicted_before + evicted))


def count(txn: Any) -> int:
    """See `Store.count`."""
    return int(txn.stat()["entries"]) - read_own(txn)[1] - 1


def size_bytes(txn: Any) -> int:
    """The pages of a table, in bytes."""
    found = txn.stat()
    return int(found["psize"] * (found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]))
