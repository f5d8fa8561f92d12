"""What the package offers as plain functions: invalidate, get and set by key, clear, prune, configure, version."""

from __future__ import annotations

from typing import Any

from zoocache import config, runtime
from zoocache import deps as dependencies
from zoocache._version import __version__
from zoocache.config import UNSET, Unset
from zoocache.engine import keeping
from zoocache.engine.effects import drive_async, patiently
from zoocache.engine.fill import add_deps
from zoocache.engine.live import Live
from zoocache.errors import InvalidKey
from zoocache.storage import Stamp

LONGEST_KEY = 1 << 20
"""Characters; as long as a `key_for(…)` of arguments that anybody would cache by."""

__all__ = [
    "add_deps", "clear", "clear_async", "configure", "delete", "delete_async", "get", "get_async", "get_tag_version",
    "invalidate", "invalidate_async", "prune", "reset", "set", "set_async", "version",
]  # fmt: skip


def configure(
    storage_url: str | Unset | None = UNSET,
    bus_url: str | Unset | None = UNSET,
    prefix: str | Unset | None = UNSET,
    default_ttl: float | Unset | None = UNSET,
    read_extend_ttl: bool | Unset = UNSET,
    prune_after: float | Unset | None = UNSET,
    *,
    max_age: float | Unset | None = UNSET,
    auto_prune_interval: float | Unset = UNSET,
    max_entries: int | Unset | None = UNSET,
    lmdb_map_size: int | Unset = UNSET,
    flight_timeout: float | Unset = UNSET,
    shm_size: int | Unset | None = UNSET,
) -> None:
    """Settle the settings of this process, before the first use of the cache.

    An option that is not given comes from the environment (`ZOOCACHE_STORAGE_URL` and so on), else from the default.
    Without any `configure` the cache works with environment and defaults. The same settings twice are fine.

    Args:
        storage_url: `lmdb://./directory` or `lmdb:///absolute`; None: in memory.
        bus_url: None; this release has no bus.
        prefix: keeps caches of one user apart on a host.
        default_ttl: seconds an entry lives where its function says nothing else; None: for ever.
        read_extend_ttl: whether a read starts the ttl again.
        prune_after: seconds without an invalidation after which a tag's node is given back; None: never by itself.
        max_age: seconds an entry lives at most, however often it is read.
        auto_prune_interval: seconds between two automatic prunes of a host.
        max_entries: how many entries are kept: in LMDB by all processes together, in memory by each.
        lmdb_map_size: bytes that LMDB may take; fixed when its directory is made.
        flight_timeout: seconds after which a follower takes over from a leader that is still computing.
        shm_size: bytes of the host's segment; fixed when it is made.

    Raises:
        ConfigError: a value that an option cannot have.
        AlreadyConfigured: the cache is configured or in use with other settings.
    """
    runtime.configure(
        storage_url=storage_url, bus_url=bus_url, prefix=prefix, default_ttl=default_ttl,
        read_extend_ttl=read_extend_ttl, prune_after=prune_after, max_age=max_age,
        auto_prune_interval=auto_prune_interval, max_entries=max_entries, lmdb_map_size=lmdb_map_size,
        flight_timeout=flight_timeout, shm_size=shm_size,
    )  # fmt: skip


def invalidate(*tags: str) -> None:
    """Kill every entry that depends on one of the tags or on anything below it, in every process of the host.

    Once this has returned, no call that starts afterwards gets a value whose computation started before. Several
    tags die under one number, after all of them were checked.

    Raises:
        InvalidTag: a tag breaks the rules; nothing was invalidated.
        Busy: another process, perhaps stopped, kept the write lock beyond the time-out; try again.
        StorageError: the storage could not be told.
    """
    if tags:
        runtime.engine().invalidate(tags)


async def invalidate_async(*tags: str) -> None:
    """`invalidate` for tasks: waiting for the lock, it lets the loop run. Same errors."""
    checked = [dependencies.check_tag(tag) for tag in tags]
    if checked:
        await drive_async(patiently(lambda: runtime.engine().invalidate(checked)))


def clear() -> None:
    """Drop all entries and reset the trie, for every process of the host that shares prefix and storage.

    Raises:
        Busy, StorageError: as with `invalidate`.
    """
    runtime.engine().clear()


async def clear_async() -> None:
    """`clear` for tasks. Same errors."""
    await drive_async(patiently(lambda: runtime.engine().clear()))


def prune(max_age_secs: float = 3600) -> int:
    """Give back the nodes of tags that were not invalidated lately, and what has expired.

    Entries computed before the latest of the dropped invalidations are computed once more; none becomes stale.

    Args:
        max_age_secs: seconds since a tag's last invalidation.

    Returns:
        How many nodes were dropped.

    Raises:
        ConfigError: not a duration.
        Busy, StorageError: as with `invalidate`.
    """
    return runtime.engine().prune(round(config.seconds(max_age_secs, "max_age_secs", least=0) * 1000))


def get(key: str, default: Any = None) -> Any:
    """The value that was set under a key, or kept for a call (`function.key_for(...)`).

    Args:
        key: full text.
        default: what a miss returns; a kept None is a hit.

    Raises:
        InvalidKey: not a usable key.
    """
    found = runtime.engine().find(_checked_key(key))
    return default if found is None else found[0]


async def get_async(key: str, default: Any = None) -> Any:
    """`get` for tasks."""
    return get(key, default)


def set(  # noqa: A001  # the name that users of caches look for
    key: str, value: Any, *, deps: object = None, ttl: float | None = None, max_age: float | None = None
) -> None:
    """Keep a value under a key, in place of what was there.

    Args:
        key: non-empty text.
        value: what the storage can keep.
        deps: a tag, or a list, tuple or set of tags.
        ttl: seconds; None: the configuration's `default_ttl`.
        max_age: seconds that no read extends; None: the configuration's.

    Raises:
        InvalidKey, InvalidTag, InvalidDeps, ConfigError: an argument breaks its rule; what was there stays.
        UnkeepableResult: the storage cannot give such a value back; what was there stays.
        StorageIsFull: it can never fit; what was there stays.
        Busy, StorageError: the storage could not be told.
    """
    live, stamp = _landed(key, value, deps, ttl, max_age)
    keeping.put(runtime.engine(), live, stamp)


async def set_async(
    key: str, value: Any, *, deps: object = None, ttl: float | None = None, max_age: float | None = None
) -> None:
    """`set` for tasks. Same errors."""
    live, stamp = _landed(key, value, deps, ttl, max_age)
    await drive_async(patiently(lambda: keeping.put(runtime.engine(), live, stamp)))


def _landed(key: str, value: Any, deps: object, ttl: float | None, max_age: float | None) -> tuple[Live, Stamp | None]:
    name = _checked_key(key)
    tags = () if deps is None else dependencies.check_deps(deps)
    ttl_s = None if ttl is None else config.seconds(ttl, "ttl")
    age_s = None if max_age is None else config.seconds(max_age, "max_age")
    engine = runtime.engine()
    begun = keeping.begin(engine)
    life = engine.life_of(ttl_s, age_s)
    return keeping.land(engine, name, name, value, tags, life, begun, share=False), begun.stamp


def delete(key: str) -> bool:
    """Drop a key in every process of the host.

    Returns:
        Whether a valid entry was there.

    Raises:
        InvalidKey: not a usable key.
        Busy, StorageError: as with `invalidate`.
    """
    return runtime.engine().delete(_checked_key(key))


async def delete_async(key: str) -> bool:
    """`delete` for tasks. Same errors."""
    name = _checked_key(key)
    return await drive_async(patiently(lambda: runtime.engine().delete(name)))


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or not key or len(key) > LONGEST_KEY:
        shown = f"a string of {len(key)} characters" if isinstance(key, str) else type(key).__name__
        raise InvalidKey(f"a key is a string of 1 to {LONGEST_KEY} characters, not {shown}")
    return key


def get_tag_version(tag: str) -> int:
    """The host's number of the last invalidation that reached a tag: its own, an ancestor's, or the floor.

    It grows with every such invalidation, and means nothing on another host.

    Raises:
        InvalidTag: the tag breaks the rules.
    """
    return runtime.engine().tag_version(tag)


def version() -> str:
    """The version of this library."""
    return __version__


def reset() -> None:
    """For tests: let go of everything in this process, and forget the settings and the counters.

    The next use starts anew, and `configure` may come again. What other processes and the storage hold stays.
    """
    runtime.reset()
