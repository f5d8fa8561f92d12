"""Faults that can be planted in the library: one rule of its safety turned off, in every process of a run.

A program that does not fail with a mutant proves nothing when it succeeds without. `python -m stress mutants` runs each
with the program that has to catch it, and prints who did; `tests/stress` does it with some.

    planting    what a mutant is
    orders      rules of the two orders on a host: of stores, of stamps, of what is looked at before what
    flights     rules of flights, claims and the lock
    stores      rules of the store on this host: its own epoch, and the boot under which it was written
    between     rules between hosts
    table       the command
"""

from __future__ import annotations

from stress.mutants import between, flights, orders, stores
from stress.mutants.planting import Mutant, pull, put

__all__ = ["MUTANTS", "plant", "pull", "put"]

MUTANTS: dict[str, Mutant] = orders.MUTANTS | flights.MUTANTS | stores.MUTANTS | between.MUTANTS


def plant(name: str) -> None:
    """Turn a rule off in this process.

    Args:
        name: one of MUTANTS; "" for none.
    """
    if name:
        MUTANTS[name].plant()
