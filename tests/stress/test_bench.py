"""python -m stress bench: it measures, compares and writes its page."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from stress.bench import table
from stress.bench.table import Row, compare, duration, limit, times
from stress.bench.timing import QUICK, loop_of, race
from tests.stress.conftest import Ended


def test_bench_runs(stress: Callable[..., Ended], tmp_path_factory: pytest.TempPathFactory) -> None:
    """A quick run prints rows with ratios and targets, and writes the same into a page."""
    page = tmp_path_factory.mktemp("page") / "benchmarks.md"
    ended = stress("bench", "--quick", "--only", "misses", "--only", "footprint", "--write", str(page))
    assert 0 == ended.status, ended.said
    text = page.read_text()
    for what in ("miss, memory, above the function", "miss, LMDB, above the function", "import zoocache, beyond"):
        assert what in ended.said
        assert f"| {what}" in text
    assert "python -m stress bench" in text
    assert ("Not installed" in text) == (importlib.util.find_spec("diskcache") is None)
    assert str(Path.home()) not in text


def test_hosts_are_measured(stress: Callable[..., Ended]) -> None:
    """With a server there is a row for everything that crosses hosts; nothing of it is left behind."""
    ended = stress("bench", "--quick", "--only", "hosts")
    assert 0 == ended.status, ended.said
    for what in ("invalidation to visibility", "invalidate with a bus, LMDB", "hit, int, Redis, no bus", "miss, Redis"):
        assert what in ended.said


def test_race_takes_the_least() -> None:
    """What does more takes longer, whichever turn it has."""
    found = race({"much": loop_of("sum(range(2000))"), "little": loop_of("sum(range(20))")}, QUICK)
    assert found["much"] > found["little"] > 0


@pytest.mark.parametrize(
    ("expected", "row"),
    [
        (Row("a", "0.2 µs", "b 0.1 µs", "2 x", "≤ 3 x", "yes"), compare("a", 200, "b", 100, 3)),
        (Row("a", "400 µs", "b 0.1 µs", "4e+03 x", "≤ 3 x", "no"), compare("a", 400_000, "b", 100, 3)),
        (Row("a", "0.2 µs", "b 0.1 µs", "2 x", "", ""), compare("a", 200, "b", 100)),
        (Row("a", "2 ms", "", "", "≤ 1 ms", "no"), limit("a", 2e6, 1e6)),
    ],
)
def test_rows_say_whether_a_target_is_met(expected: Row, row: Row) -> None:
    """A ratio or a time is held against its target; without one there is nothing to say."""
    assert expected == row


def test_a_table_reads_well() -> None:
    """Both forms have a head and one line a row."""
    rows = [Row("a", "1 µs"), Row("longer", "2 µs", "x")]
    text, page = table.as_text(rows).splitlines(), table.as_markdown(rows).splitlines()
    assert ["what    zoocache  compared with  ratio  target  met", "a       1 µs"] == [text[0], text[2]]
    assert ["| what | zoocache | compared with | ratio | target | met |", "| a | 1 µs |  |  |  |  |"] == [
        page[0],
        page[2],
    ]
    assert 4 == len(text) == len(page)


@pytest.mark.parametrize(
    ("expected", "nanoseconds"), [("0.0312 µs", 31.2), ("12.4 µs", 12_400), ("1.5 ms", 1.5e6), ("2 s", 2e9)]
)
def test_durations_have_three_figures(expected: str, nanoseconds: float) -> None:
    """The unit fits the size."""
    assert expected == duration(nanoseconds)
    assert "0.39 x" == times(0.389)
