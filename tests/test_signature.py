"""Signatures: what the code object of a function tells, against what `inspect` says."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from zoocache.signature import EMPTY, Parameter, is_coroutine_function, is_generator_function, parameters_of


def _plain(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None: ...


def closing(first: int) -> Callable[..., Any]:
    """A function with locals, and one that closes over something."""

    def inner(x: int, y: int = first, *, z: int = first) -> int:
        unnamed = x + first
        return unnamed + y + z

    return inner


def _yields(n: int) -> Iterator[int]:
    yield n


async def _yields_later(n: int) -> AsyncIterator[int]:
    yield n


async def _later(n: int = 1, *, key: str = "k") -> int:
    return n


@functools.wraps(_plain)
def _wraps(*args: int, **kwargs: int) -> None: ...


def _signed(*args: int) -> None: ...


_signed.__signature__ = inspect.signature(closing)  # type: ignore[attr-defined]


class Owner:
    def method(self, x: int = 1) -> int:
        return x

    @classmethod
    def of_class(cls, x: int) -> int:
        return x


FUNCTIONS = [
    _plain, closing, closing(1), _yields, _yields_later, _later, _wraps, _signed, Owner.method, Owner.of_class,
    Owner().method, functools.partial(_plain, 1), functools.partial(_later, 1), math.gcd, len, lambda: None,
    lambda *, k=None: k,
]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_parameters_are_what_inspect_says(fn: Callable[..., Any]) -> None:
    """Names, kinds and defaults of the function itself, not of what it wraps, in the same order."""
    found = inspect.signature(fn, follow_wrapped=False).parameters.values()
    expected = [Parameter(p.name, int(p.kind), EMPTY if p.default is p.empty else p.default) for p in found]
    assert expected == parameters_of(fn)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_the_kind_of_function_is_what_inspect_says(fn: Callable[..., Any]) -> None:
    """Coroutine functions and generator functions are told from the others."""
    assert inspect.iscoroutinefunction(fn) is is_coroutine_function(fn)
    assert (inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)) is is_generator_function(fn)


def test_a_builtin_without_a_signature_takes_anything() -> None:
    """Where nobody knows the parameters, all arguments are passed on."""
    assert ["args", "kwargs"] == [parameter.name for parameter in parameters_of(max)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no such mark before 3.12")
def test_a_function_that_is_marked_as_a_coroutine_function() -> None:
    """`inspect.markcoroutinefunction` is believed."""

    def gives_a_coroutine() -> Any:
        return _later()

    assert is_coroutine_function(inspect.markcoroutinefunction(gives_a_coroutine))
