"""Writers whose readers do all of their work between two of a writer's stores: between each two.

The words that a writer stores to are `Between`, which lets a reader look after its n-th store, for every n in turn.
What must hold: what was filled before the writer began is trusted by nobody once he is done, whatever a reader saw, and
noted, in the middle. The same of what began on a segment while it was being retired: there nobody tells anything more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from zoocache.engine import keeping
from zoocache.engine.live import SEQ, Entry, Live, revalidate
from zoocache.engine.table import LiveTable
from zoocache.shm import neighbours
from zoocache.shm import object as shm_object
from zoocache.shm.attachment import private
from zoocache.shm.layout import H_SEQ, MIN_SIZE
from zoocache.shm.segment import LOCK_FREE
from zoocache.trie import Trie

pytestmark = pytest.mark.skipif(not LOCK_FREE, reason="readers take the lock on this machine")


class Between:
    """The words of a segment, for a writer. A reader looks once, after its n-th store."""

    def __init__(self, words: memoryview, nth: int, look: Callable[[], object]) -> None:
        self._words, self.left, self._look = words, nth, look

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value
        self.left -= 1
        if not self.left:
            self._look()


def retire(_: Trie, words: Any) -> None:
    """The segment's end."""
    shm_object.retire(words)


def raise_floor(_: Trie, words: Any) -> None:
    """Another release's invalidation."""
    neighbour = object.__new__(neighbours.Neighbour)
    neighbour.words = words
    neighbour._raise_floor()


def filled(trie: Trie) -> Live:
    """What begins now, and depends on a tag that has a node, and on one that has none."""
    return Live("key", ("a", "b"), trie, trie.seq(), "value")


def held(live: Live) -> list[Entry]:
    """What is held of that, now that it has landed."""
    lives = LiveTable(None, None, None)
    keeping.hold(SimpleNamespace(trie=live.trie, holds_lives=True, store=None, lives=lives), live, None, None)  # type: ignore[arg-type]
    entry = lives.get("key")
    return [] if entry is None else [entry]


def trusted(entry: Entry) -> bool:
    """Whether a hit is handed out: what the wrapper asks, and then `recheck`."""
    return bool(entry[SEQ] == entry[0][H_SEQ] or revalidate(entry))


@pytest.fixture
def trie() -> Iterator[Trie]:
    """A host in which one tag was invalidated."""
    segment = private("stores", MIN_SIZE)
    trie = Trie(segment)
    trie.invalidate([(*filled(trie).paths[0], b"a")], 1000)
    yield trie
    segment.leave()


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("has_looked", [True, False])
@pytest.mark.parametrize("write", [retire, raise_floor])
def test_what_was_there_before_is_not_believed(
    trie: Trie, write: Callable[[Trie, Any], None], has_looked: bool, nth: int
) -> None:
    """Whoever looks between two stores of a writer believes nothing afterwards of what was there before."""
    (entry,) = held(filled(trie))
    if has_looked:
        assert revalidate(entry)
    words = Between(trie.words, nth, lambda: revalidate(entry))
    write(trie, words)
    assert (True, False) == (words.left <= 0, trusted(entry))


@pytest.mark.parametrize("nth", range(1, 5))
def test_what_begins_at_the_end_of_a_segment_is_not_believed(trie: Trie, nth: int) -> None:
    """What is filled between two stores of who retires the segment is trusted by nobody afterwards."""
    found: list[Entry] = []
    words = Between(trie.words, nth, lambda: found.extend(held(filled(trie))))
    retire(trie, words)
    assert (True, []) == (words.left <= 0, [entry for entry in found if trusted(entry)])
