"""Every error zoocache raises: one family under `ZooCacheError`.

Each is also the built-in that fits, so that code which knows nothing of zoocache still catches it sensibly.
A message names the thing, the rule it broke, and the way out. No message carries a secret.
"""

from __future__ import annotations


class ZooCacheError(Exception):
    """The root of the family: `except ZooCacheError` catches whatever this library raises by itself."""


class ConfigError(ZooCacheError, ValueError):
    """An option of `configure` or of the environment has a value it cannot have."""


class AlreadyConfigured(ZooCacheError, RuntimeError):
    """`configure` came after the cache was in use, or a second time with other settings."""


class InvalidTag(ZooCacheError, ValueError):
    """A tag breaks the rules of `zoocache.deps`."""


class InvalidDeps(ZooCacheError, TypeError):
    """`deps` is neither a tag, nor a list or tuple or set of tags, nor a callable that returns one of these."""


class DepsFailed(ZooCacheError, RuntimeError):
    """A `deps` callable raised; its exception is the `__cause__`."""


class InvalidKey(ZooCacheError, ValueError):
    """A key given to `get`, `set` or `delete` is not a non-empty string of bearable length."""


class UnkeyableArgument(ZooCacheError, TypeError):
    """An argument of a cached call has no stable key."""


class UnkeepableResult(ZooCacheError, TypeError):
    """A value holds something that the storage cannot keep and give back with its type."""


class NotCacheable(ZooCacheError, TypeError):
    """What was decorated cannot be cached: a generator function, a classmethod object, a class."""


class RecursiveFill(ZooCacheError, RecursionError):
    """A cached function needs, in order to compute a key, the value of that same key."""


class FillFailed(ZooCacheError, RuntimeError):
    """The process that computed the value for all who waited raised.

    Attributes:
        type_name: the name of the exception's type in the process that computed.
        reason: its message there, shortened if it was long.
    """

    def __init__(self, type_name: str, reason: str) -> None:
        super().__init__(f"the process that computed this value raised {type_name}: {reason}")
        self.type_name = type_name
        self.reason = reason

    def __reduce__(self) -> tuple[type[FillFailed], tuple[str, str]]:
        return FillFailed, (self.type_name, self.reason)


class Busy(ZooCacheError, TimeoutError):
    """A write lock stayed with another process beyond the time-out; nothing was changed."""


class NotSent(ZooCacheError, TimeoutError):
    """An invalidation is done on this host and noted to be sent, but the other hosts' Redis did not take it in time."""


class SegmentError(ZooCacheError, OSError):
    """The shared-memory segment of this host cannot be used."""


class SegmentRefused(SegmentError, PermissionError):
    """An object under the segment's name is not ours: another owner, open to others, or not a plain object."""


class SegmentTooSmall(SegmentError):
    """`/dev/shm` has no room for a segment of the size that was asked for."""


class StorageError(ZooCacheError, OSError):
    """A storage cannot be opened, read or written."""


class StorageIsFull(StorageError):
    """A value does not fit into the storage, now or ever."""


class ServerDown(StorageError):
    """A Redis server is out of reach, does not answer in time, or cannot serve at present."""


class ServerRefused(ConfigError):
    """A Redis server refused who asked: a wrong password, none where one is needed, or a right that is missing."""
