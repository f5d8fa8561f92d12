"""For tests that are not about it: who waits for a lock waits long, for who is inside may have no processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.children import DEADLINE_S
from zoocache.engine import effects
from zoocache.shm.lock import Lock


def be_patient(put: Callable[[Any, str, Any], object] = setattr) -> None:
    """In this process, and in those that it forks.

    Args:
        put: that of a monkeypatch, where it is to end with a test.
    """
    patience_s = Lock._patience_s
    put(effects, "DEFAULT_TIMEOUT_S", DEADLINE_S)
    put(Lock, "_patience_s", lambda lock: patience_s(lock) and DEADLINE_S)
