"""The oracle: whether what a reader got is explained by what it had reason to expect. It knows nothing of the library.

A writer of a key                               A reader of a key
    1  truth[key] = version                         1  least = finished[key]
    2  invalidates a tag on the key's path          2  reads through the cache
    3  finished[key] = version                      3  truth[key] is read

A fill reads truth[key] after it began. So a read that begins after step 3 of the writer must bring that version or a
later one: anything less is stale. And nothing can bring more than truth[key] says afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stress import tree
from stress.board import Board
from stress.events import NONE, Event, told

LAST_EVENTS = 60


class Wrong(Exception):
    """What a reader got cannot be."""


class Reading:
    """One read, from before it began until it was judged.

    Attributes:
        least: for each key that it covers, what was finished before it began.
    """

    __slots__ = ("_board", "_keys", "least")

    def __init__(self, board: Board, keys: Sequence[int]) -> None:
        self._board = board
        self._keys = keys
        self.least = [board.finished[key] for key in keys]

    def is_about_its_keys(self, testimony: Any) -> bool:
        """Whether what was read is a testimony about these keys at all, and not the value of another call."""
        if not isinstance(testimony, tuple | list):
            return False
        return len(testimony) == 1 + 2 * len(self._keys) and list(testimony[1::2]) == list(self._keys)

    def judge(self, testimony: Any) -> None:
        """Compare what was read with the truth.

        Raises:
            Wrong: it is stale, comes from the future, or is no testimony about these keys.
        """
        if not self.is_about_its_keys(testimony):
            raise Wrong(f"a read of the keys {self._keys} brought {testimony!r}")
        for key, version, least in zip(self._keys, testimony[2::2], self.least, strict=True):
            if version < least:
                raise Wrong(f"STALE: key {key} was read at version {version}, though {least} was finished before")
            if version > self._board.truth[key]:
                raise Wrong(f"key {key} was read at version {version}, but the truth is {self._board.truth[key]}")


def history(board: Board, key: int) -> str:
    """The last events that concern a key, of all processes, the dead ones too."""
    own = tree.ancestors(key)

    def concerns(event: Event) -> bool:
        if event.key == key or event.kind in ("clear", "prune"):
            return True
        return event.tag != NONE and tree.TAGS[event.tag] in own

    return told(board.rings(), concerns, LAST_EVENTS, tree.TAGS)
