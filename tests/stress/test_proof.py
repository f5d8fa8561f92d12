"""The process that judges a history: when it is gone, the run fails, and nobody hangs."""

from __future__ import annotations

import os
import signal

import pytest

from stress.board import L_READS, Shape
from stress.events import RING_EVENTS, Unseen
from stress.proof import PATIENCE_S, Proof, proven
from stress.run import Options, Run, opened

NOTED = 5 * RING_EVENTS


def kill(proof: Proof) -> None:
    """It ends where it is; it stays to be reaped."""
    os.kill(proof._pid, signal.SIGKILL)
    os.waitid(os.P_PID, proof._pid, os.WEXITED | os.WNOWAIT)


def note_all(run: Run) -> None:
    """More events than a ring holds, by a lane of the run."""
    ring = run.board.ring(0, 0)
    for number in range(NOTED):
        ring.note("read", 3, number, number)
        run.board.lane(0, 0)[L_READS] += 1


def test_it_sees_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """However much quicker a lane is."""
    with opened(Options(1, 1, 1, slack=10), Shape(1, 1, 1)) as run, proven(run) as proof:
        note_all(run)
        proof.end()
        assert run.all_held()
    assert f"history: {NOTED} reads judged, 0 of them unexplained" in capsys.readouterr().out


def test_it_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """Who has no room left raises, which ends the run; and the run has failed, whether anybody came to that or not."""
    with opened(Options(1, 1, 1, slack=0.1 / PATIENCE_S), Shape(1, 1, 1)) as run, proven(run) as proof:
        kill(proof)
        with pytest.raises(Unseen):
            note_all(run)
        proof.end()
        assert not run.all_held()
    assert "the process that was to judge the history is gone" in capsys.readouterr().out
