"""What a fork waits for: other threads that are opening a segment or LMDB."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import zoocache
from tests.children import DEADLINE_S
from tests.crowd import Gate, Runner, stopping_at, until
from tests.forks import Forks
from tests.shared_memory import remove_objects
from zoocache import forks as waiting
from zoocache.forks import undivided
from zoocache.storage.lmdb_table import Table
from zoocache.trie import Trie


def opened(prefix: str) -> list[str]:
    """The segments of a prefix that this process has open, which carry locks.

    What it inherited of LMDB's lock file carries none, nor does the mapping of a segment that is gone. They are closed
    when nothing refers to them any more, which a thread that is not there may do.
    """
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(
        name for name in found
        if name.startswith("/dev/shm/zoocache") and prefix in name and not name.endswith(" (deleted)")
    )  # fmt: skip


@pytest.mark.parametrize("what", ["the segment", "the next segment", "LMDB"])
def test_a_fork_waits_for_what_is_being_opened(
    what: str, prefix: str, tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is forked while another thread opens something can use the cache, and has no more open than one that
    is forked when nothing happens: what it inherited of the locks it has let go of."""
    monkeypatch.setattr(waiting, "FORK_S", DEADLINE_S)
    zoocache.configure(storage_url=f"lmdb://{tmp_path}/cache")
    if what == "the next segment":
        zoocache.invalidate("a")
        remove_objects(prefix)
    gate = stopping_at(Table if what == "LMDB" else Trie, "__init__", monkeypatch)
    opener = Runner(zoocache.invalidate, "a")
    gate.wait_inside()
    paused = pauses(monkeypatch)
    threading.Thread(target=lambda: paused.wait(DEADLINE_S) and gate.open()).start()

    def use(name: str) -> None:
        zoocache.invalidate("b")
        (tmp_path / name).write_text("\n".join(opened(prefix)))

    assert 0 == forks.fork(use, "amid").wait()
    opener.result()
    assert 0 == forks.fork(use, "quiet").wait()
    assert (tmp_path / "quiet").read_text() == (tmp_path / "amid").read_text()


def pauses(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as a fork, or an opener, pauses for the other side."""
    paused = threading.Event()

    def sleep(seconds: float) -> None:
        paused.set()
        time.sleep(seconds)

    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    return paused


def opens() -> bool:
    """What another thread does."""
    with undivided():
        return True


def nobody_is_left() -> bool:
    """Nothing is being opened, and nobody forks."""
    return not waiting._opening and not waiting._forking


def test_a_fork_does_not_wait_for_ever(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that takes too long the fork goes on, and its child may open what it wants, and fork."""
    monkeypatch.setattr(waiting, "FORK_S", 0.05)
    gate = Gate()

    def opens_slowly() -> None:
        with undivided():
            gate.stop()

    def child() -> None:
        monkeypatch.setattr(waiting, "FORK_S", 3600)
        with undivided():
            assert 0 == forks.fork(int).wait()

    opener = Runner(opens_slowly)
    gate.wait_inside()
    assert 0 == forks.fork(child).wait()
    gate.open()
    opener.result()
    assert nobody_is_left()


def test_who_opens_waits_for_who_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread opens while another is about to fork it opens afterwards."""
    done: list[str] = []

    def opens_and_says_so() -> None:
        with undivided():
            done.append("opened")

    paused = pauses(monkeypatch)
    waiting._before_fork()
    opener = Runner(opens_and_says_so)
    assert paused.wait(DEADLINE_S)
    assert [] == done
    waiting._after_in_parent()
    opener.result()
    assert (["opened"], True) == (done, nobody_is_left())


def test_a_handler_forks_in_the_middle_of_an_opening(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that opens may itself fork, in a signal handler, and waits for nobody."""
    monkeypatch.setattr(waiting, "FORK_S", 3600)
    statuses: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: statuses.append(forks.fork(int).wait()))
    try:
        with undivided():
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda: statuses)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ([0], True) == (statuses, nobody_is_left())


def test_openers_do_not_wait_for_one_another() -> None:
    """One that takes long, because a stopped process is building, keeps no other from opening something else."""
    with undivided():
        assert Runner(opens).result()


def test_who_opens_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that stands, for a hook of the user's wants what this thread has, keeps it for a while only."""
    monkeypatch.setattr(waiting, "FORK_S", 0.05)
    waiting._before_fork()
    assert Runner(opens).result()
    waiting._after_in_parent()
    assert nobody_is_left()
