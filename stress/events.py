"""Events: what each thread did, kept in rings on the board, so that the dead tell their part too.

An event is EVENT_WORDS words:

    start, end     monotonic nanoseconds, one clock for the machine
    kind           index into KINDS, | way << 8: by which of its ways a program read
    key, tag       by number, or NONE
    version        what was read or written; of a fill: how many flights its call had followed before
    finished       what was finished for the key before a read began
    filled         when the fill of what was read had seen the truth; 0: that is not known. Of a fill: when the call
                   began that it is for
    who            process << 24 | slot << 8 | lane

A ring is the places of the last RING_EVENTS events behind three words:

    count       how many there have been; the lane moves it, after the event, so an event that was cut short by a kill
                is not in the ring: who is killed loses at most the event that he was about to note
    taken       how many of them the checker has; it alone moves it
    patience    0: nobody takes them, and they are written over. Else a lane that would write over an event that was not
                taken waits, and raises after so many milliseconds in vain: nothing is lost unseen. One place is left
                free, so that what is being taken is never what is being written.

A lane waits before an operation (`await_room`), where no time is measured. The checker waits for no lane: it takes what
is there, so one that was killed or stopped does not hold it up; and a checker that is gone ends the run as a failure.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple

RING_EVENTS = 8192
EVENT_WORDS = 9
PAGE_WORDS = 512
COUNT, TAKEN, PATIENCE_MS, HEAD_WORDS = range(4)
RING_WORDS = HEAD_WORDS + RING_EVENTS * EVENT_WORDS

ROOM = 128
"""More events than one operation notes, or several tasks of a lane at once."""
LOOK_S = 0.002

NONE = 2**64 - 1
"""A word that says nothing: an event of all keys, or of no tag."""

KINDS = (
    "read", "raised", "begun", "invalidate", "set", "delete", "clear", "prune", "visitors", "drop", "busy", "settled",
    "fill",
)  # fmt: skip
"""What an event can be; it is kept as its index."""
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


class Unseen(TimeoutError):
    """The history checker does not come, so an event cannot be noted without one being lost."""


class Event(NamedTuple):
    """What one thread did.

    Attributes:
        start_ns, end_ns: monotonic.
        kind: one of KINDS.
        key, tag: by number; NONE where there is none, or it was for all.
        version: what was read or written; of a fill: how many flights its call had followed before.
        finished: what was finished for the key before it began.
        filled_ns: when the fill of what was read had seen the truth; 0: that is not known.
        way: how it was read, by number; of a drop: what was dropped.
        process, slot, lane: who.
    """

    start_ns: int
    end_ns: int
    kind: str
    key: int = NONE
    tag: int = NONE
    version: int = 0
    finished: int = 0
    filled_ns: int = 0
    way: int = 0
    process: int = 0
    slot: int = 0
    lane: int = 0


class Ring:
    """The last events of one thread, which alone writes them.

    Args:
        words: of the board.
        slot, lane: whose it is.
    """

    __slots__ = ("_count", "_who", "_words")

    def __init__(self, words: memoryview, slot: int, lane: int) -> None:
        self._words = words
        self._count = words[COUNT]
        self._who = slot << 8 | lane

    def touch(self) -> None:
        """Have all its pages mapped in this process, which so is as large at its start as later on."""
        self._words[::PAGE_WORDS].tolist()

    def note(
        self, kind: str, key: int, start_ns: int, end_ns: int, *, tag: int = NONE, version: int = 0, finished: int = 0,
        filled_ns: int = 0, way: int = 0,
    ) -> None:  # fmt: skip
        """Keep an event, in place of the oldest one.

        Raises:
            Unseen: that one would be lost.
        """
        self.await_room(1)
        at = HEAD_WORDS + self._count % RING_EVENTS * EVENT_WORDS
        self._words[at : at + EVENT_WORDS] = array("Q", (
            start_ns, end_ns, _NUMBERS[kind] | way << 8, key, tag, version, finished, filled_ns,
            os.getpid() << 24 | self._who,
        ))  # fmt: skip
        self._count += 1
        self._words[COUNT] = self._count

    def await_room(self, events: int = ROOM) -> None:
        """Wait until so many can be noted without any waiting. The clock is read first: whoever was stopped in here has
        another look when it goes on.

        Raises:
            Unseen: the checker does not come.
        """
        words = self._words
        until_s = 0.0
        while words[PATIENCE_MS] and self._count + events - words[TAKEN] >= RING_EVENTS:
            now_s = time.monotonic()
            until_s = until_s or now_s + words[PATIENCE_MS] / 1000
            if now_s > until_s and self._count + events - words[TAKEN] >= RING_EVENTS:
                raise Unseen(
                    f"the history checker has taken no event for {words[PATIENCE_MS] / 1000:g} s, and one would be "
                    "lost: it is dead, or too slow for this machine (--slack gives it longer)"
                )
            time.sleep(LOOK_S)

    # The checker's.

    def attend(self, patience_s: float) -> None:
        """From now on each event is taken before it is written over. Before any lane notes one."""
        self._words[TAKEN] = self._words[COUNT]
        self._words[PATIENCE_MS] = int(patience_s * 1000)

    def take(self) -> list[int]:
        """The words of all events that were not taken yet, the oldest first. Of a ring that is attended to."""
        found, count = self.since(self._words[TAKEN])
        self._words[TAKEN] = count
        return found

    def events(self) -> list[Event]:
        """What it holds, the oldest first."""
        return events_of(self.since(0)[0])

    def since(self, seen: int) -> tuple[list[int], int]:
        """What was noted after an earlier look, as far as it has not been written over.

        Args:
            seen: how many events there had been, then.

        Returns:
            The words of the events, the oldest first; and how many there have been now.
        """
        words = self._words
        count = words[COUNT]
        first = max(seen, count - RING_EVENTS)
        found = list(chain.from_iterable(words[start:end].tolist() for start, end in _places(first, count)))
        spoilt = words[COUNT] - RING_EVENTS + 1  # all before may have been written over meanwhile
        return (found if spoilt <= first else found[(spoilt - first) * EVENT_WORDS :]), count


def _places(first: int, count: int) -> list[tuple[int, int]]:
    """Where the events from the `first` to before the `count`-th are, in one piece or two."""
    start, end = first % RING_EVENTS, count % RING_EVENTS
    if first == count:
        return []
    pieces = [(start, end)] if start < end else [(start, RING_EVENTS), (0, end)]
    return [(HEAD_WORDS + low * EVENT_WORDS, HEAD_WORDS + high * EVENT_WORDS) for low, high in pieces]


def events_of(words: list[int]) -> list[Event]:
    """The events whose words these are."""
    return [
        Event(start, end, KINDS[(kind & 0xFF) % len(KINDS)], key, tag, version, finished, filled, kind >> 8, who >> 24,
              who >> 8 & 0xFFFF, who & 0xFF)
        for start, end, kind, key, tag, version, finished, filled, who in zip(
            *(words[place::EVENT_WORDS] for place in range(EVENT_WORDS)), strict=True
        )
    ]  # fmt: skip


def told(rings: Iterable[Ring], wanted: Callable[[Event], bool], last: int, tags: list[str]) -> str:
    """The last events of all rings that are wanted, one a line, in the order in which they ended.

    Args:
        rings: of all threads.
        wanted: which events.
        last: how many.
        tags: their names, by number.
    """
    events = [each for ring in rings for each in ring.events() if wanted(each)]
    shown = sorted(events, key=lambda each: each.end_ns)[-last:]
    return lines(shown, tags, shown[0].start_ns if shown else 0)


def lines(events: Iterable[Event], tags: list[str], zero_ns: int) -> str:
    """Events, one a line, with their times since a moment."""
    return "\n".join(_line(event, zero_ns, tags) for event in events)


def _line(event: Event, zero_ns: int, tags: list[str]) -> str:
    start_ms, end_ms = (event.start_ns - zero_ns) / 1e6, (event.end_ns - zero_ns) / 1e6
    key = "all" if event.key == NONE else event.key
    tag = f" {tags[event.tag]}" if event.tag < len(tags) else ""
    way = f"/{event.way}" if event.way else ""
    filled = f", filled at {(event.filled_ns - zero_ns) / 1e6:.3f} ms" if event.filled_ns else ""
    return (
        f"    {start_ms:10.3f} … {end_ms:10.3f} ms  process {event.process} lane {event.lane}  {event.kind + way:<10} "
        f"key {key} version {event.version} (finished before: {event.finished}{filled}){tag}"
    )
