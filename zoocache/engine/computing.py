"""Running the function of a call: both orders noted before, the tags gathered meanwhile, the value kept afterwards.

And what is said of a fill that raised to those who wait for it in other processes and on other hosts: they get its
type's name and its message.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from zoocache import deps as dependencies
from zoocache.engine import fill as fills
from zoocache.engine import keeping
from zoocache.engine.core import Engine
from zoocache.engine.effects import Compute, Disguised, Steps
from zoocache.engine.fill import Fill
from zoocache.engine.keeping import Begun
from zoocache.engine.live import Live
from zoocache.engine.spec import Call, Spec
from zoocache.errors import Busy, DepsFailed, FillFailed, StorageError, ZooCacheError
from zoocache.flight import LOADED, Flight
from zoocache.shm import points
from zoocache.storage import Stamp

Result = tuple[Live, Any]


def load(engine: Engine, call: Call, flight: Flight | None = None) -> Steps[Result | None]:
    """What the store has for a call, and for a flight of it."""
    found = yield from keeping.load(engine, call.key, call.digest, share=call.spec.share)
    if found is not None:
        call.spec.counters.hits += 1
        if flight is not None:
            flight.stamp = LOADED
    return found


def compute_and_save(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, begun: Begun | None = None
) -> Steps[Result]:
    """Compute, and keep what comes of it in the store.

    Args:
        engine, call, flight, inside: of the call.
        begun: noted already; None: now.
    """
    live, value, stamp = yield from compute(engine, call, flight, inside, begun)
    if flight.is_kept:
        yield from _save(engine, live, stamp)
        keeping.hold_new(engine, live, flight)
    return live, value


def _save(engine: Engine, live: Live, stamp: Stamp | None) -> Steps[None]:
    """Keep a value in the store, or go on without it: the caller has computed, and must not suffer for the cache.

    Raises:
        StorageIsFull: it can never fit, which is the caller's to know.
    """
    try:
        yield from keeping.save(engine, live, stamp)
    except (StorageError, Busy) as error:
        engine.warn(error)


def compute(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, begun: Begun | None = None
) -> Steps[tuple[Live, Any, Stamp | None]]:
    """Run the function of a call and gather its tags.

    Args:
        engine, call, flight, inside: of the call.
        begun: noted already; None: now.

    Returns:
        What it brought; the value itself, for this caller; the stamp for the store.
    """
    spec = call.spec
    spec.counters.misses += 1
    spec.counters.fills += 1
    if begun is None:
        begun = keeping.begin_here(engine) if engine.far is None else (yield from keeping.begin(engine))
    flight.stamp = begun.stamp
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


def told(error: Exception) -> bytes:
    """What the other processes are told of an exception: of what was told by others, what they said."""
    meant = error.original if isinstance(error, Disguised) else error
    if isinstance(meant, FillFailed):
        return f"{meant.type_name}\n{meant.reason}".encode("utf-8", "replace")
    try:
        reason = str(meant)
    except Exception:  # noqa: BLE001  # it is the user's, and the flight must end
        reason = "(its message cannot be printed)"
    return f"{type(meant).__name__}\n{reason}".encode("utf-8", "replace")


def raise_failure(text: bytes | None, flight: Flight) -> None:
    """Raise what a leader in another process left, if its place has not gone to another.

    The text says nothing of the tags that it had looked at. So who lives with this failure, and builds on it, builds
    on what cannot be invalidated: that is not kept.
    """
    if text is not None:
        flight.doubtful = True
        fills.note((), doubtful=True)
        type_name, _, reason = text.decode("utf-8", "replace").partition("\n")
        raise FillFailed(type_name, reason)
