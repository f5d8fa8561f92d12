"""One run of a program: its options, its files, its reports of failures, and what it removes at the end."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zoocache
from stress import mutants, summary
from stress.board import C_FAILED, C_HALT, C_STOPPED_NS, L_SINCE_NS, S_LIFE, S_PID, S_READY, S_STOPS, Board, Shape
from stress.events import Ring
from zoocache.errors import SegmentError
from zoocache.shm import attachment
from zoocache.shm.layout import MIN_SIZE

MAP_SIZE = 64 * 1024 * 1024
SERVER_TIMEOUT_S = 5.0
"""Of a question to a server that is well, on a machine that may be slow."""
GONE_S, GONE_TICK_S = 15.0, 0.02
"""How long the killed may take to be gone, and how often that is looked at."""
TICK_S = 0.005

DIRECTORY = "zoocache-stress"
"""What the names of runs' directories begin with; then comes the number of the supervisor."""
PREFIX = "prefix"
"""The file with the prefix of a run, for those who come when it was killed (remains.py)."""
LOG = "log"
LOG_LINES = 20


Place = tuple[Path, str]
"""A directory, and a prefix of the cache: of one run alone, and both with its supervisor's number in them."""


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        processes: in the fleet.
        seconds: how long the fleet works.
        seed: of all that is chosen by chance.
        storage: "memory", "lmdb" or "redis".
        slack: multiplies every limit of time, for machines that are slow or have much else to do.
        mutant: the fault to plant into the library; "" for none.
        hosts: of partition; `processes` is how many each of them has.
        points: of killer: only at named points that begin so somebody dies or stops by himself.
        bus: whether the hosts hear each other; with one host, whether it has a bus all the same.
        history: a directory in which all events are kept; "" for none.
        least: of churn, reboot and herd: how much is to be done before they end, however long it takes.
    """

    processes: int
    seconds: float
    seed: int
    storage: str = "memory"
    slack: float = 1.0
    mutant: str = ""
    hosts: int = 1
    bus: bool = False
    history: str = ""
    points: str = ""
    least: int = 0


class Run:
    """One run; `opened` makes it.

    Args:
        options, shape, flight_timeout_s: see `opened`.
        place: its directory and its prefix.
        is_new: nobody else has begun it; otherwise this process joins it.

    Attributes:
        options, board: see there.
        directory: holds all its files.
        prefix: of the cache, of this run alone.
        flight_timeout_s: what the cache is configured with.
        tokens_lost: how many the verdict missed in gates.
        server_url: of the one server of a run with one host; None: it has none, or its hosts have their own.
        server_pid: its process; 0: there is none.
        missing: what was never done, though a run proves nothing without it.
    """

    def __init__(
        self, options: Options, shape: Shape, flight_timeout_s: float, place: Place, is_new: bool = False
    ) -> None:  # fmt: skip
        self.options = options
        self.flight_timeout_s = flight_timeout_s
        self.directory, self.prefix = place
        self.board = Board(self.directory / "board", shape, is_new)
        self.supervisor = os.getpid()
        self.tokens_lost = 0
        self.server_url: str | None = None
        self.server_pid = 0
        self.missing: list[str] = []
        self._failures = self.directory / "failures"
        self._failures.touch()
        self._log = self.directory / LOG
        self._log.touch()
        self._last_line_s = 0.0
        self._began_ns = time.monotonic_ns()

    def settle(self, **options: Any) -> None:
        """In a process of the fleet: configure the cache, keep what it logs, and plant the mutant.

        Args:
            options: of the cache, beside those that all runs have.
        """
        keep_log(self.directory)
        storages = {"memory": None, "lmdb": f"lmdb://{self.directory}/entries", "redis": self.server_url}
        common: dict[str, Any] = {
            "storage_url": storages[self.options.storage], "prefix": self.prefix, "shm_size": MIN_SIZE,
            "flight_timeout": self.flight_timeout_s, "lmdb_map_size": MAP_SIZE, "redis_timeout": SERVER_TIMEOUT_S,
            "bus_url": self.server_url if self.options.bus else None,
        }  # fmt: skip
        zoocache.configure(**common | options)
        mutants.plant(self.options.mutant)

    def chance(self, *names: object) -> random.Random:
        """A source of chance of its own for whatever has these names."""
        return random.Random(f"{self.options.seed} {names}")

    def expect_some(self, what: str, done: int) -> None:
        """Say how much was done of something without which a run proves nothing."""
        if not done:
            self.missing.append(what)

    def goes_on(self, end_s: float, done: int) -> bool:
        """Whether the program is to go on: its time is not over, or less was done than was asked for."""
        return not self.failed and (time.monotonic() < end_s or done < self.options.least)

    def wait_until(
        self, holds: Callable[[], object], meanwhile: Callable[[], object], seconds: float, fault: str
    ) -> None:  # fmt: skip
        """Wait for something, or for a failure of anybody.

        Args:
            holds: whether it has come.
            meanwhile: what is to be done again and again.
            seconds: for how long on a machine that is quick.
            fault: what is wrong otherwise.

        Raises:
            TimeoutError: it does not come.
        """
        until_s = time.monotonic() + self.limit_s(seconds)
        while not self.failed and not holds():
            meanwhile()
            if time.monotonic() > until_s:
                raise TimeoutError(f"{fault}, seed {self.options.seed}")
            time.sleep(TICK_S)

    def limit_s(self, seconds: float) -> float:
        """A limit of time on this machine."""
        return seconds * self.options.slack

    # Failures.

    def fail(self, text: str) -> None:
        """Report that a promise was broken: the run ends and its exit status is 1. Any process may."""
        with open(self._failures, "a") as file:
            file.write(text.rstrip() + "\n\n")
        self.board.control[C_FAILED] = self.board.control[C_FAILED] or time.monotonic_ns()

    @property
    def failed(self) -> bool:
        """Whether anybody reported a failure."""
        return bool(self.board.control[C_FAILED])

    def stale_reads(self) -> int:
        """How many were reported, by the judge that saw more of them: both may see one."""
        said = self._failures.read_text()
        return max(said.count("STALE: "), said.count("HISTORY, "))

    def all_held(self) -> bool:
        """Show all reports, with what the library has logged last; whether there was none."""
        if self.failed:
            self.say(f"\n{self._failures.read_text()}")
            self.say(f"caught after {(self.board.control[C_FAILED] - self._began_ns) / 1e9:.1f} s")
            self.say("\n".join(["the library's log:", *self._log.read_text().splitlines()[-LOG_LINES:]]))
        return not self.failed

    # Progress.

    def say(self, text: str) -> None:
        """Show a line."""
        print(text, flush=True)

    def progress(self, text: str, every_s: float = 1.0) -> None:
        """Show how far it is: on a terminal in one line that is written over, else in a line now and then."""
        now_s = time.monotonic()
        on_terminal = sys.stdout.isatty()
        if now_s - self._last_line_s < (every_s if on_terminal else 5 * every_s):
            return
        self._last_line_s = now_s
        print(f"\r\x1b[K  {text}" if on_terminal else f"  {text}", end="" if on_terminal else "\n", flush=True)

    @property
    def halted(self) -> bool:
        """Whether all lanes are to leave."""
        return bool(self.board.control[C_HALT])

    def halt(self) -> None:
        """Tell all lanes to leave."""
        self.board.control[C_HALT] = 1


def _new_place() -> Place:
    base = os.environ.get("ZOOCACHE_PREFIX") or "stress"
    prefix = f"{base}-{os.getpid()}-{secrets.token_hex(3)}"
    return Path(tempfile.mkdtemp(prefix=f"{DIRECTORY}-{os.getpid()}-")), prefix


def _remove(directory: Path, prefix: str) -> None:
    """Remove the segment, the semaphore and all files of a run."""
    try:
        destroy(prefix)
    finally:
        shutil.rmtree(directory)


def destroy(prefix: str, host_id: str = "") -> None:
    """Remove a segment and its semaphore once the last has let go of it: who was killed gives back its memory first,
    and its descriptors, and the locks on them, a moment later; who reads what it maps can keep that for a moment more.

    Raises:
        SegmentError: somebody uses it.
    """
    until_s = time.monotonic() + GONE_S
    while True:
        try:
            attachment.destroy(prefix, host_id)
        except SegmentError as error:  # noqa: PERF203  # it is what the loop is for
            if error.errno != errno.EBUSY or time.monotonic() > until_s:
                raise
            time.sleep(GONE_TICK_S)
        else:
            return


def keep_log(directory: Path) -> None:
    """Have what this process's library logs kept in a run's directory."""
    logging.basicConfig(filename=directory / LOG, format="%(created).3f %(process)d %(threadName)s %(message)s")
    logging.getLogger("zoocache").setLevel(logging.DEBUG)


class Leaked(Exception):
    """Something lies in shared memory that everybody has let go."""


class Idle(Exception):
    """Nothing was done, so nothing was proved."""


@contextlib.contextmanager
def opened(options: Options, shape: Shape, flight_timeout_s: float = 30.0) -> Iterator[Run]:
    """A run that leaves nothing behind, and tells in the end what it came to.

    Args:
        options: of the command line.
        shape: of its board.
        flight_timeout_s: of its cache.

    Raises:
        Leaked: not everything could be removed.
        Idle: no promise was broken, for nothing was done.
    """
    place = _new_place()
    try:
        (place[0] / PREFIX).write_text(place[1])
        run = Run(options, shape, flight_timeout_s, place, is_new=True)
        if options.storage == "lmdb":
            importlib.import_module("zoocache.storage.lmdb")  # once, for all that are forked
        yield run
        figures, stale = summary.figures_of(run.board), run.stale_reads()
    finally:
        _remove(*place)
    left = summary.objects_of(run.prefix)
    run.say(summary.summed_up(figures, stale, run.tokens_lost, sum(left.values())))
    if left:
        raise Leaked(f"the run has left {left}, seed {options.seed}")
    run.expect_some("operations", figures.operations)
    if run.missing and not run.failed:
        raise Idle(f"too little was done to prove anything: no {' and no '.join(run.missing)}, seed {options.seed}")


class Lane:
    """One thread of one process of the fleet.

    Attributes:
        run, slot, number: where it belongs.
        counters: its own words on the board.
        ring: its own events.
        chance: its own.
    """

    __slots__ = ("_control", "_place", "chance", "counters", "number", "ring", "run", "slot")

    def __init__(self, run: Run, slot: int, number: int) -> None:
        board = run.board
        self.run = run
        self.slot = slot
        self.number = number
        self.counters = board.lane(slot, number)
        self.ring: Ring = board.ring(slot, number)
        self.ring.touch()
        self._control = board.control
        self._place = board.slot(slot)
        self.chance = run.chance(slot, self._place[S_LIFE], number)
        self.counters[L_SINCE_NS] = 0

    def __str__(self) -> str:
        return f"seed {self.run.options.seed}, slot {self.slot}, lane {self.number}"

    def goes_on(self) -> bool:
        """Whether there is still something to do."""
        return not self._control[C_HALT]

    def stops(self) -> int:
        """Moves whenever the process is stopped or goes on."""
        return self._place[S_STOPS]

    def others_stopped_ns(self) -> int:
        """How long, altogether, some process of the fleet was stopped so far."""
        return self._control[C_STOPPED_NS]

    def ready(self) -> None:
        """Say that the process is at work."""
        self._place[S_READY] = self._place[S_PID] = os.getpid()
