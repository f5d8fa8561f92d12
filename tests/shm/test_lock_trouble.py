"""zoocache/shm/lock.py in trouble: holders that are killed, stopped, forked, or interrupted by signals."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import signal
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import posix_ipc
import pytest

from tests.children import DEADLINE_S, Children
from tests.crowd import Gate, Runner, until
from tests.forks import Fork, Forks
from tests.shm.locking import PATIENT_S, OpenLock, is_free, shared_words
from zoocache.errors import Busy
from zoocache.shm import kernel
from zoocache.shm import lock as lock_room
from zoocache.shm.lock import Lock, at_once

# Killed and stopped holders.

INSIDE, SECRET, VIOLATIONS, DONE = range(4)
KILLS = 120


def work_and_watch(lock: Lock, words: memoryview, me: int) -> None:
    """In a child: for ever, be inside and see whether anybody else is."""

    def inside(number: int) -> None:
        words[SECRET] = number
        for _ in range(20):
            if words[SECRET] != number:
                words[VIOLATIONS] += 1
        words[DONE] += 1

    count = 0
    while True:
        count += 1
        lock.run(inside, me << 32 | count)


@pytest.mark.timeout(10 * DEADLINE_S)
def test_hundreds_of_kills(open_lock: OpenLock, forks: Forks) -> None:
    """Processes that are killed at random while others work: never two inside, and nobody waits for the dead."""
    words = shared_words(4)
    workers = [forks.fork(work_and_watch, open_lock(), words, me) for me in range(3)]
    for kill in range(KILLS):
        done = words[DONE]
        until(lambda done=done: words[DONE] > done)  # the others are not held up by the one that was killed before
        time.sleep(0.0007 * (kill % 5))
        assert -signal.SIGKILL == workers[kill % 3].kill()  # had it met a Busy, it would have ended with 1
        workers[kill % 3] = forks.fork(work_and_watch, open_lock(), words, kill + 3)
    for worker in workers:
        worker.kill()
    assert 0 == words[VIOLATIONS]
    assert "free" == open_lock().run(str, "free")


def test_a_killed_holder_is_followed(open_lock: OpenLock, holder: Fork) -> None:
    """The kernel unlocks for who is killed inside; the next one enters."""
    next_one = Runner(open_lock().run, str, "next")
    holder.kill()
    assert "next" == next_one.result()


def test_a_stopped_holder_is_not_robbed(open_lock: OpenLock, holder: Fork, locked_file: Path) -> None:
    """While a holder is stopped others end in Busy; when it is gone they get in."""
    holder.stop()
    with pytest.raises(Busy):
        open_lock(0.1).run(str)
    assert not is_free(locked_file)
    holder.resume()
    holder.kill()
    assert "next" == open_lock().run(str, "next")


def test_a_waiter_that_stood_still(open_lock: OpenLock, holder: Fork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was stopped, or had no processor, while he waited has as much patience left as before."""
    now_s, slept = 0.0, 0

    def sleep(seconds: float) -> None:
        nonlocal now_s, slept
        slept += 1
        now_s += 100.0 if slept == 3 else seconds
        if slept == 5:
            holder.kill()

    monkeypatch.setattr(lock_room, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    assert "in" == open_lock(2.0).run(str, "in")
    assert 5 <= slept
    assert 100.0 < now_s < 101.0


def test_a_thread_that_stood_still(open_lock: OpenLock, monkeypatch: pytest.MonkeyPatch) -> None:
    """So has who waits for another thread of his process, with which he stood still."""
    lock, gate, asked = open_lock(2.0), Gate(), 0
    holder = Runner(lock.run, gate.stop)
    gate.wait_inside()

    def monotonic() -> float:
        nonlocal asked
        asked += 1
        if asked == 3:
            gate.open()
        return 0.0 if asked == 1 else 100.0

    monkeypatch.setattr(lock_room, "time", SimpleNamespace(monotonic=monotonic))
    assert "in" == lock.run(str, "in")
    holder.result()


def test_ordinary_delays_count_as_waiting(
    open_lock: OpenLock, holder: Fork, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A machine that wakes everybody late stretches no time-out."""
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds + 0.1

    monkeypatch.setattr(lock_room, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    with pytest.raises(Busy):
        open_lock(2.0).run(str)
    assert 2.0 <= now_s < 2.2


# Forks.


def test_a_child_forked_while_a_thread_is_inside(open_lock: OpenLock, forks: Forks) -> None:
    """The child waits for its parent's thread as any other process does, and gets in after it."""
    lock, inside, leave = open_lock(), threading.Event(), threading.Event()
    words = shared_words(1)

    def stay() -> None:
        inside.set()
        leave.wait(DEADLINE_S)
        words[0] = 1

    def follow() -> None:
        lock.after_fork()
        assert (False, None) == lock.try_run(str)
        os.write(writable, b"!")
        assert 1 == lock.run(lambda: words[0])

    readable, writable = os.pipe()
    thread = Runner(lock.run, stay)
    inside.wait(DEADLINE_S)
    child = forks.fork(follow)
    os.read(readable, 1)
    leave.set()
    thread.result()
    assert 0 == child.wait()
    os.close(readable)
    os.close(writable)


def test_a_lock_that_nobody_told_of_the_fork(open_lock: OpenLock, forks: Forks) -> None:
    """A child whose fork ran no handlers sees from its pid that the description is its parent's."""
    lock, inside, leave = open_lock(), threading.Event(), threading.Event()
    thread = Runner(lock.run, lambda: (inside.set(), leave.wait(DEADLINE_S)))
    inside.wait(DEADLINE_S)

    def look() -> None:
        assert (False, None) == lock.try_run(str)

    assert 0 == forks.fork(look).wait()
    leave.set()
    thread.result()


def test_a_child_forked_inside_does_not_unlock_its_parent(open_lock: OpenLock, forks: Forks, locked_file: Path) -> None:
    """A child that an action forks may leave the action: its parent is still inside."""
    lock, forked = open_lock(), []

    def fork_inside() -> bool:
        pid = os.fork()
        if pid:
            forked.append(pid)
            os.waitpid(pid, 0)
            return is_free(locked_file)
        lock.after_fork()
        return False

    try:
        free = lock.run(fork_inside)
    finally:
        if not forked:
            os._exit(0)
    assert free is False
    assert is_free(locked_file)


def test_a_child_does_not_keep_its_dead_parents_lock(open_lock: OpenLock, forks: Forks, locked_file: Path) -> None:
    """A parent that is killed inside is followed at once, though a child that it forked inside lives on."""
    readable, writable = os.pipe()
    lock = open_lock()

    def fork_and_stay() -> None:
        if not os.fork():
            lock.after_fork()
            os.write(writable, str(os.getpid()).encode())
        time.sleep(1000)

    parent = forks.fork(lambda: lock.run(fork_and_stay))
    grandchild = int(os.read(readable, 20))
    try:
        assert (False, None) == open_lock().try_run(str)
        parent.kill()
        assert "next" == open_lock().run(str, "next")
        os.kill(grandchild, 0)  # it lives
    finally:
        os.kill(grandchild, signal.SIGKILL)
    os.close(readable)
    os.close(writable)


# Signals whose handlers raise.

INTERRUPTIONS = 2500


class Interruption(Exception):
    """What the handler raises."""


def interrupt(number: int, frame: object) -> None:
    """The handler."""
    raise Interruption


def use(lock: Lock) -> None:
    """Take the lock in each way, without end."""
    while True:
        lock.run(sum, range(5))
        lock.try_run(sum, range(5))
        at_once(lock.run, sum, range(5))


def hammer(path: str, gate_name: str | None) -> None:
    """In a child: be interrupted at random moments, and see each time that nothing is held."""

    def open_here() -> Lock:
        gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 1) if gate_name else None
        return Lock(lambda: os.open(path, os.O_RDWR), gate, "the lock", PATIENT_S)

    lock, witness, chance, inside = open_here(), open_here(), random.Random(7), 0
    signal.signal(signal.SIGALRM, interrupt)
    while inside < INTERRUPTIONS:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 60e-6))
            use(lock)
        except Interruption as interruption:
            frames = traceback.extract_tb(interruption.__traceback__)
            inside += any(frame.filename == lock_room.__file__ for frame in frames)
        assert not lock._threads._is_owned(), "the thread lock is held"
        assert (True, "") == witness.try_run(str), "the lock is held"
        assert PATIENT_S == lock._patience_s(), "this thread is still in a hurry"
    print("interrupted", inside)


@pytest.mark.parametrize("gated", [True, False], ids=["gate", "no gate"])
def test_handlers_that_raise_never_leak_the_lock(
    children: Children, locked_file: Path, gate_name: str, gated: bool
) -> None:
    """Thousands of exceptions at random instructions of the lock leave it free each time."""
    child = children.call(hammer, str(locked_file), gate_name if gated else None)
    assert f"interrupted {INTERRUPTIONS}\n" == child.output()


# Descriptors.


def test_close_waits_for_who_is_inside(open_lock: OpenLock, locked_file: Path) -> None:
    """A thread that is inside while another closes the lock stays inside, and unlocks what it locked."""
    lock, inside, leave = open_lock(), threading.Event(), threading.Event()

    def stay() -> bool:
        inside.set()
        leave.wait(DEADLINE_S)
        return is_free(locked_file)

    thread = Runner(lock.run, stay)
    inside.wait(DEADLINE_S)
    lock.close()
    assert not is_free(locked_file)
    leave.set()
    assert thread.result() is False
    assert is_free(locked_file)
    assert "again" == lock.run(str, "again")


def test_no_descriptor_is_left(open_lock: OpenLock) -> None:
    """A lock that was closed has given its descriptor back."""
    lock = open_lock()
    gc.collect()  # what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        lock.run(str)
        lock.close()
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_file_that_cannot_be_opened_frees_the_thread_lock(tmp_path: Path) -> None:
    """An error before the lock is held leaves nothing held."""
    path = tmp_path / "later"
    lock = Lock(lambda: os.open(path, os.O_RDWR), None, "the lock")
    with pytest.raises(FileNotFoundError):
        lock.run(str)
    path.touch()
    assert "now" == lock.run(str, "now")
    lock.close()


def test_a_thread_that_left_without_unlocking(open_lock: OpenLock, locked_file: Path) -> None:
    """Three exceptions in a row may get a thread out of a write with the lock: its next write unlocks, or a look."""
    lock = open_lock()
    lock._enter(lock._opened(), lock._opened().fd)  # what such a thread leaves behind
    assert not is_free(locked_file)
    assert "in" == lock.run(str, "in")
    assert is_free(locked_file)
    lock._enter(lock._opened(), lock._opened().fd)
    lock.heal()
    assert is_free(locked_file)


def replaced(lock: Lock, path: Path) -> int:
    """Close a lock's descriptor under it; a file that is open and locked elsewhere in the program gets the number."""
    fd = lock._opened().fd
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    os.dup2(other, fd)
    os.close(other)
    return fd


def test_a_descriptor_that_is_closed_while_one_waits(
    open_lock: OpenLock, locked_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for another process meanwhile is not let in by another file's lock, and does not unlock that."""
    lock, holder = open_lock(), os.open(locked_file, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    waits, pauses = threading.Event(), lock_room.pauses
    monkeypatch.setattr(lock_room, "pauses", lambda: waits.set() or pauses())
    runner = Runner(lambda: lock.run(str))
    assert waits.wait(DEADLINE_S)
    other = tmp_path / "other"
    fd = replaced(lock, other)
    assert isinstance(runner.error(), kernel.Lost)
    assert not is_free(other)
    os.close(fd)
    os.close(holder)


def test_a_descriptor_that_is_closed_amid_a_write(open_lock: OpenLock) -> None:
    """The write ends, and the next is told."""
    lock = open_lock()

    def change() -> str:
        os.close(lock._opened().fd)
        return "done"

    assert "done" == lock.run(change)
    assert not lock._threads._is_owned()  # type: ignore[attr-defined]
    with pytest.raises(kernel.Lost):
        lock.run(str)


def test_a_descriptor_that_is_closed_before_a_look_heals(open_lock: OpenLock, tmp_path: Path) -> None:
    """What a thread left that got out of a write with the lock is healed, and the file that has the number since is let
    alone; the next write is told."""
    lock, other = open_lock(), tmp_path / "other"
    lock._enter(lock._opened(), lock._opened().fd)
    fd = replaced(lock, other)
    lock.heal()
    assert not is_free(other)
    assert not lock._threads._is_owned()  # type: ignore[attr-defined]
    with pytest.raises(kernel.Lost):
        lock.run(str)
    os.close(fd)


def test_a_look_from_inside_a_write_unlocks_nothing(open_lock: OpenLock, locked_file: Path) -> None:
    """A signal handler that looks around in the middle of a write leaves it alone."""
    lock = open_lock()

    def look() -> bool:
        lock.heal()
        return is_free(locked_file)

    assert lock.run(look) is False
    assert is_free(locked_file)
