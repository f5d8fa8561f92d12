"""The bytes of a store's records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache.clock import Now
from zoocache.storage import FOREVER, Life
from zoocache.storage import record as records

words = st.integers(0, 2**64 - 1)
moments = st.builds(Now, words, words, words)
lives = st.builds(Life, words, st.booleans(), words)
hashes = st.binary(min_size=16, max_size=16)


@given(st.lists(hashes), words, words, words, lives, moments, st.binary())
def test_an_entry_comes_back(
    paths: list[bytes], n: int, key_n: int, born: int, life: Life, made: Now, body: bytes
) -> None:
    """Whatever was packed into an entry is found in it again."""
    entry = records.pack_entry(paths, n, key_n, born, life, made, body)
    head = records.head(entry)
    assert head is not None
    assert (n, key_n, born, life) == head[:4]
    assert life == FOREVER or head.made == made
    assert paths == records.paths_of(entry, head) == records.paths_of(memoryview(entry), head)
    assert body == entry[head.body_at :]
    assert len(entry) <= records.entry_size(paths, body)


def test_a_life_without_limit_is_the_constant() -> None:
    """Who lives for ever is known by identity."""
    head = records.head(records.pack_entry([], 0, 0, 0, Life(), Now(1, 2, 3), b""))
    assert head is not None
    assert FOREVER is head.life


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    """Bytes that nobody packed are None, or the number above every stamp."""
    assert None is records.head(data)
    assert None is records.own(data)
    assert len(data) == 32 or records.touch(data) is None
    assert len(data) == 16 or records.number(data) == (records.NEVER, 0)


@given(st.data())
def test_a_changed_length_is_malformed(data: st.DataObject) -> None:
    """An entry that lost or gained bytes is None."""
    entry = records.pack_entry([bytes(16)] * 3, 1, 2, 3, Life(5), Now(1, 2, 3), b"body")
    shorter = entry[: data.draw(st.integers(0, len(entry) - 1))]
    longer = entry + data.draw(st.binary(min_size=1))
    assert [None, None] == [records.head(shorter), records.head(longer)]


@pytest.mark.parametrize("size", [40, 80, 4096])
def test_a_page_of_zeros_is_no_entry(size: int) -> None:
    """What was never written reads as malformed."""
    assert None is records.head(bytes(size))


@given(words, st.none() | st.builds(Now, st.integers(1, 2**64 - 1), words, words))
def test_a_touch_comes_back(used: int, at: Now | None) -> None:
    """A touch has its moment; a mere use has none."""
    assert records.Touch(used, at) == records.touch(records.pack_touch(used, at))


@given(words, words)
def test_a_number_comes_back(n: int, wall_ms: int) -> None:
    """A number is what was packed; where there is none it is below every stamp."""
    assert (n, wall_ms) == records.number(records.pack_number(n, wall_ms))
    assert (0, 0) == records.number(None)


@given(words, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_tables_own_record_comes_back(epoch: int, first: int, second: int) -> None:
    """A table's own record is what was packed, and nothing else is one, nor is what counts too high."""
    packed = records.pack_own(epoch, first, second)
    assert (epoch, first, second) == records.own(packed)
    assert None is records.own(None)
    assert None is records.own(b"zooLMDB0" + packed[8:])
    assert None is records.own(records.pack_own(epoch, 2**63 + first, second))
