"""The generated wrapper: the fast path of a hit.

A wrapper is written from the function's own signature (as `dataclasses` and `attrs` write `__init__`), because then
Python itself binds the arguments, fills in the defaults and sorts the keywords, and the local variables are the key.
For `def get(user_id, lang="en", *rest, deep=False)` it is

    def wrapper(user_id, lang=_default_1, *rest, deep=_default_3):
        nonlocal left
        try:
            words, seq, value, thaw, until, live, t0, t1, t2, t3 = entry = table[user_id, lang, rest, deep]
        except Exception:
            entry = None
        else:
            if type(user_id) is t0 and … and tuple(map(type, rest)) == t2 and …:
                try:
                    if left and (no fill is active, or the caller is in none) and (until is None or now() < until)
                            and (words[SEQ] == seq or valid(entry)):
                        left -= 1
                        return value if thaw is None else thaw(value)
                    if again(entry):
                        return value if thaw is None else thaw(value)
                except Undecodable:
                    forget(entry)
        return miss((user_id, lang, rest, deep))

with `_zoo_` before each of our names, for `words` or `type` may be a parameter's.

The front table is keyed by the raw arguments, so 1, True and 1.0 fall on one place: the types decide, and whoever
finds another's types goes the exact way. Only arguments of which type and equality say all stand in it
(`keys.fits_front`). An argument that cannot be hashed, or that raises when it is compared, goes the exact way too.

`left` counts down the hits until the next look around (does the segment still have its name); it is the count of hits
at the same time. Between its load and its store CPython switches no threads, so with the GIL none is lost; without a
GIL the count may come out low, and nothing else depends on it.

Rejected: `*args, **kwargs` with `inspect.Signature.bind` (20 times slower), a C extension (pure Python is the point),
one dict keyed by (type, value) pairs (three times slower than comparing the types afterwards).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zoocache import keys
from zoocache.codec.faults import Undecodable
from zoocache.engine.fill import ACTIVE, inside
from zoocache.engine.live import revalidate
from zoocache.errors import NotCacheable
from zoocache.shm.layout import H_SEQ
from zoocache.signature import (
    EMPTY,
    KEYWORD_ONLY,
    POSITIONAL_ONLY,
    VAR_KEYWORD,
    VAR_POSITIONAL,
    Parameter,
    parameters_of,
)

ROUND = 256
"""Hits between two looks around."""

_STARS = {VAR_POSITIONAL: "*", VAR_KEYWORD: "**"}

_TEMPLATE = """
def make(_zoo_fn, _zoo_deps, _zoo_table, _zoo_again, _zoo_miss, _zoo_active, _zoo_now, _zoo_defaults):
{defaults}
    _zoo_left = {round}
    _zoo_done = 0

    def hits():
        return _zoo_done + {round} - _zoo_left

    def begin_round():
        nonlocal _zoo_left, _zoo_done
        _zoo_done += {round} - _zoo_left
        _zoo_left = {round}

    def forget():
        nonlocal _zoo_left, _zoo_done
        _zoo_done, _zoo_left = 0, {round}

    {is_async}def wrapper({parameters}):
        nonlocal _zoo_left
{escape}        try:
            _zoo_entry = _zoo_table[{front}]
            _zoo_words, _zoo_seq, _zoo_value, _zoo_thaw, _zoo_until, _zoo_live{targets} = _zoo_entry
        except _zoo_Exception:
            _zoo_entry = None
        else:
            if {types}:
                try:
                    if (
                        _zoo_left
                        and (not _zoo_active or _zoo_inside() is None)
                        and (_zoo_until is None or _zoo_now() < _zoo_until)
                        and (_zoo_words[{seq}] == _zoo_seq or _zoo_valid(_zoo_entry))
                    ):
                        _zoo_left -= 1
                        return _zoo_value if _zoo_thaw is None else _zoo_thaw(_zoo_value)
                    if _zoo_again(_zoo_entry):
                        return _zoo_value if _zoo_thaw is None else _zoo_thaw(_zoo_value)
                except _zoo_Undecodable:
                    pass
        return {is_await}_zoo_miss({values})

    def bind({parameters}):
        return {values}

    def invoke(_zoo_values):
        return _zoo_fn({arguments})

    def dependencies(_zoo_values):
        return _zoo_deps({arguments})

    return wrapper, bind, invoke, dependencies, hits, begin_round, forget
"""


class Made:
    """What was generated for one function.

    Attributes:
        wrapper: what the user calls.
        names: of the parameters.
        bind: arguments -> values, a tuple in the parameters' order (*args as a tuple, **kwargs as a dict).
        invoke: values -> what the function returns.
        dependencies: values -> what its `deps` callable returns.
        hits: the count of fast hits.
        begin_round: starts the countdown again.
        forget: sets the count to nothing.
    """

    __slots__ = ("_kinds", "begin_round", "bind", "dependencies", "forget", "hits", "invoke", "names", "wrapper")

    def __init__(self, names: tuple[str, ...], kinds: tuple[int, bool], parts: tuple[Any, ...]) -> None:
        self.names = names
        self._kinds = kinds
        (self.wrapper, self.bind, self.invoke, self.dependencies, self.hits, self.begin_round, self.forget) = parts

    def front(self, values: tuple[Any, ...]) -> tuple[Any, list[Any]] | None:
        """The front key of values, as the wrapper spells it, and the types it compares; None: not fit for it."""
        rest, has_kwargs = self._kinds
        if has_kwargs:
            if values[-1]:
                return None
            values = (*values[:-1], None)
        if rest < 0:
            types: list[Any] = list(map(type, values))
            if not keys.FRONT_TYPES.issuperset(types) and not all(map(keys.fits_front, values)):
                return None
            return (values[0] if len(values) == 1 else values), types
        flat = (*values[:rest], *values[rest], *values[rest + 1 :])
        if not all(map(keys.fits_front, flat)):
            return None
        types = list(map(type, values))
        types[rest] = tuple(map(type, values[rest]))
        return (values[0] if len(values) == 1 else values), types


def make(
    fn: Callable[..., Any], deps: Callable[..., Any] | None, table: dict[Any, list[Any]],
    again: Callable[[list[Any]], bool], miss: Callable[[tuple[Any, ...]], Any], is_async: bool,
) -> Made:  # fmt: skip
    """Generate the wrapper of a function.

    Args:
        fn: the function.
        deps: its `deps` callable, called as the function is.
        table: the front table.
        again: entry -> whether it may be handed out after all.
        miss: values -> result, or an awaitable of it.
        is_async: whether `fn` is a coroutine function.

    Raises:
        NotCacheable: a parameter has a name of ours.
    """
    parameters = parameters_of(fn)
    name = getattr(fn, "__qualname__", repr(fn))
    if any(parameter.name.startswith("_zoo_") for parameter in parameters):
        raise NotCacheable(f"{name}: parameters whose names begin with _zoo_ are taken; rename them")
    scope: dict[str, Any] = {
        "_zoo_type": type,
        "_zoo_tuple": tuple,
        "_zoo_map": map,
        "_zoo_Exception": Exception,
        "_zoo_Undecodable": Undecodable,
        "_zoo_valid": revalidate,
        "_zoo_inside": inside,
    }
    exec(compile(_source(parameters, is_async), f"<zoocache wrapper of {name}>", "exec"), scope)  # noqa: S102
    defaults = [parameter.default for parameter in parameters]
    parts = scope["make"](fn, deps, table, again, miss, ACTIVE, time.monotonic, defaults)
    parts[1].__qualname__ = name  # what the TypeError of a wrong call to key_for() and the like begins with
    return Made(tuple(parameter.name for parameter in parameters), _kinds(parameters), parts)


def _kinds(parameters: list[Parameter]) -> tuple[int, bool]:
    """Where *args stands (-1: nowhere), and whether the last is **kwargs."""
    kinds = [parameter.kind for parameter in parameters]
    rest = kinds.index(VAR_POSITIONAL) if VAR_POSITIONAL in kinds else -1
    return rest, VAR_KEYWORD in kinds


def _source(parameters: list[Parameter], is_async: bool) -> str:
    names = [parameter.name for parameter in parameters]
    _, has_kwargs = _kinds(parameters)
    values = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    is_await = "await " if is_async else ""
    return _TEMPLATE.format(
        defaults="\n".join(
            f"    _zoo_default_{index} = _zoo_defaults[{index}]"
            for index, p in enumerate(parameters) if p.default is not EMPTY
        ) or "    pass",
        round=ROUND,
        seq=H_SEQ,
        is_async="async " if is_async else "",
        is_await=is_await,
        parameters=_declared(parameters),
        escape=f"        if {names[-1]}:\n            return {is_await}_zoo_miss({values})\n" if has_kwargs else "",
        targets="".join(f", _zoo_t{index}" for index in range(len(names))),
        front=", ".join([*names[:-1], "None"] if has_kwargs else names) or "()",
        types=" and ".join(_type_checks(parameters)) or "True",
        values=values,
        arguments=", ".join(_passed(parameters)),
    )  # fmt: skip


def _declared(parameters: list[Parameter]) -> str:
    parts: list[str] = []
    previous = -1
    for index, parameter in enumerate(parameters):
        kind = parameter.kind
        if previous == POSITIONAL_ONLY != kind:
            parts.append("/")
        if kind == KEYWORD_ONLY and previous not in (KEYWORD_ONLY, VAR_POSITIONAL):
            parts.append("*")
        stars = _STARS.get(kind, "")
        default = "" if parameter.default is EMPTY else f"=_zoo_default_{index}"
        parts.append(f"{stars}{parameter.name}{default}")
        previous = kind
    if previous == POSITIONAL_ONLY:
        parts.append("/")
    return ", ".join(parts)


def _type_checks(parameters: list[Parameter]) -> list[str]:
    checks = []
    for index, parameter in enumerate(parameters):
        if parameter.kind == VAR_POSITIONAL:
            checks.append(f"_zoo_tuple(_zoo_map(_zoo_type, {parameter.name})) == _zoo_t{index}")
        elif parameter.kind != VAR_KEYWORD:
            checks.append(f"_zoo_type({parameter.name}) is _zoo_t{index}")
    return checks


def _passed(parameters: list[Parameter]) -> list[str]:
    passed = []
    for index, parameter in enumerate(parameters):
        by_name = f"{parameter.name}=" if parameter.kind == KEYWORD_ONLY else ""
        passed.append(f"{_STARS.get(parameter.kind, by_name)}_zoo_values[{index}]")
    return passed
