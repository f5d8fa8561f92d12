"""Random schedules over what crosses hosts: the real code, segments and server; only time and network are made up.

Four hosts share a server. Three of them keep entries there, one of those without a bus; one does not. Each step, drawn
from a seed, is one of: a write to the "database" and an invalidation (whose caller may be killed on the way), the begin
or the end of a fill, a load from the store, a message that comes (out of order, twice, never), a look at the stream,
what the listener does for the outbox, a network that goes and comes back, a full outbox, a server that trims its
stream, loses its memory, or fails over to a replica that lacks the latest of it.

What must hold: as long as the server forgets nothing, nobody ever loads what an invalidation had overtaken that was
sent when it returned, nor what an invalidation of his own host had overtaken, sent or not. And once everything is sent
and heard, no live object and no entry is stale, whatever happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest

from tests.engine.peopled import Host
from zoocache import clock, deps
from zoocache.bus import Bus, Catch, Heard, Message, Position
from zoocache.bus.redis import RedisBus
from zoocache.engine.hosts import Hosts
from zoocache.errors import ServerDown
from zoocache.server.names import names_of
from zoocache.storage import FOREVER, Stamp
from zoocache.storage.redis import RedisStore

DIGEST = bytes(range(16))
TAG = "org:1"
PATHS = deps.paths(TAG)
STEPS = 60


class Weather:
    """A bus whose network may be down."""

    def __init__(self, bus: RedisBus) -> None:
        self._bus = bus
        self.is_up = True

    def _reached(self) -> Bus:
        if not self.is_up:
            raise ServerDown("the network is down")
        return self._bus  # type: ignore[return-value]

    def send(self, message: Message, paths: Sequence[bytes], known: Position | None = None) -> Position:
        """See `Bus`."""
        return self._reached().send(message, paths, known)

    def now(self) -> Position:
        """See `Bus`."""
        return self._reached().now()

    def since(self, position: Position, own: Position | None = None) -> Catch:
        """See `Bus`."""
        return self._reached().since(position, own)

    def compare(self, known: Position | None) -> Catch:
        """See `Bus`."""
        return self._reached().compare(known)

    def raise_floor(self, known: Position) -> int:
        """See `Bus`."""
        return self._reached().raise_floor(known)


class Player(Host):
    """A host with something live, messages on their way to it, and fills under way."""

    def __init__(self, prefix: str, host_id: str, url: str, through: bool, hears: bool = True) -> None:
        super().__init__(prefix, host_id, url, through=through)
        self.weather = Weather(self.bus)
        self.bus = self.weather  # type: ignore[assignment]
        self.hosts = Hosts(self.weather, None, through, hears)  # type: ignore[arg-type]
        self.far = RedisStore(self.link, prefix) if through else None
        self.live: tuple[int, int] | None = None
        self.returned = 0  # what the last invalidation of this host that returned was about
        self.inbox: list[Heard] = []

    def trusts(self) -> bool:
        """Whether it may take entries from the server."""
        return self.far is not None and self.weather.is_up and not self.hosts.takes_nothing(self.trie)

    def has_live(self) -> int | None:
        """The value that it would hand out without asking anybody."""
        if self.live is None or self.stale(self.live[0], TAG):
            return None
        return self.live[1]


class Play:
    """One world, in which schedules are played one after the other."""

    def __init__(self, prefix: str, url: str) -> None:
        self.players = [Player(prefix, name, url, through, hears) for name, through, hears in
                        (("one", True, True), ("two", True, True), ("three", False, True),
                         ("four", True, False))]  # fmt: skip
        self.link = self.players[0].link
        self.names = names_of(prefix)
        self.reader = RedisBus(self.link, prefix)
        self.database = self.hits = 0
        self.without: tuple[object, ...] = ()
        self.dice = random.Random(0)
        self.fills: list[tuple[Player, int, Stamp | None, int]] = []
        self.begin()

    def begin(self) -> None:
        """A new schedule, in a world that has settled."""
        self.fills = []
        self.returned = self.database
        self.has_forgotten = self.has_trimmed = False
        self.saved: dict[bytes, bytes] = {}
        self.seen = self.reader.now()

    def play(self, seed: int) -> None:
        """One schedule."""
        self.dice = random.Random(seed)
        self.begin()
        for _ in range(STEPS):
            step = self.dice.choices(*zip(*self.steps.items(), strict=True))[0]
            if step in self.without:
                continue
            step(self, self.dice.choice(self.players))
            self.post()
            self.hits += step.__name__ in {"load", "begin_fill"} and any(each.has_live() for each in self.players)
        self.settle()
        self.judge()
        self.rest()

    def post(self) -> None:
        """What was sent is on its way to everybody, or lost."""
        catch = self.reader.since(self.seen)
        self.seen = catch.now
        for each in self.players:
            each.inbox += [heard for heard in catch.heard if self.dice.random() < 0.8]
            del each.inbox[:-20]

    # Steps.

    def write(self, one: Player) -> None:
        """Change the database, and invalidate."""
        self.database += 1
        tags = self.dice.choice(((TAG,), ("org",), (TAG, "else"), ("org",)))
        if not one.hosts.through:
            one.tell(*tags)
            return
        place = one.begin(*tags)
        fate = self.dice.random()
        if fate < 0.1:  # killed before it was sent: nothing was promised
            one.hosts.abandon(one.trie, place)
            return
        sent = one.try_send(*tags)
        if fate < 0.2:  # killed after that
            one.hosts.abandon(one.trie, place)
            return
        one.finish(place, *tags, sent=sent)
        one.returned = self.database
        if sent and all(each.trie.segment.outbox.is_empty() for each in self.players):
            self.returned = self.database

    def begin_fill(self, one: Player) -> None:
        """Note the moments, and read the database."""
        since = one.trie.seq()
        stamp = one.far.stamp() if one.far is not None and one.trusts() else None
        if stamp is not None:
            one.hosts.behind(one.trie, stamp.n)
        self.fills.append((one, since, stamp, self.database))

    def end_fill(self, _one: Player) -> None:
        """Keep what was read, if nothing has overtaken it."""
        if self.fills:
            self.keep(*self.fills.pop(self.dice.randrange(len(self.fills))))

    def keep(self, one: Player, since: int, stamp: Stamp | None, value: int) -> None:
        """The end of a fill."""
        if one.hosts.hears and not one.stale(since, TAG):
            one.live = since, value
        if stamp is not None and one.far is not None and one.trusts():
            one.far.save(DIGEST, PATHS, stamp, b"%d" % value, FOREVER, clock.now())

    def load(self, one: Player) -> None:
        """Take an entry from the server, and hold it live."""
        if one.far is None or not one.trusts():
            return
        since = one.trie.seq()
        loaded = one.far.load(DIGEST, clock.now())
        if loaded is not None:
            least = max(self.returned, one.returned)
            assert self.has_forgotten or int(loaded.body) >= least, "an entry is older than what had returned"
            one.hosts.behind(one.trie, loaded.n)
            if one.hosts.hears:
                one.live = since, int(loaded.body)

    def deliver(self, one: Player) -> None:
        """Some messages come, in any order, perhaps once more later."""
        if one.inbox and one.hosts.hears and one.weather.is_up:
            index = self.dice.randrange(len(one.inbox))
            heard = one.inbox[index : index + self.dice.randrange(1, 4)]
            if self.dice.random() < 0.8:
                del one.inbox[index : index + len(heard)]
            one.hosts.hear(one.trie, heard, clock.now())

    def look(self, one: Player) -> None:
        """The listener asks whether that was all."""
        if one.weather.is_up:
            one.catch_up()

    def drain(self, one: Player) -> None:
        """The listener sends."""
        assert one.drain() == (one.weather.is_up or one.trie.segment.outbox.is_empty())

    def change_weather(self, one: Player) -> None:
        """The network of a host goes, or comes back."""
        one.weather.is_up = not one.weather.is_up

    def lose_outbox(self, one: Player) -> None:
        """There was no room left."""
        one.trie.segment.write(one.trie.segment.outbox.lose)

    def trim(self, _one: Player) -> None:
        """The stream does not reach back so far any more."""
        self.has_trimmed = True
        self.link.command("XTRIM", self.names.stream, "MAXLEN", self.dice.randrange(3))

    def forget(self, _one: Player) -> None:
        """The server starts again, empty, or without its numbers."""
        self.has_forgotten = True
        keys = [self.names.numbers, self.names.stream, self.names.entry(DIGEST)]
        self.link.command("DEL", *keys[: self.dice.randrange(1, 4)])

    def copy(self, _one: Player) -> None:
        """A replica has all up to this moment."""
        keys = (self.names.numbers, self.names.stream, self.names.entry(DIGEST))
        dumps = {key: self.link.command("DUMP", key) for key in keys}
        self.saved = {key: bytes(dump) for key, dump in dumps.items() if dump is not None}  # type: ignore[arg-type]

    def fail_over(self, one: Player) -> None:
        """The replica becomes the server. Where the stream is trimmed too, nobody might ever know: see bus/redis.py."""
        if not self.saved or self.has_trimmed:
            self.copy(one)
            return
        self.has_forgotten = True
        self.link.command("DEL", self.names.numbers, self.names.stream, self.names.entry(DIGEST))
        for key, dump in self.saved.items():
            self.link.command("RESTORE", key, 0, dump)

    steps: ClassVar[dict[Callable[[Play, Player], None], float]] = {
        write: 20, begin_fill: 20, end_fill: 16, load: 15, deliver: 15, look: 4, drain: 5, change_weather: 4,
        lose_outbox: 0.5, trim: 0.5, forget: 0.3, copy: 2, fail_over: 1,
    }  # fmt: skip

    # The end.

    def settle(self) -> None:
        """The network is back, all is sent and heard, and what was under way ends."""
        for each in self.players:
            each.weather.is_up = True
            assert each.drain()
        for each in self.players * 2:  # who finds another history raises the floor for those who looked before
            each.catch_up()
        for each in self.players:
            each.inbox = []
            assert [] == each.faults()
            assert each.is_at(self.reader)
            assert each.trie.segment.outbox.is_empty()
        for fill in self.fills:
            self.keep(*fill)

    def judge(self) -> None:
        """Nothing is stale."""
        for each in self.players:
            assert each.has_live() in {None, self.database}, f"{each.host_id} has something live that is stale"
        far = self.players[0].far
        assert far is not None
        loaded = far.load(DIGEST, clock.now())
        assert loaded is None or self.database == int(loaded.body), "an entry is stale"

    def rest(self) -> None:
        """What is kept from now on stays."""
        for each in self.players:
            self.keep(each, each.trie.seq(), None, self.database)
        for each in self.players:
            each.catch_up()
            assert self.database == each.has_live() or not each.hosts.hears, (
                "where nothing happens something is overtaken"
            )

    def leave(self) -> None:
        """Let go."""
        for each in self.players:
            each.leave()


@pytest.fixture
def world(prefix: str, redis_url: str) -> Iterator[Play]:
    """A world of this test's own."""
    made = Play(prefix, redis_url)
    yield made
    made.leave()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_stale(world: Play, seed: int) -> None:
    """Whatever the schedule is, nothing stale is loaded, and nothing stale is left when all has settled."""
    for number in range(seed * 1000, seed * 1000 + 50):
        try:
            world.play(number)
        except AssertionError as error:  # noqa: PERF203
            raise AssertionError(f"schedule {number}: {error}") from error
    assert 250 < world.hits, "there is hardly ever anything live, so this proves nothing"


def forgets(*_args: Any, **_options: Any) -> None:
    """What a broken part does."""


def test_the_schedules_find_a_host_that_does_not_hear(world: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that moves its position and overtakes nothing is found out."""
    monkeypatch.setattr("zoocache.engine.hearing._change_trie", forgets)
    with pytest.raises(AssertionError, match="stale"):
        play_all(world, *QUAKES)


def test_the_schedules_find_one_that_trusts_the_server_too_soon(world: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes entries while it has something unsent is found out."""
    monkeypatch.setattr(Hosts, "takes_nothing", lambda *_args: False)
    with pytest.raises(AssertionError, match=r"stale|older"):
        play_all(world, *QUAKES, first=190)


def test_the_schedules_find_a_late_stamp(world: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill that takes its stamp at its end is found out."""
    keep = Play.keep

    def late(self: Play, one: Player, since: int, stamp: Stamp | None, value: int) -> None:
        keep(self, one, since, one.far.stamp() if stamp is not None and one.far is not None else None, value)

    monkeypatch.setattr(Play, "keep", late)
    with pytest.raises(AssertionError, match=r"stale|older"):
        play_all(world, *QUAKES)


def test_the_schedules_find_a_server_that_knows_too_little(world: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody raises the floor of a server that lost the latest, stale entries are found."""
    monkeypatch.setattr(Weather, "raise_floor", lambda *_args: 0)
    monkeypatch.setattr("zoocache.engine.hosts.known_of", lambda _trie: None)
    monkeypatch.setattr("zoocache.engine.sending.known_of", lambda _trie: None)
    with pytest.raises(AssertionError, match="stale"):
        play_all(world, first=45)


QUAKES = (Play.lose_outbox, Play.trim, Play.forget, Play.fail_over)
"""After these everything is overtaken, which hides many a fault."""


def play_all(world: Play, *without: object, first: int = 0) -> None:
    """Many schedules; what is broken breaks in one of them, and soon if one is known to find it."""
    world.without = without
    for seed in range(first, 600):
        world.play(seed)
