"""The writers of storm and killer: they change the truth, tell the cache, and say that it is finished.

Each key has one owner: one place of the fleet, and its writer. Whoever replaces a writer that was killed goes on from
the truth that it finds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zoocache
from stress import tree
from stress.board import L_BUSY, L_FILLS, L_LONGEST_WRITE_NS, L_SINCE_NS, L_WRITES
from stress.events import NONE
from stress.run import Lane
from stress.ways import COUNTED, WAY_NUMBERS, name_of

PACES_S = (0.0, 0.0, 0.001, 0.004)
"""Pauses between two writes: without any, nothing would ever be hit."""

VISITORS = 4096
"""Tags beside the tree that are invalidated, so many that the smallest trie must give some of them up."""

COUNT_EVERY = 32
BEHIND_THE_DEAD_S = 1.5
"""While no process is stopped, nothing but the dead can be in a write's way, and these for about a second at most."""


class Write(NamedTuple):
    """One mutation.

    Attributes:
        kind: as events call it.
        keys: of which the truth changes with it.
        tag: that it is about; "" for none of the tree's.
        action: called with the new versions of the keys, in their order.
        call: the key and the way of the one call that it is about, if it is.
    """

    kind: str
    keys: Sequence[int]
    tag: str
    action: Callable[[list[int]], object]
    call: tuple[int, int] = (NONE, 0)


class Writer:
    """The writes of one place.

    Args:
        lane: whose counters, events and chance are used.

    Attributes:
        lane: as given.
        gives_up: what a mutation raises if it may not be done, though nobody is to blame.
        alone_s: so long a mutation may take in which nobody is stopped.
        finished: how many mutations have been.
    """

    gives_up: tuple[type[Exception], ...] = (zoocache.Busy,)
    alone_s = BEHIND_THE_DEAD_S

    def __init__(self, lane: Lane) -> None:
        slots = lane.run.board.shape.slots
        self.lane = lane
        self.finished = 0
        self._chance = lane.chance
        if lane.run.server_url is not None:
            self.gives_up = (zoocache.Busy, zoocache.StorageError)
        self._is_told = lane.run.options.storage == "redis" or (
            lane.run.options.storage == "lmdb" and lane.run.options.hosts == 1
        )
        self._animals = [key for key in tree.ANIMAL_KEYS if key % slots == lane.slot]
        self._names = [key for key in tree.NAME_KEYS if key % slots == lane.slot]

    def run(self) -> None:
        """Write until the run is over."""
        writes = 0
        while self.lane.goes_on():
            self.do(self.any_write())
            writes += 1
            if writes % COUNT_EVERY == 0:
                self.count_fills()
            time.sleep(self._chance.choice(PACES_S))

    def any_write(self) -> Write:
        """One of all kinds, by chance."""
        choices = [(self._one, 40), (self._above, 12), (self._several, 8), (self._in_task, 3), (self._name, 20),
                   (self._visitors, 15), (self._clear, 0.1), (self._prune, 0.2), (self._drop_call, 2)]  # fmt: skip
        return self._chance.choices([kind for kind, _ in choices], [weight for _, weight in choices])[0]()

    def count_fills(self) -> None:
        """Show how many there were in this process."""
        self.lane.counters[L_FILLS] = sum(function.info().fills for function in COUNTED)

    def do(self, write: Write) -> None:
        """Change the truth, do it, and finish it; what gave up is not finished."""
        lane, truth = self.lane, self.lane.run.board.truth
        lane.ring.await_room()
        versions = [truth[key] + 1 for key in write.keys]
        begun_ns = time.monotonic_ns()
        for key, version in zip(write.keys, versions, strict=True):
            truth[key] = version
        stops, stopped_ns, start_ns = lane.stops(), lane.others_stopped_ns(), time.monotonic_ns()
        lane.counters[L_SINCE_NS] = start_ns
        self._note("begun", write, versions, begun_ns, start_ns)
        try:
            write.action(versions)
        except self.gives_up:
            lane.counters[L_BUSY] += 1
            self._note("busy", write, versions, start_ns, time.monotonic_ns())
        else:
            self._finish(write, versions, start_ns)
        lane.counters[L_SINCE_NS] = 0
        if lane.stops() == stops:
            self._measure(write, start_ns, stopped_ns)

    def _measure(self, write: Write, start_ns: int, stopped_ns: int) -> None:
        """How long it took, and how much of that nobody who was stopped can have been in its way."""
        lane = self.lane
        took_ns = time.monotonic_ns() - start_ns
        lane.counters[L_LONGEST_WRITE_NS] = max(lane.counters[L_LONGEST_WRITE_NS], took_ns)
        alone_ns = took_ns - (lane.others_stopped_ns() - stopped_ns)
        if alone_ns > lane.run.limit_s(self.alone_s) * 1e9:
            lane.run.fail(f"a {write.kind} took {alone_ns / 1e9:.3f} s in which nobody was stopped; {lane}")
            lane.run.halt()

    def _finish(self, write: Write, versions: list[int], start_ns: int) -> None:
        finished = self.lane.run.board.finished
        self._note(write.kind, write, versions, start_ns, time.monotonic_ns())
        for key, version in zip(write.keys, versions, strict=True):
            finished[key] = version
        self.lane.counters[L_WRITES] += 1
        self.finished += 1

    def _note(self, kind: str, write: Write, versions: list[int], start_ns: int, end_ns: int) -> None:
        tag = tree.TAG_NUMBERS.get(write.tag, NONE)
        call, way = write.call
        for key, version in zip(write.keys or (call,), versions or (0,), strict=True):
            self.lane.ring.note(kind, key, start_ns, end_ns, tag=tag, version=version, way=way)

    # What is written. Each choice is one Write.

    def _one(self) -> Write:
        keys = self._some(1)
        return self._invalidation(keys, tree.own_tag(keys[0]) if keys else "zoo:visitors")

    def _above(self) -> Write:
        tag = self._chance.choice(["zoo", *tree.HOUSE_TAGS, *tree.CAGE_TAGS])
        return self._invalidation([key for key in self._animals if tree.is_below(key, tag)], tag)

    def _several(self) -> Write:
        keys = self._some(3)
        tags = [tree.own_tag(key) for key in keys] or ["zoo:visitors"]
        return Write("invalidate", keys, tags[0] if len(tags) == 1 else "", lambda _: zoocache.invalidate(*tags))

    def _in_task(self) -> Write:
        keys = self._some(1)
        tag = tree.own_tag(keys[0]) if keys else "zoo:visitors"
        return Write("invalidate", keys, tag, lambda _: asyncio.run(zoocache.invalidate_async(tag)))

    def _visitors(self) -> Write:
        tags = [f"visitor:{self._chance.randrange(VISITORS)}" for _ in range(8)]
        return Write("visitors", (), "", lambda _: zoocache.invalidate(*tags))

    def _clear(self) -> Write:
        return Write("clear", self._animals, "", lambda _: zoocache.clear())

    def _prune(self) -> Write:
        older_s = self._chance.choice((0, 0.05, 1))
        return Write("prune", (), "", lambda _: zoocache.prune(older_s))

    def _drop_call(self) -> Write:
        function, key = self._chance.choice(COUNTED), self._chance.choice(tree.ANIMAL_KEYS)
        call = key, WAY_NUMBERS[function]
        return Write("drop", (), "", lambda _: function.invalidate_call(key), call)

    def _name(self) -> Write:
        if not self._names:
            return self._one()
        key = self._chance.choice(self._names)
        kind = self._chance.choice(("set", "set", "delete", "invalidate"))
        if kind == "delete":
            return Write("delete", [key], "", lambda _: zoocache.delete(name_of(key)))
        if kind == "invalidate":
            return self._invalidation([key], self._chance.choice(tree.ancestors(key)))
        return Write("set", [key], "", lambda versions: self._set(key, versions[0]))

    def _set(self, key: int, version: int) -> None:
        """In memory the others keep what they have, with LMDB the other hosts do, so the tag is invalidated first; in a
        store that all share nothing is needed."""
        if not self._is_told:
            zoocache.invalidate(tree.own_tag(key))
        ttl_s = self._chance.choice((None, 0.05, 5))
        zoocache.set(name_of(key), (time.monotonic_ns(), key, version), deps=[tree.own_tag(key)], ttl=ttl_s)

    def _some(self, most: int) -> list[int]:
        return self._chance.sample(self._animals, min(len(self._animals), self._chance.randint(1, most)))

    def _invalidation(self, keys: list[int], tag: str) -> Write:
        return Write("invalidate", keys, tag, lambda _: zoocache.invalidate(tag))
