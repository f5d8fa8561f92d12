"""A key is set while something else is just happening to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.crowd import Gate, Runner, followers, followers_elsewhere, until
from tests.forks import Forks
from tests.points import act_at
from zoocache import Busy, cacheable, runtime
from zoocache.engine import call, keeping
from zoocache.shm import points
from zoocache.storage.lmdb_access import Access


@pytest.mark.parametrize("setter", ["set", "refresh"])
def test_what_is_set_at_the_last_moment_of_a_fill(storage: str, setter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was `set` or refreshed stays, though an older fill of that key had come as far as to hold its value."""
    hold_new, values = keeping.hold_new, ["new", "old"]

    @cacheable
    def compute() -> str:
        return values.pop()

    ways: dict[str, Callable[[], object]] = {
        "set": lambda: zoocache.set(compute.key_for(), "new"), "refresh": compute.refresh,
    }  # fmt: skip
    set_anew = [ways[setter]]

    def hold(*arguments: Any) -> None:
        if set_anew:
            Runner(set_anew.pop()).result()
        hold_new(*arguments)

    monkeypatch.setattr(keeping, "hold_new", hold)
    assert "old" == compute()
    assert "new" == compute()


@pytest.mark.parametrize("way", ["set", "set and delete", "delete", "clear"])
def test_who_comes_after_a_key_was_set_anew(storage: str, way: str) -> None:
    """Who calls once `set`, `delete` or `clear` has returned gets nothing that was computed before, though what was set
    is gone again and the older fill is still under way."""
    zoocache.configure(max_entries=1)
    gate, truth = Gate(), ["old"]

    @cacheable
    def get() -> str:
        (found,) = truth
        if found == "old":
            gate.stop()
        return found

    leader = Runner(get)
    gate.wait_inside()
    truth[:] = ["new"]
    if "set" in way:
        zoocache.set(get.key_for(), "new")
        zoocache.set("another", "for which there is no room beside it")
    if "delete" in way:
        zoocache.delete(get.key_for())
    if way == "clear":
        zoocache.clear()
    late = Runner(get)
    until(lambda: followers() or followers_elsewhere() or not late.thread.is_alive())
    gate.open()
    assert ("old", "new", "new") == (leader.result(), late.result(), get())


def test_who_computes_after_vain_flights_can_be_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set stays, though a follower who had given up on flights computes what was there before."""
    gates, truth = [Gate(), Gate()], ["old"]
    free = [*gates]

    @cacheable
    def get() -> str:
        (found,) = truth
        if found == "old":
            free.pop(0).stop()
        return found

    monkeypatch.setattr(call, "TRIES", 0)  # they are used up
    both = []
    for gate in gates:
        both.append(Runner(get))
        gate.wait_inside()
    truth[:] = ["new"]
    zoocache.set(get.key_for(), "new")
    for gate, runner in zip(gates, both, strict=True):
        gate.open()
        assert "old" == runner.result()
        assert "new" == get()


@pytest.mark.parametrize("other", ["set", "delete"])
def test_two_processes_that_set_one_key(other: str, lmdb: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who set a key first in the store finds what the other one set there, or that it was deleted, though it was the
    last to tell the host."""
    ways: dict[str, tuple[Callable[[], object], str | None]] = {
        "set": (lambda: zoocache.set("k", "second"), "second"), "delete": (lambda: zoocache.delete("k"), None),
    }  # fmt: skip
    act, expected = ways[other]

    def be_overtaken() -> None:
        points.ARMED = None
        assert 0 == forks.fork(act).wait()

    act_at("engine.stored", be_overtaken, monkeypatch)
    zoocache.set("k", "first")
    assert expected == zoocache.get("k")


def test_a_refresh_that_finds_the_lock_taken(lmdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refreshed is kept, though another process writes to the store between its two halves."""
    write_entries, busy, runs = Access.write_entries, [Busy("another process writes")], iter(range(10))

    def write(self: Access, *args: Any) -> Any:
        if busy:
            raise busy.pop()
        return write_entries(self, *args)

    @cacheable(deps="a")
    def count() -> int:
        return next(runs)

    assert 0 == count()
    with monkeypatch.context() as patch:
        patch.setattr(Access, "write_entries", write)
        assert 1 == count.refresh()
    runtime.engine().lives.clear()
    assert (1, []) == (count(), busy)
