"""The outbox: what the other hosts have still to be told, kept where no killed process can take it along.

    H_OUT_HEAD       position behind the last record
    H_OUT_TAIL       everything before it is told
    H_OUT_CLEAR_TO   everything from the tail to here is lost, and told by one message that clears all
    H_OUT_LOST       how often that came about
    H_UNSENT_TO      something before it, and not before the tail, is unknown to the storage that the hosts share
    record           R_SIZE, R_STATE, R_OWNER, R_LENGTH, then the payload: opaque bytes

Positions count bytes and only grow; the word of a position is that divided by 8, modulo the words of the ring. States:

    BEGUN     whoever wrote it is about to do what it says, or to tell the others by itself
    UNSENT    it was done here, and is to be told
    DONE      told

Everything is written under the segment's lock, and may be read without it.

    append    record (BEGUN), H_OUT_HEAD (one store: there)
    become    R_STATE (one store)
    settle    H_OUT_TAIL over the records that are done
    lose      H_OUT_LOST + 1, H_OUT_CLEAR_TO (one store: lost), H_OUT_HEAD

Crash argument. A record without H_OUT_HEAD is not there. A BEGUN one whose owner is proved dead is done and told by
whoever finds it: what it says may have happened on this host or not, and to say it once more harms nobody. Killed in
`lose` before H_OUT_HEAD, the next writer finds H_OUT_CLEAR_TO above it, and begins there. A record is told twice if
the teller is killed before it is DONE.

Full is not wrong: where there is no room, all that is there is lost, and one message that clears everything is told in
its stead. Before that is told more may be lost: who tells it notes H_OUT_LOST first, and if that has moved meanwhile,
tells it again. A record that makes no sense (somebody scribbled over it) is lost in the same way.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from zoocache.shm import points
from zoocache.shm.layout import (
    H_OUT_CLEAR_TO,
    H_OUT_HEAD,
    H_OUT_LOST,
    H_OUT_TAIL,
    H_UNSENT_TO,
    R_OWNER,
    R_STATE,
    RECORD_WORDS,
    WORD,
    Layout,
)

BEGUN, UNSENT, DONE = 1, 2, 3

NOWHERE = -1
_HEAD_BYTES = RECORD_WORDS * WORD
_pack_head = struct.Struct("=QQQQ").pack
_new_place = tuple.__new__  # what a NamedTuple's own constructor calls, after as much again


class Place(NamedTuple):
    """Where a record stands.

    Attributes:
        start: its position; NOWHERE if it was lost at once.
        end: once the tail is there, it has been told, or what stands for it.
    """

    start: int
    end: int


class Record(NamedTuple):
    """A record, copied out."""

    place: Place
    state: int
    owner: int
    payload: bytes


class _Head(NamedTuple):
    """A record without its payload."""

    place: Place
    state: int
    owner: int
    length: int


class Unsound(Exception):
    """What stands at a position is no record."""


class Outbox:
    """The outbox of one segment. What must be called under the segment's lock says so.

    Attributes:
        longest: bytes of the longest payload that it can hold.
    """

    __slots__ = ("_at", "_bytes", "_capacity", "_count", "_words", "longest")

    def __init__(self, words: memoryview, raw: memoryview, layout: Layout) -> None:
        self._words = words
        self._capacity = layout.outbox
        self._count = layout.outbox // WORD
        self.longest = layout.outbox - _HEAD_BYTES
        self._at = layout.outbox_at
        self._bytes = raw[self._at * WORD : self._at * WORD + layout.outbox]

    # Without the lock: each looks at one or two words.

    def is_told(self, end: int) -> bool:
        """Whether everything before this position has been told."""
        return bool(self._words[H_OUT_TAIL] >= end)

    def is_empty(self) -> bool:
        """Whether there is nothing to tell, nor anything under way."""
        return bool(self._words[H_OUT_TAIL] >= self._words[H_OUT_HEAD])

    def hides_something(self) -> bool:
        """Whether something is unknown to the storage that the hosts share."""
        return bool(self._words[H_UNSENT_TO] > self._words[H_OUT_TAIL])

    def peek(self, most_bytes: int) -> list[Record] | None:
        """What is UNSENT among the next records, of about so many bytes, where stores keep the program's order; None:
        ask `waiting`. As long as the tail has not moved, and nothing was lost, no record behind it is overwritten."""
        words = self._words
        before = words[H_OUT_TAIL], words[H_OUT_LOST]
        try:
            records = self._some(most_bytes, (UNSENT,))
        except Unsound:
            return None
        return records if records and before == (words[H_OUT_TAIL], words[H_OUT_LOST]) else None

    # Under the lock.

    def append(self, owner: int, payload: bytes) -> Place:
        """Add a record that is BEGUN; where there is no room for it, it is lost with all the others."""
        words, length = self._words, len(payload)
        size = (_HEAD_BYTES + length + WORD - 1) & -WORD
        start, tail, lost = words[H_OUT_HEAD], words[H_OUT_TAIL], words[H_OUT_CLEAR_TO]
        if tail > start:
            raise Unsound("the tail is above the head: what is appended would never be told")
        if lost > tail:  # (written out, for `max` twice would be a twentieth of an invalidation)
            start, tail = max(start, lost), lost
        if start + size - tail > self._capacity:
            start = self.lose()
            if size > self._capacity:
                return Place(NOWHERE, start)
        self._write(start, _pack_head(size, BEGUN, owner, length) + payload)
        if points.ARMED:
            points.reach("outbox.written")
        words[H_OUT_HEAD] = end = start + size
        if points.ARMED:
            points.reach("outbox.appended")
        return _new_place(Place, (start, end))

    def _first(self) -> int:
        """The position of the first record that is neither told nor lost."""
        return max(self._words[H_OUT_TAIL], self._words[H_OUT_CLEAR_TO])

    def _word(self, position: int, word: int) -> int:
        return self._at + ((position >> 3) + word) % self._count

    def _write(self, position: int, data: bytes) -> None:
        """Nobody looks at these bytes before H_OUT_HEAD is behind them, so they need not be stored word by word."""
        start = position % self._capacity
        end = start + len(data)
        if end <= self._capacity:
            self._bytes[start:end] = data
        else:
            until_end = self._capacity - start
            self._bytes[start:] = data[:until_end]
            self._bytes[: len(data) - until_end] = data[until_end:]

    def _read(self, position: int, length: int) -> bytes:
        start = position % self._capacity
        first = bytes(self._bytes[start : start + length])
        return first + bytes(self._bytes[: length - len(first)])

    def lose(self) -> int:
        """Let one message that clears everything stand for all that is there; returns where the next record begins."""
        words = self._words
        words[H_OUT_LOST] += 1
        end = max(words[H_OUT_HEAD], words[H_OUT_CLEAR_TO]) + WORD  # also where nothing is there: it has to be told
        words[H_OUT_CLEAR_TO] = end
        if points.ARMED:
            points.reach("outbox.lost")
        words[H_OUT_HEAD] = end
        if words[H_UNSENT_TO]:
            words[H_UNSENT_TO] = end
        return int(end)

    def become(self, place: Place, state: int) -> bool:
        """Change a record's state; False if it is not there any more: told by another, or lost."""
        words, start = self._words, place.start
        if start < words[H_OUT_TAIL] or start < words[H_OUT_CLEAR_TO]:
            return False
        words[self._at + ((start >> 3) + R_STATE) % self._count] = state
        return True

    def disown(self, place: Place) -> None:
        """Its owner gives a BEGUN record up: whoever finds it does the rest."""
        if place.start >= self._first():
            self._words[self._word(place.start, R_OWNER)] = 0

    def hide(self, end: int) -> None:
        """Something before this position is unknown to the storage that the hosts share."""
        self._words[H_UNSENT_TO] = max(self._words[H_UNSENT_TO], end)

    def waiting(self, most_bytes: int) -> list[Record]:
        """The next records that are not DONE, of about so many bytes."""
        try:
            return self._some(most_bytes, (BEGUN, UNSENT))
        except Unsound:
            self.lose()
            return []

    def _some(self, most_bytes: int, states: tuple[int, ...]) -> list[Record]:
        records: list[Record] = []
        left_bytes = most_bytes
        for found in self._records():
            if left_bytes <= 0:
                break
            if found.state in states:
                payload = self._read(found.place.start + _HEAD_BYTES, found.length)
                records.append(Record(found.place, found.state, found.owner, payload))
                left_bytes -= found.place.end - found.place.start
        return records

    def lost(self) -> tuple[int, int]:
        """H_OUT_LOST, and whether (1 or 0) there is something lost to be told."""
        words = self._words
        return words[H_OUT_LOST], int(words[H_OUT_CLEAR_TO] > words[H_OUT_TAIL])

    def told_lost(self, lost: int) -> bool:
        """The message that clears everything was told; whether it covers all that is lost by now.

        Args:
            lost: H_OUT_LOST before it was told.
        """
        words = self._words
        if words[H_OUT_LOST] != lost:
            return False
        words[H_OUT_HEAD] = max(words[H_OUT_HEAD], words[H_OUT_CLEAR_TO])  # whoever lost it may have been killed before
        words[H_OUT_TAIL] = max(words[H_OUT_TAIL], words[H_OUT_CLEAR_TO])
        self.settle()
        return True

    def settle(self) -> None:
        """Move the tail over what is done."""
        words = self._words
        if words[H_OUT_CLEAR_TO] > words[H_OUT_TAIL]:
            return
        try:
            undone = (found.place.start for found in self._records() if found.state != DONE)
            words[H_OUT_TAIL] = next(undone, words[H_OUT_HEAD])
            if words[H_UNSENT_TO] and not any(each.state == UNSENT for each in self._records()):
                words[H_UNSENT_TO] = 0
        except Unsound:
            self.lose()

    def _records(self) -> Iterator[_Head]:
        """The records from the first one on.

        Raises:
            Unsound: one of them is none.
        """
        position = self._first()
        head = self._words[H_OUT_HEAD]
        if head - position > self._capacity:  # or the same records would come round again and again
            raise Unsound(f"from {position} to {head} is more than it holds")
        while position < head:
            found = self._record(position, head)
            yield found
            position = found.place.end

    def _record(self, position: int, head: int) -> _Head:
        size, state, owner, length = (self._words[self._word(position, word)] for word in range(RECORD_WORDS))
        is_sound = (
            size % WORD == 0
            and _HEAD_BYTES + length <= size <= min(self._capacity, head - position)
            and state in {BEGUN, UNSENT, DONE}
        )
        if not is_sound:
            raise Unsound(f"at {position}: {size} bytes, state {state}, {length} bytes of payload")
        return _Head(Place(position, position + size), state, owner, length)

    def faults(self) -> list[str]:
        """What is wrong with it, in words."""
        words, faults = self._words, []
        if max(words[H_OUT_TAIL], words[H_UNSENT_TO]) > words[H_OUT_HEAD]:
            faults.append("the outbox's tail is above its head, or something is unsent behind that")
        if words[H_OUT_HEAD] - self._first() > self._capacity:
            faults.append("the outbox holds more than it can")
            return faults
        try:
            deque(self._records(), maxlen=0)
        except Unsound as error:
            faults.append(f"the outbox has a record that is none ({error})")
        return faults
