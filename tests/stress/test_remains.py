"""python -m stress clean: of a run whose process was killed everything is ended and removed, and nothing of others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stress import listeners, processes
from stress.run import PREFIX
from tests.children import Children
from tests.crowd import until
from tests.shared_memory import objects_of
from tests.stress.conftest import PROGRAM, Ended

Stress = Callable[..., Ended]


@pytest.fixture
def ending() -> Iterator[list[str]]:
    """Prefixes whose listeners end with the test, whatever became of it."""
    prefixes: list[str] = []
    yield prefixes
    for prefix in prefixes:
        listeners.end(prefix)


@pytest.mark.parametrize("program", ["storm", "partition"])
def test_a_run_whose_process_was_killed(
    program: str, children: Children, stress: Stress, prefix: str, tmp_path: Path, ending: list[str]
) -> None:
    """Listeners, shared memory, files, the server's too: there before, gone after; what others have made stays."""
    of_program = ["--bus"] if program == "storm" else ["--hosts", "2"]
    command = (PROGRAM, program, "--seconds", "600", "--slack", "20", "--processes", "2", "--storage", "lmdb")
    run = children.code(*command, *of_program, env={"TMPDIR": str(tmp_path)})
    run.wait_for("  ")
    (directory,) = tmp_path.glob(f"zoocache-stress-{run.pid}-*")
    ending.append((directory / PREFIX).read_text())
    until(lambda: objects_of(prefix) and listeners.of(ending[0]))
    assert 1 == stress_alone(children, tmp_path, "clean", str(run.pid)).status, "it lives"
    processes.tell(listeners.of(ending[0]), signal.SIGSTOP)  # one that has nothing to do leaves by itself
    run.kill()
    assert -signal.SIGKILL == run.wait()
    (tmp_path / "others").touch()
    assert (True, True, True) == (
        bool(program == "partition" or listeners.of(ending[0])),  # partition kills them itself
        bool(objects_of(prefix)), bool([*tmp_path.glob(f"redis-{run.pid}-*")]),
    )  # fmt: skip
    ended = stress_alone(children, tmp_path, "clean", str(run.pid))
    assert (0, True) == (ended.status, f"{directory}\n" in ended.said), ended.said
    assert ([], [], ["others"]) == (listeners.of(ending[0]), objects_of(prefix), os.listdir(tmp_path))
    (tmp_path / "others").unlink()
    assert f"nothing of a run of process {run.pid} is left" in stress("clean", str(run.pid)).said


def stress_alone(children: Children, directory: Path, *arguments: str) -> Ended:
    """Run a program as `stress` does, beside what others have there."""
    child = children.code(PROGRAM, *arguments, env={"TMPDIR": str(directory)})
    status = child.wait()
    return Ended(status, child._unread.decode() + child.errors())
