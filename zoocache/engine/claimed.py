"""One fill among the processes of a host: a claim a key in the segment (shm/claims.py), where there is a store.

Who finds a claim waits, looks into the store again, and inherits the claim of a leader that is dead or overdue. Between
a look into the store that found nothing and one's own claim a flight may have ended; the host's count of tickets tells
whether anything happened, and the new leader looks again if so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from zoocache import clock
from zoocache.engine import leased
from zoocache.engine.computing import Result, compute_and_save, load, raise_failure, told
from zoocache.engine.core import Engine
from zoocache.engine.effects import Pause, Steps, patiently
from zoocache.engine.fill import Fill
from zoocache.engine.spec import Call
from zoocache.errors import Busy
from zoocache.flight import Flight
from zoocache.log import log
from zoocache.shm import claims
from zoocache.shm.claims import Claim, Claims
from zoocache.shm.segment import Orphaned
from zoocache.trie import Trie, hash_words

T = TypeVar("T")

TRIES = 8
"""Who finds flights of others in vain again and again computes for itself after so many."""

PROBE_S = 0.05
"""How often a follower asks whether the leader in another process lives."""

LONGEST_PAUSE_S = 0.01


def obtain(engine: Engine, call: Call, flight: Flight, inside: Fill | None) -> Steps[Result]:
    """What the store has, or another process of the host computes, or this one does."""
    high, low = hash_words(call.digest)
    for _ in range(TRIES):
        trie = engine.trie
        expected = trie.segment.claims.quiet_since(high, low)
        found = yield from load(engine, call, flight)
        if found is not None:
            return found
        mine = Mine(trie, high, low)
        try:  # twice: a signal handler may raise anywhere, and a claim that nobody ends is waited for until overdue
            try:
                found = yield from _once(engine, call, flight, inside, mine, expected)
            finally:
                mine.end()
        finally:
            mine.end()
        if found is not None:
            return found
    return (yield from _bring(engine, call, flight, inside, None, look=False))


class Mine:
    """What one attempt may have to end: the claim that it leads, or was about to lead when it was interrupted.

    Attributes:
        trie, high, low: of which segment, and of which digest.
        claim: to be ended.
        is_known: whether `claim` says so; not before it is known who leads.
    """

    __slots__ = ("_ticket", "claim", "high", "is_known", "low", "trie")

    def __init__(self, trie: Trie, high: int, low: int) -> None:
        self.trie, self.high, self.low = trie, high, low
        self._ticket = trie.segment.claims.tickets()
        self.claim: Claim | None = None
        self.is_known = False

    def end(self) -> None:
        """End it, if it is still under way and this process leads it."""
        host, claim = self.trie.segment.claims, self.claim
        if not self.is_known:
            running = host.find(self.high, self.low)
            claim = running if running is not None and running.ticket > self._ticket else None
        if claim is not None:
            host.end(claim)


def _once(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, mine: Mine, expected: int
) -> Steps[Result | None]:
    """Lead the flight on this host, or follow it. None: look again, it is over, or the segment is another."""
    trie, host = mine.trie, mine.trie.segment.claims
    claim, leading = yield from _claim(engine, trie, mine.high, mine.low)
    mine.claim, mine.is_known = (claim if leading else None), True
    if claim is None:
        return None if engine.trie is not trie else (yield from _bring(engine, call, flight, inside, None, look=False))
    if not leading and host.is_mine(claim) and not host.needs_heir(claim, clock.up_ms(), _overdue_ms(engine)):
        # Who is asked for it here already was given up, or is interrupted below this very frame, perhaps with the lease
        # of other hosts in its hand: to wait for either might be to wait for oneself.
        return (yield from compute_and_save(engine, call, flight, inside))
    if leading or (yield from _follow_on_host(engine, mine, claim, flight)):
        return (yield from _lead_on_host(engine, call, flight, inside, host, claim, look=claim.ticket != expected))
    return None


def _claim(engine: Engine, trie: Trie, high: int, low: int) -> Steps[tuple[Claim | None, bool]]:
    """Lead or find the flight of a digest on this host; (None, True) where nobody can be told of it."""
    segment = trie.segment
    if not segment.shared or not segment.claim_slot(clock.wall_ms()):
        return None, True
    nobody: tuple[Claim | None, bool] = (None, True)
    return (yield from _under_lock(engine, trie, nobody, segment.claims.lead, high, low, clock.up_ms()))


def _under_lock(engine: Engine, trie: Trie, otherwise: T, action: Callable[..., T], *args: Any) -> Steps[T]:
    """`action(*args)` under the segment's lock; `otherwise` if it cannot be had.

    A call that cannot tell the others of its fill computes all the same: a value twice is better than none.
    """
    try:
        done: T = yield from patiently(trie.segment.write, action, *args)
    except Orphaned:
        engine.reattach(trie)
    except Busy as error:
        log.warning("zoocache: computing without telling the other processes: %s", error)
    else:
        return done
    return otherwise


def _overdue_ms(engine: Engine) -> int:
    return round(engine.settings.flight_timeout * 1000)


def _follow_on_host(engine: Engine, mine: Mine, claim: Claim, flight: Flight) -> Steps[bool]:
    """Wait for the leader in another process; whether this one has become the leader in its place.

    Who finds the segment an orphan waits no more: the leader may have left it, and nobody ends a flight there.
    """
    trie, host = mine.trie, mine.trie.segment.claims
    host.join(claim)
    overdue_ms = _overdue_ms(engine)
    start_s = probed_s = time.monotonic()
    while (state := host.state(claim)) == claims.RUNNING and engine.trie is trie:
        now_s = time.monotonic()
        if now_s - probed_s >= PROBE_S:
            probed_s = now_s
            if host.needs_heir(claim, clock.up_ms(), overdue_ms):
                mine.claim = claim  # before it is, in case that this is interrupted
                if (yield from _under_lock(engine, trie, False, host.inherit, claim, clock.up_ms(), overdue_ms)):
                    return True
                mine.claim = None
        yield Pause(min(LONGEST_PAUSE_S, max(0.0002, (now_s - start_s) / 8)))
    if state == claims.FAILED:
        raise_failure(host.failure(claim), flight)
    return False


def _lead_on_host(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, host: Claims, claim: Claim, *, look: bool
) -> Steps[Result]:
    """Whoever asked for this ends the claim, whatever came of it."""
    try:
        return (yield from _bring(engine, call, flight, inside, claim, look=look))
    except Exception as error:
        host.fail(claim, told(error), clock.up_ms())
        raise


def _bring(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, claim: Claim | None, *, look: bool
) -> Steps[Result]:
    """Compute, or have what others computed meanwhile: to look is worth while if they may have, or are elsewhere."""
    if engine.far is not None:
        return (yield from leased.bring(engine, call, flight, inside, claim))
    found = (yield from load(engine, call, flight)) if look else None
    return found if found is not None else (yield from compute_and_save(engine, call, flight, inside))
