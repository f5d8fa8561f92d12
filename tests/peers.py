"""Processes under remote control, for tests in which several share one cache: each does what it is told, line by line.

    ann, bob = start_peer(children), start_peer(children)
    assert 0 == ann.call("thing", "a")
    bob.call("zoocache.invalidate", "thing:a")

    ann.call("close_gate", "a")
    ann.begin("thing", "a")
    ann.wait_inside("a")           # it computes now, and will until it is told to go on
    ann.go_on()
    assert 0 == ann.result()

A name is one of `tests.promises.world`, or of another module that `start_peer` is given; arguments and results are
what JSON can carry.
"""

from __future__ import annotations

import importlib
import json
import operator
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any, NoReturn, cast

from tests.children import Child, Children

WORLD = "tests.promises.world"


class PeerError(Exception):
    """What a call raised in the peer: (name of the type, message)."""


class Peer:
    """One such process; `child` is what runs it."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.pid = child.pid

    def begin(self, name: str, *args: object, **kwargs: object) -> None:
        """Have a function called, and do not wait for it."""
        self.child.say(json.dumps([name, args, kwargs]))

    def result(self) -> Any:
        """What the call that was begun returned.

        Raises:
            PeerError: it raised.
        """
        value, error = json.loads(self.child.wait_for("[")[:])
        if error is not None:
            raise PeerError(*error)
        return value

    def call(self, name: str, *args: object, **kwargs: object) -> Any:
        """`begin` and `result`."""
        self.begin(name, *args, **kwargs)
        return self.result()

    def end(self) -> None:
        """Have it let go of the cache in order and end."""
        self.child.say("bye")
        assert 0 == self.child.wait()

    def wait_inside(self, name: str) -> None:
        """Wait until it stands at the closed gate of a thing."""
        self.child.wait_for(f"inside {name}")

    def go_on(self) -> None:
        """Let it through the gate at which it stands."""
        self.child.say()


def start_peer(children: Children, points: str = "", env: Mapping[str, str] | None = None, world: str = WORLD) -> Peer:
    """Start a peer in a fresh interpreter; it is ready when this returns."""
    text = "import sys; from tests.peers import obey; obey(*sys.argv[1:])"
    child = children.code(text, world, points=points, env=env)
    child.wait_for("ready")
    return Peer(child)


def fork_peer(children: Children, points: str = "", env: Mapping[str, str] | None = None) -> Peer:
    """Fork a peer, which costs a thirtieth. It lets go of what it inherited of the cache before it is ready."""
    child = ForkedChild(obey, points, env or {})
    children._all.append(child)
    child.wait_for("ready")
    return Peer(child)


class ForkedChild(Child):
    """A forked child with pipes for its input and output, led like any other child.

    Args:
        work: what it does; then it ends, with status 0 if it returned.
        points: what is armed in it.
        env: variables beyond those of this process.
    """

    def __init__(self, work: Callable[[], object], points: str = "", env: Mapping[str, str] | None = None) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed by `end`
        self._unread = b""
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become((theirs_in, theirs_out, self._errors.fileno()), work, points, env or {})
        os.close(theirs_in)
        os.close(theirs_out)
        self.process = cast("Any", _Process(self.pid, open(ours_in, "wb", 0), open(ours_out, "rb", 0)))  # noqa: SIM115


class _Process:
    """What `Child` asks of a `Popen`."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        end_s = time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end_s:
                raise subprocess.TimeoutExpired("a forked child", timeout)
            else:
                time.sleep(0.0005)
        return self.returncode


def _become(
    descriptors: tuple[int, int, int], work: Callable[[], object], points: str, env: Mapping[str, str]
) -> NoReturn:
    """In the child: take input and output, leave the test behind, work, end."""
    status = 1
    try:
        os.setsid()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.environ.update(env)
        work_afresh(work, points)
        status = 0
    except BaseException:  # noqa: BLE001  # it is shown, and nothing may go up into the test's frames
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def work_afresh(work: Callable[[], object], armed: str) -> None:
    """Let go of what was inherited of the cache, arm the points, work, and let go in order."""
    import zoocache
    from zoocache import runtime
    from zoocache.shm import points

    zoocache.reset()
    points.ARMED = points._parse(armed) or None
    points._reached.clear()
    work()
    runtime.close()


def obey(name_of_world: str = WORLD) -> None:
    """In the peer: do what the lines say."""
    world = importlib.import_module(name_of_world)
    if name_of_world == WORLD:
        world.gates.clear()
    print("ready", flush=True)
    while (line := sys.stdin.readline().strip()) != "bye":
        name, args, kwargs = json.loads(line)
        try:
            answer = [operator.attrgetter(name)(world)(*args, **kwargs), None]
        except Exception as error:  # noqa: BLE001  # it is for whoever asked
            answer = [None, [type(error).__name__, str(error)]]
        print(json.dumps(answer), flush=True)
