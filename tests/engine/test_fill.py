"""Fills: the chain of who computes for whom, and the tags that gather in it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import types
from typing import Any

import pytest

from tests.crowd import Runner
from tests.forks import Forks
from zoocache import InvalidDeps, InvalidTag, RecursiveFill, add_deps, cacheable, invalidate
from zoocache.engine import fill as fills
from zoocache.engine.fill import ACTIVE, Fill
from zoocache.flight import Flight


def begin(key: str, parent: Fill | None = None) -> tuple[Fill, Fill | None]:
    """A fill that is entered, and what `leave` must be given."""
    fill, outer = Fill(key, parent, Flight(key)), fills.inside()
    fills.enter(fill)
    return fill, outer


def test_entering_and_leaving() -> None:
    """The innermost fill is the current one; afterwards all is as it was."""
    assert None is fills.current()
    outer, before = begin("outer")
    inner, between = begin("inner", outer)
    assert (inner, {outer, inner}) == (fills.current(), ACTIVE)
    assert [inner, outer] == list(fills.chain(inner))
    fills.leave(inner, between)
    assert (outer, {outer}) == (fills.current(), ACTIVE)
    fills.leave(outer, before)
    assert (None, set()) == (fills.current(), ACTIVE)


def test_tags_go_to_the_parent() -> None:
    """At its end a fill gives its tags, in their order, to the one that called it, and to no other."""
    outer, before = begin("outer")
    add_deps(["o"])
    inner, between = begin("inner", outer)
    add_deps(["b", "a"])
    add_deps("b")
    assert ["o"] == list(outer.tags)
    fills.leave(inner, between)
    add_deps("z")
    assert ["o", "b", "a", "z"] == list(outer.tags)
    fills.leave(outer, before)


def test_a_parent_that_has_ended_takes_no_more() -> None:
    """A fill that outlives the one that called it (in a task) changes nothing there."""
    outer, before = begin("outer")
    inner, between = begin("inner", outer)
    fills.leave(outer, before)
    fills.enter(inner)
    add_deps("late")
    fills.leave(inner, between)
    assert {} == outer.tags
    fills.leave(outer, None)


def test_doubt_goes_to_the_parent() -> None:
    """What a doubtful fill is built into is doubtful too."""
    outer, before = begin("outer")
    inner, between = begin("inner", outer)
    fills.note(("a",), doubtful=True)
    assert (True, False) == (inner.doubtful, outer.doubtful)
    fills.leave(inner, between)
    assert (True, {"a": None}) == (outer.doubtful, outer.tags)
    fills.leave(outer, before)


def test_outside_there_is_nobody_to_note_for() -> None:
    """Without a fill, tags go nowhere, and are checked all the same."""
    fills.note(("a",))
    add_deps("a")
    with pytest.raises(InvalidTag):
        add_deps("a::b")
    with pytest.raises(InvalidDeps):
        add_deps(5)


def test_recursion_is_found_at_any_remove() -> None:
    """The key of any fill that has not ended is refused; another is not; one that has ended is not."""
    outer, before = begin("outer")
    inner, between = begin("inner", outer)
    for key in ("outer", "inner"):
        with pytest.raises(RecursiveFill, match=f"{key}.*bypass"):
            fills.refuse_recursion(key, fills.current())
    fills.refuse_recursion("other", fills.current())
    fills.leave(inner, between)
    fills.refuse_recursion("inner", fills.current())
    fills.leave(outer, before)
    fills.refuse_recursion("outer", fills.current())


def test_threads_have_fills_of_their_own() -> None:
    """A new thread is in no fill; one that runs in a copy of the context is in the same."""
    fill, before = begin("here")
    assert None is Runner(fills.current).result()
    assert fill is Runner(contextvars.copy_context().run, fills.current).result()
    fills.leave(fill, before)


def test_tasks_inherit_the_fill() -> None:
    """A task is part of the fill in which it was started, for as long as that lasts."""

    async def main() -> tuple[bool, bool]:
        fill, before = begin("here")
        within = await asyncio.create_task(ask()) is fill
        late = asyncio.create_task(ask_later())
        await asyncio.sleep(0)
        fills.leave(fill, before)
        go_on.set()
        return within, await late is None

    async def ask() -> Fill | None:
        return fills.current()

    async def ask_later() -> Fill | None:
        await go_on.wait()
        return fills.current()

    go_on = asyncio.Event()
    assert (True, True) == asyncio.run(main())


def test_a_coroutine_that_is_collected_inside_another_fill() -> None:
    """A call that was thrown away half-way, and ends while something else is computed, takes that none of its tags."""

    @cacheable
    async def abandoned() -> None:
        await suspended()

    @types.coroutine
    def suspended() -> Any:
        yield

    @cacheable
    def get() -> int:
        half_way.pop().close()
        add_deps("late:x")
        runs.append(1)
        return len(runs)

    runs: list[int] = []
    half_way = [abandoned()]
    contextvars.copy_context().run(half_way[0].send, None)
    assert (1, None, set()) == (get(), fills.inside(), ACTIVE)
    invalidate("late")
    half_way.append(abandoned())
    assert 2 == get()


def test_leaving_in_another_context() -> None:
    """A fill may be left in another context than the one it was entered in, as a task that is collected late does."""
    fill, before = begin("here")
    contextvars.copy_context().run(fills.leave, fill, before)
    assert None is fills.current()
    fills.leave(fill, before)


# Forks.


def test_a_forked_child_is_in_no_fill(forks: Forks) -> None:
    """What its parent was computing is not under way in a child: no tags, no recursion, nothing active."""

    @cacheable
    def get(n: int) -> int:
        return n

    @cacheable
    def forking() -> int:
        return forks.fork(work).wait()

    def work() -> None:
        assert (None, set()) == (fills.current(), ACTIVE)
        assert (1, 1) == (get(1), get(1))
        assert 1 == get.info().hits
        assert -1 == cacheable(lambda: -1)()

    assert 0 == forking()
    assert set() == ACTIVE


def test_a_worker_that_was_forked_in_a_fill_may_compute_that_key(forks: Forks) -> None:
    """A pool that a cached function started lives on; a call of that same function in it later is no recursion."""
    pipe = os.pipe()

    @cacheable
    def forking(first: bool) -> int:
        if first:
            forks.fork(work)
        return 5

    def work() -> None:
        os.read(pipe[0], 1)
        assert 5 == forking(first=False)
        first = forking.key_for(first=True)
        fills.refuse_recursion(first, fills.current())

    assert 5 == forking(first=True)
    os.write(pipe[1], b"!")
    assert 0 == forks._all[0].wait()
    for end in pipe:
        os.close(end)


def test_what_a_child_brings_to_an_end_for_its_parent_is_not_kept(storage: str) -> None:
    """A child that comes back from a function that its parent called hands its value out, and keeps nothing of it."""
    parent = os.getpid()

    @cacheable
    def forking() -> str:
        child = os.fork()
        if not child:
            add_deps("lost:tag")
            return "of the child"
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return "of the parent"

    value = forking()
    if os.getpid() != parent:
        kept = forking.info().entries
        os._exit(0 if (value, kept) == ("of the child", 0) else 1)
    assert ("of the parent", "of the parent") == (value, forking())
