"""One live object: what it hands out, how long it lives, and whether it is still valid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import zoocache
from zoocache import codec, deps, invalidate, keys, prune, runtime
from zoocache.engine.live import (
    LIVE,
    SEQ,
    TOUCH_PARTS,
    UNTIL,
    Entry,
    Live,
    monotonic,
    revalidate,
    set_life,
    soft_end_s,
    touch,
    touch_s,
)
from zoocache.engine.table import LiveTable
from zoocache.storage import Life
from zoocache.trie import Trie, hash_words, words_of

DAY_MS = 86_400_000


@pytest.fixture
def trie() -> Iterator[Trie]:
    """The trie of this test's own segment."""
    return runtime.engine().trie


def entry_of(trie: Trie, *tags: str, key: str = "k") -> Entry:
    """A live entry that was filled just now."""
    return LiveTable(None, None, None).keep(Live(key, tags, trie, trie.seq(), 1), trie.seq())


def test_what_is_handed_out(trie: Trie) -> None:
    """An immutable value as it is; a mutable one, packed, afresh each time."""
    value = [1, 2]
    assert value is Live("k", (), trie, 0, value).hand_out()
    packed = Live("k", (), trie, 0, codec.encode(value, label="test"), codec.decode)
    assert value == packed.hand_out() == packed.hand_out()
    assert packed.hand_out() is not packed.hand_out()


def test_paths_are_those_of_all_tags_and_of_the_key(trie: Trie) -> None:
    """Each prefix of each tag once, and last the key's own."""
    live = Live("k", ("a:b", "a:c"), trie, 0, 1)
    prefixes = [deps.path_hash(path) for path in ("a", "a:b", "a:c")]
    assert [*map(words_of, prefixes), hash_words(keys.digest("k"))] == list(live.paths)
    assert keys.digest("k") == live.digest


# Life.


def aged(life: Life, left_s: float | None, oldest_in_s: float | None, trie: Trie) -> Live:
    """A live object of which so much is left."""
    live = Live("k", (), trie, 0, 1, None, None, life)
    set_life(live, left_s, oldest_in_s)
    return live


def test_a_life_without_end(trie: Trie) -> None:
    """Nothing sends its hits back to the table."""
    live = aged(Life(), None, None, trie)
    assert (None, None, None) == (live.ends_s, live.oldest_s, soft_end_s(live))


def test_a_fixed_life_ends_once(trie: Trie) -> None:
    """A ttl that reads do not extend is looked at when it ends."""
    live = aged(Life(DAY_MS), 100.0, None, trie)
    assert live.ends_s == soft_end_s(live) == pytest.approx(monotonic() + 100, abs=50)


def test_a_sliding_life_is_looked_at_earlier(trie: Trie) -> None:
    """A ttl that reads extend is looked at when the next touch is worth a write."""
    live = aged(Life(DAY_MS, sliding=True), DAY_MS / 1000, None, trie)
    soft = soft_end_s(live)
    assert soft is not None
    assert DAY_MS / 1000 / TOUCH_PARTS == touch_s(live.life) == pytest.approx(soft - live.touched_s)


def test_a_loaded_life_remembers_when_it_began(trie: Trie) -> None:
    """Of one that was half over when it was loaded, the first touch is due at once."""
    live = aged(Life(1_000_000, sliding=True), 500.0, None, trie)
    soft = soft_end_s(live)
    assert soft is not None
    assert monotonic() > soft


def test_a_touch_begins_the_ttl_anew(trie: Trie) -> None:
    """But not beyond the age limit."""
    live = aged(Life(1_000_000, sliding=True), 10.0, None, trie)
    touch(live, 5000.0)
    assert (5000.0, 6000.0) == (live.touched_s, live.ends_s)
    live.oldest_s = 5500.0
    touch(live, 5400.0)
    assert 5500.0 == live.ends_s


def test_the_age_limit_is_an_end(trie: Trie) -> None:
    """Of an entry that is older than its ttl only by grace of reads, what is left is what the limit leaves."""
    before_s = monotonic()
    live = aged(Life(1_000_000, sliding=True, max_age_ms=2_000_000), 7.0, 7.0, trie)
    assert before_s + 7 - 0.001 <= live.ends_s == live.oldest_s <= monotonic() + 7 + 0.001


# Validity.


def test_what_nothing_happened_to_is_valid(trie: Trie) -> None:
    """It is noted under the present number, so that the fast path trusts it again."""
    entry = entry_of(trie, "a:b")
    invalidate("other")
    assert entry[SEQ] != trie.seq()
    assert revalidate(entry)
    assert entry[SEQ] == trie.seq()


@pytest.mark.parametrize("tag", ["a", "a:b", "a:b:c"])
@pytest.mark.parametrize("seen_before", [True, False])
def test_each_node_on_its_paths_kills(trie: Trie, tag: str, seen_before: bool) -> None:
    """Whether the node was there when the entry was made, or came later."""
    if seen_before:
        invalidate(tag)
    entry = entry_of(trie, "x", "a:b:c")
    assert revalidate(entry)
    invalidate(tag)
    assert not revalidate(entry)
    assert not revalidate(entry)


@pytest.mark.parametrize("tag", ["a:b:c:d", "a:bb", "b", "a:b:d", "c"])
def test_no_other_node_kills(trie: Trie, tag: str) -> None:
    """Nodes below and beside its paths are nobody's business."""
    entry = entry_of(trie, "a:b:c")
    for _ in range(3):
        invalidate(tag)
        assert revalidate(entry)


def test_its_own_key_kills(trie: Trie) -> None:
    """Deleting the key is an invalidation of this entry alone."""
    mine, other = entry_of(trie, "a", key="mine"), entry_of(trie, "a", key="other")
    zoocache.delete("mine")
    assert (False, True) == (revalidate(mine), revalidate(other))


def test_the_floor_kills_what_is_below(trie: Trie) -> None:
    """After a prune of something younger an entry is not trusted, though its own tags were never invalidated."""
    old = entry_of(trie, "a")
    invalidate("b")
    young = entry_of(trie, "a")
    prune(0)
    invalidate("c")
    assert (False, True) == (revalidate(old), revalidate(young))


def test_a_retired_segment_kills_all(trie: Trie) -> None:
    """What was found under a segment that was retired is never valid again."""
    entry = entry_of(trie, "a")
    trie.segment.retire()
    assert not revalidate(entry)
    zoocache.get("k")


def test_many_rounds_of_the_tables(trie: Trie) -> None:
    """Through hundreds of prunes and inserts the answer stays right."""
    entry = entry_of(trie, "keep:me")
    for n in range(300):
        invalidate(f"n:{n}", f"m:{n % 7}")
        assert revalidate(entry)
    invalidate("keep")
    assert not revalidate(entry)


def test_an_entry_of_the_table_knows_its_object(trie: Trie) -> None:
    """The list and the object belong together, and a bounded table wants to see its first hit."""
    live = Live("k", (), trie, trie.seq(), 1)
    assert live is LiveTable(None, None, None).keep(live, 0)[LIVE]
    assert 0.0 == LiveTable(5, None, None).keep(live, 0)[UNTIL]
