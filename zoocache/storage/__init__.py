"""What the engine asks of a store that outlives its process: opaque bytes in, opaque bytes out.

A store keeps two things side by side, because only together can they be believed:

    entries   digest (16 bytes) -> body, paths, stamp, key stamp, life
    numbers   path hash (16 bytes) -> n of its last invalidation; beside them the counter n, a floor, a random epoch

This is the store's order (the host's own order, `seq`, is the trie's business and never compared with it). A **stamp**
is the store's epoch and n, taken before a fill began. An entry is valid if and only if

    its stamp's epoch is the store's, and
    no number of one of its paths, and not the floor, is above its stamp's n, and
    the number of its own digest (a key that was deleted or set anew) is not above its key stamp's n,

the numbers being read after the entry or in the same snapshot. A store that loses its numbers loses its epoch too.

Paths and digests share one table of numbers: both are 128-bit hashes, and those of keys are personalised, so that a
key and a tag of the same text are two.

The contract is held by `tests/storage/contract.py`, which every store's test file runs. Every method may be called by
any thread, in any process, before or after a fork (a child opens its own; `after_fork` tells it so), and raises only
`StorageError` (with `StorageIsFull`) and `Busy`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from zoocache.clock import Now


class Stamp(NamedTuple):
    """A moment in a store's order.

    Attributes:
        epoch: the store's random name; another epoch is another life of the store.
        n: how many invalidations the store had seen.
    """

    epoch: int
    n: int


class Life(NamedTuple):
    """How long an entry lives.

    Attributes:
        ttl_ms: milliseconds after which it expires; 0 for never.
        sliding: whether a read counts as a new start of `ttl_ms` (TTI).
        max_age_ms: milliseconds from its creation that no read extends; 0 for no limit.
    """

    ttl_ms: int = 0
    sliding: bool = False
    max_age_ms: int = 0


FOREVER = Life()


class Loaded(NamedTuple):
    """A valid, living entry.

    Attributes:
        body: what was saved.
        life: what was saved.
        left_ms: milliseconds until it expires unless it is touched; None for never.
        age_left_ms: milliseconds until its `max_age_ms` is over; None for no limit.
        n: of its stamp, where the store's order is that of several hosts: tells a host whether it is behind; else 0.
    """

    body: bytes
    life: Life
    left_ms: int | None
    age_left_ms: int | None
    n: int = 0


class Leads(NamedTuple):
    """The caller has the lease of a key, from the moment of this stamp."""

    stamp: Stamp


class Waits(NamedTuple):
    """Another has the lease of a key; the token names it."""

    token: bytes


class Failed(NamedTuple):
    """The flight that the caller waited for raised; the text says what."""

    text: bytes


class Told(NamedTuple):
    """Where, in the server's order, the others were told of a key that is set anew: as `zoocache.bus.Position`."""

    epoch: int
    n: int
    mark: bytes


class Store(Protocol):
    """See the head of this file for the words and the rule of validity."""

    def stamp(self) -> Stamp:
        """The stamp for a fill that begins now."""

    def load(self, digest: bytes, now: Now) -> Loaded | None:
        """The entry, if there is one and it is valid and not expired; waits for nobody."""

    def save(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        *, anew: bool = False, computed: bool = False,
    ) -> bool:  # fmt: skip
        """Keep an entry in place of the one that was there.

        Args:
            digest: of the entry's full key.
            paths: hashes of all prefixes of all its tags.
            stamp: taken before the fill began.
            body: opaque; holds the full key, which the engine compares after loading.
            life: how long it lives, from `now`.
            now: this moment.
            anew: the key itself is set anew: fills of this key that are under way are overtaken, this one is not
                (n grows by one, becomes the digest's number and this entry's key stamp). Otherwise the key stamp
                is `stamp`.
            computed: what the key is set to was computed since the stamp. If the key itself was overtaken meanwhile
                (deleted, or set by somebody else), neither is kept, for nobody knows which of them saw more: the key is
                overtaken once more.

        Returns:
            Whether it was kept; False if an invalidation had overtaken it (the entry that was there stays).

        Raises:
            StorageIsFull: it can never fit; nothing else was lost for it.
        """

    def delete(self, digest: bytes, now: Now) -> bool:
        """Drop the entry and overtake the fills of its key that are under way; whether a valid one was there."""

    def invalidate(self, paths: Sequence[bytes], now: Now) -> int:
        """Raise the numbers of these paths to one new n, all or none; returns n.

        Never lost for lack of room: at the last everything is overtaken, or the store starts over empty under a new
        epoch; then it returns 0.
        """

    def touch(self, digests: Sequence[bytes], now: Now, *, wait: bool = False) -> bool:
        """Start the `ttl_ms` of these entries again, in one write.

        Passed over is what is gone or has expired, what does not slide, and what was touched later already.

        Args:
            digests: of the entries that were read.
            now: this moment.
            wait: whether to wait for another writer.

        Returns:
            Whether it was written; False if another was writing and `wait` was false.
        """

    def clear(self) -> None:
        """Drop all entries and numbers, and overtake every fill under way (n grows, the floor becomes n)."""

    def prune(self, older_than_ms: int, now: Now) -> int:
        """Drop the numbers whose last invalidation is older, raising the floor to the highest that was dropped
        (floor and drop are one transaction); drop expired and dead entries. Returns how many numbers were dropped."""

    def count(self) -> int:
        """How many entries are kept, dead ones that were not yet given back included."""

    def size_bytes(self) -> int:
        """The room that entries and numbers take."""

    def after_fork(self) -> None:
        """Called in a forked child before anything else: leave all that the parent opened alone, open afresh."""

    def close(self) -> None:
        """Write out what is pending and let go; the next call opens again."""


class NearStore(Store, Protocol):
    """A store on this host. To set a key anew takes two writes there, between which another may have the lock."""

    def set_anew(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        *, computed: bool = False,
    ) -> int:  # fmt: skip
        """The first half of `save` with `anew`: overtake the key.

        Returns:
            The key's number, for `save`; 0: nothing is to be kept.

        Raises:
            StorageIsFull: as `save`; nothing was overtaken.
        """

    def save(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        *, anew: bool = False, computed: bool = False, key_n: int = 0,
    ) -> bool:  # fmt: skip
        """As `Store.save`; `key_n`, of `set_anew`: the second half of it."""


class FarStore(Store, Protocol):
    """A store on another machine, which several hosts share: to ask it means to wait.

    Every method raises `ServerDown` (a StorageError) where the store is out of reach, and `ServerRefused` where it does
    not want this user.
    """

    def later(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """The twin of a method, for tasks."""

    def compare_with(self, known: Callable[[], tuple[int, int, bytes] | None]) -> None:
        """From now on have `stamp`, `load` and `claim` raise ServerDown if the server has lost what is known.

        Args:
            known: tells the latest that this host knows of the server's order (epoch, n, mark), or None.
        """

    def save_and_tell(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        message: bytes, known: tuple[int, int, bytes] | None, otherwise: bytes, *, computed: bool = False,
    ) -> Told | None:  # fmt: skip
        """As `Store.save`, anew, and tell the other hosts, in one step.

        Args:
            digest, paths, stamp, body, life, now, computed: as there.
            message: what they are told.
            known: what this host knows of the server's order (epoch, n, mark). A server that contradicts it has lost
                what it was told: it keeps nothing, overtakes everything, and tells that.
            otherwise: what it tells then.

        Returns:
            Where they were told; None if it was not kept.
        """

    def claim(
        self, digest: bytes, token: bytes, lease_ms: int, followed: bytes | None, now: Now
    ) -> Loaded | Leads | Waits | Failed:
        """In one question: a valid entry; else what the flight `followed` left if it raised; else the lease, if it is
        free or `token`'s already; else whose it is.

        Args:
            digest: of the entry's full key.
            token: 16 bytes that name the caller's flight.
            lease_ms: milliseconds after which the lease is free again unless it is renewed.
            followed: the token of the flight that the caller has waited for, if any.
            now: this moment.
        """

    def renew(self, leases: Sequence[tuple[bytes, bytes]], lease_ms: int) -> list[bool]:
        """Make leases, (digest, token) each, last for `lease_ms` from now; which of them still were the token's."""

    def end(self, digest: bytes, token: bytes, failure: bytes | None) -> None:
        """Give a lease back if it is the token's; `failure` stays for a little while for those who wait for it."""
