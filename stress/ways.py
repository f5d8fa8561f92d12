"""The ways in which storm's readers come to the truth about a key: cached functions, each using the cache differently.

What each keeps is its **testimony**: `(filled_ns, key, version, key, version, …)`, when its fill read the truth, and
what it found. Names are kept by writers with `set`, and found with `get`.

The functions stand at the level of the module, because what stands there is the same function in every process; so
the world that they look at (`seen`) is the module's too. A process of the fleet sets it before it calls any.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import zoocache
from stress.events import Ring
from stress.tree import neighbour, own_tag
from zoocache import add_deps, cacheable

Testimony = tuple[int, ...]

DAWDLES_S = (0.0, 0.0, 0.0, 0.0, 0.0002, 0.001, 0.003)
RAISES = 0.01
MAX_AGE_S = 0.3
AGE_S = 0.2


class Planned(Exception):
    """What a cached function raises now and then, on purpose."""


class Seen:
    """The world of the functions, in this process.

    Attributes:
        truth: the board's.
        chance: of this process.
    """

    truth: memoryview
    chance: random.Random


seen = Seen()


def _testify(*keys: int) -> Testimony:
    """What a fill finds."""
    filled_ns = time.monotonic_ns()
    found = [word for key in keys for word in (key, seen.truth[key])]
    if seen.chance.random() < RAISES:
        raise Planned(f"for key {keys[0]}")
    return filled_ns, *found


class Calling:
    """A call of a reader.

    Attributes:
        ring: where it notes its fills.
        called_ns: when it began.
        is_untold: something in it is computed without telling the other processes.
    """

    __slots__ = ("_followed", "called_ns", "is_untold", "ring")

    def __init__(self, ring: Ring, called_ns: int) -> None:
        self.ring, self.called_ns, self.is_untold = ring, called_ns, False
        self._followed: dict[type, list[object]] = {}

    def follow(self, flight: object) -> None:
        """It waits for another's computation: a flight of its process, or a claim on its host."""
        followed = self._followed.setdefault(type(flight), [])
        if flight not in followed:
            followed.append(flight)

    @property
    def attempts(self) -> int:
        """How many it has followed so far, of the kind of which there were more: who gives up does so of one kind."""
        return max(map(len, self._followed.values()), default=0)


calling: ContextVar[Calling | None] = ContextVar("calling", default=None)
"""Of this thread or task, at present."""


@contextlib.contextmanager
def _filling(way: Callable[[int], Any], key: int) -> Iterator[None]:
    """Note a fill that no reader asks for except by this way, in a call of its own; see once.py."""
    start_ns = time.monotonic_ns()
    try:
        yield
    finally:
        call = calling.get()
        if call is not None and not call.is_untold:
            call.ring.note(
                "fill", key, start_ns, time.monotonic_ns(), way=WAY_NUMBERS[way], filled_ns=call.called_ns,
                version=call.attempts,
            )  # fmt: skip


def _dawdle() -> None:
    pause_s = seen.chance.choice(DAWDLES_S)
    if pause_s:
        time.sleep(pause_s)


@cacheable(deps=own_tag)
def plainly(key: int) -> Testimony:
    """The tag is known before the fill."""
    testimony = _testify(key)
    _dawdle()
    return testimony


@cacheable
def lately(key: int) -> Testimony:
    """The tag is added after the truth was read."""
    with _filling(lately, key):
        testimony = _testify(key)
        _dawdle()
        add_deps([own_tag(key)])
        return testimony


@cacheable
def inside(key: int) -> Testimony:
    """The tag comes from an inner call."""
    _dawdle()
    return plainly(key)


@cacheable(namespace="deep", deps="zoo:visitors")
def deep_inside(key: int) -> Testimony:
    """The tag comes from the inside of an inner call; another one is static."""
    found = inside(key)
    _dawdle()
    return found


@cacheable(deps=lambda key: [own_tag(key), own_tag(neighbour(key))])
def both(key: int) -> Testimony:
    """Two tags, in different places of the tree."""
    with _filling(both, key):
        testimony = _testify(key, neighbour(key))
        _dawdle()
        return testimony


@cacheable(deps=lambda key: [own_tag(key)], ttl=0.04, max_age=MAX_AGE_S)
def briefly(key: int) -> Testimony:
    """Expires again and again; reads extend it, but not for long."""
    with _filling(briefly, key):
        testimony = _testify(key)
        _dawdle()
        return testimony


@cacheable(deps=lambda key: [own_tag(key)], version=2)
def openly(key: int) -> list[int]:
    """What is kept is mutable."""
    with _filling(openly, key):
        testimony = _testify(key)
        _dawdle()
        return list(testimony)


@cacheable(deps="quiet")
def quietly(process: int, lane: int) -> int:
    """Of one thread alone: a call either fills, or is a hit that has nobody to wait for. When it was filled."""
    assert process >= 0 <= lane
    return time.monotonic_ns()


@cacheable(deps="quiet", ttl=AGE_S / 2, max_age=AGE_S)
def aging(process: int, lane: int) -> int:
    """Of one thread alone, and nobody invalidates it: it only ages, however often it is read. When it was filled."""
    assert process >= 0 <= lane
    return time.monotonic_ns()


def refreshed(key: int) -> Testimony:
    """Computed anew, whatever is kept."""
    return plainly.refresh(key)


@cacheable(deps=lambda key: [own_tag(key)])
async def plainly_async(key: int) -> Testimony:
    """As `plainly`, for tasks."""
    testimony = _testify(key)
    await asyncio.sleep(seen.chance.choice(DAWDLES_S))
    return testimony


@cacheable
async def inside_async(key: int) -> Testimony:
    """As `inside`, for tasks, with a tag that comes late."""
    found = await plainly_async(key)
    await asyncio.sleep(seen.chance.choice(DAWDLES_S))
    add_deps(own_tag(neighbour(key)))
    return found


def name_of(key: int) -> str:
    """Under which a writer keeps it."""
    return f"name {key}"


def by_name(key: int) -> Testimony | None:
    """What a writer has set; None if nothing is there."""
    found: Testimony | None = zoocache.get(name_of(key))
    return found


class Way(NamedTuple):
    """One way to read a key.

    Attributes:
        call: key -> testimony, or None for nothing.
        covers: key -> all keys that the testimony is about.
        weight: how often it is taken.
    """

    call: Callable[[int], Any]
    covers: Callable[[int], tuple[int, ...]] = lambda key: (key,)
    weight: int = 10


WAYS = [
    Way(plainly, weight=20), Way(lately), Way(inside), Way(deep_inside, weight=5),
    Way(both, lambda key: (key, neighbour(key))), Way(briefly), Way(openly), Way(refreshed, weight=1),
]  # fmt: skip
BY_NAME = Way(by_name)
ASYNC_WAYS = [Way(plainly_async), Way(inside_async)]

PART = 0
"""In place of a way's number: what was read together with the key of the call."""
WAY_NUMBERS = {way.call: number for number, way in enumerate([*WAYS, BY_NAME, *ASYNC_WAYS], PART + 1)}
"""The ways, as events name them."""
OWN_FILL = frozenset(WAY_NUMBERS[call] for call in (plainly, lately, both, briefly, openly, plainly_async))
"""Those whose own fill sees the truth; what the others bring may come from an inner call's entry, which is older."""
OLDEST_NS = {WAY_NUMBERS[briefly]: int(MAX_AGE_S * 1e9)}

COUNTED = [plainly, lately, inside, deep_inside, both, briefly, openly, plainly_async, inside_async]
"""The cached functions, for their counters."""
