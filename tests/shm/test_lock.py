"""zoocache/shm/lock.py: one at a time, and nobody waits for longer than he wants to."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import posix_ipc
import pytest

from tests.children import DEADLINE_S
from tests.crowd import Runner
from tests.forks import Fork, Forks
from tests.shm.locking import PATIENT_S, OpenLock, is_free, shared_words
from zoocache.errors import Busy
from zoocache.shm.lock import PATIENCE_S, Lock, at_once, pauses

# What it does.


def test_run_returns_what_the_action_returns(open_lock: OpenLock, locked_file: Path) -> None:
    """The action is called with its arguments, under the lock, and the lock is free afterwards."""
    held = []
    assert (7, [False]) == (open_lock().run(lambda a, b: held.append(is_free(locked_file)) or a + b, 3, 4), held)
    assert is_free(locked_file)


def test_an_exception_frees_the_lock(open_lock: OpenLock, locked_file: Path) -> None:
    """What the action raises comes out as it is, and the lock is free."""
    lock = open_lock()
    with pytest.raises(ZeroDivisionError):
        lock.run(lambda: 1 // 0)
    assert is_free(locked_file)
    assert "again" == lock.run(str, "again")


def test_a_thread_that_is_inside_cannot_enter_again(open_lock: OpenLock, locked_file: Path) -> None:
    """Re-entrance is Busy at once, and does not unlock for the one that is inside."""
    lock = open_lock()

    def inside() -> bool:
        with pytest.raises(Busy, match=r"the lock: this thread is inside a write already"):
            lock.run(str)
        assert (False, None) == lock.try_run(str)
        return is_free(locked_file)

    assert lock.run(inside) is False
    assert is_free(locked_file)


def test_a_signal_handler_inside_cannot_enter(open_lock: OpenLock, locked_file: Path) -> None:
    """A handler that interrupts a write and writes itself gets Busy at once; the write it interrupted goes on."""
    lock, met = open_lock(), []

    def handle(*_: object) -> None:
        with pytest.raises(Busy):
            lock.run(str)
        met.append(is_free(locked_file))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        assert 5 == lock.run(lambda: signal.raise_signal(signal.SIGUSR1) or 5)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [False] == met
    assert is_free(locked_file)


def test_try_run_waits_for_nobody(open_lock: OpenLock, holder: Fork) -> None:
    """`try_run` tells at once that another process is inside, and does the action when nobody is."""
    lock, done = open_lock(), []
    assert (False, None) == lock.try_run(done.append, 1)
    assert [] == done
    holder.kill()
    assert (True, 3) == lock.try_run(int, "3")


def test_try_run_does_not_wait_for_a_thread(open_lock: OpenLock) -> None:
    """Nor does it wait for another thread of its own process."""
    lock, inside, leave = open_lock(), threading.Event(), threading.Event()
    thread = Runner(lock.run, lambda: (inside.set(), leave.wait(DEADLINE_S)))
    inside.wait(DEADLINE_S)
    assert (False, None) == lock.try_run(str)
    leave.set()
    thread.result()
    assert (True, "") == lock.try_run(str)


def test_at_once_finds_a_taken_lock_busy(open_lock: OpenLock, holder: Fork) -> None:
    """Under `at_once` a taken lock is Busy now, not after the time-out; afterwards the time-out is what it was."""
    lock = open_lock()
    with pytest.raises(Busy):
        at_once(lock.run, str)
    assert PATIENT_S == lock._patience_s()
    holder.kill()
    assert "free" == at_once(lock.run, str, "free")


def test_at_once_may_be_nested(open_lock: OpenLock) -> None:
    """The end of an inner `at_once` leaves the outer one in force, though the inner one raised."""
    lock = open_lock()

    def outer() -> float:
        with pytest.raises(ZeroDivisionError):
            at_once(lambda: 1 // 0)
        return lock._patience_s()

    assert 0.0 == at_once(outer)
    assert PATIENT_S == lock._patience_s()


def test_at_once_is_of_one_thread(open_lock: OpenLock) -> None:
    """What one thread does at once does not make the others impatient."""
    lock = open_lock()
    assert PATIENT_S == at_once(lambda: Runner(lock._patience_s).result())


def test_busy_after_the_time_out_changes_nothing(open_lock: OpenLock, holder: Fork, locked_file: Path) -> None:
    """Who waits for a living holder gives up after the time-out, with a message that tells the way out; the holder
    is not robbed.
    """
    done: list[int] = []
    with pytest.raises(Busy, match=r"the lock: another process has held the write lock for 0.05 s.*not robbed"):
        open_lock(0.05).run(done.append, 1)
    assert [] == done
    assert not is_free(locked_file)


def test_a_thread_waits_for_a_thread_and_gives_up(open_lock: OpenLock) -> None:
    """The time-out holds among threads too, and who gave up did not unlock for the one that is inside."""
    lock, inside, leave = open_lock(0.05), threading.Event(), threading.Event()
    thread = Runner(lock.run, lambda: (inside.set(), leave.wait(DEADLINE_S), lock._threads._is_owned()))
    inside.wait(DEADLINE_S)
    with pytest.raises(Busy):
        lock.run(str)
    leave.set()
    assert thread.result()[2]


def test_pauses_grow_to_two_milliseconds() -> None:
    """A waiter looks after 20 us first, then ever more seldom, and never sleeps longer than 2 ms."""
    found = [pause_s for pause_s, _ in zip(pauses(), range(12), strict=False)]
    assert [20e-6, 40e-6, 80e-6] == pytest.approx(found[:3])
    assert 0.002 == max(found) == found[-1]


# One at a time.

WORKERS, THREADS, ROUNDS = 4, 3, 40


def add_one(words: memoryview) -> None:
    """An addition that loses counts unless it is alone."""
    value = words[0]
    time.sleep(0)
    words[0] = value + 1


def count_up(lock: Lock, words: memoryview) -> None:
    """In a child: several threads add under the lock."""
    for runner in [Runner(lambda: [lock.run(add_one, words) for _ in range(ROUNDS)]) for _ in range(THREADS)]:
        runner.result()


def test_threads_of_processes_are_one_at_a_time(open_lock: OpenLock, forks: Forks) -> None:
    """A counter that is not atomic loses nothing, however many threads of however many processes add to it."""
    words = shared_words(1)
    children = [forks.fork(lambda: count_up(open_lock(), words)) for _ in range(WORKERS)]
    assert [0] * WORKERS == [child.wait() for child in children]
    assert WORKERS * THREADS * ROUNDS == words[0]


def test_surplus_tokens_let_nobody_in(locked_file: Path, gate_name: str, forks: Forks) -> None:
    """A semaphore with far too many tokens is no harm: the kernel lock decides, and the surplus is drained."""
    words = shared_words(1)
    gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 50)

    def work() -> None:
        gate = posix_ipc.Semaphore(gate_name)
        count_up(Lock(lambda: os.open(locked_file, os.O_RDWR), gate, "the lock", PATIENT_S), words)

    children = [forks.fork(work) for _ in range(WORKERS)]
    assert [0] * WORKERS == [child.wait() for child in children]
    assert WORKERS * THREADS * ROUNDS == words[0]
    # The last two who left may both have posted.
    Lock(lambda: os.open(locked_file, os.O_RDWR), gate, "the lock").run(str)
    assert 1 == gate.value


def test_surplus_tokens_are_drained(locked_file: Path, gate_name: str) -> None:
    """One who was inside leaves one token."""
    gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 4)
    Lock(lambda: os.open(locked_file, os.O_RDWR), gate, "the lock").run(str)
    assert 1 == gate.value


def test_a_semaphore_made_anew_under_its_users(locked_file: Path, gate_name: str, forks: Forks) -> None:
    """When somebody removes the semaphore, old and new users stand at different gates: the kernel lock decides."""
    words = shared_words(1)

    def open_here() -> Lock:
        gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 1)
        return Lock(lambda: os.open(locked_file, os.O_RDWR), gate, "the lock", PATIENT_S)

    old = open_here()
    posix_ipc.unlink_semaphore(gate_name)
    new = open_here()
    children = [forks.fork(count_up, lock, words) for lock in (old, new, old, new)]
    assert [0] * WORKERS == [child.wait() for child in children]
    assert WORKERS * THREADS * ROUNDS == words[0]


def test_a_lost_token_delays_and_does_not_block(locked_file: Path, gate_name: str) -> None:
    """A token that died with its holder costs the next one its patience, and is made good afterwards."""
    gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 0)
    lock = Lock(lambda: os.open(locked_file, os.O_RDWR), gate, "the lock", PATIENT_S)
    start = time.monotonic()
    lock.run(str)
    assert PATIENCE_S <= time.monotonic() - start < PATIENT_S / 2  # it did not wait for the time-out
    assert 1 == gate.value


def test_a_lost_token_is_not_busy_at_once(locked_file: Path, gate_name: str) -> None:
    """Who waits for nobody asks the kernel lock too: a lost token is not a holder."""
    gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 0)
    lock = Lock(lambda: os.open(locked_file, os.O_RDWR), gate, "the lock", PATIENT_S)
    assert "in" == at_once(lock.run, str, "in")
