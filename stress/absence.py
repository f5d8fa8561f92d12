"""Absence, of partition: a host goes away, with all its processes, its listener and its segment; its LMDB stays.

While it is away the others go on, and come to where the server is. Then it comes back, and is asked at once: it must
have learned all that it missed before it believes anything that lies on it.
"""

from __future__ import annotations

from collections.abc import Callable

from stress.fleet import Fleet
from stress.hosts import Host, Hosts
from stress.run import Run
from zoocache import SegmentError

PART = 0.5
"""So often, after a check."""
LASTS_S = 0.2, 0.8
GONE_S = 10.0


def _is_removed(host: Host) -> bool:
    """Kill its listener; whether its segment could be removed. Who dies is attached for a moment more."""
    host.kill_listener()
    try:
        host.remove()
    except SegmentError:
        return False
    return True


class Absence:
    """Who is away at present.

    Args:
        run, hosts, fleet: of the program.

    Attributes:
        host: that is away; None: all are there.
    """

    def __init__(self, run: Run, hosts: Hosts, fleet: Fleet) -> None:
        self.host: Host | None = None
        self._run, self._hosts, self._fleet = run, hosts, fleet
        self._chance = run.chance("absence")

    def is_due(self) -> bool:
        """Whether somebody is to go away now."""
        return len(self._hosts.all) > 1 and self._chance.random() < PART

    def lasts_s(self) -> float:
        """For how long."""
        return self._chance.uniform(*LASTS_S)

    def is_of(self, slot: int) -> bool:
        """Whether a place in the fleet is of the host that is away."""
        return self.host is not None and self._hosts.host_of(slot) is self.host

    def begin(self, bury: Callable[[], None]) -> None:
        """Have a host go away. Nobody writes, everything is told, and it has a listener.

        Args:
            bury: sees who has died, and fills the places of the other hosts.
        """
        self.host = host = self._chance.choice(self._hosts.all)
        for slot, member in self._fleet.members.items():
            if self.is_of(slot):
                self._fleet.kill(member)
        self._until(lambda: not any(map(self.is_of, self._fleet.members)), bury)
        self._until(lambda: _is_removed(host), bury)

    def _until(self, holds: Callable[[], bool], bury: Callable[[], None]) -> None:
        self._run.wait_until(holds, bury, GONE_S, f"{self.host} does not go away")

    def end(self) -> None:
        """It may come back."""
        self.host = None
