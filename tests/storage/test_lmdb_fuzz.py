"""An LMDB store whose records, lock file or pages were scribbled over: a miss or an error of the library, and it works
again afterwards. Values are told from what was never put by the checksum of a body (zoocache/entry.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.children import Children
from tests.fuzz import Edit, busy_at_most, edited, edits, examples, words
from tests.storage.steps import after, hashed, living, paths_of, save, store_at, works
from zoocache import entry
from zoocache.errors import ZooCacheError
from zoocache.storage import FOREVER, Life, lmdb_files
from zoocache.storage.lmdb import LmdbStore
from zoocache.storage.lmdb_entries import LIFE
from zoocache.storage.lmdb_numbers import OWN, POSITION
from zoocache.storage.record import pack_touch

KEYS = {f"k{number}": b"%d" % number * (1 + number**3) for number in range(8)}
LIVES = [FOREVER, Life(5000), Life(5000, sliding=True), Life(5000, sliding=True, max_age_ms=7000)]
MARK = bytes(range(8))
NOW = after(10)


def packed(key: str) -> bytes:
    """What the engine saves under a key."""
    return entry.pack(key, (f"t:{key}",), KEYS[key])


def fill(store: LmdbStore) -> None:
    """Entries of all kinds, with touches; numbers; a position."""
    for number, key in enumerate(KEYS):
        save(store, key, f"t:{key}", body=packed(key), life=LIVES[number % 4])
    store.touch([hashed(key) for key in KEYS], after(5), wait=True)
    store.invalidate([path for tag in ("x", "y:z") for path in paths_of(tag)], NOW)
    store.apply(paths_of("w"), False, (7, 9, MARK, 1), NOW)


def value(store: LmdbStore, key: str) -> bytes | None:
    """As the engine reads it."""
    loaded = store.load(hashed(key), NOW)
    body = None if loaded is None else entry.unpack(loaded.body)
    return body.payload if body is not None and body.key == key else None


ACTS: list[Callable[[LmdbStore], Any]] = [
    lambda store: store.stamp(),
    lambda store: store.touch([hashed(key) for key in KEYS], NOW, wait=True),
    lambda store: store.touch([hashed(key) for key in KEYS], NOW, wait=False),
    lambda store: store.invalidate(paths_of("t:k1"), NOW),
    lambda store: store.delete(hashed("k2"), NOW),
    lambda store: store.prune(0, NOW),
    lambda store: store.prune(10**12, NOW),
    lambda store: (store.count(), store.size_bytes()),
    lambda store: store.position(),
    lambda store: store.apply(paths_of("v"), False, (7, 10, MARK, 1), NOW),
    lambda store: save(store, "k3", "t:k3", body=packed("k3"), anew=True),
    lambda store: save(store, "k4", "t:k4", body=packed("k4"), life=LIVES[3]),
    lambda store: store.clear(),
    lambda store: store.close(),
]
acts_ = st.lists(st.sampled_from(range(len(ACTS))), max_size=6)


SOON_S = 20.0


def act_and_look(store: LmdbStore, acts: list[int]) -> None:
    """Do these, and look at every value in between."""
    for act in [*acts, None]:
        for key, expected in KEYS.items():
            with contextlib.suppress(ZooCacheError):
                assert value(store, key) in {None, expected}
        if act is not None:
            with contextlib.suppress(ZooCacheError):
                ACTS[act](store)


def works_soon(store: LmdbStore) -> bool:
    """Whether the store keeps what it is given, at once or once the damage was found: who has just looked whether his
    files are the right ones does not look again for a moment."""
    until_s = time.monotonic() + SOON_S
    while time.monotonic() < until_s:
        with contextlib.suppress(ZooCacheError):
            if works(store):
                return True
        time.sleep(0.001)
    return False


RECORDS = [
    ("entries", OWN), ("numbers", OWN), ("numbers", POSITION), ("numbers", paths_of("x")[0]), ("numbers", hashed("k1")),
    *(("entries", hashed(key)) for key in KEYS), *(("entries", hashed(key) + LIFE) for key in KEYS),
]  # fmt: skip


@pytest.fixture
def store(place: Path, caplog: pytest.LogCaptureFixture) -> LmdbStore:
    """A store with something in it."""
    caplog.set_level(logging.CRITICAL)
    store = store_at(place)
    fill(store)
    return store


@examples(120)
@given(st.lists(st.tuples(st.sampled_from(RECORDS), edits), min_size=1, max_size=3), acts_)
def test_fuzz_records(
    store: LmdbStore, changes: list[tuple[tuple[str, bytes], list[Edit]]], acts: list[int]
) -> None:  # fmt: skip
    """Records that were damaged are misses, or cost all entries; never another value, never another error."""
    attached = store._access.here()
    for (table, key), how in changes:
        with getattr(attached, table).env.begin(write=True) as txn:
            txn.put(key, edited(txn.get(key) or pack_touch(3, after(5)), how) or b"\0")
    with busy_at_most(10):
        act_and_look(store, acts)
        assert works_soon(store)
    store.clear()
    fill(store)


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 16), words), min_size=1, max_size=3), acts_, st.booleans())
def test_fuzz_the_lock_file(
    store: LmdbStore, changes: list[tuple[int, int]], acts: list[int], closed: bool
) -> None:  # fmt: skip
    """Words of the lock file that were damaged, under a running process or before, cost all entries at most."""
    if closed:
        store.close()
    with (Path(store.directory) / lmdb_files.LOCK).open("r+b") as file:
        for index, word in changes:
            file.seek(index * 8)
            file.write(word.to_bytes(8, "little"))
    with busy_at_most(10):
        act_and_look(store, acts)
        act_and_look(store_at(Path(store.directory)), acts)
        assert works_soon(store)
    fill(store)


@pytest.mark.parametrize(("at", "word"), [(8, 77), (16, 2**64 - 1), (24, 10**9)], ids=["epoch", "n", "floor"])
def test_numbers_that_contradict_themselves(store: LmdbStore, at: int, word: int) -> None:
    """Where the numbers' own record cannot be right the store begins empty, and keeps what it is given."""
    with store._access.here().numbers.env.begin(write=True) as txn:
        record = bytearray(txn.get(OWN))
        record[at : at + 8] = word.to_bytes(8, "little")
        txn.put(OWN, bytes(record))
    assert works(store)
    assert value(store, "k1") is None


@pytest.mark.parametrize("word", [2431, 4096, 1 << 18, 1 << 40])
def test_a_size_that_is_not_the_files(store: LmdbStore, word: int) -> None:
    """Where the lock file tells another size than the data file has, the store begins empty, and as large as it was."""
    store.close()
    with (Path(store.directory) / lmdb_files.LOCK).open("r+b") as file:
        file.seek(8 * lmdb_files.word("entries", lmdb_files.SIZE))
        file.write(word.to_bytes(8, "little"))
    assert works(store)
    fill(store)
    assert value(store, "k7") == KEYS["k7"]


PAGE = 4096
SEEDS = 40 * (25 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1)


def scribble(file: Path, dice: random.Random) -> None:
    """Damage some of the pages that are in use."""
    data = bytearray(file.read_bytes())
    pages = len(bytes(data).rstrip(b"\0")) // PAGE + 1
    for _ in range(dice.choice([1, 1, 3])):
        page, other = (dice.randrange(pages) * PAGE for _ in range(2))
        at = page + dice.choice([dice.randrange(32), dice.randrange(PAGE)])
        how = dice.choice(["bit", "word", "zero", "noise", "swap", "byte"])
        if how == "swap":
            data[page : page + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[page : page + PAGE]
        elif how == "zero":
            data[page : page + PAGE] = bytes(PAGE)
        elif how == "noise":
            data[at : at + 64] = dice.randbytes(64)
        elif how == "word":
            data[at & -8 : (at & -8) + 8] = dice.choice([0, 1, 2**32 - 1, 2**40, 2**64 - 1]).to_bytes(8, "little")
        else:
            data[at] ^= 1 << dice.randrange(8) if how == "bit" else dice.randrange(1, 256)
    with file.open("r+b") as opened:
        opened.write(data[: (pages + 1) * PAGE])


def open_damaged(place: str, seed: int) -> None:
    """In a child: damage a table as it lies on the disk, then use it."""
    logging.disable(logging.CRITICAL)
    dice = random.Random(seed)
    scribble(living(Path(place)) / f"{dice.choice(['entries', 'numbers'])}.mdb", dice)
    store = store_at(Path(place))
    act_and_look(store, [dice.randrange(len(ACTS)) for _ in range(6)])
    with contextlib.suppress(ZooCacheError):
        fill(store)
    act_and_look(store, [])


def open_damaged_ones(place: str, first: int, count: int) -> None:
    """In a child: one grandchild for each seed; says how each ended."""
    for seed in range(first, first + count):
        shutil.rmtree(place, ignore_errors=True)
        Path(place).mkdir()
        maker = os.fork()
        if not maker:
            store = store_at(Path(place))
            fill(store)
            store.close()
            os._exit(0)
        assert 0 == os.waitpid(maker, 0)[1]
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LMDB's last words
            try:
                open_damaged(place, seed)
            except BaseException:  # noqa: BLE001  # whatever it is, it is what is looked for
                os._exit(1)
            os._exit(0)
        print(seed, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def test_fuzz_pages(children: Children, place: Path) -> None:
    """Pages of a file that were damaged on the disk are a miss or an error, and no other value. LMDB looks at few of
    them, and may end the process: that is seen, and nothing else."""
    child = children.call(open_damaged_ones, str(place / "pages"), 0, SEEDS)
    ends = dict(map(int, line.split()) for line in child.output(600).splitlines())
    assert SEEDS == len(ends)
    died = {seed: end for seed, end in ends.items() if end < 0}
    assert {} == {seed: end for seed, end in ends.items() if end > 0}
    assert len(died) <= SEEDS // 4, f"LMDB ended more processes than ever: {died}"
