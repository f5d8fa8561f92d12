"""Reads that extend a ttl in the store: few writes, none that waits, none that is lost for long."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.crowd import until
from tests.forks import Forks
from zoocache import StorageError, clock, keys
from zoocache.clock import Now
from zoocache.engine.touches import BATCH, BURST, Touches
from zoocache.storage import Life
from zoocache.storage.lmdb import LmdbStore

SLIDING = Life(60_000, sliding=True)


class Watched(LmdbStore):
    """A real store that remembers how often it was asked to touch, and may be told to fail."""

    written: list[int]
    failing = False

    def touch(self, digests: Sequence[bytes], now: Now, *, wait: bool = False) -> bool:
        """Of the store."""
        assert not wait
        if self.failing:
            raise StorageError("no")
        self.written.append(len(digests))
        return super().touch(digests, now, wait=wait)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Watched]:
    """A store with an entry for each of 1,000 digests, some of which lived a while."""
    made = Watched(tmp_path / "cache")
    made.written = []
    yield made
    made.close()


def keep(store: Watched, key: str) -> bytes:
    """Save an entry that began its ttl half a minute ago."""
    digest, now = keys.digest(key), clock.now()
    past = now._replace(wall_ms=now.wall_ms - 30_000, up_ms=now.up_ms - 30_000)
    store.save(digest, (), store.stamp(), b"body", SLIDING, past)
    return digest


def left_ms(store: Watched, digest: bytes) -> int:
    """How long an entry has to live."""
    loaded = store.load(digest, clock.now())
    assert loaded is not None
    assert loaded.left_ms is not None
    return loaded.left_ms


def test_a_single_read_is_written_at_once(store: Watched) -> None:
    """Nothing waits in a process that may fall idle."""
    digest, touches = keep(store, "k"), Touches(store)
    assert 30_000 >= left_ms(store, digest)
    touches.add(digest)
    assert 40_000 < left_ms(store, digest)


def test_a_burst_becomes_batches(store: Watched) -> None:
    """Thousands of reads in a moment are few writes, and all of them arrive."""
    digests = [keep(store, f"k{n}") for n in range(BURST + 3 * BATCH)]

    def read_all() -> bool:
        store.written.clear()
        touches = Touches(store)
        for digest in digests:
            touches.add(digest)
        return [1] * BURST + [BATCH] * 3 == store.written  # not if the second turned meanwhile

    until(read_all)
    assert all(40_000 < left_ms(store, digest) for digest in digests)


def test_many_reads_of_one_entry_are_one_note(store: Watched) -> None:
    """What waits is each entry once."""
    digest, touches = keep(store, "k"), Touches(store)
    for _ in range(1000):
        touches.add(digest)
    assert 1 >= len(touches._pending)


def test_a_read_waits_for_no_writer(store: Watched, forks: Forks) -> None:
    """While another process writes, the note is kept, and written with a later one."""
    ready, go_on = os.pipe(), os.pipe()
    digest, other = keep(store, "k"), keep(store, "other")

    def hold() -> None:
        store.after_fork()

        def wait(*_: object) -> None:
            os.write(ready[1], b"!")
            os.read(go_on[0], 1)

        store._access.write_at_once(wait)

    child = forks.fork(hold)
    os.read(ready[0], 1)
    touches = Touches(store)
    touches.add(digest)
    assert 30_000 >= left_ms(store, digest)
    os.write(go_on[1], b"!")
    assert 0 == child.wait()
    until(lambda: touches.add(other) or left_ms(store, digest) > 40_000)
    for end in (*ready, *go_on):
        os.close(end)


def test_a_storage_that_fails_is_nobodys_trouble(store: Watched) -> None:
    """A read is never an error because its note could not be written, and notes do not pile up."""
    digest, touches = keep(store, "k"), Touches(store)
    store.failing = True
    for _ in range(1000):
        touches.add(digest)
        touches.add(os.urandom(16))
    assert BATCH >= len(touches._pending)
    store.failing = False
    touches.add(digest)
    touches.flush_if_any()
    assert 40_000 < left_ms(store, digest)


def test_entries_that_are_gone_are_passed_over(store: Watched) -> None:
    """A note about an entry that was evicted harms nobody."""
    digest, touches = keep(store, "k"), Touches(store)
    store.delete(digest, clock.now())
    touches.add(digest)
    assert None is store.load(digest, clock.now())


def test_without_a_store_there_is_nothing_to_write() -> None:
    """In memory a note is forgotten."""
    touches = Touches(None)
    touches.add(b"x" * 16)
    touches.flush_if_any()


def test_a_child_leaves_its_parents_notes_alone(store: Watched) -> None:
    """After a fork the parent writes its own."""
    touches = Touches(store)
    touches._pending = {b"x" * 16: None}
    touches.after_fork()
    touches.flush_if_any()
    assert [] == store.written
