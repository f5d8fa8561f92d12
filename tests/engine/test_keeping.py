"""Into the live objects and the store, and back out."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.crowd import followers, together, until
from tests.listener.conftest import end_listeners
from tests.servers import Servers
from zoocache import UnkeepableResult, cacheable, clock, codec, configure, entry, invalidate, keys, runtime
from zoocache.engine import keeping, mutations
from zoocache.engine import live as lives
from zoocache.engine.core import Engine
from zoocache.engine.effects import drive
from zoocache.engine.live import LIVE, Live, monotonic
from zoocache.shm.layout import H_CAUGHT_UP
from zoocache.shm.lock import Lock
from zoocache.storage import FOREVER, Life, Store


def kept(key: str, value: Any, *tags: str, engine: Engine | None = None, life: Life = FOREVER) -> Live:
    """What a fill of that key has landed just now."""
    engine = engine or runtime.engine()
    return keeping.land(engine, "function", key, value, tags, life, drive(keeping.begin(engine)), share=False)


def store_of(engine: Engine) -> Store:
    """Its store, which is there."""
    assert engine.store is not None
    return engine.store


def test_what_was_begun_before_an_invalidation_is_not_held(storage: str) -> None:
    """Neither live nor in the store, whether the tag is its own or one above."""
    engine = runtime.engine()
    for tag in ("a", "a:b"):
        begun = drive(keeping.begin(engine))
        live = keeping.land(engine, "function", "k", 1, ("a:b",), FOREVER, begun, share=False)
        invalidate(tag)
        drive(keeping.save(engine, live, begun.stamp))
        keeping.hold_new(engine, live)
        assert None is engine.lives.get("k")
        assert None is drive(keeping.load(engine, "k", keys.digest("k"), share=False))


def test_what_was_begun_after_it_is_held(storage: str) -> None:
    """An invalidation before the fill does no harm."""
    engine = runtime.engine()
    invalidate("a")
    keeping.hold_new(engine, kept("k", 1, "a:b"))
    found = engine.lives.get("k")
    assert found is not None
    assert engine.lives.recheck(found)


@dataclasses.dataclass
class Changing:
    """A class whose module is loaded anew, in another release, while values of it are live."""

    x: int


@dataclasses.dataclass
class Changed:
    y: int


@dataclasses.dataclass(init=False)
class OneWay:
    """It can be kept, and does not come back: its field cannot be set."""

    x: int = property(lambda _: 1)  # type: ignore[assignment]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Puts another class in the place of `Changing`."""
    return lambda: monkeypatch.setattr(sys.modules[__name__], "Changing", Changed)


def test_a_live_value_that_cannot_be_read_is_computed_anew(
    lmdb: Path, change: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """On the fast path, on the exact one and by its key, a value of a class that changed is a miss, and no error."""
    Changed.__qualname__ = "Changing"

    @cacheable
    def get(*_: Any) -> list[Any]:
        return [Changing(1)]

    calls: list[Any] = [1, [1]]  # the second is fit for the exact path only
    first = [(get(call), get(call)) for call in (*calls, 2)]
    change()
    assert [[Changed(1)]] * 2 == [get(call) for call in calls]
    assert "nothing" == zoocache.get(get.key_for(2), "nothing")
    assert [[Changed(1)]] * 3 == [get(call) for call in (*calls, 2)]
    assert 6 == get.info().fills
    assert all(type(one[0]) is not Changed for pair in first for one in pair)
    assert "is computed anew" in caplog.text


def test_a_task_is_spared_what_cannot_be_read(lmdb: Path, change: Callable[[], None]) -> None:
    """The same for coroutine functions."""
    Changed.__qualname__ = "Changing"

    @cacheable
    async def get(*_: Any) -> list[Any]:
        return [Changing(1)]

    calls: list[Any] = [1, [1]]
    for call in calls:
        asyncio.run(get(call))
    change()
    assert [[Changed(1)]] * 4 == [asyncio.run(get(call)) for call in calls * 2]
    assert 4 == get.info().fills


def test_a_follower_computes_what_it_cannot_read(lmdb: Path) -> None:
    """A thread that waited for a value which nobody can read does not get the error of reading it."""

    @cacheable
    def get() -> list[Any]:
        runs.append(1)
        until(lambda: followers() or len(runs) > 1)
        return [OneWay()]

    runs: list[int] = []
    assert [[OneWay()]] * 2 == [caller.result() for caller in together([get, get])]
    assert 2 == len(runs)


def test_immutable_values_are_held_as_they_are(lmdb: Path) -> None:
    """A tuple of plain things needs no copy; a list does; `share` does without."""
    engine = runtime.engine()
    begun = drive(keeping.begin(engine))
    value, rows = (1, ("a", b"b", None)), [1]
    assert value is kept("k", value).value
    assert (codec.encode(rows, label="test"), codec.decode) == (kept("k", rows).value, kept("k", rows).thaw)
    assert rows is keeping.land(engine, "f", "k", rows, (), FOREVER, begun, share=True).value


def test_in_memory_nothing_is_packed() -> None:
    """Without a store a value is held as it is, whatever it is."""
    thing = object()
    live = kept("k", thing)
    assert (thing, None, None) == (live.value, live.thaw, live.payload)


def test_each_caller_has_its_own(lmdb: Path) -> None:
    """What one caller does to a mutable value, no other sees: leader, hit, follower, other process' load."""

    @cacheable
    def get() -> dict[str, list[int]]:
        return {"rows": [1]}

    for _ in range(3):
        rows = get()
        assert {"rows": [1]} == rows
        rows["rows"].append(2)
        rows["more"] = []
    zoocache.reset()
    assert {"rows": [1]} == get()


def test_a_mutable_value_inside_an_immutable_one(lmdb: Path) -> None:
    """A tuple that holds a list is not handed out twice."""

    @cacheable
    def get() -> tuple[list[int], int]:
        return [1], 2

    for _ in range(3):
        value = get()
        assert ([1], 2) == value
        value[0].append(5)


def test_who_shares_and_who_does_not_share_nothing(lmdb: Path) -> None:
    """Two decorations that differ in `share` are two: the one without it never gets an object that others hold."""

    def load() -> list[int]:
        return [1]

    sharing, careful = cacheable(share=True)(load), cacheable()(load)
    sharing().append(2)
    careful().append(3)
    assert ([1, 2], [1]) == (sharing(), careful())


def test_share_hands_out_one_object(lmdb: Path) -> None:
    """With `share` all callers of a process have one object, from the second on."""

    @cacheable(share=True)
    def get() -> list[int]:
        return [1]

    get()
    assert get() is get()
    zoocache.reset()
    assert get() is get()


def test_what_the_function_keeps_of_its_result_does_not_matter(lmdb: Path) -> None:
    """A function that changes the object later, which it returned, changes nothing that is kept."""
    mine: list[int] = []

    @cacheable
    def get() -> list[int]:
        return mine

    get()
    mine.append(5)
    assert [] == get()


# What cannot be kept.


class Socket:
    """No codec knows it."""


@dataclasses.dataclass
class Holder:
    """A dataclass that may hold one."""

    thing: Any


def test_an_unkeepable_result_is_an_error_with_its_place(lmdb: Path) -> None:
    """It names the function and the path inside; the flight has ended, so the next call works."""
    answers = iter([{"a": [1, 2, Socket()]}, Holder((Socket(),)), lambda: None, 5])

    @cacheable
    def fetch_rows() -> Any:
        return next(answers)

    with pytest.raises(UnkeepableResult, match=r'fetch_rows.*\["a"\]\[2\].*Socket'):
        fetch_rows()
    with pytest.raises(UnkeepableResult, match=r"fetch_rows.*\.thing\[0\].*Socket"):
        fetch_rows()
    with pytest.raises(UnkeepableResult, match=r"fetch_rows.*function"):
        fetch_rows()
    assert (5, 5) == (fetch_rows(), fetch_rows())


def test_an_unkeepable_value_that_is_set(lmdb: Path) -> None:
    """`set` names the key, and leaves what was there."""
    zoocache.set("motd", "old")
    with pytest.raises(UnkeepableResult, match="motd"):
        zoocache.set("motd", [Socket()])
    assert "old" == zoocache.get("motd")


# Loading.


def test_the_full_key_is_compared(lmdb: Path) -> None:
    """An entry under the same digest, but with another key, is a miss."""
    engine = runtime.engine()
    store, digest = store_of(engine), keys.digest("k")
    store.save(digest, (), store.stamp(), entry.pack("other", (), codec.encode(1, label="test")), FOREVER, clock.now())
    assert None is zoocache.get("k")
    store.save(digest, (), store.stamp(), entry.pack("k", (), codec.encode(1, label="test")), FOREVER, clock.now())
    assert 1 == zoocache.get("k")


@pytest.mark.parametrize(
    "body", [b"", b"noise", b"\x93\x01\x02\x03", entry.pack("k", (), b"\xc1"), entry.pack("k", (), b"")]
)
def test_a_damaged_body_is_computed_anew(lmdb: Path, body: bytes) -> None:
    """Whatever lies in the store under the right digest: no exception, a miss, and then the new value."""
    engine = runtime.engine()
    store = store_of(engine)
    store.save(keys.digest("k"), (), store.stamp(), body, FOREVER, clock.now())
    assert "missing" == zoocache.get("k", "missing")
    zoocache.set("k", 1)
    assert 1 == zoocache.get("k")


def test_an_entry_of_a_class_that_is_gone(lmdb: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A value whose class this process does not have is a miss with a warning, and is computed anew."""
    engine = runtime.engine()
    store, name = store_of(engine), f"{__name__}:Holder".encode()
    payload = codec.encode(Holder(1), label="test")
    assert name in payload
    gone = payload.replace(b"Holder", b"Golder")
    store.save(keys.digest("k"), (), store.stamp(), entry.pack("k", (), gone), FOREVER, clock.now())
    with caplog.at_level(logging.WARNING, "zoocache"):
        assert None is zoocache.get("k")
    assert "Golder" in caplog.text


def test_a_loaded_entry_is_held_live(lmdb: Path) -> None:
    """The second read of what another life of this process kept asks the store no more."""
    zoocache.set("k", 1, deps="a:b", ttl=1000)
    zoocache.reset()
    engine = runtime.engine()
    assert 1 == zoocache.get("k")
    found = engine.lives.get("k")
    assert found is not None
    live: Live = found[LIVE]
    assert (("a:b",), 1_000_000, True) == (live.tags, live.life.ttl_ms, live.life.sliding)
    store_of(engine).clear()
    assert 1 == zoocache.get("k")
    invalidate("a")
    assert None is zoocache.get("k")


def test_a_loaded_life_is_what_was_left(lmdb: Path) -> None:
    """A loaded entry expires when the stored one does, not a whole ttl after it was loaded."""
    configure(read_extend_ttl=False)
    before_s = monotonic()
    zoocache.set("k", 1, ttl=1000)
    zoocache.reset()
    configure(read_extend_ttl=False)
    time.sleep(0.05)
    asking_s = monotonic()
    assert 1 == zoocache.get("k")
    loaded_s = monotonic()
    found = runtime.engine().lives.get("k")
    assert found is not None
    ends_s: float = found[LIVE].ends_s
    assert before_s + 1000 - 0.005 - (loaded_s - asking_s) <= ends_s <= loaded_s + 1000 - 0.045


@pytest.mark.parametrize(("kind", "question"), [("lmdb", "load"), ("redis", "load"), ("redis", "claim")])
def test_what_is_overtaken_while_it_is_loaded_is_not_held(
    kind: str, question: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that an invalidation overtakes while the store is asked for it reaches that caller, and nobody later."""
    url = redis_url if kind == "redis" else f"lmdb://{tmp_path / 'cache'}"
    configure(storage_url=url, bus_url=redis_url if kind == "redis" else None)
    world = [1]

    @cacheable(deps="a")
    def value() -> int:
        return world[0]

    assert 1 == value()
    engine = runtime.engine()
    engine.lives.clear()
    ask = getattr(type(engine.store), question)

    def overtaken(*args: Any) -> Any:
        answer = ask(*args)
        if world == [1]:
            world[0] = 2
            invalidate("a")
        return answer

    if question == "claim":  # it comes after a load that has missed
        monkeypatch.setattr(type(engine.store), "load", lambda *_: None)
    monkeypatch.setattr(type(engine.store), question, overtaken)
    assert 1 == value()
    assert [2, 2] == [value(), value()]


# Setting anew.


def test_set_overtakes_what_is_live_elsewhere(lmdb: Path) -> None:
    """A value that is held live under the key is stale once the key was set by somebody else."""
    engine = runtime.engine()
    keeping.hold_new(engine, kept("k", "mine"))
    other = kept("k", "theirs")
    store = store_of(engine)
    assert other.payload is not None
    stamp = store.stamp()
    store.save(other.digest, (), stamp, entry.pack("k", (), other.payload), FOREVER, clock.now(), anew=True)
    mutations.overtake_key(engine, other.digest)
    assert "theirs" == zoocache.get("k")


def test_what_is_computed_before_the_host_has_caught_up(tmp_path: Path, servers: Servers, prefix: str) -> None:
    """A host with LMDB that cannot hear yet what it missed takes nothing from there, but keeps what it computes; once
    it has heard, that is believed."""
    server = servers.start()
    configure(storage_url=f"lmdb://{tmp_path / 'cache'}", bus_url=server.url)
    runs: list[int] = []
    count = cacheable(deps="a")(lambda n: runs.append(n) or len(runs))
    engine = runtime.engine()
    count(0)
    until(lambda: engine.watch() and engine.may_load())
    server.freeze()
    end_listeners(prefix)  # with what had left the server before, and would be heard later
    engine.trie.words[H_CAUGHT_UP] = 0
    assert 2 == count(1)
    engine.lives.clear()
    assert 3 == count(1)
    server.thaw()
    until(lambda: engine.watch() and engine.may_load())
    engine.lives.clear()
    assert 3 == count(1)


def test_a_set_that_was_overtaken_is_not_held(storage: str) -> None:
    """An invalidation between the beginning of a `set` and its end kills the value."""
    engine = runtime.engine()
    begun = drive(keeping.begin(engine))
    live = keeping.land(engine, "set", "k", 1, ("a:b",), FOREVER, begun, share=False)
    invalidate("a")
    drive(keeping.put(engine, live, begun.stamp))
    assert None is zoocache.get("k")


def test_a_set_among_invalidations_of_others_is_held(storage: str) -> None:
    """Other tags that were killed meanwhile do no harm."""
    engine = runtime.engine()
    begun = drive(keeping.begin(engine))
    live = keeping.land(engine, "set", "k", 1, ("a:b",), FOREVER, begun, share=False)
    invalidate("b", "a:c")
    drive(keeping.put(engine, live, begun.stamp))
    assert 1 == zoocache.get("k")
    assert None is not engine.lives.get("k")


def test_a_set_that_is_overtaken_at_the_last_moment_is_not_held(lmdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes between the last look at what overtook a value and its key's number, however late it comes."""
    engine = runtime.engine()
    live, run, left = kept("k", 1, "a:b"), Lock.run, ["a"]

    def run_late(lock: Lock, *action: Any) -> Any:
        if left and lock is engine.trie.segment.lock:
            invalidate(left.pop())
        return run(lock, *action)

    monkeypatch.setattr(Lock, "run", run_late)
    drive(keeping.put(engine, live, store_of(engine).stamp()))
    assert ([], None) == (left, zoocache.get("k"))


def test_a_loaded_life_counts_from_the_question(lmdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loses the processor between the store's answer and its being held holds it no longer for that."""
    engine, opened, asked_s = runtime.engine(), keeping.open_loaded, []

    def late(*arguments: Any) -> Any:
        asked_s.append(time.monotonic())
        monkeypatch.setattr(lives, "monotonic", lambda: time.monotonic() + 500)
        return opened(*arguments)

    zoocache.set("k", "value", ttl=1000)
    engine.lives.clear()
    monkeypatch.setattr(keeping, "open_loaded", late)
    assert "value" == zoocache.get("k")
    found = engine.lives.get("k")
    assert found is not None
    assert found[LIVE].ends_s <= asked_s[0] + 1000
