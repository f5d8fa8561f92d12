"""The engine: a segment that vanishes, a storage that fails, lives, and pruning in passing."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zoocache
from tests.children import Children
from tests.crowd import Runner, until
from tests.logs import said
from tests.shared_memory import remove_objects
from zoocache import (
    StorageError,
    StorageIsFull,
    cacheable,
    clear,
    configure,
    invalidate,
    prune,
    runtime,
)
from zoocache._zoocache import Core
from zoocache.engine import core
from zoocache.storage import FOREVER, Life, lmdb_files


@pytest.fixture
def remove_segment(prefix: str) -> Callable[[], None]:
    """Removes the objects in /dev/shm under this test's prefix."""
    return lambda: remove_objects(prefix)


@pytest.mark.parametrize(
    "act",
    [lambda: invalidate("a"), clear, lambda: prune(0), lambda: zoocache.delete("k")],
    ids=["invalidate", "clear", "prune", "delete"],
)
def test_a_segment_that_was_removed_is_noticed_by_every_mutation(
    storage: str, remove_segment: Callable[[], None], act: Callable[[], object]
) -> None:
    """The process attaches to a new one, drops what it held, and goes on."""
    numbers = iter(range(10))

    @cacheable(deps="a")
    def get() -> int:
        return next(numbers)

    assert 0 == get()
    old = runtime.engine().trie
    remove_segment()
    act()
    assert old is not runtime.engine().trie
    invalidate("a")
    assert (1, 1) == (get(), get())
    assert [] == Core().check()


def test_a_segment_that_was_removed_is_noticed_by_reading(storage: str, remove_segment: Callable[[], None]) -> None:
    """A process that only reads notices too, after a while."""

    @cacheable(deps="a")
    def get() -> int:
        return 1

    get()
    old = runtime.engine().trie
    remove_segment()
    until(lambda: get() and runtime.engine().trie is not old)


def test_all_meet_again_in_the_new_segment(
    storage: str, remove_segment: Callable[[], None], children: Children
) -> None:
    """After a removal two processes attach to the same new segment, and invalidations reach across again."""
    child = children.code("""
        import zoocache
        numbers = iter(range(100))
        @zoocache.cacheable(deps="a")
        def get():
            return next(numbers)
        while True:
            print(get(), flush=True)
            input()
    """)
    child.line()
    invalidate("a")
    remove_segment()
    for _ in range(3):
        invalidate("a")
        child.say()
        before = child.line()
        child.say()
        assert before == child.line()


def test_threads_that_meet_an_orphan(remove_segment: Callable[[], None]) -> None:
    """Many threads that find the segment gone at once attach anew once, and none fails."""

    @cacheable(deps=lambda n: f"n:{n}")
    def get(n: int) -> int:
        return n

    def work(seed: int) -> int:
        for n in range(200):
            get(n % 20)
            if n % 10 == seed:
                invalidate(f"n:{n % 7}")
        return 1

    for _ in range(3):
        get(1)
        runners = [Runner(work, seed) for seed in range(5)]
        remove_segment()
        assert 5 == sum(runner.result() for runner in runners)
        invalidate("n")
    assert [] == Core().check()


def test_a_fill_that_outlives_its_segment_is_not_kept(storage: str, remove_segment: Callable[[], None]) -> None:
    """What was begun under one segment and lands under another goes to its caller only, live at least."""
    numbers = iter(range(10))

    @cacheable(deps="a")
    def get(remove: bool) -> int:
        if remove:
            remove_segment()
            invalidate("b")
        return next(numbers)

    assert 0 == get(remove=True)
    assert None is runtime.engine().lives.get(get.key_for(remove=True))


# A storage that fails.


@pytest.fixture
def broken_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A storage whose directory cannot be, because a file stands in its place."""
    place = tmp_path / "cache"
    place.write_text("a file")
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", f"lmdb://{place}")
    return place


def test_calls_go_on_without_the_storage(broken_storage: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A storage that cannot be opened costs its callers nothing but the computing; one warning says so."""
    runs = []

    @cacheable(deps="a")
    def get() -> int:
        runs.append(1)
        return 5

    with caplog.at_level(logging.WARNING, "zoocache"):
        assert [5] * 5 == [get() for _ in range(5)]
    assert 1 == len([record for record in said(caplog) if "storage" in record.message])
    assert None is zoocache.get("k")


def test_what_must_not_pass_for_done_is_an_error(broken_storage: Path) -> None:
    """`invalidate`, `set`, `delete` and `clear` say that the storage cannot be told."""
    for act in (lambda: invalidate("a"), lambda: zoocache.set("k", 1), lambda: zoocache.delete("k"), clear):
        with pytest.raises(StorageError, match=str(broken_storage)):
            act()


def test_a_storage_that_comes_back_is_used(broken_storage: Path) -> None:
    """Once the reason is gone, values are kept again."""
    runs = []

    @cacheable(deps="a")
    def get() -> int:
        runs.append(1)
        return 5

    get()
    broken_storage.unlink()
    get()
    zoocache.reset()
    get()
    assert 2 >= len(runs)
    invalidate("a")


def test_a_directory_that_is_removed_under_a_process(lmdb: Path) -> None:
    """The storage is made anew; nothing that was in it comes back, and nothing fails."""

    @cacheable(deps="a")
    def get() -> list[int]:
        return [1]

    for _ in range(3):
        get()
        zoocache.set("k", 1)
        shutil.rmtree(lmdb)
        time.sleep(lmdb_files.CURRENT_S)  # as above: until a look from before it is too old to be believed
        invalidate("a")
        assert [1] == get()
        zoocache.set("k", 2)
        assert 2 == zoocache.get("k")


def test_a_value_that_can_never_fit(tmp_path: Path) -> None:
    """It is an error that the caller sees, from calls and from `set`; other values are kept as before."""
    configure(storage_url=f"lmdb://{tmp_path / 'cache'}", lmdb_map_size=1 << 20)

    @cacheable
    def get(size: int) -> bytes:
        return os.urandom(size)

    small = get(10)
    for _ in range(2):
        with pytest.raises(StorageIsFull):
            get(1 << 21)
        with pytest.raises(StorageIsFull):
            zoocache.set("k", os.urandom(1 << 21))
    assert small == get(10)
    assert None is zoocache.get("k")


def test_a_lasting_failure_warns_now_and_then(broken_storage: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not at every call."""
    engine = runtime.engine()
    with caplog.at_level(logging.WARNING, "zoocache"):
        for _ in range(100):
            engine.warn(StorageError("no"))
        engine._warned_s -= core.WARN_S
        engine.warn(StorageError("no"))
    assert 2 == len(said(caplog))


# Lives.


@pytest.mark.parametrize(
    ("options", "given", "expected"),
    [
        ({}, (None, None), FOREVER),
        ({}, (5, None), Life(5000, sliding=True)),
        ({}, (0.0015, None), Life(2, sliding=True)),
        ({}, (0.001, None), Life(1, sliding=True)),
        ({}, (None, 2.5), Life(0, sliding=False, max_age_ms=2500)),
        ({"default_ttl": 7}, (None, None), Life(7000, sliding=True)),
        ({"default_ttl": 7}, (5, None), Life(5000, sliding=True)),
        ({"default_ttl": 7, "read_extend_ttl": False}, (None, None), Life(7000, sliding=False)),
        ({"max_age": 9}, (5, None), Life(5000, sliding=True, max_age_ms=9000)),
        ({"max_age": 9}, (5, 3), Life(5000, sliding=True, max_age_ms=3000)),
    ],
)
def test_the_life_of_an_entry(
    options: dict[str, float], given: tuple[float | None, float | None], expected: Life
) -> None:
    """The function's own ttl and age limit, else the configuration's; in milliseconds, never rounded to nothing."""
    configure(**options)  # type: ignore[arg-type]
    assert expected == runtime.engine().life_of(*given)


def test_lives_do_not_pile_up() -> None:
    """A ttl that is another one at each call is no leak."""
    for n in range(2 * core.LIVES):
        zoocache.set("k", 1, ttl=1000 + n)
    assert core.LIVES >= len(runtime.engine()._lives)


# Pruning in passing.


@pytest.mark.parametrize("act", ["fill", "invalidate"])
def test_old_tags_are_pruned_in_passing(storage: str, act: str) -> None:
    """With `prune_after`, fills and invalidations drop the nodes of tags that were not invalidated for so long."""
    configure(prune_after=0.02, auto_prune_interval=0.01)
    invalidate(*(f"old:{n}" for n in range(50)))
    numbers = iter(range(1_000_000))

    @cacheable(deps="x")
    def get(n: int) -> int:
        return n

    def pass_by() -> bool:
        number = next(numbers)
        if act == "fill":
            get(number)
        else:
            invalidate(f"new:{number % 3}")
        time.sleep(0.002)
        return not any(node.tag.startswith("old") for node in Core().tags())

    until(pass_by)


def test_without_prune_after_nothing_is_pruned() -> None:
    """By itself, no node goes."""
    configure(auto_prune_interval=0.001)
    invalidate("old")
    for n in range(20):
        invalidate("new")
        time.sleep(0.001)
        zoocache.set(f"k{n}", 1)
    assert "old" in {node.tag for node in Core().tags()}
