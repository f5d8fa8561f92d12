"""The table of live objects: bounds, expiry, the second chance, and what is left behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import zoocache
from tests.crowd import Gate, Runner, until
from zoocache import cacheable, configure, invalidate, runtime
from zoocache.engine import table as tables
from zoocache.engine.live import Entry, Live, set_life
from zoocache.engine.table import FORGOTTEN, SWEPT_AT_ONCE, LiveTable
from zoocache.storage import Life
from zoocache.trie import Trie


@pytest.fixture
def trie() -> Iterator[Trie]:
    """The trie of this test's own segment."""
    return runtime.engine().trie


Keep = Callable[..., Entry]


@pytest.fixture
def make_keep(trie: Trie) -> Callable[[LiveTable], Keep]:
    """Keeps values in a table: keep("key", value, payload=b"...", tags=("a",), life=Life(...))."""

    def make(table: LiveTable) -> Keep:
        def keep(key: str, value: Any = 1, payload: bytes | None = None, life: Life | None = None) -> Entry:
            live = Live(key, ("a:b",), trie, trie.seq(), value, None, payload, life or Life())
            if life is not None:
                set_life(live, life.ttl_ms / 1000, None)
            return table.keep(live, trie.seq())

        return keep

    return make


def test_it_never_holds_more_than_it_may(make_keep: Callable[[LiveTable], Keep]) -> None:
    """`max_entries` holds at every moment after a keep."""
    table = LiveTable(10, None, None)
    keep = make_keep(table)
    for n in range(100):
        keep(f"k{n}")
        assert 10 >= len(table)
    assert 10 == len(table)
    assert table.get("k99") is not None


def test_what_is_used_gets_a_second_chance(make_keep: Callable[[LiveTable], Keep]) -> None:
    """An entry that is read between arrivals outlives those that are not."""
    table = LiveTable(10, None, None)
    keep = make_keep(table)
    hot = keep("hot")
    for n in range(100):
        assert table.recheck(hot)
        keep(f"cold{n}")
    assert hot is table.get("hot")
    for n in range(20):
        keep(f"late{n}")
    assert table.get("hot") is None


def test_bytes_are_counted(make_keep: Callable[[LiveTable], Keep]) -> None:
    """`max_bytes` bounds the packed values together; one that is larger alone is held alone."""
    table = LiveTable(None, 1000, None)
    keep = make_keep(table)
    for n in range(50):
        keep(f"k{n}", payload=b"x" * 100)
    assert 10 == len(table)
    keep("large", payload=b"x" * 5000)
    assert 1 == len(table)
    keep("small", payload=b"x")
    assert 1 == len(table)
    assert table.get("small") is not None


def test_the_count_of_bytes_stays_right(make_keep: Callable[[LiveTable], Keep]) -> None:
    """Replacing, dropping and clearing give the bytes back."""
    table = LiveTable(None, 1000, None)
    keep = make_keep(table)
    for _ in range(50):
        keep("same", payload=b"x" * 400)
    keep("other", payload=b"x" * 400)
    assert 2 == len(table)
    entry = table.get("other")
    assert entry is not None
    table.drop(entry)
    table.drop(entry)
    keep("third", payload=b"x" * 500)
    assert 2 == len(table)
    table.clear()
    for n in range(10):
        keep(f"k{n}", payload=b"x" * 100)
    assert 10 == len(table)


def test_a_new_value_takes_the_place_of_the_old(make_keep: Callable[[LiveTable], Keep]) -> None:
    """One key, one entry; dropping the old one again does not touch the new one."""
    table = LiveTable(None, None, None)
    keep = make_keep(table)
    old, new = keep("k", 1), keep("k", 2)
    table.drop(old)
    assert new is table.get("k")
    assert 1 == len(table)


def test_a_hit_moves_nothing_in_an_unbounded_table(make_keep: Callable[[LiveTable], Keep]) -> None:
    """Without bounds an entry without a ttl never sends its hits here."""
    table = LiveTable(None, None, None)
    assert make_keep(table)("k")[4] is None


def test_stale_entries_are_swept_out(make_keep: Callable[[LiveTable], Keep]) -> None:
    """What has become stale goes when new entries come, though nobody asks for it."""
    table = LiveTable(None, None, None)
    keep = make_keep(table)
    for n in range(100):
        keep(f"old{n}")
    invalidate("a")
    for n in range(100 + SWEPT_AT_ONCE):
        keep(f"new{n}")
    assert not any(table.get(f"old{n}") for n in range(100))
    assert all(table.get(f"new{n}") for n in range(100))


def test_expired_entries_go_without_being_read(
    make_keep: Callable[[LiveTable], Keep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has expired goes when others come, and all of it with `expire`."""
    table = LiveTable(None, None, None)
    keep = make_keep(table)
    for n in range(20):
        keep(f"k{n}", life=Life(ttl_ms=100_000))
    keep("long", life=Life(ttl_ms=1_000_000))
    monkeypatch.setattr(tables, "monotonic", lambda: time.monotonic() + 500)
    last = table.get("k19")
    assert last is not None
    assert not table.recheck(last)
    keep("next")
    assert 22 - 5 == len(table)
    table.expire()
    assert {"long", "next"} == set(table._entries)


def test_notes_of_expiry_do_not_pile_up(make_keep: Callable[[LiveTable], Keep]) -> None:
    """A key that is kept anew again and again, long before it would expire, takes no more room each time."""
    table = LiveTable(None, None, None)
    keep = make_keep(table)
    for _ in range(5000):
        keep("hot", life=Life(ttl_ms=1_000_000))
    assert FORGOTTEN + 10 > len(table._expiries)
    keep("brief", life=Life(ttl_ms=1))
    until(lambda: table.expire() or table.get("brief") is None)
    assert table.get("hot") is not None


def test_a_closed_table_holds_nothing(make_keep: Callable[[LiveTable], Keep]) -> None:
    """Who comes late with a value finds it neither in the table nor in front of it."""
    table = LiveTable(None, None, None)
    keep = make_keep(table)
    front: dict[Any, Entry] = {}
    early = keep("early")
    table.put_in_front(early, front, 1, [int])
    assert {1: early} == front
    table.close()
    late = keep("late")
    table.put_in_front(late, front, 2, [int])
    table.put_in_front(early, front, 3, [int])
    assert (0, {}) == (len(table), front)


def test_a_fill_that_outlives_a_reset_is_not_found_afterwards() -> None:
    """A value that was computed for a cache that is closed does not turn up in the one that is opened next."""
    gate = Gate()

    @cacheable
    def get(first: bool) -> str:
        if first:
            gate.stop()
        return zoocache.get_tag_version.__name__

    configure(default_ttl=1000)
    leader = Runner(get, True)
    gate.wait_inside()
    zoocache.reset()
    configure(default_ttl=2000)
    gate.open()
    leader.result()
    assert (0, 0) == get.info()[:2]
    get(False)
    get(True)
    assert 0 == get.info().hits


def test_what_is_dropped_is_let_go(make_keep: Callable[[LiveTable], Keep]) -> None:
    """Neither the table nor a wrapper's table keeps a dropped value alive."""

    class Thing:
        pass

    things = [Thing() for _ in range(5)]
    table, front = LiveTable(3, None, None), dict[Any, Entry]()
    keep = make_keep(table)
    for n, thing in enumerate(things):
        table.put_in_front(keep(f"k{n}", thing), front, n, [int])
    gone = [weakref.ref(thing) for thing in things]
    del things, thing
    gc.collect()
    assert [True, True, False, False, False] == [ref() is None for ref in gone]
    assert {2, 3, 4} == set(front)


def test_many_threads_at_one_table(make_keep: Callable[[LiveTable], Keep]) -> None:
    """Threads that keep, read, drop and expire at once leave counts that are right."""
    table = LiveTable(50, 5000, None)
    keep = make_keep(table)
    stop = threading.Event()

    def churn(seed: int) -> None:
        for n in range(1500):
            entry = keep(f"k{(n * seed) % 97}", payload=b"x" * (n % 200), life=Life(ttl_ms=1 + n % 5))
            table.recheck(entry)
            if n % 7 == 0:
                table.drop(entry)
            if n % 50 == 0:
                table.expire()

    runners = [Runner(churn, seed) for seed in (1, 3, 5, 7)]
    for runner in runners:
        runner.result()
    stop.set()
    assert 50 >= len(table)
    assert sum(len(entry[5].payload) for entry in table._entries.values()) == table._bytes
