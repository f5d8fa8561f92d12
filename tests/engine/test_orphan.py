"""The engine on a segment that was removed under it."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

import zoocache
from tests.children import Children
from tests.crowd import Runner, followers_elsewhere, until
from zoocache import runtime
from zoocache.engine import core, keeping
from zoocache.engine.effects import drive
from zoocache.shm import identity
from zoocache.storage import FOREVER
from zoocache.trie import Trie


@zoocache.cacheable(namespace="test_orphan", deps=["a"])
def compute() -> str:
    """What takes until somebody says go."""
    print("inside", flush=True)
    until(Path(os.environ["GO"]).exists)
    return "value"


def lead() -> None:
    """In a child: compute in one thread, and invalidate in another when told to."""
    thread = Runner(compute)
    input()
    zoocache.invalidate("other")
    print("attached anew", flush=True)
    input()
    assert "value" == thread.result()


def follow() -> None:
    """In a child."""
    print(compute())


def object_file(prefix: str) -> Path:
    """Where the segment of a prefix is."""
    return Path(identity.segment_file(identity.segment_name(prefix)))


def test_a_follower_does_not_wait_on_an_orphan(prefix: str, children: Children, tmp_path: Path, lmdb: Path) -> None:
    """When the segment is removed while one process follows another, and the leader attaches anew, the follower does
    not wait for an end that nobody will write: it finds the value in the store, or computes it once more.
    """
    env = {"GO": str(tmp_path / "go")}
    leader = children.call(lead, env=env)
    leader.wait_for("inside")
    follower = children.call(follow, env=env)
    until(followers_elsewhere)
    object_file(prefix).unlink()
    leader.say()
    leader.wait_for("attached anew")
    (tmp_path / "go").touch()
    assert "value" == follower.output().split()[-1]
    leader.say()
    assert 0 == leader.wait()


def test_an_orphan_does_not_leave_the_engine(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on losing its segment ends in an error that says so, never in the engine's own signal."""
    zoocache.configure(prefix=prefix, shm_size=256 * 1024)
    monkeypatch.setattr(core, "REATTACHMENTS", 3)
    tried = []

    def lose(trie: Trie) -> None:
        tried.append(trie)
        trie.segment.retire()
        trie.segment.write(str)

    with pytest.raises(zoocache.SegmentError, match="removed 3 times during one operation"):
        runtime.engine().on_segment(lose)
    assert 3 == len(set(map(id, tried)))
    zoocache.invalidate("a")


def test_threads_on_a_segment_that_is_removed_again_and_again(prefix: str) -> None:
    """Many threads that invalidate and ask while the segment's name is taken away over and over: none of them meets
    anything but an answer, and no lock stays behind.
    """
    stop = threading.Event()
    zoocache.configure(prefix=prefix, shm_size=256 * 1024)

    def work(number: int) -> None:
        while not stop.is_set():
            zoocache.invalidate(f"t:{number}")
            zoocache.get_tag_version(f"t:{number}")

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [Runner(work, number) for number in range(3)]
        for _ in range(40):
            until(lambda: object_file(prefix).exists())
            segment = runtime.engine().trie.segment
            object_file(prefix).unlink()
            until(lambda segment=segment: runtime.engine().trie.segment is not segment)
        stop.set()
        for thread in threads:
            thread.result()
    finally:
        stop.set()
        sys.setswitchinterval(before)
    zoocache.invalidate("t:0")
    assert runtime.engine().trie.segment.is_current()


def test_a_retired_segment_is_let_go_of_at_once(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody else retires the segment, the next call attaches anew, however lately this process looked: whoever
    stayed would fill on a segment to which no invalidation comes any more, and keep that.
    """
    monkeypatch.setattr(core, "LOOK_S", 3600.0)
    zoocache.configure(prefix=prefix, shm_size=256 * 1024)
    runs: list[int] = []

    @zoocache.cacheable(deps="a")
    def get() -> int:
        runs.append(1)
        return len(runs)

    assert 1 == get()
    retired = runtime.engine().trie.segment
    object_file(prefix).unlink()
    retired.retire()
    assert 2 == get()
    assert runtime.engine().trie.segment is not retired
    zoocache.invalidate("a")
    assert 3 == get()


def test_nothing_is_held_on_a_retired_segment(prefix: str) -> None:
    """What was filled after the segment was retired does not become a live object, though seq stands still there."""
    zoocache.configure(prefix=prefix, shm_size=256 * 1024)
    engine = runtime.engine()
    engine.trie.segment.retire()
    begun = drive(keeping.begin(engine))
    live = keeping.land(engine, "get()", "key", 1, ("a",), FOREVER, begun, share=False)
    keeping.hold_new(engine, live)
    assert engine.lives.get("key") is None
