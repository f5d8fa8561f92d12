"""The Redis store and what its server does: the clock, what is lost, what does not fit, who else has keys there."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.crowd import until
from tests.forks import Forks
from tests.servers import Server, Servers
from tests.storage.steps import START, after, body, hashed, paths_of, save
from zoocache.clock import now
from zoocache.errors import ConfigError, ServerDown, StorageIsFull
from zoocache.server.link import Link
from zoocache.server.names import names_of
from zoocache.server.url import address_of
from zoocache.storage import FOREVER, Life
from zoocache.storage.redis import RedisStore
from zoocache.storage.redis_record import HEAD_SIZE

GENEROUS_S = 20.0
TIMEOUT_S = 0.3

Open = Callable[..., RedisStore]


@pytest.fixture
def open_at() -> Iterator[Open]:
    """Opens stores in a server, and closes them in the end."""
    links = []

    def opened(
        url: str, prefix: str = "p", *, max_entries: int | None = None, host_time: bool = True
    ) -> RedisStore:  # fmt: skip
        links.append(Link(address_of(url), GENEROUS_S))
        return RedisStore(links[-1], prefix, max_entries=max_entries, host_time=host_time)

    yield opened
    for link in links:
        link.close()


def works(store: RedisStore) -> bool:
    """Whether a store keeps what it is given."""
    return save(store, "new", "n") and body(store, "new") == b"new"


def once_it_works(store: RedisStore) -> bool:
    """The same, when the breaker lets a call out again."""
    until = time.monotonic() + GENEROUS_S
    while time.monotonic() < until:
        with contextlib.suppress(ServerDown):
            return works(store)
        time.sleep(0.01)
    return False


# The clock.


@pytest.mark.parametrize(
    ("life", "most_ms"),
    [(Life(600_000), 600_000), (Life(600_000, True, 150_000), 150_000), (Life(0, False, 700_000), 700_000)],
)
def test_the_server_lets_entries_expire(
    open_at: Open, shared_server: Server, prefix: str, life: Life, most_ms: int
) -> None:
    """What has a limit is gone from the server by itself, whatever the clocks of hosts say."""
    store = open_at(shared_server.url, prefix, host_time=False)
    assert save(store, "k", life=life)
    left_ms = shared_server.ask("PTTL", names_of(prefix).entry(hashed("k")))
    assert most_ms - 50_000 < left_ms <= most_ms


def test_without_a_limit_nothing_expires(open_at: Open, shared_server: Server, prefix: str) -> None:
    """What lives for ever takes no limit from an entry that was there before."""
    store = open_at(shared_server.url, prefix, host_time=False)
    save(store, "k", life=Life(60_000))
    save(store, "k")
    assert -1 == shared_server.ask("PTTL", names_of(prefix).entry(hashed("k")))


def test_hosts_clocks_say_nothing(open_at: Open, shared_server: Server, prefix: str) -> None:
    """Hosts whose clocks are years apart agree on what lives."""
    store = open_at(shared_server.url, prefix, host_time=False)
    for ms in (0, 10**12, -(10**12)):
        save(store, "k", life=Life(60_000), now=after(ms))
        loaded = store.load(hashed("k"), after(-2 * ms))
        assert loaded is not None
        assert 0 < (loaded.left_ms or 0) <= 60_000


def test_a_touch_by_the_servers_clock(open_at: Open, shared_server: Server, prefix: str) -> None:
    """A touch makes an entry last in the server too, but not beyond its greatest age; and writes the body no more."""
    store = open_at(shared_server.url, prefix, host_time=False)
    entries = {key: names_of(prefix).entry(hashed(key)) for key in ("slides", "old", "plain")}
    save(store, "slides", life=Life(1000_000, True))
    save(store, "old", life=Life(1000_000, True, 2_000_000))
    save(store, "plain", life=Life(1000_000))
    for entry in entries.values():
        shared_server.ask("PEXPIRE", entry, 100_000)
    time.sleep(0.002)  # a touch of the same millisecond changes nothing
    store.touch([hashed(key) for key in entries], now())
    left_s = {key: round(shared_server.ask("PTTL", entry), -5) // 1000 for key, entry in entries.items()}
    assert {"slides": 1000, "old": 1000, "plain": 100} == left_s


def test_what_was_saved_in_the_future_has_expired(open_at: Open, redis_url: str, prefix: str) -> None:
    """If the server's clock went far back, nobody knows how old an entry is; a little is forgiven."""
    store = open_at(redis_url, prefix)
    save(store, "k", life=Life(1000), now=after(5_000))
    save(store, "l", life=Life(1000), now=after(500_000))
    save(store, "m", now=after(500_000))
    assert [b"k", None, b"m"] == [body(store, key) for key in "klm"]


# One round trip.


@pytest.mark.parametrize("tags", [0, 1, 300])
def test_a_load_is_one_question(open_at: Open, servers: Servers, tags: int) -> None:
    """However many tags an entry has, a load, a claim and a save are one command each."""
    server = servers.start()
    store = open_at(server.url)
    assert save(store, "k", *(f"a:{tag}" for tag in range(tags)))
    body(store, "k")
    store.claim(hashed("k"), bytes(16), 1000, None, START)
    stamp = store.stamp()
    before = server.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
    save(store, "k", *(f"a:{tag}" for tag in range(tags)), stamp=stamp)
    assert b"k" == body(store, "k")
    store.claim(hashed("k"), bytes(16), 1000, None, START)
    stats = server.ask("INFO", "commandstats")
    assert before + 3 == stats["cmdstat_evalsha"]["calls"]


# What else is in the server.


def test_clear_drops_the_prefix_and_nothing_else(open_at: Open, servers: Servers) -> None:
    """Clear leaves no key of its prefix but the numbers, every other key alone, and asks no KEYS."""
    server = servers.start()
    with server.client() as client:
        foreign = {f"{{zoocache:p}}{rest}" for rest in ("", ":", "x:e:1", ":ex")} | {
            "zoocache:p:e:1",
            "other",
            "{p}:e:1",
        }
        for key in foreign:
            client.set(key, "v")
        stores = [open_at(server.url, prefix, max_entries=1000) for prefix in ("p", "p:e", "", "q")]
        for store in stores:
            for index in range(30):
                save(store, f"k{index}", "a")
            store.claim(hashed("new"), bytes(16), 60_000, None, START)
            store.end(hashed("other"), bytes(16), b"failed")
        stores[0].clear()
        left = {key.decode() for key in client.scan_iter("{zoocache:p}*", count=1000)}
        assert foreign & left | {"{zoocache:p}:numbers"} == left
        assert len(foreign) == client.exists(*foreign)
        assert [0, 30, 30, 30] == [store.count() for store in stores]
        assert [None, b"k1", b"k1", b"k1"] == [body(store, "k1") for store in stores]
        assert "cmdstat_keys" not in client.info("commandstats")


def test_many_entries_are_cleared(open_at: Open, redis_url: str, prefix: str) -> None:
    """However many entries there are, all of them go; in several steps."""
    store = open_at(redis_url, prefix)
    stamp = store.stamp()
    for index in range(2500):
        store.save(hashed(str(index)), (), stamp, b"", FOREVER, START)
    assert 2500 == store.count()
    store.clear()
    assert 0 == store.count()


def test_many_numbers_are_pruned(open_at: Open, redis_url: str, prefix: str) -> None:
    """However many numbers there are, all old ones go, in several steps, and leave the highest of them as floor."""
    store = open_at(redis_url, prefix)
    stamp = store.stamp()
    for first in range(0, 3000, 300):
        store.invalidate([hashed(str(index)) for index in range(first, first + 300)], START)
    later = store.stamp()
    store.invalidate([hashed("young")], after(1000))
    assert 3000 == store.prune(1000, after(1000))
    assert [False, True] == [save(store, "k", "other", stamp=each) for each in (stamp, later)]
    assert 1 == store.prune(0, after(1000))


def test_too_many_numbers_give_way(shared_server: Server, prefix: str) -> None:
    """Where nobody prunes, numbers do not grow without end: old ones leave a floor, and nothing becomes valid again."""
    link = Link(address_of(shared_server.url), GENEROUS_S)
    store = RedisStore(link, prefix, most_numbers=1000, host_time=True)
    stamp = store.stamp()
    assert save(store, "k", "t0")
    for index in range(2000):
        store.invalidate([hashed(f"t{index}")], START)
        if index % 2:
            save(store, f"k{index}")
    assert 1600 > shared_server.ask("HLEN", names_of(prefix).numbers)
    assert [None, b"k1999"] == [body(store, key) for key in ("k", "k1999")]
    assert not save(store, "k", "t0", stamp=stamp)
    link.close()


def test_a_key_that_is_something_else(open_at: Open, shared_server: Server, prefix: str) -> None:
    """What is no entry under an entry's name is a miss, and gives way to the next save."""
    store = open_at(shared_server.url, prefix)
    entry = names_of(prefix).entry(hashed("k"))
    shared_server.ask("RPUSH", entry, "a list")
    assert None is body(store, "k")
    assert not store.delete(hashed("none"), START)
    store.touch([hashed("k")], START)
    store.prune(0, START)
    assert 0 < store.size_bytes()
    assert works(store)
    assert save(store, "k")
    assert b"k" == body(store, "k")


def test_a_record_of_a_later_release(open_at: Open, shared_server: Server, prefix: str) -> None:
    """What a later release wrote is a miss, and prune leaves it to that release."""
    store = open_at(shared_server.url, prefix)
    entry = names_of(prefix).entry(hashed("k"))
    save(store, "k", life=Life(1000, True))
    shared_server.ask("SETRANGE", entry, 0, "zoo2")
    assert None is body(store, "k")
    store.touch([hashed("k")], after(10))
    store.prune(0, after(5000))
    assert 1 == shared_server.ask("EXISTS", entry)


def test_garbage_is_a_miss(open_at: Open, shared_server: Server, prefix: str) -> None:
    """Whatever bytes are in the place of an entry, or of parts of it: a miss or the entry, and never an exception."""
    store = open_at(shared_server.url, prefix)
    entry = names_of(prefix).entry(hashed("k"))
    save(store, "k", "a:b", body=b"body" * 10, life=Life(1000, True, 2000))
    whole = shared_server.ask("GET", entry)
    chance = random.Random(3)
    with shared_server.client() as client:
        for _ in range(300):
            record = bytearray(whole[: chance.choice([0, 3, 50, HEAD_SIZE, HEAD_SIZE + 5, len(whole)])])
            for _ in range(chance.randrange(4)):
                if record:
                    at = chance.randrange(min(len(record), HEAD_SIZE + 40))
                    record[at] = chance.choice(b"\x000179 -+ef.x\xff")
            client.set(entry, bytes(record))
            loaded = store.load(hashed("k"), after(1))
            assert loaded is None or len(loaded.body) <= len(record)
            store.touch([hashed("k")], after(2))
            store.prune(10**9, after(3))
    assert works(store)


# What the server loses.


def lose_all(server: Server) -> None:
    """Everything."""
    server.ask("FLUSHALL")


def lose_numbers(server: Server) -> None:
    """What an eviction of the numbers does."""
    server.ask("DEL", names_of("p").numbers)


def lose_a_field(server: Server) -> None:
    """A part of the numbers."""
    server.ask("HDEL", names_of("p").numbers, "n")


def lose_and_restart(server: Server) -> None:
    """All, in a restart."""
    server.kill()
    server.start()


@pytest.mark.parametrize("lose", [lose_all, lose_numbers, lose_a_field, lose_and_restart])
def test_lost_numbers_make_everything_stale(open_at: Open, servers: Servers, lose: Callable[[Server], None]) -> None:
    """If the server loses its numbers, no entry from before is believed, no fill from before kept, and it goes on."""
    server = servers.start()
    store = open_at(server.url)
    save(store, "k", "a")
    stamp = store.stamp()
    store.invalidate([hashed("b")], START)
    record = server.ask("GET", names_of("p").entry(hashed("k")))
    lose(server)
    server.ask("SET", names_of("p").entry(hashed("k")), record)  # as though it alone had been spared
    assert None is body(store, "k")
    assert not save(store, "k", "a", stamp=stamp)
    assert stamp.epoch != store.stamp().epoch
    assert works(store)
    store.prune(10**9, START)
    assert 1 == store.count()


@pytest.mark.parametrize("forged", ["9" * 16, "9" * 30, str(2**64 - 1), "nonsense", "", "-1 5", "1e3 5"])
def test_a_forged_number(open_at: Open, shared_server: Server, prefix: str, forged: str) -> None:
    """A number that is none, or beyond all, makes what depends on it stale, and nothing else."""
    store = open_at(shared_server.url, prefix)
    save(store, "k", "a")
    save(store, "l", "b")
    store.invalidate([hashed("c")], START)
    shared_server.ask("HSET", names_of(prefix).numbers, hashed("a"), forged)
    assert [None, b"l"] == [body(store, key) for key in "kl"]
    store.invalidate([hashed("a")], START)
    assert save(store, "k", "a")
    assert b"k" == body(store, "k")


def test_eviction(open_at: Open, servers: Servers) -> None:
    """A server that evicts what it likes makes misses, and nothing stale, though it evict the numbers."""
    server = servers.start("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random")
    store = open_at(server.url)
    last: dict[str, bytes] = {}
    chance = random.Random(5)
    for step in range(1500):
        key = f"k{chance.randrange(200)}"
        if chance.random() < 0.3:
            last.pop(key, None)
            store.invalidate([hashed(key)], START)
        else:
            value = b"%d " % step + bytes(20_000)
            if save(store, key, key, body=value):
                last[key] = value
        other = f"k{chance.randrange(200)}"
        assert body(store, other) in {None, last.get(other)}
    assert 0 < server.ask("INFO", "stats")["evicted_keys"]


def test_a_full_server(open_at: Open, servers: Servers) -> None:
    """A server that is full and evicts nothing refuses new entries; but invalidations are made, and reads answered."""
    server = servers.start("--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
    store = open_at(server.url)
    save(store, "k", "a")
    save(store, "l", "b")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    stamp = store.stamp()
    for keep in (save, partial(save, anew=True)):
        with pytest.raises(ServerDown, match="out of memory"):
            keep(store, "m", "c", stamp=stamp)
    assert [b"k", b"l", None] == [body(store, key) for key in "klm"]
    store.invalidate([hashed("a")], START)
    assert [None, b"l"] == [body(store, key) for key in "kl"]
    assert store.delete(hashed("l"), START)
    store.clear()
    server.ask("CONFIG", "SET", "maxmemory", "20mb")
    assert works(store)


def test_a_value_that_can_never_fit(open_at: Open, servers: Servers) -> None:
    """A value too large for the server's memory is refused, and drives out no other entry; the largest one fits."""
    server = servers.start("--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru")
    store = open_at(server.url)
    for index in range(20):
        save(store, f"k{index}")
    stamp = store.stamp()
    with pytest.raises(StorageIsFull, match="maxmemory"):
        store.save(hashed("large"), (), stamp, bytes(5 << 20), FOREVER, START)
    assert 20 == store.count()
    assert store.save(hashed("large"), (), stamp, bytes((4 << 20) - 1000), FOREVER, START)
    assert 21 == store.count()


@pytest.mark.parametrize("is_later", [False, True])
def test_a_value_longer_than_the_server_takes(open_at: Open, servers: Servers, is_later: bool) -> None:
    """What the server's protocol does not take is refused, and the next call works."""
    store = open_at(servers.start("--proto-max-bulk-len", "1mb").url)
    what = (hashed("large"), (), store.stamp(), bytes(3 << 20), FOREVER, START)
    with pytest.raises(StorageIsFull, match="proto-max-bulk-len"):
        asyncio.run(_saved(store, *what)) if is_later else store.save(*what)
    assert works(store)


async def _saved(store: RedisStore, *what: object) -> object:
    return await store.later("save", *what)


def test_a_replica_is_not_believed(open_at: Open, servers: Servers) -> None:
    """A replica may be behind: it is asked for nothing, though it had an entry that seems valid."""
    server = servers.start()
    store = open_at(server.url)
    save(store, "k", "a")
    assert b"k" == body(store, "k")
    server.ask("REPLICAOF", "127.0.0.1", "1")
    for question in (partial(body, store, "k"), store.stamp):
        with pytest.raises(ServerDown):
            question()
    server.ask("REPLICAOF", "NO", "ONE")
    assert once_it_works(store)


def test_a_server_that_stands_still(open_at: Open, servers: Servers) -> None:
    """A stalled server is an outage for every method, until it goes on."""
    server = servers.start()
    store = open_at(server.url)
    save(store, "k", "a")
    store._link.timeout_s = TIMEOUT_S
    server.freeze()
    one = hashed("k")
    for method, *what in (
        ("load", one, START), ("stamp",), ("claim", one, bytes(16), 100, None, START), ("renew", [(one, one)], 100),
        ("end", one, one, None), ("delete", one, START), ("invalidate", [one], START), ("touch", [one], START),
        ("clear",), ("prune", 0, START), ("count",), ("size_bytes",),
    ):  # fmt: skip
        with pytest.raises(ServerDown):
            getattr(store, method)(*what)
    server.thaw()
    store._link.timeout_s = GENEROUS_S
    assert once_it_works(store)


# How many entries.


def test_no_more_entries_than_asked_for(open_at: Open, shared_server: Server, prefix: str) -> None:
    """Two hosts together keep at most so many entries, and the last ones are there."""
    stores = [open_at(shared_server.url, prefix, max_entries=20) for _ in range(2)]
    for index in range(200):
        assert save(stores[index % 2], f"k{index}", now=after(index))
        assert 20 >= stores[0].count()
    assert 15 < stores[0].count()
    assert [b"k199", b"k198"] == [body(stores[0], key) for key in ("k199", "k198")]
    assert stores[0].count() == shared_server.ask("ZCARD", names_of(prefix).used)


def test_one_entry(open_at: Open, redis_url: str, prefix: str) -> None:
    """A limit of one keeps the last one."""
    store = open_at(redis_url, prefix, max_entries=1)
    for key in "abc":
        save(store, key)
    assert [None, None, b"c"] == [body(store, key) for key in "abc"]


def test_what_was_read_stays(open_at: Open, redis_url: str, prefix: str) -> None:
    """The entries unused for longest go first."""
    store = open_at(redis_url, prefix, max_entries=10)
    for index in range(10):
        save(store, f"k{index}", now=after(index))
    assert [b"k0", b"k3"] == [body(store, key, after(5000)) for key in ("k0", "k3")]
    for index in range(6):
        save(store, f"new{index}", now=after(6000 + index))
    left = [key for key in ("k0", "k1", "k2", "k3", "k4", "k5") if body(store, key, after(7000))]
    assert ["k0", "k3"] == left


def test_what_has_expired_gives_way_first(open_at: Open, shared_server: Server, prefix: str) -> None:
    """An entry that has expired, or that the server has evicted, costs no living one its place, though that was unused
    for longer."""
    store = open_at(shared_server.url, prefix, max_entries=40, host_time=False)
    old, new = [f"old{index}" for index in range(20)], [f"new{index}" for index in range(20)]
    for key in old:
        save(store, key)
    for index in range(20):
        save(store, f"short{index}", life=Life(1 + 60_000 * (index % 2)))
    names = names_of(prefix)
    for index in range(1, 20, 2):
        shared_server.ask("DEL", names.entry(hashed(f"short{index}")))
    until(lambda: not any(body(store, f"short{index}") for index in range(20)))
    for key in new:
        save(store, key)
    assert [*old, *new] == [key for key in [*old, *new] if body(store, key)]
    assert 40 == store.count() == shared_server.ask("ZCARD", names.used)


def test_what_has_expired_is_found_among_many(open_at: Open, redis_url: str, prefix: str) -> None:
    """A sample finds enough of it, so that none of the living goes."""
    store = open_at(redis_url, prefix, max_entries=600, host_time=False)
    old = [f"old{index}" for index in range(300)]
    for key in old:
        save(store, key)
    for index in range(300):
        save(store, f"short{index}", life=Life(1))
    until(lambda: not any(body(store, f"short{index}") for index in range(300)))
    for index in range(200):
        save(store, f"new{index}")
    assert 500 == sum(bool(body(store, key)) for key in [*old, *(f"new{index}" for index in range(200))])


def test_what_is_deleted_makes_room(open_at: Open, shared_server: Server, prefix: str) -> None:
    """Deleted, pruned and cleared entries count no longer."""
    store = open_at(shared_server.url, prefix, max_entries=10)
    for index in range(10):
        save(store, f"k{index}", "a" if index < 3 else "b", now=after(index))
    store.delete(hashed("k9"), START)
    store.invalidate([hashed("a")], START)
    store.prune(10**9, after(100))
    assert 6 == store.count() == shared_server.ask("ZCARD", names_of(prefix).used)
    store.clear()
    assert 0 == shared_server.ask("EXISTS", names_of(prefix).used)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_cannot_be(open_at: Open, redis_url: str, limit: int) -> None:
    """A limit below one is refused at once."""
    with pytest.raises(ConfigError):
        open_at(redis_url, max_entries=limit)


# Others.


def test_a_key_set_anew_is_told(open_at: Open, shared_server: Server, prefix: str) -> None:
    """A key that is set anew is announced in the same step; where there is nothing to tell, nothing is."""
    store = open_at(shared_server.url, prefix)
    stream = names_of(prefix).stream
    stamp = store.stamp()
    told = store.save_and_tell(hashed("k"), (), stamp, b"v", FOREVER, START, b"hello", None, b"all is lost")
    assert told is not None
    assert (stamp.epoch, stamp.n + 1) == told[:2]
    assert store.save(hashed("k"), (), stamp, b"w", FOREVER, START, anew=True)
    assert not store.save(hashed("k"), (), stamp, b"x", FOREVER, START)
    store.invalidate([hashed("a")], START)
    overtaken = (hashed("k"), paths_of("a"), stamp, b"y", FOREVER, START, b"overtaken", told, b"all is lost")
    assert store.save_and_tell(*overtaken) is None
    sent = [(number, fields[b"payload"][16:]) for number, fields in shared_server.ask("XRANGE", stream, "-", "+")]
    assert [(f"{stamp.n + 1}-0".encode(), b"hello")] == sent


def test_a_forked_child(open_at: Open, redis_url: str, prefix: str, forks: Forks) -> None:
    """A child that was forked after use works with connections of its own, and so does its parent."""
    store = open_at(redis_url, prefix)
    save(store, "parent", "a")

    def child(name: str) -> None:
        store.after_fork()
        for index in range(20):
            assert save(store, f"{name}{index}", "a")
            assert f"{name}{index}".encode() == body(store, f"{name}{index}")
        store.close()

    children = [forks.fork(child, f"c{number} ") for number in range(3)]
    for index in range(50):
        assert save(store, f"p{index}", "a")
        assert f"p{index}".encode() == body(store, f"p{index}")
    assert [0, 0, 0] == [each.wait() for each in children]
    assert 111 == store.count()


def test_its_name_tells_no_secret(open_at: Open) -> None:
    """A store is called by its server, without who asks there."""
    assert "redis storage redis://host:6379/2" == str(open_at("redis://ann:secret@host/2"))
