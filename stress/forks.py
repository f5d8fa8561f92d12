"""forks: processes fork, exec and spawn at any moment, also in threads, in fills and in tasks; one oracle judges all.

What they do, and how they are born and end: offspring.py. The processes of the fleet are killed now and then too, and
all that descend from one end with it. Nothing that any of them reads may be older than what was finished, whoever
inherited what: live objects, counters, an open LMDB environment in the middle of a read, the lock of a thread that is
not there any more.
"""

from __future__ import annotations

import time

from stress import processes, tree
from stress.board import L_SINCE_NS, Shape
from stress.fleet import Fleet
from stress.newcomer import leave_word, places_of
from stress.offspring import FLIGHT_TIMEOUT_S, KINDS, LANES, PLACES_EACH, life, listen, live
from stress.places import Places
from stress.run import Options, Run, opened
from stress.server import served
from stress.storm import Watch, conclude, leave, read_all

TICK_S = 0.02
KILL_EVERY_S = 0.7
GONE_S = 15.0


def work(run: Run, places: Places, slot: int) -> None:
    """What a process of the fleet does until the run is over."""
    listen()
    run.settle()
    life.run, life.places, life.children = run, places, set()
    live(slot)


def main(options: Options) -> bool:
    """Run forks; whether all promises held."""
    shape = Shape(options.processes * (1 + PLACES_EACH), LANES, tree.KEYS, cells=len(KINDS))
    with opened(options, shape, FLIGHT_TIMEOUT_S) as run, served(run):
        leave_word(run)
        places = places_of(run)
        fleet = Fleet(run.board, lambda slot: work(run, places, slot), run.directory)
        try:
            _watch(run, fleet, places)
            leave(run, fleet)
        finally:
            run.halt()
            fleet.end()
            _await_all(run)
        born = _born(run)
        run.expect_some("descendants", sum(born.values()))
        run.say(f"{sum(born.values())} descendants: " + ", ".join(f"{name} {count}" for name, count in born.items()))
        return conclude(run, lambda: read_all(run))


def _watch(run: Run, fleet: Fleet, places: Places) -> None:
    watch = Watch(run, lambda: f", {sum(_born(run).values())} descendants")
    chance = run.chance("kills")
    end_s = time.monotonic() + run.options.seconds
    kill_s = 0.0
    while time.monotonic() < end_s and not run.failed:
        _fill_places(run, fleet)
        _forget(run, places)
        watch.look(fleet)
        if time.monotonic() > kill_s:
            kill_s = time.monotonic() + chance.uniform(0, 2 * KILL_EVERY_S)
            member = chance.choice(list(fleet.members.values()))
            if fleet.is_ready(member.slot) and not member.killed:
                fleet.kill(member)
        time.sleep(TICK_S)


def _fill_places(run: Run, fleet: Fleet) -> None:
    for departure in fleet.look():
        if not departure.member.killed and not run.failed:
            run.fail(f"process {departure.member.pid} ended with {departure.status}, seed {run.options.seed}")
    for slot in range(run.options.processes):
        if slot not in fleet.members:
            fleet.start(slot)


def _forget(run: Run, places: Places) -> None:
    """What the dead were about is not under way any more."""
    for slot in places.free():
        for number in range(LANES):
            run.board.lane(slot, number)[L_SINCE_NS] = 0


def _await_all(run: Run) -> None:
    """Wait until every descendant is gone: the kernel kills those who have lost their parent."""
    until_s = time.monotonic() + run.limit_s(GONE_S)
    while left := _descendants(run) or _descendants(run):  # one that was amid an exec at the first look has no words
        if time.monotonic() > until_s:
            run.fail(f"descendants do not end: {left}, seed {run.options.seed}")
            return
        time.sleep(TICK_S)


def _descendants(run: Run) -> list[int]:
    """A fresh interpreter maps nothing of the run before it has imported what it needs, but its command line tells."""
    return [*processes.that_map(run.directory), *processes.that_begin(str(run.directory), "")]


def _born(run: Run) -> dict[str, int]:
    slots = range(run.board.shape.slots)
    return {name: sum(run.board.cells(slot)[kind] for slot in slots) for kind, name in enumerate(KINDS)}
