"""The fleet: the processes of a run. Each has a place (a slot); who dies is replaced in its place.

They are forked from the supervisor, which has no engine, no thread and no environment of its own: for the library
they are unrelated processes. A replacement is at work within milliseconds, so that hundreds can be killed in a minute.
Whoever loses the supervisor is killed by the kernel, stopped or not.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.board import C_FAULTS, C_KILLED, C_STOPPED_NS, S_LIFE, S_PID, S_READY, S_STOPS, Board
from zoocache.shm import points

ENDS = signal.SIGINT, signal.SIGTERM
"""What tells a run to end."""

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass
class Member:
    """A process of the fleet.

    Attributes:
        slot, pid: its place, and who it is.
        armed: the point at which it will do something to itself, and what ("lock.held", "kill"); empty for none.
        born_s: monotonic.
        stopped_s: since when it is stopped; 0 while it runs.
        killed: whether the supervisor has killed it.
    """

    slot: int
    pid: int
    armed: tuple[str, str]
    born_s: float
    stopped_s: float = 0.0
    killed: bool = False


@dataclass
class Departure:
    """A process that ended: with an exit status, or minus the signal that ended it."""

    member: Member
    status: int


class Fleet:
    """The processes of a run.

    Args:
        board: shared with them.
        work: what a process does, called with its slot; it returns when the board says halt.
        reports: the directory in which a process leaves where its threads stand, when it is asked.
    """

    def __init__(self, board: Board, work: Callable[[int], None], reports: Path) -> None:
        self.members: dict[int, Member] = {}
        self._board = board
        self._work = work
        self._reports = reports
        self._looked_ns = time.monotonic_ns()

    def start(self, slot: int, point: str = "", action: str = "kill", at: int = 1) -> Member:
        """Start a process in a place.

        Args:
            slot: the place; nobody may be there.
            point: a named point of the library to arm in it, "" for none.
            action: what it does to itself there, "kill" or "stop".
            at: the how-many-th time.
        """
        assert slot not in self.members
        words = self._board.slot(slot)
        words[S_STOPS] += 1
        armed = {point: (action, at)} if point else None
        with uninterrupted():
            pid = spawn(lambda: self._be(slot, armed))
            member = self.members[slot] = Member(slot, pid, (point, action) if point else ("", ""), time.monotonic())
        words[S_PID] = pid
        return member

    def _be(self, slot: int, armed: dict[str, tuple[str, int]] | None) -> None:
        with open(self._stacks(os.getpid()), "w") as stacks:
            faulthandler.register(signal.SIGUSR1, stacks)
            words = self._board.slot(slot)
            words[S_LIFE] += 1
            points.ARMED = armed
            self._work(slot)

    def is_ready(self, slot: int) -> bool:
        """Whether the process in a place says that it is at work."""
        words = self._board.slot(slot)
        return slot in self.members and words[S_READY] == words[S_PID]

    def kill(self, member: Member) -> None:
        """SIGKILL."""
        member.killed = True
        os.kill(member.pid, signal.SIGKILL)

    def stop(self, member: Member) -> None:
        """SIGSTOP."""
        self._board.slot(member.slot)[S_STOPS] += 1
        self._board.control[C_FAULTS] += 1
        member.stopped_s = time.monotonic()
        os.kill(member.pid, signal.SIGSTOP)

    def resume(self, member: Member) -> None:
        """SIGCONT."""
        self._board.slot(member.slot)[S_STOPS] += 1
        member.stopped_s = 0.0
        os.kill(member.pid, signal.SIGCONT)

    def look(self) -> list[Departure]:
        """See who ended, and reap them; and who is stopped, perhaps by itself at a point."""
        with uninterrupted():
            looks = [self._look_at(member) for member in list(self.members.values())]
        departures = [departure for departure in looks if departure is not None]
        self._board.control[C_KILLED] += sum(each.status == -signal.SIGKILL for each in departures)
        self._count_stopped()
        return departures

    def _look_at(self, member: Member) -> Departure | None:
        """Who is reaped must be forgotten with it: his number may be another's by the time that all are killed."""
        pid, status = os.waitpid(member.pid, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return None
        if os.WIFSTOPPED(status):
            self._board.control[C_FAULTS] += not member.stopped_s
            member.stopped_s = member.stopped_s or time.monotonic()
            return None
        del self.members[member.slot]
        return Departure(member, os.waitstatus_to_exitcode(status))

    def _count_stopped(self) -> None:
        """Add the time since the last look if somebody is stopped: rather too much than too little."""
        now_ns = time.monotonic_ns()
        if any(member.stopped_s for member in self.members.values()):
            self._board.control[C_STOPPED_NS] += now_ns - self._looked_ns
        self._looked_ns = now_ns

    def stacks(self, member: Member, patience_s: float = 2.0) -> str:
        """Where the threads of a process stand."""
        path = self._stacks(member.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, signal.SIGCONT)
            os.kill(member.pid, signal.SIGUSR1)
        until_s = time.monotonic() + patience_s
        while not path.stat().st_size and time.monotonic() < until_s:
            time.sleep(0.01)
        return path.read_text()

    def _stacks(self, pid: int) -> Path:
        return self._reports / f"stacks-{pid}"

    def end(self) -> None:
        """Kill and reap all who are left."""
        for member in self.members.values():
            self.kill(member)
        for member in self.members.values():
            os.waitpid(member.pid, 0)
        self.members.clear()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """In a process of one thread: have what ends a run wait until this is over. Who was forked, and is not known yet to
    the one that ends all, would work on for as long as this process lives, and make anew what it removes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def spawn(work: Callable[[], None]) -> int:
    """Fork a process that does `work` and exits: with 0, or with 1 and a traceback if it raised."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
        end_with_parent(parent)
        work()
        status = 0
    except BaseException:  # noqa: BLE001  # nothing may go on in the child
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def end_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the thread that forked it is gone.

    Args:
        parent: who that is. If it has gone already, so does this process. None: that is not known.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(0)


def reap(pids: Sequence[int]) -> None:
    """Wait until all of them have ended; kill and reap those who are left when the waiting is interrupted."""
    left = list(pids)
    try:
        while left:
            os.waitpid(left[0], 0)
            left.pop(0)
    except BaseException:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)
        raise


def ask(question: Callable[[], Any], patience_s: float) -> Any:
    """Have a fresh process answer a question, with what JSON can carry.

    Raises:
        TimeoutError: it did not within `patience_s`, and was killed.
        ChildProcessError: it died.
    """
    reader, writer = os.pipe()
    pid = status = 0
    try:
        with uninterrupted():
            pid = spawn(lambda: _answer(writer, question))
        os.close(writer)
        answer = _read_all(reader, time.monotonic() + patience_s)
    except BaseException:
        if pid:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
        if pid:
            _, status = os.waitpid(pid, 0)
    if status or not answer:
        raise ChildProcessError(f"the process that was asked ended with {os.waitstatus_to_exitcode(status)}")
    return json.loads(answer)


def _read_all(reader: int, until_s: float) -> bytes:
    answer = b""
    while select.select([reader], [], [], max(0.0, until_s - time.monotonic()))[0]:
        chunk = os.read(reader, 65_536)
        if not chunk:
            return answer
        answer += chunk
    raise TimeoutError("no answer came in time")


def _answer(writer: int, question: Callable[[], Any]) -> None:
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(question()).encode())
