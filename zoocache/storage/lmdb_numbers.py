"""The numbers of an LMDB store: what happens inside one transaction of its table of numbers.

    path or digest (16 bytes)   n of its last invalidation, and when that was
    OWN                         epoch; n, how many invalidations there were; floor, the highest number that was dropped
    POSITION                    up to where this host has heard what others invalidated; none if it never has. It moves
                                in the transaction that raises the numbers of what was heard

The table is an environment of its own, so an invalidation costs the same however many entries there are, and however
full they are. Every change is one transaction: killed before the last page of its commit, nothing happened; after it,
all of it did. Entries are read before numbers, and written after them, so that whatever is missing of a change is the
harmless part.

Write transactions, and those that were begun with views, hand out memoryviews, which LMDB moves at the next change:
look first, then change.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from zoocache.clock import Now
from zoocache.storage import Stamp
from zoocache.storage.record import (
    PATH_SIZE,
    Bytes,
    Head,
    number,
    own,
    pack_number,
    pack_own,
    pack_position,
    paths_of,
    position,
)

OWN = b"own"
POSITION = b"position"

RECORD_BYTES = 75
"""What a number takes: 42 bytes, and its part of what LMDB leaves free in a page, on average."""

SCANNED = 2048
"""How many records one transaction of a prune looks at."""


class Damaged(Exception):
    """A table's own record cannot be read."""


class Sight:
    """The numbers at one moment.

    Attributes:
        get: of the transaction that sees them.
        epoch, n, floor: the table's own record.
    """

    __slots__ = ("epoch", "floor", "get", "n")

    def __init__(self, txn: Any) -> None:
        self.get = txn.get
        self.epoch, self.n, self.floor = read_own(txn)

    def is_overtaken(self, paths: Iterable[bytes], n: int) -> bool:
        """Whether something on these paths was invalidated after `n`, or may have been."""
        if n >= self.n:
            return n > self.n  # a stamp of the future is none of this store's
        if n < self.floor:
            return True
        get = self.get
        for path in paths:
            record = get(path)
            if record is not None and number(record)[0] > n:
                return True
        return False

    def number(self, key: bytes) -> int:
        """The n of the last invalidation of a path or digest."""
        return number(self.get(key))[0]

    def is_valid(self, digest: bytes, entry: Bytes, found: Head) -> bool:
        """Whether nothing overtook an entry since its stamps."""
        return not self.is_overtaken(paths_of(entry, found), found.n) and self.number(digest) <= found.key_n


def read_own(txn: Any) -> tuple[int, int, int]:
    """Epoch, n and floor."""
    found = own(txn.get(OWN))
    if found is None or found[2] > found[1]:
        raise Damaged("the record of the numbers cannot be read, or its floor is above its n")
    return found


def stamp(txn: Any) -> Stamp:
    """See `Store.stamp`."""
    epoch, n, _ = read_own(txn)
    return Stamp(epoch, n)


def raise_all(txn: Any, keys: Iterable[bytes], now: Now) -> int:
    """Give these paths or digests one new n, and return it."""
    epoch, n, floor = read_own(txn)
    n += 1
    put, packed = txn.put, pack_number(n, now.wall_ms)
    for key in keys:
        put(key, packed)
    put(OWN, pack_own(epoch, n, floor))
    return n


def clear(txn: Any, main: Any) -> None:
    """Drop all numbers, and overtake everything."""
    epoch, n, _ = read_own(txn)
    heard = position(txn.get(POSITION))
    txn.drop(main, delete=False)
    txn.put(OWN, pack_own(epoch, n + 1, n + 1))
    if heard is not None:
        txn.put(POSITION, pack_position(*heard))


# Pruning: look in a reading transaction, drop in a writing one what still is so.


def is_old(record: Bytes, up_to_n: int, older_than_ms: int, now: Now) -> bool:
    """Whether a number is one of the first `up_to_n`, or its invalidation is older."""
    n, wall_ms = number(record)
    return n <= up_to_n or now.wall_ms - wall_ms >= older_than_ms


def old(txn: Any, start: bytes, up_to_n: int, older_than_ms: int, now: Now) -> tuple[list[bytes], bytes]:
    """The keys of old numbers among the next ones from `start`; and where to go on, b"" at the end."""
    cursor = txn.cursor()
    if not cursor.set_range(start):
        return [], b""
    rows = [(bytes(key), data) for key, data in islice(cursor.iternext(), SCANNED)]
    keys = [key for key, data in rows if len(key) == PATH_SIZE and is_old(data, up_to_n, older_than_ms, now)]
    return keys, rows[-1][0] + b"\0" if len(rows) == SCANNED else b""


def drop_old(txn: Any, keys: Iterable[bytes], up_to_n: int, older_than_ms: int, now: Now) -> int:
    """Drop those that still are old, and raise the floor to the highest of them; returns how many."""
    epoch, last, floor = read_own(txn)
    dropped = 0
    for key in keys:
        record = txn.get(key)
        if record is not None and is_old(record, up_to_n, older_than_ms, now):
            floor = max(floor, min(number(record)[0], last))
            txn.delete(key)
            dropped += 1
    txn.put(OWN, pack_own(epoch, last, floor))
    return dropped


def older_half(txn: Any, full: int) -> int:
    """The n up to which the older half of the numbers was raised; 0 if they are not too many.

    Their count decides and not their pages, of which dropping every other number frees none.
    """
    count = int(txn.stat()["entries"])
    return max(0, read_own(txn)[1] - count // 2) if count * RECORD_BYTES > full else 0
