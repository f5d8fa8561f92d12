"""A table from exact types to what is to be done with them, in which types of costly modules may stand unimported.

Importing `decimal`, `fractions`, `uuid`, `zoneinfo` and `pathlib` would double the time of `import zoocache`. It is not
needed: no value of their types exists before their module was loaded, so a type that the table misses is the moment
to look whether a module came since.
"""

from __future__ import annotations

import sys
from typing import TypeVar

T = TypeVar("T")


class TypeTable(dict[type, T]):
    """`table[type(value)]` is one look-up for a known type, and `other` for an unknown one.

    Not guarded: the entries of a module are set one by one, each to the same value whoever does it, and the module
    leaves the waiting list last.
    """

    def __init__(self, known: dict[type, T], late: dict[str, dict[str, T]], other: T) -> None:
        """Make a table.

        Args:
            known: the entries of types that are at hand.
            late: module → class name → entry, for modules that this table must not import.
            other: the entry of all other types.
        """
        super().__init__(known)
        self._late = dict(late)
        self._other = other

    def __missing__(self, cls: type) -> T:
        for module in tuple(self._late):
            if module in sys.modules:
                self._welcome(module)
        return self.get(cls, self._other)

    def _welcome(self, module: str) -> None:
        entries = self._late.get(module, {})
        names = vars(sys.modules[module])
        if all(name in names for name in entries):  # another thread may be half-way through importing it
            self.update({names[name]: entry for name, entry in entries.items()})
            self._late.pop(module, None)
