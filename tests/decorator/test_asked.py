"""What a cached function is to others, and what there is to ask of it."""

from __future__ import annotations

import asyncio
import inspect
import os
import typing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import zoocache
from tests.children import DEADLINE_S
from tests.decorator.counted import Counted
from zoocache import (
    RecursiveFill,
    cacheable,
    invalidate,
)

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
