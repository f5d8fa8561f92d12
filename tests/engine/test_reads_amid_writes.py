"""Readers without a lock, and writers who do all of their work between two of a reader's loads: between each two.

The words that a reader sees are `Amid`, which lets others write before its n-th load, for every n in turn. What is
written moves nodes about, for the tables are small here: X and A want the same place, so A moves when X is dropped;
and after two replacements another's node, or none, lies where a reader knew A.

What must hold stands in `judge`: a reader who began after an invalidation of his tags had returned finds his value
overtaken; and whatever came while he read, no value is trusted afterwards that a reader who takes his time finds
overtaken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from zoocache.engine import keeping
from zoocache.engine.live import SEQ, WORDS, Entry, Live, revalidate
from zoocache.engine.table import LiveTable
from zoocache.shm.attachment import private
from zoocache.shm.layout import H_SEQ, MIN_SIZE
from zoocache.shm.segment import LOCK_FREE, Segment
from zoocache.shm.tables import Tables
from zoocache.trie import Target, Trie

pytestmark = pytest.mark.skipif(not LOCK_FREE, reason="readers take the lock on this machine")

LOADS = 2
"""Everybody loads so often at least."""
SINCE = 4
"""The host's moment in which the value was filled."""


class Amid:
    """The words of a segment, for a reader. Others write once, before its n-th load."""

    def __init__(self, words: memoryview, nth: int, write: Callable[[], object]) -> None:
        self._words, self._left, self._write = words, nth, write

    def __getitem__(self, index: int) -> int:
        self._left -= 1
        if not self._left:
            self._write()
        return self._words[index]

    @property
    def has_written(self) -> bool:
        """Whether the reader came to that load."""
        return self._left <= 0


class Host:
    """A segment in which X, Y, A and Z were invalidated in the first four moments, each a second after the last one.

    X and A begin their search in the same place, Y and Z elsewhere; B does so in a third, and has no node.
    """

    def __init__(self) -> None:
        self.segment: Segment = private("reads", MIN_SIZE)
        self.trie = Trie(self.segment)
        self.close = self.segment.leave
        stride = self.segment.layout.nodes
        self.x, self.a = (7, 1, b"x"), (stride + 7, 2, b"a")
        self.y, self.b, self.z = (20, 3, b"y"), (stride + 40, 4, b"b"), (60, 5, b"z")
        for moment, target in enumerate((self.x, self.y, self.a, self.z), 1):
            self.trie.invalidate([target], 1000 * moment)

    def invalidate(self, *targets: Target) -> Host:
        """As another process."""
        self.trie.invalidate(targets, 9000)
        return self

    def drop(self, *wall_ms: int) -> Host:
        """Drop what was invalidated before; a replacement for each."""
        for each in wall_ms:
            self.trie.prune(0, each)
        return self

    def live(self, words: Any) -> Live:
        """What depends on A and B, for a reader that sees these words."""
        trie = Trie(self.segment)
        trie.words = words
        trie.tables = Tables(words, self.segment.tables._bytes, self.segment.layout)
        live = Live("key", ("a", "b"), trie, SINCE, "value")
        live._paths = self.a[:2], self.b[:2]
        return live


Step = Callable[[Host], object]
WRITES: dict[str, Step] = {
    "its tag": lambda host: host.invalidate(host.a),
    "a tag that has no node": lambda host: host.invalidate(host.b),
    "others": lambda host: host.invalidate(host.x, (90, 6, b"new")),
    "one replacement": lambda host: host.drop(1500),
    "two replacements": lambda host: host.drop(1500, 2500),
    "three replacements": lambda host: host.drop(1500, 2500, 3500),
    "two replacements and its tag": lambda host: host.drop(1500, 2500).invalidate(host.a),
    "its tag and two replacements": lambda host: host.invalidate(host.a).drop(1500, 2500),
    "half of the nodes give way": lambda host: host.segment.write(host.trie._coarsen),
    "all": lambda host: host.trie.clear(9000),
    "the end of the segment": lambda host: host.segment.retire(),
}
BEFORE: dict[str, tuple[Step, bool]] = {
    "nothing": (lambda _: None, False),
    "others were invalidated": (lambda host: host.invalidate(host.y), False),
    "it was invalidated": (lambda host: host.invalidate(host.a), True),
    "what had no node was invalidated": (lambda host: host.invalidate(host.b), True),
    "it was invalidated, and another replaced": (lambda host: host.invalidate(host.a).drop(1500), True),
}
"""What was done before the reader began, and whether that overtook his value."""


class Found(NamedTuple):
    """What a reader has come to.

    Attributes:
        is_valid: what he returned.
        entry: what he trusts from now on, and when he last found it valid; None: nothing.
    """

    is_valid: bool
    entry: Entry | None


Reader = Callable[[Live, int], Found]


def looks(live: Live, seq: int) -> Found:
    """Who has never looked."""
    entry: Entry = [live.trie.words, seq, "value", None, None, live]
    is_valid = revalidate(entry)
    return Found(is_valid, entry if is_valid else None)


def looks_again(live: Live, seq: int) -> Found:
    """Who knows where the nodes are."""
    entry: Entry = [live.trie.words, seq, "value", None, None, live]
    return Found(revalidate(entry), entry)


def holds(live: Live, _: int) -> Found:
    """Who holds what has just landed."""
    lives = LiveTable(None, None, None)
    keeping.hold(SimpleNamespace(trie=live.trie, holds_lives=True, store=None, lives=lives), live, None, None)  # type: ignore[arg-type]
    entry = lives.get("key")
    return Found(entry is not None, entry)


READERS: dict[str, Reader] = {"who never looked": looks, "who looks again": looks_again, "who holds": holds}


def start(host: Host, has_looked: bool, nth: int, write: Step) -> tuple[Live, Amid]:
    """A value and the words that its reader sees.

    Args:
        host, nth, write: who writes what, and when.
        has_looked: the reader knows already where A is, and that B has no node.
    """
    words = Amid(host.segment.words, nth, lambda: write(host))
    amid = host.live(words)
    if has_looked:
        calm = host.live(host.segment.words)
        assert revalidate([host.segment.words, SINCE, "value", None, None, calm])
        amid.sight = calm.sight
    return amid, words


def judge(host: Host, live: Live, found: Found, was_overtaken: bool, where: str) -> None:
    """See the head of this file."""
    assert not (was_overtaken and found.is_valid), f"served although it was overtaken, {where}"
    if found.entry is None:
        return
    is_alive = host.live(host.segment.words).trie.look(live.paths, SINCE) is not None
    live.trie.words = found.entry[WORDS] = host.segment.words
    live.trie.tables = host.segment.tables
    is_trusted = found.entry[SEQ] == host.segment.words[H_SEQ] and found.is_valid
    assert is_alive or not is_trusted, f"trusted although it is overtaken, {where}"
    assert is_alive or not revalidate(found.entry), f"found valid later although it is overtaken, {where}"


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_overtaken_is_not_believed(reader: str, before: str, write: str) -> None:
    """Whenever others write while somebody reads, nothing that was overtaken is served, or believed later."""
    begin, was_overtaken = BEFORE[before]
    nth = 0
    while True:
        nth += 1
        with contextlib.closing(Host()) as host:
            amid, words = start(host, READERS[reader] is looks_again, nth, WRITES[write])
            begin(host)
            found = READERS[reader](amid, SINCE)
            if not words.has_written:
                break
            judge(host, amid, found, was_overtaken, f"before load {nth}")
    assert nth > LOADS
