"""The segments of other releases and other C libraries on this host, under the same user and prefix.

Each layout version and each C library has a segment of its own, so processes of two releases (a rolling deployment)
or of two libraries (containers that share `/dev/shm`) do not share a trie. An invalidation must reach them all the
same: the positions of the header's words are frozen for all releases, so it raises the floor of every neighbour.
That makes all of the neighbour's entries stale, not only those below the tag: correct before fast, and rare.

How the neighbours know each other. A newcomer looks for the objects that are there and moves H_NEIGHBOURS in each;
whoever is attached to one of these looks at that word with every invalidation, and looks for objects again when it
has moved. So each finds the other, whichever came first.

Raising a floor, under the neighbour's own flock (its semaphore may be of a make that this C library cannot read; the
flock is the truth anyway): inserts + 1 (odd), floor = seq + 1, inserts + 1 (even), seq + 1 last. Crash argument: as
for a replacement in tables.py; killed before the flock nothing has happened, and the invalidation has not returned.

`_mapped` is replaced whole, never changed: two threads that look at once find the same.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from zoocache.errors import SegmentRefused
from zoocache.log import log
from zoocache.shm import identity, kernel
from zoocache.shm import layout as at
from zoocache.shm.layout import HEADER_WORDS, MAGIC, WORD
from zoocache.shm.lock import Lock

_HEADER = HEADER_WORDS * WORD


class Neighbour:
    """The header of another segment, mapped."""

    _description: kernel.Description | None = None

    def __init__(self, file: str) -> None:
        fd = kernel.above_stdio(os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        self._description = description = kernel.Description(fd)
        info = os.fstat(description.fd)
        identity.refuse_foreign(info, file)
        if info.st_size < _HEADER:
            raise SegmentRefused(f"shared-memory object {file} has no header")
        self.inode = info.st_ino
        with kernel.stdio_taken():  # mmap keeps a duplicate
            self.words = memoryview(mmap.mmap(description.fd, _HEADER)).cast("Q")
        # Not by name, which may lead to another object by then, or to none.
        self.lock = Lock(lambda: kernel.reopen(description.fd), None, f"segment {file}")

    def __del__(self) -> None:
        if self._description is not None and not self.is_whole():
            kernel.keep_mapped(self.words)

    def is_whole(self) -> bool:
        """Whether nobody has closed its descriptor."""
        return self._description is not None and self._description.is_whole()

    def is_live(self) -> bool:
        """Whether it is a segment that anybody may be attached to."""
        return self.words[at.H_MAGIC] == MAGIC and self.words[at.H_STATE] == at.LIVE

    def greet(self) -> None:
        """Tell those who are attached that there is a newcomer."""
        self.words[at.H_NEIGHBOURS] = (self.words[at.H_NEIGHBOURS] + 1) & at.NEVER

    def raise_floor(self) -> None:
        """Make everything there stale.

        Raises:
            Busy: a process of the other release keeps its lock beyond the time-out.
        """
        if self.is_live():
            try:
                self.lock.run(self._raise_floor)
            finally:
                self.lock.close()  # it is rare: no description stays for a forked child to keep a dead parent's lock by

    def _raise_floor(self) -> None:
        words = self.words
        new = words[at.H_SEQ] + 1
        words[at.H_INSERTS] |= 1
        words[at.H_FLOOR] = new
        words[at.H_INSERTS] = min(words[at.H_INSERTS] + 1, at.NEVER)  # NEVER: retired meanwhile, and stays so
        words[at.H_SEQ] = new


class Neighbours:
    """The neighbours of one segment.

    Args:
        name: of the segment.
        words: of the segment.
    """

    def __init__(self, name: str, words: memoryview) -> None:
        self._own = identity.segment_file(name)
        self._words = words
        self._place, self._start = os.path.split(identity.segment_file(f"{identity.name_of_all(name)}-"))
        self._seen = words[at.H_NEIGHBOURS]
        self._mapped: dict[str, Neighbour] = {}
        self._look(greet=True)

    def raise_floors(self) -> None:
        """Make everything stale in every neighbour; costs one word where there is none.

        Raises:
            Busy: as `Neighbour.raise_floor`; floors that were raised stay raised.
        """
        if not self._mapped and self._words[at.H_NEIGHBOURS] == self._seen:
            return
        self._look(greet=False)
        for neighbour in self._mapped.values():
            neighbour.raise_floor()

    def _look(self, *, greet: bool) -> None:
        """Map what is there now, and greet what is new to us if we are new ourselves."""
        self._seen = self._words[at.H_NEIGHBOURS]
        mapped = {file: neighbour for file in self._others() if (neighbour := self._neighbour(file)) is not None}
        self._mapped = mapped
        if greet:
            for neighbour in mapped.values():
                neighbour.greet()

    def _others(self) -> Iterator[str]:
        """The files whose names begin as ours does."""
        try:
            names = os.listdir(self._place)
        except OSError as error:
            log.debug("zoocache: %s cannot be listed: %s", self._place, error)
            return
        for name in names:
            if name.startswith(self._start) and (file := os.path.join(self._place, name)) != self._own:
                yield file

    def _neighbour(self, file: str) -> Neighbour | None:
        known = self._mapped.get(file)
        try:
            if known is not None and known.is_whole() and os.stat(file).st_ino == known.inode:
                return known
            return Neighbour(file)
        except OSError as error:
            log.debug("zoocache: %s is no neighbour: %s", file, error)
            return None
