"""`cacheable` above a function: how it is written there, and what can stand below it."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import zoocache
from tests.decorator.counted import Counted
from zoocache import (
    ConfigError,
    InvalidDeps,
    InvalidTag,
    NotCacheable,
    UnkeepableResult,
    cacheable,
    invalidate,
)

# How it is written above a function.


def test_bare_and_with_empty_parentheses() -> None:
    """`@cacheable` and `@cacheable()` do the same."""
    run = Counted()

    @cacheable
    def bare() -> int:
        return run()

    @cacheable()
    def called() -> int:
        return run()

    assert (1, 1, 2, 2) == (bare(), bare(), called(), called())


def test_the_positions_of_the_guide() -> None:
    """`namespace`, `deps` and `ttl` may be given by position, in this order."""
    run = Counted()

    @cacheable("api", ["data"], 1000)
    def get() -> int:
        return run()

    assert (1, 1) == (get(), get())
    invalidate("data")
    assert 2 == get()
    assert get.key_for().startswith("api|")


def test_everything_beyond_ttl_is_by_keyword() -> None:
    """`max_age`, `version` and `share` cannot be given by position, so that their order may change."""
    with pytest.raises(TypeError):
        cacheable("api", None, None, 5)  # type: ignore[call-overload]


@pytest.mark.parametrize("deps", ["one:a", ["one:a", "two"], ("one:a",), {"one:a", "two"}, frozenset({"one:a"})])
def test_every_form_of_static_deps(deps: Any) -> None:
    """One tag, a list, a tuple, a set: each kills."""
    run = Counted()

    @cacheable(deps=deps)
    def get() -> int:
        return run()

    assert (1, 1) == (get(), get())
    invalidate("one")
    assert 2 == get()


@pytest.mark.parametrize("deps", [[], (), set(), None])
def test_no_deps_at_all(deps: Any) -> None:
    """Without tags an entry lives until its ttl, `clear` or `invalidate_call`."""
    run = Counted()

    @cacheable(deps=deps)
    def get() -> int:
        return run()

    assert (1, 1) == (get(), get())
    zoocache.clear()
    assert 2 == get()


@pytest.mark.parametrize(
    ("deps", "error"),
    [
        ("a::b", InvalidTag),
        (["fine", ""], InvalidTag),
        (["fine", 5], InvalidTag),
        ("tag with spaces", InvalidTag),
        ("x" * 257, InvalidTag),
        (":".join("abcdefghijklmnopq"), InvalidTag),
        (5, InvalidDeps),
        (b"bytes", InvalidDeps),
        ({"a": 1}, InvalidDeps),
        ((tag for tag in ("a", "b")), InvalidDeps),
    ],
)
def test_static_deps_are_checked_when_the_decorator_runs(deps: Any, error: type[Exception]) -> None:
    """A tag that breaks the rules is an error before the function is even decorated."""
    with pytest.raises(error):
        cacheable(deps=deps)


@pytest.mark.parametrize("option", ["ttl", "max_age"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "5", 1e300, 10**400, "1"])
def test_a_life_that_is_no_duration(option: str, value: Any) -> None:
    """A ttl or an age limit that is no positive number of seconds is an error at once, which names the option."""
    with pytest.raises(ConfigError, match=option):
        cacheable(**{option: value})


@pytest.mark.parametrize(
    ("options", "word"),
    [({"namespace": 5}, "namespace"), ({"version": 1.5}, "version"), ({"version": True}, "version")],
)
def test_other_options_of_a_wrong_type(options: dict[str, Any], word: str) -> None:
    """The error names the option."""
    with pytest.raises(NotCacheable, match=word):
        cacheable(**options)


# What can stand below it, and what cannot.


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> int:
    return 1


async def _async_generator() -> AsyncIterator[int]:
    yield 1


class _Callable:
    def __call__(self) -> int:
        return 1

    def method(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("thing", "word"),
    [
        (_generator, "generator"),
        (_async_generator, "generator"),
        (_Callable, "class|type"),
        (_Callable(), "function"),
        (_Callable().method, "function"),
        (functools.partial(max, 1), "function"),
        (classmethod(lambda cls: 1), "classmethod above"),
        (staticmethod(lambda: 1), "staticmethod above"),
        (property(lambda self: 1), "property above"),
        (operator.itemgetter(1), "function"),
    ],
)
def test_what_cannot_be_cached_says_why(thing: Any, word: str) -> None:
    """Everything that is no function is refused when the decorator runs, with the way out."""
    with pytest.raises(NotCacheable, match=word):
        cacheable()(thing)


def test_builtins_can_be_cached() -> None:
    """A builtin is a function with a name, with a signature (`math.gcd`, `len`) or without one (`max`)."""
    length, greatest, divisor = cacheable(len), cacheable(max), cacheable(math.gcd)
    assert (3, 3) == (length("abc"), length("abc"))
    assert (5, 5) == (greatest(1, 5), greatest(1, 5))
    assert (4, 4) == (divisor(8, 12), divisor(8, 12))
    assert 1 == length.info().hits == greatest.info().hits == divisor.info().hits


def test_a_lambda_can_be_cached() -> None:
    """A lambda is a function too."""
    run = Counted()
    get = cacheable(lambda x: (x, run()))
    assert ((5, 1), (5, 1), (6, 2)) == (get(5), get(5), get(6))


def test_decorated_twice() -> None:
    """Two layers are two entries of two keys, and the tags go through both."""
    run = Counted()

    @cacheable
    @cacheable(deps="a:b")
    def get() -> int:
        return run()

    assert (1, 1) == (get(), get())
    invalidate("a")
    assert 2 == get()


def test_another_decorator_below() -> None:
    """A function that somebody else wrapped is called the way the wrapper wants it."""

    def shout(fn: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> str:
            return fn(*args, **kwargs).upper()

        return wrapper

    @cacheable
    @shout
    def greet(name: str, greeting: str = "hello") -> str:
        return f"{greeting} {name}"

    assert ("HELLO BOB", "HELLO BOB") == (greet("bob"), greet("bob"))
    assert ("HI BOB", "HI BOB") == (greet("bob", greeting="hi"), greet("bob", "hi"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: (n for n in range(3)),
        lambda: map(str, range(3)),
        lambda: iter([1, 2]),
        lambda: zip([1], [2], strict=True),
        itertools.count,
        _generator,
        _async_generator,
        asyncio.Future,
        _coroutine,
    ],
)
def test_a_result_that_is_used_up_is_refused(make: Callable[[], Any], current_loop: None) -> None:
    """Generators, iterators and coroutines serve their first user only, so they are refused, by name."""

    @cacheable
    def fetch_rows() -> Any:
        return make()

    for _ in range(2):
        with pytest.raises(UnkeepableResult, match=r"fetch_rows.*result"):
            fetch_rows()


@pytest.fixture
def current_loop() -> Iterator[None]:
    """A loop for `asyncio.Future()` to belong to."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


# Namespaces and versions.


def test_namespaces_are_apart() -> None:
    """One function in two namespaces has two entries; no namespace is not the empty one's neighbour."""
    run = Counted()

    def get() -> int:
        return run()

    variants = [cacheable(namespace)(get) for namespace in (None, "", "a", "a|b", "a%7Cb")]
    assert [1, 2, 3, 4, 5] == [variant() for variant in variants]
    assert [1, 2, 3, 4, 5] == [variant() for variant in variants]


def test_a_namespace_is_no_part_of_a_path() -> None:
    """A function of a script whose path has a bar in it is not that of another script in a namespace."""

    def of(module: str, namespace: str | None) -> Any:
        def get() -> None:
            """Nothing."""

        get.__module__ = module
        return cacheable(namespace)(get)

    keys = {of(*where).key_for() for where in (("b", "a"), ("a|b", None), ("a%7Cb", None), ("a%257Cb", None))}
    assert 4 == len(keys)


def test_versions_are_apart() -> None:
    """Results of another version of a function are never seen; 1 and "1" are two versions."""
    run = Counted()

    def get() -> int:
        return run()

    variants = [cacheable(version=version)(get) for version in (None, 1, "1", 2)]
    assert [1, 2, 3, 4] == [variant() for variant in variants]
    assert 1 == cacheable(get)()
