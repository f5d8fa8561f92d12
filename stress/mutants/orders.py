"""Mutants of the two orders on a host: the trie and its tables, early stamps, followers, live objects, keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from stress.mutants.planting import OPEN_S, Mutant, Same, put
from zoocache import entry, keys, trie, wrapper
from zoocache.clock import Now
from zoocache.engine import call, keeping, mutations, table
from zoocache.engine import fill as fills
from zoocache.engine.core import Engine
from zoocache.engine.effects import Steps, drive
from zoocache.engine.keeping import Begun
from zoocache.engine.live import SEQ, WORDS, Entry, Live
from zoocache.shm.layout import H_FLOOR, H_INSERTS, H_SEQ
from zoocache.shm.segment import Segment
from zoocache.shm.tables import Node, Tables
from zoocache.storage import Loaded, Stamp
from zoocache.storage.lmdb import LmdbStore


def _deaf() -> None:
    put(trie.Trie, "invalidate", lambda self, *_: self.seq())


def _blind() -> None:
    put(Segment, "is_current", lambda _: True)


def _seq_first() -> None:
    def mutant(self: trie.Trie, *arguments: Any) -> Any:
        self.words[H_SEQ] += 1
        time.sleep(OPEN_S)
        self.words[H_SEQ] -= 1  # `whole` counts from here, and ends at the number that readers have seen
        return whole(self, *arguments)

    whole = put(trie.Trie, "change", mutant)


def _silent_insert() -> None:
    def replace(self: Tables, *arguments: Any) -> None:
        whole(self, *arguments)
        self._words[H_INSERTS] += 2

    whole = put(Tables, "replace", replace)
    put(Tables, "begin_inserts", lambda _: None)
    put(Tables, "end_inserts", lambda _: None)


def _floor_last() -> None:
    def mutant(self: Tables, survivors: Iterable[Node], floor: int) -> None:
        whole(self, survivors, 0)
        time.sleep(20 * OPEN_S)
        self.begin_inserts()
        self._words[H_FLOOR] = max(self._words[H_FLOOR], floor)
        self.end_inserts()

    whole = put(Tables, "replace", mutant)


def _floorless() -> None:
    def mutant(self: Tables, survivors: Iterable[Node], _floor: int) -> None:
        whole(self, survivors, 0)

    whole = put(Tables, "replace", mutant)


def _late_note() -> None:
    def mutant(engine: Engine, *arguments: Any, **named: Any) -> Any:
        late = (drive(keeping.begin(engine)) if isinstance(each, Begun) else each for each in arguments)
        return whole(engine, *late, **named)

    whole = put(keeping, "land", mutant)


def _late_seq() -> None:
    def mutant(entry: Entry) -> bool:
        """The library's own; then the moment at which it is over, in place of that at which it began."""
        is_valid = whole(entry)
        time.sleep(OPEN_S)
        if is_valid:
            entry[SEQ] = entry[WORDS][H_SEQ]
        return is_valid

    whole: Callable[[Entry], bool] = put(table, "revalidate", mutant)
    put(wrapper, "revalidate", mutant)


def _late_stamp() -> None:
    def mutant(engine: Engine, live: Live, _stamp: Stamp | None, **anew: bool) -> Steps[None]:
        stamp = None if engine.store is None else engine.store.stamp()
        yield from whole(engine, live, stamp, **anew)

    whole = put(keeping, "save", mutant)


def _late_load() -> None:
    def mutant(
        engine: Engine, key: str, digest: bytes, share: bool, home: trie.Trie, _: int, asked_s: float, loaded: Loaded
    ) -> Any:
        time.sleep(OPEN_S)
        return whole(engine, key, digest, share, home, home.seq(), asked_s, loaded)

    whole = put(keeping, "open_loaded", mutant)


def _gullible() -> None:
    put(call, "_may_have", lambda *_: True)


def _segment_first() -> None:
    def mutant(self: LmdbStore, paths: list[bytes], now: Now) -> None:
        """The store's half, which comes first, waits until the segment's is done."""
        waiting.append((self, paths, now))

    def told(*arguments: Any) -> None:
        whole(*arguments)
        time.sleep(OPEN_S)
        for store, *what in waiting:
            invalidate(store, *what)
        waiting.clear()

    waiting: list[tuple[Any, ...]] = []
    invalidate = put(LmdbStore, "invalidate", mutant)
    whole = put(mutations, "invalidate", told)


def _builds_on_lives() -> None:
    def slowly(*arguments: Any) -> None:
        invalidate(*arguments)
        time.sleep(OPEN_S)

    invalidate = put(LmdbStore, "invalidate", slowly)
    put(Engine, "believes_lives", lambda _: True)


def _unkeyed() -> None:
    put(mutations, "overtake_key", lambda engine, *_: (engine.trie, 0, False))


def _forgets_inner() -> None:
    put(fills, "note", lambda *_, **__: None)


def _immortal() -> None:
    put(keeping, "set_life", lambda *_: None)


class _AnyKey(Same, str):
    """Equal to every key."""

    __slots__ = ()
    __hash__ = str.__hash__


def _hash_alone() -> None:
    def unpack(body: bytes) -> Any:
        found = whole(body)
        return None if found is None else found._replace(key=_AnyKey(found.key))

    whole = put(entry, "unpack", unpack)

    def short(text: str) -> bytes:
        found: bytes = digest(text)
        return found[:1] * 16

    digest = put(keys, "digest", short)


MUTANTS = {
    "deaf": Mutant("invalidate changes the trie", _deaf, "storm"),
    "blind": Mutant("who writes looks whether the segment was removed", _blind, "reboot"),
    "seq-first": Mutant("changed is stored before seq", _seq_first, "storm"),
    "silent-insert": Mutant("an insert moves inserts, so that nobody goes on believing that it is missing",
                            _silent_insert, "storm"),
    "floor-last": Mutant("the floor rises before the tables are flipped", _floor_last, "storm"),
    "floorless": Mutant("tags that give way leave a floor", _floorless, "storm"),
    "late-note": Mutant("seq is noted before a fill", _late_note, "storm"),
    "late-seq": Mutant("a reader notes seq before he looks", _late_seq, "storm"),
    "late-stamp": Mutant("the store's number is noted before a fill", _late_stamp, "storm", "lmdb"),
    "late-load": Mutant("seq is noted before a load", _late_load, "storm", "lmdb"),
    "gullible": Mutant("a follower asks whether the fill was overtaken", _gullible, "storm"),
    "segment-first": Mutant("the store is told before the segment", _segment_first, "storm", "lmdb"),
    "builds-on-lives": Mutant("a fill builds on no live object", _builds_on_lives, "storm", "lmdb"),
    "unkeyed": Mutant("set and delete overtake the key", _unkeyed, "storm", "lmdb"),
    "forgets-inner": Mutant("an outer value depends on what the inner one does", _forgets_inner, "storm"),
    "immortal": Mutant("what is live ends with its time", _immortal, "storm"),
    "hash-alone": Mutant("a hit in the store compares the whole key", _hash_alone, "storm", "lmdb"),
}  # fmt: skip
