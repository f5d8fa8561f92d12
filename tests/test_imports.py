"""Modules that are loaded by need, and what is opened, in a process that forks meanwhile."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoocache
from tests.children import DEADLINE_S
from tests.crowd import Runner, until
from tests.forks import Forks
from tests.structure.source import SOURCES, Source
from zoocache import imports, runtime
from zoocache.imports import Whole, whole
from zoocache.shm import identity
from zoocache.shm.object import CURRENT_S
from zoocache.storage.lmdb_table import Table
from zoocache.trie import Trie

SLOW = """
import threading
begun, go = threading.Event(), threading.Event()
threading.Thread.is_slow = begun, go
begun.set()
assert go.wait(60)
done = True
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that is in the middle of its import, in another thread, until `go` is set."""
    name = f"slow_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)
    del threading.Thread.is_slow  # type: ignore[attr-defined]


def load(name: str) -> bool:
    """As the library loads what it needs."""
    with whole:
        return bool(__import__(name).done)


def being_loaded(name: str) -> tuple[Runner, threading.Event]:
    """A thread that is in the middle of it, and what lets it go on."""
    loader = Runner(load, name)
    until(lambda: hasattr(threading.Thread, "is_slow"))
    begun, go = threading.Thread.is_slow  # type: ignore[attr-defined]
    until(begun.is_set)
    return loader, go


def test_a_fork_waits_for_an_import(slow: str, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that is forked while another thread loads a module finds it whole."""
    monkeypatch.setattr(imports, "FORK_S", DEADLINE_S)
    loader, go = being_loaded(slow)
    timer = threading.Timer(0.2, go.set)
    timer.start()
    child = forks.fork(load, slow)
    assert 0 == child.wait()
    assert loader.result()
    timer.join()


def test_a_fork_does_not_wait_for_ever(slow: str, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an import takes too long the fork goes on, and the child loads whatever else it needs."""
    monkeypatch.setattr(imports, "FORK_S", 0.05)
    loader, go = being_loaded(slow)
    child = forks.fork(load_another)
    assert 0 == child.wait()
    go.set()
    assert loader.result()


def load_another() -> None:
    """Twice, so that the lock is given back."""
    for _ in range(2):
        with whole:
            import colorsys  # noqa: F401


def test_forks_at_once(forks: Forks) -> None:
    """Threads that fork at the same time take turns, and all children can load."""
    runners = [Runner(forks.fork, load_another) for _ in range(4)]
    assert [0] * 4 == [runner.result().wait() for runner in runners]


def test_a_handler_forks_in_the_middle_of_an_import(forks: Forks) -> None:
    """The thread that loads may itself fork, in a signal handler: neither it nor its child hangs."""
    statuses: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: statuses.append(forks.fork(load_another).wait()))
    try:
        with whole:
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda: statuses)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [0] == statuses
    assert Runner(load_again).result()


def load_again() -> bool:
    """In another thread: nobody has kept the lock."""
    with whole:
        return True


# What is opened.


def in_the_middle_of(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[threading.Event, threading.Event]:  # fmt: skip
    """Has the first thread that calls a function say so, and wait."""
    come, go, inner = threading.Event(), threading.Event(), getattr(owner, name)

    def slow(*args: object, **kwargs: object) -> object:
        if not come.is_set():
            come.set()
            assert go.wait(DEADLINE_S)
        return inner(*args, **kwargs)

    monkeypatch.setattr(owner, name, slow)
    return come, go


def opened() -> list[str]:
    """What this process has open that carries locks: segments, and lock files of LMDB stores."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(name for name in found if name.startswith("/dev/shm/zoocache") or name.endswith("zoocache.lock"))


@pytest.mark.parametrize("what", ["the segment", "the next segment", "LMDB"])
def test_a_fork_waits_for_what_is_being_opened(
    what: str, tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that is forked while another thread opens something can use the cache, and has no more open than one that
    is forked when nothing happens: what it inherited of the locks it has let go of."""
    monkeypatch.setattr(imports, "FORK_S", DEADLINE_S)
    zoocache.configure(storage_url=f"lmdb://{tmp_path}/cache")
    if what == "the next segment":
        zoocache.invalidate("a")
        Path(identity.segment_file(runtime.engine().trie.segment.name)).unlink()
        time.sleep(CURRENT_S)  # what was current so lately counts as current
    come, go = in_the_middle_of(Table if what == "LMDB" else Trie, "__init__", monkeypatch)
    opener = Runner(zoocache.invalidate, "a")
    assert come.wait(DEADLINE_S)
    timer = threading.Timer(0.2, go.set)
    timer.start()

    def use(name: str) -> None:
        zoocache.invalidate("b")
        (tmp_path / name).write_text("\n".join(opened()))

    assert 0 == forks.fork(use, "amid").wait()
    opener.result()
    timer.join()
    assert 0 == forks.fork(use, "quiet").wait()
    assert (tmp_path / "quiet").read_text() == (tmp_path / "amid").read_text()


# Who has to hold it.

FREE = ("zoocache/cli/", "zoocache/demo/", "zoocache/listener/detached.py", "zoocache/_zoocache.py")
"""Programs, and the door for debugging: nobody forks there."""


def unguarded(source: Source) -> Iterator[str]:
    """Imports inside functions that nothing keeps forks away from, and that say no reason."""
    guarded: set[ast.AST] = set()
    for node in source.nodes:
        if isinstance(node, ast.With) and any(ast.unparse(item.context_expr) == "whole" for item in node.items):
            guarded.update(ast.walk(node))
    for function in source.nodes:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom) and node not in guarded:
                    line = source.text.splitlines()[node.lineno - 1]
                    if "# loaded already" not in line and "# in tests only" not in line:
                        yield f"{source}:{node.lineno} {line.strip()}"


def test_whoever_imports_by_need_keeps_forks_away() -> None:
    """Each import inside a function stands under `whole`, or says that the module is there already."""
    found = [each for source in SOURCES if not source.name.startswith(FREE) for each in unguarded(source)]
    assert [] == found


def test_there_is_one() -> None:
    """The fork hooks are those of the one that everybody holds."""
    assert isinstance(whole, Whole)
