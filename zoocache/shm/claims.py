"""The claims: who on this host is computing which digest, so that the others wait for it.

A digest belongs to one bucket of CLAIM_WAYS claims. C_STATE commits: FREE (whatever the other words hold), RUNNING,
FAILED (the text says how, for those who waited). A ticket names one claim for ever, so a follower that kept
(index, ticket) can tell its flight from a later one in the same place.

    lead      under the lock: all words, C_STATE = RUNNING last
    join      no lock: C_JOINED = 1
    lease     the owner alone, no lock: C_LEASED = 1, before the lease is asked for
    inherit   under the lock, the owner proved dead or overdue: C_SINCE_MS, C_OWNER (one store: true)
    end       the owner alone, no lock: C_STATE = FREE
    fail      the owner alone, no lock: text, length, C_SINCE_MS, C_STATE = FAILED
    look      no lock: state, then ticket; another ticket means that the flight is over

Crash argument: a claim whose owner is killed stays RUNNING, and whoever waits for it or needs its place finds the
owner dead and takes it over under the lock. Nothing but computing twice can come of a torn claim: values never pass
through here.

A flight may hold a lease in a storage that hosts share, under a token made of the segment's incarnation and its ticket.
An heir has the same ticket, so it has the lease too. The listener renews the leases of the flights that are led by
living processes, and no other: a lease outlives its leader by its own length at most.

Ending takes no lock so that a leader never waits for a writer. The price: an owner that is stopped for longer than
the followers' patience between looking at C_OWNER and storing C_STATE may end the claim of its successor, and a
value is computed twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from zoocache.shm import points
from zoocache.shm.layout import (
    C_HIGH,
    C_JOINED,
    C_LEASED,
    C_LENGTH,
    C_LOW,
    C_OWNER,
    C_SINCE_MS,
    C_STATE,
    C_TEXT,
    C_TICKET,
    CLAIM_TEXT_BYTES,
    CLAIM_WAYS,
    CLAIM_WORDS,
    H_INCARNATION,
    H_INHERITED,
    H_TICKETS,
    NEVER,
    WORD,
    Layout,
)
from zoocache.shm.slots import Slots

FREE, RUNNING, FAILED = 0, 1, 2

_BUCKET_WORDS = CLAIM_WAYS * CLAIM_WORDS

FAILED_LINGERS_MS = 2000
"""A failed claim keeps its text for so long: a follower looks every few milliseconds."""

UNJOINED_LINGERS_MS = 100
"""And for so long if nobody has joined it: somebody may have found it and be just about to."""


_two_words = struct.Struct("=QQ").pack


class Claim(NamedTuple):
    """One flight on this host: where it stands, and its name."""

    at: int
    ticket: int


class Claims:
    """The claims of one segment. What must be called under the segment's lock says so."""

    def __init__(self, words: memoryview, raw: memoryview, layout: Layout, slots: Slots) -> None:
        self._words = words
        self._bytes = raw
        self._slots = slots
        self._at = layout.claims_at
        self._buckets = layout.claims // CLAIM_WAYS

    def _bucket(self, high: int) -> range:
        start = self._at + high % self._buckets * _BUCKET_WORDS
        return range(start, start + _BUCKET_WORDS, CLAIM_WORDS)

    def _states(self, high: int) -> list[int]:
        """The states of a bucket's claims, each copied out as a word."""
        start = self._at + high % self._buckets * _BUCKET_WORDS
        return self._words[start : start + _BUCKET_WORDS : CLAIM_WORDS].tolist()

    def find(self, high: int, low: int) -> Claim | None:
        """The flight of a digest that is under way, if there is one. No lock: it may be over when this returns."""
        if RUNNING not in self._states(high):
            return None
        words = self._words
        for at in self._bucket(high):
            if words[at] == RUNNING and words[at + C_HIGH] == high and words[at + C_LOW] == low:
                return Claim(at, words[at + C_TICKET])
        return None

    def lead(self, high: int, low: int, up_ms: int) -> tuple[Claim | None, bool]:
        """Begin a flight, or find the one that is under way. Under the lock.

        Args:
            high, low: the digest.
            up_ms: now.

        Returns:
            (claim, True) for the leader, (claim, False) for a follower, (None, True) where no claim was free.
        """
        running = self.find(high, low)
        if running is not None:
            return running, False
        at = self._place_for(high, up_ms)
        if at < 0:
            return None, True
        words = self._words
        words[H_TICKETS] = ticket = words[H_TICKETS] + 1  # once before, so that no two claims have it
        words[at + C_STATE] = FREE
        words[at + C_HIGH] = high
        words[at + C_LOW] = low
        words[at + C_OWNER] = self._slots.owner
        words[at + C_TICKET] = ticket
        words[at + C_SINCE_MS] = up_ms
        words[at + C_JOINED] = 0
        words[at + C_LEASED] = 0
        if points.ARMED:
            points.reach("claim.written")
        words[at + C_STATE] = RUNNING
        words[H_TICKETS] = ticket + 1  # once after: see quiet_since
        if points.ARMED:
            points.reach("claim.led")
        return Claim(at, ticket), True

    def _place_for(self, high: int, up_ms: int) -> int:
        """Where in its bucket a new claim may stand; -1: nowhere. A claim that is free stays so under the lock."""
        states = self._states(high)
        if FREE in states:
            return self._bucket(high)[states.index(FREE)]
        return next(self._vacant(high, up_ms), -1)

    def _vacant(self, high: int, up_ms: int) -> Iterator[int]:
        """The places of a bucket that may be used though they were not given back, the best first."""
        words, bucket = self._words, self._bucket(high)
        for lingers_ms, joined in ((UNJOINED_LINGERS_MS, 0), (FAILED_LINGERS_MS, 1)):
            yield from (
                at
                for at in bucket
                if words[at] == FAILED
                and words[at + C_JOINED] <= joined
                and up_ms - words[at + C_SINCE_MS] > lingers_ms
            )
        yield from (at for at in bucket if words[at] == RUNNING and self._slots.is_dead(words[at + C_OWNER]))
        # Where backends fail fast, failures fill a bucket before they have lingered. Rather than let every process
        # compute, the oldest goes: who has not read it by now finds its flight over, and looks again.
        yield from sorted((at for at in bucket if words[at] == FAILED), key=lambda at: words[at + C_SINCE_MS])

    def join(self, claim: Claim) -> None:
        """Tell that somebody waits, so that a failure keeps its text longer."""
        self._words[claim.at + C_JOINED] = 1

    def lease(self, claim: Claim) -> bytes:
        """The token for a lease of this flight; from here on the listener renews it. The owner alone."""
        if self.is_mine(claim):
            self._words[claim.at + C_LEASED] = 1
        return _two_words(self._words[H_INCARNATION], claim.ticket)

    def leased(self) -> list[tuple[bytes, bytes]]:
        """Digest and token of each lease whose leader lives. No lock: a flight may be over when this returns."""
        words = self._words
        incarnation = words[H_INCARNATION]
        found = [
            (words[at + C_HIGH], words[at + C_LOW], words[at + C_TICKET], words[at + C_OWNER])
            for at in self._places()
            if words[at] == RUNNING and words[at + C_LEASED]
        ]
        return [
            (_two_words(high, low), _two_words(incarnation, ticket))
            for high, low, ticket, owner in found
            if not self._slots.is_dead(owner)
        ]

    def _places(self) -> range:
        return range(self._at, self._at + self._buckets * CLAIM_WAYS * CLAIM_WORDS, CLAIM_WORDS)

    def quiet_since(self, high: int, low: int) -> int:
        """The ticket that `lead` will give the caller if nobody begins any flight before it does; 0 if the digest's
        flight is under way already.

        The tickets move before and after a claim begins to run. They are read first: a leader that was seen neither
        here nor by `find` moves them later, one that moved them twice has run by then, and if it has ended, what it
        kept is there to be found.
        """
        ticket = self._words[H_TICKETS] + 1
        return 0 if self.find(high, low) else ticket

    def tickets(self) -> int:
        """Below every ticket that is given from here on."""
        return self._words[H_TICKETS]

    def state(self, claim: Claim) -> int:
        """RUNNING, FAILED, or FREE once the flight is over (or its place has gone to another)."""
        words = self._words
        state = words[claim.at + C_STATE]
        return state if words[claim.at + C_TICKET] == claim.ticket else FREE

    def needs_heir(self, claim: Claim, up_ms: int, overdue_ms: int) -> bool:
        """Whether the flight's leader is proved dead, or has been at it for longer than `overdue_ms`; a beginning that
        far ahead is none, and nobody waits for it to come."""
        words = self._words
        if self.state(claim) != RUNNING:
            return False
        overdue = abs(up_ms - words[claim.at + C_SINCE_MS]) > overdue_ms
        return overdue or self._slots.is_dead(words[claim.at + C_OWNER])

    def inherit(self, claim: Claim, up_ms: int, overdue_ms: int) -> bool:
        """Become the leader in place of one that is dead or overdue; whether it worked. Under the lock."""
        if not self.needs_heir(claim, up_ms, overdue_ms):
            return False
        words = self._words
        words[claim.at + C_SINCE_MS] = up_ms
        words[claim.at + C_OWNER] = self._slots.owner
        words[H_INHERITED] = (words[H_INHERITED] + 1) & NEVER
        if points.ARMED:
            points.reach("claim.inherited")
        return True

    def is_mine(self, claim: Claim) -> bool:
        """Whether the flight is under way and led by this process."""
        words = self._words
        return (
            self._slots.owner != 0
            and words[claim.at + C_OWNER] == self._slots.owner
            and words[claim.at + C_TICKET] == claim.ticket
            and words[claim.at + C_STATE] == RUNNING
        )

    def end(self, claim: Claim) -> None:
        """The value is there (or there will be none); who waited looks for it. The owner alone."""
        if self.is_mine(claim):
            self._words[claim.at + C_STATE] = FREE
            if points.ARMED:
                points.reach("claim.ended")

    def fail(self, claim: Claim, text: bytes, up_ms: int) -> None:
        """The flight raised; leave `text` (cut to CLAIM_TEXT_BYTES) to those who waited. The owner alone."""
        words = self._words
        if not self.is_mine(claim):
            return
        text = text[:CLAIM_TEXT_BYTES]
        start = (claim.at + C_TEXT) * WORD
        self._bytes[start : start + len(text)] = text
        words[claim.at + C_LENGTH] = len(text)
        words[claim.at + C_SINCE_MS] = up_ms
        words[claim.at + C_STATE] = FAILED
        if points.ARMED:
            points.reach("claim.failed")

    def failure(self, claim: Claim) -> bytes | None:
        """The text that a failed flight left, or None if its place has gone to another meanwhile."""
        start = (claim.at + C_TEXT) * WORD
        length = min(self._words[claim.at + C_LENGTH], CLAIM_TEXT_BYTES)
        text = bytes(self._bytes[start : start + length])
        return text if self.state(claim) == FAILED else None

    def running(self) -> int:
        """How many flights are under way."""
        words = self._words
        return sum(words[at] == RUNNING for at in self._places())
