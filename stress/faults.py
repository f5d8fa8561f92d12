"""The faults of partition: what is done to networks, listeners, the server, workers and clocks, and undone again.

Each subject (a network, a listener, the server) has at most one fault at a time, which ends by itself after a while:
so faults of several subjects overlap in all ways. `heal` ends all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from stress.board import C_CLOCKS, C_STOPPED_NS
from stress.fleet import Fleet, Member
from stress.hosts import UNSKEWED, Host, Hosts
from stress.run import Run

EVERY_S = 0.15
"""A fault begins about so often."""

LASTS_S = (0.02, 0.05, 0.1, 0.3, 0.6, 1.2, 2.0)
STOPS_S = (0.02, 0.05, 0.1, 0.3, 0.8)
"""A listener or a worker that stands may hold the lock, for which a writer waits two seconds."""

DELAYS_MS = (2, 10, 50, 150)
SKEW_MS = 10 * 60 * 1000
WEIGHTS = {"network": 40, "listener": 15, "server": 10, "failover": 15, "worker": 15, "clock": 5}


class Fault(NamedTuple):
    """What is wrong at present.

    Attributes:
        until_s: when it ends, monotonic.
        stops: whether some process stands still that others may have to wait for.
        undo: ends it.
    """

    until_s: float
    stops: bool
    undo: Callable[[], None]


class Faults:
    """What is done to a run.

    Args:
        run, hosts, fleet: whom it is done to.

    Attributes:
        done: how often what was done.
    """

    def __init__(self, run: Run, hosts: Hosts, fleet: Fleet) -> None:
        self.done: Counter[str] = Counter()
        self._run, self._hosts, self._fleet = run, hosts, fleet
        self._chance: random.Random = run.chance("faults")
        self._present: dict[str, Fault] = {}
        self._next_s = 0.0
        self._kinds: list[str] = list(WEIGHTS)
        self._looked_ns = time.monotonic_ns()

    def choose(self) -> None:
        """What is struck from now on. Not everything each time: a server that lost its memory has everything cleared
        everywhere, and would hide whatever else is wrong."""
        self._kinds = ["network", *self._chance.sample(list(WEIGHTS)[1:], self._chance.randint(1, 3))]

    def act(self) -> None:
        """End what is over, and begin something, now and then."""
        self._count_stopped()
        now_s = time.monotonic()
        for subject, fault in list(self._present.items()):
            if fault.until_s <= now_s:
                self._undo(subject)
        if now_s >= self._next_s:
            self._next_s = now_s + self._chance.uniform(0, 2 * EVERY_S)
            self._begin()

    def heal(self) -> None:
        """End everything that is wrong."""
        for subject in list(self._present):
            self._undo(subject)
        self._count_stopped()

    def _undo(self, subject: str) -> None:
        self._count_stopped()
        self._present.pop(subject).undo()

    def _count_stopped(self) -> None:
        """As the fleet does for its own."""
        now_ns = time.monotonic_ns()
        if any(fault.stops for fault in self._present.values()):
            self._run.board.control[C_STOPPED_NS] += now_ns - self._looked_ns
        self._looked_ns = now_ns

    def _begin(self) -> None:
        strike = {
            "network": self._strike_network, "listener": self._strike_listener, "server": self._strike_server,
            "failover": self._strike_replication, "worker": self._strike_worker, "clock": self._strike_clock,
        }  # fmt: skip
        strike[self._chance.choices(self._kinds, [WEIGHTS[kind] for kind in self._kinds])[0]]()

    def _lasts(self, subject: str, undo: Callable[[], None], lasts_s: tuple[float, ...], stops: bool = False) -> None:
        self._present[subject] = Fault(time.monotonic() + self._chance.choice(lasts_s), stops, undo)

    def _any_host(self) -> Host:
        return self._chance.choice(self._hosts.all)

    def _strike_network(self) -> None:
        host = self._any_host()
        network, subject = host.network, f"network of {host.host_id}"
        if subject in self._present:
            return
        kinds: dict[str, Callable[[], None]] = {
            "cut": network.cut, "stall": network.stall, "drop": network.drop, "reset": network.reset,
            "delay": lambda: network.delay(self._chance.choice(DELAYS_MS)),
            "stall in a reply": lambda: network.stall_after(self._chance.randrange(1, 40)),
        }  # fmt: skip
        kind = self._chance.choice(list(kinds))
        kinds[kind]()
        self.done[kind] += 1
        self._lasts(subject, network.heal, LASTS_S)

    def _strike_listener(self) -> None:
        host = self._any_host()
        subject, pid = f"listener of {host.host_id}", host.listener()
        if not pid or subject in self._present:
            return
        if self._chance.random() < 0.5:
            _signal(pid, signal.SIGKILL)
            self.done["listener killed"] += 1
        else:
            _signal(pid, signal.SIGSTOP)
            self.done["listener stopped"] += 1
            self._lasts(subject, lambda: _signal(pid, signal.SIGCONT), STOPS_S, stops=True)

    def _strike_server(self) -> None:
        server = self._hosts.server
        if "server" in self._present:
            return
        kind = self._chance.choice(("killed", "killed", "flushed", "frozen"))
        self.done[f"server {kind}"] += 1
        if kind == "killed":
            server.kill()
            self._lasts("server", server.start, LASTS_S)
        elif kind == "frozen":
            server.freeze()
            self._lasts("server", server.thaw, LASTS_S)
        else:
            server.ask("FLUSHALL")

    def _strike_replication(self) -> None:
        """For a while the replica gets nothing more; then it is the master."""
        if "server" not in self._present:
            self._hosts.pair.part()
            self._lasts("server", self._fail_over, LASTS_S)

    def _fail_over(self) -> None:
        """What came since the replica was parted from its master is lost; it gets a replica of its own."""
        self.done["failover that lost the latest"] += 1
        self._hosts.pair.fail_over()
        self._hosts.pair.replicate()

    def _strike_worker(self) -> None:
        member = self._chance.choice(list(self._fleet.members.values()))
        subject = f"worker {member.slot}"
        if member.killed or subject in self._present or not self._fleet.is_ready(member.slot):
            return
        if self._chance.random() < 0.5:
            self._fleet.kill(member)
            self.done["worker killed"] += 1
        else:
            self._fleet.stop(member)
            self.done["worker stopped"] += 1
            self._lasts(subject, lambda: self._resume(member), STOPS_S)

    def _resume(self, member: Member) -> None:
        if self._fleet.members.get(member.slot) is member and not member.killed:
            self._fleet.resume(member)

    def _strike_clock(self) -> None:
        off_ms = self._chance.randint(-SKEW_MS, SKEW_MS)
        self._run.board.control[C_CLOCKS + self._any_host().number] = UNSKEWED + off_ms
        self.done["clock set"] += 1


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
