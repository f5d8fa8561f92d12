"""What the holder of an LMDB store's lock does: each function here takes what is attached, and at most one transaction.

    look whether this is the store; put the boot mark down if it is not there; begin; act; commit

Killed before the last page of a commit has been written, nothing has happened; after it, everything has: LMDB writes
pages nobody can reach yet, and makes them reachable by one page, of which it keeps two in turn. The kernel gives back a
dead holder's flock, and LMDB's own mutex is a robust one. So there is nothing to repair.

An environment that is replaced between the look and the commit (somebody removed the directory) is empty, and whatever
is filled into it began after this write was called: a number that went into the old one was not needed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from zoocache.clock import Now
from zoocache.shm import points
from zoocache.storage import lmdb_entries, lmdb_numbers, lmdb_room
from zoocache.storage.lmdb_environment import Attached
from zoocache.storage.lmdb_files import WORD_MARK
from zoocache.storage.lmdb_numbers import Sight
from zoocache.storage.lmdb_table import Table
from zoocache.storage.record import pack_position

T = TypeVar("T")


class Moved(Exception):
    """The environment that is attached is no longer the store; nothing was done."""


def _look(attached: Attached) -> None:
    """Whether this is the store, and is marked as being written to."""
    if not attached.is_still_living():
        raise Moved
    if attached.home.words[WORD_MARK] != attached.mark:
        attached.home.mark_dirty(attached.mark)


def _transact(table: Table, action: Callable[..., T], *seen: object) -> T:
    # The outer finally repeats the abort, as the lock's repeats its unlock: an exception that a signal handler raises
    # inside the inner one must not leave a transaction open, which holds LMDB's mutex as long as a traceback lives.
    txn = table.begin(None, None, True, True)
    try:
        try:
            if points.ARMED:
                points.reach("store.begun")
            result = action(txn, *seen)
            if points.ARMED:
                points.reach("store.written")
            txn.commit()
        finally:
            txn.abort()  # which is nothing after a commit
    finally:
        txn.abort()
    if points.ARMED:
        points.reach("store.committed")
    return result


def in_entries(attached: Attached, action: Callable[[Any, Sight], T]) -> T:
    """`action(txn, sight)` on the entries. No number moves meanwhile: that takes the lock."""
    _look(attached)
    return _transact(attached.entries, action, Sight(attached.numbers.begin()))


def in_numbers(attached: Attached, action: Callable[[Any], T]) -> T:
    """`action(txn)` on the numbers."""
    _look(attached)
    return _transact(attached.numbers, action)


def overtake(attached: Attached, keys: Iterable[bytes], now: Now) -> int:
    """Give these paths or digests one new number, and return it."""
    _look(attached)
    return _transact(attached.numbers, lmdb_numbers.raise_all, keys, now)


def delete(attached: Attached, digest: bytes, now: Now) -> bool:
    """Overtake a key; whether there was a living entry. The entry itself is left for others to drop."""
    was_living = lmdb_entries.is_living(attached.entries.begin(), Sight(attached.numbers.begin()), digest, now)
    overtake(attached, (digest,), now)
    return was_living


def set_anew(
    attached: Attached, digest: bytes, paths: Sequence[bytes], n: int, now: Now, computed: bool
) -> int:  # fmt: skip
    """Overtake a key, unless something on the paths of what it is to become was overtaken since `n`.

    Returns:
        The key's number; 0 if it is not to be kept: for that reason, or because it was `computed` since `n` and the key
        itself was overtaken since.
    """
    sight = Sight(attached.numbers.begin())
    is_overtaken, is_late = sight.is_overtaken(paths, n), computed and sight.is_overtaken((digest,), n)
    del sight  # before the write: as long as its transaction is open, LMDB uses none of the pages again that it sees
    if is_overtaken:
        return 0
    key_n = overtake(attached, (digest,), now)
    return 0 if is_late else key_n


def evict(attached: Attached, goal_bytes: int, now: Now | None) -> int:
    """Evict so many bytes' worth of entries; how many they were."""
    page_bytes = attached.entries.page_bytes
    return in_entries(attached, lambda txn, sight: lmdb_room.evict(txn, sight, goal_bytes, page_bytes, now))


def clear_entries(attached: Attached) -> None:
    """Drop all entries."""
    _look(attached)
    _transact(attached.entries, lmdb_entries.clear, attached.entries.main)


def follow(
    attached: Attached, keys: Sequence[bytes], everything: bool, position: tuple[int, int, bytes, int], now: Now
) -> None:  # fmt: skip
    """Overtake these paths or digests, or everything, and note up to where this host has heard, in one transaction."""

    def overtake_and_note(txn: Any) -> None:
        if everything:
            lmdb_numbers.clear(txn, attached.numbers.main)
        elif keys:
            lmdb_numbers.raise_all(txn, keys, now)
        txn.put(lmdb_numbers.POSITION, pack_position(*position))

    in_numbers(attached, overtake_and_note)


def clear_numbers(attached: Attached) -> None:
    """Drop all numbers, and overtake everything."""
    _look(attached)
    _transact(attached.numbers, lmdb_numbers.clear, attached.numbers.main)


def mark_clean(attached: Attached, last_txns: Sequence[int]) -> None:
    """Put down that all is on the disk, if these still are the last transactions."""
    if attached.is_living() and last_transactions(attached) == last_txns:
        attached.home.mark_clean(last_txns)


def last_transactions(attached: Attached) -> list[int]:
    """The last transaction of each table."""
    return [table.env.info()["last_txnid"] for table in (attached.entries, attached.numbers)]


def dispose(attached: Attached, why: str, damaged: bool) -> None:
    """Give the environment up; see `Home.dispose`."""
    if attached.is_living():
        attached.home.dispose(why, damaged=damaged)
