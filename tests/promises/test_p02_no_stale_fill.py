"""P2: what an invalidation overtook while it was computed goes to its caller, is not kept, reaches no late follower."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

import zoocache
from tests.crowd import Gate, Runner, followers, followers_elsewhere, until
from tests.peers import Peer
from tests.promises import world
from zoocache import add_deps, cacheable, clear, invalidate, prune

WINDOWS: list[tuple[str, str, Any]] = [
    ("static", "a:b", "a:b"),
    ("static, from above", "a:b", "a"),
    ("callable", lambda _: ["a:b:c"], "a:b"),
    ("callable, itself", lambda _: ("x:y", "a:b:c"), "a:b:c"),
    ("late", None, "late:tag"),
    ("late, from above", None, "late"),
]


@pytest.mark.parametrize(("deps", "tag"), [window[1:] for window in WINDOWS], ids=[window[0] for window in WINDOWS])
def test_an_overtaken_value_is_not_kept(storage: str, deps: Any, tag: str) -> None:
    """Killed while it was computed, a value goes to its caller alone; the next call computes anew."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable(deps=deps)
    def compute(_: int) -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        add_deps(["late:tag"])
        return number

    leader = Runner(compute, 7)
    gate.wait_inside()
    invalidate(tag)
    gate.open()
    assert 0 == leader.result()
    assert (1, 1) == (compute(7), compute(7))


@pytest.mark.parametrize(("deps", "tag"), [window[1:] for window in WINDOWS], ids=[window[0] for window in WINDOWS])
def test_an_overtaken_value_of_a_task_is_not_kept(storage: str, deps: Any, tag: str) -> None:
    """The same for a coroutine function."""
    numbers = iter(range(10))

    @cacheable(deps=deps)
    async def compute(_: int) -> int:
        number = next(numbers)
        if number == 0:
            running.set()
            await overtaken.wait()
        add_deps("late:tag")
        return number

    async def main() -> tuple[int, int, int]:
        nonlocal running, overtaken
        running, overtaken = asyncio.Event(), asyncio.Event()
        leader = asyncio.create_task(compute(7))
        await running.wait()
        invalidate(tag)
        overtaken.set()
        return await leader, await compute(7), await compute(7)

    running: asyncio.Event
    overtaken: asyncio.Event
    assert (0, 1, 1) == asyncio.run(main())


@pytest.mark.parametrize(
    ("function", "thing", "tag"),
    [("thing", "a", "thing:a"), ("thing", "a", "thing"), ("late", "a", "late:a"), ("outer", "a", "thing")],
)
def test_another_process_overtakes_too(
    storage: str, peer: Callable[[], Peer], function: str, thing: str, tag: str
) -> None:
    """A value that another process killed while it was computed is not kept anywhere."""
    leader, other = peer(), peer()
    leader.call("close_gate", thing)
    leader.begin(function, thing)
    leader.wait_inside(thing)
    world.change(thing, 1)
    other.call("zoocache.invalidate", tag)
    leader.go_on()
    assert 0 == leader.result()
    leader.call("open_gate", thing)
    now = 10 if function == "outer" else 1
    assert (now, now) == (leader.call(function, thing), other.call(function, thing))


def test_a_function_that_kills_its_own_tag(storage: str) -> None:
    """A function that invalidates what it depends on is never kept, and never in its own way."""
    runs = []

    @cacheable(deps="self:made")
    def compute() -> int:
        runs.append(1)
        invalidate("self:made")
        return len(runs)

    assert (1, 2, 3) == (compute(), compute(), compute())


def test_an_invalidation_before_the_tag_was_added(storage: str) -> None:
    """A tag that is added after its invalidation, but by a fill that began before it, counts as overtaken."""
    runs = []

    @cacheable
    def compute() -> int:
        runs.append(1)
        invalidate("news:late")
        add_deps("news:late")
        return len(runs)

    assert (1, 2) == (compute(), compute())


def test_an_invalidation_of_another_tag_overtakes_nothing(storage: str) -> None:
    """A fill during which something else was killed is kept."""
    runs = []

    @cacheable(deps="mine:only")
    def compute() -> int:
        runs.append(1)
        invalidate("other", "mine:only:below", "mine:other")
        return len(runs)

    assert (1, 1) == (compute(), compute())


@pytest.mark.parametrize("act", [lambda key: clear(), zoocache.delete], ids=["clear", "delete"])
def test_clear_and_delete_overtake_too(storage: str, act: Callable[[str], object]) -> None:
    """A fill that was under way when everything, or its own key, was dropped is not kept."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable
    def compute() -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        return number

    leader = Runner(compute)
    gate.wait_inside()
    act(compute.key_for())
    gate.open()
    assert (0, 1, 1) == (leader.result(), compute(), compute())


def test_a_prune_loses_no_invalidation(storage: str) -> None:
    """An invalidation whose node was pruned while a fill was under way still overtakes that fill."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable(deps="a:b")
    def compute() -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        return number

    leader = Runner(compute)
    gate.wait_inside()
    invalidate("a")
    prune(0)
    gate.open()
    assert (0, 1) == (leader.result(), compute())


def test_a_value_set_by_hand_wins_over_a_fill_under_way(storage: str) -> None:
    """What was `set` while a function computed the same key stays; the fill's value goes to its caller alone."""
    gate = Gate()

    @cacheable
    def compute() -> str:
        gate.stop()
        return "computed"

    leader = Runner(compute)
    gate.wait_inside()
    zoocache.set(compute.key_for(), "set")
    gate.open()
    assert ("computed", "set") == (leader.result(), compute())


def test_a_late_follower_tries_again(storage: str) -> None:
    """A thread that joined the flight after the invalidation never gets the flight's value."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable(deps="a:b")
    def compute() -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        return number

    leader = Runner(compute)
    gate.wait_inside()
    invalidate("a")
    late = [Runner(compute) for _ in range(5)]
    until(lambda: followers() == 5)
    gate.open()
    assert 0 == leader.result()
    assert [1] * 5 == [follower.result() for follower in late]


def test_an_early_follower_may_have_it(storage: str) -> None:
    """Who joined before the invalidation gets the value, with no second execution for its sake."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable(deps="a:b")
    def compute() -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        return number

    world.be_in_touch()
    leader = Runner(compute)
    gate.wait_inside()
    early = [Runner(compute) for _ in range(5)]
    until(lambda: followers() == 5)
    invalidate("a")
    gate.open()
    assert [0] * 6 == [each.result() for each in [leader, *early]]


def test_early_and_late_followers_of_one_flight(storage: str) -> None:
    """Between two invalidations: who joined after the first never gets what the first overtook."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable(deps="a:b")
    def compute() -> int:
        number = next(numbers)
        if number == 0:
            gate.stop()
        return number

    leader = Runner(compute)
    gate.wait_inside()
    invalidate("a")
    between = Runner(compute)
    until(lambda: followers() == 1)
    invalidate("a:b")
    gate.open()
    assert 0 == leader.result()
    assert 0 < between.result()


def test_a_late_task_tries_again(storage: str) -> None:
    """A task that joined after the invalidation never gets the flight's value, not even in another loop."""
    gate, numbers = Gate(), iter(range(10))

    @cacheable(deps="a:b")
    async def compute() -> int:
        number = next(numbers)
        if number == 0:
            await asyncio.to_thread(gate.stop)
        return number

    def in_a_loop() -> int:
        return asyncio.run(as_coroutine())

    async def as_coroutine() -> int:
        return await compute()

    leader = Runner(in_a_loop)
    gate.wait_inside()
    invalidate("a")
    late = Runner(in_a_loop)
    until(lambda: followers() == 1)
    gate.open()
    assert (0, 1) == (leader.result(), late.result())


def test_a_late_follower_in_another_process_tries_again(lmdb: object, peer: Callable[[], Peer]) -> None:
    """A process that joined the flight of another after the invalidation computes for itself."""
    leader, late = peer(), peer()
    leader.call("close_gate", "a")
    leader.begin("thing", "a")
    leader.wait_inside("a")
    world.change("a", 1)
    invalidate("thing:a")
    late.begin("thing", "a")
    until(followers_elsewhere)
    leader.go_on()
    assert (0, 1) == (leader.result(), late.result())
    assert [leader.pid, late.pid] == world.fills("a")


# Nested calls: the tags of an inner call belong to the outer entry too.


def _inner_and_outer(kind: str, runs: list[str]) -> Callable[[], int]:
    @cacheable
    def inner() -> int:
        runs.append("inner")
        add_deps("deep:tag")
        if kind == "raises":
            raise LookupError("nothing there")
        return len(runs)

    if kind == "stored":
        inner()
    if kind == "live":
        inner()
        inner()

    @cacheable
    def outer() -> int:
        runs.append("outer")
        try:
            inner()
        except LookupError:
            return -1
        return inner()

    return outer


@pytest.mark.parametrize("kind", ["a miss", "stored", "live", "raises"])
def test_the_tags_of_an_inner_call_belong_to_the_outer_entry(storage: str, kind: str) -> None:
    """Whether the inner call was a miss, a hit, or raised: its tags kill the outer entry."""
    runs: list[str] = []
    outer = _inner_and_outer(kind, runs)
    outer()
    outer()
    assert 1 == runs.count("outer")
    invalidate("deep")
    outer()
    assert 2 == runs.count("outer")


def test_tags_of_a_loaded_entry_go_outward(lmdb: object, peer: Callable[[], Peer]) -> None:
    """An inner value that another process left in the store brings its tags to the outer entry here."""
    filler, user = peer(), peer()
    filler.call("late", "a")
    assert 0 == user.call("late_outer", "a")
    world.change("a", 1)
    invalidate("late:a")
    assert 10 == user.call("late_outer", "a")


def test_tags_go_outward_through_levels(storage: str) -> None:
    """Through three levels, and to the one between when it is asked later."""
    runs: list[int] = []

    @cacheable(deps="one:x")
    def one() -> int:
        runs.append(1)
        return 1

    @cacheable(deps="two:x")
    def two() -> int:
        runs.append(2)
        return one()

    @cacheable(deps="three:x")
    def three() -> int:
        runs.append(3)
        return two()

    three()
    invalidate("one")
    three()
    assert [3, 2, 1] * 2 == runs
    invalidate("two")
    three()
    assert [3, 2, 1, 3, 2, 1, 3, 2] == runs


def test_tags_of_tasks_belong_to_the_fill_that_started_them(storage: str) -> None:
    """Inner calls that an outer coroutine gathers as tasks, or sends to threads, hand it their tags."""
    runs: list[str] = []

    @cacheable(deps=lambda name: f"row:{name}")
    async def row(name: str) -> str:
        runs.append(name)
        await asyncio.sleep(0)
        return name

    @cacheable(deps="column:x")
    def column() -> str:
        return "x"

    @cacheable
    async def table() -> list[str]:
        runs.append("table")
        return [*await asyncio.gather(row("a"), row("b")), await asyncio.to_thread(column)]

    async def main() -> list[str]:
        for tag in ("row:b", "column", "row:a"):
            await table()
            invalidate(tag)
        await table()
        await table()
        return runs

    assert 4 == asyncio.run(main()).count("table")


def test_tags_of_threads_that_carry_the_context(storage: str) -> None:
    """A thread that runs in a copy of the fill's context hands its tags to the fill."""
    runs = []

    @cacheable(deps="inner:x")
    def inner() -> int:
        return 1

    @cacheable
    def outer() -> int:
        runs.append(1)
        thread = threading.Thread(target=contextvars.copy_context().run, args=(inner,))
        thread.start()
        thread.join()
        return len(runs)

    assert (1, 1) == (outer(), outer())
    invalidate("inner")
    assert 2 == outer()


def test_tags_of_a_followed_flight_go_outward(storage: str) -> None:
    """An outer call whose inner call another thread computes depends on the tags of that computation."""
    gate, runs = Gate(), []

    @cacheable
    def inner() -> int:
        gate.stop()
        add_deps("deep:tag")
        return 5

    @cacheable
    def outer() -> int:
        runs.append(1)
        return inner()

    leader = Runner(inner)
    gate.wait_inside()
    follower = Runner(outer)
    until(lambda: followers() == 1)
    gate.open()
    assert (5, 5) == (leader.result(), follower.result())
    invalidate("deep")
    outer()
    assert 2 == len(runs)


def test_tags_of_a_followed_flight_that_failed_go_outward(storage: str) -> None:
    """An outer call that lives with the failure of a computation in another thread depends on what that looked at."""
    gate, runs = Gate(), []

    @cacheable
    def inner() -> int:
        gate.stop()
        add_deps("deep:tag")
        raise LookupError("nothing there")

    @cacheable
    def outer() -> str:
        runs.append(1)
        try:
            inner()
        except LookupError:
            return "nothing"
        return "something"

    leader = Runner(inner)
    gate.wait_inside()
    follower = Runner(outer)
    until(lambda: followers() == 1)
    gate.open()
    assert isinstance(leader.error(), LookupError)
    assert "nothing" == follower.result()
    invalidate("deep")
    outer()
    assert 2 == len(runs)


def test_a_failure_in_another_process_is_no_ground_to_build_on(lmdb: object, peer: Callable[[], Peer]) -> None:
    """An outer call that lives with the failure of another process is not kept: that process' tags are not known."""
    leader, follower = peer(), peer()
    leader.call("close_gate", "a")
    leader.begin("broken_late", "a")
    leader.wait_inside("a")
    follower.begin("careful", "a")
    until(followers_elsewhere)
    leader.go_on()
    with pytest.raises(Exception, match="no a here"):
        leader.result()
    assert "FillFailed" == follower.result()
    leader.call("open_gate", "a")
    invalidate("late:a")
    assert "LookupError" == follower.call("careful", "a")


def test_a_task_that_outlives_its_fill_is_nobodys_part(storage: str) -> None:
    """Tags that a task adds after the fill that started it has ended change nothing."""
    tasks = []

    @cacheable
    def inner() -> None:
        add_deps("inner:x")

    @cacheable
    async def outer() -> int:
        tasks.append(asyncio.create_task(later()))
        return len(tasks)

    async def later() -> None:
        await asyncio.sleep(0.01)
        inner()
        add_deps("later:x")

    async def main() -> tuple[int, int]:
        first = await outer()
        await tasks[0]
        invalidate("inner", "later")
        return first, await outer()

    assert (1, 1) == asyncio.run(main())


def test_the_tags_of_deps_callables_count(storage: str) -> None:
    """A cached call inside a `deps` callable belongs to the entry too."""
    runs = []

    @cacheable(deps="tenant:x")
    def tenant() -> str:
        return "acme"

    @cacheable(deps=lambda: [f"store:{tenant()}"])
    def shelf() -> int:
        runs.append(1)
        return len(runs)

    assert (1, 1) == (shelf(), shelf())
    invalidate("tenant")
    assert 2 == shelf()


@pytest.mark.parametrize("ask", ["call", "get", "task"])
def test_a_fill_builds_on_nothing_that_the_store_knows_to_be_dead(
    lmdb: object, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    """An outer fill that begins between the two halves of an invalidation is not kept with the old inner value."""
    truth = [1]

    @cacheable(deps="row")
    def inner() -> int:
        return truth[0]

    @cacheable(deps="row")
    async def inner_task() -> int:
        return truth[0]

    @cacheable
    def outer() -> int:
        return int(zoocache.get(inner.key_for(), truth[0])) if ask == "get" else inner()

    @cacheable
    async def outer_task() -> int:
        return await inner_task()

    def both() -> tuple[int, int]:
        if ask == "task":
            return asyncio.run(inner_task()), asyncio.run(outer_task())  # type: ignore[arg-type]
        return inner(), outer()

    (asyncio.run(inner_task()) if ask == "task" else inner())  # type: ignore[arg-type]
    store = zoocache.runtime.engine().store
    assert store is not None
    tell = store.invalidate

    def tell_and_be_preempted(*args: Any) -> int:
        number = tell(*args)
        asyncio.run(outer_task()) if ask == "task" else outer()  # type: ignore[arg-type]
        return number

    monkeypatch.setattr(store, "invalidate", tell_and_be_preempted)
    truth[0] = 2
    invalidate("row")
    assert (2, 2) == both()
