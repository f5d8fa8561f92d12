"""What crosses hosts, for one process: what callers do; sending.py and hearing.py have the listener's half.

An invalidation (a delete, a clear, a prune) reaches the other hosts in one of two ways:

    memory, LMDB     in one lock round: a record in the outbox (BEGUN), the trie, the record UNSENT; the listener sends
    Redis storage    a record (BEGUN); the caller sends it; in one lock round: the trie, the record DONE, or UNSENT
                     where the server was out of reach

A caller that is killed in between leaves a BEGUN record, which the listener ends in the same order. So a message is
lost neither with its sender nor with the listener; it may be sent twice, which harms nobody.

What is unsent the server does not know. With Redis storage that would make stale entries look valid, so as long as
anything is, the host takes nothing from it.

The trie is a parameter everywhere: the engine's present one, which may be another at the next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoocache import clock
from zoocache.bus import Bus, Heard, Kind, Message, Position
from zoocache.bus.message import pack
from zoocache.engine.hearing import Following, Hearing
from zoocache.engine.positions import glimpse_of, known_of, note_own
from zoocache.engine.sending import Sending, change, finish
from zoocache.errors import ServerRefused, StorageError
from zoocache.shm.layout import H_BEAT_MS, H_BUS_N, H_BUS_WANT, H_CAUGHT_UP, H_HLC, H_REFUSED, H_UNTOLD
from zoocache.shm.outbox import UNSENT, Place
from zoocache.trie import Target, Trie

REFUSES = "refuses user or password of the URL, or what a cache must do there"

if TYPE_CHECKING:
    from zoocache.clock import Now


class Hosts:
    """See the head of this file.

    Args:
        bus: to the other hosts.
        store: of this host, which must hear what the others say as the trie must: LMDB; else None.
        through: whether entries lie in the server that numbers the messages; then callers send by themselves.
        hears: whether this host listens to the others; else it only tells, and asks the server at every hit.

    Attributes:
        bus, through, hears: as given.
    """

    def __init__(self, bus: Bus, store: Following | None, through: bool, hears: bool) -> None:
        self.bus = bus
        self.through = through
        self.hears = hears
        self._sending = Sending(bus, through)
        self._hearing = Hearing(bus, store)

    # Telling.

    @staticmethod
    def message(
        trie: Trie, kind: Kind = "tags", *, tags: Sequence[str] = (), digests: Sequence[bytes] = (),
        older_than_ms: int = 0,
    ) -> Message:  # fmt: skip
        """What the other hosts are told."""
        origin, hlc = trie.segment.incarnation, trie.words[H_HLC]
        return tuple.__new__(Message, (kind, tuple(tags), tuple(digests), older_than_ms, origin, hlc))  # half the time

    def tell(self, trie: Trie, message: Message, targets: Sequence[Target], wall_ms: int) -> int:
        """Change the trie, and leave word for the listener.

        Args:
            trie: the host's.
            message: what the others are told; a `clear` empties the trie, a `prune` was done by the caller.
            targets: what changes in the trie.
            wall_ms: the wall clock.

        Returns:
            The position in the outbox after it, for `is_sent`.

        Raises:
            Busy: the lock stayed with another; nothing was changed.
            Orphaned: the segment was retired.
        """
        segment = trie.segment
        owner = segment.slots.owner or segment.claim_slot(wall_ms)
        end = segment.run(_tell, trie, owner, _payload(trie, message), message.kind, targets, wall_ms)
        self._told(trie, message.kind)
        if segment.wake is not None:
            segment.wake.ring()
        return end

    def begin(self, trie: Trie, message: Message) -> Place:
        """Note what the caller is about to send; raises as `tell`."""
        segment = trie.segment
        owner = segment.slots.owner or segment.claim_slot(clock.wall_ms())
        return segment.write(segment.outbox.append, owner, _payload(trie, message))

    def finish(
        self, trie: Trie, place: Place, message: Message, targets: Sequence[Target], wall_ms: int,
        sent: Position | None,
    ) -> int:  # fmt: skip
        """Change the trie after what was begun has been sent, or could not be.

        Args:
            trie: the host's, as at `begin`.
            place: what `begin` returned.
            message, targets, wall_ms: as `tell`.
            sent: where the server has it; None: it does not.

        Returns:
            As `tell`.

        Raises:
            Busy, Orphaned: as `tell`.
        """
        end = trie.segment.run(finish, trie, place, message.kind, targets, wall_ms, sent)
        self._told(trie, message.kind)
        if sent is None:
            _ring(trie)
        return end

    @staticmethod
    def note_refusal(trie: Trie) -> None:
        """Let the whole host know that the server refuses what it has to send; see `insist`."""
        trie.words[H_UNTOLD] = 1

    @staticmethod
    def note_sent(trie: Trie, sent: tuple[int, int, bytes]) -> None:
        """Note where the server has taken a message of this host; raises as `tell`."""
        trie.segment.write(note_own, trie, Position(*sent))

    @staticmethod
    def glimpse(trie: Trie) -> Position | None:
        """What goes along with a question to the store: the same, where it costs no lock."""
        return glimpse_of(trie)

    @staticmethod
    def known(trie: Trie) -> Position | None:
        """What goes along with a message of this host: see engine/positions.py."""
        return known_of(trie)

    def abandon(self, trie: Trie, place: Place) -> None:
        """Leave what was begun to the listener. It waits for nobody: where the lock is taken, the listener does it all
        the same, some seconds later."""
        trie.segment.try_write(trie.segment.outbox.disown, place)
        _ring(trie)

    @staticmethod
    def _told(trie: Trie, kind: Kind) -> None:
        if kind != "prune":
            trie.tell_neighbours()

    # Questions. Each looks at one or two words, without the lock.

    def is_sent(self, trie: Trie, position: int) -> bool:
        """Whether the server has all that stood in the outbox before a position."""
        return trie.segment.outbox.is_told(position)

    def takes_nothing(self, trie: Trie) -> bool:
        """Whether the server does not know all that was invalidated here; then nothing in it may be believed."""
        return self.through and trie.segment.outbox.hides_something()

    def lag_ms(self, trie: Trie, up_ms: int) -> int:
        """Milliseconds since this host was last known to have heard everything."""
        return max(0, up_ms - trie.words[H_BEAT_MS]) if self.hears else 0

    def insist(self, trie: Trie) -> None:
        """Something of this host's is unsent: raise if it is because the server refuses it.

        Raises:
            ServerRefused: what was said is done on this host, and told to nobody.
        """
        if trie.words[H_UNTOLD] or trie.words[H_REFUSED]:
            raise ServerRefused(
                f"{self.bus}: the server {REFUSES}. What was invalidated is done on this host, and waits in its "
                "outbox; other hosts are not told"
            )

    def why_deaf(self, trie: Trie) -> str:
        """Why nothing is heard, as far as that is known here."""
        if trie.words[H_REFUSED]:
            return f"{self.bus} {REFUSES}"
        return f"{self.bus} is out of reach of the listener; as soon as it is not, what was missed is heard"

    def insist_all_is_told(self, trie: Trie) -> None:
        """Raise if nothing in the server may be believed; see `takes_nothing`.

        Raises:
            StorageError: it is to be told yet. ServerRefused: as `insist`.
        """
        if self.takes_nothing(trie):
            self.insist(trie)
            raise StorageError(
                f"{self.bus} has not been told of all that was invalidated on this host, and is left alone; that is "
                "done as soon as it can be reached"
            )

    def has_caught_up(self, trie: Trie) -> bool:
        """Whether what the host missed while nobody was here has been heard."""
        return not self.hears or bool(trie.words[H_CAUGHT_UP])

    def behind(self, trie: Trie, n: int) -> None:
        """The server was at a number: if this host has not heard of it in a moment, the listener looks; if the server's
        own is less by then, it has lost it."""
        words = trie.words
        if n > words[H_BUS_N] and n > words[H_BUS_WANT]:
            words[H_BUS_WANT] = n

    # What the listener does; and others in passing, where there can be no listener.

    def drain(self, trie: Trie, moment: Now) -> bool:
        """Send what is unsent, and what the dead have begun.

        Returns:
            Whether the server has all of it.

        Raises:
            Busy, Orphaned: as `tell`.
        """
        return self._sending.drain(trie, moment)

    def send_remains(self, orphan: Trie) -> bool:
        """Send what stands in the outbox of a segment that is gone, for which there is no lock, and no other sender.

        Returns:
            Whether the server has all of it.
        """
        return self._sending.send_remains(orphan)

    def hear(self, trie: Trie, heard: Sequence[Heard], moment: Now) -> None:
        """Do what came from the others; see hearing.py.

        Raises:
            StorageError, ServerRefused: the server, or this host's store, failed; the trie has changed at least.
            Busy, Orphaned: as `tell`.
        """
        self._hearing.hear(trie, heard, moment)

    def catch_up(self, trie: Trie, moment: Now) -> None:
        """Learn all that was sent up to now, or, where nothing is heard, only whether the server has lost something;
        raises as `hear`.

        Args:
            trie: the host's.
            moment: before the question to the server.
        """
        if self.hears:
            self._hearing.catch_up(trie, moment)
        else:
            self._hearing.compare(trie)

    # The process.

    def after_fork(self) -> None:
        """In a forked child: locks may be held by threads that are not here."""
        self._sending.after_fork()
        self._hearing.after_fork()

    def close(self) -> None:
        """Let go."""
        self.bus.close()


def _payload(trie: Trie, message: Message) -> bytes:
    """What a record holds. What is too long for any becomes a `clear` already here, and not in `Outbox.append`: that
    would lose all that waits besides, and have everything cleared once more after a caller who sends it by himself."""
    return pack(message, trie.segment.outbox.longest)


def _ring(trie: Trie) -> None:
    if trie.segment.wake is not None:
        trie.segment.wake.ring()


# Under the lock.


def _tell(trie: Trie, owner: int, payload: bytes, kind: Kind, targets: Sequence[Target], wall_ms: int) -> int:
    segment = trie.segment
    segment.insist_on_currency()
    place = segment.outbox.append(owner, payload)
    change(trie, kind, targets, wall_ms)
    segment.outbox.become(place, UNSENT)
    return place.end
