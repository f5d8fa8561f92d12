"""The processes of forks: what they do, how they bring others into the world, and how they leave it.

Each has a writer, a reader in a thread, a loop with tasks, and a thread that does nothing but fork, while the others
are anywhere in the library. A child is born

    fork      in that thread
    in fill   inside a cached function: the call goes on in both, and comes back in both
    in task   inside a task of the loop
    exec      forked, and becomes a fresh interpreter at once
    spawn     a fresh interpreter from the start

It begins with what it has inherited: in the very thread that it was born in it reads, writes, and reads. While that is
its only thread, nobody there can lead a flight that it waits for, so it may wait for none (`listen`). Then it lives
as its parent does, forks too, and ends: in order, or in the middle of everything, or by SIGKILL, its own or its
parent's. Fresh interpreters: newcomer.py.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from stress import oracle, tree, ways
from stress.board import L_KILLED, S_LIFE, S_STOPS
from stress.fleet import end_with_parent
from stress.places import Places
from stress.reading import Looper, Reader
from stress.run import Lane, Run
from stress.threads import run_together
from stress.ways import WAYS, Planned, Testimony
from stress.writing import Writer
from zoocache import Busy, FillFailed, StorageError, cacheable
from zoocache.flight import Flight, Flights

LANES = 4

FLIGHT_TIMEOUT_S = 3600.0
"""Longer than any run, so that nobody who waits for what nobody leads comes free by time. Those whose leader was killed
have an heir by proof of death, which takes no part of it; nobody is stopped, and no fill takes long."""

FORK, IN_FILL, IN_TASK, EXEC, SPAWN = range(5)
KINDS = ("fork", "in fill", "in task", "exec", "spawn")
"""How a child is born; it is counted in the cell of its parent's place that has this number."""
_WEIGHTS = {FORK: 10, IN_FILL: 5, EXEC: 1, SPAWN: 1}

PLACES_EACH = 2
"""Places of descendants for each process of the fleet."""
MOST_CHILDREN = 2
LAST_GENERATION = 3
LIVES_S = (0.02, 0.1, 0.4, 1.0)
FORK_EVERY_S = 0.06
IN_TASK_PART = 0.01
KILL_PART = 0.1
FIRST_ACTS = 6
GONE_S = 10.0
NEWCOMER = "stress.newcomer"

ABRUPT_PART, KILLED_PART = 0.3, 0.2
"""Of the deaths; the others are in order."""


class Life:
    """This process, among those of its run.

    Attributes:
        run, places: shared by all.
        generation: 0 for the fleet.
        slot: its place.
        over: whether its threads are to end.
        is_alone: whether the only thread of a forked child has not begun any other, nor a loop.
        children: process numbers of those that were not reaped yet.
        chance: of whatever has no lane.
    """

    run: Run
    places: Places
    generation = 0
    slot = 0
    over = False
    is_alone = False
    children: set[int]


life = Life()


class _Wish(threading.local):
    """Of each thread: what its next fill is to do, and whether this process came out of it."""

    fork: Callable[[], bool] | None = None
    born = False


_wish = _Wish()


@cacheable(deps=tree.own_tag)
def dividing(key: int) -> Testimony:
    """As `ways.plainly`, by a process that may become two meanwhile."""
    testimony = time.monotonic_ns(), key, ways.seen.truth[key]
    wish, _wish.fork = _wish.fork, None
    if wish is not None:
        _wish.born = wish()
    return testimony


def listen() -> None:
    """In a process of the fleet, before a mutant is planted: see who waits for a flight that nobody can lead."""
    wait = Flights.wait

    def wait_and_tell(
        self: Flights, flight: Flight, waker: Callable[[], object], waiting: Iterable[Flight]
    ) -> bool:  # fmt: skip
        if life.is_alone and flight.kind is None:
            stack = "".join(traceback.format_stack())
            life.run.fail(
                f"STUCK, seed {life.run.options.seed}: a child that was forked, and has one thread, waits for a flight "
                f"of {flight.key}, which nobody in it can lead:\n{stack}"
            )
            life.run.halt()
        return wait(self, flight, waker, waiting)

    Flights.wait = wait_and_tell  # type: ignore[method-assign]


class MortalLane(Lane):
    """A lane of a process that may end before the run is over."""

    def goes_on(self) -> bool:
        """Whether there is still something to do."""
        return not life.over and super().goes_on()


class CrowdedWriter(Writer):
    """Writes, among more processes than the machine has time for."""

    alone_s = 5.0


class ForkingLoop(Looper):
    """Reads with tasks, and forks in one of them now and then."""

    async def read_any_async(self) -> None:
        """One read, or a child, by chance."""
        await super().read_any_async()
        if self.lane.chance.random() < IN_TASK_PART and _may_fork() and _forked(IN_TASK):
            _begin(None)


class Forker:
    """Forks at random moments, and sees to the children.

    Args:
        lane: its own.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._until_s = time.monotonic() + lane.chance.choice(LIVES_S) if life.generation else float("inf")

    def run(self) -> None:
        """Go on until this process or the run is over, and leave no child behind."""
        chance = self.lane.chance
        try:
            while self.lane.goes_on():
                time.sleep(chance.uniform(0, 2 * FORK_EVERY_S))
                _reap()
                if time.monotonic() > self._until_s:
                    self._die()
                elif life.children and chance.random() < KILL_PART:
                    self._kill_one()
                elif _may_fork():
                    self._fork()
        finally:
            _await_children()

    def _die(self) -> None:
        """In order, or in the middle of what the other threads do."""
        part = self.lane.chance.random()
        if part < ABRUPT_PART:
            os._exit(0)
        if part < ABRUPT_PART + KILLED_PART:
            self.lane.counters[L_KILLED] += 1
            os.kill(os.getpid(), signal.SIGKILL)
        life.over = True

    def _kill_one(self) -> None:
        os.kill(self.lane.chance.choice(sorted(life.children)), signal.SIGKILL)
        self.lane.counters[L_KILLED] += 1

    def _fork(self) -> None:
        chance = self.lane.chance
        kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if kind == IN_FILL:
            self._fork_in_fill(chance.choice(tree.ANIMAL_KEYS))
        elif kind == SPAWN:
            _count(SPAWN)
            life.children.add(os.posix_spawn(sys.executable, _command(), os.environ))
        elif _forked(kind):
            if kind == EXEC:
                os.execv(sys.executable, _command())
            _begin(None)

    def _fork_in_fill(self, key: int) -> None:
        """The fill comes back twice, and what it brings is judged twice."""
        reading, found = oracle.Reading(self.lane.run.board, (key,)), None
        _wish.fork, _wish.born = lambda: _forked(IN_FILL), False
        try:
            found = dividing.refresh(key)
        except (Planned, FillFailed, Busy, StorageError):  # a refresh writes
            _wish.fork = None
        finally:
            if _wish.born:
                _begin(lambda: _judge(reading, found, key))
        _judge(reading, found, key)


def _judge(reading: oracle.Reading, found: Any, key: int) -> None:
    try:
        if found is not None:
            reading.judge(found)
    except oracle.Wrong as wrong:
        run = life.run
        run.fail(f"{wrong}\n  seed {run.options.seed}, in a fill that forked:\n{oracle.history(run.board, key)}")
        run.halt()


# Birth.


def _may_fork() -> bool:
    return not life.over and life.generation < LAST_GENERATION and len(life.children) < MOST_CHILDREN


def _forked(kind: int) -> bool:
    """Fork; whether this is the child."""
    _count(kind)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        life.children.add(pid)
    else:
        end_with_parent(parent)
    return not pid


def _count(kind: int) -> None:
    life.run.board.cells(life.slot)[kind] += 1


def _command() -> list[str]:
    return [sys.executable, "-m", NEWCOMER, str(life.run.directory), str(life.generation + 1)]


def _begin(first: Callable[[], None] | None) -> NoReturn:
    """In a forked child, in whatever frame it finds itself: live, and never come back there."""
    status = 1
    try:
        life.generation += 1
        life.over, life.is_alone, life.children = False, True, set()
        slot = life.places.take()
        if slot is not None:
            live(slot, first)
        status = 0
    except BaseException:  # noqa: BLE001  # reported, whatever it is; nothing may go up into the parent's frames
        life.run.fail(f"a child that was forked raised, seed {life.run.options.seed}:\n{traceback.format_exc()}")
        life.run.halt()
    finally:
        os._exit(status)


def live(slot: int, first: Callable[[], None] | None = None) -> None:
    """What a process does until it ends, or the run is over.

    Args:
        slot: its place.
        first: what it does before anything else.
    """
    run = life.run
    life.slot = slot
    words = run.board.slot(slot)
    words[S_LIFE] += 1
    words[S_STOPS] += 1
    writer, reader, looper, forker = [MortalLane(run, slot, number) for number in range(LANES)]
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("fills", slot, words[S_LIFE])
    if first is not None:
        first()
    if life.generation:
        _use_what_is_inherited(CrowdedWriter(writer), Reader(reader))
        life.is_alone = False
    run_together(CrowdedWriter(writer), [Reader(reader), ForkingLoop(looper), Forker(forker)])


def _use_what_is_inherited(writer: Writer, reader: Reader) -> None:
    """Before any thread begins."""
    for _ in range(FIRST_ACTS):
        reader.read_any()
        writer.do(writer.any_write())
        reader.read(writer.lane.chance.choice(WAYS), writer.lane.chance.choice(tree.ANIMAL_KEYS))


# Death.


def _reap() -> None:
    for pid in list(life.children):
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            life.children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, -signal.SIGKILL):
                life.run.fail(f"descendant {pid} ended with {code}, seed {life.run.options.seed}")


def _await_children() -> None:
    """Let the children end by themselves, as far as the run is over: who does not is stuck. Kill who is left."""
    until_s = time.monotonic() + (life.run.limit_s(GONE_S) if not life.over else 0.0)
    is_patient, life.over = not life.over, True
    while life.children and time.monotonic() < until_s:
        _reap()
        time.sleep(0.005)
    if life.children and is_patient and not life.run.failed:
        life.run.fail(f"STUCK, seed {life.run.options.seed}: descendants do not leave: {sorted(life.children)}")
    while life.children:  # a task may have had one more
        pid = life.children.pop()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
