"""`cacheable`: what the user puts above a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast, overload

from zoocache import config, identity, keys, runtime
from zoocache import deps as dependencies
from zoocache.cached import Cached, CallInfo
from zoocache.engine import call as calls
from zoocache.engine import computing, keeping, mutations
from zoocache.engine import fill as fills
from zoocache.engine.core import Engine
from zoocache.engine.effects import Steps, drive, drive_async
from zoocache.engine.live import LIVE, Entry
from zoocache.engine.spec import Call, Spec
from zoocache.errors import NotCacheable
from zoocache.flight import ABANDONED, Flight
from zoocache.signature import is_coroutine_function, is_generator_function
from zoocache.wrapper import Made, make

P = ParamSpec("P")
R = TypeVar("R")

Deps = str | Iterable[str] | Callable[..., str | Iterable[str]] | None


@overload
def cacheable(namespace: Callable[P, R], /) -> Cached[P, R]: ...


@overload
def cacheable(
    namespace: str | None = None, deps: Deps = None, ttl: float | None = None, *, max_age: float | None = None,
    version: str | int | None = None, share: bool = False,
) -> Callable[[Callable[P, R]], Cached[P, R]]: ...  # fmt: skip


def cacheable(
    namespace: Any = None, deps: Deps = None, ttl: float | None = None, *, max_age: float | None = None,
    version: str | int | None = None, share: bool = False,
) -> Any:  # fmt: skip
    """Keep what a function returns until one of its tags is invalidated.

    Works bare (`@cacheable`) and with arguments, on plain and `async def` functions, and on methods. In a method
    `self` is part of the key: by value where it has one (a dataclass, an Enum member, an object with
    `__cache_key__`), else as this one instance.

    Args:
        namespace: set before the key; functions of other namespaces never share entries with this one.
        deps: the tags that every result depends on: one tag, a list, tuple or set of tags, or a callable that gets
            the arguments of the call and returns these. Static tags are checked at once.
        ttl: seconds an entry lives, fractions allowed; None: the configuration's `default_ttl`. With
            `read_extend_ttl` a read starts it again.
        max_age: seconds an entry lives at most, however often it is read; None: the configuration's.
        version: of the result's shape; another version never sees the entries of this one.
        share: hand the same decoded object to all callers of a process, though it be mutable: faster, and each can
            spoil it for the others. Without it, a mutable value from a store is decoded afresh for each caller.

    Returns:
        The decorated function, with the same signature and with `key_for`, `refresh`, `bypass`, `invalidate_call`
        and `info`.

    Raises:
        InvalidTag, InvalidDeps: static `deps` break the rules.
        ConfigError: `ttl` or `max_age` is no duration.
        NotCacheable: what is decorated has no result that could be kept.
    """
    if callable(namespace) and not isinstance(namespace, str):
        return _decorate(namespace, Options())
    options = Options(
        _namespace(namespace),
        deps if callable(deps) or deps is None else dependencies.check_deps(deps),
        None if ttl is None else config.seconds(ttl, "ttl"),
        None if max_age is None else config.seconds(max_age, "max_age"),
        _version(version),
        bool(share),
    )
    return lambda fn: _decorate(fn, options)


class Options(NamedTuple):
    """The checked arguments of `cacheable`."""

    namespace: str = ""
    deps: Any = None
    ttl_s: float | None = None
    max_age_s: float | None = None
    version: str = ""
    share: bool = False


def _namespace(namespace: object) -> str:
    if namespace is None:
        return ""
    if not isinstance(namespace, str):
        raise NotCacheable(f"namespace is a string or None, not {type(namespace).__name__}")
    return f"{_barless(namespace)}|"


def _barless(text: str) -> str:
    """A text that ends before the next bar: the bar parts a namespace from what follows."""
    return text.replace("%", "%25").replace("|", "%7C")


def _version(version: object) -> str:
    if version is None:
        return ""
    if isinstance(version, bool) or not isinstance(version, str | int):
        raise NotCacheable(f"version is a string or a number, not {type(version).__name__}")
    return f"@{keys.encode(version)}"


def _decorate(fn: Callable[..., Any], options: Options) -> Any:
    refuse_uncacheable(fn)
    is_async = is_coroutine_function(fn)
    closures = (fn,) if identity.is_closure(fn) else ()
    if not closures:
        identity.function_identity(fn)  # turns away what has no name: here, and not at the first call
    if identity.may_move(options.deps):
        closures += (options.deps,)
    spec = Spec(
        name=getattr(fn, "__qualname__", repr(fn)) + "()",
        stem="" if closures else _stem(fn, options),
        invoke=fn,
        tags=options.deps if isinstance(options.deps, tuple) else (),
        ttl_s=options.ttl_s,
        max_age_s=options.max_age_s,
        share=options.share,
    )
    caller = _AsyncCaller(spec) if is_async else _Caller(spec)
    deps = options.deps if callable(options.deps) else None
    made = make(fn, deps, spec.table, caller.again, caller.miss, is_async)
    spec.names, spec.invoke = made.names, made.invoke
    spec.deps = made.dependencies if deps is not None else None
    spec.method = _is_method(fn, made.names)
    spec.counters.fast_hits, spec.forget_hits = made.hits, made.forget
    caller.made = made
    if closures:
        caller.identify = functools.partial(_identify, caller, fn, options, closures)
    runtime.register(spec)
    return _dressed(fn, made, caller)


def _stem(fn: Callable[..., Any], options: Options) -> str:
    """What all keys of a function that is cached like this begin with."""
    shared = (options.share,) if options.share else ()
    known = identity.cached_identity(fn, options.deps, options.ttl_s, options.max_age_s, *shared)
    return f"{options.namespace}{_barless(known)}{options.version}"


def refuse_uncacheable(fn: object) -> None:
    """Turn away what has no result to keep.

    Raises:
        NotCacheable: see the messages.
    """
    name = getattr(fn, "__qualname__", repr(fn))
    if isinstance(fn, classmethod | staticmethod | property):
        raise NotCacheable(f"{name}: put @{type(fn).__name__} above @cacheable, not below it")
    if not callable(fn) or isinstance(fn, type):
        raise NotCacheable(f"{name}: cacheable goes above a function, not above a {type(fn).__name__}")
    if is_generator_function(fn):
        raise NotCacheable(f"{name} is a generator function: what it yields is used up once; return a list instead")


def _is_method(fn: Callable[..., Any], names: tuple[str, ...]) -> bool:
    """Whether the first parameter is the receiver: it is called self or cls, and stands in a class."""
    inner = getattr(fn, "__qualname__", "").rpartition(".<locals>.")[2]
    return "." in inner and names[:1] in (("self",), ("cls",))


def _identify(
    caller: _Caller, fn: Callable[..., Any], options: Options, closures: tuple[Callable[..., Any], ...]
) -> None:
    """See to it that the keys are those of a function that closes over what this one, and its `deps`, hold now.

    The stem is stored before the word that says it is settled: another thread may make its first key meanwhile.
    """
    closure = caller.closure
    if closure is None:
        closure = identity.Closure(*closures)
        caller.spec.stem = _stem(fn, options)
        caller.closure = closure
    elif closure.has_moved():
        for each in closures:
            identity.unshare(each)
        caller.spec.stem = _stem(fn, options)
        caller.spec.table.clear()
        caller.identify = None


class _Caller:
    """What the wrapper of one function calls when the fast path has no answer.

    Attributes:
        made: what was generated for it.
        closure: what the function and its `deps` close over, as it was when they were identified.
        identify: to be called before a key is made; None where the keys are settled.
    """

    made: Made
    closure: identity.Closure | None = None
    identify: Callable[[], None] | None = None

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def again(self, entry: Entry) -> bool:
        """A hit that the fast path did not trust."""
        engine = runtime.engine()
        self.made.begin_round()
        engine.look_around()
        if engine.believes_lives() and engine.lives.recheck(entry):
            self.spec.counters.hits += 1
            return self.told_touches(engine)
        return False

    def told_touches(self, engine: Engine) -> bool:
        """Tell a store that is far away what was read, if it is time to; whether that was possible here."""
        if engine.touches.is_due:
            drive(engine.tell_touches())
        return True

    def key(self, values: tuple[Any, ...]) -> str:
        """The full key of a call with these values."""
        spec = self.spec
        if self.identify is not None:
            self.identify()
        if spec.method:
            rest = keys.encode_call(spec.name, spec.names[1:], values[1:])
            return f"{spec.stem}({keys.encode_self(values[0], spec.name)};{rest})"
        return f"{spec.stem}({keys.encode_call(spec.name, spec.names, values)})"

    def call_of(self, values: tuple[Any, ...], key: str) -> Call:
        """A call, for the engine."""
        return Call(self.spec, key, values)

    def miss(self, values: tuple[Any, ...]) -> Any:
        """A call that the front table had no valid entry for."""
        engine = runtime.engine()
        key = self.key(values)
        found = self.look(engine, key, values)
        if found is not None:
            return found[0]
        value = drive(calls.steps(engine, self.call_of(values, key)))
        self.settle(engine, key, values)
        return value

    def look(self, engine: Engine, key: str, values: tuple[Any, ...]) -> tuple[Any] | None:
        """The value of a valid live entry with that exact key, in a tuple of one."""
        entry = engine.believed(key)
        found = None if entry is None else keeping.handed_out(engine, entry)
        if entry is not None and found is not None:
            self.spec.counters.hits += 1
            self.put_in_front(engine, entry, values)
        return found

    def settle(self, engine: Engine, key: str, values: tuple[Any, ...]) -> None:
        """After a call: let the fast path find what is live now."""
        entry = engine.lives.get(key)
        if entry is not None:
            self.put_in_front(engine, entry, values)
        engine.look_around()
        engine.prune_in_passing()

    def put_in_front(self, engine: Engine, entry: Entry, values: tuple[Any, ...]) -> None:
        """Let the wrapper find an entry by these values, if they fit."""
        front = self.made.front(values) if entry[LIVE].front is None else None
        if front is not None:
            engine.lives.put_in_front(entry, self.spec.table, *front)

    def refresh_steps(self, engine: Engine, values: tuple[Any, ...]) -> Steps[Any]:
        """Compute outside any flight, then set the key anew."""
        key = self.key(values)
        inside = fills.current()
        fills.refuse_recursion(key, inside)
        flight = Flight(key)
        try:  # as in engine/call.py: the ending stands twice
            try:
                engine.flights.lead_apart(flight)
                live, value, stamp = yield from computing.compute(engine, self.call_of(values, key), flight, inside)
                if not flight.doubtful:
                    yield from keeping.put(engine, live, stamp, flight)
            finally:
                engine.flights.end(flight, ABANDONED)
        finally:
            engine.flights.end(flight, ABANDONED)
        return value

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """See Cached.refresh."""
        return drive(self.refresh_steps(runtime.engine(), self.made.bind(*args, **kwargs)))

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """See Cached.key_for."""
        return self.key(self.made.bind(*args, **kwargs))

    def invalidate_call(self, *args: Any, **kwargs: Any) -> bool:
        """See Cached.invalidate_call."""
        return drive(mutations.delete(runtime.engine(), self.key_for(*args, **kwargs)))

    def info(self) -> CallInfo:
        """See Cached.info."""
        counters = self.spec.counters
        live = runtime.running()
        return CallInfo(
            counters.hits + counters.fast_hits(), counters.misses, counters.fills, counters.failures,
            0 if live is None else len(live.lives),
        )  # fmt: skip


class _AsyncCaller(_Caller):
    """The same for a coroutine function: the loop is never blocked."""

    def told_touches(self, engine: Engine) -> bool:
        """No: `miss` has to await it."""
        return not engine.touches.is_due

    async def miss(self, values: tuple[Any, ...]) -> Any:
        engine = runtime.engine()
        if engine.touches.is_due:
            await drive_async(engine.tell_touches())
        key = self.key(values)
        found = self.look(engine, key, values)
        if found is not None:
            return found[0]
        value = await drive_async(calls.steps(engine, self.call_of(values, key)))
        self.settle(engine, key, values)
        return value

    async def refresh(self, *args: Any, **kwargs: Any) -> Any:
        return await drive_async(self.refresh_steps(runtime.engine(), self.made.bind(*args, **kwargs)))


def _dressed(fn: Callable[..., Any], made: Made, caller: _Caller) -> Any:
    """The wrapper with the function's name, documentation and signature, and the things to ask of it."""
    wrapper = cast("Any", functools.update_wrapper(made.wrapper, fn))
    wrapper.key_for = caller.key_for
    wrapper.refresh = caller.refresh
    wrapper.bypass = fn
    wrapper.invalidate_call = caller.invalidate_call
    wrapper.info = caller.info
    return wrapper
