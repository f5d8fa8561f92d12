"""What lies in shared memory under a test's prefix."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from zoocache._zoocache import Core
from zoocache.shm.object import CURRENT_S

DEV_SHM = Path("/dev/shm")


def objects_of(prefix: str, ends: Sequence[str] = ("-", "@")) -> list[Path]:
    """The objects in /dev/shm that were made under a prefix: segments and semaphores.

    Args:
        prefix: of the cache.
        ends: what may follow it; "" for all prefixes that begin so.
    """
    starts = tuple(f"{kind}-{os.geteuid()}-{prefix}{end}" for kind in ("zoocache", "sem.zoocache") for end in ends)
    return [DEV_SHM / name for name in os.listdir(DEV_SHM) if name.startswith(starts)]  # each test asks: no pattern


def remove_objects(prefix: str) -> None:
    """Remove them all, as a person or systemd may at any moment."""
    found = objects_of(prefix)
    assert found
    for path in found:
        path.unlink()
    time.sleep(CURRENT_S)  # what was current so lately counts as current: nobody can be using a newer one yet


def harm() -> list[str]:
    """What is wrong with the segment, but for an insert that a death cut short, which the next one settles."""
    return [fault for fault in Core().check() if "harmless" not in fault]
