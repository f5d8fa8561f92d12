"""One fill among the hosts that share a store: a lease a key in the store.

The leader of a host's claim (or of a flight that no claim tells of) asks the store in one question for a valid entry,
for what the flight that it waits for left if that raised, and for the lease. Whoever gets the lease computes; its token
names the claim, so that the host's listener renews it while the claim's owner lives, and an heir of the claim goes on
under it. A lease that nobody renews is over within LEASE_MS: the next who asks has it.

Nothing but a value computed twice can come of a lease that is lost: what may be kept is the store's to say, by stamps.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from zoocache import clock
from zoocache.engine import keeping
from zoocache.engine.computing import Result, compute_and_save, raise_failure, told
from zoocache.engine.core import Engine
from zoocache.engine.effects import Pause, Steps
from zoocache.engine.fill import Fill
from zoocache.engine.keeping import Begun
from zoocache.engine.spec import Call
from zoocache.flight import LOADED, Flight
from zoocache.shm.claims import Claim
from zoocache.storage import Failed, Leads, Loaded
from zoocache.trie import Trie

LEASE_MS = 1000
"""How long a lease stands that is not renewed, where a listener renews it."""

LONE_LEASE_MS = 3000
"""And where there is none that could."""

LONGEST_PAUSE_S = 0.02

MOST_LEFT = 1000
"""So many leases of interrupted callers are remembered."""


def bring(engine: Engine, call: Call, flight: Flight, inside: Fill | None, claim: Claim | None) -> Steps[Result]:
    """What the store has, or another host computes, or this one does.

    Args:
        engine, call, flight, inside: of the call.
        claim: what this process leads on its host, if anything tells the others.
    """
    engine.watch()  # before the fill: who renews its lease must be there before that is over
    trie = engine.trie
    token = _token(trie, claim)
    left = engine.left_leases.pop(call.digest, None)
    if left is not None:
        with _left_to_the_next(engine, call, left):
            yield from engine.ask("end", call.digest, left, None)
    followed: bytes | None = None
    start_s = time.monotonic()
    while (waited_s := time.monotonic() - start_s) <= engine.settings.flight_timeout:
        since, asked_s = trie.seq(), time.monotonic()
        with _left_to_the_next(engine, call, token):  # the server may grant it to who has gone
            answer = yield from engine.ask("claim", call.digest, token, _lease_ms(engine), followed, clock.now())
        if answer is None:
            break
        if isinstance(answer, Loaded):
            found = keeping.open_loaded(engine, call.key, call.digest, call.spec.share, trie, since, asked_s, answer)
            if found is None:
                break
            call.spec.counters.hits += 1
            flight.stamp = LOADED
            return found
        if isinstance(answer, Leads):
            keeping.met(engine, trie, answer.stamp.n)
            return (yield from _lead(engine, call, flight, inside, claim, token, Begun(trie, since, answer.stamp)))
        if isinstance(answer, Failed):
            raise_failure(answer.text, flight)
        else:
            followed = answer.token
        yield Pause(min(LONGEST_PAUSE_S, max(0.001, waited_s / 8)))
    return (yield from compute_and_save(engine, call, flight, inside))


def _token(trie: Trie, claim: Claim | None) -> bytes:
    """What names the lease: the host and its claim, or nothing that anybody else knows."""
    return os.urandom(16) if claim is None else trie.segment.claims.lease(claim)


def _lease_ms(engine: Engine) -> int:
    return LEASE_MS if engine.has_listener else LONE_LEASE_MS


def _lead(
    engine: Engine, call: Call, flight: Flight, inside: Fill | None, claim: Claim | None, token: bytes, begun: Begun
) -> Steps[Result]:  # fmt: skip
    """Compute under the lease, and give it back."""
    with _left_to_the_next(engine, call, token):
        try:
            brought = yield from compute_and_save(engine, call, flight, inside, begun)
        except Exception as error:
            yield from engine.ask("end", call.digest, token, told(error))
            raise
        yield from engine.ask("end", call.digest, token, None)
        return brought


@contextlib.contextmanager
def _left_to_the_next(engine: Engine, call: Call, token: bytes) -> Iterator[None]:
    """A caller that is interrupted can ask nobody any more: it leaves the lease to the next of its process who wants
    the key, or to expire, for with its claim nobody renews it."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if len(engine.left_leases) < MOST_LEFT:
            engine.left_leases[call.digest] = token
        raise
