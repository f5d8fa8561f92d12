"""The program of a process that uses the cache: an order a line on standard input, an answer a line on output.

    python -c "from zoocache.demo.worker import main; main()" DIRECTORY ROW

It reads through the cache, or changes the database and invalidates; it judges every read of its own by the oracle. It
ends when its input does, whatever became of the director. Orders are JSON: {"do": "read", "tag": "org:1"}. Each answer
has "overslept_s": how late this process was woken at worst.
"""

from __future__ import annotations

import json
import logging
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zoocache
from zoocache._zoocache import Core
from zoocache.demo import queries, world
from zoocache.demo.oracle import BEGUN, LONGEST_NS, UPDATES
from zoocache.demo.pace import Sleeper
from zoocache.demo.queries import Desk
from zoocache.demo.world import Question

BURST = 100
REST_S = 0.002
"""Between two bursts of reads, so that eight who roam leave two slow cores to the others."""

SHOWN = 3
"""So many stale reads are told in words."""

Answer = dict[str, Any]


def read(desk: Desk, tag: str | None, pause_s: float = 0.0) -> Answer:
    """Ask every question below a tag once."""
    faults: list[str] = []
    for question in world.questions_below(tag):
        _read_one(desk, question, faults)
        time.sleep(pause_s)
    return _judged(desk, faults)


def roam(desk: Desk, tag: str | None, order: int, limit_s: float) -> Answer:
    """Ask questions below a tag at random, until the order to stop."""
    faults: list[str] = []
    questions = world.questions_below(tag)
    deadline_s = time.monotonic() + limit_s
    desk.oracle.forget_longest()
    while desk.oracle.orders() == order and time.monotonic() < deadline_s:
        for question in random.choices(questions, k=BURST):
            _read_one(desk, question, faults)
        time.sleep(REST_S)
    return _judged(desk, faults)


def _read_one(desk: Desk, question: Question, faults: list[str]) -> None:
    floors = desk.oracle.floors(question)
    began_ns = time.monotonic_ns()
    versions = queries.ask(question).versions
    desk.oracle.took(time.monotonic_ns() - began_ns)
    if not desk.oracle.judge(floors, versions) and len(faults) < SHOWN:
        faults.append(f"{question.key}: versions {list(versions)}, but {floors} had been invalidated before")


def _judged(desk: Desk, faults: list[str]) -> Answer:
    return {"faults": faults, "longest_s": _count(desk, LONGEST_NS) / 1e9}


def _count(desk: Desk, what: int) -> int:
    return desk.oracle.words[desk.oracle.row_at + what]


def rename(desk: Desk, tag: str, limit_s: float) -> Answer:
    """Change what a tag stands for, commit, invalidate; when the invalidation has returned, tell the oracle."""
    version = desk.database.rename(world.PATHS[tag])
    began_s = time.monotonic()
    desk.oracle.add(BEGUN)
    _invalidate(tag, began_s + limit_s)
    ended_s = time.monotonic()
    desk.oracle.settle(tag, version)
    desk.oracle.add(UPDATES)
    return {"version": version, "began_s": began_s, "ended_s": ended_s}


def _invalidate(tag: str, deadline_s: float) -> None:
    """An invalidation that could not be done says so, and is done again."""
    while True:
        try:
            return zoocache.invalidate(tag)
        except zoocache.Busy:  # noqa: PERF203  # it is what the loop is for
            if time.monotonic() > deadline_s:
                raise


def storm(desk: Desk, order: int, limit_s: float, pause_s: float) -> Answer:
    """Change users, now and then teams and organisations, until the order to stop."""
    weights = [{1: 1, 2: 3, 3: 6}[len(path)] for path in world.PATHS.values()]
    deadline_s = time.monotonic() + limit_s
    durations_s = [0.0]
    while desk.oracle.orders() == order and time.monotonic() < deadline_s:
        (tag,) = random.choices(tuple(world.PATHS), weights)
        done = rename(desk, tag, limit_s)
        durations_s.append(done["ended_s"] - done["began_s"])
        time.sleep(pause_s)
    return {"median_s": statistics.median(durations_s), "longest_s": max(durations_s)}


def census(_desk: Desk, number: int, at_s: float = 0.0, threads: int = 1) -> Answer:
    """Want one census in so many threads at a moment of the monotonic clock, which all processes share."""
    wishes: list[Answer] = []

    def wish() -> None:
        time.sleep(max(0.0, at_s - time.monotonic()))
        began_s = time.monotonic()
        value = queries.census(number)
        wishes.append({"value": value, "began_s": began_s, "ended_s": time.monotonic()})

    wishing = [threading.Thread(target=wish) for _ in range(threads - 1)]
    for each in wishing:
        each.start()
    wish()
    for each in wishing:
        each.join()
    return {"wishes": wishes}


def invalidate(_desk: Desk, tag: str) -> Answer:
    """Invalidate without any change; whoever has a named point armed may not live to answer."""
    zoocache.invalidate(tag)
    return {}


def start(_desk: Desk) -> Answer:
    """Attach, as the first use would; who has answered is ready."""
    Core().seq()
    return {}


ORDERS: dict[str, Callable[..., Answer]] = {
    "start": start, "read": read, "roam": roam, "rename": rename, "storm": storm, "census": census,
    "invalidate": invalidate,
}  # fmt: skip


def _obey(desk: Desk, order: dict[str, Any]) -> Answer:
    try:
        return ORDERS[order.pop("do")](desk, **order)
    except Exception as error:  # noqa: BLE001  # it is told to the director, who makes it a broken promise
        return {"error": f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"}


def main() -> None:
    """See the head of this file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the director ends its processes itself
    logging.basicConfig(level=logging.WARNING)  # on standard error: the director shows it if a promise is broken
    directory, row = sys.argv[1:]
    desk = queries.sit_down(Path(directory), int(row))
    sleeper = Sleeper()
    for line in sys.stdin:
        answer = _obey(desk, json.loads(line))
        print(json.dumps(answer | {"overslept_s": sleeper.worst_s}), flush=True)
    sleeper.stop()
    queries.stand_up()
