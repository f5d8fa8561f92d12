"""P3: what was killed does not come back, whatever happens to processes, segments and tables; the rest survives."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zoocache
from tests.children import Children
from tests.peers import Peer
from tests.promises import world
from tests.shared_memory import objects_of
from zoocache import cacheable, clear, configure, invalidate, prune
from zoocache._zoocache import Core, destroy


def test_a_restart(lmdb: Path, stranger: Callable[[], Peer]) -> None:
    """After all processes have ended, the dead are dead and the living are there without being computed."""
    first = stranger()
    for name in ("dead", "alive"):
        first.call("thing", name)
        first.call("page", name)
    world.change("dead", 1)
    first.call("zoocache.invalidate", "thing:dead", "page:dead")
    first.end()
    second = stranger()
    assert (1, 0) == (second.call("thing", "dead"), second.call("thing", "alive"))
    assert 1 == second.call("page", "dead")["number"]
    assert {"name": "alive", "number": 0, "lines": [1, 2, 3]} == second.call("page", "alive")
    assert (4, 2) == (len(world.fills("dead")), len(world.fills("alive")))


def test_a_reboot(lmdb: Path, peer: Callable[[], Peer], prefix: str) -> None:
    """When the segment is gone and the files are not, the dead stay dead and the living survive."""
    first = peer()
    for name in ("dead", "alive"):
        first.call("thing", name)
    first.call("zoocache.set", "k", 1, deps=["site"])
    world.change("dead", 1)
    first.call("zoocache.invalidate", "thing:dead", "site")
    first.end()
    assert destroy(prefix)
    second = peer()
    assert (1, 0) == (second.call("thing", "dead"), second.call("thing", "alive"))
    assert None is second.call("zoocache.get", "k")
    assert (2, 1) == (len(world.fills("dead")), len(world.fills("alive")))


@pytest.mark.parametrize("how", ["rm", "destroy"])
def test_many_lives_of_the_segment(lmdb: Path, peer: Callable[[], Peer], prefix: str, how: str) -> None:
    """Through several lives of the segment, each kill counts, and each value computed since is found."""
    for number in range(1, 4):
        user = peer()
        world.change("a", number)
        user.call("zoocache.invalidate", "thing")
        assert number == user.call("thing", "a")
        user.end()
        if how == "rm":
            for path in objects_of(prefix):
                path.unlink()
        else:
            assert destroy(prefix)
        reader = peer()
        assert number == reader.call("thing", "a")
        reader.end()
    assert 3 == len(world.fills("a"))


def test_a_kill_right_after_the_invalidation(lmdb: Path, peer: Callable[[], Peer]) -> None:
    """SIGKILL in the moment after `invalidate` has returned takes nothing back."""
    for number in range(1, 4):
        user = peer()
        user.call("thing", "a")
        world.change("a", number)
        user.call("zoocache.invalidate", "thing:a")
        user.child.kill()
        user.child.wait()
        assert number == peer().call("thing", "a")


def test_a_prune_brings_nothing_back(storage: str, peer: Callable[[], Peer]) -> None:
    """After the node of a tag was dropped, its dead entries are dead in every process, also in later ones."""
    holder = peer()
    holder.call("thing", "a")
    holder.call("thing", "b")
    world.change("a", 1)
    invalidate("thing:a")
    prune(0)
    assert [] == Core().tags()
    assert 1 == holder.call("thing", "a")
    assert 1 == peer().call("thing", "a")
    prune(0)
    assert 1 == holder.call("thing", "a")


def test_prunes_among_fills(storage: str) -> None:
    """Prunes between and during fills and kills never revive a value: random order, a plain number as the truth."""
    truth = 0

    @cacheable(deps=lambda name: f"t:{name}")
    def get(name: str) -> int:
        if truth % 3 == 0:
            prune(0)
        return truth

    for number in range(25):
        truth = number
        invalidate("t:a" if number % 2 else "t")
        if number % 5 == 0:
            prune(0)
        assert number == get("a") == get("a")
        get("b")
        if number % 7 == 0:
            prune(0)
        assert number == get("a")


def test_clear_is_for_good(lmdb: Path, peer: Callable[[], Peer], prefix: str) -> None:
    """What was cleared is gone in all processes, after a restart, and after a reboot."""
    one, other = peer(), peer()
    for each in (one, other):
        each.call("thing", "a")
    clear()
    for number, each in enumerate((one, other), 1):
        world.change("a", number)
        assert 1 == each.call("thing", "a")
    clear()
    one.end()
    other.end()
    zoocache.reset()
    assert destroy(prefix)
    world.change("a", 5)
    assert 5 == peer().call("thing", "a")


def test_what_expired_does_not_come_back(lmdb: Path, peer: Callable[[], Peer]) -> None:
    """An entry whose ttl is over is not there for a later process."""
    user = peer()
    user.call("zoocache.set", "k", 1, ttl=0.001)
    time.sleep(0.01)
    user.end()
    assert None is peer().call("zoocache.get", "k")


def test_a_deleted_key_stays_deleted(lmdb: Path, peer: Callable[[], Peer], prefix: str) -> None:
    """Also in processes that held its value, and after a reboot."""
    holder, other = peer(), peer()
    holder.call("zoocache.set", "k", 1)
    assert (1, 1) == (holder.call("zoocache.get", "k"), other.call("zoocache.get", "k"))
    assert other.call("zoocache.delete", "k")
    assert None is holder.call("zoocache.get", "k")
    holder.end()
    other.end()
    assert destroy(prefix)
    assert None is peer().call("zoocache.get", "k")


def test_an_old_value_does_not_overwrite_a_new_one(lmdb: Path, peer: Callable[[], Peer]) -> None:
    """A leader that was stopped over invalidation, prune and a new fill does not put its old value over it."""
    slow, quick = peer(), peer()
    slow.call("close_gate", "a")
    slow.begin("thing", "a")
    slow.wait_inside("a")
    world.change("a", 1)
    invalidate("thing:a")
    prune(0)
    zoocache.set(world.thing.key_for("a"), 1, deps="thing:a")
    slow.go_on()
    assert 0 == slow.result()
    slow.call("open_gate", "a")
    assert (1, 1) == (slow.call("thing", "a"), quick.call("thing", "a"))


def test_an_evicted_entry_that_was_killed(tmp_path: Path, peer: Callable[[], Peer], children: Children) -> None:
    """In a small full storage, an entry that was killed and evicted, and whose tag's number was too, stays dead."""
    configure(storage_url=f"lmdb://{tmp_path / 'small'}", lmdb_map_size=1 << 20)
    truth = 0

    @cacheable(deps="t:a")
    def get() -> int:
        return truth

    assert 0 == get()
    for number in range(1, 4):
        truth = number
        invalidate("t:a")
        for n in range(120):
            zoocache.set(f"filler{n}", os.urandom(10_000), deps=f"f:{number}:{n}")
            invalidate(f"f:{number}:{n}:x")
        assert number == get()
