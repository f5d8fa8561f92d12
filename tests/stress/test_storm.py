"""python -m stress storm: no read is older than what was finished; and an oracle that would see one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import Children
from tests.crowd import until
from tests.shared_memory import objects_of
from tests.stress.conftest import PROGRAM, Ended
from tests.stress.judges import who_saw

Stress = Callable[..., Ended]

SHORT = ("--processes", "3", "--seconds", "3", "--slack", "5")
UNTIL_CAUGHT = ("--processes", "3", "--seconds", "180", "--slack", "5")


@pytest.mark.parametrize("storage", ["memory", "lmdb"])
def test_storm_holds(storage: str, stress: Stress, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Readers and writers of several processes: nothing stale, all that was read explained, and a clean segment at the
    end; the history that was kept is judged in the same way."""
    kept = tmp_path_factory.mktemp("history")
    ended = stress("storm", "--seed", "1", "--storage", storage, "--history", str(kept), *SHORT)
    assert 0 == ended.status, ended.said
    assert "storm: every promise held (seed 1)" in ended.said
    reads, hits = map(int, re.findall(r"(\d+) reads, (\d+) of them hits", ended.said)[0])
    assert reads > hits > 0
    assert " 0 faults" in ended.said
    (judged,) = re.findall(r"history: (\d+) reads judged, 0 of them unexplained\n", ended.said)
    assert int(judged) > reads / 2
    assert int(re.findall(r"once: (\d+) fills looked at\n", ended.said)[0]) > 0
    again = stress("history", str(next(kept.iterdir())))
    assert 0 == again.status, again.said
    assert f" {judged} reads, 0 faults;" in again.said


def test_an_interrupted_run_leaves_nothing_behind(children: Children, prefix: str, tmp_path: Path) -> None:
    """SIGTERM in the middle: the fleet is killed, and segment, semaphore and files are removed."""
    child = children.code(PROGRAM, "storm", "--seconds", "60", "--slack", "20", env={"TMPDIR": str(tmp_path)})
    child.wait_for("  ")
    until(lambda: objects_of(prefix))
    child.process.terminate()
    assert 130 == child.wait()
    assert ([], []) == (objects_of(prefix), list(tmp_path.iterdir()))


@pytest.mark.parametrize(
    ("mutant", "storage"),
    [
        ("deaf", "memory"), ("deaf", "lmdb"), ("seq-first", "memory"), ("late-note", "memory"),
        ("gullible", "memory"), ("late-stamp", "lmdb"), ("late-load", "lmdb"), ("segment-first", "lmdb"),
        ("silent-insert", "memory"), ("floorless", "memory"),
    ],
)  # fmt: skip
def test_the_oracle_sees(mutant: str, storage: str, stress: Stress) -> None:
    """With one rule of safety turned off, storm fails within seconds, and tells what was stale."""
    ended = stress("storm", "--seed", "2", "--storage", storage, "--mutant", mutant, *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert who_saw(ended.said, 2), ended.said
    assert "storm: BROKEN (seed 2)" in ended.said


@pytest.mark.parametrize("storage", ["memory", "lmdb"])
def test_two_fills_at_once_are_seen(storage: str, stress: Stress) -> None:
    """Where nobody looks for a flight, storm fails within seconds, and shows the fills of one key that overlapped."""
    ended = stress("storm", "--seed", "2", "--storage", storage, "--mutant", "everyone-leads", *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert re.search(r"TWICE, seed 2: key \d+ was computed twice at once, .*\n.* fill/\d .*\n.* fill/\d ", ended.said)
    assert "storm: BROKEN (seed 2)" in ended.said
