"""The LMDB store: that it is one, its room, its limits, its prefixes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import Children
from tests.storage.contract import LocalContract, Opened, opening
from tests.storage.steps import BOOT, START, after, body, fill_up, hashed, paths_of, save
from zoocache.errors import ConfigError, StorageIsFull
from zoocache.storage import FOREVER, Life
from zoocache.storage.lmdb import MIN_MAP_SIZE, LmdbStore
from zoocache.storage.lmdb_files import LINK

MIB = 1 << 20


class TestLmdb(LocalContract):
    """It is a store."""

    @pytest.fixture
    def opened(self, place: Path) -> Iterator[Opened]:
        yield from opening(lambda: LmdbStore(place, map_size=16 * MIB, boot=BOOT))


def disk_bytes(path: Path) -> int:
    """What the files below a directory take on the disk, holes not counted."""
    return sum(each.stat().st_blocks * 512 for each in path.rglob("*") if each.is_file())


def in_store(store: LmdbStore, keys: list[str]) -> list[str]:
    """Those of the keys that are there, each with the right body."""
    found = [key for key in keys if store.load(hashed(key), START)]
    assert [key.encode() for key in found] == [(body(store, key) or b"")[: len(key)] for key in found]
    return found


# Opening.


def test_nothing_is_opened_before_it_is_used(place: Path) -> None:
    """Making a store touches no file."""
    LmdbStore(place / "cache")
    assert not (place / "cache").exists()


@pytest.mark.parametrize("options", [{"map_size": MIN_MAP_SIZE - 1}, {"max_entries": 0}, {"max_entries": -1}])
def test_sizes_and_limits_that_cannot_be(place: Path, options: dict[str, int]) -> None:
    """A map that is too small, and a limit below one, are refused at once."""
    with pytest.raises(ConfigError):
        LmdbStore(place, **options)  # type: ignore[arg-type]


def test_a_directory_is_found_again_from_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the directory it meant when the store was made."""
    monkeypatch.chdir(place)
    store = LmdbStore("cache")
    monkeypatch.chdir("/")
    save(store, "k")
    assert b"k" == body(LmdbStore(place / "cache"), "k")


def test_files_are_for_their_user_alone(place: Path) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        save(LmdbStore(place / "cache", prefix="p"), "k")
    finally:
        os.umask(before)
    modes = {each.name: each.lstat().st_mode & 0o777 for each in (place / "cache").rglob("*") if not each.is_symlink()}
    expected = {"entries.mdb", "numbers.mdb", "entries.mdb-lock", "numbers.mdb-lock", "zoocache.lock"}
    assert expected == {name for name, mode in modes.items() if mode == 0o600}
    assert {0o600, 0o700} == set(modes.values())


# Prefixes.


def test_prefixes_are_apart(place: Path) -> None:
    """Stores of different prefixes share neither entries nor numbers, nor does one's clear empty another."""
    names = [
        "",
        "a",
        "A",
        "b",
        "a/b",
        "a_b",
        "..",
        ".",
        "é",
        "É",
        "x" * 200,
        "x" * 201,
        "epoch.1",
        "living",
        LINK,
        "a+b",
    ]
    stores = [LmdbStore(place, prefix=name, map_size=MIN_MAP_SIZE) for name in names]
    assert len(names) == len({store.directory for store in stores})
    assert all(Path(store.directory) == place or Path(store.directory).parent == place for store in stores)
    for name, store in zip(names, stores, strict=True):
        assert not Path(store.directory).is_symlink()
        save(store, "k", body=b"in " + name.encode())
    stores[0].clear()
    stores[1].invalidate([hashed("a")], START)
    assert [None, *(b"in " + name.encode() for name in names[1:])] == [body(store, "k") for store in stores]


def test_a_map_has_the_size_it_was_made_with(place: Path) -> None:
    """Who opens a store with another map size gets it as it is."""
    LmdbStore(place, map_size=8 * MIB).stamp()
    size = sum(each.stat().st_size for each in place.rglob("*.mdb"))
    larger = LmdbStore(place, map_size=64 * MIB)
    with pytest.raises(StorageIsFull):
        save(larger, "k", body=bytes(2 * MIB))
    assert size == sum(each.stat().st_size for each in place.rglob("*.mdb"))
    assert 8 * MIB >= size


# Room.


@pytest.mark.parametrize("size", [2 * MIB, 16 * MIB, 40 * MIB])
def test_a_value_that_can_never_fit(place: Path, size: int) -> None:
    """It is refused by name, the entry that was there stays, and nothing else is lost."""
    store = LmdbStore(place, map_size=8 * MIB)
    keys = [f"k{index}" for index in range(100)]
    for key in keys:
        save(store, key)
    with pytest.raises(StorageIsFull, match=f"{size} bytes does not fit"):
        save(store, "k7", body=bytes(size))
    assert keys == in_store(store, keys)


def test_the_largest_value_fits(place: Path) -> None:
    """What is not refused is kept, even if the map is full of others."""
    store = LmdbStore(place, map_size=4 * MIB)
    for index in range(3000):
        save(store, f"k{index}", body=f"k{index}".encode() + bytes(1500))
    large = bytes(400_000)
    assert save(store, "large", body=large)
    assert large == body(store, "large")


@pytest.mark.parametrize("sizes", [(0, 200), (1000, 1500), (0, 20_000), (40_000, 60_000)])
def test_a_full_map_makes_room(place: Path, sizes: tuple[int, int]) -> None:
    """More than fits can be saved: the oldest give way, the last is there, and the store does not begin anew."""
    store = LmdbStore(place, map_size=2 * MIB)
    chance = random.Random(7)
    epoch = store.stamp().epoch
    total = 0
    keys: dict[str, int] = {}
    while total < 4 * MIB:
        key = f"k{len(keys)}"
        value = key.encode() + bytes(chance.randint(*sizes))
        assert save(store, key, f"t:{key}", body=value)
        assert value == body(store, key)
        keys[key] = len(keys)
        total += 200 + len(value)
    found = in_store(store, list(keys))
    assert store.count() == len(found)
    assert len(found) < len(keys)
    assert sum(len(body(store, key) or b"") + 200 for key in found) > MIB // 3
    assert sum(keys[key] for key in found) / len(found) > len(keys) / 2
    assert epoch == store.stamp().epoch
    assert 2 * MIB + MIB // 2 >= disk_bytes(place)


def test_entries_that_die_make_room_first(place: Path) -> None:
    """In a full map the dead give way before the living."""
    store = LmdbStore(place, map_size=4 * MIB)
    living = [f"l{index}" for index in range(300)]
    for key in living:
        save(store, key, "living", body=key.encode() + bytes(1000))
    for turn in range(20):
        for index in range(200):
            save(store, f"d{turn}:{index}", "dying", body=bytes(1000))
        store.invalidate([hashed("dying")], START)
    assert len(in_store(store, living)) > len(living) // 2


def test_an_invalidation_is_never_lost_in_a_full_map(place: Path) -> None:
    """While saves fill the map, each invalidation takes effect."""
    store = LmdbStore(place, map_size=2 * MIB)
    for index in range(2000):
        save(store, f"k{index}", f"t:{index}", body=bytes(2000))
        if index % 3 == 0:
            store.invalidate([hashed(f"t:{index}")], START)
            assert None is body(store, f"k{index}")


def test_more_numbers_than_fit(place: Path) -> None:
    """When tags outgrow the table of numbers, the older half gives way under a floor: what is dead stays dead, and
    what is new is kept."""
    store = LmdbStore(place, map_size=MIN_MAP_SIZE)
    stamp = store.stamp()
    save(store, "dead", "dead")
    store.invalidate([hashed("dead")], START)
    for index in range(20_000):
        store.invalidate([hashed(f"t{index}")], START)
    assert Path(store.directory).exists()
    assert None is body(store, "dead")
    assert not save(store, "old", "t0", stamp=stamp)
    assert not save(store, "old", "t19999", stamp=stamp)
    assert save(store, "new", "t0")
    assert b"new" == body(store, "new")
    assert stamp.epoch == store.stamp().epoch


def test_one_invalidation_of_more_than_fits(place: Path) -> None:
    """An invalidation of more paths than there is room for overtakes everything, and is not refused."""
    store = LmdbStore(place, map_size=MIN_MAP_SIZE)
    save(store, "k", "a")
    store.invalidate([hashed(f"t{index}") for index in range(30_000)], START)
    assert None is body(store, "k")
    assert save(store, "k", "a")
    assert b"k" == body(store, "k")


def test_expired_entries_are_given_back_without_being_read(place: Path) -> None:
    """While entries with a limit are saved, the expired ones go, though nobody asks for them."""
    store = LmdbStore(place, map_size=4 * MIB)
    for index in range(500):
        save(store, f"old{index}", life=Life(1000))
    for index in range(500):
        save(store, f"new{index}", life=Life(1000), now=after(2000))
    assert store.count() < 600
    assert [f"new{index}".encode() for index in range(500)] == [body(store, f"new{i}", after(2000)) for i in range(500)]


# The limit of entries.


@pytest.mark.parametrize("limit", [1, 2, 10, 100])
def test_no_more_than_max_entries(place: Path, limit: int) -> None:
    """There are never more entries than the limit, and nearly as many."""
    store = LmdbStore(place, map_size=4 * MIB, max_entries=limit)
    counts = []
    for index in range(3 * limit + 20):
        assert save(store, f"k{index}")
        assert f"k{index}".encode() == body(store, f"k{index}")
        counts.append(store.count())
    assert limit == max(counts)
    assert min(counts[limit:]) >= limit * 15 // 16


def test_what_is_over_the_limit_is_the_oldest(place: Path) -> None:
    """A small store drops the entry that was unused for longest."""
    store = LmdbStore(place, max_entries=3)
    for key in "abc":
        save(store, key)
    body(store, "a")
    save(store, "d")
    assert [b"a", None, b"c", b"d"] == [body(store, key) for key in "abcd"]


def test_saving_again_is_no_more_entries(place: Path) -> None:
    """An entry that is replaced makes nothing give way."""
    store = LmdbStore(place, max_entries=3)
    for key in "abcabcabc":
        save(store, key)
    assert [b"a", b"b", b"c"] == [body(store, key) for key in "abc"]


def test_touched_entries_count_once(place: Path) -> None:
    """What is noted of touches and reads is no entry."""
    store = LmdbStore(place, max_entries=3)
    for key in "abc":
        save(store, key, life=Life(1000, True))
    store.touch([hashed(key) for key in "abc"], after(10), wait=True)
    assert 3 == store.count()
    for key in "abc":
        body(store, key, after(20))
        save(store, key, life=Life(1000, True), now=after(20))
    assert [b"a", b"b", b"c"] == [body(store, key, after(20)) for key in "abc"]


def test_a_limit_that_was_lowered(place: Path) -> None:
    """A store with more entries than a new limit allows comes down to it."""
    many = LmdbStore(place)
    for index in range(500):
        save(many, f"k{index}")
    few = LmdbStore(place, max_entries=20)
    for index in range(30):
        save(few, f"l{index}")
    assert 20 >= few.count()


def test_all_processes_together_keep_to_the_limit(place: Path, children: Children) -> None:
    """However many processes save at once, none ever sees more entries than the limit."""
    started = [children.call(fill_up, str(place), name, 50) for name in "abc"]
    assert [50] * 3 == [int(child.output()) for child in started]
    store = LmdbStore(place)
    assert 45 <= store.count() <= 50


def test_bodies_stay_apart_from_their_tags(place: Path) -> None:
    """A body that looks like paths is a body."""
    store = LmdbStore(place)
    value = b"".join(paths_of("a:b:c"))
    store.save(hashed("k"), paths_of("x:y"), store.stamp(), value, FOREVER, START)
    store.invalidate(paths_of("a:b:c"), START)
    assert value == body(store, "k")
