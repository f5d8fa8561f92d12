"""The listeners of a run that have a clock of their own: the library starts listener.py in place of its own program.

Nobody else has the prefix of a run, so they and their keepers are known by their command lines, wherever they are
attached.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from stress.run import Run
from zoocache.listener import starter

LISTENER = Path(__file__).with_name("listener.py")
GONE_S = 10.0
TICK_S = 0.01


def use_own(run: Run, host: int | None) -> None:
    """Have this process start listener.py where it would start the library's; that goes on to be it.

    Args:
        run: of this process.
        host: the number of its host, whose clock it has; None: it lives under the present boot (boots.py).
    """
    said = {"directory": str(run.directory), "host": host, "mutant": run.options.mutant}
    kept = starter._file_in_memory
    starter.PROGRAM = str(LISTENER)
    starter._file_in_memory = lambda data: kept(json.dumps(json.loads(data) | {"run": said}).encode())


def of(prefix: str, among: Sequence[int] | None = None) -> list[int]:
    """The listeners of a run, and their keepers.

    Args:
        prefix: of the run.
        among: these processes; None for all.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()] if among is None else among
    return [pid for pid in pids if _command(pid)[-2:] == [str(LISTENER), prefix]]


def kill(prefix: str, pid: int) -> bool:
    """Kill a listener, and before it its keeper, which would begin another; whether there was any."""
    doomed = of(prefix, (_parent_of(pid), pid))
    _tell(doomed, signal.SIGKILL)
    return bool(doomed)


def end(prefix: str, number: signal.Signals = signal.SIGKILL) -> None:
    """End all of a run, those too that are about to begin. Nobody is there who would start another.

    Args:
        prefix: of the run.
        number: SIGTERM: in order.

    Raises:
        TimeoutError: they do not end.
    """
    until_s = time.monotonic() + GONE_S
    while left := of(prefix):
        _tell(left, number)
        if time.monotonic() > until_s:
            raise TimeoutError(f"listeners do not end: {left}")
        time.sleep(TICK_S)


def _tell(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
