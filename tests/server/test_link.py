"""Calls to a server: what comes back, what each trouble costs, and that no call gets the reply of another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from tests.children import Children
from tests.crowd import Runner, until
from tests.forks import Forks
from tests.proxy import Proxy
from tests.servers import Server, Servers
from zoocache.errors import ConfigError, ServerDown, ServerRefused, StorageError
from zoocache.server.link import Link
from zoocache.server.resp import Reply
from zoocache.server.scripts import script
from zoocache.server.url import address_of
from zoocache.server.wire import Wire
from zoocache.server.wire_async import AsyncWire

ECHO = script("return ARGV[1]")
TIMEOUT_S = 0.3
GENEROUS_S = 20.0


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    """A link to the shared server."""
    made = Link(address_of(redis_url), GENEROUS_S)
    yield made
    made.close()


@pytest.fixture
def proxy(children: Children, shared_server: Server) -> Proxy:
    """A network that can fail."""
    return Proxy(children, shared_server.path)


class InterruptedCall(Exception):
    """What a signal handler raises."""


def echo(link: Link, text: str = "hello") -> Reply:
    """A call."""
    return link.run(ECHO, (), (text,))


def called(link: Link, is_async: bool, text: str = "hello") -> Reply:
    """A call of a thread, or of a task."""
    return asyncio.run(link.run_async(ECHO, (), (text,))) if is_async else echo(link, text)


def probe(link: Link) -> Reply:
    """A call as soon as the breaker lets one out again."""
    until = time.monotonic() + GENEROUS_S
    while time.monotonic() < until:
        with contextlib.suppress(ServerDown):
            return echo(link)
        time.sleep(0.01)
    raise AssertionError("the server is still down")


# What comes back.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("return 5", 5),
        ("return -7", -7),
        ("return '\\0\\r\\n'", b"\0\r\n"),
        ("return false", None),
        ("return {}", []),
        ("return {1, 'two', {3, {false}}}", [1, b"two", [3, [None]]]),
        ("return redis.status_reply('FINE')", b"FINE"),
        ("return {KEYS[1], ARGV[1], ARGV[2]}", [b"k", b"\xff\0", b"12"]),
        ("return string.rep('x', 1000000)", b"x" * 1_000_000),
    ],
)
def test_replies(link: Link, text: str, expected: Reply) -> None:
    """Every kind of reply comes back as what it is, to threads and to tasks."""
    asked = script(text), (b"k",), (b"\xff\0", 12)
    assert expected == link.run(*asked)
    assert expected == asyncio.run(link.run_async(*asked))


def test_a_large_argument(link: Link) -> None:
    """What is larger than the buffers of a socket goes there and comes back whole."""
    text = "x" * 5_000_000
    assert text.encode() == echo(link, text)
    assert text.encode() == asyncio.run(link.run_async(ECHO, (), (text,)))


def test_commands(link: Link, prefix: str) -> None:
    """A command is sent as it is; tasks send one too."""
    assert b"OK" == link.command("SET", prefix, b"\0")
    assert b"\0" == asyncio.run(link.command_async("GET", prefix))
    assert 1 == link.command("DEL", prefix)


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "task"])
def test_a_script_that_the_server_never_had_costs_one_time_out(prefix: str, proxy: Proxy, is_async: bool) -> None:
    """To name a script and, if it is unknown, to send it is one call: both have one time-out together."""
    unknown = script(f"return ARGV[1] -- {prefix} {is_async}")
    link = Link(address_of(proxy.url), 2.0)
    proxy.delay(900)  # there and back: 1.8 s for each; a caller that wakes late takes what is there
    with pytest.raises(ServerDown, match="no answer within 2 s"):
        asyncio.run(link.run_async(unknown, (), ("hello",))) if is_async else link.run(unknown, (), ("hello",))
    proxy.heal()
    assert b"hello" == probe(link)
    link.close()


def test_a_script_that_the_server_forgot(servers: Servers) -> None:
    """After SCRIPT FLUSH, and after a restart, a script is sent again (NOSCRIPT)."""
    server = servers.start()
    link = Link(address_of(server.url), GENEROUS_S)
    assert b"one" == echo(link, "one")
    server.ask("SCRIPT", "FLUSH")
    assert b"two" == echo(link, "two")
    server.ask("SCRIPT", "FLUSH")
    assert b"three" == asyncio.run(link.run_async(ECHO, (), ("three",)))
    server.kill()
    server.start()
    assert b"four" == echo(link, "four")
    link.close()


def test_what_the_server_does_not_understand(link: Link, prefix: str) -> None:
    """An error of a script or command is a StorageError, repeats no argument, and the next call works."""
    with pytest.raises(StorageError, match="unknown command") as raised:
        link.command("NOSUCH", "my secret")
    assert "secret" not in str(raised.value)
    with pytest.raises(StorageError):
        link.run(script("return redis.call('HGET', KEYS[1], 'a', 'b', 'c')"), (prefix.encode(),))
    assert b"hello" == echo(link)
    assert not isinstance(raised.value, ServerDown)


# Trouble.


def costs(link: Link) -> float:
    """What a call costs that comes to nothing, in seconds."""
    began_s = time.monotonic()
    with pytest.raises(ServerDown):
        echo(link)
    return time.monotonic() - began_s


def test_a_slow_network(proxy: Proxy) -> None:
    """What is slow but within the time-out is waited for."""
    link = Link(address_of(proxy.url), GENEROUS_S)
    proxy.delay(40)
    assert b"hello" == echo(link)
    assert b"later" == asyncio.run(link.run_async(ECHO, (), ("later",)))
    link.close()


@pytest.mark.parametrize("trouble", ["stall", "stall_after", "drip", "drop"])
@pytest.mark.parametrize("is_async", [False, True])
def test_no_whole_reply(proxy: Proxy, trouble: str, is_async: bool) -> None:
    """Whether nothing comes, or half a reply, or one byte now and then: it costs one time-out, then nothing; and after
    the network has healed, replies belong to their calls.
    """
    link = Link(address_of(proxy.url), GENEROUS_S)

    def go_wrong() -> None:
        link.timeout_s = TIMEOUT_S
        getattr(proxy, trouble)(*{"stall_after": [7], "drip": [200]}.get(trouble, []))

    async def several() -> None:
        assert b"0" * 100 == await link.run_async(ECHO, (), ("0" * 100,))
        go_wrong()
        with pytest.raises(ServerDown, match="no answer within"):
            await link.run_async(ECHO, (), ("1" * 100,))

    if is_async:
        asyncio.run(several())
    else:
        assert b"0" * 100 == echo(link, "0" * 100)
        go_wrong()
        with pytest.raises(ServerDown, match="no answer within"):
            echo(link, "1" * 100)
    assert link.breaker.is_open
    proxy.heal()
    link.timeout_s = GENEROUS_S
    assert b"hello" == probe(link)
    assert b"2" == echo(link, "2")
    assert b"3" == asyncio.run(link.run_async(ECHO, (), ("3",)))
    link.close()


def test_a_stalled_server_costs_one_timeout(servers: Servers) -> None:
    """A server that stands still costs the first call its time-out, and those after it nothing."""
    server = servers.start()
    link = Link(address_of(server.url), GENEROUS_S)
    echo(link)
    link.timeout_s = TIMEOUT_S
    server.freeze()
    assert TIMEOUT_S <= costs(link)
    spent = sorted(costs(link) for _ in range(20))
    assert TIMEOUT_S / 2 > spent[10]
    server.thaw()
    link.timeout_s = GENEROUS_S
    assert b"hello" == probe(link)
    link.close()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_server_that_does_not_take_the_connection(is_async: bool) -> None:
    """A connection that is never accepted costs one time-out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        crowd = [socket.socket() for _ in range(8)]  # the queue is full: more are left without an answer
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        link = Link(address_of(f"redis://127.0.0.1:{port}"), TIMEOUT_S)
        with pytest.raises(ServerDown, match="no answer within"):
            called(link, is_async)
        for each in crowd:
            each.close()
    link.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "task"])
def test_a_server_whose_queue_is_full(servers: Servers, is_async: bool) -> None:
    """Who finds no room among those that wait to be accepted waits until there is some: that is no outage."""
    server = servers.start("--tcp-backlog", "1")
    link, hasty = Link(address_of(server.url), GENEROUS_S), Link(address_of(server.url), 0.05)
    server.freeze()
    waiting: list[socket.socket] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect(str(server.path))
    with pytest.raises(ServerDown):
        called(hasty, is_async)
    asker = Runner(called, link, is_async)
    time.sleep(0.1)  # no more than a chance to go wrong: whoever does not wait fails at once
    server.thaw()
    assert b"hello" == asker.result()
    for each in waiting:
        each.close()
    link.close()


def test_connections_that_break(proxy: Proxy) -> None:
    """Connections that were reset while they were idle are replaced, and the caller does not notice."""
    link = Link(address_of(proxy.url), GENEROUS_S)

    async def twice() -> Reply:
        await link.run_async(ECHO, (), ("x",))
        proxy.reset()
        return await link.run_async(ECHO, (), ("y",))

    echo(link)
    proxy.reset()
    assert b"again" == echo(link, "again")
    assert b"y" == asyncio.run(twice())
    link.close()


def is_left_alone(link: Link) -> bool:
    """Whether a call fails without asking the server."""
    with pytest.raises(ServerDown) as raised:
        echo(link)
    return "not asked for the moment" in str(raised.value)


def test_a_network_that_is_cut(proxy: Proxy) -> None:
    """Refused connections are an outage at once, and end when the network heals."""
    link = Link(address_of(proxy.url), GENEROUS_S)
    echo(link)
    proxy.cut()
    with pytest.raises(ServerDown, match=f"127.0.0.1:{proxy.port}"):
        echo(link)
    until(lambda: is_left_alone(link))  # now and then one call goes out
    proxy.heal()
    assert b"hello" == probe(link)
    assert not link.breaker.is_open
    link.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "unix:///nowhere/at/all", "redis://no-such-host.invalid:6379"])
def test_a_server_that_is_not_there(url: str) -> None:
    """A server that cannot be reached is an outage that says where."""
    link = Link(address_of(url), GENEROUS_S)
    where = url.split("//")[1]
    with pytest.raises(ServerDown, match=where):
        echo(link)
    link = Link(address_of(url), GENEROUS_S)
    with pytest.raises(ServerDown, match=where):
        asyncio.run(link.run_async(ECHO, (), ("x",)))


def test_something_else_that_answers() -> None:
    """What is no Redis server is an outage that says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = Link(address_of(f"redis://127.0.0.1:{listener.getsockname()[1]}"), GENEROUS_S)

        def answer() -> None:
            with listener.accept()[0] as client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                client.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServerDown, match="no Redis server"):
            echo(link)
        thread.join(GENEROUS_S)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_a_known_host_needs_no_thread(proxy: Proxy, host: str) -> None:
    """A number, and the loopback interface, are not looked up: an event loop starts no thread for them."""
    link = Link(address_of(f"redis://{host}:{proxy.port}"), GENEROUS_S)
    before = set(threading.enumerate())

    async def call() -> set[threading.Thread]:
        assert b"x" == await link.run_async(ECHO, (), ("x",))
        return set(threading.enumerate())

    assert asyncio.run(call()) <= before
    assert b"x" == echo(link, "x")
    link.close()


# What a server says when it cannot, or will not.


def test_out_of_memory(servers: Servers) -> None:
    """A server that is full takes no writes, answers reads, and is not taken for one that is down."""
    server = servers.start("--maxmemory", "1")
    link = Link(address_of(server.url), GENEROUS_S)
    with pytest.raises(ServerDown, match="maxmemory"):
        link.command("SET", "k", "v")
    assert b"hello" == echo(link)
    assert not link.breaker.is_open
    link.close()


def test_a_read_only_replica(servers: Servers) -> None:
    """A replica is no server for a cache, and it is asked again once it has become a master."""
    replica = servers.start("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "yes")
    link = Link(address_of(replica.url), GENEROUS_S)
    write = script("return redis.call('SET', KEYS[1], 'v')")
    with pytest.raises(ServerDown, match="read-only replica"):
        link.run(write, (b"k",))
    assert link.breaker.is_open
    replica.ask("REPLICAOF", "NO", "ONE")
    probe(link)
    assert b"OK" == link.run(write, (b"k",))
    link.close()


def test_a_server_that_is_loading(servers: Servers) -> None:
    """A server that still reads its data is down, until it has read it."""
    server = servers.start("--enable-debug-command", "yes")
    server.ask("DEBUG", "POPULATE", "20000")
    server.ask("SAVE")
    server.kill()
    server.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    link = Link(address_of(server.url), GENEROUS_S)
    with pytest.raises(ServerDown, match="LOADING"):
        echo(link)
    assert link.breaker.is_open
    server.ask("CONFIG", "SET", "key-load-delay", "0")
    assert b"hello" == probe(link)
    link.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix://{}", "NOAUTH"),
        ("unix://:wrong-secret@{}", "WRONGPASS"),
        ("unix://nobody:wrong-secret@{}", "WRONGPASS"),
    ],
)
def test_a_wrong_password(servers: Servers, url: str, said: str) -> None:
    """A wrong password is a clear error at once, which names the server and no secret."""
    server = servers.start("--requirepass", "right-secret")
    link = Link(address_of(url.format(server.path)), GENEROUS_S)
    calls = (
        lambda: called(link, False),
        lambda: called(link, True),
        link.dial,
    )
    for call in calls[: 2 if said == "NOAUTH" else 3]:
        with pytest.raises(ServerRefused, match=said) as raised:
            call()
        text = f"{raised.value!r} {raised.value} {raised.value.__cause__!r} {link!r} {link.address!r}"
        assert "secret" not in text
        assert str(server.path) in text
        link.breaker.succeeded()
    link.close()


def test_the_right_password(servers: Servers) -> None:
    """Password, user and database of a URL are used, whatever characters they have."""
    server = servers.start("--requirepass", "p@ss/w:rd")
    server_client = server.client(password="p@ss/w:rd")
    server_client.execute_command("ACL", "SETUSER", "ann", "on", ">s?cret", "~*", "&*", "+@all")
    for who in (":p%40ss%2Fw%3Ard", "ann:s%3Fcret"):
        link = Link(address_of(f"unix://{who}@{server.path}?db=3"), GENEROUS_S)
        link.command("SET", "k", who)
        assert who.encode() == asyncio.run(link.command_async("GET", "k"))
        link.close()
    assert [{"db3"}, 1] == [set(server_client.info("keyspace")), server_client.info("keyspace")["db3"]["keys"]]
    server_client.close()


def test_a_right_that_is_missing(servers: Servers) -> None:
    """Who may not run scripts is told so."""
    server = servers.start()
    server.ask("ACL", "SETUSER", "ann", "on", ">secret", "~*", "+get")
    link = Link(address_of(f"unix://ann:secret@{server.path}"), GENEROUS_S)
    with pytest.raises(ServerRefused, match="NOPERM"):
        echo(link)
    link.close()


def test_a_database_that_is_not_there(servers: Servers) -> None:
    """A database beyond the server's is a clear error."""
    link = Link(address_of(servers.start().url + "?db=99"), GENEROUS_S)
    with pytest.raises(ConfigError, match="no database 99"):
        echo(link)


def is_taken(wire: Wire) -> bool:
    """Whether the server has room for one; else it is closed."""
    with contextlib.suppress(ConnectionError):
        if wire.call(b"PING\r\n", time.monotonic() + GENEROUS_S) == b"PONG":
            return True
    wire.close()
    return False


def test_too_many_clients(servers: Servers) -> None:
    """A server that takes no more clients is down for those who come."""
    server = servers.start("--maxclients", "4")
    address = address_of(server.url)
    crowd: list[Wire] = []
    while len(crowd) < 4:  # who asked whether it is there may not have left yet
        crowd += [wire for wire in [Link(address, GENEROUS_S).dial()] if is_taken(wire)]
    with pytest.raises(ServerDown):
        echo(Link(address, GENEROUS_S))
    for each in crowd:
        each.close()


# Threads, tasks, forks.


def chatter(link: Link, name: str, count: int) -> None:
    """Calls whose replies must be their own."""
    for index in range(count):
        text = f"{name} {index} " + "x" * random.Random(index).choice([1, 100, 70_000])
        assert text.encode() == echo(link, text)


def test_many_threads(link: Link) -> None:
    """Each of many threads gets the replies to its own calls."""
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            chatter(link, name, 100)
        except BaseException as error:  # noqa: BLE001  # shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(GENEROUS_S)
    assert [] == failures
    assert 12 >= len(link._idle)


def test_many_tasks(link: Link) -> None:
    """Each of many tasks gets the replies to its own calls."""

    async def work(name: str) -> None:
        for index in range(20):
            assert f"{name} {index}".encode() == await link.run_async(ECHO, (), (f"{name} {index}",))

    async def all_at_once() -> None:
        await asyncio.gather(*(work(f"task {number}") for number in range(20)))

    asyncio.run(all_at_once())


def test_loops_one_after_the_other(link: Link) -> None:
    """Every new event loop has its own connections, and those of closed ones are given back."""
    for index in range(20):
        assert str(index).encode() == asyncio.run(link.run_async(ECHO, (), (index,)))
    assert 2 >= len(link._idle_of)
    assert 2 >= len(link._open)


class Emptied(list[AsyncWire]):
    """Idle connections that another thread, whose call has failed, closes right behind a look whether there are any."""

    def __len__(self) -> int:
        found = super().__len__()
        for each in self:
            each.close()
        self.clear()
        return found


def test_a_loop_whose_connections_another_thread_closes(link: Link) -> None:
    """A task that finds its idle connection gone opens another."""

    async def work() -> Reply:
        await link.run_async(ECHO, (), ("first",))
        loop = asyncio.get_running_loop()
        link._idle_of[loop] = Emptied(link._idle_of[loop])
        return await link.run_async(ECHO, (), ("second",))

    assert b"second" == asyncio.run(work())


def test_loops_at_once(link: Link) -> None:
    """Loops in several threads do not get into each other's way."""
    failures: list[BaseException] = []

    async def work(name: str) -> None:
        for index in range(50):
            assert f"{name} {index}".encode() == await link.run_async(ECHO, (), (f"{name} {index}",))

    def run(name: str) -> None:
        try:
            asyncio.run(work(name))
        except BaseException as error:  # noqa: BLE001  # shown below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f"loop {number}",)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(GENEROUS_S)
    assert [] == failures


def test_a_cancelled_task_leaves_no_reply_behind(proxy: Proxy) -> None:
    """Whenever a task is cancelled, the next call gets its own reply, and nothing is left open."""
    link = Link(address_of(proxy.url), GENEROUS_S)
    chance = random.Random(7)

    async def work() -> None:
        for index in range(150):
            task = asyncio.ensure_future(link.run_async(ECHO, (), (f"cancelled {index} " + "x" * 50_000,)))
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(chance.choice([0, 0, 0.0005]))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert f"next {index}".encode() == await link.run_async(ECHO, (), (f"next {index}",))

    proxy.delay(0.3)
    asyncio.run(work())
    assert 1 >= len(link._open)
    link.close()


def test_the_loop_goes_on_meanwhile(proxy: Proxy) -> None:
    """While a call waits, other tasks of the loop run."""
    link = Link(address_of(proxy.url), GENEROUS_S)

    async def work() -> int:
        await link.run_async(ECHO, (), ("x",))
        proxy.stall()
        call = asyncio.ensure_future(link.run_async(ECHO, (), ("x",)))
        rounds = 0
        while not call.done() and rounds < 100:
            await asyncio.sleep(0)
            rounds += 1
        proxy.heal()
        assert b"x" == await call
        return rounds

    assert 100 == asyncio.run(work())
    link.close()


def test_a_fork_after_use(link: Link, forks: Forks) -> None:
    """A forked child has connections of its own, and the parent's go on as if nothing had happened."""
    echo(link)
    asyncio.run(link.run_async(ECHO, (), ("x",)))
    before = {wire.fileno() for wire in link._idle}

    def work() -> None:
        chatter(link, f"child {os.getpid()}", 30)
        assert b"x" == asyncio.run(link.run_async(ECHO, (), ("x",)))
        link.close()

    children = [forks.fork(work) for _ in range(4)]
    chatter(link, "parent", 30)
    assert [0] * 4 == [child.wait() for child in children]
    assert before == {wire.fileno() for wire in link._idle}
    chatter(link, "parent", 10)


def test_a_fork_while_others_call(link: Link, forks: Forks) -> None:
    """A child that is forked while other threads call gets none of their replies."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            chatter(link, "thread", 5)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        children = [forks.fork(chatter, link, f"child {number}", 20) for number in range(4)]
        assert [0] * 4 == [child.wait() for child in children]
    finally:
        done.set()
        for each in threads:
            each.join(GENEROUS_S)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_interrupted_calls(link: Link) -> None:
    """Wherever a signal handler raises in a call, the next call gets its own reply."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise InterruptedCall

    chance = random.Random(11)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    gc.disable()  # what is raised in a callback of the collector, as Hypothesis has one, reaches no caller
    try:
        for index in range(400):
            text = f"{index} " + "x" * chance.choice([1, 1, 100_000])
            with contextlib.suppress(InterruptedCall):
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, 0.001))
                    assert text.encode() == echo(link, text)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                continue
            interrupted += 1
            assert f"next {index}".encode() == echo(link, f"next {index}")
    finally:
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    gc.collect()  # an exception may have come between a socket and its owner
    assert 10 < interrupted
    assert not link.breaker.is_open


def test_closing(link: Link) -> None:
    """After a close the next call opens again; closing twice is fine."""
    echo(link)
    link.close()
    link.close()
    assert 0 == len(link._open)
    assert b"hello" == echo(link)


def test_a_connection_of_ones_own(link: Link, prefix: str) -> None:
    """Who listens has a connection of his own, and may wait again after a wait was too short."""
    wire = link.dial()
    wire.send(b"SUBSCRIBE %b\r\n" % prefix.encode(), time.monotonic() + GENEROUS_S)
    assert [b"subscribe", prefix.encode(), 1] == wire.read(time.monotonic() + GENEROUS_S)
    with pytest.raises(TimeoutError):
        wire.read(time.monotonic() + 0.01)
    link.command("PUBLISH", prefix, "one")
    link.command("PUBLISH", prefix, "two")
    for expected in (b"one", b"two"):
        assert [b"message", prefix.encode(), expected] == wire.read(time.monotonic() + GENEROUS_S)
    wire.close()
