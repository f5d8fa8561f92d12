"""One run: it leaves nothing behind wherever it fails, and one in which nothing was done is none."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from stress.board import L_READS, Shape
from stress.run import Idle, Options, Run, opened
from tests.shared_memory import objects_of

OPTIONS = Options(processes=1, seconds=1.0, seed=1)
SHAPE = Shape(slots=1, lanes=1)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs make their files."""
    assert not objects_of(prefix)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_run_in_which_nothing_was_done(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It proves nothing, and says what there was none of; nothing of it is left."""
    expected = r"^too little was done to prove anything: no rounds and no operations, seed 1$"
    with pytest.raises(Idle, match=expected), opened(OPTIONS, SHAPE) as run:
        _do_nothing(run)
    assert " 0 operations, 0 stale reads; longest hit -, longest write -;" in capsys.readouterr().out
    assert [] == list(directory.iterdir())


def _do_nothing(run: Run) -> None:
    run.expect_some("rounds", 0)
    run.expect_some("descendants", 1)


def test_a_run_in_which_something_was_done() -> None:
    """One operation is enough: slow machines are no failure."""
    with opened(OPTIONS, SHAPE) as run:
        run.board.lane(0, 0)[L_READS] = 1


def test_a_failure_is_told_before_idleness() -> None:
    """A promise that was broken before anything was done is the verdict."""
    with opened(OPTIONS, SHAPE) as run:
        run.fail("nobody came")
    assert run.failed


def test_a_run_that_cannot_begin(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails before anybody works, no file is left."""
    with pytest.raises(OSError, match="Invalid argument"), opened(OPTIONS, Shape(slots=-1, lanes=1)):
        raise AssertionError("it must not begin")
    assert [] == list(directory.iterdir())

    def fail(self: Run, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "__init__", fail)
    with pytest.raises(KeyboardInterrupt), opened(OPTIONS, SHAPE):
        raise AssertionError("it must not begin")
    assert [] == list(directory.iterdir())
