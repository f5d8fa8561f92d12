"""The write lock of a host: a semaphore as the gate, a lock that the kernel releases at death as the truth.

Why two. A process killed while it holds a POSIX semaphore leaves it at zero for ever, and nobody can post it for the
dead: between `sem_wait` and writing one's name a dead holder looks like a slow one. A `flock` is released by the
kernel in the same step in which it kills, so the flock decides who is inside. The semaphore only keeps the waiting
from spinning on the kernel lock, and every one of its steps may be lost or repeated without harm.

    enter   token = sem_trywait, again after sleeps of 20 us doubling to 2 ms
            token, or 20 ms waited: flock(own description, EX | NB); got it: inside
            drain surplus tokens
    leave   flock(UN); if sem_getvalue is 0: sem_post

Crash argument: killed before the flock, a token is lost; whoever waits takes the flock after 20 ms and posts when it
leaves. Killed after the flock, the kernel releases it. Killed between UN and post: as the first. A token posted twice
lets two through the gate, and the flock sorts them. `docs/decisions/0002-lock.md` has the model and its bounds.

What guards what: `_threads` lets one thread of this process in at a time (a flock belongs to the description, which
they share). It is an RLock because that knows its owner in one step, which a flag set after `acquire` would not; it is
never taken twice.

Rejected: the blocking form of acquire (it swallows what a signal handler raises), `sem_timedwait` (wall clock),
record locks by fcntl (lost when any descriptor of the file is closed), posting for the dead (loses exclusion).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol, TypeVar

from posix_ipc import BusyError

from zoocache.errors import Busy
from zoocache.shm import kernel, points

T = TypeVar("T")

PATIENCE_S = 0.020
"""After so long without a token the flock is asked directly: the token may have died with its holder."""

DEFAULT_TIMEOUT_S = 2.0
"""A stopped holder is never robbed: a write gives up after this."""

STOOD_S = 0.2
"""Who overslept a pause by more stood still himself, stopped or for want of a processor. That is nobody else's time
inside: without it a waiter would come back, look once, find somebody who has just come in, and call him stopped. A
shorter delay counts as waiting, or a crowded machine would stretch the time-out many times over."""


class _Mood(threading.local):
    """Of this thread: `timeout_s`, where `at_once` has set it."""

    timeout_s: float | None = None


_mood = _Mood()

NOTHING = -1
"""In place of a descriptor that is lost: the kernel has unlocked with it."""

_EX_NB = fcntl.LOCK_EX | fcntl.LOCK_NB
_UN = fcntl.LOCK_UN
_flock = fcntl.flock
_getpid = os.getpid


class Gate(Protocol):
    """What the lock needs of a semaphore; `posix_ipc.Semaphore` has it."""

    @property
    def value(self) -> int:
        """Tokens free."""

    def acquire(self, timeout: float | None = ...) -> None:
        """Take a token; BusyError with a time-out of 0 if there is none."""

    def release(self) -> None:
        """Give a token."""


class Inside(Busy):
    """The lock is held by this very thread, below the frame that asks: no waiting would help."""


class Lock:
    """A lock among the processes and threads of a host; see the head of this file.

    Args:
        open_fd: opens a new description of the locked file, for this process alone (never an inherited one).
        gate: the semaphore, or None where there is none: then the flock is polled.
        name: what a `Busy` calls it.
        timeout_s: how long `run` waits for a living holder.
    """

    __slots__ = ("_description", "_gate", "_name", "_open_fd", "_pid", "_threads", "_timeout_s")

    def __init__(
        self, open_fd: Callable[[], int], gate: Gate | None, name: str, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self._open_fd = open_fd
        self._gate = gate
        self._name = name
        self._timeout_s = timeout_s
        self._threads = threading.RLock()
        self._description: kernel.Description | None = None
        self._pid = os.getpid()

    def after_fork(self) -> None:
        """In a forked child: the thread lock may be held by a thread that is not here, and the description is the
        parent's. Its copy is closed, or the parent's flock would outlive the parent here."""
        self._threads = threading.RLock()
        if self._description is not None:
            self._description.close()
        self._description = None
        self._pid = os.getpid()

    def open(self) -> None:
        """Open the description now rather than at the first write: a process that drops its rights cannot any more
        (what it could open as another user is closed to it in /proc). If it fails, the first write says so."""
        with contextlib.suppress(OSError):
            self._opened()

    def _opened(self) -> kernel.Description:
        """This process's own description of the locked file."""
        if self._pid != os.getpid():
            self.after_fork()
        description = self._description
        if description is None:
            self._description = description = kernel.Description(self._open_fd())
        return description

    def run(self, action: Callable[..., T], *args: Any) -> T:
        """Call `action(*args)` while this process and thread hold the lock.

        Returns:
            What the action returns.

        Raises:
            Busy: another process kept the lock for longer than the time-out, or this very thread is inside
                already (a signal handler or a finalizer that interrupted a write).
            Lost: other code has closed the description.
        """
        # No loop in this frame: CPython may skip a `finally` when a signal handler raises at a loop's back edge.
        # The outer finally repeats the unlock, so that an exception inside the inner one leaks nothing; each step
        # may be repeated without harm. Who is inside already is turned away before `try`: its own finally unlocks.
        description = self._description  # this frame keeps it open, though another thread may call `close`
        if description is None or self._pid != _getpid():
            description = self._opened()
        fd = description.fd
        if self._threads._is_owned():  # type: ignore[attr-defined]  # as threading.Condition does
            self._refuse_if_inside(fd)
        try:
            try:
                self._enter(description, fd)
                return action(*args)
            except kernel.Lost:
                fd = fd if description.is_whole() else NOTHING
                raise
            finally:
                self._leave(fd)
        finally:
            if self._threads._is_owned():  # type: ignore[attr-defined]
                self._leave(fd)

    def _refuse_if_inside(self, fd: int) -> None:
        """Turn away a thread that is inside a write; unlock for one that left without unlocking.

        A handler that raises again and again, three times within the few steps of the two `finally`, gets its thread
        out of `run` with the lock. Whether it is inside still, its stack tells.

        Raises:
            Inside: it is.
        """
        if _is_run_in(sys._getframe(2), self):
            raise Inside(f"{self._name}: this thread is inside a write already; a signal handler cannot write then")
        self._leave(fd)

    def heal(self) -> None:
        """Unlock if this thread left a write without unlocking: in passing, for a thread that may never write again."""
        description = self._description
        if description is None or not self._threads._is_owned():  # type: ignore[attr-defined]
            return
        if not _is_run_in(sys._getframe(1), self):
            self._leave(description.fd if description.is_whole() else NOTHING)

    def try_run(self, action: Callable[..., T], *args: Any) -> tuple[bool, T | None]:
        """Call `action(*args)` if the lock is free at this moment; wait for nobody.

        Returns:
            (True, what the action returns), or (False, None) if somebody holds the lock.
        """
        try:
            return True, at_once(self.run, action, *args)
        except Busy:
            return False, None

    def _enter(self, description: kernel.Description, fd: int) -> None:
        if not self._threads.acquire(False):
            self._wait_for_thread()
            fd = description.fd  # it may have been closed meanwhile
        gate = self._gate
        try:
            if gate is not None:
                gate.acquire(0)
            if points.ARMED:
                points.reach("lock.gated")
            _flock(fd, _EX_NB)
        except (BusyError, BlockingIOError):
            self._wait(description)
        if gate is not None and gate.value:
            _drain(gate)
        if points.ARMED:
            points.reach("lock.held")

    def _wait_for_thread(self) -> None:
        """In slices, each of which tells whether this process stood still; the thread that is inside did, too."""
        now = time.monotonic()
        deadline = now + self._patience_s()
        while True:
            planned = min(now + STOOD_S, deadline)
            if self._threads.acquire(timeout=planned - now):
                return
            deadline += stood_s(planned)
            now = time.monotonic()
            if now >= deadline:
                raise self._busy()

    def _wait(self, description: kernel.Description) -> None:
        start = time.monotonic()
        patience = start + PATIENCE_S
        deadline = start + self._patience_s()
        for pause_s in pauses():
            now = time.monotonic()
            if now >= min(patience, deadline) or self._gate is None or _take_token(self._gate):
                if _try_flock(description.fd):
                    return
                patience = now + PATIENCE_S
            if now >= deadline:
                raise self._busy()
            time.sleep(pause_s)
            deadline += stood_s(now + pause_s)

    def _patience_s(self) -> float:
        timeout_s = _mood.timeout_s
        return self._timeout_s if timeout_s is None else timeout_s

    def _leave(self, fd: int) -> None:
        # A thread that never got in must not unlock for the one that is in. A child forked by the action does not
        # unlock for its parent: `after_fork` has given it a `_threads` that it does not own.
        if not self._threads._is_owned():  # type: ignore[attr-defined]
            return
        if fd != NOTHING:
            _unlock(fd)
        if points.ARMED:
            points.reach("lock.unlocked")
        gate = self._gate
        if gate is not None and gate.value == 0:
            gate.release()
        self._threads.release()

    def _busy(self) -> Busy:
        return Busy(
            f"{self._name}: another process has held the write lock for {self._timeout_s:g} s. It is alive, perhaps "
            "stopped, so it is not robbed; nothing was changed here. Resume or end it, then try again."
        )

    def close(self) -> None:
        """Give the description back, once no thread is inside any more; the next use opens a new one."""
        self._description = None


def _is_run_in(frame: FrameType | None, lock: Lock) -> bool:
    """Whether a frame, or one that it was called from, is `run` of this lock."""
    while frame is not None:
        if frame.f_code is Lock.run.__code__ and frame.f_locals.get("self") is lock:
            return True
        frame = frame.f_back
    return False


def at_once(action: Callable[..., T], *args: Any) -> T:
    """Call `action(*args)` with locks that wait for nobody: what is taken raises Busy at once.

    For callers that must not block their thread, an event loop's, and would rather come back.
    """
    before = _mood.timeout_s
    _mood.timeout_s = 0.0
    try:
        return action(*args)
    finally:
        _mood.timeout_s = before


def stood_s(planned_s: float) -> float:
    """How long this thread has stood still; 0 for an ordinary delay.

    Args:
        planned_s: when its pause was to be over, by the monotonic clock.
    """
    late_s = time.monotonic() - planned_s
    return late_s if late_s > STOOD_S else 0.0


def _take_token(gate: Gate) -> bool:
    try:
        gate.acquire(0)
    except BusyError:
        return False
    return True


def _try_flock(fd: int) -> bool:
    try:
        _flock(fd, _EX_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(fd: int) -> None:
    try:
        _flock(fd, _UN)
    except OSError as error:
        if error.errno != errno.EBADF:  # closed by other code amid the write: unlocked with that
            raise


def _drain(gate: Gate) -> None:
    for _ in range(4):
        if not _take_token(gate):
            return


def pauses() -> Iterator[float]:
    """How long to sleep between two looks at a lock: 20 us, doubling to 2 ms."""
    pause_s = 20e-6
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, 0.002)
