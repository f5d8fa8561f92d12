"""`zoocache.config`: each option from argument, environment or default, checked at once."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache.config import UNSET, Settings, seconds, settings_from, to_ms
from zoocache.errors import ConfigError

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ZOOCACHE_")]:
        monkeypatch.delenv(name)


def test_defaults() -> None:
    """Without arguments and environment the cache is in memory, without a limit of time or number."""
    settings = settings_from()
    assert Settings() == settings
    assert "memory" == settings.storage_kind
    assert settings.storage_path is None
    assert (None, None, None, None) == (settings.prefix, settings.default_ttl, settings.max_age, settings.prune_after)
    assert (True, 60.0, 30.0) == (settings.read_extend_ttl, settings.auto_prune_interval, settings.flight_timeout)
    assert (None, 1 << 30, None) == (settings.max_entries, settings.lmdb_map_size, settings.shm_size)


GOOD = [
    ("storage_url", "memory://", "memory://", "memory://"),
    ("storage_url", "lmdb:///var/cache/x", "lmdb:///var/cache/x", "lmdb:///var/cache/x"),
    ("storage_url", "LMDB:///var/cache/x", "LMDB:///var/cache/x", "lmdb:///var/cache/x"),
    ("prefix", "myapp:v2", "myapp:v2", "myapp:v2"),
    ("default_ttl", 3600, "3600", 3600),
    ("default_ttl", 0.001, "0.001", 0.001),
    ("read_extend_ttl", False, "off", False),
    ("read_extend_ttl", True, "Yes", True),
    ("max_age", 86_400, "86_400", 86_400),
    ("prune_after", 1.5, " 1.5 ", 1.5),
    ("auto_prune_interval", 5, "5", 5),
    ("max_entries", 1, "1", 1),
    ("lmdb_map_size", 1 << 20, "1_048_576", 1 << 20),
    ("flight_timeout", 2.5, "2.5", 2.5),
    ("shm_size", 1 << 18, "262144", 1 << 18),
    ("shm_size", 1 << 40, str(1 << 40), 1 << 40),
    ("storage_url", "redis://localhost/1", "redis://localhost/1", "redis://localhost/1"),
    ("bus_url", "rediss://localhost", "REDISS://localhost", "rediss://localhost"),
    ("bus_url", "unix:///run/redis.sock", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("redis_timeout", 0.25, "0.25", 0.25),
    ("on_storage_error", "raise", "raise", "raise"),
    ("host_id", "web-1.a", "web-1.a", "web-1.a"),
    ("max_bus_lag", 2, "2", 2),
]


@pytest.mark.parametrize(("name", "argument", "text", "expected"), GOOD)
def test_each_option_is_taken(
    name: str, argument: object, text: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option can be given as an argument and in the environment, to the same effect."""
    by_argument = settings_from(**{name: argument})
    monkeypatch.setenv(f"ZOOCACHE_{name.upper()}", text)
    assert expected == getattr(by_argument, name)
    assert by_argument == settings_from() == settings_from(**{name: UNSET})


def test_every_option_is_tried_here() -> None:
    """No option is without its line in the table above."""
    assert set(Settings._fields) == {row[0] for row in GOOD}


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit argument wins, an explicit None too."""
    monkeypatch.setenv("ZOOCACHE_DEFAULT_TTL", "10")
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", "lmdb:///var/cache/x")
    assert 10 == settings_from().default_ttl
    assert 20 == settings_from(default_ttl=20).default_ttl
    assert settings_from(default_ttl=None).default_ttl is None
    assert "memory" == settings_from(storage_url=None).storage_kind


def test_a_wrong_variable_does_not_matter_where_an_argument_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not used is not looked at."""
    monkeypatch.setenv("ZOOCACHE_DEFAULT_TTL", "soon")
    assert 20 == settings_from(default_ttl=20).default_ttl


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_not_set(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable leaves the default."""
    for field in Settings._fields:
        monkeypatch.setenv(f"ZOOCACHE_{field.upper()}", text)
    assert Settings() == settings_from()


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("auto_prune_interval", "flight_timeout") for value in (None, 0, "5", True, math.inf)]
    + [
        (name, value)
        for name in ("default_ttl", "max_age", "prune_after")
        for value in (0, -1, 0.0009, math.nan, math.inf, 1e11, 10**400, True, "5", [], timedelta(seconds=5))
    ]
    + [("max_entries", value) for value in (0, -1, 1.0, True, "5", 10**400)]
    + [("lmdb_map_size", value) for value in (None, (1 << 20) - 1, (1 << 40) + 1, 1e9, False)]
    + [("shm_size", value) for value in ((1 << 18) - 1, (1 << 40) + 1, 1e9, True, "16MiB")]
    + [("read_extend_ttl", value) for value in (None, 0, 1, "yes")]
    + [("prefix", value) for value in ("", "x" * 65, "a b", "a/b", "a\0b", "a\n", "ä", b"a", 5)]
    + [("storage_url", value) for value in ("", "memory", 5, b"lmdb:///x", Path("/x"), "memory://x", "sqlite:///x")]
    + [
        ("storage_url", f"lmdb://{path}")
        for path in ("", "x", "localhost/x", "~/x", "/x?a=1", "/x#a", "/x\0y", "/x\ud800", "/x\udcff")
    ]
    + [("bus_url", value) for value in ("", "lmdb:///x", "memory://", "nats://x", 5)]
    + [("redis_timeout", value) for value in (None, 0, -1, "1", True, math.inf)]
    + [("on_storage_error", value) for value in (None, "", "ignore", True)]
    + [("host_id", value) for value in ("", "a b", "a/b", "x" * 33, 5)]
    + [("max_bus_lag", value) for value in (0, -1, "1", True)],
)
def test_a_wrong_value_is_refused(name: str, value: object) -> None:
    """A value of a wrong type, sign or size is a ConfigError at once; the message names the option."""
    with pytest.raises(ConfigError, match=rf"^{name}\b"):
        settings_from(**{name: value})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("default_ttl", "soon"),
        ("default_ttl", "nan"),
        ("default_ttl", "-1"),
        ("max_entries", "1.5"),
        ("max_entries", "0"),
        ("read_extend_ttl", "maybe"),
        ("shm_size", "16MiB"),
        ("prefix", "a b"),
        ("storage_url", "sqlite:///x"),
        ("bus_url", "nats://localhost"),
    ],
)
def test_a_wrong_variable_is_refused(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that cannot be read is a ConfigError; the message names the variable."""
    variable = f"ZOOCACHE_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=variable):
        settings_from()


def test_an_unknown_option_is_a_type_error() -> None:
    """A misspelt option is refused, and those that exist are listed."""
    with pytest.raises(TypeError, match=r"default_tll is no option.*default_ttl"):
        settings_from(default_tll=5)


@pytest.mark.parametrize("name", ["storage_url", "bus_url"])
@pytest.mark.parametrize(
    "url",
    [f"redis://user:{SECRET}@localhost:6379/0", f"rediss://:{SECRET}@localhost", f"unix://user:{SECRET}@/run/r.sock"],
)
def test_no_repr_of_settings_shows_a_password(name: str, url: str) -> None:
    """A URL of Redis is kept as it was given, and not shown."""
    settings = settings_from(**{name: url})
    assert (url, url) == (getattr(settings, name), settings.server_url)
    assert SECRET not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("storage", "bus", "server"),
    [
        (None, None, None),
        ("lmdb:///x", None, None),
        ("lmdb:///x", "redis://b", "redis://b"),
        ("redis://a", None, "redis://a"),
    ],
)
def test_the_server_is_where_entries_or_messages_go(storage: str | None, bus: str | None, server: str | None) -> None:
    """A cache has one Redis at most: its storage's, else its bus's."""
    assert server == settings_from(storage_url=storage, bus_url=bus).server_url


def test_an_unknown_scheme_is_told_what_exists() -> None:
    """A URL of an unknown scheme is answered with the schemes that exist."""
    with pytest.raises(ConfigError, match=r"sqlite://, which no storage answers to.*memory://.*lmdb://"):
        settings_from(storage_url="sqlite:///x")


@pytest.mark.parametrize(
    "url",
    [
        f"postgres://user:{SECRET}@db/x",
        f"lmdb://user:{SECRET}@localhost/x",
        f"user:{SECRET}@localhost",
        f"memory://user:{SECRET}@x",
        f"redis:/user:{SECRET}@x",
        f"redis://user:{SECRET}@x".encode(),
    ],
)
@pytest.mark.parametrize("name", ["storage_url", "bus_url"])
def test_no_message_repeats_a_password(name: str, url: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in a URL shows in no message, neither of an argument nor of a variable."""
    with pytest.raises(ConfigError) as caught:
        settings_from(**{name: url})
    assert SECRET not in str(caught.value)
    if isinstance(url, str):
        monkeypatch.setenv(f"ZOOCACHE_{name.upper()}", url)
        with pytest.raises(ConfigError) as caught:
            settings_from()
        assert SECRET not in str(caught.value)


def test_a_relative_path_is_absolute_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lmdb://./x` lies in the directory that was current when it was given, wherever the process goes later."""
    monkeypatch.chdir(tmp_path)
    settings = settings_from(storage_url="lmdb://./cache")
    monkeypatch.chdir("/")
    assert "lmdb" == settings.storage_kind
    assert str(tmp_path.resolve() / "cache") == settings.storage_path
    assert settings_from(storage_url=f"lmdb://{tmp_path}/other/../cache") == settings


def test_a_link_and_its_target_are_one_storage(tmp_path: Path) -> None:
    """Two spellings of one directory are the same settings."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert settings_from(storage_url=f"lmdb://{tmp_path}/target") == settings_from(
        storage_url=f"lmdb://{tmp_path}/link"
    )


def test_a_relative_path_needs_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the current directory was removed, a relative path is a ConfigError."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match=r"storage_url.*cannot be followed"):
        settings_from(storage_url="lmdb://./cache")


def test_equal_settings_mean_the_same_cache() -> None:
    """3600 and 3600.0, None and the default it stands for, are the same settings; another value is not."""
    same = settings_from(default_ttl=3600.0, storage_url="memory://")
    assert settings_from(default_ttl=3600, storage_url=None, shm_size=None) == same
    assert settings_from(default_ttl=3601) != same


def test_settings_are_frozen() -> None:
    """Nobody changes settings that are in use."""
    with pytest.raises(AttributeError):
        settings_from().prefix = "other"  # type: ignore[misc]


def test_durations_in_milliseconds() -> None:
    """Every duration has its twin in whole milliseconds; 0 stands for no limit."""
    settings = settings_from(default_ttl=0.001, max_age=1.5, prune_after=2, auto_prune_interval=0.25)
    assert (1, 1500) == (settings.default_ttl_ms, settings.max_age_ms)
    assert (2000, 250) == (settings.prune_after_ms, settings.auto_prune_interval_ms)
    assert (0, 0, 0) == (Settings().default_ttl_ms, Settings().max_age_ms, Settings().prune_after_ms)


@given(st.one_of(st.integers(min_value=1, max_value=10**10), st.floats(min_value=0.001, max_value=1e10)))
def test_seconds_and_milliseconds(value: float) -> None:
    """A duration in range comes back as it was, and as at least one millisecond within half a millisecond of it."""
    assert value == seconds(value, "ttl")
    in_ms = to_ms(value, "ttl")
    assert in_ms >= 1
    assert abs(in_ms - value * 1000) <= 0.5


@pytest.mark.parametrize("value", [0, -1, 0.0005, math.nan, True, "1", None, 2**64])
def test_a_duration_is_named_when_refused(value: object) -> None:
    """What is no duration is a ConfigError that names the argument."""
    with pytest.raises(ConfigError, match=r"^cacheable\(ttl\) is "):
        to_ms(value, "cacheable(ttl)")


def test_zero_seconds_where_they_make_sense() -> None:
    """A caller may allow shorter durations, down to none."""
    assert 0 == to_ms(0, "max_age_secs", least=0)
    with pytest.raises(ConfigError, match="max_age_secs"):
        to_ms(-1, "max_age_secs", least=0)


def test_a_timedelta_is_shown_the_way_out() -> None:
    """Who gives a timedelta is told how to make seconds of it."""
    with pytest.raises(ConfigError, match=r"total_seconds\(\)"):
        seconds(timedelta(hours=1), "ttl")


def test_the_sentinel_reads_well() -> None:
    """In a signature the sentinel shows as UNSET."""
    assert "UNSET" == repr(UNSET)
