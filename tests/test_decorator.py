"""`cacheable`, as someone uses it who wants to break it."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import itertools
import math
import operator
import os
import subprocess
import sys
import textwrap
import typing
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.children import DEADLINE_S, ROOT
from zoocache import (
    ConfigError,
    DepsFailed,
    InvalidDeps,
    InvalidTag,
    NotCacheable,
    RecursiveFill,
    UnkeepableResult,
    UnkeyableArgument,
    cacheable,
    invalidate,
)


class Counted:
    """A function that counts its runs: `counted(7)` is always another number."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        return self.runs


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


def test_versions_are_apart() -> None:
    """Results of another version of a function are never seen; 1 and "1" are two versions."""
    run = Counted()

    def get() -> int:
        return run()

    variants = [cacheable(version=version)(get) for version in (None, 1, "1", 2)]
    assert [1, 2, 3, 4] == [variant() for variant in variants]
    assert 1 == cacheable(get)()


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


# Arguments.


def test_an_argument_without_a_key_is_named() -> None:
    """The error names the function, the argument, and where in it the trouble is."""

    @cacheable
    def search(text: str, *words: Any, limits: Any = None, **more: Any) -> None: ...

    with pytest.raises(UnkeyableArgument, match=r"search.*'text'.*\(object\)"):
        search(object())  # type: ignore[arg-type]
    with pytest.raises(UnkeyableArgument, match=r"search.*'words'\[1\]"):
        search("a", 1, object())
    with pytest.raises(UnkeyableArgument, match=r'search.*\'limits\'\["a"\]\[1\]'):
        search("a", limits={"a": [1, object()]})
    with pytest.raises(UnkeyableArgument, match=r'search.*\'more\'\["x"\]'):
        search("a", x=object())


def test_a_call_with_an_argument_without_a_key_runs_nothing() -> None:
    """The function does not run, and calls with other arguments work."""
    run = Counted()

    @cacheable
    def get(thing: Any) -> int:
        return run()

    with pytest.raises(UnkeyableArgument):
        get(lambda: run)
    assert 0 == run.runs
    assert 1 == get("fine")


# Methods.


def test_methods_know_their_instance() -> None:
    """Two instances without a value of their own never share; one instance has its entries."""

    class Repository:
        def __init__(self, name: str) -> None:
            self.name, self.runs = name, 0

        @cacheable
        def load(self, key: int) -> tuple[str, int, int]:
            self.runs += 1
            return self.name, key, self.runs

    one, two = Repository("one"), Repository("two")
    assert (("one", 1, 1), ("one", 1, 1)) == (one.load(1), one.load(key=1))
    assert ("two", 1, 1) == two.load(1)
    assert ("one", 1, 1) == Repository.load(one, 1)


def test_an_instance_that_is_gone_is_not_taken_for_another() -> None:
    """An instance at the address of a dead one does not get its entries."""

    class Service:
        def __init__(self, number: int) -> None:
            self.number = number

        @cacheable
        def tell(self) -> int:
            return self.number

    assert list(range(50)) == [Service(number).tell() for number in range(50)]


def test_the_cache_keeps_no_instance_alive() -> None:
    """A method's entries refer to its result, not to `self`."""

    class Service:
        @cacheable
        def tell(self) -> int:
            return 5

    service = Service()
    service.tell()
    service.tell()
    gone = weakref.ref(service)
    del service
    gc.collect()
    assert gone() is None


@dataclass(frozen=True)
class Point:
    """Has a value, so equal ones share."""

    x: int
    y: int = 0
    runs: list[int] = field(default_factory=list, compare=False)

    @cacheable
    def length(self) -> float:
        CALLS.append(self.x)
        return math.hypot(self.x, self.y)


CALLS: list[int] = []


def test_dataclasses_share_by_value() -> None:
    """Equal dataclass instances are one receiver; another value is another."""
    CALLS.clear()
    assert [5.0, 5.0, 13.0] == [Point(3, 4).length(), Point(3, 4).length(), Point(5, 12).length()]
    assert [3, 5] == CALLS


class Tenant:
    """Tells its own key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    @cacheable
    def plan(self) -> str:
        CALLS.append(1)
        return f"plan of {self.name}"


def test_an_object_with_a_cache_key_shares_by_it() -> None:
    """`__cache_key__` decides who is the same receiver; as an argument too."""
    CALLS.clear()

    @cacheable
    def bill(tenant: Tenant) -> str:
        CALLS.append(2)
        return f"bill for {tenant.name}"

    assert ["plan of a", "plan of a", "plan of b"] == [Tenant(name).plan() for name in "aab"]
    assert ["bill for a", "bill for a", "bill for b"] == [bill(Tenant(name)) for name in "aab"]
    assert [1, 1, 2, 2] == CALLS


class Color(Enum):
    """Members are receivers by name."""

    RED = 1
    BLUE = 2

    @cacheable
    def wave(self) -> tuple[str, int]:
        return self.name, self.value


def test_enum_members_are_receivers() -> None:
    """Each member has its own entries."""
    assert [("RED", 1), ("BLUE", 2), ("RED", 1)] == [Color.RED.wave(), Color.BLUE.wave(), Color.RED.wave()]


class Base:
    """A classmethod, a staticmethod, a property."""

    tag = "base"

    @classmethod
    @cacheable
    def create(cls, n: int) -> tuple[str, int]:
        return cls.tag, n

    @staticmethod
    @cacheable
    def add(a: int, b: int = 1) -> int:
        CALLS.append(a)
        return a + b

    @property
    @cacheable
    def answer(self) -> int:
        CALLS.append(42)
        return 42


class Derived(Base):
    """Inherits them all."""

    tag = "derived"


def test_classmethods_staticmethods_and_properties() -> None:
    """Each works when `cacheable` stands below it; a class method knows its class."""
    CALLS.clear()
    assert [("base", 1), ("derived", 1), ("base", 1)] == [Base.create(1), Derived.create(1), Base().create(1)]
    assert (3, 3, 3) == (Base.add(2), Base().add(2, 1), Derived.add(a=2))
    base = Base()
    assert (42, 42) == (base.answer, base.answer)
    assert [2, 42] == CALLS


def test_super_and_overriding() -> None:
    """A method and the one that overrides it have keys of their own."""

    class Parent:
        @cacheable
        def who(self) -> str:
            return "parent"

    class Child(Parent):
        @cacheable
        def who(self) -> str:
            return f"child of {super().who()}"

    child = Child()
    assert ("child of parent", "child of parent", "parent") == (child.who(), child.who(), Parent.who(child))


class Slotted:
    """Cannot be weakly referenced, and has no value."""

    __slots__ = ()

    @cacheable
    def tell(self) -> int:
        return 1


def test_a_receiver_that_cannot_be_told_is_named() -> None:
    """The error names the method, `self`, and the ways out."""
    with pytest.raises(UnkeyableArgument, match=r"Slotted\.tell.*'self'.*__cache_key__"):
        Slotted().tell()


def test_a_plain_function_whose_parameter_is_called_self() -> None:
    """Outside a class `self` is an argument like any other."""

    @cacheable
    def describe(self: Any) -> str:
        return repr(self)

    assert ("1", "'1'", "True", "1") == (describe(1), describe("1"), describe(True), describe(1))


def test_async_methods() -> None:
    """Coroutine methods work like methods."""

    class Client:
        runs = 0

        @cacheable
        async def fetch(self, key: int) -> int:
            type(self).runs += 1
            await asyncio.sleep(0)
            return key

    async def main() -> list[int]:
        client = Client()
        return [await client.fetch(1), await client.fetch(key=1), await Client().fetch(1)]

    assert [1, 1, 1] == asyncio.run(main())
    assert 2 == Client.runs


# What a decorated function is to others.


def documented(a: int, /, b: str = "x", *, c: float = 1.5) -> dict[str, int]:
    """Says what it does."""
    return {b: a}


cached = cacheable(documented)


def test_it_looks_like_the_function() -> None:
    """Name, documentation, module, annotations, signature and attributes are the function's."""
    assert inspect.signature(documented) == inspect.signature(cached)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(documented, name) == getattr(cached, name)
    assert documented is cached.__wrapped__
    assert typing.get_type_hints(documented) == typing.get_type_hints(cached)
    assert inspect.getsource(documented) == inspect.getsource(cached)  # type: ignore[arg-type]


def test_a_coroutine_function_stays_one() -> None:
    """`inspect.iscoroutinefunction` says of the decorated function what it says of the function."""

    @cacheable
    async def fetch() -> None: ...

    assert inspect.iscoroutinefunction(fetch)
    assert not inspect.iscoroutinefunction(cached)


def test_attributes_of_the_function_stay() -> None:
    """What others hung on the function is still there."""

    def get() -> None: ...

    get.marked = "yes"  # type: ignore[attr-defined]
    assert "yes" == cacheable(get).marked  # type: ignore[attr-defined]


@cacheable
def doubled(n: int) -> tuple[int, int]:
    """For pools."""
    return 2 * n, os.getpid()


def test_pools_find_it_by_its_name() -> None:
    """A decorated function of a module can be sent to a pool of processes."""
    with ProcessPoolExecutor(1) as pool:
        results = list(pool.map(doubled, [1, 2, 1]))
    assert [2, 4, 2] == [number for number, _ in results]
    assert os.getpid() not in {pid for _, pid in results}


def test_a_wrong_call_is_the_functions_own_type_error() -> None:
    """Too few, too many, unknown arguments: a TypeError that names the function, from every way to call it."""
    for call in (cached, cached.key_for, cached.refresh, cached.invalidate_call):
        with pytest.raises(TypeError, match="documented"):
            call()  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="documented"):
            call(1, "b", 2.0)  # type: ignore[misc]
        with pytest.raises(TypeError, match="documented"):
            call(1, d=5)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="documented"):
            call(a=1)  # type: ignore[call-arg]


# What there is to ask of it.


def test_key_for_is_the_key_of_get_and_delete() -> None:
    """The key of a call leads to its value, in whatever form the call is written."""
    run = Counted()

    @cacheable
    def get(a: int, b: int = 2) -> int:
        return run()

    key = get.key_for(1)
    assert key == get.key_for(a=1) == get.key_for(1, b=2) != get.key_for(1, 3)
    assert "nothing" == zoocache.get(key, "nothing")
    assert 1 == get(1)
    assert 1 == zoocache.get(key)
    assert zoocache.delete(key)
    assert not zoocache.delete(key)
    assert 2 == get(1)


def test_refresh_computes_now() -> None:
    """`refresh` runs the function whatever is kept, and what it returned is there afterwards."""
    run = Counted()

    @cacheable
    def get() -> int:
        return run()

    assert (1, 1, 2, 2, 2) == (get(), get(), get.refresh(), get(), get())


def test_refresh_that_raises_leaves_all_as_it_was() -> None:
    """If the function raises, so does `refresh`, and the old value stays."""
    down = []

    @cacheable
    def get() -> str:
        if down:
            raise LookupError("down")
        return "old"

    assert "old" == get()
    down.append("now")
    with pytest.raises(LookupError, match="down"):
        get.refresh()
    assert "old" == get()


def test_refresh_of_a_coroutine() -> None:
    """The same, awaited."""
    run = Counted()

    @cacheable
    async def get() -> int:
        return run()

    async def main() -> list[int]:
        return [await get(), await get.refresh(), await get()]

    assert [1, 2, 2] == asyncio.run(main())


def test_a_refresh_that_is_overtaken_is_not_kept() -> None:
    """An invalidation while `refresh` computes is not lost: neither the new value nor the old one is handed out."""
    run, overtake = Counted(), False

    @cacheable(deps="a:b")
    def get() -> int:
        if overtake:
            invalidate("a")
        return run()

    assert 1 == get()
    overtake = True
    assert 2 == get.refresh()
    overtake = False
    assert 3 == get()


def test_two_refreshes_at_once_leave_nothing() -> None:
    """Of two refreshes at once nobody knows which saw the newer truth: the next call computes, and that is kept."""
    run, other = Counted(), False

    @cacheable
    def get(text: str) -> int:
        if other:
            pool.submit(refresh_too).result(DEADLINE_S)
        return run()

    def refresh_too() -> int:
        nonlocal other
        other = False
        return get.refresh("a")

    with ThreadPoolExecutor(1) as pool:
        assert 1 == get("a")
        other = True
        assert 3 == get.refresh("a")
    assert (4, 4) == (get("a"), get("a"))


def test_refresh_inside_itself_is_a_recursion() -> None:
    """A function that refreshes itself is told so at once."""

    @cacheable
    def get() -> int:
        return get.refresh()

    with pytest.raises(RecursiveFill):
        get()
    with pytest.raises(RecursiveFill):
        get.refresh()


def test_bypass_knows_no_cache() -> None:
    """`bypass` calls the function: nothing is read, nothing is kept."""
    run = Counted()

    @cacheable
    def get() -> int:
        return run()

    assert (1, 2, 2, 3, 2) == (get.bypass(), get(), get(), get.bypass(), get())


def test_invalidate_call_drops_one_entry() -> None:
    """Exactly one entry goes; it says whether one was there."""
    run = Counted()

    @cacheable
    def get(a: int) -> int:
        return run()

    assert (1, 2) == (get(1), get(2))
    assert get.invalidate_call(a=1)
    assert not get.invalidate_call(1)
    assert (3, 2) == (get(1), get(2))


def test_info_counts_what_happened() -> None:
    """Hits, misses, fills and failures of this function, and the live entries."""

    @cacheable
    def get(a: int) -> int:
        return 10 // a

    for a in (1, 2, 1, 1):
        get(a)
    with pytest.raises(ZeroDivisionError):
        get(0)
    assert (2, 3, 3, 1) == get.info()[:4]
    assert 2 == get.info().entries


def test_info_of_many_hits_is_exact() -> None:
    """No hit is lost over many rounds of the fast path."""

    @cacheable
    def get(a: int) -> int:
        return a

    for _ in range(1001):
        get(1)
    assert (1000, 1) == get.info()[:2]


# Sharing.


def test_in_memory_the_object_itself_is_kept() -> None:
    """In memory all callers get the object that the function returned, as with `functools.lru_cache`."""

    @cacheable
    def get() -> list[int]:
        return [1]

    assert get() is get()


# Typing.

SAMPLE = """
from zoocache import CallInfo, cacheable

@cacheable
def bare(a: int, *, b: str = "") -> list[int]: ...

@cacheable("api", deps=lambda a: [f"x:{a}"], ttl=1.5)
def called(a: int) -> str: ...

@cacheable(deps=["x"])
async def fetch(a: int) -> bytes: ...

class Repository:
    @cacheable
    def load(self, key: int) -> float: ...

reveal_type(bare(1, b="x"))
reveal_type(called(1))
reveal_type(bare.key_for(1))
reveal_type(bare.refresh(1, b=""))
reveal_type(bare.bypass(1))
reveal_type(called.invalidate_call(1))
reveal_type(bare.info().hits)
async def main() -> None:
    reveal_type(await fetch(1))
    reveal_type(await fetch.refresh(1))
reveal_type(Repository().load(1))
bare("wrong")
bare(1, 2)
called()
called.key_for("wrong")
fetch.refresh()
"""

REVEALED = ["list[int]", "str", "str", "list[int]", "list[int]", "bool", "int", "bytes", "bytes", "float"]


def test_types_go_through_the_decorator(tmp_path: Path) -> None:
    """With mypy --strict, parameters and results of a decorated function are known, and each wrong call is found."""
    sample = tmp_path / "sample.py"
    sample.write_text(textwrap.dedent(SAMPLE))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--disable-error-code=empty-body"]
    command += ["--config-file=", f"--cache-dir={ROOT / '.mypy_cache' / 'sample'}", str(sample)]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100).stdout
    revealed = [line.partition("Revealed type is ")[2].strip('"') for line in lines.splitlines() if "Revealed" in line]
    wrong = [int(line.split(":")[1]) for line in lines.splitlines() if ": error:" in line]
    assert REVEALED == [name.replace("builtins.", "") for name in revealed], lines
    first = SAMPLE.splitlines().index('bare("wrong")') + 1
    assert list(range(first, first + 5)) == sorted(set(wrong)), lines


def test_two_decorations_of_one_function_are_two() -> None:
    """Other tags or another age make other entries: those of the first are not reached by the tags of the second."""
    values = ["old"]

    def make(deps: Any, ttl: float | None = None) -> Any:
        @cacheable(deps=deps, ttl=ttl)
        def get() -> str:
            return values[0]

        return get

    made = [make("a"), make("b"), make(lambda: "c"), make(lambda: "d"), make(None), make(None, ttl=60)]
    assert ["old"] * 6 == [get() for get in made]
    assert 6 == len({get.key_for() for get in made})
    values[0] = "new"
    invalidate("b", "d")
    assert ["old", "new", "old", "new", "old", "old"] == [get() for get in made]


def test_a_closure_is_what_it_holds_at_its_first_call() -> None:
    """What the function around it sets after the decoration tells two closures apart."""

    def make(final: int) -> Any:
        held = 0

        @cacheable
        def get() -> int:
            return held

        held = final
        return get

    first, second, third = make(1), make(2), make(2)
    assert (1, 2, 2) == (first(), second(), third())
    assert second.key_for() == third.key_for() != first.key_for()


def test_a_closure_that_is_set_anew_is_nobody_elses() -> None:
    """What it computes from then on is not what others with its old contents get."""

    def make() -> tuple[Any, Any]:
        held = 1

        @cacheable
        def get(_number: int) -> int:
            return held

        def set_anew() -> None:
            nonlocal held
            held = 2

        return get, set_anew

    (first, move), (second, _) = make(), make()
    assert (1, 1) == (first(0), second(0))
    move()
    assert (2, 1) == (first(1), second(1))
    assert first.key_for(0) == first.key_for(0) != second.key_for(0)


def test_a_function_that_counts_for_itself_is_nobody_elses() -> None:
    """Closures that set what they hold by `nonlocal` share nothing."""

    def make() -> Any:
        count = 0

        @cacheable
        def get(_number: int) -> int:
            nonlocal count
            count += 1
            return count

        return get

    first, second = make(), make()
    assert (1, 2, 1) == (first(1), first(2), second(2))
