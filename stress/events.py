"""Events: what each thread did last, kept in rings on the board, so that the dead tell their part too.

An event is EVENT_WORDS words: start, end (monotonic nanoseconds, one clock for the host), kind, key, tag, version,
finished, process << 8 | lane. A ring is a count and the places of the last RING_EVENTS events; the count moves last,
so an event that was cut short by a kill is not in the ring.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable
from typing import NamedTuple

RING_EVENTS = 2048
EVENT_WORDS = 8
RING_WORDS = 1 + RING_EVENTS * EVENT_WORDS

NONE = 2**64 - 1
"""A word that says nothing: an event of all keys, or of no tag."""

KINDS = ("read", "raised", "begun", "invalidate", "set", "delete", "clear", "prune", "visitors", "drop", "busy")
"""What an event can be; it is kept as its index."""
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


class Event(NamedTuple):
    """What one thread did.

    Attributes:
        start_ns, end_ns: monotonic.
        kind: one of KINDS.
        key, tag: by number; NONE where there is none, or it was for all.
        version: what was read or written.
        finished: what was finished for the key before it began.
        process, lane: who.
    """

    start_ns: int
    end_ns: int
    kind: str
    key: int
    tag: int
    version: int
    finished: int
    process: int
    lane: int


class Ring:
    """The last events of one thread, which alone writes them."""

    __slots__ = ("_count", "_words")

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._count = words[0]

    def note(
        self, kind: str, key: int, start_ns: int, end_ns: int, *, tag: int = NONE, version: int = 0, finished: int = 0,
        lane: int = 0,
    ) -> None:  # fmt: skip
        """Keep an event, in place of the oldest one."""
        at = 1 + self._count % RING_EVENTS * EVENT_WORDS
        self._words[at : at + EVENT_WORDS] = array(
            "Q", (start_ns, end_ns, _NUMBERS[kind], key, tag, version, finished, os.getpid() << 8 | lane)
        )
        self._count += 1
        self._words[0] = self._count

    def events(self) -> list[Event]:
        """What it holds, the oldest first, as far as it is not being written over."""
        count = self._words[0]
        places = range(max(0, count - RING_EVENTS), count)
        return [self._event(1 + place % RING_EVENTS * EVENT_WORDS) for place in places]

    def _event(self, at: int) -> Event:
        start, end, kind, key, tag, version, finished, who = self._words[at : at + EVENT_WORDS]
        return Event(start, end, KINDS[kind % len(KINDS)], key, tag, version, finished, who >> 8, who & 0xFF)


def told(rings: Iterable[Ring], wanted: Callable[[Event], bool], last: int, tags: list[str]) -> str:
    """The last events of all rings that are wanted, one a line, in the order in which they ended.

    Args:
        rings: of all threads.
        wanted: which events.
        last: how many.
        tags: their names, by number.
    """
    events = sorted((each for ring in rings for each in ring.events() if wanted(each)), key=lambda each: each.end_ns)
    events = events[-last:]
    zero_ns = events[0].start_ns if events else 0
    return "\n".join(_line(event, zero_ns, tags) for event in events)


def _line(event: Event, zero_ns: int, tags: list[str]) -> str:
    start_ms, end_ms = (event.start_ns - zero_ns) / 1e6, (event.end_ns - zero_ns) / 1e6
    key = "all" if event.key == NONE else event.key
    tag = f" {tags[event.tag]}" if event.tag < len(tags) else ""
    return (
        f"    {start_ms:10.3f} … {end_ms:10.3f} ms  process {event.process} lane {event.lane}  {event.kind:<10} "
        f"key {key} version {event.version} (finished before: {event.finished}){tag}"
    )
