"""Mutants of what lies between hosts: outbox, bus, positions, floors."""

from __future__ import annotations

import time
from typing import Any

from stress.mutants.planting import Mutant, put
from zoocache.bus import Catch, Position
from zoocache.bus.redis import RedisBus
from zoocache.engine import hearing
from zoocache.engine.effects import Steps
from zoocache.engine.hearing import Hearing
from zoocache.engine.hosts import Hosts
from zoocache.engine.sending import Sending
from zoocache.engine.watch import Watch
from zoocache.trie import Trie

LATE_S = 3.0
"""How late the listener sends, which a host whose link was broken must not outlast: it asks again after a second."""


def _mute() -> None:
    put(Sending, "_send", lambda self, *_: self._bus.now())


def _left_behind() -> None:
    put(Sending, "_is_left", lambda *_: False)


def _no_replay() -> None:
    whole = RedisBus.since
    put(RedisBus, "since", lambda self, position, own=None: whole(self, position, own)._replace(heard=()))


def _no_floor() -> None:
    put(hearing, "EVERYTHING", hearing.NOTHING)


def _no_epoch() -> None:
    def mutant(self: RedisBus, position: Position, *own: Any) -> Catch:
        catch: Catch = whole(self, position, *own)
        if catch.now.epoch == position.epoch:
            return catch
        return catch._replace(whole=True, forked=False)

    whole = put(RedisBus, "since", mutant)


def _trie_alone() -> None:
    put(Hearing, "_store_trouble", lambda *_: None)


def _hasty() -> None:
    put(Hosts, "has_caught_up", lambda *_: True)


def _open_gate() -> None:
    def mutant(self: Sending, *arguments: Any) -> bool:
        time.sleep(LATE_S)
        return bool(whole(self, *arguments))

    whole = put(Sending, "drain", mutant)
    put(Hosts, "takes_nothing", lambda *_: False)


def _dozing() -> None:
    def mutant(self: Watch, trie: Trie) -> bool:
        """The library's own, which sees to a listener all the same; but nothing is dropped."""
        self._lost = int
        whole(self, trie)
        return True

    whole = put(Watch, "_is_still_heard", mutant)


def _trusting() -> None:
    def mutant(self: Watch, trie: Trie) -> Steps[None]:
        """Where somebody had caught up once, nobody looks whether he is still there."""
        if not self._hosts.has_caught_up(trie):
            yield from whole(self, trie)

    whole = put(Watch, "first_catch_up", mutant)


MUTANTS = {
    "mute": Mutant("what stands in the outbox is sent", _mute, "partition", "lmdb"),
    "left-behind": Mutant("what the dead had begun to tell is told", _left_behind, "partition", "redis"),
    "no-replay": Mutant("what was missed is read from the stream", _no_replay, "partition"),
    "no-floor": Mutant("what cannot be had makes everything stale", _no_floor, "partition"),
    "no-epoch": Mutant("another epoch makes everything stale", _no_epoch, "partition"),
    "trie-alone": Mutant("what is heard reaches LMDB too", _trie_alone, "partition", "lmdb"),
    "hasty": Mutant("nothing is loaded before the first catch-up", _hasty, "partition", "lmdb"),
    "dozing": Mutant("who finds that nobody listened believes nothing from before", _dozing, "partition"),
    "trusting": Mutant("who loads looks first whether anybody listens", _trusting, "partition", "lmdb"),
    "open-gate": Mutant("while the outbox hides something, nothing is taken from Redis",
                        _open_gate, "partition", "redis"),
}  # fmt: skip
