"""Containers that msgpack lacks: an array whose first item is a mark, an ext object that says what the array becomes.

    32 tuple, 33 set, 34 frozenset      the items
    35 slice                            start, stop, step
    36 OrderedDict, 37 Counter          a map
    38 defaultdict                      the name of its factory or None, a map
    39 deque                            its maximal length, the items

The mark and not an ext object around the items, for an ext object is read by a call inside a call: msgpack takes 40 KiB
of stack for each, so a small thread would die of a tuple nested twenty deep. The array is read without recursion, and a
builder gets its items finished.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from msgpack import ExtType

from zoocache.anatomy import own_state
from zoocache.codec.faults import Undecodable, Unkeepable
from zoocache.names import find, name_of

Builder = Callable[[list[Any]], Any]
Lowered = tuple[ExtType, list[Any]]

_TUPLE, _SET, _FROZENSET, _SLICE, _ORDERED, _COUNTER, _DEFAULT, _DEQUE = (
    ExtType(code, b"") for code in range(32, 40)
)  # fmt: skip


def named(name: str) -> Any:
    """The class or function of that name, which the bytes ask for.

    Raises:
        Undecodable: there is none, or its module raised when it was imported, which may be anything.
    """
    try:
        return find(name)
    except (LookupError, ImportError) as error:
        raise Undecodable(f"{name} is not to be had: {error}") from error
    except Exception as error:
        raise Undecodable(f"{name} is not to be had: its module raised {type(error).__name__}") from error


def _lower_items(mark: ExtType) -> Callable[[Any], Lowered]:
    return lambda value: (mark, list(value))


def _lower_slice(value: slice) -> Lowered:
    return _SLICE, [value.start, value.stop, value.step]


def _refuse_state(value: Any, base: type) -> None:
    state = own_state(value, base)
    if state:
        raise Unkeepable(f"it carries attributes of its own: {', '.join(sorted(state))}")


def _lower_ordered(value: OrderedDict[Any, Any]) -> Lowered:
    _refuse_state(value, OrderedDict)
    return _ORDERED, [dict(value)]


def _lower_counter(value: Counter[Any]) -> Lowered:
    _refuse_state(value, Counter)
    return _COUNTER, [dict(value)]


def _lower_default(value: defaultdict[Any, Any]) -> Lowered:
    factory = value.default_factory
    name = None if factory is None else name_of(factory)
    if factory is not None and name is None:
        raise Unkeepable("its default_factory cannot be found by its name from another process")
    return _DEFAULT, [name, dict(value)]


def _lower_deque(value: deque[Any]) -> Lowered:
    return _DEQUE, [value.maxlen, *value]


LOWER: dict[type, Callable[[Any], Lowered]] = {
    tuple: _lower_items(_TUPLE),
    set: _lower_items(_SET),
    frozenset: _lower_items(_FROZENSET),
    slice: _lower_slice,
    OrderedDict: _lower_ordered,
    Counter: _lower_counter,
    defaultdict: _lower_default,
    deque: _lower_deque,
}


def _build_slice(items: list[Any]) -> slice:
    start, stop, step = items
    return slice(start, stop, step)


def _one_map(items: list[Any]) -> dict[Any, Any]:
    (held,) = items
    if type(held) is not dict:
        raise Undecodable(f"a map was due, not a {type(held).__name__}")
    return held


def _build_ordered(items: list[Any]) -> OrderedDict[Any, Any]:
    return OrderedDict(_one_map(items))


def _build_counter(items: list[Any]) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict.update(counter, _one_map(items))
    return counter


def _build_default(items: list[Any]) -> defaultdict[Any, Any]:
    name, *rest = items
    factory = None if name is None else named(name)
    if factory is not None and not isinstance(factory, (type, FunctionType, BuiltinFunctionType)):
        raise Undecodable("a default_factory was due, not a " + type(factory).__name__)
    return defaultdict(factory, _one_map(rest))


def _build_deque(items: list[Any]) -> deque[Any]:
    maxlen, *rest = items
    return deque(rest, maxlen)


BUILD: dict[int, Builder] = {
    _TUPLE.code: tuple,
    _SET.code: set,
    _FROZENSET.code: frozenset,
    _SLICE.code: _build_slice,
    _ORDERED.code: _build_ordered,
    _COUNTER.code: _build_counter,
    _DEFAULT.code: _build_default,
    _DEQUE.code: _build_deque,
}
