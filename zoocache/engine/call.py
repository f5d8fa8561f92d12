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
from zoocache.engine.fill import Fill
from zoocache.engine.live import LIVE, Live
from zoocache.engine.spec import Call, Spec
from zoocache.errors import Busy, DepsFailed, FillFailed, StorageError, ZooCacheError
from zoocache.flight import ABANDONED, ERROR, Flight
from zoocache.flight import VALUE as BROUGHT
from zoocache.shm import claims, points
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.segment import Orphaned
from zoocache.storage import Stamp
from zoocache.trie import Trie, hash_words

log = logging.getLogger("zoocache")

TRIES = 8
"""A follower whose flights are overtaken or abandoned again and again computes for itself after so many."""

PROBE_S = 0.05
"""How often a follower asks whether the leader in another process lives."""

LONGEST_PAUSE_S = 0.01

T = TypeVar("T")
Result = tuple[Live, Any]


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
    if inside is not None:
        fills.refuse_recursion(call.key, inside)
    if not engine.believes_lives():
        found = _load(engine, call)
        if found is not None:
            return found[1]
    own = Flight(call.key)
    try:  # around the joining, too, and once more around the ending: a signal handler may raise anywhere
        try:
            followed = yield from _follow(engine, call, own, inside)
            if followed is not None:
                return followed.hand_out()
            live, value = yield from _obtain(engine, call, own, inside)
        except Exception as error:
            engine.flights.end(own, ERROR, error)
            raise
        engine.flights.end(own, ABANDONED if own.doubtful else BROUGHT, live)
        return value
    finally:
        if own.kind is None:
            engine.flights.end(own, ABANDONED)


def _follow(engine: Engine, call: Call, own: Flight, inside: Fill | None) -> Steps[Live | None]:
    """Follow the flight of the key; what it brought, or None: the caller has to compute.

    It leads its own flight then: in the table, or outside if it followed flights in vain again and again.
    """
    waiting = tuple(fill.flight for fill in fills.chain(inside))
    for _ in range(TRIES):
        trie = engine.trie
        joined = trie.seq()
        flight = engine.flights.join(own)
        if flight is own:
            break
        if not (yield Follow(engine.flights, flight, waiting, engine.settings.flight_timeout)):
            engine.flights.replace(flight)
        elif flight.kind == ERROR:
            fills.note(flight.tags, doubtful=flight.doubtful)
            raise flight.payload
        elif flight.kind == BROUGHT and _may_have(engine, flight.payload, trie, joined):
            live: Live = flight.payload
            call.spec.counters.misses += 1
            fills.note(live.tags)
            return live
    return None


def _may_have(engine: Engine, live: Live, trie: Trie, joined: int) -> bool:
    """Whether a follower that joined at `joined` may have what the flight brought.

    Nothing was invalidated between the beginning of the fill and the joining: yes, whatever came later. Otherwise
    only if nothing overtook the fill at all: a later invalidation may hide an earlier one of the same tag.
    """
    if live.trie is not trie or engine.trie is not trie or not engine.believes_lives():
        return False
    return live.since == joined or not trie.overtaken(live.paths, live.since)


def _obtain(engine: Engine, call: Call, flight: Flight, inside: Fill | None) -> Steps[Result]:
    entry = engine.believed(call.key)
    if entry is not None:
        call.spec.counters.hits += 1
        live: Live = entry[LIVE]
        return live, live.hand_out()
    if engine.store is not None:
        return (yield from _obtain_on_host(engine, call, flight, inside))
    live, value, _ = yield from compute(engine, call, flight, inside)
    if flight.is_kept:
        keeping.hold_new(engine, live)
    return live, value


def _load(engine: Engine, call: Call) -> Result | None:
    found = keeping.load(engine, call.key, call.digest, share=call.spec.share)
    if found is not None:
        call.spec.counters.hits += 1
    return found


def _obtain_on_host(engine: Engine, call: Call, flight: Flight, inside: Fill | None) -> Steps[Result]:
    high, low = hash_words(call.digest)
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
            if host.is_mine(claim) and not host.needs_heir(claim, clock.up_ms(), _overdue_ms(engine)):
                break  # who is asked for it here already was given up, or is interrupted below this very frame
            leading = yield from _follow_on_host(engine, trie, claim, flight)
        if leading:
            return (yield from _lead_on_host(engine, call, flight, inside, host, claim, look=claim.ticket != expected))
    return (yield from _compute_and_save(engine, call, flight, inside))


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


def _overdue_ms(engine: Engine) -> int:
    return round(engine.settings.flight_timeout * 1000)


def _follow_on_host(engine: Engine, trie: Trie, claim: Claim, flight: Flight) -> Steps[bool]:
    """Wait for the leader in another process; whether this one has become the leader in its place.

    Who finds the segment an orphan waits no more: the leader may have left it, and nobody ends a flight there.
    """
    host = trie.segment.claims
    host.join(claim)
    overdue_ms = _overdue_ms(engine)
    start_s = probed_s = time.monotonic()
    while (state := host.state(claim)) == claims.RUNNING and engine.trie is trie:
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
        _raise_failure(host.failure(claim), flight)
    return False


def _raise_failure(text: bytes | None, flight: Flight) -> None:
    """Raise what a leader in another process left, if its place has not gone to another.

    The text says nothing of the tags that it had looked at. So who lives with this failure, and builds on it, builds
    on what cannot be invalidated: that is not kept.
    """
    if text is not None:
        flight.doubtful = True
        fills.note((), doubtful=True)
        type_name, _, reason = text.decode("utf-8", "replace").partition("\n")
        raise FillFailed(type_name, reason)


def _lead_on_host(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, host: Claims, claim: Claim, *, look: bool
) -> Steps[Result]:
    try:
        found = _load(engine, call) if look else None
        if found is None:
            found = yield from _compute_and_save(engine, call, flight, inside)
    except Exception as error:
        host.fail(claim, _told(error), clock.up_ms())
        raise
    except BaseException:
        host.end(claim)
        raise
    host.end(claim)
    return found


def _told(error: Exception) -> bytes:
    """What the other processes are told of an exception."""
    meant = error.original if isinstance(error, Disguised) else error
    try:
        reason = str(meant)
    except Exception:  # noqa: BLE001  # it is the user's, and the flight must end
        reason = "(its message cannot be printed)"
    return f"{type(meant).__name__}\n{reason}".encode("utf-8", "replace")


def _compute_and_save(engine: Engine, call: Call, flight: Flight, inside: Fill | None) -> Steps[Result]:
    live, value, stamp = yield from compute(engine, call, flight, inside)
    if flight.is_kept:
        yield from _save(engine, live, stamp)
        keeping.hold_new(engine, live)
    return live, value


def _save(engine: Engine, live: Live, stamp: Stamp | None) -> Steps[None]:
    """Keep a value in the store, or go on without it: the caller has computed, and must not suffer for the cache.

    Raises:
        StorageIsFull: it can never fit, which is the caller's to know.
    """
    try:
        yield from patiently(lambda: keeping.save(engine, live, stamp))
    except (StorageError, Busy) as error:
        engine.warn(error)


def compute(engine: Engine, call: Call, flight: Flight, inside: Fill | None) -> Steps[tuple[Live, Any, Stamp | None]]:
    """Run the function of a call and gather its tags.

    Returns:
        What it brought; the value itself, for this caller; the stamp for the store.
    """
    spec = call.spec
    spec.counters.misses += 1
    spec.counters.fills += 1
    begun = keeping.begin(engine)
    fill = Fill(call.key, inside, flight)
    flight.tags = fill.tags
    outer = fills.inside()
    try:  # as in `steps`: the leaving stands twice
        try:
            fills.enter(fill)
            fill.add(spec.tags)
            if spec.deps is not None:
                fill.add(_dependencies(spec, call.values))
            value = yield Compute(spec.invoke, call.values)
        except Exception:
            spec.counters.failures += 1
            raise
        finally:
            fills.leave(fill, outer)
    finally:
        if fill in fills.ACTIVE:
            fills.leave(fill, outer)
        flight.doubtful = fill.doubtful
    if points.ARMED:
        points.reach("engine.filled")
    life = engine.life_of(spec.ttl_s, spec.max_age_s)
    live = keeping.land(
        engine, spec.name, call.key, value, tuple(fill.tags), life, begun, spec.share, call.digest_if_any
    )
    return live, value, begun.stamp


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
