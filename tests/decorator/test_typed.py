"""What type checkers see of a cached function; values that callers share."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.children import ROOT
from zoocache import NotCacheable, cacheable, invalidate

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

MYPY_S = 300.0
"""Without a cache it takes ten seconds of a processor, which others may want, too."""

REVEALED = ["list[int]", "str", "str", "list[int]", "list[int]", "bool", "int", "bytes", "bytes", "float"]


@pytest.mark.timeout(2 * MYPY_S)
def test_types_go_through_the_decorator(tmp_path: Path) -> None:
    """With mypy --strict, parameters and results of a decorated function are known, and each wrong call is found."""
    sample = tmp_path / "sample.py"
    sample.write_text(textwrap.dedent(SAMPLE))
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--disable-error-code=empty-body"]
    command += ["--config-file=", f"--cache-dir={ROOT / '.mypy_cache' / 'sample'}", str(sample)]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=MYPY_S).stdout
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


def test_tags_that_a_closure_tells_are_its_own() -> None:
    """Functions whose `deps` close over different things share nothing, though that was set after the decoration, or
    after the first call."""
    truth = [1]

    def load(number: int) -> int:
        return number + truth[0]

    def make(tag: str) -> tuple[Any, Any]:
        held = "early"
        get = cacheable(deps=lambda _number: [held])(load)

        def set_anew(tag: str) -> None:
            nonlocal held
            held = tag

        set_anew(tag)
        return get, set_anew

    (first, move), (second, _), (third, _) = make("a"), make("a"), make("b")
    assert first.key_for(0) == second.key_for(0) != third.key_for(0)
    assert [2, 2, 2] == [get(1) for get in (first, second, third)]
    move("b")
    assert first.key_for(0) == first.key_for(0) != second.key_for(0)
    assert 3 == first(2)  # depends on b, and the second knows nothing of it
    truth[0] = 2
    invalidate("a")
    assert [3, 3, 2] == [first(2), second(1), third(1)]


def test_a_closure_that_tells_tags_of_several_functions() -> None:
    """What it held when the tags of another function were told is no part of this one's key."""

    def make(late: str) -> Any:
        held = "early"

        def tell() -> list[str]:
            return [held]

        @cacheable(deps=tell)
        def first() -> None:
            """Nothing."""

        @cacheable(deps=tell)
        def second() -> None:
            """Nothing."""

        first.key_for()
        held = late
        return second

    early, one, other = make("early"), make("late"), make("late")
    assert one.key_for() == other.key_for() != early.key_for()


def test_a_closure_within_a_closure_is_watched() -> None:
    """What a function holds that is inside another is no less a part of it, wherever it stands there."""

    def make(wrap: Callable[..., Any]) -> tuple[Any, Callable[[str], None]]:
        held = "early"

        def inner() -> list[str]:
            return [held]

        def set_anew(to: str) -> None:
            nonlocal held
            held = to

        @cacheable(deps=wrap(inner))
        def get() -> None:
            """Nothing."""

        return get, set_anew

    def in_cell(inner: Any) -> Any:
        return lambda: [*inner()]

    def in_default(inner: Any) -> Any:
        return lambda inner=inner: inner()

    def in_tuple(inner: Any) -> Any:
        both = (inner, inner)
        return lambda: [*both[0]()]

    for wrap in (in_cell, in_default, in_tuple):
        (one, move), (other, _) = make(wrap), make(wrap)
        assert one.key_for() == other.key_for()
        move("late")
        assert one.key_for() != other.key_for()


def test_a_function_among_its_own_defaults_comes_to_an_end() -> None:
    """What tells the tags may lead back to itself."""

    def tell(other: Any = None) -> str:
        return "a" if other is tell else "b"

    tell.__defaults__ = (tell,)
    get = cacheable(deps=tell)(lambda: 1)
    assert (1, get.key_for()) == (get(), get.key_for())


def test_what_has_no_name_is_refused_at_once() -> None:
    """A partial is turned away by the decorator, not by the first call, though a closure tells its tags."""
    tag = "a"
    with pytest.raises(NotCacheable, match="partial"):
        cacheable(deps=lambda: [tag])(functools.partial(int, "5"))


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
