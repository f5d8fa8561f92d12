"""What every store must do: a test file of a store subclasses `StoreContract` and says how its store is opened.

    class TestMine(StoreContract):
        @pytest.fixture
        def opened(self, tmp_path):
            yield from opening(lambda: MyStore(tmp_path))

`opened()` opens the same store again, as another process would. Time is made up: a test moves it as it likes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from tests.storage.steps import BOOT, START, after, body, hashed, paths_of, save
from zoocache.clock import Now
from zoocache.storage import FOREVER, Failed, FarStore, Leads, Life, Loaded, Stamp, Store, Waits, redis_steps

Opened = Callable[[], Store]


def opening(open_store: Callable[[], Store]) -> Iterator[Opened]:
    """For a fixture: opens stores, and closes them in the end."""
    stores = []

    def opened() -> Store:
        stores.append(open_store())
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


ONE, TWO, THREE = (bytes([number]) * 16 for number in (1, 2, 3))
"""Tokens of flights."""


def claim(
    store: FarStore, key: str, token: bytes, *, lease_ms: int = 60_000, followed: bytes | None = None, now: Now = START
) -> Loaded | Leads | Waits | Failed:  # fmt: skip
    """A claim of a key."""
    return store.claim(hashed(key), token, lease_ms, followed, now)


def until_it_leads(store: FarStore, key: str, token: bytes) -> Loaded | Leads | Waits | Failed:
    """Claim a key until its lease has run out."""
    until = time.monotonic() + 20
    while isinstance(claimed := claim(store, key, token), Waits):
        assert time.monotonic() < until
        time.sleep(0.005)
    return claimed


class StoreContract:
    """See the head of this file."""

    @pytest.fixture
    def store(self, opened: Opened) -> Store:
        return opened()

    # Keeping.

    def test_what_was_never_saved_is_a_miss(self, store: Store) -> None:
        """A key that nobody saved is not there."""
        assert None is store.load(hashed("k"), START)

    def test_what_was_saved_is_loaded(self, store: Store) -> None:
        """A load gives back body and life as they were saved."""
        assert save(store, "k", "org:1:user:2", body=b"\x00value\xff")
        assert Loaded(b"\x00value\xff", FOREVER, None, None) == store.load(hashed("k"), START)

    @pytest.mark.parametrize("size", [0, 1, 100, 2_000, 5_000, 100_000])
    def test_bodies_of_all_sizes(self, store: Store, size: int) -> None:
        """A body comes back as bytes, whole, whatever its size."""
        value = bytes(index % 251 for index in range(size))
        store.save(hashed("k"), paths_of("t"), store.stamp(), value, FOREVER, START)
        loaded = store.load(hashed("k"), START)
        assert loaded is not None
        assert (bytes, value) == (type(loaded.body), loaded.body)

    @pytest.mark.parametrize("tags", [0, 1, 300])
    def test_any_number_of_tags(self, store: Store, tags: int) -> None:
        """An entry may depend on nothing or on very much, and the last of its tags kills it as the first."""
        assert save(store, "k", *(f"a:{tag}" for tag in range(tags)))
        assert b"k" == body(store, "k")
        store.invalidate([hashed(f"a:{tags - 1}")], START)
        assert (None if tags else b"k") == body(store, "k")

    def test_a_later_save_takes_the_place(self, store: Store) -> None:
        """There is one entry a key: the last one that was saved."""
        save(store, "k", "a", body=b"one")
        save(store, "k", "b", body=b"two")
        assert (b"two", 1) == (body(store, "k"), store.count())
        store.invalidate([hashed("a")], START)
        assert b"two" == body(store, "k")

    def test_keys_are_apart(self, store: Store) -> None:
        """Each key has an entry of its own."""
        for key in "abc":
            save(store, key)
        assert [b"a", b"b", b"c", None] == [body(store, key) for key in "abcd"]

    # Validity.

    @pytest.mark.parametrize(
        ("invalidated", "dead"),
        [
            ("org", True),
            ("org:1", True),
            ("org:1:user", True),
            ("org:1:user:2", True),
            ("org:1:user:2:name", False),
            ("org:1:user:3", False),
            ("org:2", False),
            ("user", False),
        ],
    )
    def test_an_invalidation_kills_what_is_below(self, store: Store, invalidated: str, dead: bool) -> None:
        """An entry is dead exactly if one of its paths was invalidated after its stamp."""
        save(store, "k", "org:1:user:2")
        store.invalidate([hashed(invalidated)], START)
        assert (None if dead else b"k") == body(store, "k")

    def test_an_invalidation_before_the_stamp_is_harmless(self, store: Store) -> None:
        """What was invalidated before a fill began does not touch what it fills in."""
        store.invalidate([hashed("a")], START)
        assert save(store, "k", "a")
        assert b"k" == body(store, "k")

    def test_a_fill_that_was_overtaken_is_not_kept(self, store: Store) -> None:
        """A save whose stamp is older than an invalidation of one of its paths is refused; what was there stays."""
        save(store, "k", "b", body=b"old")
        stamp = store.stamp()
        store.invalidate([hashed("a")], START)
        assert not save(store, "k", "a:1", body=b"new", stamp=stamp)
        assert b"old" == body(store, "k")

    def test_an_overtaken_fill_elsewhere_is_kept(self, store: Store) -> None:
        """An invalidation of something else does not overtake a fill."""
        stamp = store.stamp()
        store.invalidate([hashed("b")], START)
        assert save(store, "k", "a", stamp=stamp)
        assert b"k" == body(store, "k")

    def test_an_entry_dies_by_its_stamp_and_not_by_its_save(self, store: Store) -> None:
        """A fill that was slow, and saved after other invalidations, is as old as its beginning."""
        stamp = store.stamp()
        store.invalidate([hashed("b")], START)
        save(store, "k", "a", stamp=stamp)
        store.invalidate([hashed("a")], START)
        assert None is body(store, "k")

    def test_n_grows_by_one(self, store: Store) -> None:
        """Each invalidation, of however many paths, is one step in the store's order."""
        before = store.stamp()
        assert before.n + 1 == store.invalidate([hashed("a")], START)
        assert before.n + 2 == store.invalidate([hashed("a"), hashed("b"), hashed("c")], START)
        assert Stamp(before.epoch, before.n + 2) == store.stamp()

    def test_several_paths_at_once(self, store: Store) -> None:
        """An invalidation of several paths kills below each of them."""
        for key in "abcd":
            save(store, key, key)
        store.invalidate([hashed("a"), hashed("c")], START)
        assert [None, b"b", None, b"d"] == [body(store, key) for key in "abcd"]

    def test_a_stamp_of_another_life_is_worth_nothing(self, store: Store) -> None:
        """What was stamped by a store of another epoch is not kept."""
        stamp = store.stamp()
        assert not save(store, "k", stamp=stamp._replace(epoch=stamp.epoch ^ 1))
        assert None is body(store, "k")

    def test_a_stamp_of_the_future_is_worth_nothing(self, store: Store) -> None:
        """What claims to have begun after the last invalidation there is, is not kept."""
        stamp = store.stamp()
        assert not save(store, "k", stamp=stamp._replace(n=stamp.n + 1))

    # A key by itself.

    def test_a_key_set_anew_overtakes_its_fills(self, store: Store) -> None:
        """A fill of the key that began before it was set anew is not kept; what was set stays."""
        stamp = store.stamp()
        assert save(store, "k", body=b"set", anew=True)
        assert not save(store, "k", body=b"filled", stamp=stamp)
        assert b"set" == body(store, "k")
        assert store.stamp() == Stamp(stamp.epoch, stamp.n + 1)

    def test_a_key_set_anew_leaves_other_keys_alone(self, store: Store) -> None:
        """Setting one key anew overtakes nothing else."""
        save(store, "l", "a")
        stamp = store.stamp()
        save(store, "k", "a", anew=True)
        assert save(store, "m", "a", stamp=stamp)
        assert [b"k", b"l", b"m"] == [body(store, key) for key in "klm"]

    def test_a_key_set_anew_is_not_overtaken_by_its_own_number(self, store: Store) -> None:
        """Of two that set a key anew with stamps of the same moment, the later one is there."""
        stamp = store.stamp()
        assert save(store, "k", body=b"one", stamp=stamp, anew=True)
        assert save(store, "k", body=b"two", stamp=stamp, anew=True)
        assert b"two" == body(store, "k")

    def test_setting_anew_can_be_overtaken(self, store: Store) -> None:
        """What is set anew depends on its tags from its stamp on: an invalidation in between refuses it."""
        save(store, "k", body=b"old")
        stamp = store.stamp()
        store.invalidate([hashed("a")], START)
        assert not save(store, "k", "a", body=b"new", stamp=stamp, anew=True)
        assert b"old" == body(store, "k")

    def test_what_was_computed_is_overtaken_by_its_key(self, store: Store) -> None:
        """Of a key that was deleted or set while something was computed for it, nothing is there afterwards."""
        stamp = store.stamp()
        assert save(store, "k", body=b"set", anew=True)
        assert not save(store, "k", body=b"computed", stamp=stamp, anew=True, computed=True)
        assert None is body(store, "k")
        assert store.stamp() == Stamp(stamp.epoch, stamp.n + 2)

    def test_what_was_computed_overtakes_its_fills(self, store: Store) -> None:
        """What is computed while nobody touches its key is kept, and no fill that began before that."""
        stamp = store.stamp()
        assert save(store, "k", body=b"computed", stamp=stamp, anew=True, computed=True)
        assert not save(store, "k", body=b"filled", stamp=stamp)
        assert b"computed" == body(store, "k")

    def test_what_was_set_anew_dies_by_its_tags(self, store: Store) -> None:
        """A key stamp does not protect from an invalidation."""
        save(store, "k", "a:1", anew=True)
        store.invalidate([hashed("a")], START)
        assert None is body(store, "k")

    def test_a_fill_after_the_key_was_set_takes_its_place(self, store: Store) -> None:
        """A fill that begins after a key was set anew is kept."""
        save(store, "k", body=b"set", anew=True)
        assert save(store, "k", body=b"filled")
        assert b"filled" == body(store, "k")

    def test_a_deleted_key_is_gone(self, store: Store) -> None:
        """Delete drops the entry, overtakes the fills of its key that are under way, and no later one."""
        save(store, "k", "a")
        stamp = store.stamp()
        assert store.delete(hashed("k"), START)
        assert None is body(store, "k")
        assert not save(store, "k", "a", stamp=stamp)
        assert None is body(store, "k")
        assert save(store, "k", "a")
        assert b"k" == body(store, "k")

    def test_delete_tells_whether_something_was_there(self, store: Store) -> None:
        """Delete is true for a valid living entry, and false for none, a dead or an expired one."""
        save(store, "dead", "a")
        save(store, "expired", "b", life=Life(10))
        save(store, "alive", "b")
        store.invalidate([hashed("a")], START)
        keys = ("none", "dead", "expired", "alive", "alive")
        assert [False, False, False, True, False] == [store.delete(hashed(key), after(10)) for key in keys]

    def test_a_delete_of_nothing_overtakes_too(self, store: Store) -> None:
        """A fill under way is overtaken by a delete though there was no entry yet."""
        stamp = store.stamp()
        store.delete(hashed("k"), START)
        assert not save(store, "k", stamp=stamp)

    # Time.

    @pytest.mark.parametrize(
        ("life", "left_ms", "age_left_ms"),
        [
            (Life(1000), 600, None),
            (Life(1000, True), 600, None),
            (Life(1000, True, 500), 100, 100),
            (Life(0, False, 500), 100, 100),
            (Life(1000, False, 5000), 600, 4600),
            (FOREVER, None, None),
        ],
    )
    def test_what_is_left(self, store: Store, life: Life, left_ms: int | None, age_left_ms: int | None) -> None:
        """A load tells how long an entry still has, until its ttl or its greatest age is over."""
        save(store, "k", life=life)
        assert Loaded(b"k", life, left_ms, age_left_ms) == store.load(hashed("k"), after(400))

    @pytest.mark.parametrize("life", [Life(1000), Life(1000, True), Life(0, False, 1000), Life(5000, True, 1000)])
    def test_an_entry_expires(self, store: Store, life: Life) -> None:
        """An entry is there until its time is over, and not a millisecond longer."""
        save(store, "k", life=life)
        assert [b"k", b"k", None] == [body(store, "k", after(ms)) for ms in (0, 999, 1000)]

    @pytest.mark.parametrize("wall_ms", [-10_000_000, 0, 10_000_000])
    def test_within_a_boot_the_wall_clock_says_nothing(self, store: Store, wall_ms: int) -> None:
        """Whoever sets the wall clock, an entry of this boot lives as long as it was to live."""
        save(store, "k", life=Life(1000, True))
        assert b"k" == body(store, "k", after(999, wall_ms=wall_ms))
        assert None is body(store, "k", after(1000, wall_ms=wall_ms))

    def test_what_lives_for_ever_asks_no_clock(self, store: Store) -> None:
        """Without a limit an entry survives any reboot and any clock."""
        save(store, "k")
        assert b"k" == body(store, "k", after(0, wall_ms=-(10**12), boot=BOOT + 1))

    def test_a_touch_begins_the_ttl_again(self, store: Store) -> None:
        """A sliding entry that was touched lives its ttl from then on."""
        save(store, "k", life=Life(1000, True))
        assert store.touch([hashed("k")], after(900), wait=True)
        assert b"k" == body(store, "k", after(1899))
        assert None is body(store, "k", after(1900))
        assert Loaded(b"k", Life(1000, True), 400, None) == store.load(hashed("k"), after(1500))

    def test_a_touch_without_waiting(self, store: Store) -> None:
        """A touch that need not wait is written at once, and says so."""
        save(store, "k", life=Life(1000, True))
        assert store.touch([hashed("k")], after(900))
        assert b"k" == body(store, "k", after(1500))

    def test_several_touches(self, store: Store) -> None:
        """All entries of a touch begin again, and what is gone among them is passed over."""
        for key in "ab":
            save(store, key, life=Life(1000, True))
        store.touch([hashed("a"), hashed("none"), hashed("b")], after(900), wait=True)
        store.touch([hashed("a")], after(1800), wait=True)
        assert [b"a", None, None] == [body(store, key, after(2000)) for key in ("a", "b", "none")]

    def test_a_touch_wakes_no_dead(self, store: Store) -> None:
        """What has expired stays expired, and what was invalidated stays dead."""
        save(store, "expired", life=Life(1000, True))
        save(store, "dead", "a", life=Life(5000, True))
        store.invalidate([hashed("a")], START)
        store.touch([hashed("expired"), hashed("dead")], after(1000), wait=True)
        assert [None, None] == [body(store, key, after(1001)) for key in ("expired", "dead")]

    def test_a_touch_moves_only_what_slides(self, store: Store) -> None:
        """An entry with a plain ttl ends when it ends."""
        save(store, "k", life=Life(1000))
        store.touch([hashed("k")], after(900), wait=True)
        assert None is body(store, "k", after(1000))

    def test_a_touch_does_not_stretch_the_greatest_age(self, store: Store) -> None:
        """However often it is touched, an entry ends with its max_age."""
        save(store, "k", life=Life(1000, True, 1500))
        for ms in (800, 1400):
            store.touch([hashed("k")], after(ms), wait=True)
        assert b"k" == body(store, "k", after(1499))
        assert None is body(store, "k", after(1500))

    def test_an_earlier_touch_changes_nothing(self, store: Store) -> None:
        """Touches may arrive in any order; the latest counts."""
        save(store, "k", life=Life(1000, True))
        for ms in (900, 300):
            store.touch([hashed("k")], after(ms), wait=True)
        assert b"k" == body(store, "k", after(1800))

    def test_a_touch_ends_with_its_entry(self, store: Store) -> None:
        """An entry that is saved again begins its life at its own save."""
        save(store, "k", life=Life(1000, True))
        store.touch([hashed("k")], after(900), wait=True)
        save(store, "k", life=Life(1000, True), now=after(100))
        assert None is body(store, "k", after(1100))

    # Pruning and clearing.

    def test_prune_leaves_a_floor(self, store: Store) -> None:
        """What was stamped before a number that was dropped is stale for ever; what came after it is not."""
        stamp = store.stamp()
        save(store, "before", "b")
        store.invalidate([hashed("a")], START)
        save(store, "later", "b")
        assert 1 == store.prune(0, after(10))
        assert [None, b"later"] == [body(store, key) for key in ("before", "later")]
        assert not save(store, "k", "a", stamp=stamp)
        assert save(store, "k", "a")

    def test_what_is_dead_stays_dead_after_prune(self, store: Store) -> None:
        """No prune brings an invalidated entry back."""
        save(store, "k", "a")
        store.invalidate([hashed("a")], START)
        store.prune(0, after(10))
        assert None is body(store, "k")

    def test_prune_drops_only_what_is_old(self, store: Store) -> None:
        """A number stays as long as its last invalidation is younger than asked for."""
        save(store, "k", "c")
        store.invalidate([hashed("a"), hashed("b")], START)
        store.invalidate([hashed("b")], after(500))
        assert [0, 1, 0, 1] == [store.prune(1000, after(ms)) for ms in (999, 1000, 1499, 1500)]

    def test_prune_spares_what_began_after_the_old_numbers(self, store: Store) -> None:
        """A floor rises no higher than what was dropped."""
        store.invalidate([hashed("a")], START)
        stamp = store.stamp()
        store.invalidate([hashed("b")], after(500))
        store.prune(1000, after(1000))
        assert save(store, "k", "c", stamp=stamp)
        assert not save(store, "l", "b", stamp=stamp)

    def test_prune_gives_dead_entries_back(self, store: Store) -> None:
        """Entries that are dead or expired, and only these, are dropped by a prune."""
        save(store, "dead", "a")
        save(store, "expired", "b", life=Life(1000))
        save(store, "touched", "b", life=Life(1000, True))
        save(store, "alive", "b")
        store.touch([hashed("touched")], after(900), wait=True)
        store.invalidate([hashed("a")], START)
        store.prune(10**9, after(1000))
        assert 2 == store.count()
        assert [b"touched", b"alive"] == [body(store, key, after(1000)) for key in ("touched", "alive")]

    def test_prune_of_nothing(self, store: Store) -> None:
        """An empty store can be pruned."""
        assert 0 == store.prune(0, START)

    def test_clear_drops_everything(self, store: Store) -> None:
        """After clear nothing is there, fills under way are overtaken, and the store goes on."""
        for key in "abc":
            save(store, key, "t")
        stamp = store.stamp()
        store.clear()
        assert (0, [None] * 3) == (store.count(), [body(store, key) for key in "abc"])
        assert not save(store, "a", "t", stamp=stamp)
        assert store.stamp().n > stamp.n
        assert save(store, "a", "t")
        assert b"a" == body(store, "a")

    # Counting.

    def test_count_and_size(self, store: Store) -> None:
        """A store tells how many entries it keeps, and that they take room."""
        empty = store.size_bytes()
        for index in range(50):
            save(store, f"k{index}", body=bytes(1000), life=Life(1000, True))
        store.touch([hashed("k1"), hashed("k2")], after(10), wait=True)
        assert 50 == store.count()
        assert store.size_bytes() >= empty + 50_000
        store.delete(hashed("k1"), START)
        assert 49 == store.count()

    # Others.

    def test_two_see_each_other(self, opened: Opened) -> None:
        """What one process saves, touches or invalidates, the next one meets."""
        one, two = opened(), opened()
        save(one, "k", "a", life=Life(1000, True))
        assert b"k" == body(two, "k")
        two.touch([hashed("k")], after(900), wait=True)
        assert b"k" == body(one, "k", after(1500))
        stamp = one.stamp()
        two.invalidate([hashed("a")], START)
        assert None is body(one, "k")
        assert not save(one, "k", "a", stamp=stamp)

    def test_what_is_closed_opens_again(self, opened: Opened) -> None:
        """After a close the next call opens, and all is there: entries, touches, what is dead, the order."""
        store = opened()
        save(store, "alive", "a", life=Life(1000, True))
        save(store, "dead", "b")
        store.touch([hashed("alive")], after(900), wait=True)
        store.invalidate([hashed("b")], START)
        stamp = store.stamp()
        store.close()
        for again in (store, opened()):
            assert stamp == again.stamp()
            assert [b"alive", None] == [body(again, key, after(1500)) for key in ("alive", "dead")]

    def test_closing_twice(self, store: Store) -> None:
        """A close may be repeated, and may come before anything was done."""
        store.close()
        store.stamp()
        store.close()
        store.close()
        assert 0 == store.count()


class LocalContract(StoreContract):
    """What a store must do besides that is a host's own, and ages its entries by the host's clocks."""

    @pytest.mark.parametrize(("wall_ms", "expected"), [(-1, None), (0, b"k"), (999, b"k"), (1000, None)])
    def test_after_a_reboot_the_wall_clock_counts(self, store: Store, wall_ms: int, expected: bytes | None) -> None:
        """An entry of another boot is aged by the wall clock, and has expired if that ran backwards."""
        save(store, "k", life=Life(1000))
        assert expected == body(store, "k", after(50, wall_ms=wall_ms, boot=BOOT + 1))

    def test_a_touch_before_a_reboot(self, store: Store) -> None:
        """After a reboot it is the wall clock of the touch that counts."""
        save(store, "k", life=Life(1000, True))
        store.touch([hashed("k")], after(900, wall_ms=5000), wait=True)
        assert b"k" == body(store, "k", after(10, wall_ms=5999, boot=BOOT + 1))
        assert None is body(store, "k", after(10, wall_ms=6000, boot=BOOT + 1))
        assert None is body(store, "k", after(10, wall_ms=4999, boot=BOOT + 1))


class FarContract(StoreContract):
    """What a store must do besides that several hosts share: see `zoocache.storage.FarStore`."""

    @pytest.fixture
    def store(self, opened: Opened) -> FarStore:
        return cast("FarStore", opened())

    def test_a_load_tells_its_stamp(self, store: FarStore) -> None:
        """An entry comes with the n of its stamp, not that of its save."""
        store.invalidate([hashed("a")], START)
        stamp = store.stamp()
        store.invalidate([hashed("b")], START)
        save(store, "k", "c", stamp=stamp)
        assert Loaded(b"k", FOREVER, None, None, stamp.n) == store.load(hashed("k"), START)
        assert 1 <= stamp.n

    def test_a_free_lease_is_taken(self, store: FarStore) -> None:
        """Where there is no entry, the first who claims it leads, and the others learn whom they wait for."""
        expected = [Leads(store.stamp()), Waits(ONE), Waits(ONE)]
        assert expected == [claim(store, "k", token) for token in (ONE, TWO, THREE)]

    def test_a_lease_of_ones_own(self, store: FarStore) -> None:
        """Who leads already, leads; with a new stamp."""
        claim(store, "k", ONE)
        store.invalidate([hashed("a")], START)
        assert Leads(store.stamp()) == claim(store, "k", ONE)

    def test_leases_are_apart(self, store: FarStore) -> None:
        """Each key has a lease of its own."""
        claims = [claim(store, key, token) for key, token in (("k", ONE), ("l", TWO))]
        assert [Leads, Leads] == [type(each) for each in claims]

    def test_a_valid_entry_is_claimed_by_nobody(self, store: FarStore) -> None:
        """Where there is a valid entry, it is what a claim returns, and no lease is taken."""
        save(store, "k", "a", life=Life(1000))
        assert Loaded(b"k", Life(1000), 600, None, store.stamp().n) == claim(store, "k", ONE, now=after(400))
        store.invalidate([hashed("a")], START)
        assert Leads(store.stamp()) == claim(store, "k", TWO)

    def test_an_expired_entry_is_claimed(self, store: FarStore) -> None:
        """What has expired is to be computed again."""
        save(store, "k", life=Life(1000))
        assert isinstance(claim(store, "k", ONE, now=after(1000)), Leads)

    def test_a_lease_ends(self, store: FarStore) -> None:
        """Who ends his flight lets the next one lead."""
        claim(store, "k", ONE)
        store.end(hashed("k"), ONE, None)
        assert isinstance(claim(store, "k", TWO), Leads)

    def test_nobody_ends_another_s_lease(self, store: FarStore) -> None:
        """Who was replaced, and ends late, leaves the lease of his successor alone."""
        claim(store, "k", TWO)
        store.end(hashed("k"), ONE, None)
        store.end(hashed("k"), ONE, b"failed")
        assert Waits(TWO) == claim(store, "k", THREE)

    def test_a_lease_runs_out(self, store: FarStore) -> None:
        """The lease of one who died is free after its time."""
        claim(store, "k", ONE, lease_ms=30)
        assert Leads(store.stamp()) == until_it_leads(store, "k", TWO)

    def test_a_lease_is_renewed(self, store: FarStore) -> None:
        """Renewing gives one's own leases another end, and nobody else's, and tells which of them still are."""
        for key, token in (("a", ONE), ("b", TWO), ("d", ONE)):
            claim(store, key, token, lease_ms=60_000)
        leases = [(hashed(key), ONE) for key in "abcd"]
        assert [True, False, False, True] == store.renew(leases, 30)
        assert [] == store.renew([], 30)
        assert all(isinstance(until_it_leads(store, key, THREE), Leads) for key in "ad")
        assert Waits(TWO) == claim(store, "b", THREE)

    def test_many_leases_are_renewed(self, store: FarStore) -> None:
        """However many they are, each answer belongs to its lease."""
        claim(store, "k700", ONE)
        leases = [(hashed(f"k{index}"), ONE) for index in range(1200)]
        assert [index == 700 for index in range(1200)] == store.renew(leases, 1000)

    def test_a_failure_is_told(self, store: FarStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those who waited for a flight that raised learn what it raised; others compute again."""
        monkeypatch.setattr(redis_steps, "FAILURE_MS", 600_000)  # this process may stand still meanwhile
        claim(store, "k", ONE)
        store.end(hashed("k"), ONE, b"ValueError: \0\xff")
        assert Failed(b"ValueError: \0\xff") == claim(store, "k", TWO, followed=ONE)
        assert Failed(b"ValueError: \0\xff") == claim(store, "k", THREE, followed=ONE)
        assert isinstance(claim(store, "k", TWO, followed=THREE), Leads)

    def test_a_failure_without_a_word(self, store: FarStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also an empty text is a failure."""
        monkeypatch.setattr(redis_steps, "FAILURE_MS", 600_000)
        claim(store, "k", ONE)
        store.end(hashed("k"), ONE, b"")
        assert Failed(b"") == claim(store, "k", TWO, followed=ONE)

    def test_an_entry_counts_more_than_a_failure(self, store: FarStore) -> None:
        """Who waited for a flight that raised, but finds a valid entry, takes that."""
        store.end(hashed("k"), ONE, b"failed")
        save(store, "k")
        assert isinstance(claim(store, "k", TWO, followed=ONE), Loaded)

    def test_one_of_many_leads(self, opened: Opened) -> None:
        """Among hosts that claim one key, exactly one leads."""
        stores = [cast("FarStore", opened()) for _ in range(8)]
        claims = [claim(each, "k", bytes([index]) * 16) for index, each in enumerate(stores)]
        assert [Leads] + [Waits] * 7 == [type(each) for each in claims]

    def test_a_claim_leaves_a_key_s_fills_alone(self, store: FarStore) -> None:
        """What the leader brings is kept, and overtaken, like any other fill."""
        leads = claim(store, "k", ONE)
        assert isinstance(leads, Leads)
        assert save(store, "k", "a", stamp=leads.stamp)
        store.end(hashed("k"), ONE, None)
        assert isinstance(claim(store, "k", TWO), Loaded)
        store.invalidate([hashed("a")], START)
        assert not save(store, "k", "a", stamp=leads.stamp)

    def test_clear_ends_leases(self, store: FarStore) -> None:
        """After a clear, whose fills are overtaken anyway, a key can be computed at once."""
        claim(store, "k", ONE)
        store.clear()
        assert Leads(store.stamp()) == claim(store, "k", TWO)
