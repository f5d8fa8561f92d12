"""This process's engine: configured once, started by the first use, carried over a fork, let go at exit.

Nothing is started at import: no thread, no object, no handler.
"""

from __future__ import annotations

import atexit
import errno
import os
import threading
import weakref
from typing import Any

from zoocache.config import Settings, settings_from
from zoocache.engine.core import Engine
from zoocache.engine.spec import Spec
from zoocache.errors import AlreadyConfigured, StorageError, ZooCacheError
from zoocache.forks import undivided, watch
from zoocache.log import log, ready
from zoocache.outside import check, outside


class _State:
    """The words of this process.

    Attributes:
        lock: guards the others; a forked child gets a new one.
        settings: configured, or in force since the first use.
        engine: running; None before the first use and after close.
        hooked: whether fork and exit are watched.
        is_over: the exit function was called; others that were registered earlier, and threads, may come yet.
    """

    lock = threading.RLock()
    settings: Settings | None = None
    engine: Engine | None = None
    hooked = False
    is_over = False


_state = _State()

# Changed and copied by single steps of a set only, which the interpreter makes whole. A WeakSet takes many to iterate,
# and raises if another thread decorates a function meanwhile.
_specs: set[weakref.ref[Spec]] = set()


def configure(**options: Any) -> None:
    """Settle the settings; see `zoocache.configure`."""
    settings = settings_from(**options)
    check(settings)
    with _state.lock:
        present = _state.settings
        if present is not None and present != settings:
            raise AlreadyConfigured(
                f"zoocache is configured already, with other settings ({_difference(present, settings)}). configure() "
                "comes once, before the first use of the cache; tests may call zoocache.reset() in between."
            )
        _state.settings = settings


def _difference(present: Settings, wanted: Settings) -> str:
    """The names of the options that differ; never their values, which may hold a password."""
    names = [name for name in present._fields if getattr(present, name) != getattr(wanted, name)]
    return ", ".join(names)


def settings() -> Settings:
    """The settings in force: what was configured, else environment and defaults, which are in force from here on."""
    with _state.lock:
        if _state.settings is None:
            found = settings_from()
            check(found)
            _state.settings = found
        return _state.settings


def engine() -> Engine:
    """The engine of this process, started if need be.

    Raises:
        SegmentError, StorageError, ConfigError: it cannot be started.
    """
    return _state.engine or _start()


def running() -> Engine | None:
    """The engine of this process, if it was started."""
    return _state.engine


def _start() -> Engine:
    try:
        with _state.lock:
            if _state.engine is not None:
                return _state.engine
            ready()
            _hook()
            with undivided():
                return _started()
    except OSError as error:
        if isinstance(error, ZooCacheError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
        raise StorageError(
            error.errno,
            f"zoocache cannot load a part of itself ({os.strerror(error.errno)}): close some descriptors, or raise the "
            "limit (ulimit -n, fs.file-max), and call again",
        ) from error


def _started() -> Engine:
    started = Engine(settings(), outside(settings()))
    started.report = _totals
    if _state.is_over:
        started.end_soon()
    quicker = running()  # a signal handler that interrupted this
    if quicker is not None:
        started.close()
        return quicker
    _state.engine = started
    return started


def _hook() -> None:
    if not _state.hooked:
        watch()
        os.register_at_fork(after_in_child=_after_fork)
        atexit.register(_end)
        _state.hooked = True  # twice, if a signal handler raises before this, does no harm


def register(spec: Spec) -> None:
    """Have a function's front table and counters looked after."""
    _specs.add(weakref.ref(spec, _specs.discard))


def _living_specs() -> list[Spec]:
    return [spec for known in _specs.copy() if (spec := known()) is not None]


def _totals() -> tuple[int, int, int]:
    """Hits, misses and fills of this process."""
    counters = [spec.counters for spec in _living_specs()]
    return (
        sum(c.hits + c.fast_hits() for c in counters),
        sum(c.misses for c in counters),
        sum(c.fills for c in counters),
    )


def _after_fork() -> None:
    """In a forked child: nothing of the parent's is used, and the counts begin anew."""
    _state.lock = threading.RLock()
    _forget_counters()
    engine = _state.engine
    if engine is None:
        return
    try:
        engine.after_fork()
    except OSError as error:  # no descriptor left: the next use starts an engine of its own, and says so if it cannot
        log.warning("zoocache: a forked child could not attach: %s", error)
        _state.engine = None
        _empty_front_tables()


def close() -> None:
    """Let go of segment and store in order; the next use starts anew with the same settings."""
    with _state.lock:
        closing, _state.engine = _state.engine, None
        _empty_front_tables()
        if closing is not None:
            closing.close()


def _end() -> None:
    _state.is_over = True
    close()


def reset() -> None:
    """Close, and forget settings and counters; see `zoocache.reset`."""
    with _state.lock:
        close()
        _state.settings = None
        _forget_counters()


def _empty_front_tables() -> None:
    for spec in _living_specs():
        spec.table.clear()


def _forget_counters() -> None:
    for spec in _living_specs():
        spec.counters.hits = spec.counters.misses = spec.counters.fills = spec.counters.failures = 0
        spec.forget_hits()
