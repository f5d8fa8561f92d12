"""The listeners of a run: the library's own, or those that have a clock of their own, for whom the library starts
listener.py in place of its own program.

Nobody else has the prefix of a run, so they and their keepers are known by their command lines, wherever they are
attached.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import zoocache
from stress import processes, ways
from stress.run import Run
from zoocache import runtime
from zoocache.engine.core import Engine
from zoocache.listener import starter
from zoocache.shm.layout import H_CAUGHT_UP
from zoocache.storage.lmdb import LmdbStore

LISTENER = Path(__file__).with_name("listener.py")
LISTENED_S = 10.0
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


def await_one(run: Run) -> None:
    """With a server: wait until everything is told and heard; before, what lies there may be left alone.

    Raises:
        TimeoutError: it does not come to that.
    """
    if run.server_url is not None:
        run.wait_until(
            lambda: _is_listened_to(runtime.engine(), run.options.bus),
            lambda: _give_reason_to_listen(runtime.engine()),
            LISTENED_S, "the host does not come to be listened to",
        )  # fmt: skip


def _is_listened_to(engine: Engine, hears: bool) -> bool:
    segment = engine.trie.segment
    return segment.outbox.is_empty() and (not hears or (bool(segment.words[H_CAUGHT_UP]) and _knows_its_place(engine)))


def _knows_its_place(engine: Engine) -> bool:
    """Whether LMDB says up to where the host has heard. One that was removed, and is new, does so with the next thing
    that is heard; without it, and without the segment that knows as well, nobody knows what its entries have missed.
    """
    return not isinstance(engine.store, LmdbStore) or engine.store.position() is not None


def _give_reason_to_listen(engine: Engine) -> None:
    """Who uses the cache sees to a listener, and what is said moves it."""
    ways.quietly(os.getpid(), 0)
    if engine.trie.segment.outbox.is_empty() and not _knows_its_place(engine):
        zoocache.invalidate("nobody:reads:this")


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
