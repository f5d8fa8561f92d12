"""Core, the debug door: it shows the live segment, the one that everybody uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

import zoocache
from tests.children import Children
from tests.crowd import until
from tests.shared_memory import objects_of
from zoocache import InvalidTag, SegmentError, cacheable, clear, configure, invalidate, prune
from zoocache._zoocache import Core, destroy, segment_bytes
from zoocache.shm import object as shm_object
from zoocache.shm.layout import DEFAULT_SIZE


def test_the_line_of_the_guide() -> None:
    """`Core().tag_version(tag)` is the tag's version, as `get_tag_version` tells it."""
    core = Core()
    before = core.tag_version("user:42")
    invalidate("user:42")
    assert before < core.tag_version("user:42") == zoocache.get_tag_version("user:42")
    with pytest.raises(InvalidTag):
        core.tag_version("user::42")


def test_it_shows_what_other_processes_do(children: Children) -> None:
    """It is attached to the segment of the host, so an invalidation elsewhere is there when it has returned."""
    core = Core()
    before = core.tag_version("a:b")
    children.code("import zoocache; zoocache.invalidate('a')").output()
    assert before < core.tag_version("a:b")


def test_all_cores_show_the_same() -> None:
    """Two of them are two doors to one room."""
    invalidate("a")
    one, two = Core(), Core()
    assert (one.seq(), one.tags(), one.tag_version("a")) == (two.seq(), two.tags(), two.tag_version("a"))


def test_the_tags() -> None:
    """Every tag that was invalidated has a node, by name, with its number and the time; a read has none."""

    @cacheable(deps="never:invalidated")
    def get() -> int:
        return 1

    start_s = time.time()
    get()
    invalidate("b:c")
    invalidate("a", "b")
    nodes = Core().tags()
    assert ["a", "b", "b:c"] == [node.tag for node in nodes]
    assert nodes[2].changed < nodes[0].changed == nodes[1].changed == Core().seq()
    assert all(start_s - 1 <= node.at_s <= time.time() + 1 for node in nodes)
    prune(0)
    assert [] == Core().tags()


def test_seq_counts_mutations() -> None:
    """Every invalidation and `clear` moves it, a read does not."""
    core = Core()
    first = core.seq()
    invalidate("a")
    core.tag_version("a")
    zoocache.get("k")
    assert first + 1 == core.seq()
    clear()
    assert first + 2 == core.seq()


def test_a_fresh_segment_is_sound() -> None:
    """`check` finds nothing, at first, after use, after a prune, after a clear."""
    core = Core()
    assert [] == core.check()
    for n in range(300):
        invalidate(f"a:{n}", f"b:{n % 7}:{n}")
    assert [] == core.check()
    prune(0)
    assert [] == core.check()
    clear()
    assert [] == core.check()


def test_the_processes_and_their_counters(children: Children) -> None:
    """Each process that computed something is listed with what it did; one that has ended is not."""

    @cacheable
    def get(n: int) -> int:
        return n

    child = children.code("""
        import time, zoocache
        get = zoocache.cacheable(lambda n: n)
        while True:
            for n in range(3):
                get(n), get(n)
            time.sleep(0.01)
            print("round", flush=True)
            input()
    """)

    def in_child() -> tuple[int, int]:
        child.wait_for("round")
        child.say()
        return next(((p.misses, p.fills) for p in Core().processes() if p.pid == child.pid), (0, 0))

    until(lambda: in_child() == (3, 3))
    get(1)
    until(lambda: get(1) and os.getpid() in {process.pid for process in Core().processes()})
    child.kill()
    child.wait()
    assert child.pid not in {process.pid for process in Core().processes()}


def test_the_settings_in_force() -> None:
    """It shows with what this process is configured."""
    configure(default_ttl=5)
    assert 5 == Core().settings().default_ttl


def test_destroy(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that is in use is not destroyed; one that nobody uses is; one that is not there is no error."""
    monkeypatch.setattr(shm_object, "DEFAULT_SIZE", DEFAULT_SIZE)  # as users have it
    assert not destroy()
    assert None is segment_bytes()
    invalidate("a")
    assert 1 << 24 == segment_bytes()
    with pytest.raises(SegmentError, match="in use"):
        destroy()
    zoocache.reset()
    assert destroy()
    assert None is segment_bytes(prefix)
    assert not destroy(prefix)


def test_destroy_of_another_prefix(make_prefix: Callable[[], str], children: Children) -> None:
    """A prefix may be named; others are left alone."""
    other = make_prefix()
    children.code("import zoocache; zoocache.invalidate('a')", env={"ZOOCACHE_PREFIX": other}).output()
    invalidate("a")
    assert destroy(other)
    assert None is segment_bytes(other)
    assert None is not segment_bytes()


def test_who_only_looks_looks_at_the_segment_that_has_the_name(prefix: str, children: Children) -> None:
    """When the segment's name was removed and another process has made a new one, the door leads to the new one."""
    core = Core()
    invalidate("old")
    for path in objects_of(prefix):
        path.unlink()
    children.code("import zoocache; zoocache.invalidate('new')").output()
    assert ["new"] == [node.tag for node in core.tags()]
