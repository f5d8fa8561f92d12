"""partition: several hosts and one server, while networks, listeners, server and workers fail; nothing stays stale.

Each host has some processes, with a writer, a reader in a thread, and a loop with a task that reads. Each key belongs
to one of them. Turmoil and rest take turns:

    turmoil   faults of all kinds (faults.py), and reads and writes. A host must never read less of its own keys than
              what was finished on it; what the others have finished may be on its way
    rest      everything is healed, nobody writes; reads go on. All outboxes must become empty, and all hosts come to
              where the server is, within SETTLE_S
    check     everybody reads every key in every way: none may be older than what was finished, wherever it was

Now and then a host misses a round (absence.py), or sleeps through one while nobody listens for it (idleness.py), and
checks when it is back.

No operation may take longer than LONGEST_S, but for the time in which a process stood still that held the lock.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from stress import listeners, tree, ways
from stress.absence import Absence
from stress.board import (
    C_FAULTS,
    C_STAGE,
    L_BUSY,
    L_HITS,
    L_LONGEST_HIT_NS,
    L_LONGEST_READ_NS,
    L_LONGEST_WRITE_NS,
    L_READS,
    L_WRITES,
    Shape,
)
from stress.events import NONE
from stress.far import CHECK, LONGEST_S, REST, STAGES, TURMOIL, FarLooper, FarReader, FarWriter
from stress.faults import Faults
from stress.fleet import Departure, Fleet
from stress.hosts import Host, Hosts
from stress.idleness import Idleness
from stress.proof import proven
from stress.run import Lane, Options, Run, opened
from stress.storm import Watch, leave, stuck
from stress.threads import run_together
from stress.verdict import pass_verdict
from zoocache import runtime
from zoocache.shm import points

LANES = 3

POINTS = [name for name in points.ALL if name.startswith(("lock.", "trie.", "outbox.", "store.", "engine.", "claim."))]
TIMES = (1, 2, 5, 20, 50)
ARMED_PART = 0.5

FLIGHT_TIMEOUT_S = 0.5
TICK_S = 0.01
TURMOIL_S = 0.5, 2.5
"""Short: what one invalidation left behind, the next one of that key covers up."""
READY_S = 15.0
SETTLE_S = 20.0


def work(run: Run, hosts: Hosts, slot: int) -> None:
    """What a process of the fleet does until the run is over."""
    hosts.settle(slot)
    runtime.engine()  # it is attached from its first moment, though it has never looked at anything: see idleness.py
    writer, reader, looper = [Lane(run, slot, number) for number in range(LANES)]
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("fills", slot)
    run_together(FarWriter(writer), [FarReader(reader), FarLooper(looper)])


def refusal(options: Options) -> str:
    """What is wrong with these options; "" for nothing."""
    if options.storage == "redis" or options.bus:
        return ""
    return "--no-bus: without a bus only hosts that share a Redis have to do with each other"


def main(options: Options) -> bool:
    """Run partition; whether all promises held."""
    shape = Shape(options.hosts * options.processes, LANES, tree.KEYS, cells=LANES)
    with opened(options, shape, FLIGHT_TIMEOUT_S) as run, proven(run) as proof:
        hosts = Hosts(run)
        fleet = Fleet(run.board, lambda slot: work(run, hosts, slot), run.directory)
        try:
            play = Play(run, hosts, fleet)
            play.play()
            play.disarm()
            leave(run, fleet)
            play.tell()
            proof.end()
            _conclude(run, hosts, fleet)
        finally:
            fleet.end()
            hosts.end()
        return run.all_held()


class Play:
    """Turmoil, rest and check, again and again."""

    def __init__(self, run: Run, hosts: Hosts, fleet: Fleet) -> None:
        self._run, self._hosts, self._fleet = run, hosts, fleet
        self._faults = Faults(run, hosts, fleet)
        self._watch = Watch(run)
        self._ring = run.board.own_ring()
        self._chance = run.chance("rounds")
        self._rounds = 0
        self._longest_settling_s = 0.0
        self._absence = Absence(run, hosts, fleet)
        self._idleness = Idleness(run, hosts, fleet)

    def play(self) -> None:
        """Until time is over or somebody failed; the last round is a whole one."""
        end_s = time.monotonic() + self._run.options.seconds
        while not self._run.failed and time.monotonic() < end_s:
            self._rounds += 1
            self._set(TURMOIL)
            self._faults.choose()
            self._rage(min(end_s, time.monotonic() + self._chance.uniform(*TURMOIL_S)))
            self._faults.heal()
            self._rest()
            self._check()
            for apart, name in ((self._absence, "host away"), (self._idleness, "host idle")):
                if apart.is_due() and not self._run.failed:
                    self._miss(apart, name)

    def _miss(self, apart: Absence | Idleness, name: str) -> None:
        """One more round, which a host misses; it comes back when all that it has to know is known, and is asked at
        once."""
        self._rounds += 1
        apart.begin(self._replace)
        self._faults.done[name] += 1
        self._set(TURMOIL)
        self._go_on(time.monotonic() + apart.lasts_s())
        self._rest()
        self._set(CHECK)  # first, so that nobody begins with anything else
        apart.end()
        self._check()

    def _apart(self) -> Host | None:
        """The host that is away, or idle."""
        return self._absence.host or self._idleness.host

    def _is_apart(self, slot: int) -> bool:
        return self._apart() is self._hosts.host_of(slot)

    def _rest(self) -> None:
        self._set(REST)
        self._come_to("not everybody comes to rest", READY_S)
        self._settle()
        self._ring.note("settled", NONE, time.monotonic_ns(), time.monotonic_ns())

    def _check(self) -> None:
        self._set(CHECK)
        self._come_to("checks do not come to their end", READY_S)

    def _set(self, stage: int) -> None:
        self._run.board.control[C_STAGE] = self._rounds * STAGES + stage

    def _rage(self, until_s: float) -> None:
        self._go_on(until_s, self._faults.act)

    def _go_on(self, until_s: float, act: Callable[[], None] = lambda: None) -> None:
        while time.monotonic() < until_s and not self._run.failed:
            self._replace()
            act()
            self._watch.look(self._fleet)
            time.sleep(TICK_S)

    def _replace(self) -> None:
        """Fill the places of the dead; who died by nobody's hand is a failure."""
        for departure in self._fleet.look():
            self._bury(departure)
        for slot in range(self._run.board.shape.slots):
            if slot not in self._fleet.members and not self._absence.is_of(slot) and not self._run.failed:
                self._start(slot)

    def _start(self, slot: int) -> None:
        """Some kill themselves at a named point, in the middle of what they tell the others."""
        is_armed = self._run.board.control[C_STAGE] % STAGES == TURMOIL and self._chance.random() < ARMED_PART
        point = self._chance.choice(POINTS) if is_armed else ""
        self._fleet.start(slot, point, at=self._chance.choice(TIMES))

    def _bury(self, departure: Departure) -> None:
        member = departure.member
        if member.armed[0] and departure.status == -signal.SIGKILL and not member.killed:
            self._faults.done["worker killed at a point"] += 1
        elif not member.killed and not self._run.failed:
            self._run.fail(f"process {member.pid} ended with {departure.status}, {self}")

    def disarm(self) -> None:
        """Who might still kill itself at a point while it leaves is killed where it stands."""
        for member in self._fleet.members.values():
            if member.armed[0]:
                self._fleet.kill(member)

    def __str__(self) -> str:
        return f"seed {self._run.options.seed}, round {self._rounds}"

    def _come_to(self, otherwise: str, patience_s: float) -> None:
        """Wait until all lanes have arrived at the present stage."""
        end_s = time.monotonic() + self._run.limit_s(patience_s)
        while not self._run.failed and not self._is_everybody_there():
            self._replace()
            if time.monotonic() > end_s:
                stuck(self._run, self._fleet, f"{otherwise}, {self}")
            time.sleep(TICK_S)

    def _is_everybody_there(self) -> bool:
        board = self._run.board
        here = board.control[C_STAGE]
        return all(
            self._fleet.is_ready(slot) and all(word == here for word in board.cells(slot))
            for slot in range(board.shape.slots)
            if not self._is_apart(slot)
        )

    def _settle(self) -> None:
        """Wait until everything is told and heard."""
        start_s = time.monotonic()
        while not self._run.failed and (why := self._hosts.unsettled(self._apart())):
            if time.monotonic() - start_s > self._run.limit_s(SETTLE_S):
                self._run.fail(f"UNSETTLED, {self}, {SETTLE_S:g} s after all was healed: {why}")
            self._replace()
            time.sleep(TICK_S)
        self._longest_settling_s = max(self._longest_settling_s, time.monotonic() - start_s)

    def tell(self) -> None:
        """Show what was done to the hosts, and what crossed between them."""
        done, settling_s = self._faults.done, self._longest_settling_s
        self._run.board.control[C_FAULTS] = done.total()
        self._run.say(f"{self._rounds} rounds, {done.total()} faults; longest settling {settling_s:.2f} s")
        self._run.say("  " + ", ".join(f"{name} {count}" for name, count in sorted(done.items())))
        self._hosts.tell()


def _conclude(run: Run, hosts: Hosts, fleet: Fleet) -> None:
    """Judge what was measured and what is left in each segment, and sum up."""
    board = run.board
    hit_s, read_s, write_s = (
        board.longest(counter) / 1e9 for counter in (L_LONGEST_HIT_NS, L_LONGEST_READ_NS, L_LONGEST_WRITE_NS)
    )
    if max(hit_s, read_s) > run.limit_s(LONGEST_S):
        run.fail(f"a hit took {hit_s:.3f} s, or another read {read_s:.3f} s, seed {run.options.seed}")
    run.say(
        f"{board.total(L_READS)} reads, {board.total(L_HITS)} of them hits, {run.stale_reads()} stale; "
        f"{board.total(L_WRITES)} writes, {board.total(L_BUSY)} gave up"
    )
    run.say(f"longest hit {hit_s * 1e3:.1f} ms, longest read {read_s:.2f} s, longest write {write_s:.2f} s")
    fleet.end()
    listeners.end(run.prefix)
    for host in hosts.all:
        slot = host.number * run.options.processes
        pass_verdict(run, settle=lambda slot=slot: hosts.settle(slot))  # type: ignore[misc]
