"""The crew: the demo's processes as the director sees them. Each wait has a deadline, and none outlives the demo.

They stay in the director's process group: Ctrl-Z stops them with it, and if it is killed, the kernel sends SIGHUP and
SIGCONT to the group it leaves behind (setpgid(2), orphaned process groups), so even one that stands still ends.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import zoocache
from zoocache.demo.signals import held

Answer = dict[str, Any]

TICK_S = 0.1
DEADLINE_S = 30.0
"""Ends what hangs; measures nothing."""

PROGRAM = "from zoocache.demo.worker import main; main()"


class CrewFault(Exception):
    """A process did not do what it was told; the demo cannot go on."""


class Member:
    """One process.

    Attributes:
        name: as it is shown.
        row: its row in the oracle.
        process: underneath.
        state: what it is doing, as it is shown.
    """

    def __init__(self, name: str, row: int, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.name = name
        self.row = row
        self.process = process
        self.pid = process.pid
        self.state = "starting"
        self._errors = errors
        self._unread = b""

    @property
    def output(self) -> IO[bytes]:
        """Where its answers come from."""
        assert self.process.stdout is not None
        return self.process.stdout

    def tell(self, order: Mapping[str, Any]) -> None:
        """Give it an order."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise self.fault("is not there any more") from None

    def hear(self) -> Answer | None:
        """Read what is there now: an answer, if one is complete."""
        chunk = os.read(self.output.fileno(), 65536)
        if not chunk:
            raise self.fault("has ended")
        self._unread += chunk
        line, newline, rest = self._unread.partition(b"\n")
        if not newline:
            return None
        self._unread = rest
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise self.fault(answer["error"])
        return answer

    def has_spoken(self) -> bool:
        """Whether there is something to read of it, or it has ended."""
        return bool(select.select([self.output], [], [], 0)[0])

    def complaints(self) -> list[str]:
        """What it wrote to standard error: warnings of the library, or a traceback."""
        return [line for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]

    def fault(self, what: str) -> CrewFault:
        """An error about it."""
        return CrewFault(f"{self.name}: {what}")

    def alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it, if it lives, and reap it."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Crew:
    """All processes of one demo.

    Args:
        directory: of the demo.
        settings: of the cache, as environment variables.

    Attributes:
        members: in the order in which they were hired.
        tick: called at least every TICK_S while the director waits.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.members: list[Member] = []
        self.tick: Callable[[], None] = lambda: None
        self._directory = directory
        root = str(Path(zoocache.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        own = {name: value for name, value in os.environ.items() if not name.startswith("ZOOCACHE_")}
        self._env = {**own, **settings, "PYTHONPATH": path}

    def hire(self, name: str, points: str = "") -> Member:
        """Start a process, and do not wait for it.

        Args:
            name: as it is shown.
            points: what is armed in it, as ZOOCACHE_POINTS takes it.
        """
        row = len(self.members)
        errors = self._directory / f"errors-{row}.txt"
        with held(), errors.open("wb") as target:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self._directory), str(row)], cwd=self._directory, bufsize=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=target,
                env={**self._env, "ZOOCACHE_POINTS": points},
            )  # fmt: skip
            self.members.append(Member(name, row, process, errors))
        self.order(self.members[-1:], "start", "starting")
        return self.members[-1]

    def ready(self, members: Sequence[Member]) -> None:
        """Wait until they have started."""
        self.answers(members)
        for each in members:
            each.state = "ready"

    def order(self, members: Iterable[Member], do: str, state: str, **arguments: Any) -> None:
        """Tell them all the same, and do not wait for the answers."""
        for each in members:
            each.tell({"do": do, **arguments})
            each.state = state

    def answers(self, members: Sequence[Member]) -> list[Answer]:
        """Wait for an answer of each.

        Raises:
            CrewFault: one has ended, reports an error, or lets the others wait too long.
        """
        answers: dict[Member, Answer] = {}
        deadline_s = time.monotonic() + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            for each in members:
                selector.register(each.output, selectors.EVENT_READ, each)
            while len(answers) < len(members):
                self.tick()
                for key, _ in selector.select(TICK_S):
                    answer = key.data.hear()
                    if answer is not None:
                        answers[key.data] = answer
                        key.data.state = "idle"
                        selector.unregister(key.fileobj)
                if time.monotonic() > deadline_s:
                    late = next(each for each in members if each not in answers)
                    raise late.fault(f"has not answered for {DEADLINE_S:g} s")
        return [answers[each] for each in members]

    def do(self, members: Sequence[Member], do: str, state: str, **arguments: Any) -> list[Answer]:
        """Tell them, and wait for all answers."""
        self.order(members, do, state, **arguments)
        return self.answers(members)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something to become true."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            self.tick()
            time.sleep(0.01)
            if time.monotonic() > deadline_s:
                raise CrewFault(f"{what} did not happen within {DEADLINE_S:g} s")

    def wait_stopped(self, member: Member) -> None:
        """Wait until it stands still by a SIGSTOP of its own, in the middle of its order."""
        flags = os.WSTOPPED | os.WNOHANG
        self.wait_until(
            lambda: os.waitid(os.P_PID, member.pid, flags) or member.has_spoken(), f"the standstill of {member.name}"
        )
        if member.has_spoken():
            raise member.fault("has done what it should have been stopped in")
        member.state = "frozen"

    def kill(self, member: Member) -> float:
        """SIGKILL, and wait for its death.

        Returns:
            The moment before the signal, of the monotonic clock.
        """
        killed_s = time.monotonic()
        member.process.send_signal(signal.SIGKILL)
        member.process.wait(DEADLINE_S)
        member.state = "killed"
        return killed_s

    def dismiss(self, members: Sequence[Member]) -> list[int]:
        """Let them end in order; returns their exit statuses."""
        for each in members:
            assert each.process.stdin is not None
            each.process.stdin.close()
            each.state = "leaving"
        self.wait_until(lambda: not any(each.alive() for each in members), "the end of all processes")
        for each in members:
            each.state = "ended"
        return [each.process.returncode for each in members]

    def end(self) -> None:
        """Kill and reap all that are left."""
        for each in self.members:
            each.end()
