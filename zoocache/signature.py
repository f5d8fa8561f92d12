"""Signatures: which parameters a function has, and what kind of function it is.

A plain Python function tells all of that by its code object. `inspect`, which would have to be asked about others (a
builtin, a proxy, a function that somebody has marked or given a signature of its own), takes 12 ms to import and a
megabyte in every process, so it is asked about those only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from zoocache.imports import whole

POSITIONAL_ONLY, POSITIONAL_OR_KEYWORD, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = range(5)
"""The kinds of parameters, with the numbers that `inspect.Parameter` gives them."""

EMPTY: Any = object()
"""The default of a parameter that has none."""

# Bits of co_flags; see "Code Objects Bit Flags" in the documentation of `inspect`.
_HAS_ARGS, _HAS_KWARGS = 0x04, 0x08
_IS_GENERATOR, _IS_COROUTINE, _IS_ASYNC_GENERATOR = 0x20, 0x80, 0x200


class Parameter(NamedTuple):
    """One parameter of a function."""

    name: str
    kind: int
    default: Any = EMPTY


def parameters_of(fn: Callable[..., Any]) -> list[Parameter]:
    """The function's own parameters, in order; what it wraps is not asked, for it may be called differently."""
    if _is_plain(fn):
        return list(_declared(fn, fn.__code__))
    with whole:
        import inspect

    try:
        found = inspect.signature(fn, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return [Parameter("args", VAR_POSITIONAL), Parameter("kwargs", VAR_KEYWORD)]
    return [Parameter(p.name, int(p.kind), EMPTY if p.default is p.empty else p.default) for p in found]


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether a call of it gives a coroutine: `inspect.iscoroutinefunction`."""
    if _is_plain(fn):
        return bool(fn.__code__.co_flags & _IS_COROUTINE)
    with whole:
        import inspect

    return inspect.iscoroutinefunction(fn)


def is_generator_function(fn: Callable[..., Any]) -> bool:
    """Whether a call of it gives a generator, of either kind."""
    if _is_plain(fn):
        return bool(fn.__code__.co_flags & (_IS_GENERATOR | _IS_ASYNC_GENERATOR))
    with whole:
        import inspect

    return inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)


def _is_plain(fn: Callable[..., Any]) -> bool:
    """Whether its code says all: a function without attributes, by which `inspect` might be told otherwise."""
    return type(fn) is FunctionType and not fn.__dict__


def _declared(fn: Any, code: CodeType) -> Iterator[Parameter]:
    names, count, keywords = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    defaults = (EMPTY,) * (count - len(fn.__defaults__ or ())) + (fn.__defaults__ or ())
    for index in range(count):
        kind = POSITIONAL_ONLY if index < code.co_posonlyargcount else POSITIONAL_OR_KEYWORD
        yield Parameter(names[index], kind, defaults[index])
    stars = count + keywords
    if code.co_flags & _HAS_ARGS:
        yield Parameter(names[stars], VAR_POSITIONAL)
        stars += 1
    for name in names[count : count + keywords]:
        yield Parameter(name, KEYWORD_ONLY, (fn.__kwdefaults__ or {}).get(name, EMPTY))
    if code.co_flags & _HAS_KWARGS:
        yield Parameter(names[stars], VAR_KEYWORD)
