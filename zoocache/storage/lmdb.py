"""The LMDB store: entries and numbers on a disk of one host, shared by all its processes.

    lmdb.py               the store: what `zoocache.storage.Store` asks for
    lmdb_access.py        the environment that is the store by now, and what to do about whatever is in the way
    lmdb_locked.py        what the holder of the lock does
    lmdb_entries.py       inside a transaction of the entries
    lmdb_room.py          the same, giving room back: expired, dead, unused for longest, over the limit
    lmdb_numbers.py       inside a transaction of the numbers
    lmdb_environment.py   the living environment: opening it, or building it
    lmdb_closing.py       closing it, so that it survives a power cut
    lmdb_table.py         one of LMDB's environments, as this process has it open
    lmdb_files.py         the directory: which environment lives, boot mark, setting aside
    lmdb_refusals.py      what a directory is refused for
    record.py             the bytes of a record
    age.py                how old something is

A load is one snapshot of the entries and a later one of the numbers, without a lock. A save is one write transaction of
the entries under the store's own lock, an invalidation one of the numbers: however many entries there are, and however
full they are, it costs the same. LMDB runs without fsync: a killed process loses nothing, and what a power cut may have
torn is dropped.

A save does little more than its put. One in a few looks whether too many pages are in use, and evicts; one in a few, if
entries expire here, drops the expired among the next ones, more often where it finds some. What was read is noted in
memory, and written down by a later save, only where entries are evicted.

What guards what: the words of `LmdbStore` that count saves, notes and sweeps are hints of this process, changed by
single steps; a lost one costs nothing but a worse choice.

Limits. LMDB knows readers by process number and record lock: processes of different PID namespaces must not share a
directory, nor may hosts. A data file that is cut short under a running process is a SIGBUS in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import lmdb

from zoocache.clock import Now
from zoocache.errors import ConfigError, StorageIsFull
from zoocache.shm.lock import DEFAULT_TIMEOUT_S
from zoocache.storage import FOREVER, Life, Loaded, Stamp, lmdb_entries, lmdb_numbers, lmdb_room, record
from zoocache.storage import lmdb_locked as locked
from zoocache.storage.lmdb_access import Access
from zoocache.storage.lmdb_environment import LARGEST, Attached
from zoocache.storage.lmdb_files import directory_of
from zoocache.storage.lmdb_numbers import Damaged, Sight
from zoocache.storage.lmdb_table import Table
from zoocache.storage.record import NEVER, entry_size

MIN_MAP_SIZE = 1 << 20

_OFTEN = 8
"""Every so many saves of a process one does what need not be done by each."""

_SELDOM = 64
"""So many saves may pass between two sweeps that found nothing to drop."""

_NUMBERS_OFTEN = 64
"""One in so many invalidations, of all processes together, looks whether there are too many numbers."""

_LEAST_BYTES = 1 << 14
"""What is freed at least, where there is too little room."""

_MARKS = 16
"""So many notes of what was read does a save write down."""

_MOST_MARKS = 4096


class LmdbStore:
    """See the head of this file, and `zoocache.storage.Store` for the contract.

    Nothing is opened before the first call.

    Args:
        path: a directory; it is made if need be, for this user alone.
        prefix: stores of different prefixes have nothing in common but `path`.
        map_size: the most bytes that data.mdb takes, at least 1 MiB. It is fixed when the environment is made: whoever
            opens it later gets the size that it has. A value of more than an eighth of it is refused.
        max_entries: how many entries all processes together keep; None for no limit.
        timeout_s: how long a write waits for another process.
        boot: names the boot this process runs under, 0 for unknown; None: the clock is asked.

    Raises:
        ConfigError: a size or a limit that cannot be.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, prefix: str = "", map_size: int = 1 << 30,
        max_entries: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S, boot: int | None = None,
    ) -> None:  # fmt: skip
        if map_size < MIN_MAP_SIZE:
            raise ConfigError(f"lmdb_map_size is {map_size}; an LMDB storage needs {MIN_MAP_SIZE} bytes at least")
        if max_entries is not None and max_entries < 1:
            raise ConfigError(f"max_entries is {max_entries}; it must be 1 or more, or None for no limit")
        self.directory = directory_of(os.path.abspath(path), prefix)
        self._access = Access(self.directory, map_size, boot, timeout_s)
        self._max_entries = max_entries
        self._used: dict[bytes, None] = {}
        self._saves = 0
        self._hand, self._next_sweep, self._pause = b"", 0, _OFTEN

    # Reading.

    def stamp(self) -> Stamp:
        """See `Store.stamp`."""
        access = self._access
        attached = access.here()
        try:
            return _stamp(attached)
        except (lmdb.Error, Damaged) as error:
            access.recover(error, attached)
            return access.read(_stamp)

    def load(self, digest: bytes, now: Now) -> Loaded | None:
        """See `Store.load`."""
        access = self._access
        attached = access.here()
        entries = attached.entries
        try:
            loaded = lmdb_entries.load(entries.begin(), attached.numbers.begin, digest, now)
        except (lmdb.Error, Damaged) as error:
            access.recover(error, attached)
            return access.read(lambda at: lmdb_entries.load(at.entries.begin(), at.numbers.begin, digest, now))
        if loaded is not None and (self._max_entries or entries.is_full) and len(self._used) < _MOST_MARKS:
            self._used[digest] = None
        return loaded

    def count(self) -> int:
        """See `Store.count`."""
        return self._access.read(_count)

    def size_bytes(self) -> int:
        """See `Store.size_bytes`."""
        return self._access.read(_size_bytes)

    # Entries.

    def save(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        *, anew: bool = False, computed: bool = False, key_n: int = 0,
    ) -> bool:  # fmt: skip
        """See `NearStore.save`. Anew, the key is overtaken before the entry is written: killed in between, neither the
        old entry nor the new one is there."""
        if anew:
            key_n = self.set_anew(digest, paths, stamp, body, life, now, computed=computed)
            return bool(key_n) and self.save(digest, paths, stamp, body, life, now, key_n=key_n)
        access = self._access
        attached = access.last_here()
        size = self._size(attached, paths, body)
        if stamp.epoch != attached.epoch:
            return False
        n = stamp.n

        def put(txn: Any, sight: Sight) -> bool:
            kept = sight.epoch == stamp.epoch and lmdb_entries.save(
                txn, sight, digest, paths, n, key_n or n, body, life, now
            )
            if kept:
                self._tend(txn, sight, attached.entries, digest, size, life, now)
            return kept

        return bool(access.write_entries(now, put))

    def set_anew(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, _life: Life, now: Now,
        *, computed: bool = False,
    ) -> int:  # fmt: skip
        """See `NearStore.set_anew`."""
        attached = self._access.last_here()
        self._size(attached, paths, body)
        if stamp.epoch != attached.epoch:
            return 0
        return self._access.write_numbers(locked.set_anew, digest, paths, stamp.n, now, computed) or 0

    def _size(self, attached: Attached, paths: Sequence[bytes], body: bytes) -> int:
        size = entry_size(paths, body)
        if size > attached.entries.size // LARGEST:
            raise self._too_large(attached, len(body), size)
        return size

    def _tend(
        self, txn: Any, sight: Sight, table: Table, saved: bytes, size: int, life: Life, now: Now
    ) -> None:  # fmt: skip
        """What a save does for others, in its own transaction, and mostly is nothing."""
        saves = self._saves
        self._saves = saves + 1
        if self._used:
            lmdb_entries.mark_used(txn, self._marks())
        if self._max_entries is not None:
            lmdb_room.limit(txn, sight, self._max_entries, table.page_bytes, now, saved)
        if saves >= self._next_sweep and life != FOREVER:
            self._sweep(txn, table.page_bytes, now)
        if saves % _OFTEN == 0 or size > _LEAST_BYTES:
            self._make_room(txn, sight, table, now)

    def _sweep(self, txn: Any, page_bytes: int, now: Now) -> None:
        self._hand, dropped = lmdb_room.sweep(txn, self._hand, page_bytes, now)
        self._pause = _OFTEN if dropped else min(2 * self._pause, _SELDOM)
        self._next_sweep = self._saves + self._pause

    @staticmethod
    def _make_room(txn: Any, sight: Sight, table: Table, now: Now) -> None:
        """Evict while there is too little room left."""
        over = lmdb_entries.size_bytes(txn) - table.full
        if over > 0:
            table.is_full = True
            lmdb_room.evict(txn, sight, max(over, _LEAST_BYTES), table.page_bytes, now)

    def _too_large(self, attached: Attached, size: int, whole_size: int) -> StorageIsFull:
        return StorageIsFull(
            f"lmdb storage {self.directory}: a value of {size} bytes does not fit: with its tags it takes "
            f"{whole_size}, and {attached.entries.size // LARGEST} is the most. Cache smaller parts, or give a new "
            "directory a larger lmdb_map_size"
        )

    def _marks(self) -> list[bytes]:
        return [self._used.popitem()[0] for _ in range(min(_MARKS, len(self._used)))]

    def touch(self, digests: Sequence[bytes], now: Now, *, wait: bool = False) -> bool:
        """See `Store.touch`. Entries that do not slide are passed over too."""

        def touch_all(txn: Any, _sight: Sight) -> None:
            lmdb_entries.touch_all(txn, digests, now)

        if wait:
            self._access.write_entries(now, touch_all)
            return True
        return self._access.write_at_once(touch_all)

    # Numbers, which are written first; then the entries that they made dead are dropped.

    def delete(self, digest: bytes, now: Now) -> bool:
        """See `Store.delete`."""
        was_living = self._access.write_numbers(locked.delete, digest, now)
        self._access.write_at_once(lambda txn, sight: lmdb_room.drop_gone(txn, sight, (digest,), now))
        return bool(was_living)

    def invalidate(self, paths: Sequence[bytes], now: Now) -> int:
        """See `Store.invalidate`; 0 if everything had to be overtaken for it."""
        n = self._access.write_numbers(locked.overtake, paths, now) or 0
        if n and n % _NUMBERS_OFTEN == 0:
            self._give_numbers_back(now)
        return n

    def position(self) -> tuple[int, int, bytes, int] | None:
        """Up to where this host has heard what others invalidated: epoch, n and mark of their bus; and the origin that
        was noted with it. None: it never has, or this is not the environment in which that was noted."""
        return self._access.read(_position)

    def apply(
        self, paths: Sequence[bytes], everything: bool, position: tuple[int, int, bytes, int], now: Now
    ) -> None:  # fmt: skip
        """Do what others have invalidated.

        Args:
            paths: hashes of tags, and digests.
            everything: overtake all of it, whatever the paths are.
            position: up to where the host has heard with this, and the origin of what it says itself; noted in the same
                transaction as the numbers.
            now: this moment.
        """
        self._access.write_numbers(locked.follow, paths, everything, position, now)
        if everything:
            self._access.clear_entries()

    def clear(self) -> None:
        """See `Store.clear`."""
        self._access.write_numbers(locked.clear_numbers)
        self._access.clear_entries()

    def prune(self, older_than_ms: int, now: Now) -> int:
        """See `Store.prune`. It looks without the lock, and takes it again and again for a little while."""
        dropped = self._drop_numbers(0, older_than_ms, now)
        start, more = b"", True
        while more:
            gone, start = self._access.read(partial(_gone, start, now))
            self._drop_gone(gone, now)
            more = bool(start)
        return dropped

    def _drop_gone(self, digests: Sequence[bytes], now: Now) -> None:
        if digests:
            self._access.write_entries(now, lambda txn, sight: lmdb_room.drop_gone(txn, sight, digests, now))

    def _drop_numbers(self, up_to_n: int, older_than_ms: int, now: Now) -> int:
        dropped, start, more = 0, b"", True
        while more:
            keys, start = self._access.read(partial(_old, start, up_to_n, older_than_ms, now))
            if keys:
                drop = partial(lmdb_numbers.drop_old, keys=keys, up_to_n=up_to_n, older_than_ms=older_than_ms, now=now)
                dropped += self._access.write_numbers(locked.in_numbers, drop) or 0
            more = bool(start)
        return dropped

    def _give_numbers_back(self, now: Now) -> None:
        """Drop the older half of the numbers if there are too many of them."""
        up_to_n = self._access.read(_older_half)
        if up_to_n:
            self._drop_numbers(up_to_n, NEVER, now)

    # The process.

    def after_fork(self) -> None:
        """See `Store.after_fork`."""
        self._used = {}
        self._access.after_fork()

    def close(self) -> None:
        """See `Store.close`."""
        self._access.close()


# In reading transactions.


def _stamp(attached: Attached) -> Stamp:
    taken = lmdb_numbers.stamp(attached.numbers.begin())
    if taken.epoch != attached.epoch:
        raise Damaged("the numbers say that they are of another environment")
    return taken


def _position(attached: Attached) -> tuple[int, int, bytes, int] | None:
    return record.position(attached.numbers.begin().get(lmdb_numbers.POSITION))


def _count(attached: Attached) -> int:
    return lmdb_entries.count(attached.entries.begin())


def _size_bytes(attached: Attached) -> int:
    return sum(lmdb_entries.size_bytes(table.begin()) for table in (attached.entries, attached.numbers))


def _gone(start: bytes, now: Now, attached: Attached) -> tuple[list[bytes], bytes]:
    txn = attached.entries.begin(buffers=True)
    return lmdb_room.gone(txn, Sight(attached.numbers.begin()), start, now)


def _old(start: bytes, up_to_n: int, older_than_ms: int, now: Now, attached: Attached) -> tuple[list[bytes], bytes]:
    return lmdb_numbers.old(attached.numbers.begin(buffers=True), start, up_to_n, older_than_ms, now)


def _older_half(attached: Attached) -> int:
    return lmdb_numbers.older_half(attached.numbers.begin(), attached.numbers.full)
