"""The plain functions: what they refuse, and what they say. What they do is in `tests.contract`."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

import zoocache
from tests.children import Children
from tests.crowd import Gate, Runner
from zoocache import (
    AlreadyConfigured,
    ConfigError,
    InvalidDeps,
    InvalidTag,
    add_deps,
    cacheable,
    clear,
    configure,
    get_tag_version,
    invalidate,
    prune,
)
from zoocache._zoocache import Core
from zoocache.config import settings_from

BAD_TAGS: list[Any] = [
    "", ":", "a:", ":a", "a::b", "a b", "a\n", "\na", "ä", "a/b", "a*", "x" * 257, ":".join("a" * 17), None, 5, b"a",
    ["a"], ("a",), 1.5, "a\x00", "\ud800", "a:b\u200b",
]  # fmt: skip


@pytest.mark.parametrize("tag", BAD_TAGS, ids=ascii)
@pytest.mark.parametrize("function", [invalidate, add_deps, get_tag_version], ids=lambda f: f.__name__)
def test_bad_tags_are_refused_everywhere(function: Callable[[Any], Any], tag: Any) -> None:
    """Each function that takes a tag refuses what is none, with one of two errors that are also built-in ones."""
    if function is add_deps and isinstance(tag, list | tuple):
        tag = [*tag, "a::b"]
    with pytest.raises((InvalidTag, InvalidDeps)) as raised:
        function(tag)
    assert isinstance(raised.value, ValueError | TypeError)


@pytest.mark.parametrize("tag", ["a", "A-Z_0.9", "x" * 256, ":".join("a" * 16), "-", ".", "_", "0"], ids=ascii)
def test_good_tags_are_taken_everywhere(tag: str) -> None:
    """Each function that takes a tag takes every tag that keeps the rules."""
    before = get_tag_version(tag)
    invalidate(tag)
    add_deps(tag)
    assert before < get_tag_version(tag)


def test_the_error_has_the_tag_and_the_rule() -> None:
    """Who reads the message sees which tag it was, and what a tag may be."""
    with pytest.raises(InvalidTag, match=re.escape("'user 42'") + ".*ASCII letters"):
        invalidate("user 42")


def test_nothing_to_invalidate() -> None:
    """`invalidate()` without tags does nothing."""
    before = Core().seq()
    invalidate()
    asyncio.run(zoocache.invalidate_async())
    assert before == Core().seq()


def test_the_same_tag_twice() -> None:
    """Naming a tag twice, or beside its parent, is one invalidation."""
    before = Core().seq()
    invalidate("a:b", "a:b", "a")
    assert before + 1 == Core().seq()


def test_add_deps_outside_of_any_function() -> None:
    """Outside a cached function `add_deps` checks its tags and does nothing."""
    add_deps(["a", "b:c"])
    add_deps("a")
    add_deps([])
    with pytest.raises(InvalidDeps):
        add_deps(None)
    with pytest.raises(InvalidTag):
        add_deps(["fine", "a::b"])


def test_bad_late_tags_leave_the_good_ones() -> None:
    """A function that catches the error of `add_deps` keeps the tags it had, and gets none of the refused call."""
    runs = []

    @cacheable
    def get() -> int:
        runs.append(1)
        add_deps("good:x")
        with pytest.raises(InvalidTag):
            add_deps(["half:x", "a::b"])
        return len(runs)

    assert 1 == get()
    invalidate("half")
    assert 1 == get()
    invalidate("good")
    assert 2 == get()


def test_bad_late_tags_end_the_flight() -> None:
    """The error of `add_deps` reaches the caller, and the next call works."""
    tags = iter(["a::b", "a:b"])

    @cacheable
    def get() -> int:
        add_deps(next(tags))
        return 5

    with pytest.raises(InvalidTag):
        get()
    assert (5, 5) == (get(), get())


# Versions of tags.


def test_a_tags_version_is_that_of_what_last_reached_it() -> None:
    """It grows with the tag's own invalidations and those above it, and with no others."""
    first = get_tag_version("a:b")
    invalidate("a:b:c", "b", "a:bb")
    assert first == get_tag_version("a:b")
    invalidate("a")
    second = get_tag_version("a:b")
    assert first < second == get_tag_version("a") == get_tag_version("a:never:seen")
    invalidate("a:b")
    assert second < get_tag_version("a:b")
    assert second == get_tag_version("a")


def test_a_version_never_goes_back() -> None:
    """Neither `prune` nor `clear` makes a tag's version smaller."""
    invalidate("a:b")
    invalidate("c")
    before = get_tag_version("a:b")
    prune(0)
    after = get_tag_version("a:b")
    assert before <= after
    clear()
    assert after < get_tag_version("a:b")


def test_the_version_of_the_library() -> None:
    """`version()` is the version of the package."""
    assert zoocache.__version__ == zoocache.version()
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", zoocache.version())


# configure.


def test_configure_takes_what_the_settings_take() -> None:
    """Each option of the settings is an argument of `configure`; the first six in the order of the guide."""
    parameters = list(inspect.signature(configure).parameters)
    assert ["storage_url", "bus_url", "prefix", "default_ttl", "read_extend_ttl", "prune_after"] == parameters[:6]
    assert set(parameters) == set(settings_from()._fields)


def test_configure_twice_with_the_same_settings() -> None:
    """The same settings again are fine, also in other words, also after the first use."""
    configure(default_ttl=3600, storage_url=None)
    configure(default_ttl=3600.0)
    invalidate("a")
    configure(storage_url="memory://", default_ttl=3600)


def test_configure_twice_with_other_settings() -> None:
    """Other settings are an error that names the options, and the first ones stay."""
    configure(default_ttl=5)
    with pytest.raises(AlreadyConfigured, match="default_ttl, max_entries"):
        configure(default_ttl=6, max_entries=10)
    configure(default_ttl=5)


def test_the_error_keeps_values_to_itself(tmp_path: os.PathLike[str]) -> None:
    """The error about other settings names options, never values."""
    configure(storage_url="lmdb:///secret/place")
    with pytest.raises(AlreadyConfigured) as raised:
        configure(storage_url=f"lmdb://{tmp_path}")
    assert "secret" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


def test_configure_after_the_first_use() -> None:
    """The first use settles the defaults; other settings come too late, the defaults themselves do not."""
    invalidate("a")
    with pytest.raises(AlreadyConfigured, match="default_ttl"):
        configure(default_ttl=5)
    configure()


def test_a_refused_configure_settles_nothing() -> None:
    """After a wrong value another try is free."""
    with pytest.raises(ConfigError, match="default_ttl"):
        configure(default_ttl=-1, max_entries=5)
    configure(default_ttl=1)


def test_configure_after_reset(prefix: str) -> None:
    """`reset` makes way for other settings."""
    configure(default_ttl=5)
    zoocache.set("k", 1)
    zoocache.reset()
    configure(default_ttl=6)
    assert None is zoocache.get("k")


def test_decorating_and_asking_settles_nothing() -> None:
    """A decorator, `key_for`, `info` and `version` need no settings, so modules may be imported before `configure`."""

    @cacheable(deps="a", ttl=5)
    def get(x: int) -> int:
        return x

    get.key_for(1)
    get.info()
    get.bypass(1)
    add_deps("a")
    zoocache.version()
    configure(default_ttl=7)


def test_reset_forgets_what_this_process_knew() -> None:
    """Values, counters and settings are gone; functions work on."""
    runs = []

    @cacheable
    def get() -> int:
        runs.append(1)
        return len(runs)

    assert (1, 1) == (get(), get())
    zoocache.reset()
    assert (0, 0, 0, 0, 0) == get.info()
    assert 2 == get()
    assert (0, 1, 1, 0, 1) == get.info()
    zoocache.reset()
    zoocache.reset()


def test_reset_while_somebody_computes() -> None:
    """A call that was under way ends well; its value is not in the new cache."""
    gate, numbers = Gate(), iter(range(5))

    @cacheable
    def get() -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        return number

    leader = Runner(get)
    gate.wait_inside()
    zoocache.reset()
    gate.open()
    assert 0 == leader.result()
    assert (1, 1) == (get(), get())


def test_reset_leaves_other_processes_and_the_host_alone(children: Children) -> None:
    """What another process holds stays, and so does the host's memory of what was invalidated."""
    other = children.code("""
        import zoocache
        runs = []
        @zoocache.cacheable(deps="a")
        def get():
            runs.append(1)
            return len(runs)
        while True:
            print(get(), flush=True)
            input()
    """)
    assert "1" == other.line()
    invalidate("a")
    version = get_tag_version("a")
    zoocache.reset()
    assert version == get_tag_version("a")
    other.say()
    assert "2" == other.line()
    zoocache.reset()
    other.say()
    assert "2" == other.line()


# The face of the package.


def test_every_public_name_is_there_and_documented() -> None:
    """Each public name exists, and everything that can be called says what it does."""
    for name in [*zoocache.__all__, "set"]:
        thing = getattr(zoocache, name)
        if callable(thing):
            assert inspect.getdoc(thing), name


def test_a_star_covers_no_builtin() -> None:
    """`from zoocache import *` leaves what Python itself has under its name."""
    assert set() == set(zoocache.__all__) & set(dir(builtins))


@pytest.mark.parametrize("name", [name for name in zoocache.__all__ if inspect.isclass(getattr(zoocache, name))])
def test_every_error_is_of_the_family_and_of_a_built_in_kind(name: str) -> None:
    """`except ZooCacheError` catches them all, and so does the built-in that fits."""
    thing = getattr(zoocache, name)
    if issubclass(thing, BaseException) and thing is not zoocache.ZooCacheError:
        assert issubclass(thing, zoocache.ZooCacheError)
        assert issubclass(thing, ValueError | TypeError | RuntimeError | OSError)
