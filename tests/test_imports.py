"""Modules that are loaded by need, in a process that forks meanwhile."""

from __future__ import annotations

import ast
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import DEADLINE_S, Children
from tests.crowd import Runner, until
from tests.forks import Forks
from tests.structure.source import SOURCES, Source
from zoocache import imports
from zoocache.imports import whole

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


INTERRUPTED = """
import ctypes, functools, os, signal, threading
os.register_at_fork(before=functools.partial(getattr(ctypes.CDLL(None), "raise"), signal.SIGALRM))  # no Python runs
from zoocache.imports import whole
signal.signal(signal.SIGALRM, signal.default_int_handler)
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
got = []
thread = threading.Thread(target=lambda: got.append(whole.acquire(timeout=1)))
thread.start()
thread.join()
print(got)
"""


def test_a_fork_that_is_interrupted(children: Children) -> None:
    """A signal that comes while a process forks may cost the first hook that follows: the lock is given back all the
    same, and other threads can load what they need."""
    child = children.code(INTERRUPTED)
    assert "[True]\n" == child.output()
    assert "KeyboardInterrupt" in child.errors()


def load_again() -> bool:
    """In another thread: nobody has kept the lock."""
    with whole:
        return True


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
