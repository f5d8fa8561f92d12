"""The two tables of nodes: 128-bit hash -> changed, found without a lock while one writer works.

A node is NODE_WORDS words in an open-addressed table (linear probing, at most PROBES steps); its text lies in the
arena of the same table. One table is active (`gen & 1`); the other is scratch for the next replacement.

A reader, without a lock:
    1  gen
    2  the nodes it wants in table gen & 1 (a free slot ends the probing: the node is missing)
    3  gen again: another one means that the table may be scratch by now; all that was read is void
    4  floor and state, last: the floor is what every missing node counts as changed at, and in a dead segment
       everything is void
  If `inserts` was even before step 1, all that it found (where nodes are, which are missing, that the floor is not
  above a certain number) stays true for as long as `inserts` is that number, since nothing of it changes without
  moving `inserts`. So the next look may read the `changed` of the nodes it knows, then `inserts`, last, and be done.

A writer, under the segment's lock:
    change       N_AT, N_CHANGED (one store: true)
    insert       inserts + 1 (odd) if it is even; text, N_LOW, N_CHANGED, N_AT, N_TEXT; N_HIGH (published); count;
                 inserts + 1 (even)
    replace      all survivors into the scratch table, its count and use; inserts + 1 (odd) if it is even; floor;
                 gen + 1 (one store: true); inserts + 1 (even)

Crash argument. A change is one store. An insert that dies before N_HIGH leaves a free slot with words in it, which
the next insert overwrites, and after it a node that is whole; in both cases `inserts` stays odd, and a reader never
keeps "missing" while it is odd, so it cannot overlook that node. The next insert leaves it odd until it is done. The
count may then be one short, which only makes the table full one node later. A replacement that dies before gen leaves
scratch, or a floor that is too high and `inserts` odd: more is computed anew, nothing is stale. The floor comes
before the flip: the other way round a reader could see the new table without the nodes that were dropped and the old
floor.

The order of `inserts` and N_HIGH matters on both sides: with one increment before, a reader could look between it and
N_HIGH and keep "missing"; with one after, a writer killed in between would leave a node that nobody looks for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zoocache.shm import points
from zoocache.shm.layout import (
    H_COUNT,
    H_FLOOR,
    H_GEN,
    H_INSERTS,
    H_USED,
    LOAD_PERCENT,
    N_AT,
    N_CHANGED,
    N_HIGH,
    N_LOW,
    N_TEXT,
    NEVER,
    NODE_WORDS,
    Layout,
)

PROBES = 128
MISSING = -1
COPY_ATTEMPTS = 4
"""Who copies a table without the lock, and finds that it was replaced meanwhile, tries so often."""


class Node(NamedTuple):
    """One node, copied out."""

    high: int
    low: int
    changed: int
    at: int
    text: bytes


class Tables:
    """The tables of one segment. Methods that write say so; the others take no lock."""

    __slots__ = ("_arenas_at", "_bytes", "_capacity", "_tables_at", "_words", "layout")

    def __init__(self, words: memoryview, raw: memoryview, layout: Layout) -> None:
        self.layout = layout
        self._words = words
        self._bytes = raw
        self._capacity = layout.nodes
        self._tables_at = layout.tables_at
        self._arenas_at = layout.arenas_at

    def find(self, gen: int, high: int, low: int) -> int:
        """The index of a node's first word in the table of `gen`, or MISSING. The caller checks gen afterwards."""
        words = self._words
        base = self._tables_at[gen & 1]
        slot = high % self._capacity
        for _ in range(PROBES):
            at = base + slot * NODE_WORDS
            found = words[at]
            if not found:
                return MISSING
            if found == high and words[at + N_LOW] == low:
                return at
            slot = slot + 1 if slot + 1 < self._capacity else 0
        return MISSING

    def count(self) -> int:
        """How many nodes the active table has."""
        return self._words[H_COUNT + (self._words[H_GEN] & 1)]

    def has_room(self, nodes: int, text_bytes: int) -> bool:
        """Whether so many nodes with so much text fit in. Under the lock."""
        active = self._words[H_GEN] & 1
        full = (self._words[H_COUNT + active] + nodes) * 100 > self._capacity * LOAD_PERCENT
        return not full and self._words[H_USED + active] + text_bytes <= self.layout.arena

    def begin_inserts(self) -> None:
        """Writer, under the lock: from here on nobody keeps where nodes are, or that they are missing."""
        inserts = self._words[H_INSERTS]
        if not inserts & 1:
            self._words[H_INSERTS] = inserts + 1
        if points.ARMED:
            points.reach("table.counted")

    def end_inserts(self) -> None:
        """Writer, under the lock: what was inserted is found by all who look from here on."""
        self._words[H_INSERTS] = min(self._words[H_INSERTS] + 1, NEVER)  # NEVER: retired meanwhile, and stays so
        if points.ARMED:
            points.reach("table.settled")

    def insert(self, node: Node) -> bool:
        """Writer, under the lock, between begin_inserts and end_inserts, with room made; whether a slot was near."""
        words = self._words
        active = words[H_GEN] & 1
        at = self._free_slot(active, node.high)
        if at == MISSING:
            return False
        used = words[H_USED + active]
        start = self._arenas_at[active] + used
        self._bytes[start : start + len(node.text)] = node.text
        words[at + N_LOW] = node.low
        words[at + N_CHANGED] = node.changed
        words[at + N_AT] = node.at
        words[at + N_TEXT] = used << 16 | len(node.text)
        words[H_USED + active] = used + len(node.text)
        if points.ARMED:
            points.reach("table.fielded")
        words[at + N_HIGH] = node.high
        words[H_COUNT + active] += 1
        if points.ARMED:
            points.reach("table.published")
        return True

    def _free_slot(self, active: int, high: int) -> int:
        base = self._tables_at[active]
        slot = high % self._capacity
        for _ in range(PROBES):
            at = base + slot * NODE_WORDS
            if not self._words[at]:
                return at
            slot = slot + 1 if slot + 1 < self._capacity else 0
        return MISSING

    def nodes(self) -> Iterator[Node]:
        """The nodes of the active table, copied out in one go. Under the lock, or for a picture that may be torn."""
        active = self._words[H_GEN] & 1
        base = self._tables_at[active]
        table = self._words[base : base + self._capacity * NODE_WORDS].tolist()
        arena = self._arenas_at[active]
        for at in range(0, len(table), NODE_WORDS):
            if table[at]:
                text = self._text(arena, table[at + N_TEXT])
                yield Node(table[at], table[at + N_LOW], table[at + N_CHANGED], table[at + N_AT], text)

    def _text(self, arena: int, where: int) -> bytes:
        """A node's text; none where the word is damaged: texts are for people."""
        offset, length = where >> 16, where & 0xFFFF
        is_inside = offset + length <= self.layout.arena
        return bytes(self._bytes[arena + offset : arena + offset + length]) if is_inside else b""

    def copied(self) -> list[Node] | None:
        """The nodes of the active table, copied out without the lock, for who only looks: one that is being changed
        meanwhile may show its new time with its old number. None: the table was replaced, again and again."""
        words = self._words
        for _ in range(COPY_ATTEMPTS):
            gen = words[H_GEN]
            nodes = list(self.nodes())
            if words[H_GEN] == gen:
                return nodes
        return None

    def replace(self, survivors: Iterable[Node], floor: int) -> None:
        """Writer, under the lock: make `survivors` the whole of the active table.

        Args:
            survivors: the nodes to keep.
            floor: at least the highest `changed` of the nodes that are not among them.
        """
        words = self._words
        scratch = (words[H_GEN] & 1) ^ 1
        table, texts, count, lost = _built(survivors, self._capacity, self.layout.arena)
        base = self._tables_at[scratch]
        words[base : base + len(table)] = memoryview(table)
        start = self._arenas_at[scratch]
        self._bytes[start : start + len(texts)] = bytes(texts)
        words[H_COUNT + scratch] = count
        words[H_USED + scratch] = len(texts)
        if points.ARMED:
            points.reach("prune.copied")
        self.begin_inserts()
        words[H_FLOOR] = max(words[H_FLOOR], floor, lost)
        if points.ARMED:
            points.reach("prune.floored")
        words[H_GEN] += 1
        if points.ARMED:
            points.reach("prune.flipped")
        self.end_inserts()


def _built(survivors: Iterable[Node], capacity: int, arena: int) -> tuple[array[int], bytearray, int, int]:
    """A table in private memory: its words, its texts, how many nodes, the highest `changed` that found no slot. Where
    words are damaged, texts may lie over one another and be too long together: some nodes lose theirs."""
    table = array("Q", bytes(capacity * NODE_WORDS * 8))
    texts = bytearray()
    count = lost = 0
    for node in survivors:
        at = _free_in(table, node.high, capacity)
        if at == MISSING:
            lost = max(lost, node.changed)
            continue
        text = node.text if len(texts) + len(node.text) <= arena else b""
        table[at : at + NODE_WORDS] = array(
            "Q", (node.high, node.low, node.changed, node.at, len(texts) << 16 | len(text))
        )
        texts += text
        count += 1
    return table, texts, count, lost


def _free_in(table: array[int], high: int, capacity: int) -> int:
    slot = high % capacity
    for _ in range(PROBES):
        if not table[slot * NODE_WORDS]:
            return slot * NODE_WORDS
        slot = slot + 1 if slot + 1 < capacity else 0
    return MISSING
