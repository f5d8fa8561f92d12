"""zoocache/trie.py: an invalidation reaches all below its tag, in every process, before it returns."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.children import DEADLINE_S, Child, Children
from tests.forks import Forks
from tests.shm.locking import shared_words
from zoocache import clock, deps
from zoocache import trie as trie_room
from zoocache.errors import Busy, InvalidTag
from zoocache.shm.attachment import attach
from zoocache.shm.layout import (
    DEFAULT_SIZE,
    H_COARSENED,
    H_FLOOR,
    H_INSERTS,
    H_INVALIDATIONS,
    H_SEQ,
    LOAD_PERCENT,
    MIN_SIZE,
    N_HIGH,
    N_LOW,
)
from zoocache.shm.segment import Orphaned, Segment
from zoocache.trie import TagNode, Trie, Words, hash_words, target_of, words_of

WALL_MS = 1_700_000_000_000


@pytest.fixture
def make_trie(prefix: str) -> Iterator[Callable[..., Trie]]:
    """Tries on this test's segment, each attached for itself as another process's would be."""
    attached: list[Segment] = []

    def make(size: int | None = MIN_SIZE, lock_timeout_s: float = 20.0) -> Trie:
        attached.append(attach(prefix, size, lock_timeout_s))
        return Trie(attached[-1])

    yield make
    for segment in attached:
        segment.leave()


@pytest.fixture(params=["lock-free", "locked"])
def trie(request: pytest.FixtureRequest, make_trie: Callable[..., Trie], monkeypatch: pytest.MonkeyPatch) -> Trie:
    """A trie, read without locks as on x86-64, and under the lock as elsewhere."""
    if request.param == "locked":
        monkeypatch.setattr(trie_room, "LOCK_FREE", False)
    return make_trie()


def paths(*tags: str) -> tuple[Words, ...]:
    """What an entry with these tags depends on."""
    return tuple(map(words_of, deps.paths_of(tags)))


def invalidate(trie: Trie, *tags: str, wall_ms: int = WALL_MS) -> int:
    """Invalidate."""
    return trie.invalidate([target_of(tag) for tag in tags], wall_ms)


def stale(trie: Trie, since: int, *tags: str) -> bool:
    """Whether a value of these tags filled at `since` is overtaken."""
    return trie.overtaken(paths(*tags), since)


def capacity(trie: Trie) -> int:
    """How many nodes fit in before the table counts as full."""
    return trie.segment.layout.nodes * LOAD_PERCENT // 100


# Invalidation.


def test_an_invalidation_reaches_all_below(trie: Trie) -> None:
    """The tag itself and everything below it is overtaken; what is above, beside or merely begins alike is not."""
    since = trie.seq()
    invalidate(trie, "org:1")
    below = ["org:1", "org:1:user", "org:1:user:7:photo"]
    beside = ["org", "org:2", "org:10", "org:1x", "o", "1", "user:org:1"]
    assert [True] * len(below) == [stale(trie, since, tag) for tag in below]
    assert [False] * len(beside) == [stale(trie, since, tag) for tag in beside]


def test_one_of_several_tags_is_enough(trie: Trie) -> None:
    """A value that depends on several tags is overtaken by any of them."""
    since = trie.seq()
    invalidate(trie, "b")
    assert (True, False) == (stale(trie, since, "a", "b:1", "c"), stale(trie, since, "a", "c"))


def test_what_is_filled_afterwards_is_fresh(trie: Trie) -> None:
    """A fill that begins after the invalidation is not overtaken by it, only by the next one."""
    since = invalidate(trie, "a")
    assert not stale(trie, since, "a:1")
    invalidate(trie, "a")
    assert stale(trie, since, "a:1")


def test_several_tags_change_under_one_number(trie: Trie) -> None:
    """An invalidation of several tags is one moment; a tag named twice is changed once."""
    before = trie.seq()
    new = invalidate(trie, "a", "b:1", "a", "c")
    assert (before + 1, new) == (new, trie.seq())
    assert [new] * 3 == [trie.version(tag) for tag in ("a", "b:1", "c")]
    assert 3 == trie.tables.count()
    assert 1 == trie.words[H_INVALIDATIONS]


def test_no_tags_change_nothing_but_the_moment(trie: Trie) -> None:
    """An empty invalidation leaves every value as it is."""
    since = trie.seq()
    trie.invalidate([], WALL_MS)
    assert not stale(trie, since, "a")


def test_all_see_the_same(trie: Trie, make_trie: Callable[..., Trie]) -> None:
    """What one process invalidates is stale in every other as soon as the call has returned."""
    other = make_trie()
    since = other.seq()
    invalidate(trie, "a")
    assert (True, trie.version("a:b")) == (stale(other, since, "a:b"), other.version("a:b"))


def test_reading_costs_no_room(trie: Trie) -> None:
    """A node exists only once its own tag was invalidated, however many tags were looked at."""
    for number in range(500):
        assert not stale(trie, trie.seq(), f"t:{number}")
        trie.look(paths(f"t:{number}"), 0)
    assert (0, 0) == (trie.tables.count(), trie.words[H_INSERTS])


def test_a_path_of_zeros_is_no_free_slot() -> None:
    """A hash whose first word is zero would look like a free slot; it has another."""
    assert (1, 7) == hash_words(bytes(8) + (7).to_bytes(8, "little"))


def test_targets_are_checked() -> None:
    """A target is made of valid tags only."""
    with pytest.raises(InvalidTag):
        target_of("a::b")


# Sights.


def still_valid(trie: Trie, sight: trie_room.Sight, since: int) -> bool:
    """What a reader does the next time, by the steps of shm/tables.py: the nodes that it knows, then `inserts`."""
    return all(trie.words[index] <= since for index in sight.changed) and trie.words[H_INSERTS] == sight.inserts


def test_a_sight_holds_until_something_moves(trie: Trie) -> None:
    """A sight of known nodes notices their change, and nothing else makes it look again."""
    invalidate(trie, "a")
    invalidate(trie, "x")
    since = trie.seq()
    sight = trie.look(paths("a:b"), since)
    assert sight is not None
    assert still_valid(trie, sight, since)
    invalidate(trie, "x")
    assert still_valid(trie, sight, since)
    invalidate(trie, "a")
    assert not still_valid(trie, sight, since)


@pytest.mark.parametrize("move", ["insert", "prune", "clear"])
def test_a_sight_ends_when_nodes_come_or_go(trie: Trie, move: str) -> None:
    """A new node anywhere, a prune and a clear make every reader look again: what was missing may be there now."""
    invalidate(trie, "a")
    since = trie.seq()
    sight = trie.look(paths("b"), since)
    assert sight is not None
    moves: dict[str, Callable[[], object]] = {
        "insert": lambda: invalidate(trie, "new"),
        "prune": lambda: trie.prune(0, WALL_MS + 1),
        "clear": lambda: trie.clear(WALL_MS),
    }
    moves[move]()
    assert not still_valid(trie, sight, since)


def test_a_sight_taken_during_an_insert_is_not_kept(trie: Trie) -> None:
    """While nodes are being inserted nobody keeps that one is missing."""
    trie.tables.begin_inserts()
    sight = trie.look(paths("a"), trie.seq())
    assert sight is not None
    assert not still_valid(trie, sight, trie.seq())


# Prune and clear.


def test_prune_drops_what_is_old(trie: Trie) -> None:
    """Nodes whose last invalidation is older go, the others stay; how many went is told."""
    invalidate(trie, "old", wall_ms=WALL_MS)
    invalidate(trie, "touched", wall_ms=WALL_MS)
    invalidate(trie, "touched", "new", wall_ms=WALL_MS + 10_000)
    assert 1 == trie.prune(5_000, WALL_MS + 10_000)
    assert ["new", "touched"] == [node.tag for node in trie.listing()]
    assert 0 == trie.prune(5_000, WALL_MS + 10_000)


def test_prune_brings_nothing_back(trie: Trie) -> None:
    """What was invalidated before a prune stays stale, though the node is gone; what came later stays fresh."""
    since = trie.seq()
    invalidate(trie, "a")
    after = trie.seq()
    trie.prune(0, WALL_MS + 1)
    assert 0 == trie.tables.count()
    assert (True, False) == (stale(trie, since, "a"), stale(trie, after, "a"))
    invalidate(trie, "b")
    assert (True, False) == (stale(trie, since, "a"), stale(trie, after, "a"))


def test_prune_keeps_versions_monotonic(trie: Trie) -> None:
    """A tag's version never falls, whatever is pruned."""
    version = invalidate(trie, "a")
    trie.prune(0, WALL_MS + 1)
    assert version == trie.version("a")


def test_a_clock_set_back_does_not_lose_nodes_early(trie: Trie) -> None:
    """Nodes that were stamped by a clock ahead survive a prune whose clock was set back."""
    invalidate(trie, "a", wall_ms=WALL_MS)
    assert 0 == trie.prune(1_000, WALL_MS - 100_000)
    assert 0 == trie.prune(10**15, WALL_MS)
    assert 1 == trie.tables.count()


def test_automatic_prune_is_done_once_an_interval(trie: Trie, make_trie: Callable[..., Trie]) -> None:
    """Of all processes one prunes when it is due, and then none until it is due again."""
    other = make_trie()

    def due(which: Trie, up_ms: int) -> int:
        invalidate(which, f"t:{up_ms}", wall_ms=WALL_MS)
        return which.prune_if_due(5, 1_000, clock.Now(WALL_MS + 10, up_ms, 1))

    assert [1, 0, 0, 3] == [due(trie, 5_000), due(other, 5_500), due(trie, 5_999), due(other, 6_000)]


def test_automatic_prune_waits_for_nobody(trie: Trie, forks: Forks) -> None:
    """While another process writes, an automatic prune is put off."""
    readable, writable = os.pipe()

    def stay() -> None:
        trie.segment.after_fork()
        trie.segment.write(lambda: (os.write(writable, b"!"), time.sleep(1000)))

    invalidate(trie, "a")
    child = forks.fork(stay)
    os.read(readable, 1)
    assert 0 == trie.prune_if_due(5, 1_000, clock.Now(WALL_MS + 10, 5_000, 1))
    child.kill()
    assert 1 == trie.prune_if_due(5, 1_000, clock.Now(WALL_MS + 10, 5_000, 1))
    os.close(readable)
    os.close(writable)


def test_clear_overtakes_everything(trie: Trie) -> None:
    """After a clear all that was filled before is stale and no node is left; what is filled afterwards is fresh."""
    invalidate(trie, "a")
    since = trie.seq()
    new = trie.clear(WALL_MS)
    assert (new, []) == (trie.seq(), trie.listing())
    assert (True, True, False) == (stale(trie, since, "a"), stale(trie, since, "other"), stale(trie, new, "a"))
    assert new == trie.version("never:named")


# Full.


def test_a_full_table_lets_the_oldest_give_way(trie: Trie) -> None:
    """When the table is full the older half goes, raising the floor; nothing that was invalidated comes back, and the
    newest tags keep their nodes.
    """
    many = capacity(trie) + 10
    moments = [(f"t:{number}", trie.seq(), invalidate(trie, f"t:{number}")) for number in range(many)]
    assert trie.words[H_COARSENED] >= many // 3
    assert all(stale(trie, since, tag) for tag, since, _ in moments)
    assert all(trie.version(tag) >= new for tag, _, new in moments)
    newest = [tag for tag, *_ in moments[-many // 3 :]]
    assert {node.tag for node in trie.listing()} >= set(newest)
    assert trie.words[H_FLOOR] < moments[-many // 3][1]
    assert [] == trie.segment.write(trie.faults)


def test_more_tags_than_fit_at_once(trie: Trie) -> None:
    """A single invalidation of more tags than the table has room for overtakes more than was asked, and not less."""
    since = trie.seq()
    tags = [f"t:{number}" for number in range(capacity(trie) * 2)]
    new = invalidate(trie, *tags)
    assert all(stale(trie, since, tag) for tag in tags)
    assert (new, new) == (trie.seq(), trie.version("t:1"))
    assert not stale(trie, new, "t:1")
    assert [] == trie.segment.write(trie.faults)


def test_more_text_than_fits_at_once(trie: Trie) -> None:
    """A few tags with more text than the arena holds are too much as well; the next ones are noted again."""
    since = trie.seq()
    tags = [f"{number}".rjust(200, "t") for number in range(trie.segment.layout.arena // 200 + 1)]
    new = invalidate(trie, *tags)
    assert all(stale(trie, since, tag) for tag in tags)
    assert (new, []) == (trie.words[H_FLOOR], trie.listing())
    assert [] == trie.segment.write(trie.faults)
    invalidate(trie, "new")
    assert ["new"] == [node.tag for node in trie.listing()]


def test_long_tags_fill_the_arena(trie: Trie) -> None:
    """When the texts find no room the table counts as full too."""
    tags = [f"{number:05}" + ":" + "x" * 240 for number in range(trie.segment.layout.arena // 246 + 5)]
    moments = [(tag, trie.seq(), invalidate(trie, tag)) for tag in tags]
    assert trie.words[H_COARSENED] > 0
    assert all(stale(trie, since, tag) for tag, since, _ in moments)
    assert [] == trie.segment.write(trie.faults)


# People.


def test_a_listing_is_in_order(trie: Trie) -> None:
    """All invalidated tags by name, with their number and the wall clock; a key's own node has no text and no line."""
    invalidate(trie, "b:2", wall_ms=WALL_MS)
    invalidate(trie, "a", wall_ms=WALL_MS + 1500)
    trie.invalidate([(5, 5, b"")], WALL_MS + 2000)
    expected = [TagNode("a", 2, WALL_MS / 1000 + 1.5), TagNode("b:2", 1, WALL_MS / 1000)]
    assert expected == trie.listing()


def test_a_version_is_the_highest_on_the_way(trie: Trie) -> None:
    """A tag's version is its own number, an ancestor's, or the floor, whichever is highest."""
    assert 0 == trie.version("a:b")
    invalidate(trie, "a:b")
    invalidate(trie, "a")
    assert (2, 2, 0) == (trie.version("a:b"), trie.version("a"), trie.version("b"))
    with pytest.raises(InvalidTag):
        trie.version("a::b")


def test_a_healthy_trie_has_no_faults(trie: Trie) -> None:
    """`faults` finds nothing wrong with what the trie itself wrote."""
    invalidate(trie, *(f"t:{number}" for number in range(100)))
    trie.prune(0, WALL_MS)
    invalidate(trie, "a")
    assert [] == trie.segment.write(trie.faults)


def test_faults_are_found(trie: Trie) -> None:
    """`faults` notices each thing that could be wrong."""
    invalidate(trie, "a")
    invalidate(trie, "b")
    words = trie.words
    one, two = (trie.tables.find(0, *words_of(deps.own_path(tag))) for tag in ("a", "b"))

    def faults_with(**scribbled: int) -> list[str]:
        places = {"seq": H_SEQ, "floor": H_FLOOR, "inserts": H_INSERTS, "high": one + N_HIGH, "low": one + N_LOW}
        before = {name: words[places[name]] for name in scribbled}
        for name, value in scribbled.items():
            words[places[name]] = value
        found = trie.segment.lock.run(trie.faults)
        for name, value in before.items():
            words[places[name]] = value
        return found

    assert ["a node has changed after seq"] == faults_with(seq=0)
    assert ["the floor is above seq"] == faults_with(floor=4)
    assert ["a node cannot be found", "a node has another's text"] == faults_with(high=words[one + N_HIGH] + 1000)
    assert ["a node has another's text"] == faults_with(low=5)
    assert "a path has two nodes" in faults_with(high=words[two + N_HIGH], low=words[two + N_LOW])
    assert ["an insert was left unfinished (harmless: see shm/tables.py)"] == faults_with(inserts=3)
    assert [] == trie.segment.write(trie.faults)


# Trouble.


def test_an_orphan_is_no_truth(trie: Trie) -> None:
    """On a retired segment nothing is fresh, and every question says so instead of answering nonsense."""
    invalidate(trie, "a")
    since = trie.seq()
    sight = trie.look(paths("a"), since)
    assert sight is not None
    trie.segment.retire()
    assert not still_valid(trie, sight, since)
    assert stale(trie, since, "a")
    assert stale(trie, since, "b")
    for action in (
        lambda: invalidate(trie, "a"),
        lambda: trie.version("a"),
        trie.listing,
        lambda: trie.prune(0, WALL_MS),
        lambda: trie.clear(WALL_MS),
    ):
        with pytest.raises(Orphaned):
            action()


def test_a_retirement_during_a_prune_stands(trie: Trie) -> None:
    """A writer that stores its own floor and `inserts` over a retirement, because it was in the middle of a prune,
    brings nothing back to life.
    """
    invalidate(trie, "a")
    since = trie.seq()
    survivors = list(trie.tables.nodes())
    trie.segment.retire()
    trie.words[H_FLOOR], trie.words[H_INSERTS] = 0, 2  # as read before the retirement
    trie.tables.replace(survivors, 0)
    assert stale(trie, since, "a")
    assert stale(trie, since, "b")


@pytest.fixture
def stopped(prefix: str, children: Children, make_trie: Callable[..., Trie]) -> Child:
    """A process that stands still in the middle of an invalidation, holding the lock."""
    invalidate(make_trie(), "known")
    child = children.call(invalidate_there, prefix, ["known"], points="lock.held=stop")
    child.wait_stopped()
    return child


def invalidate_there(prefix: str, tags: list[str]) -> None:
    """In a child."""
    print(invalidate(Trie(attach(prefix, lock_timeout_s=DEADLINE_S)), *tags))


def test_readers_go_on_while_a_writer_is_stopped(stopped: Child, make_trie: Callable[..., Trie]) -> None:
    """Nobody waits for a stopped writer in order to read; writes end in Busy and change nothing; when it goes on, so
    does everything.
    """
    trie = make_trie(lock_timeout_s=0.1)
    since = trie.seq()
    assert trie.look(paths("known", "other"), since) is not None
    assert (1, False) == (trie.version("known"), stale(trie, since, "other"))
    assert [("known", 1)] == [(node.tag, node.changed) for node in trie.listing()]
    for write in (lambda: invalidate(trie, "other"), lambda: trie.prune(0, WALL_MS), lambda: trie.clear(WALL_MS)):
        with pytest.raises(Busy, match="not robbed"):
            write()
    assert (since, False) == (trie.seq(), stale(trie, since, "other"))
    stopped.resume()
    assert "2\n" == stopped.output()
    assert (True, 3) == (stale(trie, since, "known"), invalidate(trie, "other"))


# Many at once.

WRITERS, READERS, TAGS, INVALIDATIONS = 2, 2, 40, 500
STALE = TAGS
WRITING = TAGS + 1


def write_storm(prefix: str, seed: int, words: memoryview) -> None:
    """In a child: invalidate at random, and note what was promised once the call has returned."""
    trie, chance = Trie(attach(prefix, lock_timeout_s=DEADLINE_S)), random.Random(seed)
    for count in range(INVALIDATIONS):
        tag = chance.randrange(TAGS)
        new = invalidate(trie, f"t:{tag}")
        trie.segment.lock.run(promise, words, tag, new)
        if not count % 7:
            invalidate(trie, *(f"u:{seed}:{count}:{number}" for number in range(60)))  # fills the table up
        if not count % 211:
            trie.prune(0, WALL_MS + 1)
        if not count % 389:
            trie.clear(WALL_MS)
    trie.segment.lock.run(promise, words, WRITING, words[WRITING] - 1)


def promise(words: memoryview, at: int, value: int) -> None:
    """Note under the lock; numbers of tags only grow."""
    words[at] = value if at == WRITING else max(words[at], value)


def read_storm(prefix: str, seed: int, words: memoryview) -> None:
    """In a child: fill and look at random; whatever was promised before a look must be seen by it."""
    trie, chance = Trie(attach(prefix, lock_timeout_s=DEADLINE_S)), random.Random(seed)
    kept: dict[int, tuple[int, int, trie_room.Sight]] = {}
    while words[WRITING]:
        tag = chance.randrange(TAGS)
        way = paths(f"t:{tag}:leaf")
        promised = words[tag]
        if tag in kept:
            since, checked, sight = kept[tag]
            seq = trie.seq()
            if seq == checked or still_valid(trie, sight, since) or trie.look(way, since) is not None:
                kept[tag] = since, seq, sight
                words[STALE] += promised > since
        if trie.version(f"t:{tag}:leaf") < promised:
            words[STALE] += 1
        since = trie.seq()
        if (new_sight := trie.look(way, since)) is not None:
            kept[tag] = since, since, new_sight


def test_a_storm(prefix: str, make_trie: Callable[..., Trie], forks: Forks) -> None:
    """While several processes invalidate, insert beyond the table's room, prune and clear, no reader ever sees a value
    fresh that an invalidation had overtaken before it looked, and no version falls behind what was promised.
    """
    trie = make_trie()
    words = shared_words(TAGS + 2)
    words[WRITING] = WRITERS
    readers = [forks.fork(read_storm, prefix, seed, words) for seed in range(READERS)]
    writers = [forks.fork(write_storm, prefix, seed, words) for seed in range(WRITERS)]
    assert [0] * (WRITERS + READERS) == [child.wait() for child in writers + readers]
    assert (0, []) == (words[STALE], trie.segment.write(trie.faults))
    assert trie.words[H_COARSENED] > 0
    assert all(trie.version(f"t:{tag}") >= words[tag] for tag in range(TAGS))


def test_no_invalidation_is_lost_among_many_writers(prefix: str, make_trie: Callable[..., Trie], forks: Forks) -> None:
    """Each invalidation of each process gets a number of its own."""
    trie = make_trie()

    def work(me: int) -> None:
        mine = Trie(attach(prefix, lock_timeout_s=DEADLINE_S))
        for number in range(150):
            invalidate(mine, f"w:{me}:{number % 10}")

    assert [0] * 3 == [child.wait() for child in [forks.fork(work, me) for me in range(3)]]
    assert (450, 450, 30) == (trie.seq(), trie.words[H_INVALIDATIONS], trie.tables.count())
    assert [] == trie.segment.write(trie.faults)


def test_a_big_segment_holds_many_tags(make_trie: Callable[..., Trie]) -> None:
    """Ten thousand tags in a default segment keep a node each, and all are found."""
    trie = make_trie(DEFAULT_SIZE)
    tags = [f"org:{number % 100}:user:{number}" for number in range(10_000)]
    new = invalidate(trie, *tags)
    assert (10_000, 0) == (trie.tables.count(), trie.words[H_COARSENED])
    assert {new} == {trie.version(tag) for tag in tags}
    assert new == trie.words[H_SEQ]
