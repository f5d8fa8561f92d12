"""The trie of tags, as a table of its prefixes: tag path -> `changed`, the host's number of its last invalidation.

Nobody walks children. `invalidate("org:1")` touches one node; an entry that depends on `org:1:user:2` looks at the
nodes of `org`, `org:1`, `org:1:user` and `org:1:user:2`, whichever exist. A node need only exist once its very tag
was invalidated: a missing one counts as last changed at the floor, so reading a million tags costs no room.

The host's order is `seq`. A value whose fill began at `since` is overtaken if and only if a node of its paths has
`changed` above `since`, or the floor is above `since`. A mutation stores every `changed` (seq + 1) first and seq
last: a reader who takes seq before the nodes can at worst look once too often. A writer killed in between has not
returned, so it promised nothing; the number it left may be used again by the next mutation, and means the same then.

Full is not wrong: when the table is full, the older half of the nodes (by `changed`) gives way, and the floor rises to
the highest of theirs. Entries filled before that moment are computed once more; none is stale.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from zoocache import clock, deps
from zoocache.shm import points
from zoocache.shm.layout import (
    H_COARSENED,
    H_FLOOR,
    H_GEN,
    H_HLC,
    H_INSERTS,
    H_INVALIDATIONS,
    H_PRUNED_MS,
    H_PRUNES,
    H_SEQ,
    H_STATE,
    LIVE,
    N_AT,
    N_CHANGED,
    NEVER,
)
from zoocache.shm.neighbours import Neighbours
from zoocache.shm.segment import LOCK_FREE, Orphaned, Segment
from zoocache.shm.tables import MISSING, Node

READ_ATTEMPTS = 8
"""A reader that meets a replacement of the tables tries so often; then the answer is "overtaken"."""

_hash_words = struct.Struct("=QQ").unpack

Words = tuple[int, int]
"""A path as the two words of its hash."""


def hash_words(path: bytes) -> Words:
    """A path's hash as the words that stand in a node."""
    high, low = _hash_words(path)
    return high or 1, low  # 0 marks a free slot


words_of = lru_cache(maxsize=16384)(hash_words)
"""The same for the paths of tags, which come again and again."""

Target = tuple[int, int, bytes]
"""What an invalidation changes: the words of a path, and its text for listings (b"" where there is none to list)."""


@lru_cache(maxsize=4096)
def target_of(tag: str) -> Target:
    """A valid tag as a target.

    Raises:
        InvalidTag: the tag breaks the rules.
    """
    return (*words_of(deps.own_path(deps.check_tag(tag))), tag.encode("ascii"))


class TagNode(NamedTuple):
    """One invalidated tag, for listings.

    Attributes:
        tag: its path.
        changed: the host's number of its last invalidation.
        at_s: the wall clock then, in seconds since 1970.
    """

    tag: str
    changed: int
    at_s: float


class Sight(NamedTuple):
    """What a reader saw and may keep; see shm/tables.py.

    Attributes:
        inserts: keep it for as long as the segment's `inserts` is this; -1: not at all.
        changed: where the `changed` words of the nodes that exist are; no other path has a node, and the floor is not
            above the `since` that was asked for.
    """

    inserts: int
    changed: tuple[int, ...]


UNSEEN = Sight(-1, ())
"""The sight of one who has not looked: it must be replaced at the next look."""


class Trie:
    """The trie of one segment."""

    __slots__ = ("neighbours", "segment", "tables", "words")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.words = segment.words
        self.tables = segment.tables
        self.neighbours = Neighbours(segment.name, segment.words) if segment.shared else None

    def seq(self) -> int:
        """The host's moment."""
        return self.words[H_SEQ]

    def is_live(self) -> bool:
        """Whether nobody has retired the segment. No lock: the state is the first word that `retire` stores."""
        return self.words[H_STATE] == LIVE

    # Reading: without a lock on x86-64, see shm/tables.py.

    def look(self, paths: Iterable[Words], since: int) -> Sight | None:
        """Look at all nodes of `paths`.

        Args:
            paths: of one entry.
            since: `seq` when its fill began.

        Returns:
            What may be kept for the next look, or None if the entry is overtaken.
        """
        if not LOCK_FREE:
            return self.segment.run(self.sight, tuple(paths), since)
        return self.sight(paths, since)

    def sight(self, paths: Iterable[Words], since: int) -> Sight | None:
        """`look`, for who holds the lock."""
        words = self.words
        for _ in range(READ_ATTEMPTS):
            inserts = words[H_INSERTS]
            gen = words[H_GEN]
            changed = self._find_all(gen, paths)
            overtaken = False
            for index in changed:
                overtaken |= words[index] > since
            if words[H_GEN] == gen:
                if overtaken or words[H_FLOOR] > since or words[H_STATE] != LIVE:
                    return None
                return Sight(-1 if inserts & 1 else inserts, changed)
        return None

    def _find_all(self, gen: int, paths: Iterable[Words]) -> tuple[int, ...]:
        """Where the `changed` words of the existing nodes are."""
        find = self.tables.find
        nodes = [find(gen, high, low) for high, low in paths]
        return tuple([node + N_CHANGED for node in nodes if node != MISSING])

    def overtaken(self, paths: Iterable[Words], since: int) -> bool:
        """Whether a value filled at `since` was overtaken by an invalidation."""
        return self.words[H_SEQ] != since and self.look(paths, since) is None

    def version(self, tag: str) -> int:
        """The host's number of the last invalidation that reached the tag: its own, an ancestor's, or the floor.

        Raises:
            InvalidTag: the tag breaks the rules.
            Orphaned: the segment was retired.
        """
        paths = [words_of(path) for path in deps.paths(deps.check_tag(tag))]
        version = self._version(paths) if LOCK_FREE else None
        while version is None:
            version = self.segment.write(self._version, paths)
        return version

    def _version(self, paths: Sequence[Words]) -> int | None:
        """None: the tables were replaced meanwhile, as they cannot be under the lock."""
        words = self.words
        gen = words[H_GEN]
        changed = [words[index] for index in self._find_all(gen, paths)]
        version = max([words[H_FLOOR], *changed])
        if words[H_STATE] != LIVE:
            raise Orphaned(self.segment.name)
        return version if words[H_GEN] == gen else None

    def listing(self) -> list[TagNode]:
        """All tags that have a node, in the order of their names. It waits for nobody on x86-64.

        Raises:
            Busy, Orphaned: as `invalidate`.
        """
        nodes = self.tables.copied() if LOCK_FREE else None
        if nodes is None:
            nodes = self.segment.write(lambda: list(self.tables.nodes()))
        if not self.is_live():
            raise Orphaned(self.segment.name)
        return sorted(TagNode(node.text.decode("ascii", "replace"), node.changed, clock.hlc_wall_s(node.at))
                      for node in nodes if node.text)  # fmt: skip

    # Writing: under the segment's lock.

    def invalidate(self, targets: Sequence[Target], wall_ms: int) -> int:
        """Make `targets` and all below them changed now, under one number.

        Args:
            targets: what to change.
            wall_ms: the wall clock.

        Returns:
            The new seq.

        Raises:
            Busy: the lock stayed with another; nothing was changed.
            Orphaned: the segment was retired.
        """
        new = self.segment.write(self.change, targets, wall_ms)
        self.tell_neighbours()
        return new

    def change(self, targets: Sequence[Target], wall_ms: int) -> int:
        """`invalidate`, under the lock, of one who has insisted on currency, and who then tells the neighbours."""
        words = self.words
        new = words[H_SEQ] + 1
        words[H_HLC] = at = clock.hlc_next(words[H_HLC], wall_ms)
        find, gen = self.tables.find, words[H_GEN]
        unborn: list[Target] = []
        for target in targets:
            node = find(gen, target[0], target[1])
            if node == MISSING:
                unborn.append(target)
            else:
                words[node + N_AT] = at
                words[node + N_CHANGED] = new
        if unborn:
            self._insert([Node(high, low, new, at, text) for high, low, text in dict.fromkeys(unborn)], new)
        if points.ARMED:
            points.reach("trie.changed")
        words[H_SEQ] = new
        if points.ARMED:
            points.reach("trie.committed")
        words[H_INVALIDATIONS] = (words[H_INVALIDATIONS] + 1) & NEVER
        return new

    def _insert(self, nodes: Sequence[Node], new: int) -> None:
        tables = self.tables
        text_bytes = sum(len(node.text) for node in nodes)
        if not tables.has_room(len(nodes), text_bytes):
            self._coarsen()
        tables.begin_inserts()
        fits = tables.has_room(len(nodes), text_bytes) and all(map(tables.insert, nodes))
        tables.end_inserts()
        if not fits:
            self._replace([], new)

    def _coarsen(self) -> None:
        """Let the older half of the nodes give way."""
        nodes = sorted(self.tables.nodes(), key=lambda node: node.changed)
        half = len(nodes) // 2
        self.words[H_COARSENED] = (self.words[H_COARSENED] + half) & NEVER
        self._replace(nodes[half:], nodes[half - 1].changed if half else 0)

    def _replace(self, survivors: Sequence[Node], floor: int) -> None:
        self.tables.replace(survivors, floor)
        self.words[H_PRUNES] = (self.words[H_PRUNES] + 1) & NEVER

    def prune(self, older_than_ms: int, wall_ms: int) -> int:
        """Drop the nodes whose last invalidation is older, raising the floor to the highest of theirs.

        Args:
            older_than_ms: milliseconds.
            wall_ms: the wall clock.

        Returns:
            How many were dropped.
        """
        return self.segment.write(self.thin, older_than_ms, wall_ms)

    def thin(self, older_than_ms: int, wall_ms: int) -> int:
        """`prune`, under the lock."""
        before = (max(0, wall_ms - older_than_ms) + 1) << clock.COUNTER_BITS
        nodes = list(self.tables.nodes())
        survivors = [node for node in nodes if node.at >= before]
        dropped = len(nodes) - len(survivors)
        if dropped:
            self._replace(survivors, max(node.changed for node in nodes if node.at < before))
        return dropped

    def prune_if_due(self, older_than_ms: int, interval_ms: int, moment: clock.Now) -> int:
        """`prune`, if the last automatic one on this host is `interval_ms` ago and the lock is free right now."""
        if moment.up_ms - self.words[H_PRUNED_MS] < interval_ms:
            return 0
        _, dropped = self.segment.try_write(self._prune_once, older_than_ms, interval_ms, moment)
        return dropped or 0

    def _prune_once(self, older_than_ms: int, interval_ms: int, moment: clock.Now) -> int:
        if moment.up_ms - self.words[H_PRUNED_MS] < interval_ms:
            return 0
        self.words[H_PRUNED_MS] = moment.up_ms
        return self.thin(older_than_ms, moment.wall_ms)

    def clear(self, wall_ms: int) -> int:
        """Drop all nodes and make everything changed now; returns the new seq."""
        new = self.segment.write(self.empty, wall_ms)
        self.tell_neighbours()
        return new

    def empty(self, wall_ms: int) -> int:
        """`clear`, under the lock; the caller then tells the neighbours."""
        words = self.words
        new = words[H_SEQ] + 1
        words[H_HLC] = clock.hlc_next(words[H_HLC], wall_ms)
        self._replace([], new)
        words[H_SEQ] = new
        return new

    # `sight`, `change`, `thin` and `empty` are steps of a larger change too, for who holds the lock: see engine/.

    def tell_neighbours(self) -> None:
        """Make everything stale in the segments of other releases on this host; raises Busy as `invalidate`."""
        if self.neighbours is not None:
            self.neighbours.raise_floors()

    def faults(self) -> list[str]:
        """What is wrong with the tables and the outbox, in words. Under the lock."""
        words, nodes = self.words, list(self.tables.nodes())
        faults = self.segment.outbox.faults()
        if len({(node.high, node.low) for node in nodes}) != len(nodes):
            faults.append("a path has two nodes")
        if any(node.changed > words[H_SEQ] + 1 for node in nodes):
            faults.append("a node has changed after seq")
        if words[H_FLOOR] > words[H_SEQ] + 1:
            faults.append("the floor is above seq")
        if any(self.tables.find(words[H_GEN], node.high, node.low) == MISSING for node in nodes):
            faults.append("a node cannot be found")
        if any(node.text and words_of(deps.path_hash(node.text.decode("ascii", "replace"))) != (node.high, node.low)
               for node in nodes):  # fmt: skip
            faults.append("a node has another's text")
        if words[H_INSERTS] & 1:
            faults.append("an insert was left unfinished (harmless: see shm/tables.py)")
        return faults
