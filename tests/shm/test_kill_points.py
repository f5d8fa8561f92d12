"""A kill at every named point of segment and trie: the others go on, and every promise that was made holds.

A forked child does one thing and is killed in the middle of it, at a point. What it was doing may have happened or not.
What had returned before has happened, and whoever is left reads, writes and leads as if nothing had been.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.children import DEADLINE_S
from tests.forks import RAISED, Fork, Forks
from tests.shm.locking import PATIENT_S
from zoocache import deps
from zoocache.errors import Busy
from zoocache.shm import object as object_room
from zoocache.shm import points
from zoocache.shm.attachment import attach
from zoocache.shm.claims import FAILED, FREE, RUNNING, Claim
from zoocache.shm.layout import CLAIM_WAYS, CLAIM_WORDS, LOAD_PERCENT, MIN_SIZE
from zoocache.shm.segment import Segment
from zoocache.trie import Trie, target_of, words_of

Attach = Callable[..., Segment]

WALL_MS = 1_700_000_000_000
KNOWN = ["a", "a:b", "x:y"]
PATIENT_MS = 60_000
HARMLESS = "an insert was left unfinished (harmless: see shm/tables.py)"


# What the child does. Each returns normally if it is not killed.


def invalidate_known(trie: Trie) -> None:
    """Change nodes that exist."""
    invalidate(trie, "a", "x:y")


def invalidate_new(trie: Trie) -> None:
    """Insert nodes, and change one that exists."""
    now = trie.seq()
    invalidate(trie, f"new:{now}:1", "a", f"new:{now}:2", f"new:{now}:3")


def crowd(trie: Trie) -> None:
    """Insert more than fits in: half of the table gives way."""
    for _ in range(3):
        invalidate(trie, *(f"crowd:{number}" for number in range(trie.segment.layout.nodes * LOAD_PERCENT // 100)))


def prune(trie: Trie) -> None:
    """Drop what is old."""
    assert trie.prune(1_000, WALL_MS + 5_000)


def prune_all(trie: Trie) -> None:
    """Drop all nodes."""
    assert trie.prune(0, WALL_MS + 10_000)


def clear(trie: Trie) -> None:
    """Drop everything."""
    trie.clear(WALL_MS)


INSERTS = [invalidate_new, crowd]
REPLACEMENTS = [prune_all, crowd, clear]
WRITES = [invalidate_known, *dict.fromkeys([*INSERTS, *REPLACEMENTS])]

WRITE_POINTS: dict[str, list[Callable[[Trie], None]]] = {
    "lock.gated": WRITES,
    "lock.held": WRITES,
    "lock.unlocked": WRITES,
    "table.counted": [*INSERTS, *REPLACEMENTS],
    "table.fielded": INSERTS,
    "table.published": INSERTS,
    "table.settled": [*INSERTS, *REPLACEMENTS],
    "trie.changed": [invalidate_known, *INSERTS],
    "trie.committed": [invalidate_known, *INSERTS],
    "prune.copied": [*REPLACEMENTS, prune],
    "prune.floored": [*REPLACEMENTS, prune],
    "prune.flipped": [*REPLACEMENTS, prune],
}
OTHER_POINTS = {
    "segment.sized", "segment.headed", "segment.live", "slot.locked", "slot.named",
    "claim.written", "claim.led", "claim.inherited", "claim.failed", "claim.ended",
}  # fmt: skip
ROOMS = {point.partition(".")[0] for point in (*WRITE_POINTS, *OTHER_POINTS)}

MOMENTS = [(point, write) for point, writes in WRITE_POINTS.items() for write in dict.fromkeys(writes)]

FEW = [(point, writes[number % 3 % len(writes)]) for number, (point, writes) in enumerate(WRITE_POINTS.items())]
"""One for each point: what is done four times, or takes a time-out, need not be done with all."""


def test_every_point_is_walked_over() -> None:
    """Each point of these rooms is in this file."""
    assert {point for point in points.ALL if point.partition(".")[0] in ROOMS} == {*WRITE_POINTS, *OTHER_POINTS}


def invalidate(trie: Trie, *tags: str) -> int:
    """Invalidate."""
    return trie.invalidate([target_of(tag) for tag in tags], WALL_MS + 4_500)


def stale(trie: Trie, since: int, tag: str) -> bool:
    """Whether a value of this tag filled at `since` is overtaken."""
    return trie.overtaken(tuple(map(words_of, deps.paths(tag))), since)


def armed(action: str, work: Callable[..., object], *args: object) -> None:
    """In a forked child: arm a point, and work."""
    points.ARMED = points._parse(action)
    work(*args)


def killed(forks: Forks, point: str, work: Callable[..., object], *args: object) -> Fork:
    """A child that was killed at a point; `@2` and so on after it count."""
    name, _, at = point.partition("@")
    child = forks.fork(armed, f"{name}=kill@{at or 1}", work, *args)
    assert -signal.SIGKILL == child.wait(), "the child did not get to the point"
    return child


class History:
    """What was promised before a child died, and what must hold of it ever after."""

    def __init__(self, trie: Trie) -> None:
        self.moments = [("old", trie.seq(), trie.invalidate([target_of("old")], WALL_MS))]
        self.moments += [(tag, trie.seq(), invalidate(trie, tag)) for tag in KNOWN]
        self.seq = trie.seq()

    def holds(self, trie: Trie) -> None:
        """Nothing that was overtaken is fresh, no version fell, the moment did not go back."""
        assert all(stale(trie, since, tag) for tag, since, _ in self.moments)
        assert all(stale(trie, since, tag + ":leaf") for tag, since, _ in self.moments)
        assert all(trie.version(tag) >= new for tag, _, new in self.moments)
        assert trie.seq() >= self.seq


def goes_on(trie: Trie) -> None:
    """All that a survivor does works: it invalidates, fills, prunes, clears, and finds nothing wrong."""
    assert [HARMLESS] >= trie.segment.write(trie.faults)
    since = trie.seq()
    new = invalidate(trie, "a", "later:1")
    assert new > since
    assert stale(trie, since, "a:b")
    assert stale(trie, since, "later:1:leaf")
    assert [] == trie.segment.write(trie.faults)
    filled = trie.seq()
    invalidate(trie, "unrelated")
    assert not stale(trie, filled, "a:b")
    assert not stale(trie, filled, "later:1")
    trie.prune(0, WALL_MS + 10_000)
    assert stale(trie, since, "a:b")
    assert stale(trie, trie.seq() - 1, "unrelated")
    trie.clear(WALL_MS)
    assert stale(trie, filled, "a:b")
    assert [] == trie.segment.write(trie.faults)


def has_one_token(segment: Segment) -> None:
    """After a write or two the semaphore is as it was: no token is lost, none is doubled."""
    segment.write(int)
    assert segment.lock._gate is not None
    assert 1 == segment.lock._gate.value


def in_child(segment: Segment, write: Callable[[Trie], None]) -> None:
    """A forked child on its own description of the segment."""
    segment.after_fork()
    write(Trie(segment))


@pytest.mark.parametrize(("point", "write"), MOMENTS)
def test_a_writer_killed_at(point: str, write: Callable[[Trie], None], attach_here: Attach, forks: Forks) -> None:
    """Whatever a writer was killed in the middle of, the others go on with every promise kept."""
    trie, other = Trie(attach_here()), Trie(attach_here())
    history = History(trie)
    killed(forks, point, in_child, trie.segment, write)
    for each in (trie, other):
        history.holds(each)
    start = time.monotonic()
    goes_on(other)
    assert PATIENT_S > time.monotonic() - start  # nobody waited for the time-out
    history.holds(trie)
    has_one_token(trie.segment)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("point", ["table.fielded", "table.published"])
def test_a_writer_killed_between_two_nodes(attach_here: Attach, forks: Forks, point: str, at: int) -> None:
    """In a batch of new nodes it makes no difference how many were whole already."""
    trie = Trie(attach_here())
    history = History(trie)
    killed(forks, f"{point}@{at}", in_child, trie.segment, invalidate_new)
    history.holds(trie)
    goes_on(trie)


@pytest.mark.parametrize(("point", "write"), FEW)
def test_one_after_the_other_killed_at(
    point: str, write: Callable[[Trie], None], attach_here: Attach, forks: Forks
) -> None:
    """Nor does it add up: after several kills in a row at one point everything is still well."""
    trie = Trie(attach_here())
    history = History(trie)
    for _ in range(4):
        invalidate(trie, "x:y")
        killed(forks, point, in_child, trie.segment, write)
    history.holds(trie)
    goes_on(trie)
    has_one_token(trie.segment)


@pytest.mark.parametrize(("point", "write"), FEW)
def test_a_writer_stopped_at(point: str, write: Callable[[Trie], None], attach_here: Attach, forks: Forks) -> None:
    """While a writer stands still in the middle of anything, the others read without waiting and see no half of it;
    their writes end in Busy if it holds the lock; when it goes on, so does everything.
    """
    trie = Trie(attach_here())
    hasty = Trie(attach_here(lock_timeout_s=0.03))
    history = History(trie)
    child = forks.fork(armed, f"{point}=stop", in_child, trie.segment, write)
    child.wait_stopped()
    history.holds(hasty)
    if write is not crowd:  # which has done it twice by then
        assert (history.seq < hasty.seq()) == (point in {"trie.committed", "lock.unlocked"})  # it moves last
    if point in {"lock.gated", "lock.unlocked"}:
        invalidate(hasty, "a")
    else:
        for busy in (lambda: invalidate(hasty, "a"), lambda: hasty.clear(WALL_MS), lambda: hasty.prune(0, WALL_MS)):
            with pytest.raises(Busy, match="not robbed"):
                busy()
    history.holds(hasty)
    child.resume()
    assert 0 == child.wait()
    history.holds(trie)
    goes_on(hasty)
    has_one_token(trie.segment)


@pytest.mark.parametrize("write", [invalidate_known, invalidate_new])
def test_what_was_committed_has_happened(attach_here: Attach, forks: Forks, write: Callable[[Trie], None]) -> None:
    """After the last store an invalidation is true, though nobody was told."""
    trie = Trie(attach_here())
    invalidate(trie, *KNOWN)
    since = trie.seq()
    killed(forks, "trie.committed", in_child, trie.segment, write)
    assert (since + 1, True) == (trie.seq(), stale(trie, since, "a:b"))


# Making the segment.


@pytest.mark.parametrize(("point", "times"), [("segment.sized", 3), ("segment.headed", 3), ("segment.live", 1)])
def test_a_creator_killed_at(point: str, times: int, prefix: str, attach_here: Attach, forks: Forks) -> None:
    """A segment whose maker was killed is made whole by the next one, and all who come meet on it."""
    for _ in range(times):
        killed(forks, point, attach, prefix, MIN_SIZE)
    one, other = attach_here(), attach_here()
    assert one.incarnation == other.incarnation
    trie = Trie(one)
    history = History(trie)
    history.holds(Trie(other))
    goes_on(trie)


def test_a_creator_killed_while_others_wait(prefix: str, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait for a creator that is killed make the segment themselves, and it is one."""
    monkeypatch.setattr(object_room, "CREATION_S", DEADLINE_S)
    creator = forks.fork(armed, "segment.headed=stop", attach, prefix, MIN_SIZE)
    creator.wait_stopped()
    newcomers = [forks.fork(lambda: attach(prefix, MIN_SIZE, PATIENT_S).write(int)) for _ in range(3)]
    creator.kill()
    assert [0] * 3 == [child.wait() for child in newcomers]
    last = attach(prefix)
    assert "ok" == last.write(str, "ok")
    last.leave()


# Taking a slot.


@pytest.mark.parametrize("point", ["slot.locked", "slot.named"])
def test_a_newcomer_killed_at(point: str, attach_here: Attach, forks: Forks) -> None:
    """More processes than there are slots may die while they take one: the next gets one all the same."""
    segment = attach_here()

    def come() -> None:
        segment.after_fork()
        segment.claim_slot(WALL_MS)

    for _ in range(segment.layout.slots + 3):
        killed(forks, point, come)
    assert segment.claim_slot(WALL_MS)
    assert [segment.slots.owner & 0xFFFF] == [
        place for place in range(segment.layout.slots) if not is_dead(segment, place)
    ]


def is_dead(segment: Segment, place: int) -> bool:
    """Whether the last owner of a slot is gone."""
    epoch = segment.words[segment.slots._index(place) + 1]
    return segment.slots.is_dead(epoch << 16 | place)


# Leading.


def lead(segment: Segment) -> tuple[Claim | None, bool]:
    """Lead or find the one flight of these tests."""
    return segment.write(segment.claims.lead, 5, 6, 0)


def child_leads(segment: Segment) -> None:
    """In a forked child."""
    segment.after_fork()
    assert segment.claim_slot(WALL_MS)
    claim, leading = lead(segment)
    assert claim is not None
    if not leading:
        assert segment.write(segment.claims.inherit, claim, 0, PATIENT_MS)
    segment.claims.join(claim)
    if points.ARMED is not None and "claim.failed" in points.ARMED:
        segment.claims.fail(claim, b"ValueError\nno", 0)
    segment.claims.end(claim)


@pytest.fixture
def survivor(attach_here: Attach) -> Segment:
    """One who has a slot, and leads nothing."""
    segment = attach_here()
    assert segment.claim_slot(WALL_MS)
    return segment


def leads_on(survivor: Segment) -> None:
    """A flight can be led from begin to end, and none is left."""
    claim, leading = lead(survivor)
    assert claim is not None
    assert leading or survivor.write(survivor.claims.inherit, claim, 0, PATIENT_MS)
    assert (claim, False) == lead(survivor)
    assert not survivor.claims.needs_heir(claim, 0, PATIENT_MS)
    survivor.claims.end(claim)
    assert (FREE, 0) == (survivor.claims.state(claim), survivor.claims.running())


def test_a_leader_killed_before_it_leads(survivor: Segment, forks: Forks) -> None:
    """A claim that was being written when its writer died is not there: the next one leads."""
    killed(forks, "claim.written", child_leads, survivor)
    assert survivor.claims.find(5, 6) is None
    leads_on(survivor)


def test_a_leader_killed_while_it_leads(survivor: Segment, forks: Forks) -> None:
    """The flight of a dead leader is found, seen to need an heir, and inherited once."""
    killed(forks, "claim.led", child_leads, survivor)
    claim = survivor.claims.find(5, 6)
    assert claim is not None
    assert survivor.claims.needs_heir(claim, 0, PATIENT_MS)
    leads_on(survivor)


def test_an_heir_killed_at_once(survivor: Segment, forks: Forks) -> None:
    """An heir that dies too is followed by the next one."""
    killed(forks, "claim.led", child_leads, survivor)
    for _ in range(3):
        killed(forks, "claim.inherited", child_leads, survivor)
    leads_on(survivor)


def test_a_leader_killed_after_it_failed(survivor: Segment, forks: Forks) -> None:
    """A failure that was told before the kill is told, and the next one leads."""
    killed(forks, "claim.failed", child_leads, survivor)
    failed = Claim(survivor.layout.claims_at + 5 % (survivor.layout.claims // CLAIM_WAYS) * CLAIM_WAYS * CLAIM_WORDS, 1)
    assert (FAILED, b"ValueError\nno") == (survivor.claims.state(failed), survivor.claims.failure(failed))
    leads_on(survivor)


def test_a_leader_killed_after_the_end(survivor: Segment, forks: Forks) -> None:
    """A flight that was ended before the kill is over."""
    killed(forks, "claim.ended", child_leads, survivor)
    assert survivor.claims.find(5, 6) is None
    leads_on(survivor)


@pytest.mark.parametrize("point", ["lock.held", "claim.written", "claim.led", "lock.unlocked"])
def test_a_leader_stopped_at(point: str, survivor: Segment, forks: Forks) -> None:
    """A leader that stands still is not dead: it is followed, not inherited from, until it is overdue."""
    child = forks.fork(armed, f"{point}=stop", child_leads, survivor)
    child.wait_stopped()
    claim = survivor.claims.find(5, 6)
    if claim is not None:
        assert RUNNING == survivor.claims.state(claim)
        assert not survivor.claims.needs_heir(claim, PATIENT_MS, PATIENT_MS)
        assert survivor.claims.needs_heir(claim, PATIENT_MS + 1, PATIENT_MS)
    child.resume()
    assert 0 == child.wait()
    leads_on(survivor)


def test_a_child_that_is_not_killed_is_no_proof(survivor: Segment, forks: Forks) -> None:
    """These tests notice a point that was not reached."""
    with pytest.raises(AssertionError, match="did not get to the point"):
        killed(forks, "segment.live", child_leads, survivor)
    assert RAISED == forks.fork(lambda: pytest.fail("seen")).wait()
