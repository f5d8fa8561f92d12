"""The steps of the Redis store: each method of a store as a generator, which yields what it asks the server.

So one text serves threads and tasks: `zoocache.storage.redis` drives it, blocking or awaiting. The answer is sent into
the generator, an error thrown there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from zoocache.clock import Now
from zoocache.errors import ServerDown, ServerRefused, StorageError, StorageIsFull
from zoocache.server.names import Names
from zoocache.server.resp import Argument, Reply
from zoocache.server.scripts import LARGEST_N, Script
from zoocache.storage import Failed, Leads, Life, Loaded, Stamp, Told, Waits
from zoocache.storage import redis_record as records
from zoocache.storage import redis_scripts as scripts

FAILURE_MS = 2000
"""So long others can learn how a flight failed."""

LARGEST = 8
"""A value may take up to such a part of the server's memory: one that took more would drive out all others."""

MOST_BYTES = 1 << 29
"""The largest value that Redis takes, whatever its memory."""

_SMALL_BYTES = 1 << 16
"""What is smaller fits into the memory of any server."""

_LOOK_S = 10.0
"""So long a look at the server's memory is believed."""

MOST_NUMBERS = 1 << 20
"""More numbers than these, about 100 MB, are too many: the older half of them gives way to a floor."""

_NUMBERS_OFTEN = 64
"""One in so many saves of a process looks for that, and drops those of one page."""

_PAGE = 1000
_NUMBER_BYTES = 100  # of memory, about


class Ask(NamedTuple):
    """A question to the server.

    Attributes:
        script: to run; None: the arguments are a command.
        keys: of the script.
        arguments: of the script, or the command.
    """

    script: Script | None
    keys: Sequence[bytes]
    arguments: Sequence[Argument]


T = TypeVar("T")
Steps = Generator[Ask, Reply, T]


class StoreSteps:
    """See the head of this file, and `zoocache.storage.FarStore` for what each method does.

    Args:
        shown: what messages call the store.
        names: of its keys.
        max_entries: how many entries all hosts together keep; None for no limit.
        host_time: whether `now` is the clock, and not the server's.
        most_numbers: how many numbers there may be before old ones are dropped.

    Attributes:
        known: see `FarStore.compare_with`.
    """

    def __init__(
        self, shown: str, names: Names, max_entries: int | None, host_time: bool, most_numbers: int = MOST_NUMBERS
    ) -> None:  # fmt: skip
        self._shown = shown
        self._names = names
        self._limit = "" if max_entries is None else str(max_entries)
        self._host_time = host_time
        self._common_keys = (names.numbers, names.stream, names.used)
        self._entries = names.entry(b"")
        self._memory_bytes = 0
        self._look_again_s = 0.0
        self._most_numbers = most_numbers
        self.known: Callable[[], tuple[int, int, bytes] | None] = lambda: None
        self._saves = 0
        self._hand = b"0"  # where the next look for too many numbers begins

    def _ask(
        self, script: Script, now: Now | None, keys: Sequence[bytes] = (), *arguments: Argument, known: bytes = b""
    ) -> Ask:  # fmt: skip
        moment = now.up_ms if now is not None and self._host_time else ""
        fresh = os.urandom(8).hex().encode() + known
        return Ask(script, (*self._common_keys, *keys), (fresh, moment, self._limit, *arguments))

    def _known(self) -> bytes:
        found = self.known()
        return b"" if found is None else b"%016x%016d%b" % (found[0], min(found[1], LARGEST_N), found[2])

    # Reading.

    def stamp(self) -> Steps[Stamp]:
        """See `Store.stamp`."""
        epoch, n = _list((yield self._ask(scripts.STAMP, None, known=self._known())))
        return Stamp(int(epoch, 16), n)

    def load(self, digest: bytes, now: Now) -> Steps[Loaded | None]:
        """See `Store.load`."""
        return _loaded((yield self._ask(scripts.LOAD, now, (self._names.entry(digest),), digest, known=self._known())))

    def claim(
        self, digest: bytes, token: bytes, lease_ms: int, followed: bytes | None, now: Now
    ) -> Steps[Loaded | Leads | Waits | Failed]:
        """See `FarStore.claim`."""
        names = self._names
        keys = [names.entry(digest), names.lease(digest)]
        if followed is not None:
            keys.append(names.failure(followed))
        word, *rest = _list((yield self._ask(scripts.CLAIM, now, keys, digest, token, lease_ms, known=self._known())))
        if word == b"leads":
            return Leads(Stamp(int(rest[0], 16), rest[1]))
        if word == b"failed":
            return Failed(rest[0])
        loaded = _loaded(rest[0]) if word == b"loaded" else None
        return Waits(rest[0]) if loaded is None else loaded

    def renew(self, leases: Sequence[tuple[bytes, bytes]], lease_ms: int) -> Steps[list[bool]]:
        """See `FarStore.renew`."""
        renewed: list[bool] = []
        for page in _pages(leases):
            keys = [self._names.lease(digest) for digest, _ in page]
            tokens = [token for _, token in page]
            reply = yield self._ask(scripts.RENEW, None, keys, lease_ms, *tokens)
            renewed += [each == 1 for each in _list(reply)]
        return renewed

    def end(self, digest: bytes, token: bytes, failure: bytes | None) -> Steps[None]:
        """See `FarStore.end`."""
        keys = (self._names.lease(digest), self._names.failure(token))
        yield self._ask(scripts.END, None, keys, token, b"" if failure is None else b"+" + failure, FAILURE_MS)

    # Entries.

    def save(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        *, anew: bool = False, computed: bool = False,
    ) -> Steps[bool]:  # fmt: skip
        """See `Store.save`."""
        mark = os.urandom(8) if anew else b""
        n = yield from self._save(digest, paths, stamp, body, life, now, mark, computed)
        return n is not None

    def save_and_tell(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        message: bytes, known: tuple[int, int, bytes] | None, otherwise: bytes, *, computed: bool = False,
    ) -> Steps[Told | None]:  # fmt: skip
        """See `FarStore.save_and_tell`."""
        mark = os.urandom(8)
        epoch, known_n, known_mark = known or (0, 0, b"")
        said = (message, f"{epoch:016x}" if known else "", known_n, known_mark, otherwise)
        n = yield from self._save(digest, paths, stamp, body, life, now, mark, computed, *said)
        return None if n is None else Told(stamp.epoch, n, mark)

    def _save(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now, mark: bytes,
        computed: bool, *said: Argument,
    ) -> Steps[int | None]:  # fmt: skip
        """The n that it was kept with; None if it was not kept."""
        yield from self._refuse_too_large(paths, body)
        keys = (self._names.entry(digest), self._names.channel)
        reply = yield self._ask(
            scripts.SAVE, now, keys, digest, f"{stamp.epoch:016x}", stamp.n, mark, records.pack_life(life),
            records.pack_rest(paths, body, life), self._entries, "1" if computed or not mark else "", *said,
        )  # fmt: skip
        self._saves += 1
        if self._saves % _NUMBERS_OFTEN == 0:
            yield from self._give_numbers_back(now)
        return None if reply is None else _whole(reply)

    def _give_numbers_back(self, now: Now) -> Steps[None]:
        """Drop old numbers among the next ones, if there are too many of them."""
        what = (self._hand, "", self._most_numbers)
        self._hand, _ = _list((yield self._ask(scripts.PRUNE_NUMBERS, now, (), *what)))

    def _refuse_too_large(self, paths: Sequence[bytes], body: bytes) -> Steps[None]:
        size = records.HEAD_SIZE + records.PATH_SIZE * len(paths) + len(body)
        if size < _SMALL_BYTES:
            return
        most = min(MOST_BYTES, (yield from self._memory()) // LARGEST)
        if size > most or len(paths) > records.MOST_PATHS:
            raise StorageIsFull(
                f"{self._shown}: a value of {len(body)} bytes does not fit: with its tags it takes {size}, and {most} "
                "is the most. Cache smaller parts, or raise the server's maxmemory"
            )

    def _memory(self) -> Steps[int]:
        """How much memory the server may use, in bytes."""
        now_s = time.monotonic()
        if now_s >= self._look_again_s:
            self._memory_bytes = _memory_bytes((yield from self._info()))
            self._look_again_s = now_s + _LOOK_S
        return self._memory_bytes

    @staticmethod
    def _info() -> Steps[Reply]:
        try:
            return (yield Ask(None, (), ("INFO", "memory")))
        except ServerDown:
            raise
        except (StorageError, ServerRefused):  # not everybody may ask that
            return None

    def delete(self, digest: bytes, now: Now) -> Steps[bool]:
        """See `Store.delete`."""
        reply = yield self._ask(scripts.DELETE, now, (self._names.entry(digest),), digest, os.urandom(8))
        return reply == 1

    def touch(self, digests: Sequence[bytes], now: Now, *, wait: bool = False) -> Steps[bool]:
        """See `Store.touch`; no other writer is ever waited for."""
        del wait
        for page in _pages(digests):
            yield self._ask(scripts.TOUCH, now, [self._names.entry(digest) for digest in page], *page)
        return True

    # Numbers.

    def invalidate(self, paths: Sequence[bytes], now: Now) -> Steps[int]:
        """See `Store.invalidate`. Other hosts are not told of it; a bus does that."""
        reply = yield self._ask(scripts.INVALIDATE, now, (), os.urandom(8), *paths)
        return _whole(reply)

    def clear(self) -> Steps[None]:
        """See `Store.clear`."""
        yield self._ask(scripts.CLEAR, None, (), os.urandom(8))
        cursor = b"0"
        while True:
            cursor, keys = _list((yield _scan(cursor, self._names.pattern)))
            if keys:
                yield Ask(None, (), ("UNLINK", *keys))
            if cursor == b"0":
                return

    def prune(self, older_than_ms: int, now: Now) -> Steps[int]:
        """See `Store.prune`; in steps, between which the server serves others."""
        dropped, cursor = 0, b"0"
        while True:
            cursor, some = _list((yield self._ask(scripts.PRUNE_NUMBERS, now, (), cursor, older_than_ms, "")))
            dropped += _whole(some)
            if cursor == b"0":
                break
        yield from self._prune_entries(now)
        return dropped

    def _prune_entries(self, now: Now) -> Steps[None]:
        cursor = b"0"
        while True:
            cursor, keys = _list((yield _scan(cursor, self._entries + b"*")))
            found = [(key, digest) for key in keys if (digest := self._digest(key)) is not None]
            for page in _pages(found):
                digests = [digest for _, digest in page]
                yield self._ask(scripts.PRUNE_ENTRIES, now, [key for key, _ in page], *digests)
            if cursor == b"0":
                return

    def _digest(self, key: bytes) -> bytes | None:
        """Of the key of an entry; None if it is none."""
        try:
            return bytes.fromhex(key[len(self._entries) :].decode())
        except ValueError:
            return None

    # Counting.

    def count(self) -> Steps[int]:
        """See `Store.count`."""
        yield Ask(None, (), ("EXISTS", self._names.numbers))  # in a cluster: whoever scans goes to the keys first
        count, cursor = 0, b"0"
        while True:
            cursor, keys = _list((yield _scan(cursor, self._entries + b"*")))
            count += len(keys)
            if cursor == b"0":
                return count

    def size_bytes(self) -> Steps[int]:
        """See `Store.size_bytes`; about."""
        size, cursor = _NUMBER_BYTES * _whole((yield Ask(None, (), ("HLEN", self._names.numbers)))), b"0"
        while True:
            cursor, keys = _list((yield _scan(cursor, self._entries + b"*")))
            if keys:
                size += _whole((yield Ask(scripts.SIZES, keys, ())))
            if cursor == b"0":
                return size


# Replies.


def _scan(cursor: bytes, pattern: bytes) -> Ask:
    return Ask(None, (), ("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE))


def _list(reply: Reply) -> list[Any]:
    if not isinstance(reply, list):
        raise StorageError("the server replied to a script of the cache what that never returns")
    return reply


def _whole(reply: Reply) -> int:
    if not isinstance(reply, int):
        raise StorageError("the server replied to a script of the cache what that never returns")
    return reply


def _loaded(reply: Reply) -> Loaded | None:
    if reply is None:
        return None
    record, left_ms, age_left_ms = _list(reply)
    return records.unpack(record, None if left_ms < 0 else left_ms, None if age_left_ms < 0 else age_left_ms)


def _memory_bytes(info: Reply) -> int:
    """The `maxmemory` that INFO tells of; what fits any value, if there is none."""
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "maxmemory" and value.isdigit() and int(value):
            return int(value)
    return MOST_BYTES * LARGEST


def _pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + scripts.BATCH] for at in range(0, len(items), scripts.BATCH))
