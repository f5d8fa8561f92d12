"""P8: a full segment, a full storage or a full /dev/shm may cost a computation, never a stale value, never a crash."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import zoocache
from tests.crowd import together
from tests.forks import Forks
from tests.peers import Peer
from tests.promises import world
from tests.shm import namespaces
from zoocache import SegmentTooSmall, StorageIsFull, cacheable, configure, invalidate
from zoocache._zoocache import Core

KIB, MIB = 1 << 10, 1 << 20


def small_segment() -> int:
    """Settle the smallest segment; how many tags fit into it, about."""
    configure(shm_size=256 * KIB)
    return 4_000


# The trie.


def test_more_tags_than_a_segment_holds(storage: str) -> None:
    """However many tags were killed: no value that was killed is handed out, and what is filled afterwards is kept."""
    many, truth, runs = small_segment(), 0, []

    @cacheable(deps="mine:a:b")
    def get() -> int:
        runs.append(1)
        return truth

    for number in range(1, 9):
        truth = number
        invalidate("mine:a")
        invalidate(*(f"other:{number}:{n}" for n in range(many // 4)))
        assert truth == get() == get()
        invalidate(*(f"more:{number}:{n}" for n in range(many // 4)))
        assert truth == get()
    assert 8 <= len(runs) <= 2 * 8
    assert [] == Core().check()
    assert len(Core().tags()) < many


def test_long_tags_fill_it_too(storage: str) -> None:
    """Tags of the greatest length and depth, more of them than there is room for their names."""
    small_segment()
    truth = 0

    @cacheable(deps=":".join(["x" * 15] * 16))
    def get() -> int:
        return truth

    for number in range(1, 6):
        truth = number
        invalidate("x" * 15)
        for n in range(400):
            invalidate(f"{n:0>5}{number}".ljust(256, "y"))
        assert truth == get() == get()
    assert [] == Core().check()


def test_one_invalidation_of_more_tags_than_there_is_room_for(storage: str) -> None:
    """A single call with more tags than fit kills them all, and nothing that is set after it."""
    many = 4 * small_segment()
    chance = random.Random(5)
    names = chance.sample(range(many), 20)
    for n in names:
        zoocache.set(f"k{n}", n, deps=f"t:{n}")
    invalidate(*(f"t:{n}" for n in range(many)))
    assert [None] * 20 == [zoocache.get(f"k{n}") for n in names]
    zoocache.set("k", 1, deps="t:5")
    invalidate("else", wait=True)  # with a bus: nothing is left to be told
    assert 1 == zoocache.get("k")
    assert [] == Core().check()


@pytest.mark.usefixtures("patient")
def test_a_full_segment_among_processes(
    storage: str, peer: Callable[[], Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one process fills the segment again and again, others never read the past."""
    monkeypatch.setenv("ZOOCACHE_SHM_SIZE", str(256 * KIB))
    reader, filler = peer(), peer()
    reader.begin("count_stale_scores", 150)
    filler.begin("flood", 12)
    world.raise_score(150)
    assert 0 == reader.result()
    assert None is filler.result()
    assert [] == Core().check()


def test_many_keys_set_by_hand(lmdb: Path) -> None:
    """Keys that are set, each of which is an invalidation of itself, fill the segment: none gets another's value."""
    small_segment()
    for n in range(2_000):
        zoocache.set(f"k{n}", n, deps="all")
    assert all(zoocache.get(f"k{n}") in {n, None} for n in range(0, 2_000, 7))
    assert 1_999 == zoocache.get("k1999")
    invalidate("all")
    assert not any(zoocache.get(f"k{n}") for n in range(0, 2_000, 7))
    assert [] == Core().check()


# The storage.


def test_a_full_storage_makes_room(tmp_path: Path) -> None:
    """When the map is full, older entries go and new ones are kept; a kill in a full storage is a kill."""
    configure(storage_url=f"lmdb://{tmp_path / 'small'}", lmdb_map_size=MIB)
    for n in range(300):
        zoocache.set(f"k{n}", os.urandom(10 * KIB), deps=f"t:{n}")
    zoocache.reset()
    configure(storage_url=f"lmdb://{tmp_path / 'small'}", lmdb_map_size=MIB)
    kept = [n for n in range(300) if zoocache.get(f"k{n}") is not None]
    assert 299 in kept
    assert 10 < len(kept) < 110
    invalidate("t:299")
    assert None is zoocache.get("k299")


def test_a_value_that_can_never_fit_costs_nobody_anything(tmp_path: Path) -> None:
    """It is an error that says so, again and again, and all that was kept before stays."""
    configure(storage_url=f"lmdb://{tmp_path / 'small'}", lmdb_map_size=MIB)
    for n in range(20):
        zoocache.set(f"k{n}", n)

    @cacheable
    def huge() -> bytes:
        return bytes(2 * MIB)

    for _ in range(3):
        with pytest.raises(StorageIsFull, match=r"fit.*lmdb_map_size"):
            huge()
        with pytest.raises(StorageIsFull):
            zoocache.set("huge", bytes(2 * MIB))
    zoocache.reset()
    configure(storage_url=f"lmdb://{tmp_path / 'small'}", lmdb_map_size=MIB)
    assert list(range(20)) == [zoocache.get(f"k{n}") for n in range(20)]


def test_a_full_storage_among_threads(tmp_path: Path) -> None:
    """Threads that fill a small storage at once all get what they computed."""
    configure(storage_url=f"lmdb://{tmp_path / 'small'}", lmdb_map_size=MIB)

    @cacheable(deps=lambda n: f"n:{n % 5}")
    def get(n: int) -> bytes:
        return n.to_bytes(4, "big") * KIB

    def work() -> int:
        return sum(get(n % 250) == (n % 250).to_bytes(4, "big") * KIB for n in range(400))

    assert [400] * 4 == [runner.result() for runner in together([work] * 4)]


@pytest.mark.usefixtures("patient")
def test_a_bound_that_all_processes_keep(lmdb: Path, peer: Callable[[], Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    """`max_entries` holds for the storage of all processes together, and what was used lately is there."""
    monkeypatch.setenv("ZOOCACHE_MAX_ENTRIES", "50")
    zoocache.get("anything")  # the environment is there: to make one takes as long as the disk does
    peers = [peer() for _ in range(3)]
    for number, each in enumerate(peers):
        each.begin("set_many", f"p{number}", 150)
    for each in peers:
        each.result()
    fresh = peer()
    kept = fresh.call("count_kept", ["p0", "p1", "p2"], 150)
    assert 1 <= kept <= 50


# /dev/shm.


def in_namespace(forks: Forks, work: Callable[[], None]) -> None:
    """Have a child do this, if namespaces are permitted here."""
    probe = forks.fork(namespaces.enter)
    if probe.wait():
        pytest.skip("mount namespaces are not permitted here")
    assert 0 == forks.fork(work).wait()


def test_a_tiny_shm(forks: Forks) -> None:
    """Where /dev/shm is small, a smaller segment is made, and it works until it is full and beyond."""

    def work() -> None:
        get = cacheable(deps="a:b")(lambda: next(numbers))
        numbers = iter(range(100))
        assert (0, 0) == (get(), get())
        invalidate(*(f"x:{n}" for n in range(20_000)))
        invalidate("a")
        assert (1, 1) == (get(), get())
        assert [] == Core().check()

    in_namespace(forks, namespaces.with_shm("size=1m", work))


def test_a_shm_without_room(forks: Forks) -> None:
    """A size that does not fit is an error that says what to do, not a crash at the first store."""

    def work() -> None:
        configure(shm_size=8 * MIB)
        with pytest.raises(SegmentTooSmall, match=r"shm_size"):
            invalidate("a")
        with pytest.raises(SegmentTooSmall, match=r"shm_size"):
            cacheable(lambda: 1)()
        zoocache.reset()
        configure(shm_size=256 * KIB)
        invalidate("a")

    in_namespace(forks, namespaces.with_shm("size=1m", work))


def test_a_shm_that_others_fill(forks: Forks) -> None:
    """Once a segment is there, nobody can take its room away: no SIGBUS when the rest is full."""

    def work() -> None:
        configure(shm_size=512 * KIB)
        invalidate("a")
        with contextlib.suppress(OSError), open("/dev/shm/greedy", "wb") as greedy:
            while True:
                greedy.write(bytes(64 * KIB))
        with pytest.raises(OSError, match="No space"):
            os.write(os.open("/dev/shm/more", os.O_CREAT | os.O_WRONLY), bytes(64 * KIB))
        invalidate(*(f"x:{n}" for n in range(10_000)))
        numbers = iter(range(10))
        get = cacheable(deps="a")(lambda: next(numbers))
        assert (0, 0) == (get(), get())
        invalidate("a")
        assert 1 == get()

    in_namespace(forks, namespaces.with_shm("size=1m", work))
