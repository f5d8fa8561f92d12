"""What a host knows of the order of the server that it shares with others: words in its segment.

    heard    H_BUS_EPOCH, _N, _MARK: up to where it has heard; where nothing is heard, where the server stood last
    own      H_OWN_EPOCH, _N, _MARK: the latest message of its own that the server has taken, until both were compared

What is known goes along with the next message, and with what is asked of the store, so that a host never takes what it
had itself overtaken; and it is compared about once a second: a server that contradicts it (the
script `contradicts` in zoocache/server/scripts.py) is a replica that lacked the latest when it became the master, or
one that is back from long ago. Numbers alone would not tell, once others have taken as many as were lost.

Steps of a writer, under the segment's lock: the mark is voided, epoch and n are stored, the mark is stored. Killed in
between: nothing is known there, and what was to be noted is sent again, for its record in the outbox is done last.
Steps of a reader without the lock (x86-64): mark, epoch, n, and the mark again; two that differ, or 0, are nothing. A
mark is random: the same one twice is the same writer's.
"""

from __future__ import annotations

from zoocache.bus import Position
from zoocache.shm.layout import (
    H_BUS_EPOCH,
    H_BUS_MARK,
    H_BUS_N,
    H_BUS_WANT,
    H_OWN_EPOCH,
    H_OWN_MARK,
    H_OWN_N,
    H_UNTOLD,
)
from zoocache.shm.segment import LOCK_FREE
from zoocache.trie import Trie


def known_of(trie: Trie) -> Position | None:
    """The latest that this host knows of the server; for any caller. None: nothing."""
    return _latest(trie) if LOCK_FREE else trie.segment.write(_latest, trie)


def glimpse_of(trie: Trie) -> Position | None:
    """The same, for readers, who take no lock: None where it cannot be had without."""
    return _latest(trie) if LOCK_FREE else None


def _latest(trie: Trie) -> Position | None:
    own, heard = own_of(trie), _read(trie, H_BUS_EPOCH, H_BUS_N, H_BUS_MARK)
    if own is None or heard is None:
        return own or heard
    return heard if heard.epoch == own.epoch and heard.n > own.n else own


def own_of(trie: Trie) -> Position | None:
    """The latest own message that the server has not been compared with; None for none."""
    return _read(trie, H_OWN_EPOCH, H_OWN_N, H_OWN_MARK)


def _read(trie: Trie, epoch: int, n: int, mark: int) -> Position | None:
    words = trie.words
    before = words[mark]
    found = Position(words[epoch], words[n], before.to_bytes(8, "little"))
    return found if before and words[mark] == before else None


# Under the lock.


def position_of(trie: Trie) -> Position | None:
    """Up to where the segment has heard, its mark perhaps unknown; None if it never heard."""
    words = trie.words
    if not words[H_BUS_EPOCH]:
        return None
    return Position(words[H_BUS_EPOCH], words[H_BUS_N], words[H_BUS_MARK].to_bytes(8, "little"))


def both_of(trie: Trie) -> tuple[Position | None, Position | None]:
    """`position_of` and `own_of`."""
    return position_of(trie), own_of(trie)


def latest_of(trie: Trie) -> tuple[Position | None, Position | None]:
    """`known_of` and `own_of`."""
    return _latest(trie), own_of(trie)


def move(trie: Trie, now: Position) -> None:
    """Note up to where it has heard."""
    words = trie.words
    words[H_BUS_MARK] = 0
    words[H_BUS_EPOCH], words[H_BUS_N] = now.epoch, now.n
    words[H_BUS_MARK] = int.from_bytes(now.mark, "little")


def note_own(trie: Trie, sent: Position) -> None:
    """Note what the server has taken; a later one stays."""
    words, present = trie.words, own_of(trie)
    words[H_BUS_WANT], words[H_UNTOLD] = max(words[H_BUS_WANT], sent.n), 0
    if present is not None and present.epoch == sent.epoch and present.n >= sent.n:
        return
    words[H_OWN_MARK] = 0
    words[H_OWN_EPOCH], words[H_OWN_N] = sent.epoch, sent.n
    words[H_OWN_MARK] = int.from_bytes(sent.mark, "little")


def forget_own(trie: Trie, own: Position | None) -> None:
    """The server was compared with this one: it need not be remembered any more."""
    if own is not None and own_of(trie) == own:
        trie.words[H_OWN_MARK] = 0
