"""The steps of one call that the live objects could not answer: follow, load, claim, compute, keep.

    1  one flight a key among the threads and tasks of this process (zoocache.flight)
    2  its leader looks again at the live objects, then into the store
    3  with a store: one claim a key among the processes of the host (shm/claims.py); who finds one waits, looks
       into the store again, and inherits the claim of a leader that is dead or overdue
    4  the function runs, once; its value is kept before flight and claim end

Why the leader looks again in step 2: the flight that it just missed may have ended between its miss and its join.
The same holds between load and claim in step 3; there the host's count of tickets tells whether anything happened.

Whatever ends a flight, it ends: an exception goes to all who waited, a cancelled task or an interrupted thread
abandons it and one of those who waited leads the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

from zoocache import clock
from zoocache import deps as dependencies
from zoocache.engine import fill as fills
from zoocache.engine import keeping
from zoocache.engine.core import Engine
from zoocache.engine.effects import Compute, Disguised, Follow, Pause, Steps, patiently
from zoocache.engine.fill import Fill, Running
from zoocache.engine.keeping import Landed, Prepared
from zoocache.engine.live import LIVE, THAW, VALUE
from zoocache.engine.spec import Call, Spec
from zoocache.errors import Busy, DepsFailed, FillFailed, StorageError, ZooCacheError
from zoocache.flight import ERROR, GIVEN_UP, Flight, Outcome
from zoocache.flight import VALUE as BROUGHT
from zoocache.shm import claims, points
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.segment import Orphaned
from zoocache.trie import Trie, words_of

log = logging.getLogger("zoocache")

TRIES = 8
"""A follower whose flights are overtaken or abandoned again and again computes for itself after so many."""

PROBE_S = 0.05
"""How often a follower asks whether the leader in another process lives."""

LONGEST_PAUSE_S = 0.01

T = TypeVar("T")
Result = tuple[Landed, Any]


def steps(engine: Engine, call: Call) -> Steps[Any]:
    """The steps of one call; `effects.drive` or `drive_async` runs them.

    Returns:
        The value for this caller.

    Raises:
        RecursiveFill: the call needs itself.
        FillFailed: another process computed it, and raised.
        UnkeepableResult, StorageIsFull, DepsFailed, InvalidTag, InvalidDeps: see there.
        Exception: whatever the function raised.
    """
    inside = fills.current()
    fills.refuse_recursion(call.key, inside)
    waiting = tuple(fill.flight for fill in fills.chain(inside) if fill.flight is not None)
    for _ in range(TRIES):
        trie = engine.trie
        joined = trie.seq()
        flight, leading = engine.flights.join(call.key)
        if leading:
            return (yield from _lead(engine, call, flight))
        if not (yield Follow(engine.flights, flight, waiting, engine.settings.flight_timeout)):
            engine.flights.replace(flight)
            continue
        outcome = flight.outcome or GIVEN_UP
        if outcome.kind == ERROR:
            raise outcome.payload
        if outcome.kind == BROUGHT and _may_have(engine, outcome.payload, trie, joined):
            call.spec.counters.misses += 1
            fills.note(outcome.payload.tags)
            return outcome.payload.hand_out()
    return (yield from _lead(engine, call, Flight(call.key)))


def _may_have(engine: Engine, landed: Landed, trie: Trie, joined: int) -> bool:
    """Whether a follower that joined at `joined` may have what the flight brought.

    Nothing was invalidated between the beginning of the fill and the joining: yes, whatever came later. Otherwise
    only if nothing overtook the fill at all: a later invalidation may hide an earlier one of the same tag.
    """
    if landed.trie is not trie or engine.trie is not trie:
        return False
    return landed.since == joined or not trie.overtaken(landed.paths, landed.since)


def _lead(engine: Engine, call: Call, flight: Flight) -> Steps[Any]:
    try:
        landed, value = yield from _obtain(engine, call, flight)
    except Exception as error:
        engine.flights.end(flight, Outcome(ERROR, error))
        raise
    except BaseException:
        engine.flights.end(flight, GIVEN_UP)
        raise
    engine.flights.end(flight, Outcome(BROUGHT, landed))
    return value


def _obtain(engine: Engine, call: Call, flight: Flight) -> Steps[Result]:
    entry = engine.lives.get(call.key)
    if entry is not None and engine.lives.recheck(entry):
        call.spec.counters.hits += 1
        live = entry[LIVE]
        landed = Landed(entry[VALUE], entry[THAW], live.tags, live.paths, live.trie, live.since)
        return landed, landed.hand_out()
    if engine.store is None:
        return (yield from _compute(engine, call, flight))
    return (yield from _obtain_on_host(engine, call, flight))


def _load(engine: Engine, call: Call) -> Result | None:
    found = keeping.load(engine, call.key, call.digest, share=call.spec.share)
    if found is not None:
        call.spec.counters.hits += 1
    return found


def _obtain_on_host(engine: Engine, call: Call, flight: Flight) -> Steps[Result]:
    high, low = words_of(call.digest)
    for _ in range(TRIES):
        trie = engine.trie
        host = trie.segment.claims
        expected = host.quiet_since(high, low)
        found = _load(engine, call)
        if found is not None:
            return found
        claim, leading = yield from _claim(engine, trie, high, low)
        if claim is None:
            break
        if not leading:
            leading = yield from _follow_on_host(engine, trie, claim)
        if leading:
            return (yield from _lead_on_host(engine, call, flight, host, claim, look=claim.ticket != expected))
    return (yield from _compute(engine, call, flight))


def _claim(engine: Engine, trie: Trie, high: int, low: int) -> Steps[tuple[Claim | None, bool]]:
    """Lead or find the flight of a digest on this host; (None, True) where nobody can be told of it."""
    segment = trie.segment
    if not segment.shared or not segment.claim_slot(clock.wall_ms()):
        return None, True
    nobody: tuple[Claim | None, bool] = (None, True)
    return (yield from _under_lock(engine, trie, lambda: segment.claims.lead(high, low, clock.up_ms()), nobody))


def _under_lock(engine: Engine, trie: Trie, action: Callable[[], T], otherwise: T) -> Steps[T]:
    """`action` under the segment's lock; `otherwise` if it cannot be had.

    A call that cannot tell the others of its fill computes all the same: a value twice is better than none.
    """
    try:
        return (yield from patiently(lambda: trie.segment.write(action)))
    except Orphaned:
        engine.reattach(trie)
    except Busy as error:
        log.warning("zoocache: computing without telling the other processes: %s", error)
    return otherwise


def _follow_on_host(engine: Engine, trie: Trie, claim: Claim) -> Steps[bool]:
    """Wait for the leader in another process; whether this one has become the leader in its place."""
    host = trie.segment.claims
    host.join(claim)
    overdue_ms = round(engine.settings.flight_timeout * 1000)
    start_s = probed_s = time.monotonic()
    while (state := host.state(claim)) == claims.RUNNING:
        now_s = time.monotonic()
        if now_s - probed_s >= PROBE_S:
            probed_s = now_s
            if host.needs_heir(claim, clock.up_ms(), overdue_ms) and (
                yield from _under_lock(
                    engine, trie, lambda: host.inherit(claim, clock.up_ms(), overdue_ms), otherwise=False
                )
            ):
                return True
        yield Pause(min(LONGEST_PAUSE_S, max(0.0002, (now_s - start_s) / 8)))
    if state == claims.FAILED:
        _raise_failure(host.failure(claim))
    return False


def _raise_failure(text: bytes | None) -> None:
    if text is not None:
        type_name, _, reason = text.decode("utf-8", "replace").partition("\n")
        raise FillFailed(type_name, reason)


def _lead_on_host(
    engine: Engine, call: Call, flight: Flight, host: Claims, claim: Claim, *, look: bool
) -> Steps[Result]:
    try:
        found = _load(engine, call) if look else None
        if found is None:
            found = yield from _compute(engine, call, flight)
    except Exception as error:
        told = error.original if isinstance(error, Disguised) else error
        host.fail(claim, f"{type(told).__name__}\n{told}".encode("utf-8", "replace"), clock.up_ms())
        raise
    except BaseException:
        host.end(claim)
        raise
    host.end(claim)
    return found


def _compute(engine: Engine, call: Call, flight: Flight) -> Steps[Result]:
    begun = keeping.begin(engine)
    fill = Fill(call.key, fills.current(), flight)
    value = yield from execute(call, fill)
    if points.ARMED:
        points.reach("engine.filled")
    prepared = keeping.prepare_result(engine, call, fill, value, begun)
    if flight.overtaken:
        return prepared.landed, value
    if prepared.payload is not None:
        yield from _save(engine, prepared)
    keeping.make_live(engine, prepared)
    return prepared.landed, value


def _save(engine: Engine, prepared: Prepared) -> Steps[None]:
    """Keep a value in the store, or go on without it: the caller has computed, and must not suffer for the cache.

    Raises:
        StorageIsFull: it can never fit, which is the caller's to know.
    """
    try:
        yield from patiently(lambda: keeping.save(engine, prepared))
    except (StorageError, Busy) as error:
        engine.warn(error)


def execute(call: Call, fill: Fill) -> Steps[Any]:
    """Run the function of a call inside a fill, and gather its tags."""
    spec = call.spec
    spec.counters.misses += 1
    spec.counters.fills += 1
    with Running(fill):
        fill.add(spec.tags)
        try:
            if spec.deps is not None:
                fill.add(_dependencies(spec, call.values))
            return (yield Compute(spec.invoke, call.values))
        except Exception:
            spec.counters.failures += 1
            raise


def _dependencies(spec: Spec, values: Any) -> Iterable[str]:
    """What the `deps` callable says, checked."""
    assert spec.deps is not None
    try:
        said = spec.deps(values)
    except Exception as error:  # noqa: BLE001  # it is raised again, with its place
        _blame_deps(spec, error)
    try:
        return dependencies.check_deps(said)
    except ZooCacheError as error:
        raise type(error)(f"deps of {spec.name}: {error}") from None


def _blame_deps(spec: Spec, error: Exception) -> NoReturn:
    raise DepsFailed(
        f"deps of {spec.name} raised {type(error).__name__}: {error}; it is called with the arguments of the function"
    ) from error
