"""Processes that a run or a test has not started itself, so that it must look for them: listeners and their keepers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

GONE_S = 60.0
TICK_S = 0.01


def of(ending: Sequence[str], among: Sequence[int] | None = None) -> list[int]:
    """Those whose command line ends so.

    Args:
        ending: the last arguments.
        among: these processes; None for all.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()] if among is None else among
    return [pid for pid in pids if _command(pid)[-len(ending) :] == [*ending]]


def that_begin(program: str, start: str) -> list[int]:
    """Those of a program whose last argument begins so.

    Args:
        program: the last argument but one.
        start: of the last one.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if program in (words := _command(pid))[-2:-1] and words[-1].startswith(start)]


def end(doomed: Callable[[], list[int]], number: int = signal.SIGKILL) -> None:
    """End all of a kind, those too that come meanwhile, and wait until they have let go of what they held.

    One that is dying has no command line any more from when it gives its memory back; its files, and the locks on them,
    it gives back after that, and only then is it a zombie, or nobody's. (Linux, `do_exit`.)

    Args:
        doomed: looks who there is.
        number: the signal.

    Raises:
        TimeoutError: they do not end.
    """
    until_s, told = time.monotonic() + GONE_S, set[int]()
    # One that was being forked at the first look is there at the second.
    while left := doomed() or doomed() or [pid for pid in told if not is_dead(pid)]:
        told.update(left)
        tell(left, number)
        if time.monotonic() > until_s:
            raise TimeoutError(f"processes do not end: {left}")
        time.sleep(TICK_S)


def tell(pids: Sequence[int], number: int) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_dead(pid: int) -> bool:
    """Whether it is gone, or a zombie whose threads have all ended: until then what it has locked stays locked, though
    its first thread, which is what the state is of, may be a zombie before the others."""
    stat = _stat(pid)
    return stat[0] in "ZX" and int(stat[_THREADS]) <= 1


def parent_of(pid: int) -> int:
    """Who has started it; 0: it is gone."""
    return int(_stat(pid)[_PARENT])


_PARENT, _THREADS = 1, 17
"""Places behind the state, in what the kernel tells of a process (proc_pid_stat(5))."""


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", *["0"] * _THREADS]


def that_map(directory: Path) -> list[int]:
    """All others that have a file of this directory in their memory."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return [pid for pid in pids if f"{directory}/" in _maps(pid)]


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []
