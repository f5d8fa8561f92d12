"""zoocache/shm/claims.py: one leader for a digest on the host, an heir for a dead one, a word for those who wait."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable

import pytest

from tests.forks import Fork, Forks
from tests.shm.locking import shared_words
from zoocache.shm.claims import FAILED, FAILED_LINGERS_MS, FREE, RUNNING, UNJOINED_LINGERS_MS, Claim
from zoocache.shm.layout import C_OWNER, CLAIM_TEXT_BYTES, CLAIM_WAYS, H_INHERITED
from zoocache.shm.segment import Segment

NOW_MS = 5_000_000
PATIENT_MS = 60_000
LOW = 7


@pytest.fixture
def segment(attach_here: Callable[..., Segment]) -> Segment:
    """A segment in which this process has a slot."""
    segment = attach_here()
    segment.claim_slot(0)
    return segment


@pytest.fixture
def other(attach_here: Callable[..., Segment], segment: Segment) -> Segment:
    """The same, as another process sees it."""
    other = attach_here()
    other.claim_slot(0)
    return other


def lead(segment: Segment, high: int, up_ms: int = NOW_MS) -> tuple[Claim | None, bool]:
    """Lead or find a flight, under the lock as it must be."""
    return segment.write(segment.claims.lead, high, LOW, up_ms)


def led(segment: Segment, high: int, up_ms: int = NOW_MS) -> Claim:
    """Lead a flight that nobody leads."""
    claim, leading = lead(segment, high, up_ms)
    assert leading
    assert claim is not None
    return claim


def neighbours(segment: Segment) -> list[int]:
    """Digests that share a bucket, one more than it has places."""
    buckets = segment.layout.claims // CLAIM_WAYS
    return [3 + buckets * place for place in range(CLAIM_WAYS + 1)]


def leader(forks: Forks, segment: Segment, high: int) -> tuple[Fork, Claim]:
    """A process that leads a flight for ever."""
    readable, writable = os.pipe()

    def work() -> None:
        segment.after_fork()
        segment.claim_slot(0)
        os.write(writable, " ".join(map(str, led(segment, high))).encode())
        time.sleep(1000)

    child = forks.fork(work)
    claim = Claim(*map(int, os.read(readable, 60).split()))
    os.close(readable)
    os.close(writable)
    return child, claim


def test_the_first_leads_and_the_others_follow(segment: Segment, other: Segment) -> None:
    """For one digest one leads; who comes later finds the same flight, whichever process it is in."""
    claim = led(segment, 1)
    assert [(claim, False)] * 2 == [lead(other, 1), lead(segment, 1)]
    assert claim == other.claims.find(1, LOW)
    assert RUNNING == other.claims.state(claim)
    assert other.claims.find(1, LOW + 1) is None


def test_an_ended_flight_is_over(segment: Segment, other: Segment) -> None:
    """After the end the flight is free, is not found, and the next one leads another."""
    claim = led(segment, 1)
    segment.claims.end(claim)
    assert (FREE, None, 0) == (other.claims.state(claim), other.claims.find(1, LOW), other.claims.running())
    assert claim.ticket < led(other, 1).ticket
    assert FREE == segment.claims.state(claim)


def test_a_ticket_names_one_flight(segment: Segment) -> None:
    """A follower that kept the place of an old flight does not take another's in the same place for it."""
    old = led(segment, 1)
    segment.claims.end(old)
    new = led(segment, 1)
    assert old.at == new.at
    assert (FREE, RUNNING) == (segment.claims.state(old), segment.claims.state(new))
    segment.claims.end(old)
    segment.claims.fail(old, b"late", NOW_MS)
    assert RUNNING == segment.claims.state(new)


def test_only_the_owner_ends(segment: Segment, other: Segment) -> None:
    """Nobody else's `end` or `fail` does anything."""
    claim = led(segment, 1)
    other.claims.end(claim)
    other.claims.fail(claim, b"not mine", NOW_MS)
    assert RUNNING == segment.claims.state(claim)


def test_a_forked_child_does_not_end_its_parents_flight(segment: Segment, forks: Forks) -> None:
    """A child is not the owner of what its parent leads."""
    claim = led(segment, 1)

    def try_it() -> None:
        segment.after_fork()
        segment.claims.end(claim)
        segment.claim_slot(0)
        segment.claims.end(claim)

    assert 0 == forks.fork(try_it).wait()
    assert RUNNING == segment.claims.state(claim)


def test_a_failure_tells_those_who_wait(segment: Segment, other: Segment) -> None:
    """Who joined reads the text of the failure; the digest is free for the next leader meanwhile."""
    claim = led(segment, 1)
    other.claims.join(claim)
    segment.claims.fail(claim, b"ValueError\nno", NOW_MS)
    assert (FAILED, b"ValueError\nno") == (other.claims.state(claim), other.claims.failure(claim))
    assert other.claims.find(1, LOW) is None
    assert led(other, 1).at != claim.at
    assert b"ValueError\nno" == other.claims.failure(claim)


def test_a_long_failure_is_cut(segment: Segment) -> None:
    """A text that is too long keeps its beginning, and spoils no neighbour."""
    one, two = (led(segment, high) for high in neighbours(segment)[:2])
    segment.claims.fail(one, b"x" * 5000, NOW_MS)
    assert b"x" * CLAIM_TEXT_BYTES == segment.claims.failure(one)
    assert RUNNING == segment.claims.state(two)


def full(segment: Segment) -> list[Claim]:
    """Fill a bucket."""
    return [led(segment, high) for high in neighbours(segment)[:CLAIM_WAYS]]


def test_the_failure_of_another_flight_is_not_told(segment: Segment) -> None:
    """Once its place has gone to another flight, a failure is no longer to be had."""
    claim = full(segment)[3]
    segment.claims.fail(claim, b"old", NOW_MS)
    heir = led(segment, neighbours(segment)[-1], NOW_MS + UNJOINED_LINGERS_MS + 1)
    assert claim.at == heir.at
    assert segment.claims.failure(claim) is None
    segment.claims.fail(heir, b"new", NOW_MS)
    assert segment.claims.failure(claim) is None


def test_a_full_bucket_is_no_error(segment: Segment) -> None:
    """Where no place is free the caller computes without a claim; one that ends makes room."""
    claims, extra = full(segment), neighbours(segment)[-1]
    assert (None, True) == lead(segment, extra)
    segment.claims.end(claims[2])
    assert claims[2].at == led(segment, extra).at


@pytest.mark.parametrize(("joined", "lingers_ms"), [(True, FAILED_LINGERS_MS), (False, UNJOINED_LINGERS_MS)])
def test_a_failure_lingers_and_then_gives_way(segment: Segment, forks: Forks, joined: bool, lingers_ms: int) -> None:
    """A failed flight keeps its place for a while, longer if somebody waits, while a dead one's is to be had."""
    *digests, extra = neighbours(segment)
    child, of_the_dead = leader(forks, segment, digests[0])
    failed, *_ = (led(segment, high) for high in digests[1:])
    child.kill()
    if joined:
        segment.claims.join(failed)
    segment.claims.fail(failed, b"", NOW_MS)
    first = led(segment, extra, NOW_MS + lingers_ms)
    assert of_the_dead.at == first.at
    segment.claims.end(first)
    led(segment, digests[0])
    assert failed.at == led(segment, extra, NOW_MS + lingers_ms + 1).at


def test_the_oldest_failure_gives_way_where_nothing_else_does(segment: Segment) -> None:
    """However many flights fail in a short time, the next one has a place, and the latest failure can be read."""
    claims, extra = full(segment), neighbours(segment)[-1]
    for age_ms, claim in enumerate(claims):
        segment.claims.join(claim)
        segment.claims.fail(claim, b"failed", NOW_MS - age_ms)
    assert claims[-1].at == led(segment, extra, NOW_MS + 1).at
    assert [None, b"failed"] == [segment.claims.failure(claims[place]) for place in (-1, 0)]


def test_the_flights_of_the_dead_give_way(segment: Segment, forks: Forks) -> None:
    """The place of a flight whose leader was killed serves another when no other is left."""
    *digests, extra = neighbours(segment)
    child, claim = leader(forks, segment, digests[0])
    for high in digests[1:]:
        led(segment, high)
    assert (None, True) == lead(segment, extra)
    child.kill()
    assert claim.at == led(segment, extra).at


def test_a_dead_leader_has_one_heir(segment: Segment, forks: Forks) -> None:
    """Of many that see a leader dead exactly one takes its place, and the flight keeps its name."""
    child, claim = leader(forks, segment, 1)
    dead = segment.words[claim.at + C_OWNER]
    readable, writable = os.pipe()

    def compete() -> None:
        segment.after_fork()
        segment.claim_slot(0)
        while not segment.slots.is_dead(dead):
            time.sleep(0.0002)
        inherited = segment.write(segment.claims.inherit, claim, NOW_MS, PATIENT_MS)
        os.write(writable, str(int(inherited)).encode())
        time.sleep(1000)

    assert not segment.write(segment.claims.inherit, claim, NOW_MS, PATIENT_MS)
    for _ in range(4):
        forks.fork(compete)
    child.kill()
    assert ["0", "0", "0", "1"] == sorted(os.read(readable, 1).decode() for _ in range(4))
    assert (1, RUNNING) == (segment.words[H_INHERITED], segment.claims.state(claim))
    os.close(readable)
    os.close(writable)


def test_an_overdue_leader_is_replaced(segment: Segment, other: Segment) -> None:
    """A leader that takes too long loses its flight to an heir, and its late end does not end the heir's."""
    claim = led(segment, 1)
    assert not other.claims.needs_heir(claim, NOW_MS + PATIENT_MS, PATIENT_MS)
    assert other.write(other.claims.inherit, claim, NOW_MS + PATIENT_MS + 1, PATIENT_MS)
    segment.claims.end(claim)
    segment.claims.fail(claim, b"late", NOW_MS)
    assert RUNNING == other.claims.state(claim)
    assert not segment.claims.needs_heir(claim, NOW_MS + PATIENT_MS + 2, PATIENT_MS)
    other.claims.end(claim)
    assert FREE == segment.claims.state(claim)


def test_a_flight_that_is_over_needs_no_heir(segment: Segment, other: Segment) -> None:
    """Nobody inherits what has ended or failed, however long ago."""
    ended, failed = led(segment, 1), led(segment, 2)
    segment.claims.end(ended)
    segment.claims.fail(failed, b"", NOW_MS)
    for claim in (ended, failed):
        assert not other.write(other.claims.inherit, claim, NOW_MS + 10 * PATIENT_MS, PATIENT_MS)


def test_who_has_left_leads_nothing_and_waits_for_nobody(segment: Segment, other: Segment) -> None:
    """For one who has left the segment every flight needs an heir, so nobody waits there for ever."""
    claim = led(segment, 1)
    other.leave()
    assert other.claims.needs_heir(claim, NOW_MS, PATIENT_MS)
    segment.leave()
    segment.claims.end(claim)
    assert RUNNING == segment.claims.state(claim)


def test_quiet_since_foretells_the_ticket(segment: Segment, other: Segment) -> None:
    """If no flight began in between, `lead` gives the ticket that was foretold; if one did, another."""
    foretold = segment.claims.quiet_since(1, LOW)
    assert foretold == led(segment, 1).ticket
    assert 0 == segment.claims.quiet_since(1, LOW)
    foretold = segment.claims.quiet_since(2, LOW)
    other.claims.end(led(other, 9))
    assert foretold != led(segment, 2).ticket


def test_running_counts_flights(segment: Segment) -> None:
    """`running` is how many flights are under way."""
    claims = [led(segment, high) for high in range(5)]
    segment.claims.end(claims[0])
    segment.claims.fail(claims[1], b"", NOW_MS)
    assert 3 == segment.claims.running()


def spin(segment: Segment, words: memoryview) -> None:
    """In a forked child: lead the one digest again and again, and see whether somebody else does at the same time."""
    segment.after_fork()
    segment.claim_slot(0)
    while words[1] < 300:
        claim, leading = lead(segment, 1)
        if leading and claim is not None:
            words[0] = os.getpid()
            for _ in range(50):
                if words[0] != os.getpid():
                    words[2] += 1
            words[1] += 1
            segment.claims.end(claim)


def test_one_leader_at_a_time(segment: Segment, forks: Forks) -> None:
    """Several processes that want one digest over and over are never two at it."""
    words = shared_words(3)
    children = [forks.fork(spin, segment, words) for _ in range(3)]
    assert [0] * 3 == [child.wait() for child in children]
    assert (True, 0) == (words[1] >= 300, words[2])


def test_a_lease_is_listed_while_its_leader_lives(segment: Segment, other: Segment) -> None:
    """The leases to renew are those of flights under way, by digest and token, as any process sees them."""
    claim = led(segment, 5)
    led(segment, 6)
    assert [] == other.claims.leased()
    token = segment.claims.lease(claim)
    digest = struct.pack("=QQ", 5, LOW)
    assert [(digest, token)] == other.claims.leased()
    assert token == segment.claims.lease(claim)
    segment.claims.end(claim)
    assert [] == other.claims.leased()


def test_a_lease_of_the_dead_is_not_renewed(segment: Segment, other: Segment) -> None:
    """A flight whose leader is gone is not listed; its heir, which has the same token, is."""
    claim = led(other, 5)
    token = other.claims.lease(claim)
    other.leave()
    assert [] == segment.claims.leased()
    assert segment.write(segment.claims.inherit, claim, NOW_MS, PATIENT_MS)
    assert [token] == [each for _, each in segment.claims.leased()]


def test_only_the_leader_has_the_lease(segment: Segment, other: Segment) -> None:
    """A follower's word changes nothing, and the next flight in the same place begins without a lease."""
    claim = led(segment, 5)
    other.claims.lease(claim)
    assert [] == segment.claims.leased()
    first = segment.claims.lease(claim)
    segment.claims.end(claim)
    again = led(segment, 5)
    assert [] == segment.claims.leased()
    assert first != segment.claims.lease(again)
