"""What the engine knows of a cached function, and of one call of it: plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoocache import keys


@dataclass(eq=False)
class Counters:
    """What happened to the calls of one function in this process.

    `hits` counts what came through `recheck` or the slow path; the wrapper counts the rest itself, without a lock.
    """

    hits: int = 0
    misses: int = 0
    fills: int = 0
    failures: int = 0
    fast_hits: Callable[[], int] = lambda: 0


@dataclass(eq=False)
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

    name: str
    stem: str
    names: tuple[str, ...]
    invoke: Callable[[Any], Any]
    tags: tuple[str, ...] = ()
    deps: Callable[[Any], Any] | None = None
    ttl_s: float | None = None
    max_age_s: float | None = None
    share: bool = False
    method: bool = False
    table: dict[Any, list[Any]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    forget_hits: Callable[[], None] = lambda: None


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
