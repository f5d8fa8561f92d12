"""The steps of one call that the live objects could not answer: follow, load, claim, compute, keep.

    1  one flight a key among the threads and tasks of this process (zoocache.flight)
    2  its leader looks again at the live objects, then into the store
    3  with a store: one claim a key among the processes of the host (engine/claimed.py), and with a store that hosts
       share one lease among them (engine/leased.py)
    4  the function runs, once (engine/computing.py); its value is kept before flight, claim and lease end

Why the leader looks again in step 2: the flight that it just missed may have ended between its miss and its join.

Whatever ends a flight, it ends: an exception goes to all who waited, a cancelled task or an interrupted thread
abandons it and one of those who waited leads the next.
"""

from __future__ import annotations

from typing import Any

from zoocache.codec import Undecodable
from zoocache.engine import claimed, computing, keeping
from zoocache.engine import fill as fills
from zoocache.engine.core import Engine
from zoocache.engine.effects import Follow, Steps
from zoocache.engine.fill import Fill
from zoocache.engine.live import LIVE, Live
from zoocache.engine.spec import Call
from zoocache.flight import ABANDONED, ERROR, Flight
from zoocache.flight import VALUE as BROUGHT
from zoocache.trie import Trie

TRIES = 8
"""A follower whose flights are overtaken or abandoned again and again computes for itself after so many."""


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
        found = yield from computing.load(engine, call)
        if found is not None:
            return found[1]
    own = Flight(call.key)
    try:  # around the joining, too, and once more around the ending: a signal handler may raise anywhere
        try:
            if engine.flights.join(own) is not own:
                followed = yield from _follow(engine, call, own, inside)
                if followed is not None:
                    return followed[0]
            live, value = yield from _obtain(engine, call, own, inside)
        except Exception as error:
            engine.flights.end(own, ERROR, error)
            raise
        engine.flights.end(own, ABANDONED if own.doubtful else BROUGHT, live)
        yield from engine.tell_touches()
        return value
    finally:
        if own.kind is None or own.wakers:
            engine.flights.end(own, ABANDONED)


def _follow(engine: Engine, call: Call, own: Flight, inside: Fill | None) -> Steps[tuple[Any] | None]:
    """Follow the flight of the key; what it brought, in a tuple of one, or None: the caller has to compute.

    It leads its own flight then: in the table, or outside if it followed flights in vain again and again. It joins once
    more, since the moment of the joining has to be noted before, and who leads need not note it.
    """
    waiting = tuple(fill.flight for fill in fills.chain(inside))
    for _ in range(TRIES):
        trie = engine.trie
        joined = trie.seq()
        flight = engine.flights.join(own)
        if flight is own:
            return None
        was_overtaken = flight.overtaken  # by a `set` or the like, which may have returned before this call began
        is_told = _is_told(engine, trie)
        stamp = None if is_told else (yield from engine.ask("stamp"))
        if not (yield Follow(engine.flights, flight, waiting, engine.settings.flight_timeout)):
            engine.flights.replace(flight)
        elif flight.kind == ERROR:
            fills.note(flight.tags, doubtful=flight.doubtful)
            raise flight.payload
        elif flight.kind == BROUGHT and not is_told and _asks(engine, flight, stamp):
            found = yield from computing.load(engine, call)
            if found is not None:
                return (found[1],)
        elif flight.kind == BROUGHT and not was_overtaken and _may_have(engine, flight.payload, trie, joined):
            live: Live = flight.payload
            try:
                given = (live.hand_out(),)
            except Undecodable:  # nobody can read what it brought: the next round computes
                continue
            call.spec.counters.misses += 1
            fills.note(live.tags)
            return given
    engine.flights.lead_apart(own)  # nobody follows it, but what is set meanwhile overtakes it
    return None


def _is_told(engine: Engine, trie: Trie) -> bool:
    """Whether the segment knows all that may overtake a flight.

    If not, a follower asks the store for its stamp as soon as it has joined: nothing came between the beginning of the
    fill and the joining if that is the fill's own. Otherwise the store is asked for what was brought. A store that did
    not answer the leader has no say: who waited has what there is. (Rejected: to ask before it joins. The flight might
    be over by then, and who would have had its exception would compute.)
    """
    return engine.store is None or (engine.holds_lives and trie.segment.shared)


def _asks(engine: Engine, flight: Flight, stamp: object) -> bool:
    """Whether the store is to be asked for what a flight brought. Where nothing could be kept it is not there, and the
    next flight begins after whatever the follower has to see."""
    return flight.stamp is not None and (flight.stamp != stamp or not engine.believes_lives())


def _may_have(engine: Engine, live: Live, trie: Trie, joined: int) -> bool:
    """Whether a follower that joined at `joined` may have what the flight brought.

    Nothing was invalidated between the beginning of the fill and the joining: yes, whatever came later. Otherwise
    only if nothing overtook the fill at all: a later invalidation may hide an earlier one of the same tag.
    """
    if live.trie is not trie or engine.trie is not trie or not engine.believes_lives():
        return False
    return live.since == joined or not trie.overtaken(live.paths, live.since)


def _obtain(engine: Engine, call: Call, flight: Flight, inside: Fill | None) -> Steps[computing.Result]:
    entry = engine.believed(call.key)
    found = None if entry is None else keeping.handed_out(engine, entry)
    if entry is not None and found is not None:
        call.spec.counters.hits += 1
        return entry[LIVE], found[0]
    if engine.store is not None:
        return (yield from claimed.obtain(engine, call, flight, inside))
    live, value, _ = yield from computing.compute(engine, call, flight, inside)
    keeping.hold_new(engine, live, flight)
    return live, value
