"""Threads of a test: started together, joined with a deadline, what each brought or raised."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.children import DEADLINE_S

if TYPE_CHECKING:
    import pytest


class Runner:
    """A function in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._work = (function, args)
        self._outcome: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        function, args = self._work
        try:
            self._outcome = function(*args)
        except BaseException as error:  # noqa: BLE001  # it is for whoever asks
            self._error = error

    def error(self) -> BaseException | None:
        """What it raised, once it has ended; None if it returned."""
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "the thread did not end"
        return self._error

    def result(self) -> Any:
        """What it returned, once it has ended; raises what it raised."""
        error = self.error()
        if error is not None:
            raise error
        return self._outcome


def together(functions: Sequence[Callable[[], Any]]) -> list[Runner]:
    """Run functions in threads that begin at the same moment; wait until all have ended."""
    barrier = threading.Barrier(len(functions))

    def start(function: Callable[[], Any]) -> Any:
        barrier.wait(DEADLINE_S)
        return function()

    runners = [Runner(start, function) for function in functions]
    for runner in runners:
        runner.error()
    return runners


def until(condition: Callable[[], object]) -> None:
    """Wait for something that is sure to come."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


class Gate:
    """What a cached function of a test stops at: it says that somebody is inside, and waits until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def stop(self) -> None:
        """In the function."""
        self.entered.set()
        assert self._open.wait(DEADLINE_S), "nobody opened the gate"

    def wait_inside(self) -> None:
        """Until somebody stands at the gate."""
        assert self.entered.wait(DEADLINE_S), "nobody came to the gate"

    def open(self) -> None:
        """Let all through, from now on."""
        self._open.set()


def stopping_at(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The gate at which the first who calls a function stops, before it is called."""
    gate, inner = Gate(), getattr(owner, name)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        if not gate.entered.is_set():
            gate.stop()
        return inner(*args, **kwargs)

    monkeypatch.setattr(owner, name, stopping)
    return gate


def followers() -> int:
    """How many threads and tasks of this process wait for a flight at this moment."""
    from zoocache import runtime

    engine = runtime.running()
    return 0 if engine is None else sum(len(flight.wakers) for flight in list(engine.flights._flights.values()))


def followers_elsewhere() -> int:
    """For how many flights a process waits that are of another one."""
    from zoocache import runtime
    from zoocache.shm.claims import RUNNING
    from zoocache.shm.layout import C_JOINED, C_STATE, CLAIM_WORDS

    segment = runtime.engine().trie.segment
    layout, words = segment.layout, segment.words
    places = range(layout.claims_at, layout.claims_at + layout.claims * CLAIM_WORDS, CLAIM_WORDS)
    return sum(words[at + C_STATE] == RUNNING and words[at + C_JOINED] == 1 for at in places)
