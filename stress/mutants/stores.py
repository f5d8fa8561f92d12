"""Mutants of the LMDB store as a whole: its epoch, and the mark of the boot under which it was written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stress.mutants.planting import Mutant, Same, put
from zoocache.storage import Stamp, lmdb_environment
from zoocache.storage.lmdb import LmdbStore
from zoocache.storage.lmdb_environment import Attached
from zoocache.storage.lmdb_files import SYNCED, WORD_MARK, Home
from zoocache.storage.lmdb_numbers import Sight


class _Any(Same, int):
    """Equal to every epoch."""

    __slots__ = ()
    __hash__ = int.__hash__


def _ageless() -> None:
    """Two looks guard this rule: at the epoch, and at stamps that are above all numbers of the store."""

    def mutant(self: LmdbStore, digest: bytes, paths: list[bytes], stamp: Stamp, *rest: Any, **named: bool) -> Any:
        return whole(self, digest, paths, stamp._replace(epoch=_Any()), *rest, **named)

    def overtaken(self: Sight, paths: Iterable[bytes], n: int) -> bool:
        return bool(is_overtaken(self, paths, min(n, self.n)))

    whole = put(LmdbStore, "save", mutant)
    is_overtaken = put(Sight, "is_overtaken", overtaken)


def _bootless() -> None:
    def mutant(home: Home, mark: int) -> Attached:
        """The library's own, to which the boot that wrote last is always this one."""
        found = home.words[WORD_MARK]
        attached: Attached = whole(home, mark if found in {0, SYNCED} else found)
        attached.mark = mark
        return attached

    whole = put(lmdb_environment, "_living", mutant)


MUTANTS = {
    "ageless": Mutant("a stamp of another epoch of the store is worth nothing", _ageless, "reboot", "lmdb"),
    "bootless": Mutant("a store that another boot was writing to is dropped", _bootless, "reboot", "lmdb"),
}
