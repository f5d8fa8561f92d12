"""Two hosts for real: processes in mount namespaces with a /dev/shm of their own, which only the server connects."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forks import Forks
from tests.listener.conftest import Used, is_alive, keeper_of, until
from tests.shm import namespaces
from zoocache.config import Settings


def host_in(prefix: str, url: str, spoken: Path, to_speak: Path, says: str, hears: str) -> Callable[[], None]:
    """In a namespace: a host that says one tag once the other is there, and hears another."""

    def work() -> None:
        one = Used(Settings(prefix=prefix, bus_url=url))
        pid = one.listened()
        since = one.seq()
        spoken.touch()
        until(to_speak.exists)
        one.tell(says)
        until(lambda: one.stale(since, hears))
        spoken.with_suffix(".done").touch()
        until(to_speak.with_suffix(".done").exists)
        os.kill(pid, signal.SIGTERM)  # while somebody is attached: alone, it might have left already
        until(lambda: not is_alive(pid))
        one.leave()

    return namespaces.with_shm("size=32m", work)


def test_two_hosts(prefix: str, redis_url: str, tmp_path: Path) -> None:
    """Hosts under one name that share nothing but the server have each a listener, and hear each other."""
    forks = Forks()
    try:
        if forks.fork(namespaces.with_shm("size=64k", lambda: None)).wait():
            pytest.skip("mount namespaces are not permitted here")
        one, other = tmp_path / "one", tmp_path / "other"
        crew = [
            forks.fork(host_in(prefix, redis_url, one, other, "a", "b")),
            forks.fork(host_in(prefix, redis_url, other, one, "b", "a")),
        ]
        assert [0, 0] == [each.wait() for each in crew]
    finally:
        forks.end()


def test_the_first_process_of_a_container(prefix: str, redis_url: str) -> None:
    """Who is process 1 is given every orphan: a listener and its keeper that have ended are reaped there, and no zombie
    stays."""
    forks = Forks()

    def work() -> None:
        assert 1 == os.getpid()
        one = Used(Settings(prefix=prefix, bus_url=redis_url))
        pid = one.listened()
        assert one.ensure()
        keeper = keeper_of(pid)
        assert 1 < keeper
        for each in (keeper, pid):
            os.kill(each, signal.SIGKILL)
        until(lambda: not is_alive(pid))  # not: until there is no listener, for a second one may be on its way
        until(lambda: one.listened() != pid)
        until(lambda: one.ensure() and not any(Path(f"/proc/{each}").exists() for each in (keeper, pid)))
        one.leave()

    try:
        if forks.fork(namespaces.as_first(lambda: None)).wait():
            pytest.skip("namespaces of processes are not permitted here")
        assert 0 == forks.fork(namespaces.as_first(work)).wait()
    finally:
        forks.end()
