"""Mutants of flights, claims and the lock: one fill, one heir, one holder."""

from __future__ import annotations

import threading
import time

from stress.mutants.planting import OPEN_S, Mutant, put
from zoocache.flight import Flights
from zoocache.shm import lock, points
from zoocache.shm.claims import Claims
from zoocache.shm.kernel import Description
from zoocache.shm.lock import Lock


def _everyone_leads() -> None:
    put(Flights, "join", lambda _self, own: own)
    put(Claims, "lead", lambda *_: (None, True))


def _no_heir() -> None:
    put(Claims, "needs_heir", lambda *_: False)


def _no_recovery() -> None:
    def mutant(self: Lock, description: Description) -> None:
        """The library's own, but for whom the gate does not open."""
        deadline_s = time.monotonic() + self._patience_s()
        gate = self._gate
        while not (gate is not None and lock._take_token(gate) and lock._try_flock(description.fd)):
            if time.monotonic() >= deadline_s:
                raise self._busy()
            time.sleep(0.001)

    put(Lock, "_wait", mutant)


def _robber() -> None:
    put(lock, "_try_flock", lambda _: True)


def _inherited_lock() -> None:
    put(lock.Lock, "after_fork", lambda _: None)
    put(points, "ARMED", {"trie.changed": ("wait", 1)})
    put(points, "reach", lambda name: time.sleep(OPEN_S) if name == "trie.changed" else None)


def _inherited_flights() -> None:
    put(Flights, "after_fork", lambda self: setattr(self, "_mutex", threading.RLock()))


MUTANTS = {
    "everyone-leads": Mutant("who misses looks for a flight", _everyone_leads, "herd"),
    "everyone-leads-on-host": Mutant("who misses looks for a claim", _everyone_leads, "herd", "lmdb"),
    "everyone-leads-in-storm": Mutant("who misses waits for an overtaken flight, too", _everyone_leads, "storm"),
    "everyone-leads-in-storm-on-host": Mutant(
        "who misses waits for an overtaken claim, too", _everyone_leads, "storm", "lmdb"
    ),
    "no-heir": Mutant("claims of the dead are inherited", _no_heir, "herd", "lmdb"),
    "no-recovery": Mutant(
        "where the gate stays shut, the kernel's lock is asked", _no_recovery, "killer", options=("--points", "lock.")
    ),
    "robber": Mutant("who has not got the kernel's lock waits", _robber, "killer"),
    "inherited-lock": Mutant("a forked child opens the lock anew", _inherited_lock, "forks"),
    "inherited-flights": Mutant("a forked child has none of its parent's flights", _inherited_flights, "forks"),
}
