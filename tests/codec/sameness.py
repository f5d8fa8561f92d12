"""Sameness: equal, of one type, at every depth, dicts and deques in one order, nan the same as nan."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict, deque
from enum import Enum
from fractions import Fraction
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Whether two values cannot be told apart by type and value. No recursion, for they may be deep."""
    waiting = [(one, other)]
    while waiting:
        one, other = waiting.pop()
        if type(one) is not type(other):
            return False
        pairs = parts(one, other)
        if pairs is None:
            return False
        waiting.extend(pairs)
    return True


def parts(one: Any, other: Any) -> list[tuple[Any, Any]] | None:
    """The pairs of parts that must be the same as well; None if the two differ."""
    if isinstance(one, Enum):
        return [] if one is other else None
    if dataclasses.is_dataclass(one):
        return attributes(one, other)
    if isinstance(one, dict):
        factories = [] if not isinstance(one, defaultdict) else [(one.default_factory, other.default_factory)]
        return paired([*one, *one.values()], [*other, *other.values()], factories)
    if isinstance(one, (list, tuple)):
        return paired([*one], [*other], [])
    if isinstance(one, deque):
        return paired([*one], [*other], [(one.maxlen, other.maxlen)])
    if isinstance(one, (set, frozenset)):
        return paired(sorted(one, key=spelled), sorted(other, key=spelled), [])
    if isinstance(one, slice):
        return paired([one.start, one.stop, one.step], [other.start, other.stop, other.step], [])
    return [] if scalars_are_same(one, other) else None


def paired(one: list[Any], other: list[Any], more: list[tuple[Any, Any]]) -> list[tuple[Any, Any]] | None:
    """Item for item; None if there are not as many."""
    return [*zip(one, other, strict=True), *more] if len(one) == len(other) else None


def attributes(one: Any, other: Any) -> list[tuple[Any, Any]] | None:
    """All that two instances hold, `__dict__` and slots."""
    names = {name for cls in type(one).__mro__ for name in getattr(cls, "__slots__", ()) if not name.startswith("__")}
    names |= set(getattr(one, "__dict__", ())) | set(getattr(other, "__dict__", ()))
    names |= {field.name for field in dataclasses.fields(one)}
    if hasattr(one, "hidden") and callable(one.hidden):
        return [(one.hidden(), other.hidden()), *((getattr(one, name), getattr(other, name)) for name in sorted(names))]
    missing = object()
    return [(getattr(one, name, missing), getattr(other, name, missing)) for name in sorted(names)]


def spelled(item: Any) -> str:
    """An order for the items of a set, whatever their types."""
    return f"{type(item)} {sorted(map(spelled, item)) if isinstance(item, frozenset) else repr(item)}"


def scalars_are_same(one: Any, other: Any) -> bool:
    """Whether two scalars of one type are the same, down to the sign of zero and the fold of an hour."""
    if isinstance(one, float):
        return math.isnan(one) and math.isnan(other) if math.isnan(one) else (one == other and repr(one) == repr(other))
    if isinstance(one, complex):
        return scalars_are_same(one.real, other.real) and scalars_are_same(one.imag, other.imag)
    if isinstance(one, (int, str, bytes, bytearray, range, Fraction)):
        return bool(one == other)
    return repr(one) == repr(other)  # of all others in these tests it tells everything, zone, fold and exponent too
