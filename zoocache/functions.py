"""What the package offers as plain functions: invalidate, get and set by key, clear, prune, configure, version."""

from __future__ import annotations

from typing import Any

from zoocache import config, runtime
from zoocache import deps as dependencies
from zoocache._version import __version__
from zoocache.config import UNSET, Unset
from zoocache.engine import keeping, mutations
from zoocache.engine.effects import Steps, drive, drive_async
from zoocache.engine.fill import add_deps
from zoocache.errors import InvalidKey

LONGEST_KEY = 1 << 20
"""Characters that a key may have which is set; that of a call may have more."""

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
    redis_timeout: float | Unset = UNSET,
    on_storage_error: str | Unset = UNSET,
    host_id: str | Unset | None = UNSET,
    max_bus_lag: float | Unset | None = UNSET,
) -> None:
    """Settle the settings of this process, before the first use of the cache.

    An option that is not given comes from the environment (`ZOOCACHE_STORAGE_URL` and so on), else from the default.
    Without any `configure` the cache works with environment and defaults. The same settings twice are fine.

    Args:
        storage_url: `lmdb://./directory`, `lmdb:///absolute`, or `redis://`, `rediss://`, `unix://` with what redis-py
            takes there, or `redis+sentinel://host,host/name`; None: in memory.
        bus_url: the Redis through which invalidations reach other hosts, with Redis storage the same; None: they reach
            this host, and what it keeps in Redis.
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
        redis_timeout: seconds that one question to Redis may take; then it is left alone until it answers again.
        on_storage_error: what a cached call does when its storage fails: `"compute"` goes on without, `"raise"` raises.
        host_id: keeps hosts apart that share one /dev/shm, as containers may; None: what shares it is one host.
        max_bus_lag: seconds that this host may be behind the others before its live objects are asked about again;
            None: no bound.

    Raises:
        ConfigError: a value that an option cannot have.
        AlreadyConfigured: the cache is configured or in use with other settings.
    """
    runtime.configure(
        storage_url=storage_url, bus_url=bus_url, prefix=prefix, default_ttl=default_ttl,
        read_extend_ttl=read_extend_ttl, prune_after=prune_after, max_age=max_age,
        auto_prune_interval=auto_prune_interval, max_entries=max_entries, lmdb_map_size=lmdb_map_size,
        flight_timeout=flight_timeout, shm_size=shm_size, redis_timeout=redis_timeout,
        on_storage_error=on_storage_error, host_id=host_id, max_bus_lag=max_bus_lag,
    )  # fmt: skip


def invalidate(*tags: str, wait: bool = False) -> None:
    """Kill every entry that depends on one of the tags or on anything below it, in every process of the host.

    Once this has returned, no call that starts afterwards on this host gets a value whose computation started before.
    Several tags die under one number, after all of them were checked. Other hosts learn of it within milliseconds, or
    as soon as they can be reached.

    Args:
        *tags: to invalidate.
        wait: return only when the Redis that leads to the other hosts has it.

    Raises:
        InvalidTag: a tag breaks the rules; nothing was invalidated.
        Busy: another process, perhaps stopped, kept the write lock beyond the time-out; try again.
        StorageError: the storage could not be told.
        ServerRefused: the Redis server refuses this user; it is done on this host, and sent once that is mended.
        NotSent: with `wait`: it is done on this host, and Redis did not take it in time; it will be sent.
    """
    if tags:
        for tag in tags:
            if type(tag) is not str:  # one that compares as it likes would be another in a table of tags
                tags = tuple(map(dependencies.check_tag, tags))
                break
        engine = runtime.engine()
        if wait or engine.far is not None:
            drive(mutations.invalidate_steps(engine, tags, wait))
        else:
            mutations.invalidate(engine, tags)


async def invalidate_async(*tags: str, wait: bool = False) -> None:
    """`invalidate` for tasks: waiting for the lock or for Redis, it lets the loop run. Same errors."""
    checked = [dependencies.check_tag(tag) for tag in tags]
    if checked:
        await drive_async(mutations.invalidate_steps(runtime.engine(), checked, wait))


def clear() -> None:
    """Drop all entries and reset the trie, for every process that shares prefix and storage, on every host of the bus.

    Raises:
        Busy, StorageError, ServerRefused: as with `invalidate`.
    """
    drive(mutations.clear(runtime.engine()))


async def clear_async() -> None:
    """`clear` for tasks. Same errors."""
    await drive_async(mutations.clear(runtime.engine()))


def prune(max_age_secs: float = 3600) -> int:
    """Give back the nodes of tags that were not invalidated lately, and what has expired.

    Entries computed before the latest of the dropped invalidations are computed once more; none becomes stale.

    Args:
        max_age_secs: seconds since a tag's last invalidation.

    Returns:
        How many nodes were dropped.

    Raises:
        ConfigError: not a duration.
        Busy, StorageError, ServerRefused: as with `invalidate`.
    """
    older_than_ms = round(config.seconds(max_age_secs, "max_age_secs", least=0) * 1000)
    return drive(mutations.prune(runtime.engine(), older_than_ms))


def get(key: str, default: Any = None) -> Any:
    """The value that was set under a key, or kept for a call (`function.key_for(...)`).

    Args:
        key: full text.
        default: what a miss returns; a kept None is a hit.

    Raises:
        InvalidKey: not a usable key.
        ServerRefused: the Redis server refuses this user.
    """
    name = _checked_key(key)
    found = drive(runtime.engine().find(name))
    return default if found is None else found[0]


async def get_async(key: str, default: Any = None) -> Any:
    """`get` for tasks."""
    name = _checked_key(key)
    found = await drive_async(runtime.engine().find(name))
    return default if found is None else found[0]


def set(  # noqa: A001  # the name that users of caches look for
    key: str, value: Any, *, deps: object = None, ttl: float | None = None, max_age: float | None = None
) -> None:
    """Keep a value under a key, in place of what was there.

    Args:
        key: text of 1 to 2^20 characters.
        value: what the storage can keep.
        deps: a tag, or a list, tuple or set of tags.
        ttl: seconds; None: the configuration's `default_ttl`.
        max_age: seconds that no read extends; None: the configuration's.

    Raises:
        InvalidKey, InvalidTag, InvalidDeps, ConfigError: an argument breaks its rule; what was there stays.
        UnkeepableResult: the storage cannot give such a value back; what was there stays.
        StorageIsFull: it can never fit; what was there stays.
        Busy, StorageError: the storage could not be told.
        ServerRefused: the Redis server refuses this user; what was there stays.
    """
    drive(_set(key, value, deps, ttl, max_age))


async def set_async(
    key: str, value: Any, *, deps: object = None, ttl: float | None = None, max_age: float | None = None
) -> None:
    """`set` for tasks. Same errors."""
    await drive_async(_set(key, value, deps, ttl, max_age))


def _set(key: str, value: Any, deps: object, ttl: float | None, max_age: float | None) -> Steps[None]:
    name = _checked_new_key(key)
    tags = () if deps is None else dependencies.check_deps(deps)
    ttl_s = None if ttl is None else config.seconds(ttl, "ttl")
    age_s = None if max_age is None else config.seconds(max_age, "max_age")
    engine = runtime.engine()
    begun = yield from keeping.begin(engine)
    live = keeping.land(engine, name, name, value, tags, engine.life_of(ttl_s, age_s), begun, share=False)
    yield from keeping.put(engine, live, begun.stamp)


def delete(key: str) -> bool:
    """Drop a key in every process of the host.

    Returns:
        Whether a valid entry was there.

    Raises:
        InvalidKey: not a usable key.
        Busy, StorageError, ServerRefused: as with `invalidate`.
    """
    return drive(mutations.delete(runtime.engine(), _checked_key(key)))


async def delete_async(key: str) -> bool:
    """`delete` for tasks. Same errors."""
    return await drive_async(mutations.delete(runtime.engine(), _checked_key(key)))


def _checked_key(key: object) -> str:
    """A key that may be asked for. That of a call is as long as its arguments are."""
    if not isinstance(key, str) or not key:
        shown = "an empty one" if key == "" else type(key).__name__
        raise InvalidKey(f"a key is a string of 1 character or more, not {shown}")
    return key


def _checked_new_key(key: object) -> str:
    """A key that may be set."""
    name = _checked_key(key)
    if len(name) > LONGEST_KEY:
        raise InvalidKey(
            f"a key to be set has {LONGEST_KEY} characters at most, not {len(name)}; set a digest of it instead"
        )
    return name


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
