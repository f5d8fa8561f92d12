"""The steps of a call, where they could go wrong: interrupted anywhere, alone on a crowded host, beside a busy lock."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import Children
from tests.crowd import Gate, Runner, followers, followers_elsewhere, until
from tests.forks import Forks
from tests.peers import Peer, start_peer
from tests.shared_memory import remove_objects
from zoocache import FillFailed, cacheable, clock, configure, invalidate, keys, runtime
from zoocache import flight as flights
from zoocache.engine import call as calls
from zoocache.engine.effects import drive
from zoocache.flight import ABANDONED, Flight
from zoocache.shm import identity, kernel
from zoocache.shm.claims import CLAIM_WAYS, Claim, Claims
from zoocache.shm.layout import C_JOINED, LOCK_SLOTS
from zoocache.trie import hash_words

HAMMER = """
    import random, signal, sys, zoocache
    from decimal import Decimal
    from zoocache import forks, runtime
    from zoocache.imports import whole
    from zoocache._zoocache import Core
    from zoocache.engine import fill

    class Interrupt(BaseException):
        pass

    class Late(Exception):
        pass

    def interrupt(*_):
        raise chance.choice((Interrupt, Late))

    @zoocache.cacheable(deps="a")
    def inner(n):
        return n

    @zoocache.cacheable
    def get(n):
        return [Decimal(inner(n) if n % 2 else n)]

    zoocache.configure(storage_url=sys.argv[1])
    get(-1)
    engine, chance, interrupted = runtime.engine(), random.Random(5), 0
    signal.signal(signal.SIGALRM, interrupt)
    for n in range(2500):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + chance.random() * float(sys.argv[2]))
            try:
                get(n)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (Interrupt, Late):
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert not engine.flights._flights, "a flight without a leader"
        assert not engine.trie.segment.claims.running(), "a claim that nobody leads"
        assert not fill.ACTIVE and fill.inside() is None, "a fill that nobody computes"
        assert not engine.flights._mutex._is_owned() and not engine.lives._mutex._is_owned(), "a lock without a holder"
        assert not whole._is_owned() and not forks._opening, "forks would wait for nobody"
    print(interrupted, Core().check(), get(-1)[0], get(5)[0])
"""


@pytest.mark.parametrize(("storage_kind", "within_s"), [("memory", "60e-6"), ("lmdb", "400e-6")])
def test_a_signal_handler_that_raises_at_any_instruction(
    children: Children, tmp_path: Path, storage_kind: str, within_s: str
) -> None:
    """Whatever a handler interrupts: no flight is left without a leader, here or on the host, no fill without an end,
    no lock is held."""
    url = "memory://" if storage_kind == "memory" else f"lmdb://{tmp_path / 'cache'}"
    interrupted, *rest = children.code(HAMMER, url, within_s).output().split()
    assert 100 < int(interrupted)
    assert ["[]", "-1", "5"] == rest


def call_of(function: Callable[..., object]) -> calls.Call:
    """A call of a decorated function without arguments, for the engine."""
    key: str = function.key_for()  # type: ignore[attr-defined]
    spec = next(spec for spec in runtime._living_specs() if key.startswith(f"{spec.stem}("))
    return calls.Call(spec, key, ())


def test_a_leader_looks_again(storage: str) -> None:
    """A value that landed between a caller's miss and its own flight is not computed a second time."""
    runs = []

    @cacheable
    def get() -> int:
        runs.append(1)
        return 5

    get()
    assert 5 == drive(calls.steps(runtime.engine(), call_of(get)))
    assert 1 == len(runs)


def test_an_entry_of_the_store_is_found_before_anybody_computes(lmdb: Path) -> None:
    """The same for a value that only the store has by now."""
    runs = []

    @cacheable
    def get() -> int:
        runs.append(1)
        return 5

    get()
    engine = runtime.engine()
    engine.lives.clear()
    assert 5 == drive(calls.steps(engine, call_of(get)))
    assert (1, 1) == (len(runs), get.info().hits)


@pytest.mark.parametrize(
    "failure", [KeyError("x"), KeyboardInterrupt(), "deps", "tag", "unkeepable", "used up"], ids=str
)
def test_however_a_fill_ends_nothing_is_left(lmdb: Path, failure: object) -> None:
    """No flight in this process, no claim on the host; and the next call computes."""
    failing = True

    def deps() -> object:
        if failing and failure == "deps":
            raise LookupError
        return "a::b" if failing and failure == "tag" else "a:b"

    @cacheable(deps=deps)
    def get() -> object:
        if not failing:
            return 5
        if isinstance(failure, BaseException):
            raise failure
        return {"unkeepable": [object()], "used up": iter("ab")}.get(str(failure))

    engine = runtime.engine()
    with pytest.raises(BaseException):  # noqa: B017, PT011  # which one is tested elsewhere
        get()
    assert {} == engine.flights._flights
    assert 0 == engine.trie.segment.claims.running()
    failing = False
    assert (5, 5) == (get(), get())
    assert 0 == engine.trie.segment.claims.running()


def test_threads_that_follow_another_process_fail_together(
    lmdb: Path, children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of one process that wait for a flight of another one get one FillFailed object."""
    from tests.promises import world

    monkeypatch.setenv("WORLD", str(tmp_path))
    leader: Peer = start_peer(children)
    leader.call("close_gate", "a")
    leader.begin("broken", "a")
    leader.wait_inside("a")
    herd = [Runner(world.broken, "a") for _ in range(5)]
    until(lambda: followers_elsewhere() and followers() == 4)
    leader.go_on()
    errors = {each.error() for each in herd}
    assert 1 == len(errors)
    assert isinstance(errors.pop(), FillFailed)
    assert [leader.pid] == world.fills("a")


def test_a_leader_that_is_interrupted_while_it_wakes_the_others(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Who waits is woken all the same, and does not sleep until the flight would be overdue."""
    configure(flight_timeout=3600)
    gate, wake, interrupts = Gate(), flights._wake, [KeyboardInterrupt()]

    def interrupted(wakers: list[Callable[[], object]]) -> None:
        if interrupts:
            raise interrupts.pop()
        wake(wakers)

    @cacheable
    def get() -> int:
        gate.stop()
        return 5

    monkeypatch.setattr(flights, "_wake", interrupted)
    leader = Runner(get)
    gate.wait_inside()
    herd = [Runner(get) for _ in range(3)]
    until(lambda: followers() == 3)
    gate.open()
    assert isinstance(leader.error(), KeyboardInterrupt)
    assert [5, 5, 5] == [each.result() for each in herd]


def test_a_segment_that_is_removed_before_a_claim(lmdb: Path, prefix: str) -> None:
    """Who finds on claiming a fill that the segment is another one claims it there."""
    running = []

    @cacheable(deps=lambda number: f"number:{number}")
    def get(number: int) -> int:
        running.append(runtime.engine().trie.segment.claims.running())
        return number

    get(0)
    before = runtime.engine().trie
    remove_objects(prefix)
    assert 1 == get(1)
    assert runtime.engine().trie is not before
    assert [1, 1] == running


def test_a_host_without_a_free_slot(lmdb: Path) -> None:
    """Where no slot is free nobody can be told of a fill; it is made all the same, and kept."""
    segment = runtime.engine().trie.segment
    other = os.open(identity.segment_file(segment.name), os.O_RDWR)
    for slot in range(segment.layout.slots):
        kernel.try_exclusive(other, LOCK_SLOTS + slot)

    @cacheable(deps="a")
    def get() -> list[int]:
        return [1]

    assert ([1], [1]) == (get(), get())
    assert (1, 1) == get.info()[:2]
    assert not segment.slots.owner
    os.close(other)


def test_a_bucket_of_claims_that_is_full(lmdb: Path) -> None:
    """Where no claim is free nobody can be told of a fill; it is made all the same, and kept."""

    @cacheable(deps="a")
    def get() -> list[int]:
        return [1]

    engine = runtime.engine()
    segment = engine.trie.segment
    segment.claim_slot(clock.wall_ms())
    high, low = hash_words(keys.digest(get.key_for()))
    buckets = segment.layout.claims // CLAIM_WAYS
    for n in range(1, CLAIM_WAYS + 1):
        claim, leading = segment.write(segment.claims.lead, high % buckets + n * buckets, low, clock.up_ms())
        assert leading
        assert claim
    assert CLAIM_WAYS == segment.claims.running()
    assert ([1], [1]) == (get(), get())
    assert (1, 1) == get.info()[:2]
    assert CLAIM_WAYS == segment.claims.running()


def test_a_lock_that_stays_taken_costs_only_the_telling(
    lmdb: Path, forks: Forks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process stands inside a write, a fill cannot be told to the others; it is made all the same."""
    monkeypatch.setattr("zoocache.engine.effects.DEFAULT_TIMEOUT_S", 0.05)
    ready, go_on = os.pipe(), os.pipe()

    def hold() -> None:
        runtime.engine().trie.segment.write(lambda: (os.write(ready[1], b"!"), os.read(go_on[0], 1)))

    @cacheable(deps="a")
    def get() -> list[int]:
        return [1]

    invalidate("x")
    child = forks.fork(hold)
    os.read(ready[0], 1)
    with caplog.at_level(logging.WARNING, "zoocache"):
        assert ([1], [1]) == (get(), get())
    assert "without telling" in caplog.text
    assert (1, 1) == get.info()[:2]
    os.write(go_on[1], b"!")
    assert 0 == child.wait()
    for end in (*ready, *go_on):
        os.close(end)


def test_who_follows_in_vain_computes_in_the_end() -> None:
    """A follower whose flights are abandoned again and again does not follow for ever: it gives up after eight vain
    attempts, as docs/reliability.md says, and no sooner."""

    @cacheable
    def get() -> int:
        return 5

    flights, key = runtime.engine().flights, get.key_for()
    flight = flights.join(Flight(key))
    follower = Runner(get)
    for _ in range(8):
        until(lambda: flight.wakers)  # noqa: B023  # it is called at once
        flights._flights[key] = heir = Flight(key)
        flights.end(flight, ABANDONED)
        flight = heir
    assert 5 == follower.result()
    assert flight is flights._flights[key]
    flights.end(flight, ABANDONED)


@pytest.mark.usefixtures("patient")
def test_who_follows_another_process_in_vain_computes_in_the_end(lmdb: Path, forks: Forks) -> None:
    """It gives up after eight vain attempts there, too, and no sooner."""
    ready, go_on = os.pipe(), os.pipe()

    @cacheable(deps="a")
    def get() -> int:
        return 5

    high, low = hash_words(keys.digest(get.key_for()))

    def lead_the_next(claims: Claims, claim: Claim | None) -> Claim:
        """Under the lock, which who wants to lead needs, too."""
        if claim is not None:
            claims.end(claim)
        led, leading = claims.lead(high, low, clock.up_ms())
        assert led
        assert leading
        return led

    def lead_again_and_again() -> None:
        segment = runtime.engine().trie.segment
        segment.claim_slot(clock.wall_ms())
        claim = segment.write(lead_the_next, segment.claims, None)
        os.write(ready[1], b"!")
        for _ in range(8):
            until(lambda: segment.words[claim.at + C_JOINED])  # noqa: B023  # it is called at once
            claim = segment.write(lead_the_next, segment.claims, claim)
        os.read(go_on[0], 1)
        assert not segment.words[claim.at + C_JOINED]
        segment.claims.end(claim)

    invalidate("x")
    child = forks.fork(lead_again_and_again)
    os.read(ready[0], 1)
    assert 5 == get()
    os.write(go_on[1], b"!")
    assert 0 == child.wait()
    for end in (*ready, *go_on):
        os.close(end)
