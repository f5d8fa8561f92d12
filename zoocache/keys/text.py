"""The text of a value in a key: one value, one text, in every process; two values, two texts.

Each text tells where it ends, so texts may stand side by side and never run together:

    N T F E             None, True, False, Ellipsis
    i12  xff            an int, in hexadecimal beyond 64 bits (the decimal form has a limit that a process can move)
    f1.5  c1.0:2.0      a float, a complex number, as repr gives the parts; nan is one key, 0.0 and -0.0 are two
    s3:abc  b3:…  a3:…  a str, bytes, bytearray: length, then the characters; a byte is the character of its number
    […] (…) {…} <…>     a list, tuple, set, frozenset: texts parted by commas; those of sets in order of their text
    d{k:v,…}  D[k:v,…]  a dict, in order of the keys' texts; an OrderedDict, in its own order
    Gfactory d{…}       a defaultdict: its factory, its items
    r(a,b,c)  l(a,b,c)  a range, a slice
    t y h p z Z ?       a datetime, date, time, timedelta, timezone, ZoneInfo, zone of another library
    m q g P             a Decimal, Fraction, UUID, path
    n4:name             a class or a function, by `module:qualname`
    e(name,member)      an Enum or Flag member
    o(name,k:v,…)       a dataclass instance: all fields, by name
    u(name,base,state)  an instance of a subclass of one of the above: its base's text, and what it holds beside it
    k(name,text)        an object with `__cache_key__`: the text of what that returned
    @hex                a token: whoever has no text, in `zoocache.keys.encode_self`

A key keeps the whole text, not only its digest, so that a hit compares the values themselves.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from enum import Enum, Flag
from types import BuiltinFunctionType, FunctionType
from typing import Any

from zoocache.anatomy import field_names, is_dataclass, once_a_class, own_state
from zoocache.keys.tokens import token_of
from zoocache.names import NAMELESS, name_of
from zoocache.typetable import TypeTable

Encoder = Callable[[Any, int], str]

MAX_DEPTH = 100
_WORD = 1 << 64
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not a static type of some C code, which may hide state
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels, or contains itself"


class NoText(Exception):
    """A value has no text. `why` says more than its type does, or is empty."""

    def __init__(self, why: str = "") -> None:
        super().__init__(why)
        self.why = why


def text_of(value: Any, depth: int = 0) -> str:
    """The text of a value.

    Args:
        value: anything.
        depth: how deep it lies inside another.

    Raises:
        NoText: it has none.
    """
    return TABLE[type(value)](value, depth)


def _int(value: int, _: int) -> str:
    return f"i{value}" if -_WORD < value < _WORD else f"x{value:x}"


def _float(value: float, _: int) -> str:
    return f"f{value!r}"


def _complex(value: complex, _: int) -> str:
    return f"c{value.real!r}:{value.imag!r}"


def _str(value: str, _: int) -> str:
    return f"s{len(value)}:{value}"


def _bytes(value: bytes, _: int) -> str:
    return f"b{len(value)}:{value.decode('latin-1')}"


def _bytearray(value: bytearray, _: int) -> str:
    return f"a{len(value)}:{value.decode('latin-1')}"


def _texts(items: Iterable[Any], depth: int) -> list[str]:
    if depth >= MAX_DEPTH:
        raise NoText(_TOO_DEEP)
    depth += 1
    return [TABLE[type(item)](item, depth) for item in items]


def _list(value: list[Any], depth: int) -> str:
    return f"[{','.join(_texts(value, depth))}]"


def _tuple(value: tuple[Any, ...], depth: int) -> str:
    return f"({','.join(_texts(value, depth))})"


def _set(value: set[Any], depth: int) -> str:
    return f"{{{','.join(sorted(_texts(value, depth)))}}}"


def _frozenset(value: frozenset[Any], depth: int) -> str:
    return f"<{','.join(sorted(_texts(value, depth)))}>"


def _pairs(value: dict[Any, Any], depth: int) -> list[str]:
    return [f"{key}:{item}" for key, item in zip(_texts(value, depth), _texts(value.values(), depth), strict=True)]


def _dict(value: dict[Any, Any], depth: int) -> str:
    return f"d{{{','.join(sorted(_pairs(value, depth)))}}}"


def _ordered(value: OrderedDict[Any, Any], depth: int) -> str:
    return f"D[{','.join(_pairs(value, depth))}]"


def _default_dict(value: defaultdict[Any, Any], depth: int) -> str:
    return f"G{_texts((value.default_factory,), depth)[0]}{_dict(value, depth)}"


def _range(value: range, depth: int) -> str:
    return f"r({','.join(_texts((value.start, value.stop, value.step), depth))})"


def _slice(value: slice, depth: int) -> str:
    return f"l({','.join(_texts((value.start, value.stop, value.step), depth))})"


def _datetime(value: datetime, _: int) -> str:
    return f"t{datetime.isoformat(value)};{value.fold}{_zone(value.tzinfo, value)}"


def _date(value: date, _: int) -> str:
    return f"y{date.isoformat(value)}"


def _time(value: time, _: int) -> str:
    return f"h{time.isoformat(value)};{value.fold}{_zone(value.tzinfo, None)}"


def _timedelta(value: timedelta, _: int) -> str:
    return f"p{value.days}:{value.seconds}:{value.microseconds}"


def _zone(zone: tzinfo | None, moment: datetime | None) -> str:
    """The zone of an aware datetime or time; its offset stands in the ISO text already."""
    if zone is None:
        return ""
    known = TABLE[type(zone)]
    return known(zone, 0) if known is not _other else _foreign_zone(zone, moment)


def _foreign_zone(zone: tzinfo, moment: datetime | None) -> str:
    """A zone of some other library, by its class and its key if it tells one (pytz does), else its name at that moment.

    Such classes are often made on the fly, one for each zone, so none is asked to be found by its name.
    """
    key = getattr(zone, "key", None) or getattr(zone, "zone", None) or zone.tzname(moment)
    return f"?{_str(type(zone).__module__, 0)}{_str(type(zone).__qualname__, 0)}{_str(str(key), 0)}"


def _timezone(value: timezone, _: int) -> str:
    return f"z{_timedelta(value.utcoffset(None), 0)}{_str(value.tzname(None), 0)}"


def _zone_info(value: Any, _: int) -> str:
    if value.key is None:
        raise NoText("it was read from a file, and has no key")
    return f"Z{_str(value.key, 0)}"


def _decimal(value: Any, _: int) -> str:
    from decimal import Decimal  # loaded already: there is one

    return f"m{Decimal.__str__(value)}"


def _fraction(value: Any, _: int) -> str:
    return f"q{value.numerator:x}/{value.denominator:x}"


def _uuid(value: Any, _: int) -> str:
    return f"g{value.int:x}"


def _path(value: Any, _: int) -> str:
    from pathlib import PurePath  # loaded already: there is one

    return f"P{_str(type(value).__name__, 0)}{_str(PurePath.__str__(value), 0)}"


def _named(value: Any, _: int = 0) -> str:
    """The name of a class or function. One of a nameless program has a token: others may have another of that name."""
    name = name_of(value)
    if name is None:
        raise NoText(f"{getattr(value, '__qualname__', 'it')} cannot be found by its name from another process")
    return token_of(value) if name.startswith(f"{NAMELESS}:") else f"n{len(name)}:{name}"


def _other(value: Any, depth: int) -> str:
    """The text of a value whose exact type has no entry of its own."""
    encoder = _encoder_of(type(value))
    if encoder is None:
        raise NoText
    if depth >= MAX_DEPTH:
        raise NoText(_TOO_DEEP)
    return encoder(value, depth)


@once_a_class
def _encoder_of(cls: type) -> Encoder | None:
    if hasattr(cls, "__cache_key__"):
        return _own_key
    if issubclass(cls, Enum):
        return _flag if issubclass(cls, Flag) else _enum
    if issubclass(cls, type):
        return _named
    if is_dataclass(cls):
        return _dataclass
    return None if _base_of(cls) is None else _subclass


@once_a_class
def _base_of(cls: type) -> type | None:
    """The nearest class that has an entry of its own."""
    return next((base for base in cls.__mro__ if base in TABLE), None)


def _own_key(value: Any, depth: int) -> str:
    key = value.__cache_key__()
    try:
        return f"k({_class_text(type(value))},{text_of(key, depth + 1)})"
    except NoText as error:
        why = error.why or f"{type(key).__name__} has no stable key"
        raise NoText(f"its __cache_key__ returned what will not do: {why}") from None


def _class_text(cls: type) -> str:
    """The name of the class of an object with a key of its own; a token of the class if it is local to a function.

    Its author vouches for the key, so in this process and its forked children it may serve; it is shared no further.
    """
    return token_of(cls) if name_of(cls) is None else _named(cls)


def _enum(value: Enum, depth: int) -> str:
    return f"e({_named(type(value))},{text_of(value._name_, depth + 1)})"


def _flag(value: Flag, depth: int) -> str:
    cls = type(value)
    member = value._name_ if value._name_ in cls.__members__ else value._value_  # combined ones have a value only
    return f"e({_named(cls)},{text_of(member, depth + 1)})"


def _dataclass(value: Any, depth: int) -> str:
    cls = type(value)
    try:
        state = {name: getattr(value, name) for name in field_names(cls)}
    except AttributeError as error:
        raise NoText(f"its field {error.name} was never set") from None
    if "__dataclass_fields__" not in cls.__dict__:  # a plain subclass: what it adds is no field, and may matter
        state = {**own_state(value), **state}
    below = "" if _base_of(cls) is None else f",{_subclass(value, depth)}"
    return f"o({_named(cls)}{below},{_dict(state, depth)})"


def _subclass(value: Any, depth: int) -> str:
    """The text of an instance of a subclass: which subclass, the base's value, and what the instance holds beside."""
    cls = type(value)
    base: Any = _base_of(cls)
    if base not in _PLAIN and any(_may_hide_state(each) for each in cls.__mro__[: cls.__mro__.index(base)]):
        raise NoText("its class is not made in Python, and may hold more than it shows")
    state = {} if is_dataclass(cls) else own_state(value, base)
    exact = _EXACT.get(base)
    text = TABLE[base](value if exact is None else exact(value), depth)
    return f"u({_named(cls)},{text},{_dict(state, depth)})" if state else f"u({_named(cls)},{text})"


def _may_hide_state(cls: type) -> bool:
    """Whether instances may differ in what Python code does not see: static C types, `os.stat_result` and its like."""
    return not cls.__flags__ & _HEAP_TYPE or hasattr(cls, "n_sequence_fields")


_PLAIN = (str, int, float, complex, bytes)
_EXACT: dict[type, Callable[[Any], Any]] = {  # the base's value, whatever the subclass overrides
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: lambda value: complex(complex.real.__get__(value), complex.imag.__get__(value)),
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    list: lambda value: list(list.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    OrderedDict: lambda value: OrderedDict(OrderedDict.items(value)),
    defaultdict: lambda value: defaultdict(value.default_factory, dict.items(value)),
}
TABLE: TypeTable[Encoder] = TypeTable(
    {
        type(None): lambda value, _: "N",
        bool: lambda value, _: "T" if value else "F",
        type(...): lambda value, _: "E",
        int: _int,
        float: _float,
        complex: _complex,
        str: _str,
        bytes: _bytes,
        bytearray: _bytearray,
        list: _list,
        tuple: _tuple,
        set: _set,
        frozenset: _frozenset,
        dict: _dict,
        OrderedDict: _ordered,
        defaultdict: _default_dict,
        range: _range,
        slice: _slice,
        datetime: _datetime,
        date: _date,
        time: _time,
        timedelta: _timedelta,
        timezone: _timezone,
        type: _named,
        FunctionType: _named,
        BuiltinFunctionType: _named,
    },
    {
        "decimal": {"Decimal": _decimal},
        "fractions": {"Fraction": _fraction},
        "uuid": {"UUID": _uuid},
        "zoneinfo": {"ZoneInfo": _zone_info},
        "pathlib": dict.fromkeys(("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"), _path),
    },
    _other,
)
