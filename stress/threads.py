"""The threads of a process of the fleet: what one of them raises ends the run as a failure, and they end together."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

import zoocache
from stress.run import Lane


class Runner(Protocol):
    """What a thread is about.

    Attributes:
        lane: its own.
    """

    lane: Lane

    def run(self) -> None:
        """Go on until the run is over."""


def run_together(first: Runner, others: Sequence[Runner]) -> None:
    """What a process does until the run is over: the first in this thread, the others beside it."""
    threads = [in_thread(other.run, other.lane) for other in others]
    first.lane.ready()
    try:
        first.run()
    except BaseException:  # noqa: BLE001  # reported, whatever it is
        fail_with_traceback(first.lane)
    for thread in threads:
        thread.join()
    zoocache.reset()


def in_thread(run: Callable[[], None], lane: Lane) -> threading.Thread:
    """A thread that calls `run()`, and reports what it raises as a failure of the run."""

    def watched() -> None:
        try:
            run()
        except BaseException:  # noqa: BLE001  # reported, whatever it is
            fail_with_traceback(lane)

    thread = threading.Thread(target=watched, daemon=True)
    thread.start()
    return thread


def fail_with_traceback(lane: Lane) -> None:
    """Report the exception that is being handled as a failure of the run."""
    lane.run.fail(f"an exception that was not planned, {lane}:\n{traceback.format_exc()}")
    lane.run.halt()
