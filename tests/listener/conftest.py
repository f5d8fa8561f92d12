"""What the tests of the listener share: hosts whose listeners are real processes, which are gone in the end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from stress import processes
from tests.crowd import until
from tests.shared_memory import objects_of
from zoocache import clock, deps
from zoocache.bus import Message
from zoocache.bus.redis import RedisBus
from zoocache.config import Settings
from zoocache.engine.hosts import Hosts
from zoocache.listener.starter import PROGRAM, Starter
from zoocache.server.link import Link
from zoocache.server.url import address_of
from zoocache.shm.attachment import attach
from zoocache.shm.layout import H_LISTENER_PID, H_SEQ, MIN_SIZE
from zoocache.trie import Trie, target_of, words_of


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and no zombie of it."""
    return not processes.is_dead(pid)


def keeper_of(pid: int) -> int:
    """The process that waits for a listener."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


PATIENT_S = 10.0
"""For the answer of a server that nobody stops. A listener that leaves waits for its sender, twice as long at most."""


def end_listeners(prefix: str, number: int = signal.SIGKILL, spared: Sequence[int] = ()) -> None:
    """End the listeners of a prefix and their keepers, which would begin others; and those that are on their way, for
    where the first one takes long to come somebody begins a second, which takes its place.

    Args:
        prefix: of this test.
        number: the signal.
        spared: listeners of other hosts, which stay.
    """
    staying = {each for pid in spared for each in (pid, keeper_of(pid))}

    processes.end(lambda: [pid for pid in processes.of((PROGRAM, prefix)) if pid not in staying], number)


class Used:
    """A host as a user's process sees it: it tells, and looks whether there is a listener.

    Attributes:
        settings: of it.
        trie, hosts, starter: of it.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.server_url is not None
        self.settings = settings
        prefix = settings.prefix or ""
        self.trie = Trie(attach(prefix, MIN_SIZE, 20.0, settings.host_id or ""))
        self.trie.segment.claim_slot(clock.wall_ms())
        self._link = Link(address_of(settings.server_url), settings.redis_timeout)
        bus = RedisBus(self._link, prefix)
        self.hosts = Hosts(bus, None, settings.storage_kind == "redis", settings.bus_url is not None)
        self.starter = Starter(settings, self.hosts)
        self.pids: set[int] = set()

    def ensure(self) -> bool:
        """As an engine does it once a second."""
        there = self.starter.ensure(self.trie)
        if there and self.pid:
            self.pids.add(self.pid)
        return there

    @property
    def pid(self) -> int:
        """Of the listener."""
        return int(self.trie.words[H_LISTENER_PID])

    def listened(self) -> int:
        """Wait until there is a listener that has caught up; its process."""
        until(lambda: self.ensure() and self.pid and self.hosts.has_caught_up(self.trie))
        return self.pid

    def tell(self, *tags: str) -> int:
        """Invalidate."""
        message = Message("tags", tags, (), 0, self.trie.segment.incarnation, 0)
        return self.hosts.tell(self.trie, message, [target_of(tag) for tag in tags], 1)

    def is_sent(self, position: int) -> bool:
        """Whether the server has it."""
        return self.hosts.is_sent(self.trie, position)

    def seq(self) -> int:
        """The host's moment."""
        return int(self.trie.words[H_SEQ])

    def stale(self, since: int, tag: str) -> bool:
        """Whether a live object is overtaken."""
        return self.trie.overtaken(tuple(map(words_of, deps.paths(tag))), since)

    def leave(self) -> None:
        """Let go, and end the listener."""
        if self.pid:
            self.pids.add(self.pid)
        self._link.close()
        self.trie.segment.leave()


@pytest.fixture
def used(prefix: str, redis_url: str) -> Iterator[Callable[..., Used]]:
    """Makes hosts under this test's prefix. In the end their objects are removed, which ends their listeners; those
    that have something to send to a server that is gone would try for a minute, so they are told to."""
    made: list[Used] = []

    def make(host_id: str | None = "one", url: str = redis_url, **options: object) -> Used:
        options.setdefault("bus_url", url)
        if url == redis_url:  # as that fixture has it for whoever reads the environment: nobody stops this server
            options.setdefault("redis_timeout", PATIENT_S)
        made.append(Used(Settings(prefix=prefix, host_id=host_id, **options)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.leave()
    for path in objects_of(prefix):
        path.unlink()
    for pid in {pid for each in made for pid in each.pids}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
    end_listeners(prefix)  # those that nobody has seen: they were on their way
