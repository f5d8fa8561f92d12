"""The `deps` of `cacheable`, as a callable."""

from __future__ import annotations

from typing import Any

import pytest

from tests.decorator.counted import Counted
from zoocache import (
    DepsFailed,
    InvalidDeps,
    InvalidTag,
    RecursiveFill,
    cacheable,
    invalidate,
)

# The `deps` callable.


def test_deps_get_the_arguments_of_the_call() -> None:
    """A `deps` callable gets what the function gets: defaults filled in, keywords as keywords, `self` too."""
    seen = []

    def deps(*args: Any, **kwargs: Any) -> list[str]:
        seen.append((args, kwargs))
        return []

    @cacheable(deps=deps)
    def get(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None: ...

    get(1, 2, d=4)
    get(1, b=2, d=4, z=26)
    get(1, 2, 3, 33, 333, e=55, d=4)
    assert [
        ((1, 2, 3), {"d": 4, "e": 5}),
        ((1, 2, 3), {"d": 4, "e": 5, "z": 26}),
        ((1, 2, 3, 33, 333), {"d": 4, "e": 55}),
    ] == seen


@pytest.mark.parametrize("answer", ["a:b", ["a:b"], ("a:b", "c"), {"a:b", "c"}])
def test_every_form_of_computed_deps(answer: Any) -> None:
    """A `deps` callable may return one tag, a list, a tuple, a set."""
    run = Counted()

    @cacheable(deps=lambda: answer)
    def get() -> int:
        return run()

    assert (1, 1) == (get(), get())
    invalidate("a")
    assert 2 == get()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, InvalidDeps),
        (5, InvalidDeps),
        (["a::b"], InvalidTag),
        ([None], InvalidTag),
        ((t for t in "ab"), InvalidDeps),
    ],
)
def test_deps_that_return_nonsense(answer: Any, error: type[Exception]) -> None:
    """The error names the function; the flight has ended, so the next call works."""
    run, answers = Counted(), iter([answer, "fine"])

    @cacheable(deps=lambda: next(answers))
    def get_user() -> int:
        return run()

    with pytest.raises(error, match="get_user"):
        get_user()
    assert (1, 1) == (get_user(), get_user())


def test_deps_that_raise() -> None:
    """The error names the function and has the cause; the function did not run, and the next call works."""
    run, answers = Counted(), iter(["fine"])

    @cacheable(deps=lambda fail: 1 / 0 if fail else next(answers))
    def get_user(fail: bool) -> int:
        return run()

    with pytest.raises(DepsFailed, match=r"get_user.*ZeroDivisionError") as raised:
        get_user(True)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert 1 == get_user(False)


def test_deps_with_another_signature() -> None:
    """A `deps` callable that does not take the function's arguments is told so."""

    @cacheable(deps=lambda: ["a"])
    def get_user(user_id: int) -> int:
        return user_id

    with pytest.raises(DepsFailed, match=r"get_user.*arguments"):
        get_user(1)


def test_deps_that_need_the_result() -> None:
    """A `deps` callable that calls its own function is a recursion, and told so at once."""

    @cacheable(deps=lambda: [get()])
    def get() -> str:
        return "a"

    with pytest.raises((RecursiveFill, DepsFailed), match="RecursiveFill"):
        get()
