"""Giving room back inside one transaction of the entries of an LMDB store: the expired, the dead, what is too many.

There is no index by age and none by use: each would cost every save as much again as the save itself (4 to 5 us,
measured). Digests are random, so neighbours in key order are a fair sample of all entries. A hand goes round the table
and drops the expired among the next few; to evict, a run of neighbours is looked at, the expired and dead ones go, and
of the others those unused for longest. Redis samples for both in the same way (its documentation, "Key eviction").

Write transactions hand out memoryviews, which LMDB moves at the next change: look first, then change.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from zoocache.clock import Now
from zoocache.storage.lmdb_entries import LIFE, count, drop, is_expired
from zoocache.storage.lmdb_numbers import SCANNED, Sight
from zoocache.storage.record import PATH_SIZE, Bytes, head, touch

SWEPT = 32
"""How many neighbours a save looks at when it is its turn to drop the expired."""

EVICTED = 64
"""The most entries that one transaction evicts."""

SAMPLE = 4
"""To evict one, so many are looked at; Redis takes 5 and keeps a pool."""


def _from(cursor: Any) -> Iterator[tuple[bytes, Bytes]]:
    """The entries from a cursor on, without what else is in the table."""
    return ((bytes(key), entry) for key, entry in cursor.iternext() if len(key) == PATH_SIZE)


def _run(txn: Any, start: bytes, length: int) -> list[tuple[bytes, Bytes]]:
    """So many entries from `start` on, going round."""
    cursor = txn.cursor()
    run = list(islice(_from(cursor), length)) if cursor.set_range(start) else []
    if len(run) < length and cursor.first():
        end = run[0][0] if run else start
        run += [each for each in islice(_from(cursor), length - len(run)) if each[0] < end]
    return run


def _is_gone(txn: Any, sight: Sight, digest: bytes, entry: Bytes, now: Now | None) -> bool:
    """Whether an entry is malformed, expired or dead."""
    found = head(entry)
    return (
        found is None
        or (now is not None and is_expired(txn, digest, found, now))
        or not sight.is_valid(digest, entry, found)
    )


def sweep(txn: Any, start: bytes, now: Now) -> bytes:
    """Drop the expired among the next few entries.

    Args:
        txn: writing.
        start: where the hand stands.
        now: this moment.

    Returns:
        Where the hand stands now.
    """
    run = _run(txn, start, SWEPT)
    gone = []
    for digest, entry in run:
        found = head(entry)
        if found is None or is_expired(txn, digest, found, now):
            gone.append(digest)
    drop(txn, gone)
    return run[-1][0] + b"\0" if run else b""


def evict(txn: Any, sight: Sight, want: int, now: Now | None, keep: bytes = b"") -> int:
    """Drop entries of a random run: the expired and the dead, and of the others those unused for longest.

    Args:
        txn: writing.
        sight: of the numbers.
        want: how many are to go, if there are so many; more go if more are dead. At most `EVICTED`.
        now: this moment; None if it is not known: then nothing counts as expired.
        keep: a digest that stays.

    Returns:
        How many were dropped.
    """
    gone = []
    living = []
    for digest, entry in _run(txn, os.urandom(PATH_SIZE), max(SAMPLE * want, EVICTED)):
        if digest == keep:
            continue
        if _is_gone(txn, sight, digest, entry, now):
            gone.append(digest)
        else:
            living.append((_used(txn, digest, entry), digest))
    living.sort()
    gone += [digest for _, digest in living[: max(0, want - len(gone))]]
    drop(txn, gone, evicted=True)
    return len(gone)


def _used(txn: Any, digest: bytes, entry: Bytes) -> int:
    """The last transaction that wrote an entry or saw it read."""
    found = head(entry)
    last = touch(txn.get(digest + LIFE))
    return max(found.born if found else 0, last.used if last else 0)


def limit(txn: Any, sight: Sight, most: int, now: Now, keep: bytes) -> None:
    """Evict down to `most` entries, and some more so that not every save has to.

    Where there are too many by far, because the limit was lowered, each save evicts as many as one transaction may.
    """
    over = count(txn) - most
    if over > 0:
        evict(txn, sight, min(EVICTED, over + most // 16), now, keep)


# Pruning: look in a reading transaction, drop in a writing one what still is so.


def gone(txn: Any, sight: Sight, start: bytes, now: Now) -> tuple[list[bytes], bytes]:
    """The expired and dead among the next entries from `start`; and where to go on, b"" at the end."""
    cursor = txn.cursor()
    if not cursor.set_range(start):
        return [], b""
    run = list(islice(_from(cursor), SCANNED))
    dropped = [digest for digest, entry in run if _is_gone(txn, sight, digest, entry, now)]
    return dropped, run[-1][0] + b"\0" if len(run) == SCANNED else b""


def drop_gone(txn: Any, sight: Sight, digests: Iterable[bytes], now: Now) -> None:
    """Drop those that still are expired or dead."""
    entries = [(digest, txn.get(digest)) for digest in digests]
    drop(txn, [digest for digest, entry in entries if entry is not None and _is_gone(txn, sight, digest, entry, now)])
