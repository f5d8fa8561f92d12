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
from itertools import accumulate, islice
from typing import Any

from zoocache.clock import Now
from zoocache.storage.lmdb_entries import LIFE, count, drop, is_expired, read_own
from zoocache.storage.lmdb_numbers import SCANNED, Sight
from zoocache.storage.record import PATH_SIZE, Bytes, Head, head, touch

RUN = 64
"""So many neighbours are looked at in one transaction, to drop most of them. Fewer if they fill too many pages for the
table, because LMDB writes a new copy of each page that loses one."""

_IN_PAGE = 2000
"""What is larger than this LMDB puts into pages of its own, which are freed without a copy."""


def _from(cursor: Any) -> Iterator[tuple[bytes, Bytes]]:
    """The entries from a cursor on, without what else is in the table."""
    return ((bytes(key), entry) for key, entry in cursor.iternext() if len(key) == PATH_SIZE)


def _run(txn: Any, start: bytes, length: int, page_bytes: int) -> list[tuple[bytes, Bytes]]:
    """So many entries from `start` on, going round, or as many as fill so many bytes of shared pages."""
    cursor = txn.cursor()
    run = list(islice(_from(cursor), length)) if cursor.set_range(start) else []
    if len(run) < length and cursor.first():
        end = run[0][0] if run else start
        run += [each for each in islice(_from(cursor), length - len(run)) if each[0] < end]
    filled = accumulate(len(entry) if len(entry) < _IN_PAGE else 0 for _, entry in run)
    return [each for each, so_far in zip(run, filled, strict=True) if so_far <= page_bytes]


def _is_gone(txn: Any, sight: Sight, digest: bytes, entry: Bytes, found: Head | None, now: Now | None) -> bool:
    """Whether an entry is malformed, expired or dead."""
    return (
        found is None
        or (now is not None and is_expired(txn, digest, found, now))
        or (found.n != sight.n and not sight.is_valid(digest, entry, found))
    )


def sweep(txn: Any, start: bytes, page_bytes: int, now: Now) -> tuple[bytes, int]:
    """Drop the expired among the next few entries.

    Args:
        txn: writing.
        start: where the hand stands.
        page_bytes: how much of the pages it may look at.
        now: this moment.

    Returns:
        Where the hand stands now, and how many were dropped.
    """
    run = _run(txn, start, RUN // 2, page_bytes)
    gone = []
    for digest, entry in run:
        found = head(entry)
        if found is None or is_expired(txn, digest, found, now):
            gone.append(digest)
    drop(txn, gone)
    return (run[-1][0] + b"\0" if run else b""), len(gone)


def evict(txn: Any, sight: Sight, goal_bytes: int, page_bytes: int, now: Now | None) -> int:
    """Drop entries of a random run until so many bytes are free; returns how many.

    A quarter of it stays: LMDB joins pages, and so frees one, where they are less than a quarter full.
    """
    run = _run(txn, os.urandom(PATH_SIZE), RUN, page_bytes)
    gone, living = _aged(txn, sight, run, now)
    freed = sum(size for _, size, _ in gone)
    for each in living[: max(1, len(run) * 3 // 4) - len(gone)]:
        if freed >= goal_bytes:
            break
        freed += each[1]
        gone.append(each)
    drop(txn, [digest for _, _, digest in gone], evicted=True)
    return len(gone)


def limit(txn: Any, sight: Sight, most: int, page_bytes: int, now: Now, keep: bytes) -> None:
    """Evict down to `most` entries, and some more so that not every save has to; `keep` is a digest that stays.

    Where there are too many by far, because the limit was lowered, each save evicts as many as one transaction may.
    """
    over = count(txn) - most
    if over > 0:
        run = [each for each in _run(txn, os.urandom(PATH_SIZE), 2 * RUN, page_bytes) if each[0] != keep]
        gone, living = _aged(txn, sight, run, now)
        gone += living[: max(0, min(RUN, over + most // 16) - len(gone))]
        drop(txn, [digest for _, _, digest in gone], evicted=True)


_Aged = tuple[int, int, bytes]
"""When an entry was used last, the size of its record, its digest."""


def _aged(
    txn: Any, sight: Sight, run: Iterable[tuple[bytes, Bytes]], now: Now | None
) -> tuple[list[_Aged], list[_Aged]]:  # fmt: skip
    """Of a run: those that are malformed, expired or dead, and the others, unused for longest first."""
    gone = []
    living = []
    any_used = read_own(txn)[1] > 0
    for digest, entry in run:
        found = head(entry)
        if found is None or _is_gone(txn, sight, digest, entry, found, now):
            gone.append((0, len(entry), digest))
        else:
            living.append((max(found.born, _used(txn, digest) if any_used else 0), len(entry), digest))
    living.sort()
    return gone, living


def _used(txn: Any, digest: bytes) -> int:
    """The last transaction that saw an entry read; 0 if none did."""
    last = touch(txn.get(digest + LIFE))
    return last.used if last else 0


# Pruning: look in a reading transaction, drop in a writing one what still is so.


def gone(txn: Any, sight: Sight, start: bytes, now: Now) -> tuple[list[bytes], bytes]:
    """The expired and dead among the next entries from `start`; and where to go on, b"" at the end."""
    cursor = txn.cursor()
    if not cursor.set_range(start):
        return [], b""
    run = list(islice(_from(cursor), SCANNED))
    dropped = [digest for digest, entry in run if _is_gone(txn, sight, digest, entry, head(entry), now)]
    return dropped, run[-1][0] + b"\0" if len(run) == SCANNED else b""


def drop_gone(txn: Any, sight: Sight, digests: Iterable[bytes], now: Now) -> None:
    """Drop those that still are expired or dead."""
    present = [(digest, entry) for digest in digests if (entry := txn.get(digest)) is not None]
    drop(txn, [digest for digest, entry in present if _is_gone(txn, sight, digest, entry, head(entry), now)])
