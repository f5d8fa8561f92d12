"""The listeners of a run: the library's own, or those that have a clock of their own, for whom the library starts
listener.py in place of its own program.

Nobody else has the prefix of a run, so they and their keepers are known by their command lines, wherever they are
attached.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

from stress import processes
from stress.run import Run
from zoocache.listener import starter

LISTENER = Path(__file__).with_name("listener.py")
PROGRAMS = str(LISTENER), starter.PROGRAM


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
    return [pid for program in PROGRAMS for pid in processes.of((program, prefix), among)]


def kill(prefix: str, pid: int) -> bool:
    """Kill a listener, and before it its keeper, which would begin another; whether there was any."""
    doomed = of(prefix, (processes.parent_of(pid), pid))
    processes.tell(doomed, signal.SIGKILL)
    return bool(doomed)


def end(prefix: str, number: signal.Signals = signal.SIGKILL) -> None:
    """End all of a run, those too that are about to begin. Nobody is there who would start another.

    Args:
        prefix: of the run.
        number: SIGTERM: in order.

    Raises:
        TimeoutError: they do not end.
    """
    processes.end(lambda: of(prefix), number)
