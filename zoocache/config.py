"""The settings of a cache: what `configure` takes, checked at once and frozen.

Each option comes from the first of these that has it: the explicit argument (None counts as given), the environment
variable `ZOOCACHE_<NAME>` (empty counts as not set), the default. Two `Settings` are equal exactly if they mean the
same cache: numbers compare as numbers, and paths of storages are made absolute, links followed, when they are given.

No message and no repr repeats a URL: it may hold a password. At most its scheme is named.
"""

from __future__ import annotations

import enum
import os
import re
import reprlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from zoocache.errors import ConfigError

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

MIN_SECONDS = 0.001
MAX_SECONDS = 10_000_000_000
"""About 317 years: added to any time of day in milliseconds, it stays far below 2**63."""

MIN_SHM_SIZE = 256 * KIB
MIN_LMDB_MAP_SIZE = MIB
"""Below this LMDB opens, and is full after a few writes: each copies a page of every sub-database that it touches."""

ENVIRONMENT_PREFIX = "ZOOCACHE_"
SERVERS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
BUSES = "redis://host:port/db, rediss://..., unix:///socket, redis+sentinel://host:port,host:port/name"
STORAGES = f"memory://, lmdb:///absolute/path, lmdb://./relative/path, {BUSES}"


class Unset(enum.Enum):
    """The type of `UNSET`, for signatures: `default_ttl: float | None | Unset = UNSET`."""

    UNSET = enum.auto()

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""An option that was not given, where None would be a value."""


class Settings(NamedTuple):
    """Checked settings. Made by `settings_from`; the fields are the options of `configure`.

    Attributes:
        storage_url: `memory://`, `lmdb://` and an absolute path, or a Redis URL as it was given.
        bus_url: a Redis URL as it was given; None: invalidations reach this host only, or what its Redis tells.
        prefix: keeps caches of one user apart; None for the one without a name.
        default_ttl: seconds an entry lives if its function says nothing else; None for no limit.
        read_extend_ttl: whether a read starts the TTL again (time to idle).
        max_age: seconds that no read extends; None for no limit.
        prune_after: seconds without an invalidation after which a tag's node is dropped; None for never.
        auto_prune_interval: seconds between two looks at `prune_after`.
        max_entries: how many entries are kept, in LMDB by all processes together; None for no limit.
        lmdb_map_size: bytes that an LMDB storage may take.
        flight_timeout: seconds a follower waits for the leader of its flight.
        shm_size: bytes of the host's segment, if it is to be made; None for 16 MiB, or less where there is no room.
        redis_timeout: seconds that one question to Redis may take.
        on_storage_error: `compute` to go on without a storage that fails, `raise` to tell the caller.
        host_id: keeps hosts apart that share one /dev/shm; None: what shares it is one host.
        max_bus_lag: seconds that a host may be behind the others before its live objects are doubted; None: no bound.
    """

    storage_url: str = "memory://"
    bus_url: str | None = None
    prefix: str | None = None
    default_ttl: float | None = None
    read_extend_ttl: bool = True
    max_age: float | None = None
    prune_after: float | None = None
    auto_prune_interval: float = 60.0
    max_entries: int | None = None
    lmdb_map_size: int = GIB
    flight_timeout: float = 30.0
    shm_size: int | None = None
    redis_timeout: float = 0.5
    on_storage_error: str = "compute"
    host_id: str | None = None
    max_bus_lag: float | None = None

    def __repr__(self) -> str:
        shown = {name: value for name, value in self._asdict().items() if not name.endswith("_url")}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def storage_kind(self) -> str:
        """`memory`, `lmdb` or `redis`."""
        scheme = self.storage_url.partition("://")[0]
        return "redis" if scheme in SERVERS else scheme

    @property
    def storage_path(self) -> str | None:
        """Where an LMDB storage lies; None for the others."""
        return self.storage_url.partition("://")[2] if self.storage_kind == "lmdb" else None

    @property
    def server_url(self) -> str | None:
        """The Redis that entries lie in or invalidations go through; None where there is none."""
        return self.storage_url if self.storage_kind == "redis" else self.bus_url

    @property
    def max_bus_lag_ms(self) -> int:
        """`max_bus_lag` in milliseconds; 0 for no bound."""
        return _ms(self.max_bus_lag)

    @property
    def default_ttl_ms(self) -> int:
        """`default_ttl` in milliseconds; 0 for no limit."""
        return _ms(self.default_ttl)

    @property
    def max_age_ms(self) -> int:
        """`max_age` in milliseconds; 0 for no limit."""
        return _ms(self.max_age)

    @property
    def prune_after_ms(self) -> int:
        """`prune_after` in milliseconds; 0 for never."""
        return _ms(self.prune_after)

    @property
    def auto_prune_interval_ms(self) -> int:
        """`auto_prune_interval` in milliseconds."""
        return _ms(self.auto_prune_interval)


def settings_from(**explicit: object) -> Settings:
    """The settings that arguments, environment and defaults give together.

    Args:
        **explicit: options by name; `UNSET` is the same as leaving one out.

    Raises:
        ConfigError: an option has a value that it cannot have; the message names the option or the variable.
        TypeError: there is no option of that name.
    """
    for name in explicit:
        if name not in _OPTIONS:
            raise TypeError(f"{name} is no option; there are {', '.join(_OPTIONS)}")
    chosen: dict[str, Any] = {
        name: _chosen(name, option, explicit.get(name, UNSET)) for name, option in _OPTIONS.items()
    }
    return Settings(**{name: value for name, value in chosen.items() if value is not UNSET})


def seconds(value: object, name: str, *, least: float = MIN_SECONDS) -> float:
    """A duration as `ttl`, `max_age` and the like take it.

    Args:
        value: seconds, an int or a float.
        name: what a message calls it.
        least: the smallest that is allowed, in seconds.

    Returns:
        The same in seconds.

    Raises:
        ConfigError: it is no number (a bool is none), not finite, too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        way_out = "; a timedelta has total_seconds()" if hasattr(value, "total_seconds") else ""
        raise ConfigError(f"{name} is {_described(value)}, not a number of seconds{way_out}")
    # In this order: an int too large for a float is only ever compared, and NaN fails every comparison.
    if not least <= value <= MAX_SECONDS:
        raise ConfigError(f"{name} is {reprlib.repr(value)}; it must be from {least:g} to {MAX_SECONDS:.0e} seconds")
    return float(value)


def to_ms(value: object, name: str, *, least: float = MIN_SECONDS) -> int:
    """As `seconds`, in whole milliseconds."""
    return _ms(seconds(value, name, least=least))


def _ms(duration_s: float | None) -> int:
    return 0 if duration_s is None else round(duration_s * 1000)


def _described(value: object) -> str:
    return "None" if value is None else f"{reprlib.repr(value)} (of type {type(value).__name__})"


class _Option(NamedTuple):
    check: Callable[[Any, str], object]
    parse: Callable[[str], object]  # of the text of an environment variable; ValueError if it cannot
    expected: str  # in the message of that error


def _chosen(name: str, option: _Option, given: object) -> object:
    if given is not UNSET:
        return option.check(given, name)
    variable = ENVIRONMENT_PREFIX + name.upper()
    text = os.environ.get(variable, "").strip()
    if not text:
        return UNSET
    try:
        value = option.parse(text)
    except (ValueError, KeyError):
        raise ConfigError(f"the environment variable {variable} is {reprlib.repr(text)}, {option.expected}") from None
    return option.check(value, f"the environment variable {variable}")


def _storage_url(value: object, name: str) -> str:
    if value is None:
        return "memory://"
    scheme, rest = _parts(value, name, STORAGES)
    if scheme in SERVERS:
        return f"{scheme}://{rest}"
    if scheme not in {"memory", "lmdb"}:
        raise ConfigError(f"{name} has the scheme {scheme}://, which no storage answers to; there are {STORAGES}")
    if scheme == "lmdb":
        return f"lmdb://{_directory(rest, name)}"
    if rest:
        raise ConfigError(f"{name}: nothing follows memory://; entries in memory lie nowhere")
    return "memory://"


def _parts(value: object, name: str, ways_out: str) -> tuple[str, str]:
    if not isinstance(value, str):
        raise ConfigError(f"{name} is of type {type(value).__name__}, not a str; use {ways_out}")
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", value, re.DOTALL)
    if not match:
        raise ConfigError(f"{name} has no scheme; use {ways_out}")
    return match[1].lower(), match[2]


def _directory(path: str, name: str) -> str:
    if not path.startswith(("/", "./", "../")):
        raise ConfigError(f"{name}: after lmdb:// comes /an/absolute/path or ./a/relative/one, not the name of a host")
    if any(mark in path for mark in "?#\0"):
        raise ConfigError(f"{name}: the path after lmdb:// holds a '?', '#' or NUL; options are arguments of configure")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name}: the path after lmdb:// has bytes that are no UTF-8; LMDB gets a name of text"
        ) from None
    try:
        return os.path.realpath(path)
    except OSError as error:
        raise ConfigError(f"{name}: the path after lmdb:// cannot be followed ({error.strerror})") from error


def _bus_url(value: object, name: str) -> str | None:
    if value is None:
        return None
    scheme, rest = _parts(value, name, BUSES)
    if scheme not in SERVERS:
        raise ConfigError(f"{name} has the scheme {scheme}://, which no bus answers to; there are {BUSES}")
    return f"{scheme}://{rest}"


def _prefix(value: object, name: str) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", value)):
        return value
    raise ConfigError(
        f"{name} is {_described(value)}; it is a str of 1 to 64 ASCII letters, digits, '_', '.', '-' and ':'"
    )


def _host_id(value: object, name: str) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", value)):
        return value
    raise ConfigError(f"{name} is {_described(value)}; it is a str of 1 to 32 ASCII letters, digits, '_', '.' and '-'")


def _on_error(value: object, name: str) -> str:
    if value in ("compute", "raise"):
        return str(value)
    raise ConfigError(f"{name} is {_described(value)}, neither 'compute' nor 'raise'")


def _bool(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {_described(value)}, neither True nor False")
    return value


def _whole(least: int, most: int, unit: str) -> Callable[[object, str], int]:
    def check(value: object, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} is {_described(value)}, not a whole number of {unit}")
        if not least <= value <= most:
            raise ConfigError(f"{name} is {reprlib.repr(value)}; it must be from {least} to {most} {unit}")
        return int(value)

    return check


def _optional(check: Callable[[Any, str], object]) -> Callable[[Any, str], object]:
    return lambda value, name: None if value is None else check(value, name)


def _shm_size(value: object, name: str) -> int | None:
    return None if value is None else _whole(MIN_SHM_SIZE, TIB, "bytes")(value, name)


_BOOLS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)


def _parse_bool(text: str) -> bool:
    return _BOOLS[text.lower()]


def _seconds_option(check: Callable[[Any, str], object]) -> _Option:
    return _Option(check, float, "not a number of seconds")


def _whole_option(check: Callable[[Any, str], object]) -> _Option:
    return _Option(check, int, "not a whole number")


_OPTIONS = {
    "storage_url": _Option(_storage_url, str, "not a URL"),
    "bus_url": _Option(_bus_url, str, "not a URL"),
    "prefix": _Option(_prefix, str, "not a prefix"),
    "default_ttl": _seconds_option(_optional(seconds)),
    "read_extend_ttl": _Option(_bool, _parse_bool, "neither of 1, true, yes, on nor of 0, false, no, off"),
    "max_age": _seconds_option(_optional(seconds)),
    "prune_after": _seconds_option(_optional(seconds)),
    "auto_prune_interval": _seconds_option(seconds),
    "max_entries": _whole_option(_optional(_whole(1, 2**40, "entries"))),
    "lmdb_map_size": _whole_option(_whole(MIN_LMDB_MAP_SIZE, TIB, "bytes")),
    "flight_timeout": _seconds_option(seconds),
    "shm_size": _whole_option(_shm_size),
    "redis_timeout": _seconds_option(seconds),
    "on_storage_error": _Option(_on_error, str, "neither compute nor raise"),
    "host_id": _Option(_host_id, str, "not a name"),
    "max_bus_lag": _seconds_option(_optional(seconds)),
}
