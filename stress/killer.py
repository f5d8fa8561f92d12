"""killer: storm, while its processes are killed and stopped, at random and at every named point of the library in turn.

Whoever dies is replaced at once, in its place. Each process is armed with the next named point: it kills itself there,
or stops there (and goes on later, or is killed while it stands). Those who do not come to their point are killed or
stopped wherever they are. Besides storm's promises: a hit waits for nobody, a write ends within its time-out, at the
end no token is lost, and what the dead held can be used again.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

from stress import tree
from stress.board import C_HALT, L_WRITES, Shape
from stress.fleet import Departure, Fleet, Member
from stress.proof import proven
from stress.run import Options, Run, opened
from stress.server import served
from stress.storm import LANES, Watch, conclude, leave, read_all, work
from zoocache.shm import points

FLIGHT_TIMEOUT_S = 1.0
"""A leader that is stopped for longer is replaced."""

TICK_S = 0.01
ACT_EVERY_S = 0.08
BIRTH_S = 20.0

LIVES_S = (0.3, 0.6, 1.0, 2.0, 6.0)
STOPS_S = (0.01, 0.01, 0.02, 0.02, 0.05, 0.05, 0.1, 0.1, 0.3, 2.5)
"""Mostly short, for most named points are inside the lock, and the others shall get on. The last is longer than the
lock's time-out: writers give up, and say so."""
TIMES = (1, 1, 1, 2, 5, 15)
"""The how-many-th time at a point is the last."""
RARE = ("slot.", "prune.", "claim.inherited", "claim.failed")
"""Points that few processes pass twice."""
STOP_PART = 0.2

BIRTH_POINTS = [name for name in points.ALL if name.startswith("segment.")]
"""Passed by the one process that creates the segment."""
REOPENING_POINTS = ["store.marked"]
"""Passed by the first who writes after all have ended in order."""
STORE_ROOMS = ("claim.", "engine.stored")
"""Passed only where there is a store."""
LMDB_ROOMS = ("store.",)
BUS_ROOMS = ("outbox.",)
"""Passed only where something is to be told to others."""
LISTENER_ROOMS = ("hosts.",)
"""Passed by listeners alone; partition kills them there."""


def births_of(options: Options) -> list[str]:
    """The points of what is made, or opened again, before the fleet begins."""
    # With a bus the listener writes there as well: hearing of the last word of the one that ended it may be that first.
    is_alone = options.storage == "lmdb" and not options.bus
    return BIRTH_POINTS + (REOPENING_POINTS if is_alone else [])


def points_of(options: Options) -> list[str]:
    """The points that a process of the fleet may come to after that."""
    out_of_reach = [*BIRTH_POINTS, *REOPENING_POINTS, *LISTENER_ROOMS]
    out_of_reach += STORE_ROOMS if options.storage == "memory" else ()
    out_of_reach += LMDB_ROOMS if options.storage != "lmdb" else ()
    out_of_reach += BUS_ROOMS if options.storage != "redis" and not options.bus else ()
    wanted = [name for name in points.ALL if name.startswith(options.points)]
    return [name for name in wanted if not name.startswith(tuple(out_of_reach))]


def refusal(options: Options) -> str:
    """What is wrong with these options; "" for nothing."""
    if points_of(options):
        return ""
    bus = " and a bus" if options.bus else ""
    return (
        f"--points {options.points}: with --storage {options.storage}{bus} a process of the fleet comes to no named "
        "point that begins so; zoocache/shm/points.py has them all"
    )


class Malice:
    """What is done to the fleet, and how often.

    Args:
        run: the run.
        fleet: its processes.
    """

    def __init__(self, run: Run, fleet: Fleet) -> None:
        self.killed: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()
        self._run = run
        self._fleet = fleet
        self._chance = run.chance("malice")
        self._acted_s = 0.0
        self.points = points_of(run.options)
        self._turn = self._chance.randrange(len(self.points))

    def bear(self) -> None:
        """Have the segment created by processes that are killed at each point of its creation in turn; then one that
        ends in order, and one that is killed as it begins to write after that."""
        births = births_of(self._run.options)
        for point in births:
            if point in REOPENING_POINTS:
                self._live_in_order()
            departure = self._wait_for(self._fleet.start(0, point))
            if departure is not None:
                self._bury(departure)

    def _live_in_order(self) -> None:
        """A process that writes, and ends in order, as the last."""
        control, member = self._run.board.control, self._fleet.start(0)
        end_s = time.monotonic() + self._run.limit_s(BIRTH_S)
        while not self._run.board.total(L_WRITES) and time.monotonic() < end_s:
            time.sleep(TICK_S)
        self._run.halt()
        departure = self._wait_for(member)
        if departure is None or departure.status:
            self._run.fail(f"process {member.pid} did not end in order, seed {self._run.options.seed}")
        control[C_HALT] = 0

    def _wait_for(self, member: Member) -> Departure | None:
        end_s = time.monotonic() + self._run.limit_s(BIRTH_S)
        while time.monotonic() < end_s:
            for departure in self._fleet.look():
                return departure
            time.sleep(TICK_S)
        self._run.fail(f"process {member.pid} did not come to its end at {member.armed[0] or 'its leisure'}")
        self._fleet.kill(member)
        return None

    def replace(self) -> None:
        """Bury the dead, and fill their places."""
        for departure in self._fleet.look():
            self._bury(departure)
        for slot in range(self._run.options.processes):
            if slot not in self._fleet.members:
                self._start(slot)

    def _bury(self, departure: Departure) -> None:
        member, status = departure.member, departure.status
        if member.killed and status == -signal.SIGKILL:
            return
        if status == -signal.SIGKILL and member.armed[0]:
            self.killed[member.armed[0]] += 1
        else:
            self._run.fail(f"process {member.pid} ended with {status}, seed {self._run.options.seed}")

    def _start(self, slot: int) -> None:
        self._turn += 1
        point = self.points[self._turn % len(self.points)]
        action = "stop" if self._chance.random() < STOP_PART else "kill"
        self._fleet.start(slot, point, action, 1 if point.startswith(RARE) else self._chance.choice(TIMES))

    def act(self) -> None:
        """Do something to somebody, now and then."""
        now_s = time.monotonic()
        for member in self._fleet.members.values():
            if member.stopped_s:
                self._release(member, now_s)
        if now_s - self._acted_s < ACT_EVERY_S:
            return
        self._acted_s = now_s
        member = self._chance.choice(list(self._fleet.members.values()))
        if not member.stopped_s and not member.killed and now_s - member.born_s > self._chance.choice(LIVES_S):
            self._strike(member)

    def _strike(self, member: Member) -> None:
        if self._chance.random() < STOP_PART:
            self._fleet.stop(member)
            self.stopped["at random"] += 1
        else:
            self._fleet.kill(member)
            self.killed["at random"] += 1

    def _release(self, member: Member, now_s: float) -> None:
        """Let a stopped process go on, or kill it as it stands, once it has stood for long enough."""
        if now_s - member.stopped_s < self._patience_of(member):
            return
        if member.armed[1] == "stop":
            self.stopped[member.armed[0]] += 1
            member.armed = ("", "")
        if self._chance.random() < STOP_PART:
            self.killed["stopped"] += 1
            self._fleet.kill(member)
        self._fleet.resume(member)

    def _patience_of(self, member: Member) -> float:
        return random.Random(f"{member.pid} {member.stopped_s}").choice(STOPS_S)


def main(options: Options) -> bool:
    """Run killer; whether all promises held."""
    shape = Shape(options.processes, LANES, tree.KEYS)
    with opened(options, shape, FLIGHT_TIMEOUT_S) as run, served(run), proven(run, is_once=True) as proof:
        fleet = Fleet(run.board, lambda slot: work(run, slot), run.directory)
        malice = Malice(run, fleet)
        try:
            malice.bear()
            _torment(run, fleet, malice)
            _release_all(fleet)
            leave(run, fleet)
        finally:
            fleet.end()
        _tell(run, malice)
        proof.end()
        return conclude(run, lambda: read_all(run))


def _torment(run: Run, fleet: Fleet, malice: Malice) -> None:
    watch = Watch(run)
    end_s = time.monotonic() + run.options.seconds
    while time.monotonic() < end_s and not run.failed:
        malice.replace()
        malice.act()
        watch.look(fleet)
        time.sleep(TICK_S)


def _release_all(fleet: Fleet) -> None:
    """Who is armed might still strike at a point while it leaves, so all are killed where they stand."""
    for member in fleet.members.values():
        fleet.kill(member)


def _tell(run: Run, malice: Malice) -> None:
    at_points = {name: malice.killed[name] for name in [*births_of(run.options), *malice.points]}
    run.say(
        f"killed: {malice.killed.total()}, of them {sum(at_points.values())} at "
        f"{sum(map(bool, at_points.values()))} of {len(at_points)} named points, {malice.killed['stopped']} while "
        f"stopped; stopped: {malice.stopped.total()}"
    )
    run.say("  " + ", ".join(f"{name} {count}" for name, count in at_points.items()))
