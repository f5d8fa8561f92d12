"""Identities: which function this is, the same in every process that has it, and never that of another.

    module:qualname                     a function that a module of that name holds
    module:qualname#<digest>            local functions, lambdas, closures, and a second definition under a taken name:
                                        of the code, and of what it closes over
    module:qualname#<digest>@<random>   the same, of a program that no file names
    module:qualname#@<random>           a definition that holds what no other process could compare

How it is cached is a part of what is cached: a digest of the tags or of the function that tells them, of the limits of
age, and of whether mutable values are shared. Two decorations of one function are two, and entries of before an edit
that adds a tag, which that tag would not reach, are not found afterwards.

What a closure holds may be set anew by the function around it. So a closure, or a function whose tags one tells, is
identified when its first key is made, and whoever makes a key asks whether it holds the same still (`Closure`): if not,
it is nobody else's from then on, as is one that sets what it closes over itself (`nonlocal`).

A module-level function is known by its name alone, so that its entries outlive an edit elsewhere in it and a new
version of Python; `cacheable(version=…)` is for edits that matter. Rejected: the digest of the code for all of them
(each release would start cold), and `repr` or the address of a closure's cells (they differ from process to process).

A program from standard input or `-c`, or a notebook, may have the code of another and mean something else by it: other
globals, other functions that it calls. So its functions carry a token of the program. Forked children inherit tokens;
spawned ones cannot import such a program anyhow. Rejected: the digest of all that a function refers to, for what that
refers to in turn has no end.

Whoever runs a program with another version of Python, or with -O, has other bytecode, hence other digests.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from zoocache.digests import blake2b
from zoocache.errors import NotCacheable
from zoocache.imports import whole
from zoocache.keys.tokens import token_of
from zoocache.names import NAMELESS, is_loaded, module_name, name_of, namespace_name

__all__ = ["function_identity", "module_name"]

_NO_MODULE = f"{NAMELESS}:"
_DIGEST_BYTES = 16
_LITERALS = frozenset({type(None), bool, float, complex, str, bytes, type(...), slice})
_CODE_PARTS = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_code", "co_names", "co_varnames",
    "co_freevars", "co_cellvars", "co_consts", "co_exceptiontable",
)  # fmt: skip


class _Incomparable(Exception):
    """A closure holds what has no text that another process would find the same."""


# Both tables only ever grow by entries that stay as they are, each with one setdefault; a forked child inherits them.
_identities: weakref.WeakKeyDictionary[Callable[..., Any], str] = weakref.WeakKeyDictionary()
_definitions: dict[str, str] = {}  # module:qualname -> digest of the first code under that name


def function_identity(fn: Callable[..., Any]) -> str:
    """The identity of a function.

    Args:
        fn: a Python function, or a builtin that its module holds under its name.

    Returns:
        See the head of this file. The same object always has the same identity, but for a closure that is set anew
        before anybody saw it move.

    Raises:
        NotCacheable: it is no function; a bound method or a `functools.partial` has no name of its own.
    """
    if type(fn) is not FunctionType:
        return _identify_other(fn)
    known = _identities.get(fn)
    if known is not None:
        return known
    if is_closure(fn):
        return _identify(fn)  # for now: it may hold something else when the next one asks
    return _identities.setdefault(fn, _identify(fn))


def cached_identity(fn: Callable[..., Any], deps: object, *limits: object) -> str:
    """The identity of a function together with how it is cached.

    Args:
        fn: as `function_identity` takes it.
        deps: a tuple of tags, a callable that tells them, or None.
        limits: what else two decorations may differ in; None for the configuration's.
    """
    identity = function_identity(fn)
    if deps is None and not any(limits):
        return identity
    told = _deps_text(deps) if callable(deps) else repr(deps)
    text = "|".join((told, *map(repr, limits)))
    return f"{identity}+{blake2b(text.encode(), digest_size=_DIGEST_BYTES // 2).hexdigest()}"


def _deps_text(deps: Callable[..., Any]) -> str:
    if isinstance(deps, FunctionType):
        return f"{function_identity(deps)}{_told_defaults(deps)}"
    try:  # a bound method, a partial, an object that can be called: told by who it is
        return token_of(deps)
    except TypeError:
        return os.urandom(_DIGEST_BYTES).hex()


def _told_defaults(deps: FunctionType) -> str:
    """What tells a function of `deps` from another of the same code: a loop gives each its own tag as a default. Those
    of the cached function stand in its keys, as arguments."""
    if deps.__defaults__ is None and deps.__kwdefaults__ is None:
        return ""
    try:
        return _defaults(deps, (deps,))
    except _Incomparable:  # one that a name leads to is the only one there
        return "" if _public_name(deps) is not None else token_of(deps)


def is_closure(fn: Any) -> bool:
    """Whether a function closes over anything but the class that it stands in."""
    closes = isinstance(fn, FunctionType) and fn.__closure__ is not None
    return closes and fn.__code__.co_freevars != ("__class__",)


def may_move(deps: Any) -> bool:
    """Whether what tells a function of `deps` may be set anew: it, or a function among its defaults, is a closure."""
    return is_closure(deps) or (isinstance(deps, FunctionType) and Closure(deps).holds_any())


class Closure:
    """What functions close over, and the functions in it, to see whether it was set anew since they were identified."""

    __slots__ = ("_cells", "_functions")

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._functions: list[Any] = []
        self._cells: list[tuple[Any, Any]] = []  # each, and what it held
        for each in functions:
            self._add(each)

    def _add(self, fn: Any) -> None:
        if any(fn is known for known in self._functions):
            return
        self._functions.append(fn)
        for cell in fn.__closure__ or ():
            held = _held(cell)
            self._cells.append((cell, held))
            self._look_into(held)
        self._look_into(fn.__defaults__)
        self._look_into(tuple((fn.__kwdefaults__ or {}).values()))

    def _look_into(self, value: Any) -> None:
        """Follow what `_content` tells by what it is made of."""
        if type(value) is FunctionType and _public_name(value) is None:
            self._add(value)
        elif type(value) in (tuple, frozenset):
            for item in value:
                self._look_into(item)

    def holds_any(self) -> bool:
        """Whether there is anything that may be set anew."""
        return bool(self._cells)

    def has_moved(self) -> bool:
        """Whether it holds something else by now."""
        return any(_held(cell) is not held for cell, held in self._cells)


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return Closure  # something that is no one's content


def unshare(fn: Callable[..., Any]) -> None:
    """From here on the function is nobody else's: what it closes over was set anew."""
    _identities[fn] = _unshared(f"{module_name(str(fn.__module__))}:{fn.__qualname__}", fn)


def _identify_other(fn: Callable[..., Any]) -> str:
    if type(fn) is BuiltinFunctionType and (name := name_of(fn)) is not None:
        return name
    if isinstance(fn, FunctionType):  # a proxy says so: what it adds to the function nobody knows
        return _unshared(f"{module_name(str(fn.__module__))}:{fn.__qualname__}", fn)
    raise NotCacheable(f"a {type(fn).__qualname__} has no name of its own: wrap it in a function and cache that")


def _identify(fn: FunctionType) -> str:
    home = namespace_name(fn.__globals__)
    base = f"{_module_of(fn, home)}:{fn.__qualname__}"
    try:
        program = "" if home is not None else _program(fn.__globals__)
        text = _definition(fn, (fn,))
    except _Incomparable:
        return _identities.setdefault(fn, _unshared(base, fn))  # and so it stays, whatever it holds later
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    if program or _is_local(fn):
        return f"{base}#{digest}{program}"
    return base if _definitions.setdefault(base, digest) == digest else f"{base}#{digest}"


def _program(namespace: dict[str, Any]) -> str:
    """The token of the main program, which no file names, and which has these globals."""
    if not is_loaded(NAMELESS, namespace):  # those that `exec` was given: nobody knows what they hold
        raise _Incomparable
    return token_of(sys.modules[NAMELESS])


def _module_of(fn: FunctionType, home: str | None) -> str:
    """The module in a function's name: where its code lives, unless `functools.wraps` says it stands for another."""
    own = fn.__globals__.get("__name__")
    return home if home is not None and fn.__module__ == own else module_name(str(fn.__module__))


def _is_local(fn: FunctionType) -> bool:
    """Whether a name may be shared by several functions: one in a function, a lambda, a closure, a borrowed name."""
    return is_closure(fn) or "<" in fn.__qualname__ or fn.__module__ != fn.__globals__.get("__name__")


def _unshared(base: str, fn: Callable[..., Any]) -> str:
    return f"{base}#{token_of(fn)}"


def _definition(fn: FunctionType, around: tuple[FunctionType, ...]) -> str:
    """What a function is made of: its code and the contents of its closure.

    Args:
        fn: the function.
        around: the functions that this one was found in, and itself, so that recursion comes to an end.
    """
    if fn.__closure__ and _rebinds(fn.__code__):
        raise _Incomparable
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    held = [_cell(fn, name, cell, around) for name, cell in cells]
    return f"{_code(fn.__code__)}[{','.join(held)}]"


def _rebinds(code: CodeType) -> bool:
    """Whether it sets what it closes over (`nonlocal`)."""
    with whole:
        import dis

    return any(
        step.opname in {"STORE_DEREF", "DELETE_DEREF"} and step.argval in code.co_freevars
        for step in dis.get_instructions(code)
    )


def _cell(fn: FunctionType, name: str, cell: Any, around: tuple[FunctionType, ...]) -> str:
    if name == "__class__" and "<locals>" not in fn.__qualname__:
        return name  # super() in a module's class: the qualname tells it already, and the cell is empty as yet
    try:
        content = cell.cell_contents
    except ValueError:  # empty: what will be in it is not known yet
        raise _Incomparable from None
    return _content(content, around)


def _content(value: Any, around: tuple[FunctionType, ...]) -> str:
    """The text of what a closure holds, if it is immutable and told by its value."""
    cls = type(value)  # and not isinstance, for a proxy may claim to be of the class it stands for
    if issubclass(cls, Enum):
        return f"{_named(cls)}.{value._name_}={_content(value._value_, around)}"
    if issubclass(cls, (type, BuiltinFunctionType)):
        return _named(value)
    if cls is FunctionType:
        return _public_name(value) or _inner(value, around)
    if cls is ModuleType:
        return f"module {_module(value)}"
    return _constant(value, lambda item: _content(item, around))


def _public_name(thing: Any) -> str | None:
    """The name of a class or function that other processes know it by."""
    name = name_of(thing)
    return None if name is None or name.startswith(_NO_MODULE) else name


def _named(thing: Any) -> str:
    name = _public_name(thing)
    if name is None:
        raise _Incomparable
    return name


def _module(module: ModuleType) -> str:
    name = module_name(module.__name__)
    return token_of(module) if name == NAMELESS else name


def _inner(fn: FunctionType, around: tuple[FunctionType, ...]) -> str:
    """A function that no name leads to, such as the one inside a decorator's wrapper: all it is made of."""
    if fn in around:
        return f"^{around.index(fn)}"
    around = (*around, fn)
    home = namespace_name(fn.__globals__) or _program(fn.__globals__)
    return f"{home}:{fn.__qualname__}{_definition(fn, around)}{_defaults(fn, around)}"


def _defaults(fn: FunctionType, around: tuple[FunctionType, ...]) -> str:
    by_name = tuple(sorted((fn.__kwdefaults__ or {}).items()))
    return str((_content(fn.__defaults__, around), _content(by_name, around)))


def _code(code: CodeType) -> str:
    """What a code object does, without file names and line numbers."""
    texts = [_constant(getattr(code, name, None), _code_constant) for name in _CODE_PARTS]
    return f"code({','.join(texts)})"


def _code_constant(value: Any) -> str:
    return _code(value) if isinstance(value, CodeType) else _constant(value, _code_constant)


def _constant(value: Any, inner: Callable[[Any], str]) -> str:
    """The text of a literal, independent of the hash seed; `inner` gives that of its items."""
    cls = type(value)
    if cls in _LITERALS:
        return repr(value)
    if cls is int:
        return f"{value:#x}"  # the decimal form of a long one may be forbidden
    if cls is tuple:
        return f"({','.join(map(inner, value))})"
    if cls is frozenset:
        return f"{{{','.join(sorted(map(inner, value)))}}}"
    raise _Incomparable
