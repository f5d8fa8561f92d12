"""zoocache/bus/redis.py: sent, numbered, kept and told by a real server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.children import DEADLINE_S, Children
from tests.proxy import Proxy
from tests.servers import Server, Servers
from zoocache import deps
from zoocache.bus import UNKNOWN, Heard, Message, Position, redis_scripts
from zoocache.bus import redis as redis_bus
from zoocache.bus.message import pack
from zoocache.bus.redis import PAGE, RedisBus, RedisEar
from zoocache.errors import ServerDown, ServerRefused
from zoocache.server.link import Link
from zoocache.server.names import Names, names_of
from zoocache.server.scripts import LARGEST_N, LEAP
from zoocache.server.url import address_of


def message(*tags: str) -> Message:
    """Some tags."""
    return Message("tags", tags, (), 0, 1, 0)


CLEAR = Message("clear", (), (), 0, 1, 0)


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


@pytest.fixture
def bus(link: Link, prefix: str) -> RedisBus:
    """The bus of this test's prefix."""
    return RedisBus(link, prefix)


@pytest.fixture
def bus_at() -> Iterator[Callable[..., RedisBus]]:
    """Makes a bus to another server; closed in the end."""
    made: list[RedisBus] = []

    def make(url: str, timeout_s: float = DEADLINE_S) -> RedisBus:
        made.append(RedisBus(Link(address_of(url), timeout_s), ""))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def ear(bus: RedisBus) -> Iterator[RedisEar]:
    """A subscription to it."""
    made = bus.listen()
    yield made
    made.close()


def send(bus: RedisBus, *tags: str) -> int:
    """Send one message."""
    said = message(*tags)
    return bus.send(said, [deps.own_path(tag) for tag in tags]).n


def hear(ear: RedisEar, count: int = 1) -> list[Heard]:
    """So many messages."""
    heard: list[Heard] = []
    until_s = time.monotonic() + DEADLINE_S
    while len(heard) < count:
        assert time.monotonic() < until_s, f"only {heard} came"
        heard += ear.hear(1.0)
    return heard


def messages(heard: Sequence[Heard]) -> list[Message | None]:
    """What they say."""
    return [each.message for each in heard]


# Sending.


def test_messages_are_numbered_in_order(bus: RedisBus, link: Link, names: Names) -> None:
    """Each message has the next number, which the numbers of its paths are raised to."""
    assert [1, 2] == [send(bus, "a", "b:c"), send(bus, "a")]
    found = link.command("HMGET", names.numbers, deps.own_path("a"), deps.own_path("b:c"), deps.own_path("b"), "floor")
    assert isinstance(found, list)
    assert [b"2", b"1", None, b"0"] == [each and bytes(each).split()[0] for each in found]  # type: ignore[arg-type]


def test_what_is_sent_is_heard(bus: RedisBus, ear: RedisEar) -> None:
    """Who listens hears each message once, in order, each of which proves that it follows the one before it."""
    start = bus.now()
    for tag in ("a", "b", "c"):
        send(bus, tag)
    heard = hear(ear, 3)
    assert [message("a"), message("b"), message("c")] == messages(heard)
    before = [start, *(each.position for each in heard[:-1])]
    assert [True] * 3 == [one.follows(other) for one, other in zip(heard, before, strict=True)]
    assert [] == list(ear.hear(0.01))


def test_the_stream_tells_the_same(bus: RedisBus, ear: RedisEar) -> None:
    """Who reads up hears exactly what was told on the channel."""
    start = bus.now()
    for tag in ("a", "b"):
        send(bus, tag)
    catch = bus.since(start)
    assert (hear(ear, 2), bus.now(), True, False) == (list(catch.heard), catch.now, catch.whole, catch.forked)
    again = bus.since(catch.now)
    assert ([], catch.now, True) == (list(again.heard), again.now, again.whole)


def test_a_task_sends(bus: RedisBus, ear: RedisEar) -> None:
    """The async twin does the same."""
    assert 1 == asyncio.run(bus.later("send", message("a"), [deps.own_path("a")])).n
    assert [message("a")] == messages(hear(ear))
    assert 9 + LEAP == asyncio.run(bus.later("raise_floor", bus.now()._replace(n=8)))


def test_a_clear_drops_all_numbers(bus: RedisBus, link: Link, names: Names) -> None:
    """After a clear only the floor is left, and it stands for all that was."""
    send(bus, "a")
    assert 2 == bus.send(CLEAR, ()).n
    assert [b"2", b"2", None] == link.command("HMGET", names.numbers, "n", "floor", deps.own_path("a"))
    assert 4 == link.command("HLEN", names.numbers)


def test_numbers_have_a_limit(
    bus: RedisBus, link: Link, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """More numbers than the server is to keep are dropped, and the floor stands for them."""
    text = redis_scripts.SEND.text.decode().replace(str(redis_scripts.MOST_NUMBERS), "20")
    monkeypatch.setattr(redis_bus, "SEND", redis_scripts.script(text))
    for number in range(18):
        send(bus, f"tag:{number}")
    assert [b"18", b"18"] == link.command("HMGET", names.numbers, "n", "floor")
    assert 4 == link.command("HLEN", names.numbers)


def test_many_messages_are_read_in_pages(bus: RedisBus, link: Link, names: Names) -> None:
    """More messages than a page has come all the same, in order."""
    start = bus.now()
    count = 2 * PAGE + 3
    for number in range(count):
        send(bus, f"t:{number % 7}")
    catch = bus.since(start)
    assert (count, True) == (len(catch.heard), catch.whole)
    assert list(range(1, count + 1)) == [each.n for each in catch.heard]


def test_too_long_a_message_clears(bus: RedisBus, ear: RedisEar) -> None:
    """What cannot be read by anybody is told as a clear, though the server's own numbers are exact."""
    tags = [f"tag:{'x' * 200}:{number}" for number in range(6000)]
    send(bus, *tags)
    assert ["clear"] == [each.kind for each in messages(hear(ear)) if each]


# History.


def test_another_life_of_the_server(bus: RedisBus, link: Link, names: Names) -> None:
    """After a flush nothing that was known holds."""
    send(bus, "a")
    known = bus.now()
    link.command("DEL", names.numbers, names.stream)
    catch = bus.since(known)
    assert (False, True) == (catch.whole, catch.forked)
    assert (0, True) == (catch.now.n, catch.now.epoch != known.epoch)


def test_a_trimmed_stream_is_not_whole(bus: RedisBus, link: Link, names: Names) -> None:
    """Who was away for longer than the stream reaches back learns that it is so; who was not is served."""
    start = bus.now()
    positions = [bus.since(bus.now()).now for _ in range(4) if send(bus, "a")]
    link.command("XTRIM", names.stream, "MAXLEN", 2)
    assert [False, False, True, True, True] == [bus.since(each).whole for each in (start, *positions)]
    assert not bus.since(start).forked
    link.command("DEL", names.stream)
    assert (False, False) == bus.since(positions[1])[2:]
    assert bus.since(positions[-1]).whole


def test_the_numbers_ran_backwards(bus: RedisBus, link: Link, names: Names) -> None:
    """A server that knows less than a host does tells another history."""
    send(bus, "a")
    before = bus.now()
    send(bus, "b")
    known = bus.now()
    link.command("HSET", names.numbers, "n", before.n, "mark", before.mark)
    catch = bus.since(known)
    assert (False, True) == (catch.whole, catch.forked)
    assert bus.since(before).whole


@pytest.mark.parametrize("later", [0, 1, 5])
def test_a_forked_history(bus: RedisBus, link: Link, names: Names, later: int) -> None:
    """Another message under a known number is found out by its mark, however many have come since."""
    send(bus, "a")
    before = bus.now()
    send(bus, "lost")
    known = bus.now()
    link.command("HSET", names.numbers, "n", before.n, "mark", before.mark)
    link.command("XDEL", names.stream, f"{known.n}-0")
    link.command("COPY", names.stream, "tmp" + names.stream.decode())
    kept = link.command("XRANGE", names.stream, "-", "+")
    link.command("DEL", names.stream, "tmp" + names.stream.decode())
    for id_, (field, data) in kept:  # type: ignore[misc,union-attr]
        link.command("XADD", names.stream, id_, field, data)  # type: ignore[arg-type]
    for _ in range(1 + later):
        send(bus, "other")
    catch = bus.since(known)
    assert (False, True) == (catch.whole, catch.forked)
    assert bus.since(before).whole


def test_numbers_that_nobody_is_told_about(bus: RedisBus, ear: RedisEar, link: Link, names: Names) -> None:
    """A number that a store takes for itself is no gap, in the channel and in the stream; before and after messages."""
    start = bus.now()
    link.command("HINCRBY", names.numbers, "n", 2)
    assert (True, 2, start.mark) == (bus.since(start).whole, bus.since(start).now.n, bus.since(start).now.mark)
    send(bus, "a")
    first = hear(ear)[0]
    assert first.follows(start)
    link.command("HINCRBY", names.numbers, "n", 2)
    catch = bus.since(start)
    assert ([first], True, 5) == (list(catch.heard), catch.whole, catch.now.n)
    send(bus, "b")
    assert hear(ear)[0].follows(catch.now)
    assert bus.since(catch.now).whole


def test_a_fork_behind_such_numbers(bus: RedisBus, link: Link, names: Names) -> None:
    """A history that lost a message, and has taken numbers for itself beyond it, is another one."""
    send(bus, "a")
    before = bus.now()
    send(bus, "lost")
    known = bus.now()
    link.command("HSET", names.numbers, "n", known.n + 3, "mark", before.mark)
    link.command("XDEL", names.stream, f"{known.n}-0")
    assert (False, True) == bus.since(known)[2:]


def test_a_position_that_was_not_written_whole(bus: RedisBus) -> None:
    """An unknown mark is no proof of another history, nor that nothing is missing."""
    send(bus, "a")
    catch = bus.since(bus.now()._replace(mark=UNKNOWN))
    assert (False, False) == (catch.whole, catch.forked)


@pytest.mark.parametrize("position", [Position(2**64 - 1, 2**64 - 1, b"x" * 8), Position(0, 0, b"y" * 8)])
def test_positions_beyond_reason(bus: RedisBus, position: Position) -> None:
    """Nothing that could stand in a segment breaks the question."""
    assert (False, True) == bus.since(position)[2:]
    same_epoch = position._replace(epoch=bus.now().epoch)
    assert (False, True) == bus.since(same_epoch)[2:]


def test_the_floor_rises(bus: RedisBus, ear: RedisEar, link: Link, names: Names) -> None:
    """The floor gets far above what a host knew and what the server has, for everybody, and that is told."""
    send(bus, "a")
    known = bus.now()._replace(n=7)
    first, second = 8 + LEAP, 9 + 2 * LEAP
    assert [first, second] == [bus.raise_floor(known), bus.raise_floor(known._replace(n=3))]
    assert [b"%d" % second, b"%d" % second, None] == link.command(
        "HMGET", names.numbers, "n", "floor", deps.own_path("a")
    )
    clear = CLEAR._replace(origin=0)
    assert [message("a"), clear, clear] == messages(hear(ear, 3))
    assert bus.since(bus.now()).whole
    assert second + 1 + LEAP == bus.raise_floor(Position(1, 50, b"x" * 8))
    assert bus.raise_floor(known._replace(n=2**64 - 1)) in {LARGEST_N + 1, 1}


# The channel.


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b" " * 40,
        b"0123456789abcdef 1 ",
        b"0123456789abcdef 1 0123456789abcde",
        b"0123456789abcdef -1 0123456789abcdef",
        b"0123456789abcdef 18446744073709551615 " + bytes(16),
        b"0123456789abcdef 9999999999999999 " + bytes(16),
        b"0123456789abcdeg 1 " + bytes(16),
        b"\xff" * 60,
        "٣".encode() * 60,
        b"0123456789abcdef 1 " + bytes(16) + bytes(2 << 20),
    ],
)
def test_nonsense_on_the_channel(bus: RedisBus, ear: RedisEar, link: Link, names: Names, text: bytes) -> None:
    """Whatever is written there is passed over."""
    link.command("PUBLISH", names.channel, text)
    send(bus, "a")
    assert [message("a")] == messages(hear(ear))


def test_a_message_that_cannot_be_read(bus: RedisBus, ear: RedisEar, link: Link, names: Names) -> None:
    """The payload of a newer release has a number and a mark, and says nothing."""
    link.command("PUBLISH", names.channel, b"0123456789abcdef 7 marksign--before" + b"\x92\x63\x01")
    heard = hear(ear)
    assert [Heard(0x0123456789ABCDEF, 7, b"marksign", b"--before", None)] == heard


def test_a_forger_does_not_know_the_last_mark(bus: RedisBus, ear: RedisEar, link: Link, names: Names) -> None:
    """A message under the next number, from one who has not heard the last, does not follow it."""
    send(bus, "a")
    known = hear(ear)[0].position
    forged = b"%016x %d " % (known.epoch, known.n + 1) + os.urandom(16) + pack(message("b"))
    link.command("PUBLISH", names.channel, forged)
    assert not hear(ear)[0].follows(known)
    send(bus, "c")
    assert hear(ear)[0].follows(known)


def test_prefixes_are_apart(link: Link, make_prefix: Callable[[], str]) -> None:
    """What is sent under one prefix is not heard under another."""
    one, other = RedisBus(link, make_prefix()), RedisBus(link, make_prefix())
    ear = other.listen()
    send(one, "a")
    send(other, "b")
    assert [message("b")] == messages(hear(ear))
    ear.close()


# Trouble.


def test_a_server_that_is_away(servers: Servers, bus_at: Callable[..., RedisBus]) -> None:
    """Who cannot reach the server is told so, by every method."""
    server = servers.start()
    bus = bus_at(server.url)
    ear = bus.listen()
    server.kill()
    with pytest.raises(ServerDown):
        ear.hear(DEADLINE_S)
    ear.close()
    for ask in (lambda: send(bus, "a"), bus.now, lambda: bus.raise_floor(Position(1, 1, UNKNOWN)), bus.listen):
        with pytest.raises(ServerDown):
            ask()


def test_a_connection_that_died_in_silence(
    children: Children, servers: Servers, bus_at: Callable[..., RedisBus]
) -> None:  # fmt: skip
    """A connection over which nothing comes back is given up after a second and a time-out, not never."""
    proxy = Proxy(children, servers.start().path)
    bus = bus_at(proxy.url)
    ear = bus.listen()
    bus._link.timeout_s = 0.2
    proxy.drop()
    with pytest.raises(ServerDown, match="no answer"):
        hear(ear)
    ear.close()


def test_a_quiet_connection_lives(bus: RedisBus, ear: RedisEar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody speaks for long the connection is asked for, and stays."""
    monkeypatch.setattr(redis_bus, "QUIET_S", 0.01)
    for _ in range(20):
        assert [] == list(ear.hear(0.02))
    send(bus, "a")
    assert [message("a")] == messages(hear(ear))


def test_a_user_who_may_not_listen(servers: Servers, bus_at: Callable[..., RedisBus]) -> None:
    """A missing right is told at once, with the host and without a secret."""
    server = servers.start()
    server.ask("ACL", "SETUSER", "shy", "on", ">sesame", "~*", "+@all", "resetchannels")
    url = f"unix://shy:sesame@{server.path}"
    bus = bus_at(url)
    with pytest.raises(ServerRefused) as raised:
        bus.listen()
    assert "sesame" not in str(raised.value)


def test_a_full_server_takes_invalidations(servers: Servers, bus_at: Callable[..., RedisBus]) -> None:
    """A server that is out of memory still numbers, keeps and tells what was invalidated."""
    server: Server = servers.start("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(400):
            pipe.set(f"k{number}", b"x" * 20_000)
        pipe.execute(raise_on_error=False)
    bus = bus_at(server.url)
    start = bus.now()
    assert [1, 2] == [send(bus, "a"), send(bus, "b")]
    assert 2 == len(bus.since(start).heard)
