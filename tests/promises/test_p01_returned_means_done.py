"""P1: once `invalidate` has returned, no call that starts afterwards gets what it killed, in any process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

import zoocache
from tests.children import Children
from tests.crowd import Runner
from tests.peers import Peer
from tests.promises import world
from zoocache import cacheable, invalidate, invalidate_async


class Loose(str):
    """Text that compares without regard to case."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


def test_a_tag_that_compares_as_it_likes(storage: str) -> None:
    """Of a tag that is of a subclass of `str` the plain text counts, whatever else it was found equal to before."""
    zoocache.set("k", "old", deps="Org")
    invalidate(Loose("org"))
    assert "old" == zoocache.get("k")
    invalidate(Loose("Org"))
    assert zoocache.get("k") is None


def test_deps_that_differ_in_a_default(storage: str) -> None:
    """Functions for `deps` that a loop makes, each with its tag as a default, are two; so is what depends on them."""
    truth = [1]

    def load(x: int) -> int:
        return x + truth[0]

    by_tag = {tag: cacheable(deps=lambda _x, tag=tag: [tag])(load) for tag in ("a", "b")}
    assert [2, 2] == [by_tag["a"](1), by_tag["b"](1)]
    truth[0] = 2
    invalidate("b")
    assert [2, 3] == [by_tag["a"](1), by_tag["b"](1)]


@pytest.mark.parametrize("tag", ["thing:a", "thing"])
def test_an_invalidation_reaches_other_processes(storage: str, peer: Callable[[], Peer], tag: str) -> None:
    """A value that other processes hold ready is never handed out again once its tag, or one above it, was killed."""
    peers = [peer(), peer()]
    assert [0, 0, 0, 0] == [each.call("thing", "a") for each in peers * 2]
    world.change("a", 1)
    invalidate(tag)
    assert [1, 1] == [each.call("thing", "a") for each in peers]


@pytest.mark.parametrize(
    ("function", "args", "thing", "tag"),
    [
        ("site", (), "site", "site:config"),
        ("late", ("b",), "b", "late:b"),
        ("outer", ("c",), "c", "thing:c"),
        ("page", ("d",), "d", "page"),
        ("call_async", ("e",), "e", "thing:e"),
    ],
)
def test_every_kind_of_dependency_counts(
    storage: str, peer: Callable[[], Peer], function: str, args: tuple[str, ...], thing: str, tag: str
) -> None:
    """Static tags, tags that came late, those of an inner call, of a mutable value, of a coroutine: all kill."""
    reader, writer = peer(), peer()
    before = reader.call(function, *args)
    assert before == reader.call(function, *args)
    world.change(thing, 1)
    writer.call("zoocache.invalidate", tag)
    after = reader.call(function, *args)
    assert before != after
    assert 2 == len(world.fills(thing))


def test_siblings_and_children_of_other_names_live_on(storage: str, peer: Callable[[], Peer]) -> None:
    """Only what hangs at or below the tag dies: not its siblings, not its parent, not a name that begins the same."""
    other = peer()
    names = ["a", "ab", "b"]
    assert [0, 0, 0] == [other.call("thing", name) for name in names]
    invalidate("thing:a", "thing:a:below", "things", "thin")
    for name in names:
        other.call("thing", name)
    assert [2, 1, 1] == [len(world.fills(name)) for name in names]


def test_several_tags_die_together(storage: str, peer: Callable[[], Peer]) -> None:
    """`invalidate` takes several tags and kills them all under one number."""
    other = peer()
    world.be_in_touch()
    other.call("thing", "a")
    other.call("site")
    world.change("a", 1)
    world.change("site", 1)
    invalidate("thing:a", "site")
    assert (1, 1) == (other.call("thing", "a"), other.call("site"))
    assert zoocache.get_tag_version("thing:a") == zoocache.get_tag_version("site")


def test_an_invalid_tag_among_several_kills_nothing(storage: str) -> None:
    """All tags are checked before the first is killed."""
    assert 0 == world.thing("a")
    with pytest.raises(zoocache.InvalidTag):
        invalidate("thing:a", "thing::a")
    assert 0 == world.thing("a")
    assert 1 == len(world.fills("a"))


def test_a_task_invalidates_too(storage: str, peer: Callable[[], Peer]) -> None:
    """`invalidate_async` means done when it has returned, as `invalidate` does."""
    other = peer()
    assert 0 == other.call("thing", "a")
    world.change("a", 1)
    asyncio.run(invalidate_async("thing:a"))
    assert 1 == other.call("thing", "a")


def test_values_set_by_key_die_too(storage: str, peer: Callable[[], Peer]) -> None:
    """What was set by hand with `deps` is gone in every process once one of them was killed."""
    peers = [peer(), peer()]
    for each in peers:
        each.call("zoocache.set", "motd", "hello", deps=["site:motd"])
        assert "hello" == each.call("zoocache.get", "motd")
    invalidate("site")
    assert [None, None] == [each.call("zoocache.get", "motd") for each in peers]


def test_a_process_that_comes_later_finds_nothing_dead(lmdb: object, peer: Callable[[], Peer]) -> None:
    """A process that was not there when the tag was killed does not find the dead value in the store."""
    peer().call("thing", "a")
    world.change("a", 1)
    invalidate("thing:a")
    assert 1 == peer().call("thing", "a")


def test_parent_and_forked_child_reach_each_other(storage: str) -> None:
    """What a forked child kills is dead in its parent, and the other way round."""
    assert 0 == world.thing("a")
    child = os.fork()
    if child == 0:
        world.change("a", 1)
        invalidate("thing:a")
        os._exit(0 if world.thing("a") == 1 else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert 1 == world.thing("a")


def test_a_forked_child_sees_what_its_parent_kills(storage: str) -> None:
    """A child that inherited a value loses it when the parent invalidates after the fork."""
    assert 0 == world.thing("a")
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go_read, 1)
        os._exit(world.thing("a"))
    world.change("a", 7)
    invalidate("thing:a")
    os.write(go_write, b"!")
    assert 7 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(go_read)
    os.close(go_write)


def test_another_prefix_is_another_world(
    storage: str, children: Children, make_prefix: Callable[[], str], peer: Callable[[], Peer]
) -> None:
    """What is killed under one prefix lives on under another."""
    from tests.peers import start_peer

    stranger = start_peer(children, env={"ZOOCACHE_PREFIX": make_prefix()})
    assert 0 == stranger.call("thing", "a")
    invalidate("thing")
    stranger.call("thing", "a")
    assert 1 == len(world.fills("a"))


def test_no_thread_ever_reads_the_past(storage: str) -> None:
    """While one thread changes and invalidates, no reader gets less than what was true when it began to read."""
    now = finished = 0

    @cacheable(deps="clock:hand")
    def hand() -> int:
        return now

    def read() -> int:
        stale = seen = 0
        while seen < 400:
            least = finished
            seen = hand()
            stale += seen < least
        return stale

    readers = [Runner(read) for _ in range(3)]
    for number in range(1, 401):
        now = number
        invalidate("clock")
        finished = number
    assert [0, 0, 0] == [reader.result() for reader in readers]


@pytest.mark.usefixtures("patient")
def test_no_process_ever_reads_the_past(storage: str, peer: Callable[[], Peer]) -> None:
    """While one process changes and invalidates, no other gets less than what was true when it began to read."""
    readers = [peer(), peer()]
    for reader in readers:
        reader.begin("count_stale_scores", 300)
    world.raise_score(300)
    assert [0, 0] == [reader.result() for reader in readers]


def test_no_task_ever_reads_the_past(storage: str) -> None:
    """While one task changes and invalidates, no other gets less than what was true when it began to read."""
    now = finished = 0

    @cacheable(deps="clock:hand")
    async def hand() -> int:
        number = now
        await asyncio.sleep(0)
        return number

    async def read() -> int:
        stale = seen = 0
        while seen < 100:
            least = finished
            seen = await hand()
            stale += seen < least
            await asyncio.sleep(0)
        return stale

    async def write() -> None:
        nonlocal now, finished
        for number in range(1, 101):
            now = number
            await invalidate_async("clock")
            finished = number
            await asyncio.sleep(0)

    async def main() -> list[int]:
        *stale, _ = await asyncio.gather(read(), read(), read(), write())
        return list(stale)

    assert [0, 0, 0] == asyncio.run(main())
