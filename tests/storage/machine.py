"""A store against a plain dict: whatever is done in whatever order, they tell the same.

A store's test file subclasses `StoreMachine`, says how its stores are opened, and adds the rules of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from tests.storage.steps import START, hashed, paths_of
from zoocache.clock import Now
from zoocache.storage import FOREVER, Life, Loaded, Stamp, Store

KEYS = [hashed(f"key {index}") for index in range(4)]
TAGS = ["a", "a:b", "a:b:c", "a:d", "e"]
PATHS = sorted({path for tag in TAGS for path in paths_of(tag)})
WAYS = [(False, False), (True, False), (True, True)]
"""A fill, a key that is set, a key that is computed anew; the save's `anew` and `computed`."""

LIVES = [FOREVER, Life(1000), Life(1000, True), Life(1000, True, 2500), Life(0, False, 2500)]

keys = st.sampled_from(KEYS)
tags = st.lists(st.sampled_from(TAGS), max_size=3)


@dataclass
class Kept:
    """An entry of the model."""

    body: bytes
    paths: list[bytes]
    n: int
    key_n: int
    life: Life
    made: Now
    touched: Now


def age_ms(then: Now, now: Now) -> float:
    """The rule of `zoocache.clock`, in the model's words."""
    if then.boot == now.boot:
        return now.up_ms - then.up_ms
    return now.wall_ms - then.wall_ms if now.wall_ms >= then.wall_ms else float("inf")


class StoreMachine(RuleBasedStateMachine):
    """Two processes' stores (here in one) and a dict."""

    stamps = Bundle("stamps")

    open: Callable[[], list[Store]]
    """Opens two stores, empty: a method of each kind's machine. (Hypothesis' metaclass leaves no room for an ABC.)"""
    stores: list[Store]
    tells_n = False
    """Whether a load tells the n of the entry's stamp."""

    @initialize()
    def begin(self) -> None:
        """An empty store."""
        self.now = START
        self.stores = self.open()
        self.epoch = self.stores[0].stamp().epoch
        self.entries: dict[bytes, Kept] = {}
        self.numbers: dict[bytes, tuple[int, int]] = {}
        self.n = self.floor = self.saved = 0

    def store(self) -> Store:
        """The two take turns."""
        self.stores.reverse()
        return self.stores[0]

    # The model.

    def number(self, path: bytes) -> int:
        """Of a path or key."""
        return self.numbers.get(path, (0, 0))[0]

    def overtaken(self, paths: list[bytes], n: int) -> bool:
        """Whether a fill of this stamp is."""
        return self.floor > n or any(self.number(path) > n for path in paths)

    def left(self, kept: Kept) -> tuple[float | None, float | None]:
        """What is left of ttl and of the greatest age."""
        ttl = kept.life.ttl_ms - age_ms(kept.touched, self.now) if kept.life.ttl_ms else None
        age = kept.life.max_age_ms - age_ms(kept.made, self.now) if kept.life.max_age_ms else None
        return min((each for each in (ttl, age) if each is not None), default=None), age

    def living(self, key: bytes) -> Kept | None:
        """The entry, if it can be loaded."""
        kept = self.entries.get(key)
        if kept is None or self.overtaken(kept.paths, kept.n) or self.number(key) > kept.key_n:
            return None
        left, _ = self.left(kept)
        return kept if left is None or left > 0 else None

    def rise(self, paths: list[bytes]) -> int:
        """An invalidation."""
        self.n += 1
        self.numbers.update(dict.fromkeys(paths, (self.n, self.now.wall_ms)))
        return self.n

    # What is done.

    @rule(target=stamps)
    def stamp(self) -> Stamp:
        """A fill begins."""
        taken = self.store().stamp()
        assert Stamp(self.epoch, self.n) == taken
        return taken

    @rule(stamp=stamps, key=keys, tags=tags, life=st.sampled_from(LIVES), way=st.sampled_from(WAYS))
    def save(self, stamp: Stamp, key: bytes, tags: list[str], life: Life, way: tuple[bool, bool]) -> None:
        """A fill ends, or a key is set."""
        self.saved += 1
        anew, computed = way
        body, paths = b"%d" % self.saved, [path for tag in tags for path in paths_of(tag)]
        kept = self.store().save(key, paths, stamp, body, life, self.now, anew=anew, computed=computed)
        is_valid, is_late = not self.overtaken(paths, stamp.n), self.number(key) > stamp.n
        assert (is_valid and not (is_late and (computed or not anew))) == kept
        key_n = self.rise([key]) if anew and is_valid else stamp.n
        if kept:
            self.entries[key] = Kept(body, paths, stamp.n, key_n, life, self.now, self.now)

    @rule(paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=3))
    def invalidate(self, paths: list[bytes]) -> None:
        """An invalidation of several paths."""
        assert self.rise(paths) == self.store().invalidate(paths, self.now)

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        """A key is deleted."""
        assert (self.living(key) is not None) == self.store().delete(key, self.now)
        self.rise([key])
        self.entries.pop(key, None)

    @rule(touched=st.lists(keys, max_size=3), wait=st.booleans())
    def touch(self, touched: list[bytes], wait: bool) -> None:
        """Entries were read."""
        assert self.store().touch(touched, self.now, wait=wait)
        for key in touched:
            kept = self.entries.get(key)
            if kept and kept.life.sliding and (self.left(kept)[0] or 0) > 0 and age_ms(kept.touched, self.now) > 0:
                kept.touched = self.now

    @rule()
    def clear(self) -> None:
        """Everything is dropped."""
        self.store().clear()
        self.n += 1
        self.floor = self.n
        self.entries.clear()
        self.numbers.clear()
        assert 0 == self.store().count()

    @rule(older_than_ms=st.sampled_from([0, 1500, 10**12]))
    def prune(self, older_than_ms: int) -> None:
        """Old numbers give way to a floor, and what is dead is given back."""
        old = [path for path, (_, wall_ms) in self.numbers.items() if self.now.wall_ms - wall_ms >= older_than_ms]
        self.floor = max([self.floor, *(self.number(path) for path in old)])
        for path in old:
            del self.numbers[path]
        assert len(old) == self.store().prune(older_than_ms, self.now)
        self.entries = {key: kept for key, kept in self.entries.items() if self.living(key)}
        assert len(self.entries) == self.store().count()

    @rule(ms=st.sampled_from([1, 400, 999, 2000]))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now = Now(self.now.wall_ms + ms, self.now.up_ms + ms, self.now.boot)

    # What always holds.

    @invariant()
    def every_load_tells_what_the_model_tells(self) -> None:
        """Dead stays dead, and what lives is there, with the life that is left."""
        for key in KEYS:
            kept = self.living(key)
            n = kept.n if kept and self.tells_n else 0
            expected = kept and Loaded(kept.body, kept.life, *self.left(kept), n)  # type: ignore[arg-type]
            assert expected == self.store().load(key, self.now)

    @invariant()
    def the_count_is_right(self) -> None:
        """All that live are counted, and nothing that was never kept."""
        living = sum(self.living(key) is not None for key in KEYS)
        assert living <= self.store().count() <= len(self.entries)
