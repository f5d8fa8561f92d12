"""The hosts of partition: several on one machine, each with a segment, a network and a clock of its own; one server.

A host is a `host_id`: its processes share a segment, and a directory for LMDB. Between it and the server stands a proxy
of its own (tests/proxy.py), so its network can fail while the others' work. Its wall clock is the machine's plus what
stands on the board, for its listener too.

What the program wants to know of a host it reads from the words of the segment's file, not through the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stress import listeners, mutants
from stress.board import C_CLOCKS
from stress.run import Run, destroy
from zoocache import clock
from zoocache.server.names import names_of
from zoocache.shm import identity
from zoocache.shm.layout import (
    H_BUS_EPOCH,
    H_BUS_MARK,
    H_BUS_N,
    H_CAUGHT_UP,
    H_FLOORED,
    H_GAPS,
    H_HEARD,
    H_LISTENER_PID,
    H_OUT_HEAD,
    H_OUT_LOST,
    H_OUT_TAIL,
    H_OWN_MARK,
    H_SENT,
    HEADER_WORDS,
    MIN_SIZE,
    WORD,
)

if TYPE_CHECKING:
    from tests.proxy import Proxy
    from tests.servers import Server

MOST_HOSTS = 8
REDIS_TIMEOUT_S = 0.25
UNSKEWED = 2**40
"""A clock's word is what it differs by, plus this; 0 on a new board: by nothing."""

SIZES = (4 * 2**20, 2**20, MIN_SIZE)
"""Of the hosts' segments, in turn. In the smallest the outbox is soon full, and then everything is cleared, which would
hide whatever else is wrong."""


class Standing(NamedTuple):
    """How far a host, or the server, is.

    Attributes:
        epoch, n, mark: of the latest message; 0 if nobody knows.
    """

    epoch: int
    n: int
    mark: int


class Host:
    """One host, as the program sees it.

    Attributes:
        number: from 0.
        host_id: of the configuration.
        network: between it and the server.
    """

    def __init__(self, run: Run, number: int, network: Proxy) -> None:
        self.number = number
        self.host_id = f"host{number}"
        self.network = network
        self._prefix = run.prefix
        self._file = Path(identity.segment_file(identity.segment_name(run.prefix, host_id=self.host_id)))

    def words(self) -> memoryview:
        """The header of its segment, as it stands now; zeros for what is not there, or is being made."""
        size = HEADER_WORDS * WORD
        try:
            found = self._file.read_bytes()[:size]
        except FileNotFoundError:
            found = b""
        return memoryview(found.ljust(size, b"\0")).cast("Q")

    def listener(self) -> int:
        """The process of its listener; 0 if it has none that lives."""
        pid = int(self.words()[H_LISTENER_PID])
        return pid if pid in listeners.of(self._prefix, (pid,)) else 0

    def kill_listener(self) -> bool:
        """Kill its listener, and before it its keeper, which would begin another; whether there was any."""
        pid = self.listener()
        return bool(pid) and listeners.kill(self._prefix, pid)

    def settled(self, server: Standing, hears: bool) -> str:
        """What keeps it from having told and heard everything; "" for nothing. Who hears nothing compares all the same
        what it knows, its own messages too, with what the server has."""
        words = self.words()
        if not self.listener():
            return f"{self.host_id} has no listener"
        if words[H_OUT_TAIL] < words[H_OUT_HEAD]:
            return f"{self.host_id} has {words[H_OUT_HEAD] - words[H_OUT_TAIL]} bytes in its outbox"
        is_there = Standing(words[H_BUS_EPOCH], words[H_BUS_N], words[H_BUS_MARK]) == server and not words[H_OWN_MARK]
        if not is_there or (hears and not words[H_CAUGHT_UP]):
            return f"{self.host_id} is at {words[H_BUS_N]} of epoch {words[H_BUS_EPOCH]:x}, the server at {server}"
        return ""

    def remove(self) -> None:
        """Remove its segment; nobody is attached any more."""
        destroy(self._prefix, self.host_id)


class Hosts:
    """All hosts of a run, and their server. `end` leaves nothing behind.

    Attributes:
        all: in the order of their numbers.
        pair: the server of all, and its replica.
    """

    def __init__(self, run: Run) -> None:
        from tests.children import Children  # what the tests need, only this program does too
        from tests.proxy import Proxy
        from tests.servers import Servers

        self._run = run
        self._servers, self._children = Servers(), Children()
        self._numbers = names_of(run.prefix).numbers
        try:
            self.pair = self._servers.pair()
            self.all = [Host(run, number, Proxy(self._children, self.pair.path)) for number in range(run.options.hosts)]
        except BaseException:
            self._end_network()
            raise

    @property
    def server(self) -> Server:
        """Of all, at present."""
        return self.pair.master

    def host_of(self, slot: int) -> Host:
        """The host of a place in the fleet."""
        return self.all[slot // self._run.options.processes]

    def settle(self, slot: int) -> None:
        """In a process of the fleet: configure the cache for its host."""
        run, host, url = self._run, self.host_of(slot), self.host_of(slot).network.url
        storage = {"memory": "memory://", "lmdb": f"lmdb://{run.directory}/{host.host_id}", "redis": url}
        skew(run.board.control, host.number)
        listeners.use_own(run, host.number)
        run.settle(
            storage_url=storage[run.options.storage], bus_url=url if run.options.bus else None, host_id=host.host_id,
            redis_timeout=REDIS_TIMEOUT_S, shm_size=SIZES[host.number % len(SIZES)],
        )  # fmt: skip

    def standing(self) -> Standing:
        """How far the server is."""
        with self.server.client() as client:
            found: list[Any] = client.hmget(self._numbers.decode(), ["epoch", "n", "mark"])
        epoch, n, mark = found
        return Standing(int(epoch or b"0", 16), int(n or 0), int.from_bytes(mark or b"", "little"))

    def unsettled(self, away: Host | None = None) -> str:
        """What keeps some host from having told and heard everything; "" for nothing. Who is away is not asked."""
        server = self.standing()
        hears = self._run.options.bus
        found = [host.settled(server, hears) for host in self.all if host is not away]
        return "; ".join(filter(None, found)) or ("" if self.standing() == server else "the numbers still grow")

    def tell(self) -> None:
        """Show what crossed between them."""
        for host in self.all:
            words = host.words()
            self._run.say(
                f"{host.host_id}: {words[H_SENT]} messages sent by its listener, {words[H_HEARD]} heard, "
                f"{words[H_GAPS]} gaps, {words[H_FLOORED]} floors, {words[H_OUT_LOST]} full outboxes"
            )

    def end(self) -> None:
        """End the listeners, remove the segments, and end network and server."""
        try:
            listeners.end(self._run.prefix)
            for host in self.all:
                host.remove()
        finally:
            self._end_network()

    def _end_network(self) -> None:
        self._children.end()
        self._servers.end()


def skew(control: memoryview, host: int) -> None:
    """Have this process read its wall clock as its host's shows it."""
    whole, wall = clock.now, clock.wall_ms

    def off_ms() -> int:
        return int(control[C_CLOCKS + host] or UNSKEWED) - UNSKEWED

    mutants.put(clock, "wall_ms", lambda: wall() + off_ms())
    mutants.put(clock, "now", lambda: whole()._replace(wall_ms=whole().wall_ms + off_ms()))
