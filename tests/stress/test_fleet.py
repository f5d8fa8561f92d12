"""The fleet: processes that are started, stopped, killed, replaced and always reaped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stress.board import C_HALT, C_STOPPED_NS, S_LIFE, S_PID, S_READY, S_STOPS, Board, Shape
from stress.fleet import Departure, Fleet, ask
from tests.crowd import until
from zoocache.shm import points

DEADLINE_S = 30.0


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """For two processes."""
    return Board(tmp_path / "board", Shape(slots=2, lanes=1))


@pytest.fixture
def fleet(board: Board, tmp_path: Path) -> Iterator[Fleet]:
    """Processes that pass a named point again and again until the board says halt."""

    def work(slot: int) -> None:
        words = board.slot(slot)
        words[S_READY] = words[S_PID] = os.getpid()
        while not board.control[C_HALT]:
            if points.ARMED:
                points.reach("lock.held")
            time.sleep(0.001)

    fleet = Fleet(board, work, tmp_path)
    yield fleet
    fleet.end()


def departed(fleet: Fleet) -> Departure:
    """Wait for the next one who ends."""
    found: list[Departure] = []
    until(lambda: found.extend(fleet.look()) or found)
    return found[0]


def test_who_is_told_to_leaves(fleet: Fleet, board: Board) -> None:
    """A process works until the board says halt, and ends with 0."""
    member = fleet.start(0)
    until(lambda: fleet.is_ready(0))
    assert [] == fleet.look()
    board.control[C_HALT] = 1
    assert Departure(member, 0) == departed(fleet)
    assert {} == fleet.members


def test_who_is_killed_is_replaced_in_its_place(fleet: Fleet, board: Board) -> None:
    """The next process of a place is not taken for the last one."""
    first = fleet.start(1)
    until(lambda: fleet.is_ready(1))
    fleet.kill(first)
    assert (-signal.SIGKILL, True) == (departed(fleet).status, first.killed)
    second = fleet.start(1)
    until(lambda: fleet.is_ready(1))
    assert first.pid != second.pid
    assert (2, second.pid) == (board.slot(1)[S_LIFE], board.slot(1)[S_PID])


@pytest.mark.parametrize("times", [1, 5])
def test_a_process_kills_itself_at_a_point(fleet: Fleet, times: int) -> None:
    """An armed process dies where it was told to, by no hand of the fleet."""
    member = fleet.start(0, "lock.held", "kill", times)
    assert Departure(member, -signal.SIGKILL) == departed(fleet)
    assert (("lock.held", "kill"), False) == (member.armed, member.killed)


def test_a_process_stops_itself_at_a_point(fleet: Fleet, board: Board) -> None:
    """It is seen standing, and goes on when it may; what it measured meanwhile can be told."""
    member = fleet.start(0, "lock.held", "stop")
    until(lambda: fleet.look() or member.stopped_s)
    stops, stopped_ns = board.slot(0)[S_STOPS], board.control[C_STOPPED_NS]
    fleet.look()
    assert board.control[C_STOPPED_NS] > stopped_ns > 0
    fleet.resume(member)
    assert (stops + 1, 0.0) == (board.slot(0)[S_STOPS], member.stopped_s)
    board.control[C_HALT] = 1
    assert 0 == departed(fleet).status


def test_a_stopped_process_can_be_ended(fleet: Fleet) -> None:
    """Whatever state they are in, the end reaps all."""
    members = [fleet.start(0), fleet.start(1)]
    fleet.stop(members[0])
    fleet.end()
    for member in members:
        with pytest.raises(ChildProcessError):
            os.waitpid(member.pid, os.WNOHANG)


def test_a_process_tells_where_it_stands(fleet: Fleet) -> None:
    """Asked for its stacks, a process shows what it is doing."""
    member = fleet.start(0)
    until(lambda: fleet.is_ready(0))
    until(lambda: "in work" in fleet.stacks(member, DEADLINE_S))


class Interruption(Exception):
    """What a signal handler raises."""


def interrupt(_number: int, _frame: object) -> None:
    """Raise it."""
    raise Interruption


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGTERM raises here as it does in a run."""
    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def forked(interruptible: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Whoever is forked; each time this process is told to end while it forks."""
    fork, pids = os.fork, list[int]()

    def fork_and_be_told() -> int:
        pid = fork()
        if pid:
            pids.append(pid)
            signal.raise_signal(signal.SIGTERM)  # a supervisor has one thread; this process may have others
        return pid

    monkeypatch.setattr(os, "fork", fork_and_be_told)
    return pids


@pytest.mark.parametrize("how", ["a member", "a question"])
def test_an_end_amid_a_fork(how: str, fleet: Fleet, forked: list[int]) -> None:
    """Who is being forked when a run is told to end is ended with the others."""
    with pytest.raises(Interruption):
        fleet.start(0) if how == "a member" else ask(signal.pause, DEADLINE_S)
    fleet.end()
    assert 1 == len(forked)
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[0], os.WNOHANG)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


@pytest.mark.usefixtures("interruptible")
def test_an_end_amid_a_look(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has just been reaped when a run is told to end is not killed once more, and the others are."""
    wait, (gone, other) = os.waitpid, (fleet.start(0), fleet.start(1))
    fleet.kill(gone)

    def reap_and_be_told(pid: int, options: int) -> tuple[int, int]:
        found = wait(pid, options)
        if found[0] == gone.pid:
            signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(os, "waitpid", reap_and_be_told)
    with pytest.raises(Interruption):
        until(fleet.look)
    assert [other] == [*fleet.members.values()]
    fleet.end()
    with pytest.raises(ChildProcessError):
        wait(other.pid, os.WNOHANG)


def test_whoever_is_forked_can_be_told_to_end(fleet: Fleet) -> None:
    """The signals that a fork holds up come to the forked process."""
    member = fleet.start(0)
    until(lambda: fleet.is_ready(0))
    os.kill(member.pid, signal.SIGTERM)
    until(lambda: [each.status for each in fleet.look()] == [-signal.SIGTERM])


def test_a_question_is_answered_by_another_process() -> None:
    """The answer comes from elsewhere, as JSON carries it."""
    assert {"pid": os.getpid(), "list": [1, 2]} != (
        answer := ask(lambda: {"pid": os.getpid(), "list": [1, 2]}, DEADLINE_S)
    )
    assert [1, 2] == answer["list"]


def test_a_question_that_is_not_answered_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Who dies, raises or takes too long answers nothing, and is reaped."""
    with pytest.raises(ChildProcessError, match="ended with 1"):
        ask(lambda: 1 // 0, DEADLINE_S)
    assert "ZeroDivisionError" in capfd.readouterr().err
    with pytest.raises(ChildProcessError, match="ended with -9"):
        ask(lambda: os.kill(os.getpid(), signal.SIGKILL), DEADLINE_S)
    with pytest.raises(TimeoutError):
        ask(lambda: time.sleep(1000), 0.05)
