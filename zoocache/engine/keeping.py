"""Bringing values into the live objects and the store, and back out: load, prepare, save, make live, set anew.

Whatever is kept was noted early: `since` (the host's order) and the stamp (the store's order) before the function
ran, or before the store was read. Whether it is overtaken is asked last.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from zoocache import clock, codec, deps
from zoocache import entry as envelope
from zoocache.engine import fill as fills
from zoocache.engine import mutations
from zoocache.engine.effects import Ask, Steps, patiently
from zoocache.engine.live import LIVE, Entry, Live, set_life, touch_s
from zoocache.errors import Busy, StorageError, UnkeepableResult
from zoocache.flight import Flight
from zoocache.log import log
from zoocache.shm import points
from zoocache.storage import FOREVER, Life, Loaded, NearStore, Stamp
from zoocache.trie import Trie

if TYPE_CHECKING:
    from zoocache.engine.core import Engine


class Begun(NamedTuple):
    """Both orders, noted before a function runs; no stamp: there is no store, or it does not answer."""

    trie: Trie
    since: int
    stamp: Stamp | None


def begin_here(engine: Engine) -> Begun:
    """`begin`, where the store is not far away.

    A stamp may be taken before the host has heard what it missed: what it hears raises the store's own numbers, so at
    worst what comes of it is overtaken for nothing.
    """
    trie, store = engine.trie, engine.store
    since = trie.seq()
    return Begun(trie, since, None if store is None else engine.guarded(store.stamp))


def begin(engine: Engine) -> Steps[Begun]:
    """Note both orders."""
    trie = engine.trie
    since = trie.seq()
    stamp: Stamp | None = yield from engine.ask("stamp")
    if stamp is not None:
        met(engine, trie, stamp.n)
    return Begun(trie, since, stamp)


def met(engine: Engine, trie: Trie, n: int) -> None:
    """A number of the order that hosts share was seen: what this host does not know of it, its listener asks for."""
    if engine.far is not None and engine.hosts is not None:
        engine.hosts.behind(trie, n)


def land(
    engine: Engine, name: str, key: str, value: Any, tags: tuple[str, ...], life: Life, begun: Begun, share: bool,
    digest: bytes | None = None,
) -> Live:  # fmt: skip
    """What a fill has brought, as the live objects hold it: as it is where that is safe for all callers, else packed.

    Args:
        name: what an error calls it.
        key: full text.
        value: of the fill.
        tags: what it depends on.
        life: how long it is to live.
        begun: noted before the fill.
        share: hand one object to all callers though it be mutable.
        digest: of the key, if it was made already.

    Raises:
        UnkeepableResult: the storage cannot give such a value back.
    """
    refuse_used_up(value, name)
    if engine.store is None:
        return Live(key, tags, begun.trie, begun.since, value, None, None, life, digest)
    payload = codec.encode(value, label=name)
    return _landed(key, tags, begun.trie, begun.since, value, payload, life, share, digest)


def _landed(
    key: str, tags: tuple[str, ...], trie: Trie, since: int, value: Any, payload: bytes, life: Life, share: bool,
    digest: bytes | None,
) -> Live:  # fmt: skip
    if share or codec.is_immutable(value):
        return Live(key, tags, trie, since, value, None, payload, life, digest)
    return Live(key, tags, trie, since, payload, codec.decode, payload, life, digest)


def save(engine: Engine, live: Live, stamp: Stamp | None, *, anew: bool = False, computed: bool = False) -> Steps[None]:
    """Give what has landed to the store.

    Args:
        live: what has landed.
        stamp: of its fill.
        anew, computed: as `Store.save` takes them; a store between hosts tells the others of a key that is set anew.

    Raises:
        Busy: another process is writing and did not stop in time.
        StorageError: it could not be written. StorageIsFull: it can never fit.
    """
    payload = live.payload
    if payload is None or stamp is None or not engine.takes_from_store():
        return
    body = envelope.pack(live.key, live.tags, payload)
    what = (live.digest, deps.paths_of(live.tags), stamp, body, live.life, clock.now())
    if engine.near is not None:
        yield from _save_near(engine.near, what, anew, computed)
    elif engine.far is not None and anew and engine.hosts is not None:
        yield from mutations.set_anew(engine, engine.far, engine.hosts, what, computed)
    elif engine.far is not None:
        yield Ask(engine.far, "save", *what, anew=anew, computed=computed)
    if points.ARMED:
        points.reach("engine.stored")
    yield from engine.tell_touches()


def _save_near(near: NearStore, what: Any, anew: bool, computed: bool) -> Steps[None]:
    """In two steps if the key is set anew, each repeated for itself where it finds a lock taken: the first would find
    that somebody has overtaken the key, which was itself."""
    if not anew:
        yield from patiently(lambda: near.save(*what))
        return
    key_n = yield from patiently(lambda: near.set_anew(*what, computed=computed))
    if key_n:
        yield from patiently(lambda: near.save(*what, key_n=key_n))


def hold(
    engine: Engine, live: Live, left_s: float | None, oldest_in_s: float | None, since_s: float | None = None,
    flight: Flight | None = None,
) -> None:  # fmt: skip
    """Hold what has landed live, unless it is overtaken, or the segment cannot tell about other processes.

    Args:
        live: what has landed.
        left_s, oldest_in_s, since_s: what is left of its life, as `live.set_life` takes it.
        flight: that has brought it, and may not be kept.
    """
    trie = live.trie
    if trie is not engine.trie or not engine.holds_lives or (engine.store is not None and not trie.segment.shared):
        return
    seq = trie.seq()
    if seq != live.since:  # else nothing has changed since the fill began, and the nodes are looked at when it does
        sight = trie.look(live.paths, live.since)
        if sight is None:
            return
        live.sight = sight
    elif not trie.is_live():  # retired before the fill began: its seq stands still, whatever happens on the host
        return
    if left_s is not None:
        set_life(live, left_s, oldest_in_s, since_s)
    engine.lives.keep(live, seq, flight)


def hold_new(engine: Engine, live: Live, flight: Flight | None = None) -> None:
    """`hold`, for a life that begins now."""
    life = live.life
    if life is FOREVER:
        hold(engine, live, None, None, flight=flight)
        return
    ttl_s, age_s = _seconds(life.ttl_ms or None), _seconds(life.max_age_ms or None)
    hold(engine, live, ttl_s if age_s is None else min(age_s, ttl_s or age_s), age_s, flight=flight)


def handed_out(engine: Engine, entry: Entry) -> tuple[Any] | None:
    """The value of a live entry for one caller, in a tuple of one; None, and the entry is dropped, if it is packed and
    cannot be read: one of its classes was changed, or does not give back what it gave."""
    try:
        return (entry[LIVE].hand_out(),)
    except codec.Undecodable:  # who looks into the store or computes next says why, in the log
        engine.lives.drop(entry)
        return None


def load(engine: Engine, key: str, digest: bytes, *, share: bool) -> Steps[tuple[Live, Any] | None]:
    """Look a key up in the store, and hold what is there live.

    Returns:
        (what followers may have, the value for the caller), or None: a miss.
    """
    if engine.store is None:
        return None
    if engine.hosts is not None:
        yield from engine.first_catch_up()
        if not engine.may_load():
            return None
    trie = engine.trie
    since, asked_s = trie.seq(), time.monotonic()
    loaded = yield from engine.ask("load", digest, clock.now())
    return None if loaded is None else open_loaded(engine, key, digest, share, trie, since, asked_s, loaded)


def open_loaded(
    engine: Engine, key: str, digest: bytes, share: bool, trie: Trie, since: int, asked_s: float, loaded: Loaded
) -> tuple[Live, Any] | None:
    """What a store has given, as `load` returns it.

    Args:
        key, digest, share: of the call.
        trie, since, asked_s: noted before the store was asked; what is left of a life counts from there, or whoever
            loses the processor before the answer is held would hold it for so much longer.
        loaded: its answer.
    """
    body = envelope.unpack(loaded.body)
    if body is None or body.key != key:
        return None
    try:
        value = codec.decode(body.payload)
    except codec.Undecodable as error:
        log.warning("zoocache: an entry cannot be read and is computed anew: %s", error)
        return None
    live = _landed(key, body.tags, trie, since, value, body.payload, loaded.life, share, digest)
    met(engine, trie, loaded.n)
    hold(engine, live, _seconds(loaded.left_ms), _seconds(loaded.age_left_ms), asked_s)
    _mark_read(engine, key, digest, loaded)
    if fills.ACTIVE:
        fills.note(body.tags)
    return live, value


def _mark_read(engine: Engine, key: str, digest: bytes, loaded: Loaded) -> None:
    """A load is a read: let a sliding ttl begin anew."""
    if not loaded.life.sliding:
        return
    entry = engine.lives.get(key)
    if entry is not None:
        engine.lives.recheck(entry)
    elif not engine.holds_lives and worth_a_touch(loaded):
        engine.touches.add(digest)


def worth_a_touch(loaded: Loaded) -> bool:
    """Whether so much of a sliding ttl is gone that a read is worth noting."""
    life, left_ms, age_left_ms = loaded.life, loaded.left_ms, loaded.age_left_ms
    if left_ms is None or (age_left_ms is not None and left_ms >= age_left_ms):
        return False
    return left_ms / 1000 <= life.ttl_ms / 1000 - touch_s(life)


def put(engine: Engine, live: Live, stamp: Stamp | None, flight: Flight | None = None) -> Steps[None]:
    """Set a key anew: what was there, live in any process or being computed, is overtaken.

    In memory other processes keep what they have: their entries are their own. In LMDB other hosts do.

    Args:
        live, stamp: what the key is set to, and of when it is.
        flight: that it was computed in: what overtook the key meanwhile overtakes this too, as `Store.save` says. None:
            it was given by the caller, and of two that set a key the later one stands.

    Raises:
        Busy, StorageError, StorageIsFull: what was there stays, or is overtaken and nothing has come in its place; or
            it is set, and live objects of other processes were not told.
    """
    computed = flight is not None
    if live.payload is not None:
        if stamp is None or not engine.takes_from_store():
            yield from _refuse_to_set(engine, live.key)
        yield from save(engine, live, stamp, anew=True, computed=computed)
        yield from patiently(lambda: _overtake_key(engine, live))
    is_kept = engine.flights.overtake(live.key, flight)
    engine.lives.forget(live.key)
    if is_kept:
        hold_new(engine, live)


def _refuse_to_set(engine: Engine, key: str) -> Steps[None]:
    """Say why there is no stamp, or none that may be used: ask once more.

    Raises:
        StorageError: always; it names the cause. ServerRefused: that is the cause.
    """
    try:
        if engine.hosts is not None:
            engine.hosts.insist_all_is_told(engine.trie)
        yield from engine.asked("stamp")
    except (StorageError, Busy) as error:
        raise StorageError(f"{key} was not set: {error}") from error
    raise StorageError(f"{key} was not set in {engine.store_name}: it did not answer at first; try again")


def _overtake_key(engine: Engine, live: Live) -> None:
    """Make all live objects of a key stale, except this one if it is held afterwards.

    If nothing had overtaken it between its fill and the key's number `new`, it may count as filled at `new`. Of its
    paths the last is the key's own: if that was overtaken, another has set it meanwhile, and which of the two came
    second in the store is for the next load to see.
    """
    trie, new, is_fresh = mutations.overtake_key(engine, live.digest, live.paths, live.since)
    if is_fresh and trie is live.trie:
        live.since = new


def refuse_used_up(value: Any, name: str) -> None:
    """Turn away what is used up by its first user.

    Raises:
        UnkeepableResult: a coroutine or other awaitable, a generator or other iterator.
    """
    kind = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, CoroutineType):
        value.close()  # nobody will ever await it
    if isinstance(value, Awaitable) or hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        raise UnkeepableResult(
            f"{name}: result: {kind.__name__} is used up by its first user and cannot be kept; return what it yields, "
            "for example a list"
        )


_PLAIN = frozenset({int, str, bytes, bool, float, type(None), list, dict, tuple, set})


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
