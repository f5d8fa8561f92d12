"""The anatomy of values: what an instance holds beside its base, the parts of a value, and the part at fault."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, ParamSpec, TypeVar, cast

MAX_STEPS = 50
_KEY_CHARS = 40
_PATH_CHARS = 120
_SHOWN_BITS = 64
_BASES = (str, int, float, complex, bytes, bytearray, tuple, list, set, frozenset, dict, deque)
P = ParamSpec("P")
T = TypeVar("T")
_MEMO = functools.cached_property
Parts = Iterator[tuple[str, Any]]


def once_a_class(fn: Callable[P, T]) -> Callable[P, T]:
    """Remember what a function of a class returned, for the classes asked about lately."""
    return cast("Callable[P, T]", functools.lru_cache(maxsize=1024)(fn))


def is_dataclass(cls: type) -> bool:
    """Whether a class is a dataclass or inherits from one: `dataclasses.is_dataclass`, whose module costs 20 ms."""
    return hasattr(cls, "__dataclass_fields__")


@once_a_class
def field_names(cls: type) -> tuple[str, ...]:
    """The names of the fields of a dataclass, `init=False` and inherited ones included, in order."""
    from dataclasses import fields  # loaded already: there is a dataclass

    return tuple(field.name for field in fields(cls))


@once_a_class
def slot_names(cls: type, base: type = object) -> tuple[str, ...]:
    """The attributes for which the classes of `cls` that come before `base` in its MRO reserve slots."""
    own = cls.__mro__[: cls.__mro__.index(base)]
    return tuple(_mangled(owner, name) for owner in reversed(own) for name in _declared_slots(owner))


def _declared_slots(owner: type) -> list[str]:
    slots = owner.__dict__.get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _mangled(owner: type, name: str) -> str:
    """The name under which a private slot is found from outside (Language Reference, 6.2.1, private names)."""
    stem = owner.__name__.lstrip("_")
    return f"_{stem}{name}" if stem and name.startswith("__") and not name.endswith("__") else name


def own_state(value: Any, base: type = object) -> dict[str, Any]:
    """What an instance holds in its `__dict__` and its slots.

    Args:
        value: the instance.
        base: the class whose own slots, and those of its bases, are left out.

    Returns:
        Attribute name → value, without what `functools.cached_property` keeps there, which comes again when asked
        for, and without `typing`'s note of the type arguments that a generic class was called with.
    """
    cls = type(value)
    held: dict[str, Any] = getattr(value, "__dict__", {})
    state = {name: item for name, item in held.items() if not isinstance(getattr(cls, name, None), _MEMO)}
    state.pop("__orig_class__", None)
    for name in slot_names(cls, base):
        if hasattr(value, name):
            state[name] = getattr(value, name)
    return state


def parts(value: Any) -> Parts:
    """The parts that make up a value, each with the step that leads to it, for messages.

    An instance that is neither a container nor a dataclass counts as a whole: to name its attributes would put the
    blame on a thing that its user cannot replace.
    """
    cls = type(value)  # and not isinstance, for a proxy may claim to be of the class it stands for
    if issubclass(cls, dict):
        for key, item in dict.items(value):
            yield f"[{_shown(key)}]", item
            yield f"[key {_shown(key)}]", key
    elif issubclass(cls, (list, tuple, deque)):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif issubclass(cls, (set, frozenset)):
        yield from (("{…}", item) for item in value)
    elif cls is slice:
        yield from ((f".{name}", getattr(value, name)) for name in ("start", "stop", "step"))
    if is_dataclass(cls) or (issubclass(cls, _BASES) and not issubclass(cls, Enum)):
        yield from ((f".{name}", item) for name, item in own_state(value).items())


def _shown(key: object) -> str:
    """A dict's key as a message shows it; of an object only the type, for its repr may say too much, or fail."""
    if type(key) is str:
        return f'"{repr(key if len(key) <= _KEY_CHARS else key[:_KEY_CHARS] + "…")[1:-1]}"'
    if type(key) in (float, bool, type(None)) or (type(key) is int and key.bit_length() <= _SHOWN_BITS):
        return repr(key)
    return f"<{type(key).__qualname__}>"


def locate(value: Any, fails: Callable[[Any], bool], parts_of: Callable[[Any], Parts] = parts) -> tuple[str, Any]:
    """The innermost part of a value that fails, and the way to it.

    Args:
        value: what fails as a whole.
        fails: tells whether a part fails.
        parts_of: gives the parts of a value.

    Returns:
        The path, such as `["a"][3]`, and the part.
    """
    path = ""
    for _ in range(MAX_STEPS):
        found = next(((step, part) for step, part in parts_of(value) if fails(part)), None)
        if found is None:
            break
        path, value = path + found[0], found[1]
    return (path if len(path) <= _PATH_CHARS else f"{path[: _PATH_CHARS // 2]}…{path[-_PATH_CHARS // 2 :]}"), value
