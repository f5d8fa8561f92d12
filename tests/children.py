"""Fresh interpreters for tests: real processes with a deadline, which can be stopped, killed, and are always reaped.

    def test_something(children):
        child = children.code('''
            import zoocache
            print("ready", flush=True)
            input()
        ''')
        child.wait_for("ready")
        child.kill()
        assert -signal.SIGKILL == child.wait()

`children.call(function, *arguments)` runs a function of a test module instead of a text. Each child is the leader of
a session of its own, so that its own children are ended with it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 60.0
"""For whatever a child is waited for. Generous: it ends what hangs, it measures nothing."""


class Child:
    """One interpreter; made by `Children`.

    Attributes:
        pid: its process, and its process group.
        process: the `Popen` underneath.
    """

    _passed_over: tuple[str, ...] = ()

    def __init__(self, arguments: list[str], env: Mapping[str, str], cwd: Path) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads could fill up
        self.process = subprocess.Popen(
            arguments, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        self.pid = self.process.pid
        self._unread = b""

    def line(self, deadline_s: float = DEADLINE_S) -> str:
        """The next line of its output, without the newline."""
        line = self._next_line(time.monotonic() + deadline_s)
        if line is None:
            raise AssertionError(f"the child ended without another line\n{self._remains()}")
        return line

    def wait_for(self, start: str, deadline_s: float = DEADLINE_S) -> str:
        """The next line that starts so; lines before it are passed over."""
        until = time.monotonic() + deadline_s
        while (line := self._next_line(until)) is not None:
            if line.startswith(start):
                return line
        raise AssertionError(f"the child ended without a line that starts with {start!r}\n{self._remains()}")

    def say(self, line: str = "") -> None:
        """Give it a line to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until it ends: its exit status, or minus the signal that killed it. Its output is kept for `output`."""
        until = time.monotonic() + deadline_s
        while (line := self._next_line(until)) is not None:
            self._passed_over += (line + "\n",)
        self._unread, self._passed_over = "".join(self._passed_over).encode(), ()
        try:
            return self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the child did not end within {deadline_s:g} s\n{self._remains()}") from None

    def output(self, deadline_s: float = DEADLINE_S) -> str:
        """Wait until it ends well: the output that was not read yet. Any other exit status than 0 is an error."""
        status = self.wait(deadline_s)
        assert 0 == status, f"the child ended with {status}\n{self._remains()}"
        return self._unread.decode()

    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL; `wait` then tells -9."""
        self.process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands."""
        self.process.send_signal(signal.SIGSTOP)
        self.wait_stopped()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def wait_stopped(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until it stands still: after `stop`, or at a point that was armed with `stop`."""
        until = time.monotonic() + deadline_s
        while self._state() != "T":
            assert time.monotonic() < until, f"the child did not stop within {deadline_s:g} s\n{self._remains()}"
            assert self._state() not in "ZX", f"the child ended instead of stopping\n{self._remains()}"
            time.sleep(0.002)

    def end(self) -> None:
        """Kill it and all that it started, and reap it; for one that has ended, only the latter."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def _next_line(self, until: float) -> str | None:
        while b"\n" not in self._unread:
            chunk = self._read(until)
            if not chunk:
                rest, self._unread = self._unread, b""
                return rest.decode() or None
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def _read(self, until: float) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            if not ready.select(max(0.0, until - time.monotonic())):
                raise AssertionError(f"the child said nothing more before its deadline\n{self._remains()}")
        return os.read(self.process.stdout.fileno(), 65_536)

    def _state(self) -> str:
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def _remains(self) -> str:
        passed_over = "".join(self._passed_over)
        return (
            f"passed over: {passed_over}\nunread output: {self._unread.decode(errors='replace')!r}\n"
            f"standard error:\n{self.errors()}"
        )


class Children:
    """All children of one test.

    The options of `code`, `script`, `command` and `call`:

    points: what is armed in it, as ZOOCACHE_POINTS takes it ("trie.changed=kill"); see `zoocache.shm.points`.
    env: variables beyond those of this process.
    python: another interpreter.
    cwd: another current directory than the repository's.
    """

    def __init__(self) -> None:
        self._all: list[Child] = []

    def code(
        self, text: str, *arguments: str, points: str = "", env: Mapping[str, str] | None = None,
        python: str = sys.executable, cwd: Path = ROOT,
    ) -> Child:  # fmt: skip
        """Start a child that runs this text; the arguments are its `sys.argv[1:]`."""
        return self._start([python, "-u", "-c", textwrap.dedent(text), *arguments], points, env, cwd)

    def script(
        self, path: Path, *arguments: str, points: str = "", env: Mapping[str, str] | None = None,
        python: str = sys.executable, cwd: Path = ROOT,
    ) -> Child:  # fmt: skip
        """Start a child that runs the script in this file."""
        return self._start([python, "-u", str(path), *arguments], points, env, cwd)

    def command(
        self, command: list[str], *, points: str = "", env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> Child:
        """Start a child that runs this command, such as a shell that starts an interpreter in some way."""
        return self._start(command, points, env, cwd)

    def call(
        self, function: Callable[..., object], *arguments: object, points: str = "",
        env: Mapping[str, str] | None = None, python: str = sys.executable, cwd: Path = ROOT,
    ) -> Child:  # fmt: skip
        """Start a child that calls a module-level function with arguments that JSON can carry."""
        name, values = f"{function.__module__}:{function.__qualname__}", json.dumps(arguments)
        text = "import sys; from tests import children; children.called(*sys.argv[1:])"
        return self.code(text, name, values, points=points, env=env, python=python, cwd=cwd)

    def _start(self, command: list[str], points: str, env: Mapping[str, str] | None, cwd: Path) -> Child:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        whole_env = {**os.environ, "PYTHONPATH": path, "ZOOCACHE_POINTS": points, **(env or {})}
        child = Child(command, whole_env, cwd)
        self._all.append(child)
        return child

    def end(self) -> None:
        """Kill and reap all that are left."""
        for child in self._all:
            child.end()


def called(name: str, arguments: str) -> None:
    """In the child of `Children.call`: call the function of that name."""
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)(*json.loads(arguments))
