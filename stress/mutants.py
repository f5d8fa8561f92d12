"""Faults that can be planted in the library: a rule of its safety turned off in a process of the fleet.

A program that does not fail with a mutant proves nothing when it succeeds without; `tests/stress` plants each.
Where a fault has a window of a few instructions, the mutant holds it open for a moment, so that seconds suffice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from zoocache import trie
from zoocache.bus.redis import RedisBus
from zoocache.engine import call, hearing, keeping
from zoocache.engine.core import Engine
from zoocache.engine.effects import Steps, drive
from zoocache.engine.hosts import Hosts
from zoocache.engine.keeping import Begun
from zoocache.engine.live import Live
from zoocache.engine.sending import Sending
from zoocache.flight import Flights
from zoocache.shm import lock
from zoocache.shm.claims import Claims
from zoocache.shm.layout import H_SEQ
from zoocache.shm.segment import Segment
from zoocache.storage import Stamp

OPEN_S = 0.001
LATE_S = 1.0


def plant(name: str) -> None:
    """Turn a rule off in this process.

    Args:
        name: one of MUTANTS; "" for none.
    """
    if name:
        MUTANTS[name]()


def put(owner: Any, name: str, mutant: Any) -> Any:
    """Put a mutant in the place of a function or a method; returns what was there."""
    original = getattr(owner, name)
    setattr(owner, name, mutant)
    return original


def _deaf() -> None:
    """Invalidations do not reach the trie."""
    put(trie.Trie, "invalidate", lambda self, *_: self.seq())


def _blind() -> None:
    """Nobody sees that the segment was removed: each goes on with the one that he has."""
    put(Segment, "is_current", lambda _: True)


def _seq_first() -> None:
    """`seq` is stored before `changed`: a reader in between takes an old node for a fresh one."""

    def mutant(self: trie.Trie, *arguments: Any) -> Any:
        self.words[H_SEQ] += 1
        time.sleep(OPEN_S)
        self.words[H_SEQ] -= 1  # `whole` counts from here, and ends at the number that readers have seen
        return whole(self, *arguments)

    whole = put(trie.Trie, "_invalidate", mutant)


def _late_note() -> None:
    """The host's order is noted when a fill ends, not when it begins: what overtook it meanwhile is overlooked."""

    def mutant(engine: Engine, *arguments: Any, **named: Any) -> Any:
        late = (drive(keeping.begin(engine)) if isinstance(each, Begun) else each for each in arguments)
        return whole(engine, *late, **named)

    whole = put(keeping, "land", mutant)


def _gullible() -> None:
    """Followers take what they are handed, though it was overtaken before they came."""
    put(call, "_may_have", lambda *_: True)


def _late_stamp() -> None:
    """Entries of a store carry the store's number when they are saved, not when their fill began."""

    def mutant(engine: Engine, live: Live, _stamp: Stamp | None, **anew: bool) -> Steps[None]:
        stamp = None if engine.store is None else engine.store.stamp()
        yield from whole(engine, live, stamp, **anew)

    whole = put(keeping, "save", mutant)


def _everyone_leads() -> None:
    """No flights: whoever misses computes."""
    put(Flights, "join", lambda _self, own: own)
    put(Claims, "lead", lambda *_: (None, True))


def _no_heir() -> None:
    """Claims of the dead are not inherited."""
    put(Claims, "needs_heir", lambda *_: False)


def _no_recovery() -> None:
    """The kernel's lock is not asked when the semaphore stays at zero: a token that died with its holder is lost."""
    put(lock, "PATIENCE_S", 1e9)


def _mute() -> None:
    """What stands in the outbox counts as sent, and is not."""
    put(Sending, "_send", lambda self, *_: self._bus.now())


def _no_replay() -> None:
    """What was missed is not read up from the stream."""
    whole = RedisBus.since
    put(RedisBus, "since", lambda self, position, own=None: whole(self, position, own)._replace(heard=()))


def _no_floor() -> None:
    """Where nobody knows what was missed, all that is there stays valid."""
    put(hearing, "EVERYTHING", hearing.NOTHING)


def _open_gate() -> None:
    """A host takes entries from the server though that does not yet know what was invalidated here."""

    def mutant(self: Sending, *arguments: Any) -> bool:
        time.sleep(LATE_S)
        return bool(whole(self, *arguments))

    whole = put(Sending, "drain", mutant)
    put(Hosts, "takes_nothing", lambda *_: False)


MUTANTS: dict[str, Callable[[], None]] = {
    "deaf": _deaf,
    "blind": _blind,
    "seq-first": _seq_first,
    "late-note": _late_note,
    "gullible": _gullible,
    "late-stamp": _late_stamp,
    "everyone-leads": _everyone_leads,
    "no-heir": _no_heir,
    "no-recovery": _no_recovery,
    "mute": _mute,
    "no-replay": _no_replay,
    "no-floor": _no_floor,
    "open-gate": _open_gate,
}
