"""zoocache/shm/layout.py: where each word lives."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from zoocache.deps import MAX_LENGTH
from zoocache.shm import layout as at
from zoocache.shm.layout import Layout, layout_of

SIZES = st.integers(at.MIN_SIZE, 1 << 40)

FROZEN = {
    "H_MAGIC": 0, "H_LAYOUT": 1, "H_SIZE": 2, "H_INCARNATION": 3, "H_STATE": 4, "H_GEN": 5, "H_FLOOR": 6, "H_SEQ": 7,
    "H_INSERTS": 8, "H_TICKETS": 9, "H_NODES": 10, "H_ARENA": 11, "H_COUNT": 12, "H_USED": 14, "H_SLOTS": 16,
    "H_CLAIMS": 17, "H_HLC": 20, "H_PRUNED_MS": 21, "H_INVALIDATIONS": 22, "H_PRUNES": 23, "H_COARSENED": 24,
    "H_INHERITED": 25, "H_NEIGHBOURS": 26, "H_OUTBOX": 18, "H_OUT_HEAD": 27, "H_OUT_TAIL": 28, "H_OUT_CLEAR_TO": 29,
    "H_OUT_LOST": 30, "H_UNSENT_TO": 31, "H_BUS_EPOCH": 32, "H_BUS_N": 33, "H_BUS_MARK": 34, "H_BUS_WANT": 35,
    "H_BEAT_MS": 36, "H_CAUGHT_UP": 37, "H_SENT": 38, "H_HEARD": 39, "H_GAPS": 40, "H_FLOORED": 41,
    "H_LISTENER_PID": 42, "H_LISTENER_MS": 43,
}  # fmt: skip


def parts(layout: Layout) -> list[range]:
    """The parts of a segment, in bytes."""

    def words(start: int, count: int) -> range:
        return range(start * at.WORD, (start + count) * at.WORD)

    tables = [words(start, layout.nodes * at.NODE_WORDS) for start in layout.tables_at]
    arenas = [range(start, start + layout.arena) for start in layout.arenas_at]
    slots = words(layout.slots_at, layout.slots * at.SLOT_WORDS)
    claims = words(layout.claims_at, layout.claims * at.CLAIM_WORDS)
    outbox = words(layout.outbox_at, layout.outbox // at.WORD)
    return [words(0, at.HEADER_WORDS), slots, claims, outbox, *tables, *arenas]


def test_the_header_is_frozen() -> None:
    """No release may move a header's word: one release raises the floor in the segment of another."""
    assert FROZEN == {name: getattr(at, name) for name in FROZEN}
    assert (0x315F4548434F4F5A, 64) == (at.MAGIC, at.HEADER_WORDS)


def test_the_magic_is_readable() -> None:
    """A hex dump of a segment says what it is."""
    assert b"ZOOCHE_1" == at.MAGIC.to_bytes(8, "little")


def test_header_words_do_not_share_places() -> None:
    """Each word has a place of its own inside the header; count and use have two, one for each table."""
    places = [value for name, value in vars(at).items() if name.startswith("H_")] + [at.H_COUNT + 1, at.H_USED + 1]
    assert sorted(set(places)) == sorted(places)
    assert all(0 <= place < at.HEADER_WORDS for place in places)


@given(SIZES)
def test_parts_lie_one_behind_the_other(size: int) -> None:
    """No part reaches into the next one, or beyond the segment, whatever its size."""
    found = parts(layout_of(size))
    assert all(one.stop <= next_one.start for one, next_one in itertools.pairwise(found))
    assert size >= found[-1].stop


@given(SIZES)
def test_words_are_aligned(size: int) -> None:
    """Every part begins at a whole word: an unaligned word could be torn."""
    assert [0] * 8 == [part.start % at.WORD for part in parts(layout_of(size))]


@given(SIZES)
def test_little_is_wasted(size: int) -> None:
    """Less than a node of each table and a word of each arena is left over."""
    assert at.NODE_WORDS * at.WORD * 4 + 64 > size - parts(layout_of(size))[-1].stop


@given(SIZES)
def test_owner_words_and_texts_fit(size: int) -> None:
    """A slot fits into 16 bits of an owner word, claims into whole buckets, an offset into what a node has for it."""
    layout = layout_of(size)
    assert 0 < layout.slots <= 1 << 16
    assert 0 < layout.claims == layout.claims // at.CLAIM_WAYS * at.CLAIM_WAYS
    assert layout.arena < 1 << 48
    assert 1 << 16 > MAX_LENGTH


def test_the_smallest_segment_is_of_use() -> None:
    """The smallest size has room for a handful of processes, flights, and a thousand tags."""
    layout = layout_of(at.MIN_SIZE)
    assert (32, 56) == (layout.slots, layout.claims)
    assert 1000 <= layout.nodes * at.LOAD_PERCENT // 100


@given(SIZES)
def test_the_outbox_has_room(size: int) -> None:
    """An outbox has room for dozens of messages, and takes a sixty-fourth of a large segment at most."""
    layout = layout_of(size)
    assert at.MIN_OUTBOX <= layout.outbox <= max(at.MIN_OUTBOX, size // 64)
    assert 0 == layout.outbox % at.WORD


def test_a_default_segment_serves_a_fleet() -> None:
    """The default has slots for 2048 processes and room for a hundred thousand tags."""
    layout = layout_of(at.DEFAULT_SIZE)
    assert 2048 == layout.slots
    assert 60_000 <= layout.nodes * at.LOAD_PERCENT // 100


def test_kernel_locks_do_not_meet() -> None:
    """The locks of slots stand on bytes of their own."""
    assert len({at.LOCK_ATTACHED, at.LOCK_LISTENER}) == 2
    assert max(at.LOCK_ATTACHED, at.LOCK_LISTENER) < at.LOCK_SLOTS


def test_a_claim_has_room_for_a_message() -> None:
    """A failure's text of some hundred bytes fits behind a claim's words."""
    assert 512 == at.CLAIM_TEXT_BYTES
    assert at.C_TEXT > max(
        at.C_STATE,
        at.C_HIGH,
        at.C_LOW,
        at.C_OWNER,
        at.C_TICKET,
        at.C_SINCE_MS,
        at.C_JOINED,
        at.C_LENGTH,
        at.C_LEASED,
    )
