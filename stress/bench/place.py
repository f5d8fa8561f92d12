"""A place to measure: a process, a directory and a prefix of its own, and nothing of them afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zoocache
from stress import listeners
from stress.fleet import ask
from stress.run import destroy

PATIENCE_S = 600.0
MAP_SIZE = 2 * 1024**3


class Place:
    """Where something is measured.

    Args:
        host_ids: of the hosts that are there; "" is this one.

    Attributes:
        directory: for files.
        prefix: of the cache.
    """

    def __init__(self, *host_ids: str) -> None:
        self._host_ids = host_ids or ("",)
        self.directory = Path(tempfile.mkdtemp(prefix="zoocache-bench-"))
        self.prefix = f"{os.environ.get('ZOOCACHE_PREFIX') or 'bench'}-{os.getpid()}-{secrets.token_hex(3)}"

    def settings(self, storage: str, **options: Any) -> dict[str, Any]:
        """What to configure the cache with."""
        url = f"lmdb://{self.directory}/entries" if storage == "lmdb" else None
        return {"storage_url": url, "prefix": self.prefix, "lmdb_map_size": MAP_SIZE, **options}

    def ask(self, question: Callable[[], Any]) -> Any:
        """Have a process of its own answer, with what JSON can carry."""
        return ask(question, PATIENCE_S)

    def remove(self) -> None:
        """Leave nothing behind."""
        try:
            listeners.end(self.prefix, signal.SIGTERM)  # one that is about to begin, too
            for host_id in self._host_ids:
                destroy(self.prefix, host_id)
        finally:
            shutil.rmtree(self.directory)


@contextmanager
def opened(*host_ids: str) -> Iterator[Place]:
    """A place for a while, for these hosts."""
    place = Place(*host_ids)
    try:
        yield place
    finally:
        place.remove()


def measured(storage: str, measure: Callable[[Place], Any], **options: Any) -> Any:
    """What `measure(place)` returns, in a fresh process with a configured cache."""
    with opened() as place:
        return place.ask(lambda: _configured(place, storage, measure, options))


def _configured(place: Place, storage: str, measure: Callable[[Place], Any], options: dict[str, Any]) -> Any:
    zoocache.configure(**place.settings(storage, **options))
    try:
        return measure(place)
    finally:
        zoocache.reset()
