"""A small world that several processes share: things in files, cached functions that look at them, a book of fills.

Each process of a test imports this module, so the functions are the same ones everywhere. A thing is a number in a
file of the folder WORLD. A computation first writes itself into the book, then reads its thing, then stops at its gate
if one is closed: what comes in between overtakes it.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zoocache
from tests.crowd import until
from zoocache import add_deps, cacheable, runtime

gates: set[str] = set()
"""Names of things at which this process stops while it computes, says so, and waits for a line."""


def folder() -> Path:
    """Where the things are."""
    return Path(os.environ["WORLD"])


def be_in_touch() -> None:
    """With a bus: have the host's first catch-up, which makes everything in its trie stale, be over."""
    engine = runtime.engine()
    until(lambda: engine.watch() and (engine.hosts is None or engine.hosts.has_caught_up(engine.trie)))


def change(name: str, number: int) -> None:
    """Give a thing a number, whole: readers see the old one or the new one."""
    fresh = folder() / f".{name}.{os.getpid()}"
    fresh.write_text(str(number))
    fresh.replace(folder() / name)


def look(name: str) -> int:
    """The number of a thing; 0 if nobody changed it yet."""
    try:
        return int((folder() / name).read_text())
    except FileNotFoundError:
        return 0


def book(name: str) -> None:
    """Write a computation into the book."""
    page = os.open(folder() / ".book", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(page, f"{name} {os.getpid()}\n".encode())
    finally:
        os.close(page)


def fills(name: str) -> list[int]:
    """Which processes computed a thing, in order."""
    try:
        lines = (folder() / ".book").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [int(pid) for what, _, pid in (line.rpartition(" ") for line in lines) if what == name]


def close_gate(name: str) -> None:
    """Stop here at the next computation of that thing."""
    gates.add(name)


def open_gate(name: str) -> None:
    """Stop there no more."""
    gates.discard(name)


def pass_gate(name: str) -> None:
    """Wait for a line if the gate is closed."""
    if name in gates:
        print(f"inside {name}", flush=True)
        sys.stdin.readline()


def compute(name: str) -> int:
    """What the cached functions do."""
    book(name)
    number = look(name)
    pass_gate(name)
    return number


@cacheable(deps=lambda name: [f"thing:{name}"])
def thing(name: str) -> int:
    """Depends on a tag that its argument tells."""
    return compute(name)


@cacheable(deps=["site:config"])
def site() -> int:
    """Depends on a static tag."""
    return compute("site")


@cacheable
def late(name: str) -> int:
    """Depends on a tag that it learns at the end."""
    number = compute(name)
    add_deps(f"late:{name}")
    return number


@cacheable
def outer(name: str) -> int:
    """Depends on what `thing` depends on."""
    return thing(name) * 10


@cacheable
def late_outer(name: str) -> int:
    """Depends on what `late` depends on."""
    return late(name) * 10


@cacheable
def untagged(name: str) -> int:
    """Depends on nothing."""
    return compute(name)


@cacheable(deps=lambda name: f"page:{name}")
def page(name: str) -> dict[str, Any]:
    """A mutable value."""
    return {"name": name, "number": compute(name), "lines": [1, 2, 3]}


@cacheable
def broken(name: str) -> int:
    """Raises what a database might."""
    compute(name)
    raise LookupError(f"no {name} here")


@cacheable
def broken_late(name: str) -> int:
    """Raises after it learned a tag."""
    compute(name)
    add_deps(f"late:{name}")
    raise LookupError(f"no {name} here")


@cacheable
def broken_outer(name: str) -> int:
    """Raises what `broken` raises, or what its followers are told."""
    compute(f"outer {name}")
    return broken(name)


def tell_outer_failure(name: str) -> list[str]:
    """As `tell_failure`, of `broken_outer`."""
    try:
        broken_outer(name)
    except zoocache.FillFailed as error:
        return [error.type_name, error.reason, str(error)]
    return []


def tell_failure(name: str) -> list[str]:
    """What the one who computed `broken` raised, as a follower in another process learns it."""
    try:
        broken(name)
    except zoocache.FillFailed as error:
        return [error.type_name, error.reason, str(error)]
    return []


@cacheable
def careful(name: str) -> str:
    """Lives with the failure of `broken_late`: tells what it was."""
    try:
        return str(broken_late(name))
    except Exception as error:  # noqa: BLE001  # whatever it is
        return type(error).__name__


@cacheable(deps=lambda name: f"thing:{name}")
async def thing_async(name: str) -> int:
    """`thing` for tasks; its gate is the file `.open-<name>`, asked now and then."""
    book(name)
    number = look(name)
    if name in gates:
        print(f"inside {name}", flush=True)
        while not (folder() / f".open-{name}").exists():  # noqa: ASYNC110  # another process makes the file
            await asyncio.sleep(0.002)
    return number


def flood(rounds: int) -> None:
    """Kill more tags than a small segment holds, again and again."""
    for number in range(rounds):
        zoocache.invalidate(*(f"flood:{number}:{n}" for n in range(1_500)))


def set_many(name: str, count: int) -> None:
    """Set so many keys."""
    for n in range(count):
        zoocache.set(f"{name}:{n}", n)


def count_kept(names: list[str], count: int) -> int:
    """How many of such keys are kept."""
    return sum(zoocache.get(f"{name}:{n}") is not None for name in names for n in range(count))


def see_value(name: str) -> bool:
    """Whether the cache gives a value of P7 as its function does."""
    from tests.promises import test_p07_values_keep_their_types as values

    return values.see(name)


def call_async(name: str) -> int:
    """`thing_async` in a loop of its own."""
    return asyncio.run(_as_coroutine(name))


async def _as_coroutine(name: str) -> int:
    return await thing_async(name)


@contextmanager
def scoreboard() -> Iterator[memoryview]:
    """Two numbers in memory that all processes share: [0] what is true, [1] what was true before the last finished
    `invalidate` was called.
    """
    with (
        (folder() / ".score").open("r+b") as file,
        mmap.mmap(file.fileno(), 16) as shared,
        memoryview(shared) as raw,
        raw.cast("Q") as words,
    ):
        yield words


@cacheable(deps="score:now")
def score() -> int:
    """What is true now."""
    with scoreboard() as words:
        return int(words[0])


def count_stale_scores(until: int) -> int:
    """Ask for the score until it has come so far; how often it was older than a finished `invalidate`."""
    stale, seen = 0, 0
    with scoreboard() as words:
        while seen < until:
            least = int(words[1])
            seen = score()
            stale += seen < least
    return stale


def raise_score(until: int) -> None:
    """Change the score and invalidate it, again and again."""
    with scoreboard() as words:
        for number in range(int(words[0]) + 1, until + 1):
            words[0] = number
            zoocache.invalidate("score")
            words[1] = number
