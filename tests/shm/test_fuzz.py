"""A segment whose words were scribbled over, at any moment, by anybody: whoever is attached ends in an error of the
library or lets go of it, and never in anything else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz import busy_at_most, examples, words
from tests.shared_memory import objects_of
from zoocache import clock, deps
from zoocache.errors import ZooCacheError
from zoocache.shm import layout as at
from zoocache.shm.attachment import attach
from zoocache.shm.layout import HEADER_WORDS, MIN_SIZE, WORD, layout_of
from zoocache.shm.outbox import DONE, UNSENT
from zoocache.shm.segment import Orphaned, Segment
from zoocache.trie import Trie, target_of, words_of

LAYOUT = layout_of(MIN_SIZE)
TAGS = [f"org:{number}" for number in range(40)]
PATHS = {tag: tuple(map(words_of, deps.paths(tag))) for tag in TAGS}
WALL_MS = 1_700_000_000_000
DIGESTS = [(high, 7) for high in range(1, 4)]
MOST_BYTES = 1 << 20


class Scribble(NamedTuple):
    """One word that is changed: to `value`, or a bit of it, or a little, or to what another word says."""

    index: int
    how: str
    value: int


def spread(start: int, count: int, weight: int = 1) -> list[st.SearchStrategy[int]]:
    """Indices of a part of the segment."""
    return [st.integers(start, start + count - 1)] * weight


NODES = LAYOUT.nodes * at.NODE_WORDS
INDICES = st.one_of(
    *spread(0, HEADER_WORDS, 4),
    *spread(LAYOUT.slots_at, 2 * at.SLOT_WORDS),
    *spread(LAYOUT.claims_at, LAYOUT.claims * at.CLAIM_WORDS),
    *spread(LAYOUT.outbox_at, 64),
    *spread(LAYOUT.outbox_at, LAYOUT.outbox // WORD),
    *spread(LAYOUT.tables_at[0], NODES),
    *spread(LAYOUT.tables_at[1], NODES),
    *spread(LAYOUT.arenas_at[0] // WORD, (LAYOUT.size - LAYOUT.arenas_at[0]) // WORD),
)
SCRIBBLES = st.lists(
    st.builds(Scribble, INDICES, st.sampled_from(["set", "set", "bit", "add", "copy"]), words), min_size=1, max_size=6
)


class Scribbled:
    """A segment in use, of which there is a picture to begin each example with."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.trie = Trie(segment)
        segment.claim_slot(WALL_MS)
        self.fill()
        self.used = [index for index, word in enumerate(segment.words.tolist()) if word]
        self.picture = bytes(segment.words.cast("B"))

    def fill(self) -> None:
        """Something everywhere: nodes in both tables, claims, records."""
        trie, segment = self.trie, self.segment
        for tag in TAGS[:20]:
            trie.invalidate([target_of(tag)], WALL_MS)
        trie.prune(0, WALL_MS - 1)
        for tag in TAGS[10:30]:
            trie.invalidate([target_of(tag)], WALL_MS + 1)
        self.claim = segment.write(segment.claims.lead, *DIGESTS[0], clock.up_ms())[0]
        failed, _ = segment.write(segment.claims.lead, *DIGESTS[1], clock.up_ms())
        assert failed is not None
        segment.claims.fail(failed, b"why", clock.up_ms())
        self.failed = failed
        for number in range(5):
            self.place = segment.write(segment.outbox.append, segment.slots.owner, b"x" * 40 * number)
        segment.write(segment.outbox.become, self.place, UNSENT)

    def attach_again(self, prefix: str) -> None:
        """As the next process does."""
        self.segment = attach(prefix, MIN_SIZE, 20.0)
        self.trie = Trie(self.segment)

    def invalidated(self, prefix: str, tag: str) -> bool:
        """Invalidate, on another segment if this one turns out to be none; whether it is seen."""
        for _ in range(3):
            since = self.trie.seq()
            try:
                self.trie.invalidate([target_of(tag)], WALL_MS)
            except Orphaned:
                self.segment.leave()
                self.attach_again(prefix)
            else:
                return self.trie.overtaken(PATHS[tag], since)
        return False

    def begin_afresh(self, prefix: str) -> None:
        """In a new segment of the smallest size."""
        self.segment.leave()
        image(prefix).unlink()
        self.__init__(attach(prefix, MIN_SIZE, 20.0))  # type: ignore[misc]

    def begin(self, scribbles: list[Scribble], *, near: bool) -> None:
        """The picture, and then the damage; `near`: to words that say something."""
        words_, raw = self.segment.words, self.segment.words.cast("B")
        raw[:] = self.picture
        for index, how, value in scribbles:
            place = self.used[index % len(self.used)] if near else index
            word = words_[place]
            words_[place] = {
                "set": value, "bit": word ^ 1 << value % 64, "add": (word + value % 17 - 8) % 2**64,
                "copy": words_[self.used[value % len(self.used)]],
            }[how]  # fmt: skip


ACTS: list[Callable[[Scribbled], Any]] = [
    lambda one: one.trie.invalidate([target_of(TAGS[3])], WALL_MS),
    lambda one: one.trie.invalidate([target_of(TAGS[38]), target_of("new:one")], WALL_MS),
    lambda one: [one.trie.look(PATHS[tag], one.trie.seq()) for tag in TAGS],
    lambda one: one.trie.overtaken(PATHS[TAGS[5]], 3),
    lambda one: one.trie.version(TAGS[6]),
    lambda one: one.trie.listing(),
    lambda one: one.trie.prune(0, WALL_MS),
    lambda one: one.trie.prune_if_due(0, 0, clock.now()),
    lambda one: one.trie.clear(WALL_MS),
    lambda one: one.segment.write(one.trie.faults),
    lambda one: one.segment.write(one.segment.claims.lead, *DIGESTS[2], clock.up_ms()),
    lambda one: one.segment.write(one.segment.claims.lead, *DIGESTS[0], clock.up_ms()),
    lambda one: one.segment.write(one.segment.claims.inherit, one.claim, clock.up_ms(), 100),
    lambda one: one.segment.claims.needs_heir(one.claim, clock.up_ms(), 100),
    lambda one: one.segment.claims.quiet_since(*DIGESTS[0]),
    lambda one: one.segment.claims.lease(one.claim),
    lambda one: one.segment.claims.leased(),
    lambda one: one.segment.claims.failure(one.failed),
    lambda one: one.segment.claims.fail(one.claim, b"x" * 1000, clock.up_ms()),
    lambda one: one.segment.claims.end(one.claim),
    lambda one: one.segment.claims.running(),
    lambda one: one.segment.write(one.segment.outbox.append, one.segment.slots.owner, b"y" * 300),
    lambda one: one.segment.write(one.segment.outbox.append, one.segment.slots.owner, bytes(LAYOUT.outbox)),
    lambda one: one.segment.write(one.segment.outbox.waiting, MOST_BYTES),
    lambda one: one.segment.outbox.peek(MOST_BYTES),
    lambda one: one.segment.write(one.segment.outbox.become, one.place, DONE),
    lambda one: one.segment.write(one.segment.outbox.hide, one.place.end),
    lambda one: one.segment.write(one.segment.outbox.disown, one.place),
    lambda one: one.segment.write(one.segment.outbox.settle),
    lambda one: one.segment.write(one.segment.outbox.lose),
    lambda one: one.segment.write(one.segment.outbox.told_lost, one.segment.outbox.lost()[0]),
    lambda one: list(one.segment.slots.processes()),
    lambda one: one.segment.slots.is_dead(one.segment.words[one.claim.at + at.C_OWNER]),
    lambda one: one.segment.slots.claim(WALL_MS),
    lambda one: one.segment.is_current(),
    lambda one: one.segment.retire(),
]


@pytest.fixture
def scribbled(prefix: str) -> Iterator[Scribbled]:
    """A segment in use."""
    one = Scribbled(attach(prefix, MIN_SIZE, 20.0))
    yield one
    one.segment.leave()


@examples(250)
@given(SCRIBBLES, st.lists(st.sampled_from(range(len(ACTS))), min_size=1, max_size=8), st.booleans())
@example([Scribble(at.H_SEQ, "set", at.NEVER)], [0, 8], False)
def test_fuzz_a_segment_in_use(scribbled: Scribbled, scribbles: list[Scribble], acts: list[int], near: bool) -> None:
    """Whatever is scribbled over a segment, each act ends: well, in an error of the library, or by letting go of it."""
    scribbled.begin(scribbles, near=near)
    with busy_at_most(5):
        for act in acts:
            with contextlib.suppress(ZooCacheError, Orphaned):
                ACTS[act](scribbled)


def image(prefix: str) -> Path:
    """The file of a segment."""
    return next(path for path in objects_of(prefix) if not path.name.startswith("sem."))


@examples(60)
@given(SCRIBBLES, st.booleans(), st.sampled_from([None, None, None, 0, 8, 4096, MIN_SIZE - 8, MIN_SIZE + 4096]))
def test_fuzz_a_segment_that_nobody_uses(
    scribbled: Scribbled, prefix: str, scribbles: list[Scribble], near: bool, size: int | None
) -> None:
    """Who attaches to an object that was scribbled over, or has another length, has a segment that works: what is
    invalidated there is seen."""
    scribbled.begin(scribbles, near=near)
    scribbled.segment.leave()
    file = image(prefix)
    file.write_bytes(bytes(scribbled.segment.words.cast("B")))
    if size is not None:
        os.truncate(file, size)
    with busy_at_most(5):
        scribbled.attach_again(prefix)
        invalidated = scribbled.invalidated(prefix, TAGS[7])
    assert invalidated
    scribbled.begin_afresh(prefix)


def test_what_is_no_damage_is_the_callers(segment: Segment) -> None:
    """An error out of a write on a sound segment, such as a signal handler's, goes to the caller."""

    def interrupted() -> None:
        raise ValueError("mine")

    for write in (segment.write, segment.try_write, segment.run):
        with pytest.raises(ValueError, match="mine"):
            write(interrupted)
    assert segment.is_current()


@pytest.mark.parametrize("index", [at.H_SEQ, at.H_HLC, at.H_GEN])
def test_a_counter_at_its_end(segment: Segment, index: int) -> None:
    """A counter that leaves its word retires the segment, and is no error of Python's."""
    trie = Trie(segment)
    segment.words[index] = at.NEVER
    with pytest.raises(Orphaned):
        trie.clear(WALL_MS)
    assert not trie.is_live()


def test_a_beginning_in_the_future(segment: Segment) -> None:
    """Nobody waits for a claim that begins some day."""
    segment.claim_slot(WALL_MS)
    claim, _ = segment.write(segment.claims.lead, *DIGESTS[0], 1000)
    assert claim is not None
    assert not segment.claims.needs_heir(claim, 990, 100)
    segment.words[claim.at + at.C_SINCE_MS] = 1 << 50
    assert segment.claims.needs_heir(claim, 1000, 100)
