"""What the settings name beside the host's segment: the store, and the way to other hosts."""

from __future__ import annotations

from zoocache.config import Settings
from zoocache.engine.core import Outside
from zoocache.errors import ConfigError
from zoocache.imports import whole
from zoocache.storage.opening import far_store, near_store


def check(settings: Settings) -> None:
    """Refuse at once what could never be opened.

    Raises:
        ConfigError: a URL of Redis is malformed; or entries and messages should go through two databases.
    """
    if settings.server_url is None:
        return
    with whole:
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
        return Outside(near_store(settings))
    with whole:
        from zoocache.bus.redis import RedisBus
        from zoocache.engine.hosts import Hosts
        from zoocache.listener.starter import Starter
        from zoocache.server.link import Link
        from zoocache.server.url import address_of

    link = Link(address_of(settings.server_url), settings.redis_timeout)
    near, far = near_store(settings), far_store(settings, link)
    hosts = Hosts(
        RedisBus(link, settings.prefix or ""), near, through=far is not None, hears=settings.bus_url is not None
    )
    return Outside(near, far, hosts, Starter(settings, hosts).ensure)
