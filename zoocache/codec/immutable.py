"""Immutability: which values may be handed to every caller, because none can spoil them for the others."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta, timezone
from enum import Enum
from typing import Any

from zoocache.anatomy import is_dataclass, once_a_class, own_state
from zoocache.typetable import TypeTable

_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")
_ATOMS: TypeTable[bool] = TypeTable(
    {
        **dict.fromkeys((type(None), bool, int, float, complex, str, bytes, range), True),
        **dict.fromkeys((date, datetime, time, timedelta, timezone), True),
        **dict.fromkeys((list, dict, set, bytearray, tuple, frozenset), False),
    },
    {
        "decimal": {"Decimal": True},
        "fractions": {"Fraction": True},
        "uuid": {"UUID": True},
        "zoneinfo": {"ZoneInfo": True},
        "pathlib": dict.fromkeys(_PATHS, True),
    },
    False,
)


def is_immutable(value: Any) -> bool:
    """Whether a value and all that is in it stay as they are, whoever holds them.

    Args:
        value: a value that `encode` keeps.

    Returns:
        True for immutable scalars, Enum members, and tuples, namedtuples, frozensets, slices and frozen dataclasses
        of such; False when in doubt.
    """
    if _ATOMS[type(value)]:
        return True
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if not _ATOMS[type(part)]:
            parts = _frozen_parts(part)
            if parts is None:
                return False
            waiting.extend(parts)
    return True


def _frozen_parts(value: Any) -> Iterable[Any] | None:
    """The parts of what cannot be changed itself; None if it can."""
    cls = type(value)
    if cls is tuple or cls is frozenset:
        return list(value)
    if cls is slice:
        return value.start, value.stop, value.step
    if issubclass(cls, Enum):
        return ()
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return None if hasattr(value, "__dict__") else list(tuple.__iter__(value))
    return own_state(value).values() if is_dataclass(cls) and _is_frozen(cls) else None


@once_a_class
def _is_frozen(cls: type) -> bool:
    """Whether a dataclass refuses every assignment. A plain subclass of a frozen one takes new attributes.

    `functools.cached_property` writes past the refusal, and what it keeps may be mutable.
    """
    own: Any = cls.__dict__.get("__dataclass_params__")
    if own is None or not own.frozen:
        return False
    return not any(isinstance(item, functools.cached_property) for each in cls.__mro__ for item in vars(each).values())
