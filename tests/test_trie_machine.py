"""The trie against a plain dict: whatever is invalidated, pruned, cleared or crowded out, in whatever order and through
whichever process's eyes, nothing that the dict calls stale is fresh.
"""

from __future__ import annotations

import itertools
import os
import secrets
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from zoocache import deps
from zoocache import trie as trie_room
from zoocache.shm.attachment import attach, destroy
from zoocache.shm.layout import H_FLOOR, H_INSERTS, LOAD_PERCENT, MIN_SIZE
from zoocache.shm.segment import Segment
from zoocache.trie import Sight, Trie, Words, target_of, words_of

TAGS = [":".join(path) for depth in (1, 2, 3) for path in itertools.product("abc", repeat=depth)]
EYES = 3
START_MS = 1_700_000_000_000

tags = st.sampled_from(TAGS)
eyes = st.integers(0, EYES - 1)


class Value(NamedTuple):
    """What a fill brought.

    Attributes:
        tags: what it depends on.
        since: the host's moment when the fill began.
        moment: the model's.
    """

    tags: tuple[str, ...]
    since: int
    moment: int

    @property
    def paths(self) -> tuple[Words, ...]:
        """As the trie takes them."""
        return tuple(map(words_of, deps.paths_of(self.tags)))


class TrieMachine(RuleBasedStateMachine):
    """Three processes' eyes on one small segment, and a dict: tag -> moment of its last invalidation."""

    values = Bundle("values")

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"machine{os.getpid()}n{secrets.token_hex(4)}"
        self.segments: list[Segment] = []
        self.tries: list[Trie] = []
        for _ in range(EYES):
            self._open_eye(len(self.tries))
        self.invalidated: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.sights: list[tuple[Value, Sight]] = []
        self.moment = self.cleared = self.extra = 0
        self.wall_ms = START_MS
        self.seq = 0

    def _open_eye(self, place: int) -> None:
        segment = attach(self.prefix, MIN_SIZE)
        self.segments[place : place + 1] = [segment]
        self.tries[place : place + 1] = [Trie(segment)]

    def teardown(self) -> None:
        for segment in self.segments:
            segment.leave()
        assert destroy(self.prefix)

    def _is_stale(self, value: Value) -> bool:
        """By the dict."""
        above = (path for tag in value.tags for path in deps.prefixes(tag))
        return max(self.cleared, *(self.invalidated.get(path, 0) for path in above)) > value.moment

    @initialize(eye=eyes, first=st.lists(tags, min_size=1, max_size=3))
    def begin(self, eye: int, first: list[str]) -> None:
        self.invalidate(eye, first)

    @rule(target=values, eye=eyes, chosen=st.lists(tags, min_size=1, max_size=3))
    def fill(self, eye: int, chosen: list[str]) -> Value:
        """A function begins to run."""
        return Value(tuple(chosen), self.tries[eye].seq(), self.moment)

    @rule(eye=eyes, chosen=st.lists(tags, max_size=4))
    def invalidate(self, eye: int, chosen: list[str]) -> None:
        new = self.tries[eye].invalidate([target_of(tag) for tag in chosen], self.wall_ms)
        self.moment += 1
        for tag in chosen:
            self.invalidated[tag] = self.moment
            self.versions[tag] = new
        assert new > self.seq

    @rule(eye=eyes, part=st.integers(1, 3))
    def crowd(self, eye: int, part: int) -> None:
        """Tags of nobody's: a third of what fits in, and more."""
        trie = self.tries[eye]
        count = trie.segment.layout.nodes * LOAD_PERCENT // 100 // 3 * part
        crowd = [target_of(f"crowd:{self.extra + number}") for number in range(count)]
        self.extra += count
        trie.invalidate(crowd, self.wall_ms)
        self.moment += 1

    @rule(eye=eyes, older_than_ms=st.sampled_from([0, 100, 10_000]))
    def prune(self, eye: int, older_than_ms: int) -> None:
        self.tries[eye].prune(older_than_ms, self.wall_ms)

    @rule(eye=eyes)
    def clear(self, eye: int) -> None:
        self.tries[eye].clear(self.wall_ms)
        self.moment += 1
        self.cleared = self.moment

    @rule(ms=st.sampled_from([1, 99, 5_000, -3_000]))
    def let_time_pass(self, ms: int) -> None:
        """The wall clock goes on, or is set back."""
        self.wall_ms += ms

    @rule(eye=eyes)
    def come_anew(self, eye: int) -> None:
        """A process ends, another one comes."""
        self.segments[eye].leave()
        self._open_eye(eye)

    @rule(eye=eyes, value=values)
    def look(self, eye: int, value: Value) -> None:
        """A value is overtaken if the dict says so; if not, only a floor above it may say so."""
        trie = self.tries[eye]
        overtaken = trie.overtaken(value.paths, value.since)
        if self._is_stale(value):
            assert overtaken
        else:
            assert overtaken == (trie.words[H_FLOOR] > value.since)
        sight = trie.look(value.paths, value.since)
        if sight is not None:
            assert not self._is_stale(value)
            self.sights.append((value, sight))

    @rule(target=values, eye=eyes, value=values)
    def refill(self, eye: int, value: Value) -> object:
        """What is overtaken is computed anew."""
        if not self.tries[eye].overtaken(value.paths, value.since):
            return multiple()
        return Value(value.tags, self.tries[eye].seq(), self.moment)

    @rule(eye=eyes, tag=tags)
    def ask_version(self, eye: int, tag: str) -> None:
        """A tag's version never falls, and is not behind what an invalidation on its way brought."""
        version = self.tries[eye].version(tag)
        assert version >= max(self.versions.get(path, 0) for path in deps.prefixes(tag))
        self.versions[tag] = version

    @invariant()
    def kept_sights_are_never_stale(self) -> None:
        """What a reader kept tells him so when it is over; see the reader's steps in shm/tables.py."""
        words = self.tries[0].words
        valid = [
            (value, sight)
            for value, sight in self.sights
            if all(words[index] <= value.since for index in sight.changed) and words[H_INSERTS] == sight.inserts
        ]
        assert [] == [value for value, _ in valid if self._is_stale(value)]
        self.sights = valid

    @invariant()
    def the_moment_never_goes_back(self) -> None:
        seqs = {trie.seq() for trie in self.tries}
        assert 1 == len(seqs)
        assert self.seq <= min(seqs)
        self.seq = min(seqs)

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert [] == self.segments[0].write(self.tries[0].faults)


class LockedTrieMachine(TrieMachine):
    """The same where readers take the lock."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(trie_room, "LOCK_FREE", False)
        super().__init__()

    def teardown(self) -> None:
        self._patch.undo()
        super().teardown()


_settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTrie = TrieMachine.TestCase
TestTrie.settings = _settings
TestLockedTrie = LockedTrieMachine.TestCase
TestLockedTrie.settings = settings(_settings, max_examples=8)
