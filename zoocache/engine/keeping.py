"""Bringing values into the live objects and the store, and back out: load, prepare, save, make live, set anew.

Whatever is kept was noted early: `since` (the host's order) and the stamp (the store's order) before the function
ran, or before the store was read. Whether it is overtaken is asked last.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from zoocache import clock, codec, deps
from zoocache import entry as envelope
from zoocache.engine import fill as fills
from zoocache.engine.fill import Fill
from zoocache.engine.live import Live, set_life
from zoocache.engine.spec import Call
from zoocache.errors import StorageError, UnkeepableResult
from zoocache.shm import points
from zoocache.storage import Life, Loaded, Stamp
from zoocache.trie import UNSEEN, Trie, Words, words_of

if TYPE_CHECKING:
    from zoocache.engine.core import Engine

log = logging.getLogger("zoocache")


class Landed(NamedTuple):
    """What a fill or a load brought, for those who followed.

    Attributes:
        value, thaw: as in a live entry.
        tags, paths: what it depends on; the last path is its own key's.
        trie, since: where and when it began.
    """

    value: Any
    thaw: Callable[[Any], Any] | None
    tags: tuple[str, ...]
    paths: tuple[Words, ...]
    trie: Trie
    since: int

    def hand_out(self) -> Any:
        """A value for one caller."""
        return self.value if self.thaw is None else self.thaw(self.value)


class Begun(NamedTuple):
    """Both orders, noted before a function runs; no stamp: there is no store, or it does not answer."""

    trie: Trie
    since: int
    stamp: Stamp | None


class Span(NamedTuple):
    """What is left of a life: seconds until it ends unless it is read, and until it ends anyhow; None for never."""

    life: Life
    left_s: float | None
    oldest_in_s: float | None


class Prepared(NamedTuple):
    """A value that is ready to be kept.

    Attributes:
        key, digest: where.
        landed: what.
        payload: the packed value; None without a store.
        span: how long.
        stamp: for the store.
    """

    key: str
    digest: bytes
    landed: Landed
    payload: bytes | None
    span: Span
    stamp: Stamp | None


def begin(engine: Engine) -> Begun:
    """Note both orders."""
    trie = engine.trie
    since = trie.seq()
    return Begun(trie, since, None if engine.store is None else engine.guarded(engine.store.stamp))


def prepare(
    engine: Engine, name: str, key: str, digest: bytes, value: Any, tags: tuple[str, ...], life: Life, begun: Begun,
    share: bool,
) -> Prepared:  # fmt: skip
    """Pack a value.

    Raises:
        UnkeepableResult: the storage cannot give such a value back.
    """
    refuse_used_up(value, name)
    payload = None if engine.store is None else codec.encode(value, label=name)
    landed = land(value, payload, share, tags, digest, begun.trie, begun.since)
    return Prepared(key, digest, landed, payload, _whole(life), begun.stamp)


def prepare_result(engine: Engine, call: Call, fill: Fill, value: Any, begun: Begun) -> Prepared:
    """Pack what a function returned; its fill has ended, so its tags are complete."""
    spec = call.spec
    life = engine.life_of(spec.ttl_s, spec.max_age_s)
    return prepare(engine, spec.name, call.key, call.digest, value, tuple(fill.tags), life, begun, spec.share)


def save(engine: Engine, prepared: Prepared, *, anew: bool = False) -> None:
    """Give a prepared value to the store.

    Raises:
        Busy: another process is writing and did not stop in time.
        StorageError: it could not be written. StorageIsFull: it can never fit.
    """
    store, payload = engine.store, prepared.payload
    if store is None or payload is None or prepared.stamp is None:
        return
    tags = prepared.landed.tags
    body = envelope.pack(prepared.key, tags, payload)
    store.save(
        prepared.digest, deps.paths_of(tags), prepared.stamp, body, prepared.span.life, clock.now(), anew=anew
    )  # fmt: skip
    engine.touches.flush_if_any()
    if points.ARMED:
        points.reach("engine.stored")


def make_live(engine: Engine, prepared: Prepared) -> None:
    """Hold a value live, unless it is overtaken, or the segment cannot tell about other processes."""
    landed = prepared.landed
    trie = landed.trie
    if trie is not engine.trie or (engine.store is not None and not trie.segment.shared):
        return
    seq = trie.seq()
    # Nothing has changed since the fill began: not overtaken, and the nodes are looked at when something does.
    sight = UNSEEN if seq == landed.since else trie.look(landed.paths, landed.since)
    if sight is None:
        return
    live = Live()
    live.key, live.digest, live.tags, live.paths = prepared.key, prepared.digest, landed.tags, landed.paths
    live.trie, live.since, live.sight = trie, landed.since, sight
    live.used, live.bytes, live.front = False, len(prepared.payload or b""), None
    set_life(live, *prepared.span)
    engine.lives.keep(live, seq, landed.value, landed.thaw)


def load(engine: Engine, key: str, digest: bytes, *, share: bool) -> tuple[Landed, Any] | None:
    """Look a key up in the store, and hold what is there live.

    Returns:
        (what followers may have, the value for the caller), or None: a miss.
    """
    trie, store = engine.trie, engine.store
    if store is None:
        return None
    since = trie.seq()
    loaded = engine.guarded(store.load, digest, clock.now())
    body = None if loaded is None else envelope.unpack(loaded.body)
    if loaded is None or body is None or body.key != key:
        return None
    try:
        value = codec.decode(body.payload)
    except codec.Undecodable as error:
        log.warning("zoocache: an entry cannot be read and is computed anew: %s", error)
        return None
    landed = land(value, body.payload, share, body.tags, digest, trie, since)
    make_live(engine, Prepared(key, digest, landed, body.payload, _left(loaded), None))
    mark_read(engine, key, loaded)
    if fills.ACTIVE:
        fills.note(body.tags)
    return landed, value


def mark_read(engine: Engine, key: str, loaded: Loaded) -> None:
    """A load is a read: let a sliding ttl begin anew."""
    entry = engine.lives.get(key)
    if entry is not None and loaded.life.sliding:
        engine.lives.recheck(entry)


def land(
    value: Any, payload: bytes | None, share: bool, tags: tuple[str, ...], digest: bytes, trie: Trie, since: int
) -> Landed:
    """A value as the live objects hold it: as it is where that is safe for all callers, else packed."""
    paths = (*map(words_of, deps.paths_of(tags)), words_of(digest))
    if payload is None or share or codec.is_immutable(value):
        return Landed(value, None, tags, paths, trie, since)
    return Landed(payload, codec.decode, tags, paths, trie, since)


def put(engine: Engine, prepared: Prepared) -> None:
    """Set a key anew: what was there, live in any process or being computed, is overtaken.

    In memory other processes keep what they have: their entries are their own.

    Raises:
        Busy, StorageError, StorageIsFull: what was there stays.
    """
    if prepared.payload is not None:
        if prepared.stamp is None:
            raise StorageError(f"{prepared.key} was not set: the storage does not answer")
        save(engine, prepared, anew=True)
        prepared = prepared._replace(landed=_overtake_key(engine, prepared))
    engine.flights.overtake(prepared.key)
    old = engine.lives.get(prepared.key)
    if old is not None:
        engine.lives.drop(old)
    make_live(engine, prepared)


def _overtake_key(engine: Engine, prepared: Prepared) -> Landed:
    """Make all live objects of a key stale, except one of this value that is made live afterwards.

    Its tags are looked at after the key's number `new` was taken: if none of them had changed since the fill began,
    none has a number between that moment and `new`, and the value may count as filled at `new`.
    """
    landed = prepared.landed
    new = engine.overtake_key(prepared.digest)
    if landed.trie is not engine.trie or landed.trie.look(landed.paths[:-1], landed.since) is None:
        return landed
    return landed._replace(since=new)


def refuse_used_up(value: Any, name: str) -> None:
    """Turn away what is used up by its first user.

    Raises:
        UnkeepableResult: a coroutine, a generator, an asynchronous generator.
    """
    if type(value) in _PLAIN:
        return
    if inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise UnkeepableResult(
            f"{name}: result: {type(value).__name__} is used up by its first user and cannot be kept; return what it "
            "yields, for example a list"
        )


_PLAIN = frozenset({int, str, bytes, bool, float, type(None), list, dict, tuple, set})


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _whole(life: Life) -> Span:
    """A life that begins now."""
    ttl_s, age_s = _seconds(life.ttl_ms or None), _seconds(life.max_age_ms or None)
    return Span(life, ttl_s if age_s is None else min(age_s, ttl_s or age_s), age_s)


def _left(loaded: Loaded) -> Span:
    """What is left of a loaded entry's life."""
    return Span(loaded.life, _seconds(loaded.left_ms), _seconds(loaded.age_left_ms))
