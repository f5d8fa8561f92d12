"""The store that the settings name; nothing is opened before it is first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoocache.config import Settings
from zoocache.imports import whole
from zoocache.shm.lock import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from zoocache.server.link import Link
    from zoocache.storage.lmdb import LmdbStore
    from zoocache.storage.redis import RedisStore


def near_store(settings: Settings, timeout_s: float = DEFAULT_TIMEOUT_S) -> LmdbStore | None:
    """The store that lies on this host; None where entries lie in memory or on another machine.

    Args:
        settings: as configured.
        timeout_s: how long a write waits for another process.
    """
    if settings.storage_path is None:
        return None
    with whole:
        from zoocache.storage.lmdb import LmdbStore

    return LmdbStore(
        settings.storage_path, prefix=settings.prefix or "", map_size=settings.lmdb_map_size,
        max_entries=settings.max_entries, timeout_s=timeout_s,
    )  # fmt: skip


def far_store(settings: Settings, link: Link) -> RedisStore | None:
    """The store that several hosts share; None where entries lie on this host."""
    if settings.storage_kind != "redis":
        return None
    with whole:
        from zoocache.storage.redis import RedisStore

    return RedisStore(link, settings.prefix or "", max_entries=settings.max_entries)
