"""From a host's outbox to the bus.

    look     what is UNSENT, without the lock if there is any, for callers need that at such a moment; else, and now and
             then, under the lock. There what is left is found: what the dead have begun, and what the living began too
             long ago (they are stopped, perhaps). It is done to the trie and becomes UNSENT
    send     without the lock: what is UNSENT, neighbours together in one message
    done     under the lock: the records are DONE, the tail moves

With entries in the server what is left is finished as its caller would have finished it: sent first, then done to the
trie and DONE in one lock round. The other way round who reads in between takes from the server what is overtaken, and
holds it for good; and to hide the server from everybody for so long (as is done if it cannot be reached) refuses them
what they set, for the sake of somebody dead.

Where something is lost (shm/outbox.py), one message that clears everything goes first. With entries in the server it is
nobody's own, so this host clears its live objects too: among what is lost there may be something that was left.

Crash argument: killed before `done`, all of it is sent again. Nobody is harmed by an invalidation that comes twice.

What guards what: `_one_at_a_time` keeps the threads of a process from sending the same twice. Two processes may.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zoocache.bus import Bus, Kind, Message, Position
from zoocache.bus.message import paths_of, unpack
from zoocache.engine.positions import known_of, note_own
from zoocache.errors import ServerRefused, StorageError
from zoocache.log import log
from zoocache.shm import points
from zoocache.shm.layout import H_HLC, H_SENT, H_UNTOLD, NEVER
from zoocache.shm.outbox import BEGUN, DONE, UNSENT, Place, Record
from zoocache.shm.segment import LOCK_FREE
from zoocache.shm.slots import NOBODY
from zoocache.trie import Target, Trie, target_of, words_of

if TYPE_CHECKING:
    from zoocache.clock import Now


ROUND_BYTES = 32 * 1024
"""So much of the outbox is looked at in one round."""

LOCKED_EVERY = 16
"""One in so many rounds looks under the lock, also while there is always something to send."""

MOST_TOGETHER = 256
"""So many records become one message."""

OVERDUE_MS = 5000
"""Nobody who is alive is so long between the two halves of an invalidation, unless it is stopped."""


class Seen(NamedTuple):
    """What a look at the outbox finds.

    Attributes:
        lost, is_lost: see `Outbox.lost`.
        unsent: what is to be sent.
        left: what is to be done and sent, with entries in the server; elsewhere it is done, and unsent.
        has_changed: whether the trie has, for that.
    """

    lost: int
    is_lost: int
    unsent: Sequence[Record]
    left: Sequence[Record] = ()
    has_changed: bool = False


class Sending:
    """See the head of this file. One for each process.

    Args:
        bus: to send to.
        through: whether entries lie in the server.
    """

    def __init__(self, bus: Bus, through: bool) -> None:
        self._bus = bus
        self._through = through
        self._one_at_a_time = threading.RLock()
        self._rounds = 0
        self._met_ms: dict[int, int] = {}  # begun by the living: when it was met first, by position

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._one_at_a_time = threading.RLock()

    def drain(self, trie: Trie, moment: Now) -> bool:
        """See `Hosts.drain`."""
        if trie.segment.outbox.is_empty():
            return True
        with self._one_at_a_time:
            return self._drain(trie, moment)

    def send_remains(self, trie: Trie) -> bool:
        """See `Hosts.send_remains`."""
        outbox = trie.segment.outbox
        try:
            if outbox.lost()[1]:
                self._send(trie, self._everything(trie), None)
            for _, message in _together(outbox.waiting(trie.segment.layout.outbox)):
                self._send(trie, message, None)
        except (StorageError, ServerRefused) as error:
            log.debug("zoocache: what was to be sent from a segment that is gone waits: %s", error)
            return False
        return True

    def _drain(self, trie: Trie, moment: Now) -> bool:
        try:
            while self._round(trie, moment):
                log.debug("zoocache: a part of the outbox was sent")
        except (StorageError, ServerRefused) as error:
            if isinstance(error, ServerRefused):
                trie.words[H_UNTOLD] = 1
            log.debug("zoocache: what was to be sent stays in the outbox: %s", error)
            return False
        return True

    def _round(self, trie: Trie, moment: Now) -> bool:
        """Whether anything was sent."""
        segment = trie.segment
        seen = self._peek(trie) or segment.write(self._look, trie, moment)
        if seen.has_changed:
            trie.tell_neighbours()
        if seen.left:
            self._finish_left(trie, seen.left, moment.wall_ms)
        if seen.is_lost:
            sent = self._send(trie, self._everything(trie), known_of(trie))
            segment.write(_told_lost, trie, seen.lost, sent)
        for places, message in _together(seen.unsent):
            sent = self._send(trie, message, known_of(trie))
            segment.write(_done, trie, places, sent)
        return bool(seen.is_lost or seen.unsent or seen.left)

    def _finish_left(self, trie: Trie, left: Sequence[Record], wall_ms: int) -> None:
        """Do all of it on this host, whether the server takes it or not.

        Raises:
            StorageError, ServerRefused: from the first that it does not take on, it is UNSENT.
        """
        trouble: StorageError | ServerRefused | None = None
        for record in left:
            message, sent = _message_of(record), None
            if trouble is None:
                try:
                    sent = self._send(trie, message, known_of(trie))
                except (StorageError, ServerRefused) as error:
                    trouble = error
            trie.segment.run(finish, trie, record.place, message.kind, targets_of(message), wall_ms, sent)
            trie.tell_neighbours()
        if trouble is not None:
            raise trouble

    def _everything(self, trie: Trie) -> Message:
        origin = 0 if self._through else trie.segment.incarnation
        return Message("clear", (), (), 0, origin, trie.words[H_HLC])

    def _send(self, trie: Trie, message: Message, known: Position | None) -> Position:
        sent = self._bus.send(message, paths_of(message), known)
        words = trie.words
        words[H_SENT] = (words[H_SENT] + 1) & NEVER
        if points.ARMED:
            points.reach("hosts.sent")
        return sent

    def _peek(self, trie: Trie) -> Seen | None:
        """What is to be sent, if that can be seen without the lock."""
        lost, is_lost = trie.segment.outbox.lost()
        self._rounds += 1
        may_peek = LOCK_FREE and not is_lost and self._rounds % LOCKED_EVERY
        unsent = trie.segment.outbox.peek(ROUND_BYTES) if may_peek else None
        return None if unsent is None else Seen(lost, is_lost, unsent)

    def _look(self, trie: Trie, moment: Now) -> Seen:
        """Under the lock."""
        records = trie.segment.outbox.waiting(ROUND_BYTES)
        begun = [record for record in records if record.state == BEGUN]
        left = [record for record in begun if self._is_left(trie, record, moment.up_ms)]
        starts = {record.place.start for record in left}
        self._met_ms = {
            start: self._met_ms.get(start, moment.up_ms)
            for start in (record.place.start for record in begun)
            if start not in starts
        }
        if self._through:
            unsent = [record for record in records if record.state == UNSENT]
            return Seen(*trie.segment.outbox.lost(), unsent, left)
        for record in left:
            _adopt(trie, record, moment.wall_ms)
        unsent = [record for record in records if record.state == UNSENT or record.place.start in starts]
        return Seen(*trie.segment.outbox.lost(), unsent, has_changed=bool(left))

    def _is_left(self, trie: Trie, record: Record, up_ms: int) -> bool:
        """Whether nobody else will end what was begun."""
        if record.owner == NOBODY or trie.segment.slots.is_dead(record.owner):
            return True
        return up_ms - self._met_ms.get(record.place.start, up_ms) > OVERDUE_MS


def _message_of(record: Record) -> Message:
    """What a record says; one that cannot be read may mean everything."""
    return unpack(record.payload) or Message("clear", (), (), 0, 0, 0)


def _together(records: Iterable[Record]) -> list[tuple[list[Place], Message]]:
    """The messages to send, each with the records that it stands for."""
    batches: list[tuple[list[Place], Message]] = []
    for record in records:
        message = _message_of(record)
        places, last = batches[-1] if batches else ([], message)
        if places and len(places) < MOST_TOGETHER and last.kind == message.kind == "tags":
            batches[-1] = [*places, record.place], _joined(last, message)
        else:
            batches.append(([record.place], message))
    return batches


def _joined(one: Message, other: Message) -> Message:
    """Both in one. Who sent only one of them has not done both."""
    return Message(
        "tags", tuple(dict.fromkeys(one.tags + other.tags)), tuple(dict.fromkeys(one.keys + other.keys)), 0,
        one.origin if one.origin == other.origin else 0, max(one.hlc, other.hlc),
    )  # fmt: skip


# Under the lock.


def change(trie: Trie, kind: Kind, targets: Sequence[Target], wall_ms: int) -> None:
    """Do to the trie what a message says; a prune is its sender's to do, before it tells the others."""
    if kind == "clear":
        trie.empty(wall_ms)
    elif targets:
        trie.change(targets, wall_ms)


def targets_of(message: Message) -> list[Target]:
    """What a message changes in a trie."""
    return [*map(target_of, message.tags), *((*words_of(key), b"") for key in message.keys)]


def _adopt(trie: Trie, record: Record, wall_ms: int) -> None:
    message = _message_of(record)
    change(trie, message.kind, targets_of(message), wall_ms)
    trie.segment.outbox.become(record.place, UNSENT)


def finish(trie: Trie, place: Place, kind: Kind, targets: Sequence[Target], wall_ms: int, sent: Position | None) -> int:
    """What was begun is sent, or could not be (None): change the trie, and say so. Returns the position after it.

    A record that is not there any more has been sent by another, or is lost, and all with it: either will do. As long
    as that is not sent, it is unknown to the server too.
    """
    trie.segment.insist_on_currency()
    outbox = trie.segment.outbox
    if sent is None:
        outbox.hide(place.end)  # before seq: who notes the new one must find that the server knows less
    change(trie, kind, targets, wall_ms)
    if sent is not None:
        note_own(trie, sent)
        outbox.become(place, DONE)
        outbox.settle()
    else:
        outbox.become(place, UNSENT)
    return place.end


def _told_lost(trie: Trie, lost: int, sent: Position) -> None:
    note_own(trie, sent)
    trie.segment.outbox.told_lost(lost)


def _done(trie: Trie, places: Sequence[Place], sent: Position) -> None:
    note_own(trie, sent)
    for place in places:
        trie.segment.outbox.become(place, DONE)
    trie.segment.outbox.settle()
