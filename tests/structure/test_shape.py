"""The shape of the library's code: sizes, forbidden constructs, the frame that holds the lock, what an import does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.children import Children
from tests.structure.source import SOURCES, Function, Source, last_name, own_nodes
from zoocache.shm import points

MAX_LINES = 350
MAX_FUNCTION_LINES = 60
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
TALKING_ROOMS = {"cli", "demo"}
UNLOCKS = {"_leave", "leave", "release", "unlock"}
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def test_files_are_short() -> None:
    """No file is longer than a reader can hold in mind."""
    sizes = {source.name: len(source.text.splitlines()) for source in SOURCES}
    assert {} == {name: size for name, size in sizes.items() if size > MAX_LINES}


def test_functions_are_short() -> None:
    """No function is longer than a screen."""
    sizes = {
        f"{source}:{each.lineno} {each.name}": each.end_lineno - each.lineno + 1
        for source in SOURCES for each in source.functions()
    }  # fmt: skip
    assert {} == {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES}


def test_no_exception_is_swallowed_without_a_word() -> None:
    """No `except` does nothing at all."""
    silent = [
        f"{source}:{node.lineno}" for source in SOURCES for node in source.nodes
        if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body)
    ]  # fmt: skip
    assert [] == silent


def test_the_library_does_not_print() -> None:
    """Only the programs write to the terminal; the library logs."""
    silent = [source for source in SOURCES if source.room not in TALKING_ROOMS]
    assert [] == [
        f"{source}:{node.lineno}" for source in silent for node in calls(source) if last_name(node) == "print"
    ]


def test_nothing_that_runs_what_it_reads() -> None:
    """Bytes from a storage or a segment are never run: no pickle or its like, no eval."""
    unsafe = [
        f"{source}:{line} {name}" for source in SOURCES for name, line in source.imports()
        if name.split(".")[0] in UNSAFE_MODULES
    ]  # fmt: skip
    unsafe += [
        f"{source}:{node.lineno} eval" for source in SOURCES for node in calls(source) if last_name(node) == "eval"
    ]
    assert [] == unsafe


def calls(source: Source) -> Iterator[ast.Call]:
    """All calls in a file."""
    return (node for node in source.nodes if isinstance(node, ast.Call))


def holds_a_lock(function: Function) -> bool:
    """Whether a lock is held in this function's own frame: by `with …lock`, or by a `finally` that unlocks."""
    for node in own_nodes(function):
        if isinstance(node, ast.With) and any("lock" in last_name(item.context_expr).lower() for item in node.items):
            return True
        if isinstance(node, ast.Try) and any(
            isinstance(each, ast.Call) and last_name(each) in UNLOCKS
            for final in node.finalbody
            for each in ast.walk(final)
        ):
            return True
    return False


def loops_under_lock(source: Source) -> list[str]:
    """Where a function that holds a lock has a loop in its own frame."""
    return [
        f"{source}:{node.lineno} in {function.name}"
        for function in source.functions()
        if holds_a_lock(function)
        for node in own_nodes(function)
        if isinstance(node, LOOPS)
    ]


def test_no_loop_in_a_frame_that_holds_a_lock() -> None:
    """CPython may skip a `finally` when a signal handler raises at a loop's back edge, so no such frame loops."""
    assert [] == [loop for source in SOURCES for loop in loops_under_lock(source)]


def test_the_write_lock_is_among_the_frames_looked_at() -> None:
    """The rule above sees the frame in which every write of a host happens."""
    lock = next(source for source in SOURCES if source.name == "zoocache/shm/lock.py")
    assert any(function.name == "run" and holds_a_lock(function) for function in lock.functions())


@pytest.mark.parametrize(
    ("body", "faulty"),
    [
        ("with self._lock:\n  for x in y: pass", True),
        ("with lock:\n  z = [x for x in y]", True),
        ("try:\n  while x: pass\nfinally:\n  self._leave(fd)", True),
        ("try:\n  work()\nfinally:\n  self._leave(fd)", False),
        ("def inner():\n  for x in y: pass\nwith lock: inner()", False),
        ("with open(x) as y:\n  for z in y: pass", False),
    ],
)
def test_the_rule_about_loops_finds_them(body: str, faulty: bool) -> None:
    """The rule above finds each form of a loop under a lock, and nothing else."""
    source = Source(SOURCES[0].path)
    source.tree = ast.parse("def f():\n" + "\n".join("  " + line for line in body.splitlines()))
    assert faulty == bool(loops_under_lock(source))


def test_every_named_point_is_reached() -> None:
    """Each name in `points.ALL` stands at a point in the code, and each point has its name in `points.ALL`."""
    reached = {
        node.args[0].value
        for source in SOURCES
        for node in calls(source)
        if last_name(node) == "reach" and node.args and isinstance(node.args[0], ast.Constant)
    }
    assert set(points.ALL) == reached


IMPORT = """
    import os, sys, threading
    from pathlib import Path
    import zoocache
    held = {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()}
    mapped = Path("/proc/self/maps").read_text()
    print("threads", threading.active_count(), len(os.listdir("/proc/self/task")))
    print("shared memory", "/dev/shm" in mapped or any("/dev/shm" in name for name in held))
    print("modules", *sorted({"redis", "lmdb", "asyncio", "typer", "rich"} & set(sys.modules)))
"""


def test_an_import_does_nothing(children: Children) -> None:
    """`import zoocache` starts no thread, touches no shared memory, and imports nothing heavy."""
    expected = "threads 1 1\nshared memory False\nmodules\n"
    assert expected == children.code(IMPORT).output()
