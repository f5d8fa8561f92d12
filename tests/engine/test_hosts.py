"""zoocache/engine/hosts.py, sending.py, hearing.py: what crosses hosts, over a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import DEADLINE_S
from tests.engine.peopled import Host, MakeHost
from tests.forks import Forks
from tests.servers import Servers
from zoocache import clock, deps
from zoocache.bus import UNKNOWN, Message, Position
from zoocache.bus.message import pack
from zoocache.engine import hearing, sending
from zoocache.errors import Busy, ServerDown, StorageError
from zoocache.shm import points
from zoocache.shm.layout import (
    H_BEAT_MS,
    H_BUS_MARK,
    H_BUS_WANT,
    H_CAUGHT_UP,
    H_FLOORED,
    H_GAPS,
    H_HEARD,
    H_OUT_LOST,
    H_SENT,
)
from zoocache.storage import FOREVER
from zoocache.storage.redis import RedisStore
from zoocache.trie import target_of

DIGEST = bytes(range(16))


def settled(*hosts: Host) -> None:
    """Let each host send and hear all there is."""
    for each in hosts:
        assert each.drain()
    for each in hosts:
        each.catch_up()
        assert [] == each.faults()


# Memory and LMDB: told by the listener.


def test_an_invalidation_crosses(host: MakeHost) -> None:
    """What is invalidated on one host is stale on the other once one has sent and the other heard; no more is."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    end = one.tell("a:b")
    assert (True, False) == (one.stale(one.trie.seq() - 1, "a:b:c"), one.hosts.is_sent(one.trie, end))
    assert not other.stale(since, "a:b:c")
    settled(one, other)
    assert one.hosts.is_sent(one.trie, end)
    assert (True, False) == (other.stale(since, "a:b:c"), other.stale(since, "a:c"))


def test_nobody_hears_himself(host: MakeHost) -> None:
    """A host that hears its own message moves on, and overtakes nothing again."""
    one = host("one")
    settled(one)
    one.tell("a")
    since = one.trie.seq()
    settled(one)
    assert not one.stale(since, "a")
    assert one.is_at(one.bus)
    assert (1, 0) == (one.words[H_SENT], one.words[H_HEARD])


def test_the_channel_is_enough(host: MakeHost) -> None:
    """Who listens does what comes at once, without a question to the server."""
    one, other = host("one"), host("other")
    other.listen()
    since = other.trie.seq()
    for tag in ("a", "b", "c"):
        one.tell(tag)
        one.drain()
    while other.words[H_HEARD] < 3:
        other.hear()
    assert [True] * 3 == [other.stale(since, tag) for tag in "abc"]
    assert 0 == other.words[H_GAPS]
    assert other.is_at(other.bus)


def test_many_cross_as_few(host: MakeHost) -> None:
    """What waits together is told together, and nothing of it is lost."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    for number in range(30):
        one.tell(f"t:{number}")
    settled(one, other)
    assert 30 > one.words[H_SENT]
    assert [True] * 30 == [other.stale(since, f"t:{number}") for number in range(30)]


def test_keys_cross(host: MakeHost) -> None:
    """A key that was dropped here is stale there."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    one.hosts.tell(one.trie, one.message(keys=(DIGEST,)), sending.targets_of(one.message(keys=(DIGEST,))), 1)
    settled(one, other)
    assert other.trie.overtaken([target[:2] for target in sending.targets_of(one.message(keys=(DIGEST,)))], since)


def test_what_nobody_has_done_is_done_by_the_sender_too(host: MakeHost) -> None:
    """A message of nobody (a key set anew in the server) is heard on every host."""
    one = host("one")
    settled(one)
    since = one.trie.seq()
    one.bus.send(one.message("a", origin=0), ())
    settled(one)
    assert one.stale(since, "a")


def test_clear_crosses(host: MakeHost) -> None:
    """After a clear nothing that was live on another host is valid, whatever it depends on."""
    one, other = host("one"), host("other")
    settled(one, other)
    other.tell("x")
    since = other.trie.seq()
    one.clear()
    settled(one, other)
    assert other.stale(since, "anything")
    assert [] == other.trie.listing()


def test_prune_crosses(host: MakeHost) -> None:
    """A prune drops old nodes on the other hosts as well, and what they stood for stays stale."""
    one, other = host("one"), host("other")
    since = other.trie.seq()
    one.tell("a")
    settled(one, other)
    one.tell("b")
    settled(one, other)
    one.hosts.tell(one.trie, one.message(kind="prune"), (), 1)
    settled(one, other)
    assert ([], True) == (other.trie.listing(), other.stale(since, "a"))


def test_a_message_from_a_newer_release(host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read may mean everything."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    monkeypatch.setattr("zoocache.bus.redis.pack", lambda _message: b"\x92\x63\x01")
    one.bus.send(one.message("a"), ())
    settled(other)
    assert other.stale(since, "anything")


def test_more_than_the_outbox_holds(host: MakeHost) -> None:
    """A host that cannot send for long loses no invalidation: the others take all for stale."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    ends = [one.tell(f"t:{number}") for number in range(200)]
    assert one.words[H_OUT_LOST]
    assert not any(one.hosts.is_sent(one.trie, end) for end in ends)
    settled(one, other)
    assert all(one.hosts.is_sent(one.trie, end) for end in ends)
    assert [True] * 3 == [other.stale(since, tag) for tag in ("t:0", "t:199", "u")]


def test_too_large_a_message(host: MakeHost) -> None:
    """An invalidation of more tags than the outbox has room for crosses as a clear, and what waits there stays."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    one.tell("waits")
    one.tell(*(f"tag:{'x' * 100}:{number}" for number in range(100)))
    assert [0, 2] == [one.words[H_OUT_LOST], len(one.trie.segment.outbox.waiting(1 << 20))]
    settled(one, other)
    assert other.stale(since, "y")


def test_the_server_is_away_for_a_while(host: MakeHost, servers: Servers) -> None:
    """What could not be sent is sent later, and the caller never noticed."""
    server = servers.start()
    one, other = host("one", server.url), host("other", server.url)
    settled(one, other)
    since = other.trie.seq()
    server.kill()
    end = one.tell("a")
    assert not one.drain()
    assert not one.hosts.is_sent(one.trie, end)
    server.start()
    other.link.breaker.succeeded()
    one.link.breaker.succeeded()
    settled(one, other)
    assert one.hosts.is_sent(one.trie, end)
    assert other.stale(since, "a")


# Redis storage: told by the caller.


def test_callers_send_by_themselves(host: MakeHost) -> None:
    """Where entries lie in the server it has the message before the caller returns, and the outbox is empty."""
    one, other = host("one", through=True), host("other", through=True)
    settled(one, other)
    since = other.trie.seq()
    end = one.send("a")
    assert (True, True, False) == (
        one.hosts.is_sent(one.trie, end), one.trie.segment.outbox.is_empty(), one.hosts.takes_nothing(one.trie),
    )  # fmt: skip
    settled(other)
    assert other.stale(since, "a")


def test_what_the_server_does_not_know(host: MakeHost, servers: Servers) -> None:
    """As long as something is unsent the host takes nothing from the server; a stopped caller does not prolong that."""
    server = servers.start()
    one = host("one", server.url, through=True)
    settled(one)
    stopped = one.begin("stopped")
    server.kill()
    end = one.send("a")
    assert (True, False) == (one.hosts.takes_nothing(one.trie), one.hosts.is_sent(one.trie, end))
    assert one.stale(one.trie.seq() - 1, "a")
    assert not one.drain()
    server.start()
    one.link.breaker.succeeded()
    assert one.drain()
    assert (False, 1) == (one.hosts.takes_nothing(one.trie), one.payloads())
    one.finish(stopped, "stopped", sent=one.bus.now())
    assert one.trie.segment.outbox.is_empty()


def test_who_has_no_entries_there_takes_what_it_wants(host: MakeHost, servers: Servers) -> None:
    """Without Redis storage an unsent message forbids nothing."""
    server = servers.start()
    one = host("one", server.url)
    server.kill()
    one.tell("a")
    assert not one.hosts.takes_nothing(one.trie)


def test_a_caller_that_gave_up(host: MakeHost) -> None:
    """What a caller began and abandoned is done and sent by the listener."""
    one, other = host("one", through=True), host("other", through=True)
    settled(one, other)
    moments = one.trie.seq(), other.trie.seq()
    one.hosts.abandon(one.trie, one.begin("a"))
    settled(one, other)
    assert [True, True] == [each.stale(since, "a") for each, since in zip((one, other), moments, strict=True)]


def test_a_caller_that_stands_still(host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the living began is theirs, until it is overdue; then it is sent, and the late end of it harms nothing."""
    one, other = host("one", through=True), host("other", through=True)
    settled(one, other)
    since = other.trie.seq()
    place = one.begin("a")
    settled(one, other)
    assert (False, 1) == (other.stale(since, "a"), one.payloads())
    monkeypatch.setattr(sending, "OVERDUE_MS", -1)
    settled(one, other)
    assert (True, 0) == (other.stale(since, "a"), one.payloads())
    one.finish(place, "a", sent=None)
    assert not one.hosts.takes_nothing(one.trie)
    assert [] == one.faults()


def test_what_was_lost_while_it_was_under_way(host: MakeHost) -> None:
    """A caller whose record was lost ends as well; until the clear is sent the server does not know."""
    one = host("one", through=True)
    settled(one)
    place = one.begin("a")
    one.trie.segment.write(one.trie.segment.outbox.lose)
    end = one.finish(place, "a", sent=None)
    assert (True, False) == (one.hosts.takes_nothing(one.trie), one.hosts.is_sent(one.trie, end))
    settled(one)
    assert (False, True) == (one.hosts.takes_nothing(one.trie), one.hosts.is_sent(one.trie, end))


# Hearing.


def test_the_first_contact(host: MakeHost) -> None:
    """Who never heard knows nothing of what it has missed: all that was live is stale, and from there on it hears."""
    one, other = host("one"), host("other")
    settled(one)
    one.tell("a")
    one.drain()
    since = other.trie.seq()
    assert not other.hosts.has_caught_up(other.trie)
    other.catch_up()
    assert other.hosts.has_caught_up(other.trie)
    assert other.stale(since, "anything")
    since = other.trie.seq()
    other.catch_up()
    assert not other.stale(since, "anything")


def test_how_far_behind(host: MakeHost) -> None:
    """A host knows when it last had everything; one that does not listen is never behind."""
    one, deaf = host("one"), host("deaf", through=True, hears=False)
    assert 10_000 < one.hosts.lag_ms(one.trie, 10_001)
    one.catch_up()
    assert 60_000 > one.hosts.lag_ms(one.trie, clock.up_ms())
    assert 0 == one.hosts.lag_ms(one.trie, one.words[H_BEAT_MS] - 5)
    assert (0, True) == (deaf.hosts.lag_ms(deaf.trie, 10**9), deaf.hosts.has_caught_up(deaf.trie))


def test_a_beat_only_with_an_answer(host: MakeHost, servers: Servers) -> None:
    """Who cannot ask the server has not caught up, and its beat stands still."""
    server = servers.start()
    one = host("one", server.url)
    one.catch_up()
    beat_ms = one.words[H_BEAT_MS]
    server.kill()
    with pytest.raises(ServerDown):
        one.hosts.catch_up(one.trie, clock.Now(1, beat_ms + 99, 0))
    assert beat_ms == one.words[H_BEAT_MS]


def test_a_stamp_from_the_future(host: MakeHost) -> None:
    """A number above what the host has heard is noted, once, and forgotten when all is heard."""
    one = host("one", through=True)
    one.catch_up()
    one.hosts.behind(one.trie, 7)
    one.hosts.behind(one.trie, 5)
    assert 7 == one.words[H_BUS_WANT]
    one.catch_up()
    assert 0 == one.words[H_BUS_WANT]
    one.hosts.behind(one.trie, 0)
    assert 0 == one.words[H_BUS_WANT]


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 0, 2, 0)])
def test_lost_repeated_reordered(host: MakeHost, lost: set[int], order: tuple[int, ...]) -> None:
    """Whatever the channel does to three messages, all are done once the host has looked."""
    one, other = host("one"), host("other")
    other.listen()
    since = other.trie.seq()
    for tag in "abc":
        one.tell(tag)
        one.drain()
    assert other._ear is not None
    heard = []
    while len(heard) < 3:
        heard += other._ear.hear(DEADLINE_S)
    for each in [number for number in order if number not in lost]:
        other.hosts.hear(other.trie, [heard[each]], clock.now())
    if 2 not in lost:
        assert [True] * 3 == [other.stale(since, tag) for tag in "abc"]
    settled(one, other)
    assert [True] * 3 == [other.stale(since, tag) for tag in "abc"]


def test_forged_messages_are_hints(host: MakeHost) -> None:
    """A message that does not follow the last one makes the host look, and does nothing by itself."""
    one = host("one")
    one.listen()
    known = one.bus.now()
    since = one.trie.seq()
    for n in (0, known.n, known.n + 1, known.n + 2, 2**52):
        forged = b"%016x %d " % (known.epoch, n) + os.urandom(16) + pack(one.message("a", origin=0))
        one.link.command("PUBLISH", one.bus._names.channel, forged)
        assert 1 == len(one.hear())
    assert not one.stale(since, "a")
    assert (5, 0) == (one.words[H_GAPS], one.words[H_FLOORED])


def test_a_trimmed_stream(host: MakeHost) -> None:
    """Who was away for too long takes all for stale, and the server's entries for what they are."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    for _ in range(3):
        one.tell("a")
        one.drain()
    one.link.command("XTRIM", one.bus._names.stream, "MAXLEN", 1)
    settled(other)
    assert (True, 1) == (other.stale(since, "anything"), other.words[H_FLOORED])
    assert b"0" == one.link.command("HGET", one.bus._names.numbers, "floor")


def test_a_server_that_lost_its_memory(host: MakeHost) -> None:
    """Another epoch: everything is stale, once."""
    one, other = host("one"), host("other")
    settled(one, other)
    moments = one.trie.seq(), other.trie.seq()
    one.link.command("DEL", one.bus._names.numbers)
    settled(one, other)
    assert [True, True] == [each.stale(since, "x") for each, since in zip((one, other), moments, strict=True)]
    settled(one, other)
    assert [1, 1] == [each.words[H_FLOORED] for each in (one, other)]


@pytest.mark.parametrize("later", [0, 3])
def test_a_failover_that_lost_the_latest(host: MakeHost, later: int) -> None:
    """A server that has forgotten what hosts know overtakes everything, for all of them, and then it is settled."""
    one, other = host("one"), host("other")
    settled(one, other)
    names = one.bus._names
    before = one.bus.now()
    one.tell("lost")
    settled(one, other)
    known = one.bus.now()
    one.link.command("HSET", names.numbers, "n", before.n, "mark", before.mark)
    one.link.command("DEL", names.stream)
    third = host("third")
    third.catch_up()
    for _ in range(later):
        third.tell("another")
        third.drain()
    moments = [each.trie.seq() for each in (one, other, third)]
    settled(one, other, third)
    assert [True] * 3 == [each.stale(since, "x") for each, since in zip((one, other, third), moments, strict=True)]
    floor = int(bytes(one.link.command("HGET", names.numbers, "floor")))  # type: ignore[arg-type]
    assert floor > known.n
    settled(one, other, third)
    assert floor == int(bytes(one.link.command("HGET", names.numbers, "floor")))  # type: ignore[arg-type]
    assert [True] * 3 == [each.is_at(each.bus) for each in (one, other, third)]


def test_a_position_that_was_not_written_whole(host: MakeHost) -> None:
    """A host that was killed while it wrote its position takes all for stale, and asks nobody else to."""
    one = host("one")
    settled(one)
    one.words[H_BUS_MARK] = 0
    since = one.trie.seq()
    settled(one)
    assert one.stale(since, "x")
    assert 0 == one.bus.now().n
    assert one.is_at(one.bus)


def test_another_was_faster(host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that hear the same, the slower one leaves the position where the faster has put it."""
    one, other = host("one"), host("other")
    settled(one, other)
    twin = hearing.Hearing(other.bus, None)
    one.tell("a")
    one.drain()
    read = other.bus.since

    def slow(position: Position, own: Position | None) -> object:
        catch = read(position, own)
        one.tell("b")
        one.drain()
        twin.catch_up(other.trie, clock.now())
        return catch

    monkeypatch.setattr(other.bus, "since", slow)
    monkeypatch.setattr(twin, "_bus", one.bus)
    other.catch_up()
    assert other.is_at(one.bus)


# LMDB: a store that must hear what the trie hears, and outlives it.


def save(one: Host, tag: str) -> None:
    """Keep an entry in the host's LMDB."""
    assert one.store is not None
    assert one.store.save(DIGEST, deps.paths(tag), one.store.stamp(), b"body", FOREVER, clock.now())


def has(one: Host) -> bool:
    """Whether a valid entry is there."""
    assert one.store is not None
    return one.store.load(DIGEST, clock.now()) is not None


def busy(*_args: object) -> None:
    """What LMDB says where a process was stopped in it."""
    raise Busy("somebody stopped in it")


def test_lmdb_hears(host: MakeHost, tmp_path: Path) -> None:
    """What another host invalidates is dead in this one's LMDB too, and nothing else is."""
    one, other = host("one"), host("other", store=tmp_path)
    settled(one, other)
    save(other, "a:b")
    one.tell("c")
    settled(one, other)
    assert has(other)
    one.tell("a")
    settled(one, other)
    assert not has(other)


def test_lmdb_hears_a_clear(host: MakeHost, tmp_path: Path) -> None:
    """A clear on another host empties this one's LMDB."""
    one, other = host("one"), host("other", store=tmp_path)
    settled(one, other)
    save(other, "a")
    one.clear()
    settled(one, other)
    assert (False, 0) == (has(other), other.store.count() if other.store else None)


def test_lmdb_after_a_reboot(host: MakeHost, tmp_path: Path) -> None:
    """A host whose segment is gone reads up from where its LMDB stands: what was invalidated meanwhile is dead, what
    was not lives on."""
    one, other = host("one"), host("other", store=tmp_path)
    settled(one, other)
    save(other, "a")
    other.leave()
    one.tell("b")
    one.drain()
    again = host("again", store=tmp_path)
    assert not again.hosts.has_caught_up(again.trie)
    settled(again)
    assert has(again)
    one.tell("a")
    one.drain()
    again.leave()
    last = host("last", store=tmp_path)
    settled(last)
    assert not has(last)


def test_lmdb_that_was_away_for_too_long(host: MakeHost, tmp_path: Path) -> None:
    """Where the stream does not reach back to where LMDB stands, all of it is dead."""
    one, other = host("one"), host("other", store=tmp_path)
    settled(one, other)
    save(other, "a")
    other.leave()
    one.tell("b")
    one.tell("c")
    one.drain()
    one.link.command("XTRIM", one.bus._names.stream, "MAXLEN", 0)
    again = host("again", store=tmp_path)
    settled(again)
    assert not has(again)


def test_lmdb_that_never_heard(host: MakeHost, tmp_path: Path) -> None:
    """What lay in an LMDB before it had a bus may be stale."""
    one = host("one", store=tmp_path)
    save(one, "a")
    settled(one)
    assert not has(one)


def test_own_messages_leave_lmdb_alone(host: MakeHost, tmp_path: Path) -> None:
    """An entry that was filled after its own host's invalidation lives on, whenever that comes back to it."""
    one = host("one", store=tmp_path)
    settled(one)
    one.tell("a")
    save(one, "a")
    settled(one)
    assert has(one)


@pytest.mark.parametrize("said", ["clear", "tell"])
def test_own_messages_leave_lmdb_alone_after_a_reboot(said: str, host: MakeHost, tmp_path: Path) -> None:
    """What a host itself overtook before its segment was gone is done in its LMDB, and is not done again: what was
    filled since lives on."""
    one = host("one", store=tmp_path)
    settled(one)
    one.clear() if said == "clear" else one.tell("a")
    save(one, "a")
    assert one.drain()
    one.leave()
    again = host("again", store=tmp_path)
    settled(again)
    assert has(again)


def test_what_others_said_is_not_taken_for_ones_own_after_a_reboot(host: MakeHost, tmp_path: Path) -> None:
    """Among what was said meanwhile only the host's own is passed over, and only up to the first catch-up."""
    one, other = host("one", store=tmp_path), host("other")
    settled(one, other)
    one.tell("a")
    save(one, "a")
    assert one.drain()
    other.tell("a")
    assert other.drain()
    one.leave()
    again = host("again", store=tmp_path)
    settled(again)
    assert not has(again)


def test_who_stays_on_a_segment_that_is_gone_is_heard(host: MakeHost, tmp_path: Path) -> None:
    """What is said under an earlier segment after the next one has caught up counts as another host's there."""
    one = host("one", store=tmp_path)
    settled(one)
    again = host("again", store=tmp_path)
    settled(again)
    since = again.trie.seq()
    save(again, "a")
    one.hosts.tell(one.trie, one.message("a"), [target_of("a")], 1)  # its store, it believes, is another
    assert one.drain()
    settled(again)
    assert (True, False) == (again.stale(since, "a"), has(again))


def test_lmdb_that_cannot_be_written(host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as LMDB takes nothing the trie goes on alone; once it does, what it missed is done to both again."""
    one, other = host("one"), host("other", store=tmp_path)
    settled(one, other)
    save(other, "a")
    store = other.store
    assert store is not None
    since = other.trie.seq()
    one.tell("a")
    one.drain()
    apply = store.apply

    monkeypatch.setattr(store, "apply", busy)
    with pytest.raises(Busy):
        other.catch_up()
    assert (True, True) == (other.stale(since, "a"), has(other))
    since = other.trie.seq()
    monkeypatch.setattr(store, "apply", apply)
    settled(other)
    assert (True, False) == (other.stale(since, "a"), has(other))


def test_two_that_hear_for_one_lmdb(host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one process of a host could not tell LMDB, another one that hears in passing does not note that it had."""
    other, one, twin = host("other"), host("one", store=tmp_path), host("one", store=tmp_path)
    settled(other, one, twin, one)
    save(one, "a")
    other.tell("a")
    assert other.drain()

    with monkeypatch.context() as patch:
        patch.setattr(twin.store, "apply", busy)
        with pytest.raises(Busy):
            twin.catch_up()
    settled(one)
    assert not has(one)


def test_lmdb_that_cannot_be_read(host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nobody can tell where LMDB stands it is left there, and the trie goes on alone."""
    one, other = host("one"), host("other", store=tmp_path)
    settled(one, other)
    save(other, "a")
    one.tell("a")
    assert one.drain()
    again = host("again", store=tmp_path)
    since = again.trie.seq()

    def unreadable() -> None:
        raise StorageError("it cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(again.store, "position", unreadable)
        for _ in range(2):
            with pytest.raises(StorageError):
                again.catch_up()
    assert (True, False) == (again.stale(since, "a"), again.hosts.has_caught_up(again.trie))
    settled(again)
    assert (False, True) == (has(again), again.hosts.has_caught_up(again.trie))


# Kills.


def killed(forks: Forks, point: str, one: Host, work: Callable[[Host], object]) -> None:
    """A child of a host that is killed at a point."""

    def armed() -> None:
        one.trie.segment.after_fork()
        one.trie.segment.claim_slot(1)
        one.hosts.after_fork()
        one.link.after_fork()
        if one.store is not None:
            one.store.after_fork()
        points.ARMED = points._parse(f"{point}=kill")
        work(one)

    assert -signal.SIGKILL == forks.fork(armed).wait(), "the child did not get to the point"


@pytest.mark.parametrize("point", ["outbox.appended", "trie.changed", "trie.committed", "lock.unlocked"])
@pytest.mark.parametrize("through", [False, True])
def test_a_caller_killed_in_the_middle(point: str, through: bool, host: MakeHost, forks: Forks) -> None:
    """Whoever is killed after the record stands: both hosts do what it says, or neither has anything of it."""
    one, other = host("one", through=through), host("other", through=through)
    settled(one, other)
    moments = one.trie.seq(), other.trie.seq()
    killed(forks, point, one, (lambda h: h.send("a")) if through else (lambda h: h.tell("a")))
    settled(one, other)
    assert [True, True] == [each.stale(since, "a") for each, since in zip((one, other), moments, strict=True)]
    assert one.trie.segment.outbox.is_empty()


@pytest.mark.parametrize("through", [False, True])
def test_a_caller_killed_before_the_record_stands(through: bool, host: MakeHost, forks: Forks) -> None:
    """Then nothing has happened."""
    one, other = host("one", through=through), host("other", through=through)
    settled(one, other)
    moments = one.trie.seq(), other.trie.seq()
    killed(forks, "outbox.written", one, (lambda h: h.send("a")) if through else (lambda h: h.tell("a")))
    settled(one, other)
    assert [False, False] == [each.stale(since, "a") for each, since in zip((one, other), moments, strict=True)]


def test_a_sender_killed_before_it_is_done(host: MakeHost, forks: Forks) -> None:
    """What was sent and not ticked off is sent again; that harms nobody."""
    one, other = host("one"), host("other")
    settled(one, other)
    since = other.trie.seq()
    one.tell("a")
    killed(forks, "hosts.sent", one, Host.drain)
    assert 1 == one.payloads()
    settled(one, other)
    assert (True, 2) == (other.stale(since, "a"), other.bus.now().n)


@pytest.mark.parametrize("point", ["hosts.stored", "hosts.changed", "hosts.heard"])
@pytest.mark.parametrize("kind", ["tags", "clear"])
@pytest.mark.parametrize("first", [False, True])
def test_a_listener_killed_while_it_hears(
    point: str, kind: str, first: bool, host: MakeHost, forks: Forks, tmp_path: Path
) -> None:  # fmt: skip
    """Whenever it is killed, the next one ends what it began, in LMDB and in the trie."""
    one, other = host("one"), host("other", store=tmp_path)
    if not first:
        settled(other)
    save(other, "a")
    since = other.trie.seq()
    if kind == "tags":
        one.tell("a")
    else:
        one.clear()
    assert one.drain()
    killed(forks, point, other, Host.catch_up)
    settled(other)
    assert (True, False) == (other.stale(since, "a"), has(other))
    assert other.is_at(other.bus)
    assert 1 == other.words[H_CAUGHT_UP]


def test_the_next_after_a_kill_knows_where_it_stands(host: MakeHost, forks: Forks) -> None:
    """After a kill in the middle of hearing nothing but the same messages is done once more."""
    one, other = host("one"), host("other")
    settled(one, other)
    one.tell("a")
    one.drain()
    killed(forks, "hosts.changed", other, Host.catch_up)
    since = other.trie.seq()
    settled(other)
    assert (True, False) == (other.stale(since, "a"), other.stale(since, "b"))
    assert UNKNOWN != other.bus.now().mark


def test_a_message_is_small(host: MakeHost) -> None:
    """An invalidation of a tag costs some dozens of bytes on the way."""
    assert 64 > len(pack(Message("tags", ("org:1:user:2",), (), 0, 2**64 - 1, 2**64 - 1)))


def test_a_number_that_was_lost_is_not_given_again(host: MakeHost, prefix: str) -> None:
    """A fill that had its stamp of a master before it was lost is overtaken by what the next one is told, although who
    found the loss out had known fewer numbers than that fill."""
    one = host("one", through=True)
    store = RedisStore(one.link, prefix)
    before = one.bus.now()
    known = one.bus.send(one.message("x"), ())
    for _ in range(3):
        one.bus.send(one.message("y"), ())
    stamp = store.stamp()
    one.link.command("HSET", one.bus._names.numbers, "n", before.n, "mark", before.mark)
    one.link.command("DEL", one.bus._names.stream)
    one.bus.raise_floor(known)
    path = deps.own_path("a")
    while one.bus.send(one.message("a"), [path]).n < stamp.n:
        pass
    assert not store.save(DIGEST, [path], stamp, b"stale", FOREVER, clock.now())
    assert None is store.load(DIGEST, clock.now())
