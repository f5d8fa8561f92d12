"""A shop whose prices lie in a SQLite file: the truth that all processes of a fleet share, outside of the library.

The table of prices has for each item what it costs now, and `told`: the latest price whose `invalidate` has returned.
Whoever reads `told` and asks the cache afterwards must not get an older price. The table of fills has each computation
with the process that did it.

SQLite is not made for forks: nothing of a connection may be carried over one, and a fork by another thread leaves the
child with SQLite's own locks as they were. So a connection lasts for one visit, and a fork waits until nobody is there.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import zoocache
from tests.children import DEADLINE_S
from tests.patience import be_patient
from zoocache import cacheable

_visit = threading.Lock()
"""Held by the thread that has the books open, and over a fork."""

if "SHOP" in os.environ:  # this is a process of a fleet, not that of the tests: its fills are counted
    be_patient()

os.register_at_fork(before=_visit.acquire, after_in_parent=_visit.release, after_in_child=_visit.release)


def folder() -> Path:
    """Where the shop is."""
    return Path(os.environ["SHOP"])


def build(at: Path) -> None:
    """Make an empty shop there."""
    at.mkdir()
    with closing(sqlite3.connect(at / "books")) as books:
        books.execute("PRAGMA journal_mode = WAL")
        books.execute("CREATE TABLE prices (item TEXT PRIMARY KEY, now INTEGER NOT NULL, told INTEGER NOT NULL)")
        books.execute("CREATE TABLE fills (item TEXT NOT NULL, pid INTEGER NOT NULL)")


@contextmanager
def books() -> Iterator[sqlite3.Connection]:
    """The file, in a transaction of its own at each statement."""
    with _visit, closing(sqlite3.connect(folder() / "books", timeout=DEADLINE_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


def look(item: str) -> int:
    """What an item costs; 0 if nobody ever raised it."""
    with books() as connection:
        return sum(price for (price,) in connection.execute("SELECT now FROM prices WHERE item = ?", (item,)))


def told(item: str) -> int:
    """What an item cost when the latest `invalidate` that has returned was called."""
    with books() as connection:
        return sum(price for (price,) in connection.execute("SELECT told FROM prices WHERE item = ?", (item,)))


def fills(item: str) -> list[int]:
    """Which processes computed the price of an item, in order."""
    with books() as connection:
        return [pid for (pid,) in connection.execute("SELECT pid FROM fills WHERE item = ? ORDER BY rowid", (item,))]


def raise_price(item: str) -> int:
    """Make an item dearer by one and invalidate what was computed of it; the new price."""
    new = _raise_in_books(item)
    zoocache.invalidate(f"price:{item}")
    with books() as connection:
        connection.execute("UPDATE prices SET told = max(told, ?) WHERE item = ?", (new, item))
    return new


def _raise_in_books(item: str) -> int:
    with books() as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT OR IGNORE INTO prices VALUES (?, 0, 0)", (item,))
        connection.execute("UPDATE prices SET now = now + 1 WHERE item = ?", (item,))
        ((new,),) = connection.execute("SELECT now FROM prices WHERE item = ?", (item,))
        connection.execute("COMMIT")
    return int(new)


@cacheable(deps=lambda item: f"price:{item}")
def price(item: str) -> int:
    """What an item costs, from the cache; a computation of it stops at the item's gate."""
    with books() as connection:
        connection.execute("INSERT INTO fills VALUES (?, ?)", (item, os.getpid()))
    found = look(item)
    _pass_gate(item)
    return found


@cacheable
def bill(items: tuple[str, ...]) -> dict[str, int]:
    """What several items cost: a value that can change, and that depends on what each price depends on."""
    return {item: price(item) for item in items}


def ask(item: str) -> tuple[int, int]:
    """What an item must cost at least, and what the cache says that it costs."""
    least = told(item)
    return least, price(item)


def stale(answers: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Those answers of `ask` that are older than an `invalidate` that had returned."""
    return [answer for answer in answers if answer[1] < answer[0]]


def close_gate(item: str) -> None:
    """From now on no computation of this item's price ends, in any process."""
    _gate(item).touch()


def open_gate(item: str) -> None:
    """Let them end."""
    _gate(item).unlink()


def _pass_gate(item: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while _gate(item).exists():
        assert time.monotonic() < until, "nobody opened the gate"
        time.sleep(0.002)


def _gate(item: str) -> Path:
    return folder() / f"closed-{item}"
