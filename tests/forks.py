"""Forked children of a test: real processes without the price of a new interpreter. Each is reaped, with a deadline.

    def test_something(forks):
        child = forks.fork(work, 1, 2)
        assert 0 == child.wait()

A child ends with status 0 when its work returned, with 1 when it raised (the traceback goes to standard error). Nothing
of the test runs in it afterwards: no fixture, no handler at exit.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.children import DEADLINE_S

RAISED = 1


class Fork:
    """One forked child; made by `Forks`."""

    def __init__(self, work: Callable[..., object], *args: object) -> None:
        self.status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _run(work, args)

    def poll(self) -> int | None:
        """Its exit status, minus the signal that killed it, or None while it lives."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until it ends: its exit status, or minus the signal that killed it."""
        until = time.monotonic() + deadline_s
        while (status := self.poll()) is None:
            assert time.monotonic() < until, f"the child did not end within {deadline_s:g} s"
            time.sleep(0.0005)
        return status

    def kill(self) -> int:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands."""
        self.signal(signal.SIGSTOP)
        self.wait_stopped()

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Any signal."""
        os.kill(self.pid, number)

    def wait_stopped(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until it stands still: after `stop`, or at an armed point."""
        until = time.monotonic() + deadline_s
        while (state := Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
            assert state not in "ZX", "the child ended instead of stopping"
            assert time.monotonic() < until, f"the child did not stop within {deadline_s:g} s"
            time.sleep(0.0005)


class Forks:
    """All forked children of one test."""

    def __init__(self) -> None:
        self._all: list[Fork] = []

    def fork(self, work: Callable[..., object], *args: object) -> Fork:
        """Fork a child that does `work(*args)` and ends."""
        child = Fork(work, *args)
        self._all.append(child)
        return child

    def end(self) -> None:
        """Kill and reap all that are left."""
        for child in self._all:
            if child.poll() is None:
                child.kill()


def _run(work: Callable[..., object], args: tuple[object, ...]) -> None:
    """In the child."""
    status = RAISED
    try:
        signal.signal(signal.SIGALRM, _too_late)
        signal.alarm(round(2 * DEADLINE_S))
        work(*args)
        status = 0
    except BaseException:  # noqa: BLE001  # it is shown, and nothing may go up into the parent's frames
        traceback.print_exc()
    finally:
        os._exit(status)


def _too_late(number: int, frame: FrameType | None) -> None:
    """A child that nobody reaped, because the test's own process was killed, ends all the same."""
    os._exit(3)
