"""From the bus into a host: what the others have invalidated.

The segment has a position of its own: up to where it has heard. What comes from the channel is done at once if it is
the very next; whatever else comes is only a hint to read the stream, which is the truth.

    do       this host's store, if it has one (LMDB: numbers and its own position in one transaction); then under the
             lock the trie, then the position. Own messages only move the position
    stale    what is missing cannot be had, or history is another one: everything is overtaken, in store and trie, and
             the position is the server's of before that. Where history is another one the server's floor rises too:
             its numbers know less than this host, so its entries may be stale

What was sent from here, and what was seen in stamps, the server must know too (positions.py): if it does not, it has
lost the latest, though nothing of it was heard.

A host that hears nothing (entries in the server, and no bus) has no live objects, and nothing to do. It only compares:
a server that has lost what this host knows has entries that may be stale, so its floor rises.

Nobody knows what a host that never heard has missed: its floors rise at first. LMDB outlives the segment, so what it
missed is read up from its own position. There the host's own messages of before bear the incarnation of a segment that
is gone; it stands beside the position. Whoever sent them had told this LMDB before (one prefix has one storage), so it
is spared them: what was filled after a `clear` survives a reboot. The new trie's floor rises above them; what somebody
says later who still is on the old segment is another's, for the new trie has not done it.

Where LMDB cannot be written the trie goes on alone; what LMDB missed is done again, to both, once it can.

Crash argument: killed after the store, or after the trie, the position stands where it stood, and all is done again.
The mark is written last, and voided first: a position that was not written whole is known as such, and counts as none.

What guards what: the segment's lock guards the three words of the position; `_one_at_a_time` keeps the threads of a
process in order. Of two processes that do it at once (a listener, and one that does it in passing), one finds that the
position has moved, and leaves it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zoocache.bus import Bus, Heard, Message, Position
from zoocache.bus.message import paths_of
from zoocache.clock import Now
from zoocache.engine.positions import both_of, forget_own, latest_of, move, position_of
from zoocache.engine.sending import change, targets_of
from zoocache.errors import Busy, StorageError
from zoocache.shm import points
from zoocache.shm.layout import (
    H_BEAT_MS,
    H_BUS_WANT,
    H_CAUGHT_UP,
    H_FLOORED,
    H_GAPS,
    H_HEARD,
    NEVER,
)
from zoocache.trie import Target, Trie


class Following(Protocol):
    """What hearing asks of a store on this host."""

    def position(self) -> tuple[int, int, bytes, int] | None:
        """Up to where it has heard: epoch, n, mark; and the origin of the host's own since; None if it never has."""

    def apply(
        self, paths: Sequence[bytes], everything: bool, position: tuple[int, int, bytes, int], now: Now
    ) -> None:  # fmt: skip
        """Overtake these paths and digests, or everything, and note the position and origin, in one step."""

    def prune(self, older_than_ms: int, now: Now) -> int:
        """As `Store.prune`."""


class Change(NamedTuple):
    """What some messages do to a host together.

    Attributes:
        targets: in the trie.
        paths: in the store.
        everything: whether all is overtaken.
        older_than_ms: what a prune drops; None for no prune.
    """

    targets: Sequence[Target] = ()
    paths: Sequence[bytes] = ()
    everything: bool = False
    older_than_ms: int | None = None


class Kept(NamedTuple):
    """What a store says of where it stands.

    Attributes:
        position: up to where it has heard.
        origin: the incarnation of the segment that had heard it, and that the host's own messages bear since then.
    """

    position: Position
    origin: int


class Start(NamedTuple):
    """From where a host reads on.

    Attributes:
        position: None: nobody knows.
        former: of a segment that never heard: what the host called itself before, if its store knows.
        trouble: why the store, which may have heard less, could not be asked. Then it is left where it is.
    """

    position: Position | None
    former: int | None = None
    trouble: StorageError | Busy | None = None


EVERYTHING = Change(everything=True)
NOTHING = Change()


def change_of(messages: Sequence[Message | None]) -> Change:
    """What these do; one that cannot be read may mean everything."""
    read = [message for message in messages if message is not None]
    tags = [message for message in read if message.kind == "tags"]
    return Change(
        list(dict.fromkeys(target for message in tags for target in targets_of(message))),
        list(dict.fromkeys(path for message in tags for path in paths_of(message))),
        len(read) < len(messages) or any(message.kind == "clear" for message in read),
        min((message.older_than_ms for message in read if message.kind == "prune"), default=None),
    )


class Hearing:
    """See the head of this file. One for each process.

    Args:
        bus: to hear from.
        store: of this host, if it lies on it.
    """

    def __init__(self, bus: Bus, store: Following | None) -> None:
        self._bus = bus
        self._store = store
        self._kept: Kept | None = None  # what stands in the store, if this process knows it
        self._last: tuple[Trie, Position] | None = (
            None  # where this process has left a segment; it may have moved since
        )
        self._one_at_a_time = threading.RLock()

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here."""
        self._one_at_a_time = threading.RLock()

    def hear(self, trie: Trie, heard: Sequence[Heard], moment: Now) -> None:
        """See `Hosts.hear`."""
        with self._one_at_a_time:
            self._hear(trie, heard, moment)

    def catch_up(self, trie: Trie, moment: Now) -> None:
        """See `Hosts.catch_up`."""
        with self._one_at_a_time:
            self._catch_up(trie, moment)

    def compare(self, trie: Trie) -> None:
        """What a host does that hears nothing; raises as `catch_up`."""
        with self._one_at_a_time:
            self._compare(trie)

    def _compare(self, trie: Trie) -> None:
        words = trie.words
        want = words[H_BUS_WANT]
        last, own = trie.segment.write(latest_of, trie)
        catch = self._bus.compare(last)
        now = catch.now
        if catch.forked or now.n < want:
            words[H_FLOORED] = (words[H_FLOORED] + 1) & NEVER
            now = self._after_fork_of_history(last or now, own, want)
        trie.segment.write(_have_compared, trie, own, now)
        _forget_want(trie, max(want, now.n))

    def _hear(self, trie: Trie, heard: Sequence[Heard], moment: Now) -> None:
        known = self._last[1] if self._last is not None and self._last[0] is trie else None
        next_ones = None if known is None or self._is_store_unknown() else _next_ones(known, heard)
        if known is None or next_ones is None:
            trie.words[H_GAPS] = (trie.words[H_GAPS] + 1) & NEVER
            self._catch_up(trie, moment)
        elif next_ones:
            what = _news(trie, next_ones, None)
            if not self._change(trie, known, next_ones[-1].position, what, moment, keep=what != NOTHING):
                self._catch_up(trie, moment)

    def _is_store_unknown(self) -> bool:
        return self._store is not None and self._kept is None

    def _catch_up(self, trie: Trie, moment: Now) -> None:
        words = trie.words
        want = words[H_BUS_WANT]  # before the question: what the server does not know then, it has lost
        known, own = trie.segment.write(both_of, trie)
        start, former, trouble = self._start(known)
        keep = trouble is None
        if start is None:
            is_done = self._change(trie, known, self._bus.now(), EVERYTHING, moment, keep)
        else:
            catch = self._bus.since(start, own)
            if catch.now.epoch == start.epoch and catch.now.n < want:
                catch = catch._replace(whole=False, forked=True)
            if catch.whole:
                is_done = self._change(trie, known, catch.now, _news(trie, catch.heard, former), moment, keep)
            else:
                words[H_FLOORED] = (words[H_FLOORED] + 1) & NEVER
                now = self._after_fork_of_history(start, own, want) if catch.forked else catch.now
                is_done = self._change(trie, known, now, EVERYTHING, moment, keep)
        if trouble is not None:
            raise trouble
        if is_done:
            words[H_CAUGHT_UP] = 1  # before the beat: who has seen that one sees this (engine/watch.py)
            words[H_BEAT_MS] = max(words[H_BEAT_MS], moment.up_ms)
            _forget_want(trie, want)
            if own is not None and start is not None:
                trie.segment.write(forget_own, trie, own)

    def _start(self, known: Position | None) -> Start:
        """The segment's position, or the store's if that has heard less. What this process has written there it need
        not read; but where the segment has moved since then, another may have moved it without the store."""
        if self._store is None or (self._kept is not None and known == self._kept.position):
            return Start(known)
        try:
            found = self._store.position()
        except (StorageError, Busy) as error:
            self._kept = None
            return Start(known, trouble=error)
        if found is None:
            return Start(None)
        kept = Position(*found[:3])
        return Start(kept, found[3]) if known is None else Start(_earlier(kept, known))

    def _after_fork_of_history(self, start: Position, own: Position | None, want: int) -> Position:
        """Raise the server's floor above all that this host knows; where it is then."""
        known_n = max(start.n, want, own.n if own is not None and own.epoch == start.epoch else 0)
        self._bus.raise_floor(start._replace(n=known_n))
        return self._bus.now()

    def _change(
        self, trie: Trie, known: Position | None, now: Position, what: Change, moment: Now, keep: bool = True
    ) -> bool:  # fmt: skip
        """Do it all.

        Args:
            trie: the host's.
            known: the segment's position before; None: it has none, so its floor rises.
            now: the position afterwards.
            what: to do.
            moment: now.
            keep: whether it is done to the store, too.

        Returns:
            Whether it was done; False: another has moved the position.
        """
        trouble = self._store_trouble(Kept(now, trie.segment.incarnation), what, moment) if keep else None
        whole = EVERYTHING if known is None else what
        if points.ARMED:
            points.reach("hosts.stored")
        has_moved = trie.segment.write(_change_and_move, trie, known, now, whole, moment)
        self._last = (trie, now) if has_moved else None
        if points.ARMED:
            points.reach("hosts.heard")
        if trouble is not None:
            raise trouble
        if self._store is not None and what.older_than_ms is not None:
            self._store.prune(what.older_than_ms, moment)
        return has_moved

    def _store_trouble(self, now: Kept, what: Change, moment: Now) -> StorageError | Busy | None:
        """Do it to the store; what came in the way."""
        if self._store is None or (now == self._kept and what == NOTHING):
            return None
        try:
            self._store.apply(what.paths, what.everything, (*now.position, now.origin), moment)
        except (StorageError, Busy) as error:
            self._kept = None  # it knows where it stands; from there on it is done again
            return error
        self._kept = now
        return None


def _earlier(kept: Position, known: Position) -> Position | None:
    """Of two positions of one history; None if they are not."""
    if (kept.epoch, kept.n) == (known.epoch, known.n):
        return known if kept == known else None
    return min(kept, known) if kept.epoch == known.epoch else None


def _news(trie: Trie, heard: Sequence[Heard], former: int | None) -> Change:
    """What these do to this host, which has done its own already.

    Args:
        trie: the host's.
        heard: the messages.
        former: what the host called itself before this segment, where only its store has to hear of all that.
    """
    own = (trie.segment.incarnation, former or trie.segment.incarnation)  # 0 is nobody's own
    others = [each.message for each in heard if each.message is None or each.message.origin not in own]
    trie.words[H_HEARD] = (trie.words[H_HEARD] + len(others)) & NEVER
    return change_of(others) if others else NOTHING


def _next_ones(known: Position, heard: Sequence[Heard]) -> list[Heard] | None:
    """The messages that follow a position without a gap; None if there are others that are not known."""
    found: list[Heard] = []
    last = known
    for each in heard:
        if each.follows(last):
            found.append(each)
            last = each.position
        elif each.position != last:
            return None
    return found


def _forget_want(trie: Trie, up_to: int) -> None:
    """What was met up to this number was asked for."""
    if trie.words[H_BUS_WANT] <= up_to:
        trie.words[H_BUS_WANT] = 0


# Under the lock.


def _have_compared(trie: Trie, own: Position | None, now: Position) -> None:
    move(trie, now)
    forget_own(trie, own)


def _change_trie(trie: Trie, what: Change, moment: Now) -> None:
    change(trie, "clear" if what.everything else "tags", what.targets, moment.wall_ms)
    if what.older_than_ms is not None:
        trie.thin(what.older_than_ms, moment.wall_ms)
    if points.ARMED:
        points.reach("hosts.changed")


def _change_and_move(trie: Trie, known: Position | None, now: Position, what: Change, moment: Now) -> bool:
    if position_of(trie) != known:
        return False
    if what != NOTHING:
        _change_trie(trie, what, moment)
    if known != now:
        move(trie, now)
    return True
