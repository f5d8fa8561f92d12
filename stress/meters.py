"""The meters of soak: what a run takes of its machine, read from outside by names under /proc and /dev/shm.

A series is judged in three parts of its time: the first warms up and does not count, the second is the measure, and in
the third it must not have grown beyond that by more than the meter's tolerance. What stands still for hours and grows
by a byte a call is over any tolerance after some of them.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

WARM_UP_PART, MEASURE_PART = 0.4, 0.7
"""Where the first part ends, and the second."""
LEAST = 12
"""So many readings are needed for a judgement."""
SHOWN = 40
"""So many of a series are told."""

MIB = 2.0**20


class Tolerance(NamedTuple):
    """By what a meter may have grown: a part of it, plus so much."""

    part: float
    more: float


TOLERANCES = {
    "rss": Tolerance(0.1, 4 * MIB), "pss": Tolerance(0.1, 6 * MIB), "descriptors": Tolerance(0, 4),
    "threads": Tolerance(0, 2), "shm bytes": Tolerance(0, 0), "shm objects": Tolerance(0, 0),
    "lmdb bytes": Tolerance(0.25, 2 * MIB), "server": Tolerance(0.1, 4 * MIB),
}  # fmt: skip
"""By the first words of a meter's name. Descriptors and threads come and go with loops and guests; the sizes of
processes breathe with what their allocator keeps, and a page that siblings shared counts whole once they differ."""


def of_process(pid: int) -> dict[str, float]:
    """What a process takes; nothing if it is gone."""
    process = Path(f"/proc/{pid}")
    try:
        sizes = _words((process / "smaps_rollup").read_text())
        threads = _words((process / "status").read_text())["Threads:"]
        return {
            "rss": sizes["Rss:"] * 1024, "pss": sizes["Pss:"] * 1024,
            "descriptors": len(os.listdir(process / "fd")), "threads": threads,
        }  # fmt: skip
    except (FileNotFoundError, ProcessLookupError):
        return {}


def _words(text: str) -> dict[str, float]:
    """Of lines such as "Pss:  1234 kB" the name and the number."""
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: float(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def of_files(directory: Path) -> float:
    """What the files below a directory take of the disk."""
    return float(sum(_taken(path) for path in directory.rglob("*.mdb")))


def _taken(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


class Series:
    """Readings over time.

    Attributes:
        all: for each meter its moments in seconds, and its readings.
    """

    def __init__(self) -> None:
        self.all: dict[str, list[tuple[float, float]]] = {}

    def note(self, at_s: float, readings: Mapping[str, float]) -> None:
        """Keep the readings of a moment."""
        for name, reading in readings.items():
            self.all.setdefault(name, []).append((at_s, reading))

    def grown(self, whole_s: float) -> list[str]:
        """The meters that have grown too far within `whole_s`, with their series.

        A meter that was read too rarely, as that of a process which came late, is not judged.
        """
        return [
            f"{name} grew from {_shown(before)} to {_shown(after)}: {_in_short(self.all[name])}"
            for name, (before, after) in self.judged(whole_s).items() if not _is_flat(name, before, after)
        ]  # fmt: skip

    def judged(self, whole_s: float) -> dict[str, tuple[float, float]]:
        """The middle of each judged meter's second and third part."""
        parts = {name: _parts(readings, whole_s) for name, readings in self.all.items()}
        return {
            name: (statistics.median(measure), statistics.median(rest))
            for name, (measure, rest) in parts.items() if len(measure) + len(rest) >= LEAST and measure and rest
        }  # fmt: skip


def _parts(readings: Sequence[tuple[float, float]], whole_s: float) -> tuple[list[float], list[float]]:
    measure = [value for at_s, value in readings if WARM_UP_PART * whole_s <= at_s < MEASURE_PART * whole_s]
    return measure, [value for at_s, value in readings if at_s >= MEASURE_PART * whole_s]


def _is_flat(name: str, before: float, after: float) -> bool:
    tolerance = next(each for start, each in TOLERANCES.items() if name.startswith(start))
    return after <= before * (1 + tolerance.part) + tolerance.more


def _in_short(readings: Sequence[tuple[float, float]]) -> str:
    """A series, thinned."""
    step = -(-len(readings) // SHOWN)
    return ", ".join(f"{at_s:.0f} s {_shown(value)}" for at_s, value in readings[::step])


def _shown(value: float) -> str:
    return f"{value / MIB:.1f} MiB" if value >= MIB else f"{value:g}"
