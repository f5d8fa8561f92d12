"""What the engine knows of a cached function, and of one call of it: plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoocache import keys


def _no_hits() -> int:
    return 0


def _forget_nothing() -> None:
    return None


class Counters:
    """What happened to the calls of one function in this process.

    `hits` counts what came through `recheck` or the slow path; the wrapper counts the rest itself, without a lock:
    `fast_hits` tells how many.
    """

    __slots__ = ("failures", "fast_hits", "fills", "hits", "misses")

    def __init__(self) -> None:
        self.hits = self.misses = self.fills = self.failures = 0
        self.fast_hits: Callable[[], int] = _no_hits


class Spec:
    """A cached function.

    Attributes:
        name: for people, in errors: `get_user()`.
        stem: what all its keys begin with; no other function's do.
        names: of its parameters.
        invoke: calls the function with the values of its parameters, in that order.
        tags: static dependencies, checked.
        deps: computes the others from the values; None if there are none.
        ttl_s, max_age_s: None: the configuration's.
        share: hand one decoded object to all callers, mutable or not.
        method: whether the first parameter is `self` or `cls`.
        table: the wrapper's front table, raw arguments -> entry.
        counters: see there; `forget_hits` sets the fast ones to nothing.
    """

    __slots__ = (
        "__weakref__", "counters", "deps", "forget_hits", "invoke", "max_age_s", "method", "name", "names", "share",
        "stem", "table", "tags", "ttl_s",
    )  # fmt: skip

    def __init__(
        self, name: str, stem: str, invoke: Callable[[Any], Any], tags: tuple[str, ...] = (),
        ttl_s: float | None = None, max_age_s: float | None = None, share: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.stem = stem
        self.names: tuple[str, ...] = ()
        self.invoke = invoke
        self.tags = tags
        self.deps: Callable[[Any], Any] | None = None
        self.ttl_s = ttl_s
        self.max_age_s = max_age_s
        self.share = share
        self.method = False
        self.table: dict[Any, list[Any]] = {}
        self.counters = Counters()
        self.forget_hits: Callable[[], None] = _forget_nothing


class Call:
    """One call.

    Attributes:
        spec: of the function.
        key: full text.
        values: of the parameters.
        digest_if_any: of the key, if it was needed yet.
    """

    __slots__ = ("digest_if_any", "key", "spec", "values")

    def __init__(self, spec: Spec, key: str, values: Any) -> None:
        self.spec = spec
        self.key = key
        self.values = values
        self.digest_if_any: bytes | None = None

    @property
    def digest(self) -> bytes:
        """Of the key; made when it is first needed, which in memory may be never."""
        if self.digest_if_any is None:
            self.digest_if_any = keys.digest(self.key)
        return self.digest_if_any
