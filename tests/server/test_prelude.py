"""The Lua that all scripts begin with."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from zoocache.server.link import Link
from zoocache.server.names import Names, names_of
from zoocache.server.resp import Reply
from zoocache.server.scripts import LARGEST_N, PRELUDE, script
from zoocache.server.url import address_of

FRESH = "00112233445566ff"
OWN = script(
    PRELUDE, "local own = read_own(KEYS[1], KEYS[2], ARGV[1])", "return {own.epoch, own.n, own.floor, own.mark}"
)
SEND = script(
    PRELUDE,
    """
    local own = read_own(KEYS[1], KEYS[2], ARGV[1])
    next_n(KEYS[1], KEYS[2], own, ARGV[2], ARGV[1])
    raise_paths(KEYS[1], own, 4, #ARGV)
    announce(KEYS[1], KEYS[2], KEYS[3], own, ARGV[3])
    return {own.epoch, own.n}
    """,
)
PATH = b"\0\r\n" + bytes(range(13))


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    """A link to the shared server."""
    made = Link(address_of(redis_url), 20.0)
    yield made
    made.close()


@pytest.fixture
def names(prefix: str) -> Names:
    """The keys of this test."""
    return names_of(prefix)


def own(link: Link, names: Names, fresh: str = FRESH) -> Reply:
    """What the hash says."""
    return link.run(OWN, (names.numbers, names.stream), (fresh,))


def send(link: Link, names: Names, payload: bytes = b"hello", fresh: str = FRESH, mark: bytes = b"12345678") -> Reply:
    """One invalidation."""
    return link.run(SEND, (names.numbers, names.stream, names.channel), (fresh, mark, payload, PATH))


def test_numbers_are_made(link: Link, names: Names) -> None:
    """Where there is no hash, there is one afterwards, with the epoch that the first caller brought."""
    expected = [FRESH.encode(), 0, 0, b"00000000"]
    assert [expected, expected] == [own(link, names), own(link, names, "f" * 16)]


@pytest.mark.parametrize(
    "damage",
    [
        ("DEL",),
        ("HDEL", "epoch"),
        ("HDEL", "n"),
        ("HDEL", "mark"),
        ("HSET", "n", "1e300"),
        ("HSET", "n", "-5"),
        ("HSET", "n", "99999999999999999"),
        ("HSET", "floor", "17"),
        ("HSET", "epoch", "short"),
        ("SET", "a string"),
    ],
)
def test_damaged_numbers_are_another_life(link: Link, names: Names, damage: tuple[str, ...]) -> None:
    """Who loses any part of the hash loses all of it, and the stream: a new epoch, and counting from the beginning."""
    send(link, names)
    link.command(damage[0], names.numbers, *damage[1:])
    assert [b"f" * 16, 0, 0, b"00000000"] == own(link, names, "f" * 16)
    assert 0 == link.command("EXISTS", names.stream)
    assert [b"f" * 16, 1] == send(link, names)


def test_an_invalidation(link: Link, names: Names) -> None:
    """N grows by one; the path has it and the server's time; stream and channel both marks and the payload."""
    payload = b"\0\xff\r\n \0"
    ear = link.dial()
    ear.call(b"SUBSCRIBE %b\r\n" % names.channel, time.monotonic() + 20)
    assert [FRESH.encode(), 1] == send(link, names, payload)
    now = link.command("TIME")
    assert isinstance(now, list)
    n, at_ms = str(link.command("HGET", names.numbers, PATH), "ascii").split()  # type: ignore[arg-type]
    assert "1" == n
    assert 60_000 > int(now[0]) * 1000 - int(at_ms)  # type: ignore[arg-type]
    assert [[b"1-0", [b"payload", b"1234567800000000" + payload]]] == link.command("XRANGE", names.stream, "-", "+")
    heard = [b"message", names.channel, FRESH.encode() + b" 1 1234567800000000" + payload]
    assert heard == ear.read(time.monotonic() + 20)
    ear.close()
    assert [FRESH.encode(), 1, 0, b"12345678"] == own(link, names)


@pytest.mark.parametrize("n", [10**6, 2**31, 2**32 + 1, 10**14, 10**15 + 1, LARGEST_N - 2])
def test_large_numbers_are_written_whole(link: Link, names: Names, n: int) -> None:
    """No number is rounded or written with an exponent, however large."""
    own(link, names)
    link.command("HSET", names.numbers, "n", n)
    assert [FRESH.encode(), n + 1] == send(link, names)
    assert str(n + 1).encode() == link.command("HGET", names.numbers, "n")
    assert [[f"{n + 1}-0".encode(), [b"payload", b"1234567800000000hello"]]] == link.command(
        "XRANGE", names.stream, "-", "+"
    )


def test_the_last_number(link: Link, names: Names) -> None:
    """After the largest number comes another life."""
    own(link, names)
    link.command("HSET", names.numbers, "n", LARGEST_N)
    assert [b"f" * 16, 1] == send(link, names, fresh="f" * 16)


def test_a_stream_that_does_not_fit(link: Link, names: Names) -> None:
    """A stream of another life, or something else in its place, gives way."""
    link.command("XADD", names.stream, "50-0", "payload", "x")
    own(link, names)
    link.command("XADD", names.stream, "50-0", "payload", "x")
    send(link, names)
    link.command("DEL", names.stream)
    link.command("SET", names.stream, "a string")
    send(link, names)
    assert [[b"2-0", [b"payload", b"1234567812345678hello"]]] == link.command("XRANGE", names.stream, "-", "+")


def test_everything_is_overtaken(link: Link, names: Names) -> None:
    """A floor takes the place of all paths; epoch and counting go on, and so does the mark until somebody is told."""
    send(link, names)
    overtake = script(
        PRELUDE,
        """
        local own = read_own(KEYS[1], KEYS[2], '')
        next_n(KEYS[1], KEYS[2], own, 'abcdefgh', '')
        overtake_all(KEYS[1], own)
        return own.floor
        """,
    )
    assert 2 == link.run(overtake, (names.numbers, names.stream))
    assert [FRESH.encode(), 2, 2, b"12345678"] == own(link, names)
    assert 4 == link.command("HLEN", names.numbers)
    assert [FRESH.encode(), 3] == send(link, names)


def test_names() -> None:
    """No prefix's keys are another's, whatever characters are in them, and no pattern means more than it says."""
    prefixes = ["", "a", "a:e", "a}:e", "a*", "a?", "[a]", "é", "a b", "{", "%", "%25"]
    assert len(prefixes) == len({names_of(prefix).root for prefix in prefixes})
    for prefix in prefixes:
        root = names_of(prefix).root.decode()
        assert 1 == root.count("}") == root.count("{")
        assert not set("*?[]^\\ \n") & set(root)
    names = names_of("web:1")
    assert b"{zoocache:web:1}:numbers" == names.numbers
    assert b"{zoocache:web:1}:e:" + b"ab" * 16 == names.entry(b"\xab" * 16)
