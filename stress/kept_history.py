"""The file of a history: the events of a run, block by block, each with a checksum, so that it can be judged again.

    one line    JSON: `format`, `seed`, `slots_per_host`
    blocks      u64  bytes of the events that follow; none of them: the run has ended in order, and so does the file
                u32  check of the events
                u32  check of these words
                events, EVENT_WORDS native words each, in the order in which they were found; see events.py

Each check is a CRC-32 that begins with the one before it, of all the file up to there; the first begins with that of
the line. So a block that was damaged, lost, doubled or moved is found, and the line with the first block.

A block is written in one piece when it is whole. If the run is killed, the file ends somewhere, at worst inside a block
that is not read then: it is cut short, and all before can be judged. A length counts only if its own check is right, so
no damage passes for such an end.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from stress.events import EVENT_WORDS, Event, events_of

FORMAT = 1
_HEAD = struct.Struct("=QII")
_WORD_BYTES = array("Q").itemsize
_EVENT_BYTES = EVENT_WORDS * _WORD_BYTES


class Unreadable(Exception):
    """What stands in a file cannot be judged."""


class History(NamedTuple):
    """What a file holds.

    Attributes:
        seed: of the run.
        slots_per_host: so many places of the fleet learn at once what one of them has done.
        events: in the order in which they were found.
        is_whole: whether the run ended in order.
    """

    seed: int
    slots_per_host: int
    events: list[Event]
    is_whole: bool


class Writer:
    """Keeps the events of a run.

    Args:
        path: of the file.
        seed, slots_per_host: of the run.
    """

    def __init__(self, path: Path, seed: int, slots_per_host: int) -> None:
        line = json.dumps({"format": FORMAT, "seed": seed, "slots_per_host": slots_per_host}).encode() + b"\n"
        self._file = path.open("wb")
        self._check = crc32(line)
        self._write(line)

    def add(self, words: list[int]) -> None:
        """Keep the events whose words these are."""
        if words:
            self._add(array("Q", words).tobytes())

    def _add(self, events: bytes) -> None:
        head, self._check = _head(events, self._check)
        self._write(head + events)

    def _write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._file.flush()

    def end(self) -> None:
        """The run has ended in order."""
        self._add(b"")
        self._file.close()


def _head(events: bytes, check: int) -> tuple[bytes, int]:
    """What stands before a block, and the check for the next one."""
    of_events = crc32(events, check)
    of_words = crc32(struct.pack("=QI", len(events), of_events), of_events)
    return _HEAD.pack(len(events), of_events, of_words), of_words


def read(path: Path) -> History:
    """What stands in the file of a run.

    Raises:
        Unreadable: there is no such file, or it is damaged, or there is no event in it.
    """
    try:
        line, newline, kept = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    seed, slots_per_host = _said(path, line)
    blocks = list(_blocks(path, kept, crc32(line + newline)))
    words = array("Q")
    for block in blocks:
        words.frombytes(block)
    if not words:
        raise Unreadable(f"{path} holds no event")
    return History(seed, slots_per_host, events_of(words.tolist()), is_whole=not blocks[-1])


def _said(path: Path, line: bytes) -> tuple[int, int]:
    """Seed and slots of a host, by the first line."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, Mapping) or said.get("format") != FORMAT:
        raise Unreadable(f"{path} is not what a run with --history has kept (format {FORMAT})")
    seed, slots_per_host = said.get("seed"), said.get("slots_per_host")
    if type(seed) is not int or type(slots_per_host) is not int or slots_per_host < 1:
        raise Unreadable(f"{path} does not say in its first line what it has to: seed, and slots_per_host from 1 on")
    return seed, slots_per_host


def _blocks(path: Path, kept: bytes, check: int) -> Iterator[bytes]:
    """The events of each block that is there as a whole; of a whole file, the last has none."""
    at, length = 0, 1
    while length and len(kept) - at >= _HEAD.size:
        length, of_events, of_words = _HEAD.unpack_from(kept, at)
        events = kept[at + _HEAD.size : at + _HEAD.size + length]
        is_cut = len(events) < length
        if of_words != crc32(struct.pack("=QI", length, of_events), of_events) or length % _EVENT_BYTES:
            raise _damaged(path, at)
        if not is_cut and of_events != crc32(events, check):
            raise _damaged(path, at)
        at, check = at + _HEAD.size + length, of_words
        if not is_cut:
            yield events
    if not length and at != len(kept):
        raise Unreadable(f"{path} is damaged: something follows its end")


def _damaged(path: Path, at: int) -> Unreadable:
    return Unreadable(f"{path} is damaged: the block {at} bytes after its first line has another checksum")
