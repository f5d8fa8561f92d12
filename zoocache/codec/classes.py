"""Instances of a program's own classes: arrays whose mark names the class, so that another process finds it.

    64 Enum member      the member's name, or the value of a combined Flag
    65 dataclass        the fields in order, then, if there are any, a map of other attributes of the instance
    66 namedtuple       the items

The mark's payload is the class's name (`zoocache.names`), then the names of the fields, parted by NUL. A class whose
fields differ from these is another class by now: the bytes are `Undecodable`, a miss. A dataclass is restored field
by field; neither `__init__` nor `__post_init__` runs, and frozen ones are no exception.
"""

from __future__ import annotations

import functools
from enum import Enum, Flag
from typing import Any, NamedTuple

from msgpack import ExtType

from zoocache.anatomy import field_names, is_dataclass, once_a_class, own_state, slot_names
from zoocache.codec.containers import Builder, Lowered, named
from zoocache.codec.faults import Undecodable, Unkeepable
from zoocache.codec.scalars import to_bytes, to_text
from zoocache.names import name_of

ENUM, DATACLASS, NAMEDTUPLE = range(64, 67)
_SEPARATOR = "\0"


class Shape(NamedTuple):
    """What is stored of a class's instances.

    Attributes:
        code: the kind of class.
        fields: the names of what is stored, in order.
        known: the same, as a set.
        slots: slots beside them.
    """

    code: int
    fields: tuple[str, ...]
    known: frozenset[str] = frozenset()
    slots: frozenset[str] = frozenset()


@once_a_class
def shape_of(cls: type) -> Shape | None:
    """The shape of an Enum, a dataclass or a namedtuple; None for any other class.

    Raises:
        Unkeepable: it is a dataclass, but an instance is more than its attributes.
    """
    if issubclass(cls, Enum):
        return Shape(ENUM, ())
    if is_dataclass(cls):
        fields = field_names(cls)
        _refuse_more_than_fields(cls)
        return Shape(DATACLASS, fields, frozenset(fields), frozenset(slot_names(cls)).difference(fields))
    fields = getattr(cls, "_fields", ())
    if issubclass(cls, tuple) and isinstance(fields, tuple) and fields:
        return Shape(NAMEDTUPLE, fields)
    return None


def _refuse_more_than_fields(cls: type) -> None:
    """`object.__new__` makes no instance of a class that is a dict, an exception or the like as well."""
    try:
        object.__new__(cls)
    except TypeError:
        raise Unkeepable("it is a dataclass, but also what its fields do not tell") from None


def lower_instance(value: Any, marks: dict[type, tuple[ExtType, Shape]]) -> Lowered:
    """The mark and the items of an instance.

    Args:
        value: the instance.
        marks: those made so far in this encoding, by class.

    Raises:
        Unkeepable: its class is of another kind, or cannot be found from another process.
    """
    cls = type(value)
    if cls not in marks:
        marks[cls] = _mark_of(cls)
    mark, shape = marks[cls]
    return mark, _ITEMS[shape.code](value, shape)


def _mark_of(cls: type) -> tuple[ExtType, Shape]:
    shape = shape_of(cls)
    if shape is None:
        raise Unkeepable(_why_not(cls))
    name = name_of(cls)
    if name is None:
        raise Unkeepable(f"class {cls.__qualname__} cannot be found by its name from another process")
    return ExtType(shape.code, to_bytes(_SEPARATOR.join((name, *shape.fields)))), shape


def _why_not(cls: type) -> str:
    base = next((base for base in (str, int, float, bytes, list, tuple, dict, set) if issubclass(cls, base)), None)
    return "" if base is None else f"it would come back as a plain {base.__name__}"


def _enum_items(value: Enum, _: Shape) -> list[Any]:
    cls = type(value)
    if cls.__members__.get(value._name_ or "") is value:
        return [value._name_]
    if issubclass(cls, Flag) and cls(value._value_) is value:
        return [int(value._value_)]
    raise Unkeepable("it is not a member of its class")


def _dataclass_items(value: Any, shape: Shape) -> list[Any]:
    try:
        items = [getattr(value, name) for name in shape.fields]
    except AttributeError as error:
        raise Unkeepable(f"its field {error.name} was never set") from None
    if not shape.slots and getattr(value, "__dict__", {}).keys() <= shape.known:
        return items
    others = {name: item for name, item in own_state(value).items() if name not in shape.known}
    return [*items, others] if others else items


def _tuple_items(value: Any, _: Shape) -> list[Any]:
    state = own_state(value, tuple)
    if state:
        raise Unkeepable(f"it carries attributes of its own: {', '.join(sorted(state))}")
    return list(tuple.__iter__(value))


_ITEMS = {ENUM: _enum_items, DATACLASS: _dataclass_items, NAMEDTUPLE: _tuple_items}


def builder_of(code: int, payload: bytes) -> Builder:
    """What makes an instance of the class that a mark names.

    Raises:
        Undecodable: the class is gone, of another kind, or has other fields, or its module cannot be imported.
    """
    name, *fields = to_text(payload).split(_SEPARATOR)
    cls = named(name)
    try:
        shape = shape_of(cls) if isinstance(cls, type) else None
    except Unkeepable as error:
        raise Undecodable(f"class {name} is not to be had: {error}") from error
    if shape is None or shape.code != code or shape.fields != tuple(fields):
        raise Undecodable(f"class {name} is another than it was")
    return functools.partial(_BUILD[code], cls, shape)


def _build_enum(cls: type[Enum], _: Shape, items: list[Any]) -> Enum:
    (member,) = items
    if type(member) is str:
        return cls[member]
    if not issubclass(cls, Flag):
        raise Undecodable(f"a member of {cls.__qualname__} has a name, not {type(member).__name__}")
    try:
        return cls(member)
    except Exception as error:  # its `_missing_` may raise anything
        raise Undecodable(f"class {cls.__qualname__} has no such member any more") from error


def _build_dataclass(cls: type, shape: Shape, items: list[Any]) -> Any:
    others = {} if len(items) == len(shape.fields) else items.pop()
    if len(items) != len(shape.fields):
        raise Undecodable(f"{len(items)} items are not the fields of class {cls.__qualname__}")
    instance: Any = object.__new__(cls)
    for name, item in zip(shape.fields, items, strict=True):
        object.__setattr__(instance, name, item)
    for name, item in others.items():
        _set_other(instance, shape, name, item)
    return instance


def _set_other(instance: Any, shape: Shape, name: str, item: Any) -> None:
    """An attribute that is no field goes where it was: past properties and `__setattr__`."""
    if name in shape.slots:
        object.__setattr__(instance, name, item)
    else:
        vars(instance)[name] = item


def _build_tuple(cls: type, shape: Shape, items: list[Any]) -> Any:
    if len(items) != len(shape.fields):
        raise Undecodable(f"{len(items)} items are not the fields of class {cls.__qualname__}")
    return tuple.__new__(cls, items)


_BUILD = {ENUM: _build_enum, DATACLASS: _build_dataclass, NAMEDTUPLE: _build_tuple}
