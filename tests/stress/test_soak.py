"""python -m stress soak: mixed load for hours, watched from outside; and the judge of what grows."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stress import meters, soak
from stress.board import L_READS, S_PID, Shape
from stress.meters import LEAST, MIB, Series
from stress.run import Options, opened
from stress.server import served
from tests.forks import Forks
from tests.stress.conftest import Ended

Stress = Callable[..., Ended]

WHOLE_S = 100.0


@pytest.mark.parametrize("mixture", [("memory",), ("lmdb",), ("redis", "--bus")], ids="".join)
def test_soak_holds(mixture: tuple[str, ...], stress: Stress) -> None:
    """Too short to judge growth, which it says; bounds and storm's promises are kept."""
    ended = stress("soak", "--seed", "1", "--processes", "2", "--seconds", "3", "--slack", "5", "--storage", *mixture)
    assert 0 == ended.status, ended.said
    assert "too short to judge growth" in ended.said
    assert "soak: every promise held (seed 1)" in ended.said


def series_of(name: str, readings: list[float]) -> Series:
    """As they were read over WHOLE_S."""
    series = Series()
    for number, reading in enumerate(readings):
        series.note(number * WHOLE_S / len(readings), {name: reading})
    return series


def test_what_stands_still_is_flat() -> None:
    """A warm-up does not count, nor does noise within the tolerance."""
    warm = [10 * MIB + number * MIB for number in range(40)]
    assert [] == series_of("rss of worker 0", [*warm, *[50 * MIB + number % 3 * MIB for number in range(60)]]).grown(
        WHOLE_S
    )
    assert [] == series_of("descriptors of worker 0", [20.0 + number % 4 for number in range(100)]).grown(WHOLE_S)


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("pss of worker 1", MIB, "pss of worker 1 grew from 74.5 MiB to 104.5 MiB: 0 s 20.0 MiB, 3 s 23.0 MiB, "),
        ("threads of the listener", 1.0, "threads of the listener grew from 74.5 to 104.5: "),
        ("shm objects", 0.1, "shm objects grew from "),
    ],
)
def test_what_grows_is_told(name: str, step: float, expected: str) -> None:
    """A series that goes on growing is reported, with what was read."""
    readings = [20 * step + number * step for number in range(100)]
    reports = series_of(name, readings).grown(WHOLE_S)
    assert [expected] == [report[: len(expected)] for report in reports]


def test_too_few_readings_say_nothing() -> None:
    """Of a process that was seen a few times only, nobody can tell."""
    assert [] == series_of("threads of worker 0", [float(number) for number in range(LEAST - 1)]).grown(WHOLE_S)


def test_each_meter_is_judged(tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run with a server all meters that have a tolerance are read, the server's memory too, and no others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shape = Shape(slots=1, lanes=1)
    with opened(Options(processes=1, seconds=1.0, seed=1, storage="redis"), shape) as run, served(run):
        run.board.slot(0)[S_PID] = os.getpid()
        run.board.lane(0, 0)[L_READS] = 1
        readings = soak._readings(run)
        server = meters.of_process(run.server_pid)["rss"]
    assert dict.fromkeys(meters.TOLERANCES, 1) == Counter(name.removesuffix(" of worker 0") for name in readings)
    assert MIB < readings["server"] == pytest.approx(server, rel=0.5)


def test_the_meters_of_a_process(forks: Forks) -> None:
    """They show what it takes: memory, descriptors, threads; of one that is gone, nothing."""
    assert 0 == forks.fork(_read_own_meters).wait()  # where no thread or file of another test comes or goes
    assert {} == meters.of_process(2**22 + 1)


def _read_own_meters() -> None:
    gc.collect()
    before = meters.of_process(os.getpid())
    assert before["rss"] >= before["pss"] > MIB
    held = threading.Event()
    thread = threading.Thread(target=held.wait)
    thread.start()
    pipe = os.pipe()
    after = meters.of_process(os.getpid())
    held.set()
    thread.join()
    for end in pipe:
        os.close(end)
    assert (before["threads"] + 1, before["descriptors"] + 2) == (after["threads"], after["descriptors"])


def test_the_meter_of_files(tmp_path: Path) -> None:
    """Only the files of LMDB count, by what they take of the disk."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "entries.mdb").write_bytes(os.urandom(8192))
    (tmp_path / "board").write_bytes(os.urandom(8192))
    (tmp_path / "numbers.mdb").touch()
    os.truncate(tmp_path / "numbers.mdb", 2**20)
    assert 8192 <= meters.of_files(tmp_path) < 2**20
