"""P5: any process may be killed or stopped at any instruction; the others go on, and nothing that was said is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zoocache
from tests.children import Child, Children
from tests.crowd import until
from tests.peers import ForkedChild, Peer, fork_peer
from tests.promises import world
from tests.shared_memory import harm, objects_of
from zoocache import Busy, invalidate, runtime
from zoocache._zoocache import Core
from zoocache.shm import identity, lock, points

UNREACHED = {"claim.inherited"} | {point for point in points.ALL if point.startswith(("outbox.", "hosts."))}
"""Points that one process alone, on one host, never comes to."""


def workload() -> None:
    """Something of everything; says what was done."""
    said = os.open(world.folder() / ".said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in range(1, 5):
        world.change("a", number)
        zoocache.invalidate("thing", f"fresh:{number}")
        os.write(said, f"{number}\n".encode())
        world.thing("a")
        zoocache.set("k", number, deps="thing:a")
        zoocache.get("k")
        with contextlib.suppress(LookupError):
            world.broken("x")
        zoocache.delete("k")
        zoocache.prune(0)
        if number == 2:
            zoocache.clear()
            zoocache.reset()


def start_work(children: Children, armed: str) -> Child:
    """Have a process do the workload with something armed."""
    child = ForkedChild(workload, armed)
    children._all.append(child)
    return child


def work(children: Children, armed: str) -> tuple[int, int]:
    """Have the workload done: how the process ended, and the last number that it said was done."""
    status = start_work(children, armed).wait()
    path = world.folder() / ".said"
    said = path.read_text().split() if path.exists() else []
    return status, int(said[-1]) if said else 0


def all_is_well(least: int) -> None:
    """What must hold for the living after anything that happened to another process."""
    assert least <= world.thing("a")
    world.change("a", 100)
    invalidate("thing:a")
    assert 100 == world.thing("a")
    zoocache.set("k", "v", deps="site")
    assert "v" == zoocache.get("k")
    assert [] == harm()
    invalidate("site")
    assert None is zoocache.get("k")
    assert [] == Core().check()


@pytest.mark.parametrize("point", points.ALL)
def test_a_kill_at_every_named_point(lmdb: Path, children: Children, point: str) -> None:
    """A process that is killed there takes nothing along: what it said was done is done, the others read and write."""
    world.change("a", 0)
    status, least = work(children, f"{point}=kill")
    assert (0 if point in UNREACHED else -signal.SIGKILL) == status
    all_is_well(least)


@pytest.mark.parametrize("at", [2, 5, 9])
@pytest.mark.parametrize("point", ["lock.held", "trie.changed", "store.written", "engine.stored"])
def test_a_kill_later_on(lmdb: Path, children: Children, point: str, at: int) -> None:
    """The same at a later time, when the tables hold something and another process holds values ready."""
    world.change("a", 0)
    assert 0 == world.thing("a")
    _, least = work(children, f"{point}=kill@{at}")
    all_is_well(least)


def test_a_leader_killed_by_its_own_heirs_point(lmdb: Path, children: Children) -> None:
    """Leaders that die one after the other, the second in the moment of inheriting: the third one computes."""
    first = fork_peer(children)
    first.call("close_gate", "a")
    first.begin("thing", "a")
    first.wait_inside("a")
    second = fork_peer(children, points="claim.inherited=kill")
    second.begin("thing", "a")
    first.child.kill()
    assert -signal.SIGKILL == second.child.wait()
    assert 0 == world.thing("a")
    assert 2 == len(world.fills("a"))


@pytest.fixture(params=["lock.held", "trie.changed", "table.fielded", "prune.floored"])
def point(request: pytest.FixtureRequest) -> str:
    """Each of some points in turn, all under the lock."""
    name: str = request.param
    return name


@pytest.fixture
def stopped(storage: str, point: str, children: Children) -> Child:
    """A process that stands in the middle of a write, with the lock in its hand."""
    assert 0 == world.thing("a")
    for n in range(20):
        invalidate(f"old:{n}")
    child = start_work(children, f"{point}=stop")
    child.wait_stopped()
    return child


def test_hits_wait_for_nobody(stopped: Child) -> None:
    """While a process stands in the middle of a write, what is ready is handed out a hundred times."""
    start_s = time.monotonic()
    values = {world.thing("a") for _ in range(100)}
    assert 1 == len(values)
    assert 100 > time.monotonic() - start_s  # if they waited, it would be 200 s: each for 2 s
    stopped.kill()
    stopped.wait()
    all_is_well(0)


def test_writes_end_in_a_clear_error(stopped: Child, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write behind a stopped one says that it was not done, after a while; resumed, all is as before."""
    with monkeypatch.context() as impatient:
        if point != "lock.held":  # one is waited for as long as users wait
            impatient.setattr(lock._mood, "timeout_s", 0.2)
        with pytest.raises(Busy, match=r"lock.*(Resume|stopped)"):
            invalidate("thing")
    stopped.resume()
    assert 0 == stopped.wait()
    all_is_well(4)


@pytest.mark.usefixtures("patient")
def test_a_killed_writer_is_followed_soon(storage: str, peer: Callable[[], Peer]) -> None:
    """The next write after one that died in the middle does not wait out the time-out."""
    waits_s = []
    for _ in range(3):
        victim = peer()
        victim.call("zoocache.invalidate", "x")
        victim.begin("raise_score", 1_000_000)
        until(lambda: zoocache.get_tag_version("score") > 0)
        victim.child.kill()
        start_s = time.monotonic()
        invalidate("y")
        waits_s.append(time.monotonic() - start_s)
        victim.child.wait()
    assert 1.5 > min(waits_s)  # the time-out is 2 s
    assert [] == harm()


@pytest.mark.usefixtures("patient")
def test_processes_that_are_killed_in_a_storm(storage: str, peer: Callable[[], Peer], prefix: str) -> None:
    """Readers and writers that are killed again and again, at random moments: no reader ever sees the past."""
    readers = [peer(), peer()]
    for reader in readers:
        reader.begin("count_stale_scores", 400)
    victim = peer()
    for goal in range(50, 401, 50):
        victim.begin("raise_score", 1_000_000)
        time.sleep(0.01)
        victim.child.kill()
        victim.child.wait()
        world.raise_score(goal)
        victim = peer()
    with world.scoreboard() as words:
        least = max(400, int(words[0]))
    world.raise_score(least + 1)  # the victim may have been killed before it had invalidated what it wrote last
    assert [0, 0] == [reader.result() for reader in readers]
    until(lambda: shared_objects("redis" in storage) == {str(path) for path in objects_of(prefix)})


def shared_objects(has_listener: bool) -> set[str]:
    """The files in /dev/shm that belong to a cache in use. What wakes a listener is made by the listener itself, or by
    whoever rings for it; and whoever uses the cache looks, about once a second, whether there is one: the victim may
    have been killed when it was its turn to start it.
    """
    world.score()
    segment = runtime.engine().trie.segment.name
    semaphores = [identity.gate_name(segment), *([identity.wake_name(segment)] if has_listener else [])]
    return {identity.segment_file(segment), *map(identity.semaphore_file, semaphores)}
