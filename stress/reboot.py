"""reboot: segment and semaphores vanish, everybody ends and begins anew, the boot is another, the clock is set.

The processes are storm's. While they work, the segment, its semaphores or all of that are removed under them, also
while some of them are stopped; some are killed; the wall clock is set back and forward. Again and again all of them
end, in order or by SIGKILL. Then one more process keeps what it knows (keepsakes.py) and ends, in order or not; the
segment is removed or stays; the machine is "rebooted" (boots.py) or not; the clock is set. Before the next ones begin,
a process looks at what is there: nothing that any read brings may be older than what was finished, whatever happened;
what was not invalidated is there, unless the reboot was none in order or the clock says that its time is over. A reboot
that was none in order is a power cut: of what was written last to LMDB's numbers nothing came to the disk.

LMDB's directory is removed under those who work, too, or only the link to the environment. That excuses nobody.

With a server, which is elsewhere and knows nothing of all this, the host has a listener. It outlives the segment and
its users as the library has it; a reboot ends it with everything else, in order or not.

Who works on a segment that was removed learns of it at his next write (doubt.py).
The history checker takes each process for a host of its own, and an end for the moment at which all know everything.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stress import boots, keepsakes, listeners, tree, ways
from stress.board import C_FAULTS, C_HALT, C_REMOVALS, Shape
from stress.doubt import Doubter, DoubtingLoop, Survivor
from stress.events import NONE
from stress.fleet import Fleet, Member, ask
from stress.keepsakes import Found
from stress.proof import proven
from stress.run import Lane, Options, Run, opened
from stress.server import served
from stress.storm import LANES, Watch, conclude, leave, read_all
from stress.summary import objects_of
from stress.threads import run_together
from zoocache.shm import identity
from zoocache.storage.lmdb_files import LINK, directory_of

FLIGHT_TIMEOUT_S = 1.0
LIFE_S = 0.5, 3.0
TICK_S = 0.01
PATIENCE_S = 30.0
FAULT_EVERY_S = 0.15
STOPS_S = (0.01, 0.05, 0.2)
STEPS_MS = (0, 0, 10_000, -10_000, 2 * 3600 * 1000, -2 * 3600 * 1000)
"""What the clock is set by: beyond the life of a keepsake, or within."""
LIFE_MS = int(keepsakes.LIFE_S * 1000)

KINDS = ("removed", "removed while somebody stood", "clock set", "killed", "store removed")


def settle(run: Run) -> None:
    """In a process of the run: configure the cache, under the present boot."""
    boots.enter(run.board.control)
    if run.server_url is not None:
        listeners.use_own(run, None)
    run.settle()


def work(run: Run, slot: int) -> None:
    """What a process of the fleet does until it is to end."""
    settle(run)
    writer, *readers, looper = [Lane(run, slot, number) for number in range(LANES)]
    ways.seen.truth, ways.seen.chance = run.board.truth, run.chance("fills", slot)
    run_together(Survivor(writer), [*map(Doubter, readers), DoubtingLoop(looper)])


class End(NamedTuple):
    """How everything ends.

    Attributes:
        kills: the fleet, instead of letting it end in order.
        in_order: the last process lets go of the cache.
        removes: the segment and its semaphores.
        reboots: the next processes are told of another boot.
        step_ms: by which the clock is set.
    """

    kills: bool
    in_order: bool
    removes: bool
    reboots: bool
    step_ms: int

    def __str__(self) -> str:
        """What happens, in words."""
        parts = [
            "fleet killed" if self.kills else "fleet ended", "left in order" if self.in_order else "left behind",
            "rebooted" if self.reboots else "removed" if self.removes else "restarted",
        ]  # fmt: skip
        return ", ".join(parts)


def any_end(chance: random.Random) -> End:
    """One of all kinds; who reboots loses the segment."""
    reboots = chance.random() < 0.5
    return End(
        chance.random() < 0.5, chance.random() < 0.7, reboots or chance.random() < 0.5, reboots,
        chance.choice(STEPS_MS),
    )  # fmt: skip


def main(options: Options) -> bool:
    """Run reboot; whether all promises held."""
    with (
        opened(options, Shape(options.processes, LANES, tree.KEYS, cells=1), FLIGHT_TIMEOUT_S) as run,
        served(run),
        proven(run, slots_per_host=1) as proof,
    ):
        fleet = Fleet(run.board, lambda slot: work(run, slot), run.directory)
        try:
            play = Play(run, fleet)
            play.play()
        finally:
            fleet.end()
            listeners.end(run.prefix)
        play.tell()
        proof.end()
        return conclude(run, lambda: [*read_all(run), *_set_aside(run)], lambda: settle(run))


def _set_aside(run: Run) -> list[str]:
    """No end of a process, and no reboot, makes LMDB's files look damaged."""
    return [f"{path} was set aside" for path in Path(run.directory).glob("entries/**/set-aside.*")]


class Play:
    """Lives and ends, again and again."""

    def __init__(self, run: Run, fleet: Fleet) -> None:
        self.ends: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.survivals = 0
        self._run, self._fleet = run, fleet
        self._control = run.board.control
        self._chance = run.chance("ends")
        self._watch = Watch(run, lambda: f", {self.ends.total()} ends, {self.faults.total()} faults")
        self._next_s = 0.0
        self._kinds = KINDS if run.options.storage == "lmdb" else KINDS[:-1]
        self._store = Path(directory_of(f"{run.directory}/entries", run.prefix))
        self._on_disk = run.directory / "on-disk"

    def play(self) -> None:
        """Until time is over and enough was survived, or somebody failed; the last life has its end."""
        end_s = time.monotonic() + self._run.options.seconds
        while self._run.goes_on(end_s, self.survivals):
            begin_s = time.monotonic()
            until_s = begin_s + self._chance.uniform(*LIFE_S)
            self._live(min(end_s, until_s) if begin_s < end_s else until_s)
            self._end(any_end(self._chance))

    # A life.

    def _live(self, until_s: float) -> None:
        while time.monotonic() < until_s and not self._run.failed:
            self._fill_places()
            if time.monotonic() >= self._next_s:
                self._next_s = time.monotonic() + self._chance.uniform(0, 2 * FAULT_EVERY_S)
                self._strike()
            self._watch.look(self._fleet)
            time.sleep(TICK_S)

    def _fill_places(self) -> None:
        self._bury()
        for slot in range(self._run.options.processes):
            if slot not in self._fleet.members:
                self._fleet.start(slot)

    def _bury(self) -> None:
        for departure in self._fleet.look():
            if not departure.member.killed and not self._run.failed:
                self._run.fail(f"process {departure.member.pid} ended with {departure.status}, {self}")

    def __str__(self) -> str:
        return f"seed {self._run.options.seed}, life {self.ends.total()}"

    def _strike(self) -> None:
        kind = self._chance.choice(self._kinds)
        ready = self._ready()
        if kind == "removed":
            self._remove_some()
        elif kind == "store removed":
            self._remove_store()
        elif kind == "clock set":
            boots.set_clock(self._control, self._chance.choice(STEPS_MS))
        elif not ready:
            return
        elif kind == "killed":
            self._fleet.kill(self._chance.choice(ready))
        else:
            self._remove_under(self._chance.sample(ready, min(len(ready), 2)))
        self.faults[kind] += kind != "killed"

    def _ready(self) -> list[Member]:
        return [
            member for member in self._fleet.members.values()
            if self._fleet.is_ready(member.slot) and not member.killed
        ]  # fmt: skip

    def _remove_under(self, members: list[Member]) -> None:
        """While they stand, and the others go on."""
        for member in members:
            self._fleet.stop(member)
        self._remove_some()
        until_s = time.monotonic() + self._chance.choice(STOPS_S)
        while time.monotonic() < until_s:
            self._bury()
            time.sleep(TICK_S / 10)
        for member in members:
            self._fleet.resume(member)

    def _remove_some(self) -> None:
        """The segment, a semaphore, or all that lies in shared memory."""
        segment = identity.segment_name(self._run.prefix)
        parts = [identity.segment_file(segment), identity.semaphore_file(identity.gate_name(segment))]
        chosen = [Path(each).name for each in self._chance.choice((parts, parts[:1], parts[1:]))]
        self._remove([name for name in objects_of(self._run.prefix) if name in chosen])

    def _remove_store(self) -> None:
        """The directory, or the link in it alone. Who builds another store sees to what is left of this one.

        The directory goes in one step: what somebody finds half removed is set aside, and rightly so, and could not be
        told from what an end had made look damaged.
        """
        if self._chance.random() < 0.5:
            removed = Path(self._run.directory) / f"removed.{time.monotonic_ns()}"
            with contextlib.suppress(FileNotFoundError):
                self._store.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)
        else:
            (self._store / LINK).unlink(missing_ok=True)

    def _remove(self, names: list[str]) -> None:
        self._control[C_REMOVALS] += 1
        for name in names:
            Path(identity.SHM_DIR, name).unlink(missing_ok=True)
        self._control[C_REMOVALS] += 1

    # An end.

    def _end(self, end: End) -> None:
        self._end_fleet(end)
        if self._run.failed:
            return
        self._control[C_HALT] = 0
        self._run.board.own_ring().note("settled", NONE, time.monotonic_ns(), time.monotonic_ns())
        age = self.ends.total()
        kept = self._ask_for(lambda: keepsakes.keep(age, end.in_order, self._note_the_disk))
        self._change_the_world(end)
        found = self._ask_for(lambda: keepsakes.look(age))
        if kept is not None and found is not None and self._run.options.storage != "memory":
            self._judge(end, kept, found)
        self.ends[str(end)] += 1

    def _end_fleet(self, end: End) -> None:
        if not end.kills:
            leave(self._run, self._fleet)
            return
        for member in self._fleet.members.values():
            self._fleet.kill(member)
        while self._fleet.members:
            self._bury()
            time.sleep(TICK_S / 10)

    def _note_the_disk(self) -> None:
        """What of the numbers comes to the disk, should the power be cut."""
        for numbers in self._store.glob("epoch.*/numbers.mdb"):
            shutil.copyfile(numbers, self._on_disk)

    def _cut_the_power(self) -> None:
        """The same file, with what it had before."""
        for numbers in self._store.glob("epoch.*/numbers.mdb"):
            with open(numbers, "r+b") as file:
                file.write(self._on_disk.read_bytes())

    def _change_the_world(self, end: End) -> None:
        if end.reboots:
            listeners.end(self._run.prefix, signal.SIGTERM if end.in_order else signal.SIGKILL)
        if end.removes:
            self._remove(list(objects_of(self._run.prefix)))
        if end.reboots:
            boots.reboot(self._control)
        if end.reboots and not end.in_order:
            self._cut_the_power()
        boots.set_clock(self._control, end.step_ms)

    def _ask_for(self, question: Callable[[], Found]) -> Found | None:
        """Have a fresh process look, which reads everything else too. It ends without letting go of the cache."""
        run = self._run

        def answer() -> tuple[list[str], Found]:
            settle(run)
            faults = read_all(run)
            listeners.await_one(run)
            return faults, question()

        try:
            faults, found = ask(answer, run.limit_s(PATIENCE_S))
        except (TimeoutError, ChildProcessError) as error:
            run.fail(f"the cache cannot be used, {self}: {error}")
            return None
        for fault in faults:
            run.fail(f"{self}: {fault}")
        return Found(*found)

    def _judge(self, end: End, kept: Found, found: Found) -> None:
        """What had to survive, and what must not have."""
        is_far = self._run.options.storage == "redis"  # where nothing was rebooted, and no clock was set
        remains = is_far or end.in_order or not end.reboots
        in_time = is_far or not end.reboots or 0 <= end.step_ms < LIFE_MS
        must = [("lasting", remains), ("named", remains), ("ageing", remains and in_time)]
        must_not = [("doomed", True), ("ageing", not in_time)]
        for name, holds in must:
            if holds and getattr(kept, name) != getattr(found, name):
                self._run.fail(f"LOST: {name} keepsakes did not survive: {kept} became {found}; {end}, {self}")
        for name, holds in must_not:
            if holds and set(getattr(kept, name)) & set(getattr(found, name)):
                self._run.fail(f"BACK: {name} keepsakes came back: {kept} became {found}; {end}, {self}")
        self.survivals += remains

    def tell(self) -> None:
        """Show what was done."""
        self._control[C_FAULTS] += self.faults.total()
        self._run.say(f"{self.ends.total()} ends, {self.survivals} of them survived by what was kept")
        for counts in (self.ends, self.faults):
            self._run.say("  " + "; ".join(f"{name} {count}" for name, count in sorted(counts.items())))
