"""What tests of the write lock share: whether it is held, words that forked children share, who stays inside."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from zoocache.shm.lock import Lock

OpenLock = Callable[..., Lock]

PATIENT_S = 20.0
"""A time-out that is never reached unless something hangs."""


def is_free(path: Path) -> bool:
    """Whether the kernel lock is held by nobody."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def shared_words(count: int) -> memoryview:
    """Words that forked children share."""
    return memoryview(mmap.mmap(-1, count * 8)).cast("Q")


def staying(say: int) -> Callable[[], None]:
    """An action that says it is inside, and never ends."""

    def stay() -> None:
        os.write(say, b"!")
        time.sleep(1000)

    return stay
