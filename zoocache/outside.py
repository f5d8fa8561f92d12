"""What the settings name beside the host's segment: the store, and the way to other hosts."""

from __future__ import annotations

from zoocache.config import Settings
from zoocache.engine.core import Outside
from zoocache.errors import ConfigError
from zoocache.storage import Store


def check(settings: Settings) -> None:
    """Refuse at once what could never be opened.

    Raises:
        ConfigError: see the message.
    """
    if settings.server_url is not None:
        raise ConfigError("this release has no Redis storage and no bus; use memory:// or lmdb://, and no bus_url")


def outside(settings: Settings) -> Outside:
    """Everything that an engine with these settings has beside its segment; opened when it is first used."""
    return Outside(local_store(settings))


def local_store(settings: Settings) -> Store | None:
    """The store that lies on this host; None where entries lie in memory or on another machine."""
    if settings.storage_path is None:
        return None
    from zoocache.storage.lmdb import LmdbStore

    return LmdbStore(
        settings.storage_path, prefix=settings.prefix or "", map_size=settings.lmdb_map_size,
        max_entries=settings.max_entries,
    )  # fmt: skip
