"""zoocache: keeps what functions return, until the data behind it changes.

contrib, cli, demo         programs and integrations; they import only what is public
_zoocache                  Core: the debug door to the live segment
decorator, cached, wrapper cacheable, and the generated fast path of a hit
functions                  invalidate, get, set, clear, prune, configure, version ...
runtime, listener/         this process's engine: lazy start, fork, exit; the process between this host and others
engine/                    calls, fills, live objects; alone knows trie, flights and store together
storage/, bus/, server/    entries that outlive a process, messages between hosts, the wire to Redis; bytes in and out
trie, clock, flight        tag -> changed; time; one leader a key
shm/                       the segment: bytes, locks and tables in shared memory
errors, config, deps, keys, identity, entry, codec, imports, forks   values; they import no other room
"""

from __future__ import annotations

from zoocache._version import __version__
from zoocache.cached import Cached, CallInfo
from zoocache.config import UNSET
from zoocache.decorator import cacheable
from zoocache.errors import (
    AlreadyConfigured,
    Busy,
    ConfigError,
    DepsFailed,
    FillFailed,
    InvalidDeps,
    InvalidKey,
    InvalidTag,
    NotCacheable,
    NotSent,
    RecursiveFill,
    SegmentError,
    SegmentRefused,
    SegmentTooSmall,
    ServerDown,
    ServerRefused,
    StorageError,
    StorageIsFull,
    UnkeepableResult,
    UnkeyableArgument,
    ZooCacheError,
)
from zoocache.functions import (
    add_deps,
    clear,
    clear_async,
    configure,
    delete,
    delete_async,
    get,
    get_async,
    get_tag_version,
    invalidate,
    invalidate_async,
    prune,
    reset,
    set_async,
    version,
)
from zoocache.functions import (
    set as set,  # noqa: A004  # the name that users of caches look for
)

# `from zoocache import *` must not put `zoocache.set` over the builtin; it is public all the same.
__all__ = [
    "UNSET",
    "AlreadyConfigured",
    "Busy",
    "Cached",
    "CallInfo",
    "ConfigError",
    "DepsFailed",
    "FillFailed",
    "InvalidDeps",
    "InvalidKey",
    "InvalidTag",
    "NotCacheable",
    "NotSent",
    "RecursiveFill",
    "SegmentError",
    "SegmentRefused",
    "SegmentTooSmall",
    "ServerDown",
    "ServerRefused",
    "StorageError",
    "StorageIsFull",
    "UnkeepableResult",
    "UnkeyableArgument",
    "ZooCacheError",
    "__version__",
    "add_deps",
    "cacheable",
    "clear",
    "clear_async",
    "configure",
    "delete",
    "delete_async",
    "get",
    "get_async",
    "get_tag_version",
    "invalidate",
    "invalidate_async",
    "prune",
    "reset",
    "set_async",
    "version",
]
