"""Idleness, of partition: a host of which nobody uses the cache for a while, and whose listener dies in that time.

Its processes live on, with all that they hold, but none of them looks at anything; the keeper dies with the listener,
so nobody hears and nobody begins another. The others go on, and come to where the server is. Then everybody on that
host reads at once: the first who comes finds that nobody has listened, and nothing of before may be believed. Half of
the time all of them are new by then: what lies on their host is all that they have, and none has ever looked.
"""

from __future__ import annotations

from collections.abc import Callable

from stress.board import C_IDLE
from stress.far import IDLE_HERE
from stress.fleet import Fleet
from stress.hosts import Host, Hosts
from stress.run import Run
from zoocache.engine.watch import WATCH_S

PART = 0.4
"""So often, after a check."""
NEW_PART = 0.5
"""So often those who come back are others."""
LASTS_S = WATCH_S + 0.1, WATCH_S + 0.5
"""A process looks after its listener once in WATCH_S; who is idle for less is as late as that."""
CALM_S = 15.0


class Idleness:
    """Who is idle at present.

    Args:
        run, hosts, fleet: of the program.

    Attributes:
        host: that is idle; None: all are at work.
    """

    def __init__(self, run: Run, hosts: Hosts, fleet: Fleet) -> None:
        self.host: Host | None = None
        self._run, self._hosts, self._fleet = run, hosts, fleet
        self._chance = run.chance("idleness")

    def is_due(self) -> bool:
        """Whether some host is to be idle now."""
        return len(self._hosts.all) > 1 and self._run.options.bus and self._chance.random() < PART

    def lasts_s(self) -> float:
        """For how long."""
        return self._chance.uniform(*LASTS_S)

    def begin(self, bury: Callable[[], None]) -> None:
        """Have a host become idle, and kill its listener. Nobody writes, and everything is told and heard.

        Args:
            bury: sees who has died, and fills their places.
        """
        self.host = host = self._chance.choice(self._hosts.all)
        self._run.board.control[C_IDLE] = host.number + 1
        self._until(lambda: self._is_calm(host), bury)
        if self._chance.random() < NEW_PART:
            self._replace(host, bury)
        self._until(lambda: not host.kill_listener(), bury)

    def _is_calm(self, host: Host) -> bool:
        """Whether all its threads are idle, and what they have told before is everywhere."""
        cells = self._run.board.cells
        return (
            all(word == IDLE_HERE for slot in self._slots(host) for word in cells(slot)) and not self._hosts.unsettled()
        )

    def _slots(self, host: Host) -> range:
        each = self._run.options.processes
        return range(host.number * each, (host.number + 1) * each)

    def _replace(self, host: Host, bury: Callable[[], None]) -> None:
        """Kill all its processes; others take their places, and are idle as well."""
        members = self._fleet.members
        killed = [members[slot] for slot in self._slots(host)]
        for member in killed:
            self._fleet.kill(member)
        self._until(
            lambda: all(members.get(old.slot) is not old and self._fleet.is_ready(old.slot) for old in killed), bury
        )  # fmt: skip

    def _until(self, holds: Callable[[], bool], bury: Callable[[], None]) -> None:
        self._run.wait_until(holds, bury, CALM_S, f"{self.host} does not become idle")

    def end(self) -> None:
        """It is used again."""
        self.host = None
        self._run.board.control[C_IDLE] = 0
