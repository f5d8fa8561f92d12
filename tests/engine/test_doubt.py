"""What another process's failure leaves behind: nobody here knows what it had looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crowd import Gate, Runner, followers, until
from zoocache import FillFailed, cacheable
from zoocache.engine import claimed, computing
from zoocache.engine.core import Engine
from zoocache.engine.effects import Steps
from zoocache.engine.spec import Call
from zoocache.flight import Flight


def test_who_lives_with_a_failure_that_another_thread_was_told_is_not_kept(
    lmdb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that is built on a failure in another process is not kept, though it came by way of another thread."""
    gate, obtain, runs = Gate(), claimed.obtain, []

    @cacheable
    def inner() -> int:
        raise AssertionError("another process computes it")

    @cacheable
    def outer() -> int:
        runs.append(1)
        with pytest.raises(FillFailed):
            inner()
        return 5

    def told(engine: Engine, call: Call, flight: Flight, *rest: Any) -> Steps[Any]:
        if call.key != inner.key_for():
            return (yield from obtain(engine, call, flight, *rest))
        gate.stop()
        computing.raise_failure(b"ValueError\nno", flight)

    monkeypatch.setattr(claimed, "obtain", told)
    leader = Runner(inner)
    gate.wait_inside()
    follower = Runner(outer)
    until(lambda: followers() == 1)
    gate.open()
    with pytest.raises(FillFailed):
        leader.result()
    assert (5, 5) == (follower.result(), outer())
    assert 2 == len(runs)
