"""What a URL of a server means, and what of it may be shown."""

from __future__ import annotations

import pytest

from zoocache.errors import ConfigError
from zoocache.server.url import Address, address_of, same_place


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", Address("redis", "host", 6379)),
        ("redis://host:7000/3", Address("redis", "host", 7000, db=3)),
        ("redis://host/", Address("redis", "host", 6379)),
        ("redis://host?db=4", Address("redis", "host", 6379, db=4)),
        ("redis://[::1]:7000", Address("redis", "::1", 7000)),
        ("redis://:pass@host", Address("redis", "host", 6379, password="pass")),
        ("redis://ann:p%40%2F%3A@host", Address("redis", "host", 6379, username="ann", password="p@/:")),
        ("redis://ann@host", Address("redis", "host", 6379, username="ann")),
        ("rediss://host:1", Address("rediss", "host", 1)),
        ("rediss://host?ssl_cert_reqs=none", Address("rediss", "host", 6379, verify=False, check_hostname=False)),
        ("rediss://host?ssl_check_hostname=false", Address("rediss", "host", 6379, check_hostname=False)),
        ("rediss://host?ssl_ca_certs=/a%20b", Address("rediss", "host", 6379, ca_file="/a b")),
        ("redis+sentinel://a/main", Address("redis", sentinels=(("a", 26379),), master="main")),
        (
            "rediss+sentinel://ann:p@a:1,[::1]:2,c/my-main/3?sentinel_password=s&sentinel_username=u",
            Address(
                "rediss",
                db=3,
                username="ann",
                password="p",
                sentinels=(("a", 1), ("::1", 2), ("c", 26379)),
                master="my-main",
                sentinel_username="u",
                sentinel_password="s",
            ),
        ),
        ("unix:///run/redis.sock", Address("unix", path="/run/redis.sock")),
        ("unix://:pass@/run/redis.sock?db=2", Address("unix", path="/run/redis.sock", db=2, password="pass")),
    ],
)
def test_meaning(url: str, expected: Address) -> None:
    """Each form means what it means to redis-py, which has none for Sentinels."""
    assert expected == address_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "secret", "http://secret@host", "redis:", "redis://", "redis://:secret@", "redis://host:secret",
        "redis://:secret/part@host", "redis://host:99999/", "redis://host:0", "redis://host/secret", "redis://host/-1", "redis://host/1/2",
        "redis://host/9999999999", "redis://host?db=secret", "redis://host?secret=1", "redis://host?ssl_cert_reqs=none",
        "rediss://host?ssl_cert_reqs=secret", "rediss://host?ssl_check_hostname=secret", "redis://host#secret",
        "redis://host/ secret", "redis://[::1/secret", "unix://", "unix://secret/path", "unix://:secret@path",
        "redis+sentinel://secret", "redis+sentinel://host:secret/main", "redis+sentinel://host,:1/secret",
        "redis+sentinel://host/main/secret", "redis+sentinel://host/a%20secret", "redis://host?sentinel_password=secret",
        "redis+sentinel:///secret", "unix+sentinel://host/secret", "redis+sentinel://host:99999/secret",
        "redis+sentinel://host/main?ssl_certfile=secret", "unix:///" + "secret" * 30, "unix:///a%00secret",
        "redis://" + "secret" * 30, "redis://:secret\udcff@host", "redis://secret\ud800:p@host", "unix:///secret\ud800",
        "redis+sentinel://host/main?sentinel_password=secret\udcff", "redis://host/" + "1" * 5000,
    ],
)  # fmt: skip
def test_malformed(url: str) -> None:
    """What cannot be is refused, by the name of the option, and nothing of it is repeated."""
    with pytest.raises(ConfigError, match="bus_url") as raised:
        address_of(url, "bus_url")
    shown = f"{raised.value} {raised.value.__cause__!r}"
    assert "secret" not in shown
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://ann:secret@host:7000/3", "redis://host:7000/3"),
        ("rediss://:secret@[::1]?ssl_keyfile=secret", "rediss://[::1]:6379/0"),
        ("unix://:secret@/run/s?db=2", "unix:///run/s?db=2"),
        (
            "redis+sentinel://ann:secret@a,[::1]:7/m?sentinel_password=secret&sentinel_username=ann",
            "redis+sentinel://a:26379,[::1]:7/m/0",
        ),
    ],
)
def test_what_is_shown(url: str, expected: str) -> None:
    """An address is shown without who asks."""
    address = address_of(url)
    assert expected == str(address)
    assert "secret" not in repr(address)
    assert "ann" not in repr(address)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("redis://host", "redis://:pass@HOST:6379/0", True),
        ("redis://host", "rediss://host", True),
        ("redis://host", "redis://host/1", False),
        ("redis://host", "redis://host:6380", False),
        ("redis://host", "redis://other", False),
        ("unix:///a/../b", "unix:///b?db=0", True),
        ("unix:///a", "unix:///b", False),
        ("unix:///a", "redis://a", False),
        ("redis+sentinel://a,B:1/m", "redis+sentinel://:p@b:1,A:26379/m/0", True),
        ("redis+sentinel://a/m", "redis+sentinel://a/other", False),
        ("redis+sentinel://a/m", "redis+sentinel://b/m", False),
        ("redis+sentinel://a/m", "redis://a", False),
    ],
)
def test_same_place(one: str, other: str, expected: bool) -> None:
    """Two addresses are of one database, whoever asks and however it is written."""
    assert expected == same_place(address_of(one), address_of(other))
