"""The generated wrapper: binding, the fast path, and arguments that are out to confuse it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoocache
from zoocache import NotCacheable, cacheable
from zoocache.engine.live import LIVE
from zoocache.wrapper import make


def cached(source: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A function `f` of that text, and its cached twin; both return what they were called with."""
    scope: dict[str, Any] = {}
    exec(source, scope)  # noqa: S102  # a signature that was made up a moment ago
    return scope["f"], cacheable(scope["f"])


# Any signature, any call.

signatures = st.tuples(
    st.integers(0, 2), st.integers(0, 2), st.booleans(), st.integers(0, 2), st.booleans(), st.integers(0, 4)
)


def text_of(positional: int, either: int, rest: bool, keyword: int, more: bool, defaults: int) -> str:
    """The text of a function with so many parameters of each kind; the last `defaults` before `*` have one."""
    names = [f"p{n}" for n in range(positional)] + [f"e{n}" for n in range(either)]
    first = max(0, len(names) - defaults)
    parts = [f"{name}={n * 100}" if n >= first else name for n, name in enumerate(names)]
    if positional:
        parts.insert(positional, "/")
    if rest:
        parts.append("*rest")
    elif keyword:
        parts.append("*")
    parts += [f"k{n}={n * 1000}" if n < defaults else f"k{n}" for n in range(keyword)]
    if more:
        parts.append("**more")
    shown = [*names, *(["rest"] if rest else []), *(f"k{n}" for n in range(keyword))]
    result = f"({''.join(name + ', ' for name in shown)}{'sorted(more.items()), ' if more else ''})"
    return f"def f({', '.join(parts)}): return {result}"


calls = st.tuples(
    st.lists(st.sampled_from([0, 1, 1.0, True, "1", None]), max_size=5),
    st.dictionaries(
        st.sampled_from(["p0", "e0", "e1", "k0", "k1", "x", "y"]), st.sampled_from([0, 1, True]), max_size=4
    ),
)


def outcome(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a call returns, with types; or that it cannot be made."""
    try:
        return repr(function(*args, **kwargs))
    except TypeError:
        return "TypeError"


@settings(max_examples=150, deadline=None)
@given(signatures, st.lists(calls, min_size=1, max_size=6))
def test_every_call_of_every_signature(
    signature: tuple[int, int, bool, int, bool, int], many: list[tuple[list[Any], dict[str, Any]]]
) -> None:
    """Whatever the parameters and however they are given: the cached function returns what the plain one returns,
    again and again, and refuses what that refuses.
    """
    plain, twin = cached(text_of(*signature))
    for args, kwargs in many * 2:
        expected = outcome(plain, args, kwargs)
        assert expected == outcome(twin, args, kwargs) == outcome(twin, args, kwargs)


@settings(max_examples=100, deadline=None)
@given(signatures, st.lists(calls, min_size=2, max_size=2))
def test_one_key_if_and_only_if_the_same_arguments(
    signature: tuple[int, int, bool, int, bool, int], pair: list[tuple[list[Any], dict[str, Any]]]
) -> None:
    """Two calls have one key exactly if the function sees the same arguments, of the same types."""
    plain, twin = cached(text_of(*signature))
    seen = [outcome(plain, *call) for call in pair]
    if "TypeError" not in seen:
        keys = [twin.key_for(*args, **kwargs) for args, kwargs in pair]  # type: ignore[attr-defined]
        assert (seen[0] == seen[1]) == (keys[0] == keys[1])


@pytest.mark.parametrize(
    "name", ["table", "type", "entry", "self", "cls", "words", "seq", "value", "now", "miss", "again", "wrapper",
             "tuple", "map", "Exception", "fn", "deps", "key", "args", "kwargs", "left", "hits", "t0", "default_1",
             "ñ"],
)  # fmt: skip
def test_parameters_may_have_any_name(name: str) -> None:
    """A parameter may be called like anything that the wrapper uses itself."""
    _, twin = cached(f"def f({name}, other=2, *, third=3): return ({name}, other, third)")
    for _ in range(3):
        assert (1, 2, 3) == twin(1)
        assert (1, 5, 3) == twin(other=5, **{name: 1})


def test_only_one_prefix_is_taken() -> None:
    """A parameter with the prefix of the wrapper's own names is refused when the decorator runs."""
    with pytest.raises(NotCacheable, match="_zoo_"):
        cached("def f(_zoo_table): return 1")


def test_a_private_parameter_of_a_method() -> None:
    """A parameter with two underscores, which Python mangles inside a class, is bound like any other."""

    class Safe:
        @cacheable
        def open(self, __code: int = 5) -> int:  # noqa: PYI063  # not meant as positional-only
            return __code

    safe = Safe()
    assert (5, 5, 7, 7) == (safe.open(), safe.open(5), safe.open(7), safe.open(7))


# Values that Python takes for equal.

LIKE_ONE = [1, True, 1.0, "1", 1 + 0j, b"1", (1,), [1], frozenset({1})]


@pytest.mark.parametrize("order", [LIKE_ONE, LIKE_ONE[::-1], LIKE_ONE[4:] + LIKE_ONE[:4]], ids=["up", "down", "mixed"])
def test_equal_values_of_other_types_are_apart(order: list[Any]) -> None:
    """1, True, 1.0 and the like never get each other's values, in any order, first time or tenth."""

    @cacheable
    def show(value: Any) -> str:
        return repr(value)

    for value in order * 3:
        assert repr(value) == show(value)


@pytest.mark.parametrize("order", list(itertools.permutations([1, True, 1.0, "1"])), ids=repr)
def test_every_order_of_the_four(order: tuple[Any, ...]) -> None:
    """Also inside *args, beside others, and as keywords."""

    @cacheable
    def show(*args: Any, last: Any = None) -> str:
        return repr((args, last))

    for value in order * 2:
        assert repr(((0, value), None)) == show(0, value)
        assert repr(((), value)) == show(last=value)


def test_zeros_and_nan() -> None:
    """0.0 and -0.0 are two, nan is one, and neither confuses the fast path."""
    runs = []

    @cacheable
    def sign(value: float) -> float:
        runs.append(value)
        return math.copysign(1, value)

    for _ in range(3):
        assert (1.0, -1.0, 1.0, -1.0) == (sign(0.0), sign(-0.0), sign(0), sign(-5.0))
        sign(math.nan)
        sign(float("nan"))
    assert 5 == len(runs)


def test_subclasses_of_plain_types() -> None:
    """A str or int of a subclass is not the plain one."""

    class Name(str):
        __slots__ = ()

    class Number(int):
        pass

    @cacheable
    def kind(value: Any) -> str:
        return type(value).__name__

    for _ in range(2):
        assert "str" == kind("a")
        assert "int" == kind(5)
        for value in (Name("a"), Number(5)):
            with pytest.raises(zoocache.UnkeyableArgument):  # local classes have no name that others could find
                kind(value)


class Liar:
    """Equal to everything, with the hash of 1."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(1)

    def __cache_key__(self) -> str:
        return "liar"


class Bomb:
    """Cannot be compared or hashed."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("boom")

    def __hash__(self) -> int:
        return hash(1)

    def __cache_key__(self) -> str:
        return "bomb"


class Unhashable(Bomb):
    """Raises at once."""

    def __hash__(self) -> int:
        raise ValueError("no hash")


@pytest.mark.parametrize("value", [Liar(), Bomb(), Unhashable(), [1], {"a": 1}, {1, 2}], ids=lambda v: type(v).__name__)
def test_arguments_that_lie_about_themselves(value: Any) -> None:
    """An argument's own `==` and `hash` decide nothing."""

    @cacheable
    def kind(value: Any) -> str:
        return type(value).__name__

    for _ in range(2):
        assert "int" == kind(1)
        assert type(value).__name__ == kind(value)
        assert "int" == kind(1)


def test_mutable_arguments_are_taken_as_they_are_at_the_call() -> None:
    """A list that was changed since is another argument; so is a default that was changed."""

    @cacheable
    def total(numbers: list[int], extra: list[int] = []) -> int:  # noqa: B006  # the point
        return sum(numbers) + sum(extra)

    numbers = [1, 2]
    assert (3, 3) == (total(numbers), total(numbers))
    numbers.append(10)
    assert 13 == total(numbers)
    assert total.__wrapped__.__defaults__ is not None
    total.__wrapped__.__defaults__[0].append(100)
    assert 113 == total(numbers)


def test_the_order_of_keywords_does_not_matter() -> None:
    """Keywords are the same in any order, also those of **more."""

    @cacheable
    def pair(*, a: int, b: int, **more: int) -> int:
        runs.append(1)
        return a - b

    runs: list[int] = []
    assert (1, 1) == (pair(a=3, b=2), pair(b=2, a=3))
    assert (1, 1) == (pair(a=3, b=2, x=1, y=2), pair(y=2, b=2, x=1, a=3))
    assert 2 == len(runs)


def test_rest_and_more_do_not_run_together() -> None:
    """(1, 2) as two arguments is not (1, 2) as one; nor do names and values of **more mix."""

    @cacheable
    def show(*args: Any, **kwargs: Any) -> str:
        return repr((args, kwargs))

    cases: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1, 2), {}), (((1, 2),), {}), (([1, 2],), {}), ((), {"a": 1}), ((("a", 1),), {}), (({"a": 1},), {}),
        ((None,), {}), ((), {}), (((),), {}), (({},), {}), ((), {"args": 1}), ((), {"kwargs": {}}), ((), {"self": 1}),
    ]  # fmt: skip
    for args, kwargs in cases * 3:
        assert repr((args, kwargs)) == show(*args, **kwargs)


def test_a_thousand_parameters() -> None:
    """A very long signature works."""
    names = [f"a{n}" for n in range(300)]
    _, twin = cached(f"def f({', '.join(names)}): return a0 + a299")
    assert (299, 299) == (twin(*range(300)), twin(*range(300)))


# The fast path.


def test_plain_arguments_stand_in_the_front_table() -> None:
    """After a first call the second finds the entry without making a key."""
    table: dict[Any, list[Any]] = {}
    missed: list[tuple[Any, ...]] = []
    made = make(lambda a, b=2: None, None, table, lambda entry: True, missed.append, is_async=False)
    made.wrapper(1)
    assert [(1, 2)] == missed
    front = made.front((1, 2))
    assert ((1, 2), [int, int]) == front
    assert None is made.front((1, []))
    assert None is made.front((1, 0.0))


def test_what_the_wrapper_makes() -> None:
    """`bind` sorts arguments into values, `invoke` calls with values, `dependencies` too."""

    def plain(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> Any:
        return a, b, rest, c, more

    made = make(plain, lambda *a, **k: (a, k), {}, lambda entry: True, lambda values: values, is_async=False)
    values = made.bind(1, 2, 4, 5, d=6)
    assert (1, 2, (4, 5), 3, {"d": 6}) == values == made.wrapper(1, 2, 4, 5, d=6) == made.invoke(values)
    assert ((1, 2, 4, 5), {"c": 3, "d": 6}) == made.dependencies(values)
    assert ("a", "b", "rest", "c", "more") == made.names


def test_equal_fronts_of_two_types_take_turns() -> None:
    """Two entries that a dict cannot tell apart do not push each other out of the cache."""

    @cacheable
    def show(value: Any) -> str:
        runs.append(value)
        return repr(value)

    runs: list[Any] = []
    for _ in range(5):
        assert ("1", "True", "1.0") == (show(1), show(True), show(1.0))
    assert 3 == len(runs)


def test_an_entry_that_died_leaves_the_front() -> None:
    """What was dropped is in no wrapper's table, so that nothing of it is held."""
    from zoocache import runtime

    @cacheable(deps="a")
    def get(value: int) -> int:
        return value

    get(1)
    get(1)
    engine = runtime.engine()
    entry = engine.lives.get(get.key_for(1))
    assert entry is not None
    table, key = entry[LIVE].front
    assert entry is table[key]
    get.invalidate_call(1)
    assert {} == table


def test_a_change_of_the_host_is_seen_by_the_fast_path() -> None:
    """Between two hits of the fast path any other tag, or the own one, may be invalidated."""

    @cacheable(deps="mine:a")
    def get() -> int:
        runs.append(1)
        return len(runs)

    runs: list[int] = []
    for _ in range(300):
        assert 1 == get()
        zoocache.invalidate("other")
    zoocache.invalidate("mine")
    assert (2, 2) == (get(), get())
