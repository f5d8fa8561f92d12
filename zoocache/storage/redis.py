"""The Redis store: entries and numbers in a server that many hosts share.

    redis.py           the store: what `zoocache.storage.FarStore` asks for
    redis_steps.py     its methods, step by step, for threads and tasks alike
    redis_scripts.py   what is done inside the server, in Lua
    redis_record.py    the bytes of an entry
    zoocache.server    the way to the server, the names of the keys, the Lua around the numbers

Whatever is decided is decided by a script, which is one step of the server: it reads an entry and the numbers of its
paths together, so a load or a claim is one round trip, whatever the entry depends on. Only `clear` and `prune` take
several, and are true after each.

Numbers stay until a prune; where nobody prunes, one in 64 saves of a process looks whether there are too many of them
altogether, and drops the old ones of one page, until there are few enough.

The one clock is the server's: no host's is compared with another's. An entry expires by the server itself (PEXPIRE),
and a script looks at the time too, so that the greatest age holds though a read began the ttl again. Reads write
nothing, but where the number of entries is limited: there the last use of an entry is noted, at most once a second.

What may be lost: an entry that the server evicts, or loses in a restart, is a miss. Numbers that it evicts or loses,
even in part, are another epoch, and every entry is stale (`zoocache.server.scripts`). A replica that lost its tail and
is made the master has an older order: who notices (a bus compares numbers) raises the floor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from zoocache.clock import Now
from zoocache.errors import ConfigError, StorageError
from zoocache.server.link import Link
from zoocache.server.names import names_of
from zoocache.server.resp import Reply
from zoocache.storage import Failed, Leads, Life, Loaded, Stamp, Told, Waits
from zoocache.storage.redis_steps import MOST_NUMBERS, Ask, Steps, StoreSteps, T


class RedisStore:
    """See the head of this file, and `zoocache.storage.FarStore` for the contract.

    Nothing is opened before the first call. The link is shared with others: `close` lets it close what is idle.

    Args:
        link: to the server.
        prefix: stores of different prefixes have no key in common.
        max_entries: how many entries all hosts together keep; None for no limit.
        most_numbers: how many numbers there may be, about, before the older half of them gives way to a floor.
        host_time: take the `now` of the caller for the clock, as `up_ms`, and let nothing expire in the server: for
            tests that make up the time.

    Raises:
        ConfigError: a limit that cannot be.
    """

    def __init__(
        self, link: Link, prefix: str, *, max_entries: int | None = None, most_numbers: int = MOST_NUMBERS,
        host_time: bool = False,
    ) -> None:  # fmt: skip
        if max_entries is not None and max_entries < 1:
            raise ConfigError(f"max_entries is {max_entries}; it must be 1 or more, or None for no limit")
        self._link = link
        self._steps = StoreSteps(str(self), names_of(prefix), max_entries, host_time, most_numbers)

    def __str__(self) -> str:
        return f"redis storage {self._link.address}"

    def later(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """See `FarStore.later`."""
        return self._drive_async(getattr(self._steps, method)(*args, **kwargs))

    def compare_with(self, known: Callable[[], tuple[int, int, bytes] | None]) -> None:
        """See `FarStore.compare_with`."""
        self._steps.known = known

    # Reading.

    def stamp(self) -> Stamp:
        """See `Store.stamp`."""
        return self._drive(self._steps.stamp())

    def load(self, digest: bytes, now: Now) -> Loaded | None:
        """See `Store.load`."""
        return self._drive(self._steps.load(digest, now))

    def claim(
        self, digest: bytes, token: bytes, lease_ms: int, followed: bytes | None, now: Now
    ) -> Loaded | Leads | Waits | Failed:
        """See `FarStore.claim`."""
        return self._drive(self._steps.claim(digest, token, lease_ms, followed, now))

    def renew(self, leases: Sequence[tuple[bytes, bytes]], lease_ms: int) -> list[bool]:
        """See `FarStore.renew`."""
        return self._drive(self._steps.renew(leases, lease_ms))

    def end(self, digest: bytes, token: bytes, failure: bytes | None) -> None:
        """See `FarStore.end`."""
        self._drive(self._steps.end(digest, token, failure))

    # Entries.

    def save(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        *, anew: bool = False, computed: bool = False,
    ) -> bool:  # fmt: skip
        """See `Store.save`."""
        return self._drive(self._steps.save(digest, paths, stamp, body, life, now, anew=anew, computed=computed))

    def save_and_tell(
        self, digest: bytes, paths: Sequence[bytes], stamp: Stamp, body: bytes, life: Life, now: Now,
        message: bytes, known: tuple[int, int, bytes] | None, otherwise: bytes, *, computed: bool = False,
    ) -> Told | None:  # fmt: skip
        """See `FarStore.save_and_tell`."""
        what = (digest, paths, stamp, body, life, now, message, known, otherwise)
        return self._drive(self._steps.save_and_tell(*what, computed=computed))

    def delete(self, digest: bytes, now: Now) -> bool:
        """See `Store.delete`."""
        return self._drive(self._steps.delete(digest, now))

    def touch(self, digests: Sequence[bytes], now: Now, *, wait: bool = False) -> bool:
        """See `Store.touch`."""
        return self._drive(self._steps.touch(digests, now, wait=wait))

    # Numbers.

    def invalidate(self, paths: Sequence[bytes], now: Now) -> int:
        """See `Store.invalidate`. Other hosts are not told of it; a bus does that."""
        return self._drive(self._steps.invalidate(paths, now))

    def clear(self) -> None:
        """See `Store.clear`."""
        self._drive(self._steps.clear())

    def prune(self, older_than_ms: int, now: Now) -> int:
        """See `Store.prune`."""
        return self._drive(self._steps.prune(older_than_ms, now))

    def count(self) -> int:
        """See `Store.count`."""
        return self._drive(self._steps.count())

    def size_bytes(self) -> int:
        """See `Store.size_bytes`."""
        return self._drive(self._steps.size_bytes())

    # The process.

    def after_fork(self) -> None:
        """See `Store.after_fork`."""
        self._link.after_fork()

    def close(self) -> None:
        """See `Store.close`."""
        self._link.close()

    # Drivers.

    def _drive(self, steps: Steps[T]) -> T:
        try:
            ask = next(steps)
            while True:
                try:
                    reply = self._asked(ask)
                except (StorageError, ConfigError) as error:  # noqa: PERF203  # the steps decide what becomes of it
                    ask = steps.throw(error)
                else:
                    ask = self._after(reply, steps)
        except StopIteration as done:
            return cast("T", done.value)

    async def _drive_async(self, steps: Steps[T]) -> T:
        try:
            ask = next(steps)
            while True:
                try:
                    reply = await self._asked_async(ask)
                except (StorageError, ConfigError) as error:  # noqa: PERF203  # the steps decide what becomes of it
                    ask = steps.throw(error)
                else:
                    ask = self._after(reply, steps)
        except StopIteration as done:
            return cast("T", done.value)

    def _after(self, reply: Reply, steps: Steps[Any]) -> Ask:
        """What the steps ask next; a reply that is none to what they asked is an error of the server's."""
        try:
            return steps.send(reply)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise StorageError(f"{self}: what it replied makes no sense; is that a Redis server?") from error

    def _asked(self, ask: Ask) -> Reply:
        if ask.script is None:
            return self._link.command(*ask.arguments)
        return self._link.run(ask.script, ask.keys, ask.arguments)

    async def _asked_async(self, ask: Ask) -> Reply:
        if ask.script is None:
            return await self._link.command_async(*ask.arguments)
        return await self._link.run_async(ask.script, ask.keys, ask.arguments)
