"""What the settings name beside the host's segment: the store, and the way to other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoocache.config import Settings
from zoocache.engine.core import Outside
from zoocache.errors import ConfigError

if TYPE_CHECKING:
    from zoocache.storage.lmdb import LmdbStore


def check(settings: Settings) -> None:
    """Refuse at once what could never be opened.

    Raises:
        ConfigError: a URL of Redis is malformed; or entries and messages should go through two databases.
    """
    if settings.server_url is None:
        return
    from zoocache.server.url import address_of, same_place

    if settings.storage_kind != "redis":
        address_of(settings.server_url, "bus_url")
        return
    storage = address_of(settings.storage_url, "storage_url")
    if settings.bus_url is not None and not same_place(storage, address_of(settings.bus_url, "bus_url")):
        raise ConfigError(
            f"bus_url and storage_url name two places ({storage} is the second): with entries in Redis the order of "
            "the invalidations lies beside them, so give the same URL for both"
        )


def outside(settings: Settings) -> Outside:
    """Everything that an engine with these settings has beside its segment; opened when it is first used."""
    if settings.server_url is None:
        return Outside(local_store(settings))
    from zoocache.bus.redis import RedisBus
    from zoocache.engine.hosts import Hosts
    from zoocache.server.link import Link
    from zoocache.server.url import address_of
    from zoocache.storage.redis import RedisStore

    link = Link(address_of(settings.server_url), settings.redis_timeout)
    prefix = settings.prefix or ""
    bus = RedisBus(link, prefix)
    hears = settings.bus_url is not None
    if settings.storage_kind == "redis":
        far = RedisStore(link, prefix, max_entries=settings.max_entries)
        return Outside(far, far, Hosts(bus, None, through=True, hears=hears))
    near = local_store(settings)
    return Outside(near, None, Hosts(bus, near, through=False, hears=hears))


def local_store(settings: Settings) -> LmdbStore | None:
    """The store that lies on this host; None where entries lie in memory or on another machine."""
    if settings.storage_path is None:
        return None
    from zoocache.storage.lmdb import LmdbStore

    return LmdbStore(
        settings.storage_path, prefix=settings.prefix or "", map_size=settings.lmdb_map_size,
        max_entries=settings.max_entries,
    )  # fmt: skip
