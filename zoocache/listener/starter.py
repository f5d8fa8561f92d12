"""In a user's process: is there a listener on this host, and if not, start one.

Asking costs one system call. Processes of a host ask each about once a second, and take turns at starting (a word in
the segment says when somebody last did). What is started ends at once and leaves the listener behind (detached.py); it
is reaped in passing.

Where none can be started (an embedded interpreter, a frozen program, a sandbox), one warning says so, and this process
sends and hears in passing, about once a second. Now and then it tries again.

The listener's keeper is nobody's child, unless this process is the first of its container (process 1): then the system
makes it ours, and it is reaped in passing too, once it has ended.

What guards what: the words of a Starter are hints of this process; two threads that start at once are harmless, for one
of the listeners finds the lock taken and leaves. `_begun` and `_given` change by single adds and discards, and whoever
reaps a child second finds none. A forked child has none of its parent's children to reap.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoocache import clock
from zoocache.errors import ZooCacheError
from zoocache.shm.layout import H_CAUGHT_UP, H_LISTENER_MS, H_LISTENER_PID, H_REFUSED
from zoocache.shm.segment import Orphaned, Segment

if TYPE_CHECKING:
    from zoocache.config import Settings
    from zoocache.engine.hosts import Hosts
    from zoocache.trie import Trie

log = logging.getLogger("zoocache")

TURN_MS = 1000
"""So long after somebody began to start a listener nobody else does, unless that one has come and gone: who has
something to be sent may be idle from here on, and must not take one that was killed for one that is on its way. One
that dies again and again is begun as often as one can begin."""

STARTING_MS = 10_000
"""A listener that is not there after this has failed to start."""

AGAIN_MS = 30_000
"""So long after a failure it is tried again."""

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "detached.py")

KEPT = re.compile(r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|SSL_CERT_FILE|SSL_CERT_DIR|OPENSSL_CONF")
"""What of the environment the listener gets: no secret that may lie there."""

NEEDED = ("zoocache", "posix_ipc", "msgpack", "lmdb")

_begun: set[tuple[int, int]] = set()
"""Parent and child: what was begun here, by any Starter, and not reaped yet. An engine that is closed leaves it to the
next one; a forked child has nothing of it, for its own number is another."""

_given: set[int] = set()
"""Listeners and keepers that the system may make children of this process."""

_SIGNALS = [number for number in signal.valid_signals() if number not in {signal.SIGKILL, signal.SIGSTOP}]


class Starter:
    """See the head of this file. One for each engine.

    Args:
        settings: as configured.
        hosts: what sends and hears in passing, where no listener can be had.
    """

    def __init__(self, settings: Settings, hosts: Hosts) -> None:
        self._settings = settings
        self._hosts = hosts
        self._started_ms = 0
        self._failed_ms = 0
        self._has_warned = False

    def ensure(self, trie: Trie) -> bool:
        """See that the host has a listener.

        Returns:
            Whether it has one now. If not, one may be about to come.
        """
        _reap()
        if trie.segment.has_listener():
            self._started_ms = self._failed_ms = 0
            if os.getpid() == 1:
                _given.update(_ours(trie.words[H_LISTENER_PID]))
            return True
        if not self._failed_ms:
            take_back(trie.segment)
        try:
            self._start_in_turn(trie.segment, clock.up_ms())
            if self._failed_ms:
                self._in_passing(trie)
        except Orphaned:
            log.debug("zoocache: segment %s is gone; whoever uses it next attaches anew", trie.segment.name)
        return False

    def _start_in_turn(self, segment: Segment, now_ms: int) -> None:
        if self._failed_ms and now_ms - self._failed_ms < AGAIN_MS:
            return
        if not segment.words[H_LISTENER_MS]:
            self._started_ms = 0  # it came, though this process looks again only now, when it is gone
        if not segment.shared:
            self._fail(now_ms, "")
        elif self._started_ms and now_ms - self._started_ms > STARTING_MS:
            self._fail(now_ms, "it was started, and is not there; `zoocache listen` may tell why")
        elif segment.try_write(_take_turn, segment, now_ms)[1]:
            self._try(now_ms)

    def _try(self, now_ms: int) -> None:
        try:
            start(self._settings)
            self._started_ms = self._started_ms or now_ms
        except OSError as error:
            self._fail(now_ms, str(error))

    def _fail(self, now_ms: int, why: str) -> None:
        self._started_ms, self._failed_ms = 0, now_ms
        if why and not self._has_warned:
            self._has_warned = True
            log.warning(
                "zoocache: the listener of this host cannot be started: %s. Invalidations cross to other hosts all the "
                "same, about once a second; `zoocache listen` is another way to run one", why,
            )  # fmt: skip

    def _in_passing(self, trie: Trie) -> None:
        """What the listener would do."""
        moment = clock.now()
        try:
            if self._hosts.drain(trie, moment):
                self._hosts.catch_up(trie, moment)
                trie.words[H_REFUSED] = 0  # of a listener that was killed: the server takes and tells what it should
        except ZooCacheError as error:
            log.debug("zoocache: nothing was sent or heard in passing: %s", error)


def _reap() -> None:
    """Let go of those that have ended."""
    for begun in [*_begun]:
        if not _is_running(*begun):
            _begun.discard(begun)
    for pid in [*_given]:
        # One that is still somebody else's child becomes ours once that one has ended, too.
        if not _is_running(os.getpid(), pid) and not os.path.exists(f"/proc/{pid}"):
            _given.discard(pid)


def _is_running(parent: int, child: int) -> bool:
    """Whether it is a child of this process, and has not ended."""
    if parent == os.getpid():
        with contextlib.suppress(ChildProcessError):  # somebody else has reaped it
            return not os.waitpid(child, os.WNOHANG)[0]
    return False


def _ours(pid: int) -> set[int]:
    """A listener and its keeper, if they were started here: another process may have that number here, if the listener
    is of another container."""
    with contextlib.suppress(OSError, ValueError):
        if _runs_program(pid):
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
            return {pid, parent} if parent > 1 and _runs_program(parent) else {pid}
    return set()


def _runs_program(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return PROGRAM.encode() in file.read().split(b"\0")


def take_back(segment: Segment) -> None:
    """Nobody listens, perhaps since long ago: then the host has not caught up (engine/watch.py).

    In a round under the lock. Whoever becomes the listener after the look in it has the lock later than this, before he
    has caught up: what he says then is not taken back. A lock that is taken is no reason to leave the word as it is:
    to compute in vain is better than to believe in vain.
    """
    with contextlib.suppress(Orphaned):  # whoever uses it next attaches anew
        if not segment.try_write(_take_back, segment)[0]:
            _take_back(segment)


def _take_back(segment: Segment) -> None:
    if not segment.has_listener():
        segment.words[H_CAUGHT_UP] = 0


def _take_turn(segment: Segment, now_ms: int) -> bool:
    """Under the lock: whether it is this process's turn. A word of 0 is nobody's turn, however young the machine is; or
    somebody has come since this process looked, who would find that word taken when he is killed. He gives the word
    back, without the lock, when he is there: so a look for him follows the store, too."""
    if segment.has_listener():
        return False
    began_ms = segment.words[H_LISTENER_MS]
    if began_ms and 0 <= now_ms - began_ms < TURN_MS:
        return False
    segment.words[H_LISTENER_MS] = now_ms
    if segment.has_listener():
        segment.words[H_LISTENER_MS] = 0
        return False
    return True


def start(settings: Settings) -> int:
    """Start a listener, and wait for nothing.

    Returns:
        The process that begins it and ends. Whoever looks for a listener in passing reaps it.

    Raises:
        OSError: it cannot be started.
    """
    program = interpreter()
    if not os.path.isfile(PROGRAM):
        raise OSError(f"{PROGRAM} is no file")
    said = json.dumps({"settings": settings._asdict(), "path": list(import_path())}).encode()
    fd = _file_in_memory(said)
    try:
        child = os.posix_spawn(
            program, [program, "-I", "-S", PROGRAM, settings.prefix or ""],
            {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, fd, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setsigmask=[], setsigdef=_SIGNALS,
        )  # fmt: skip
    finally:
        os.close(fd)
    _begun.add((os.getpid(), child))
    return child


def interpreter() -> str:
    """The Python to run.

    Raises:
        OSError: there is none to be found: `sys.executable` is empty, or the program that Python is built into.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if getattr(sys, "frozen", False):
        raise OSError("this program is frozen: it has no Python interpreter beside it")
    candidates = [sys.executable, os.path.join(sys.prefix, "bin", name), os.path.join(sys.exec_prefix, "bin", name)]
    for found in candidates:
        if os.path.basename(found or "").startswith("python") and os.access(found, os.X_OK):
            return found
    raise OSError(f"this program tells of no Python interpreter (sys.executable is {sys.executable!r})")


def import_path() -> Iterator[str]:
    """Where this process finds modules, in a way that means the same in another current directory."""
    for entry in sys.path:
        with contextlib.suppress(OSError):  # the current directory is gone
            yield os.path.abspath(entry)
    for name in NEEDED:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:  # what an import hook has found
            is_package = os.path.basename(file).startswith("__init__.")
            yield os.path.dirname(os.path.dirname(file)) if is_package else os.path.dirname(file)


def _file_in_memory(data: bytes) -> int:
    """A descriptor to read this from, above those that the child's first three become."""
    fd = os.memfd_create("zoocache-settings")
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)
    with open(high, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(high, 0, os.SEEK_SET)
    return high
