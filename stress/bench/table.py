"""The table: one row a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEAD = ("what", "zoocache", "compared with", "ratio", "target", "met")


class Row(NamedTuple):
    """One comparison, ready to print; empty where there is nothing to say."""

    what: str
    zoocache: str
    compared: str = ""
    ratio: str = ""
    target: str = ""
    met: str = ""


def compare(what: str, own_ns: float, name: str, other_ns: float, most: float | None = None) -> Row:
    """How many times the other's time ours is.

    Args:
        what: is measured.
        own_ns: zoocache's time.
        name: of the other.
        other_ns: its time.
        most: the target, as a ratio; None: there is none.
    """
    ratio = own_ns / other_ns
    target = "" if most is None else f"≤ {most:g} x"
    return Row(what, duration(own_ns), f"{name} {duration(other_ns)}", times(ratio), target, _met(ratio, most))


def limit(what: str, own_ns: float, most_ns: float, rest: str = "") -> Row:
    """Whether a time is at most the target.

    Args:
        what: is measured.
        own_ns: zoocache's time.
        most_ns: the target.
        rest: what it is compared with, in words.
    """
    return Row(what, duration(own_ns), rest, "", f"≤ {duration(most_ns)}", _met(own_ns, most_ns))


def _met(value: float, most: float | None) -> str:
    return "" if most is None else "yes" if value <= most else "no"


def duration(nanoseconds: float) -> str:
    """With three figures, in the unit that fits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(nanoseconds) >= size or unit == "µs":
            return f"{nanoseconds / size:.3g} {unit}"
    raise AssertionError


def times(ratio: float) -> str:
    """A ratio with two or three figures."""
    return f"{ratio:.2g} x" if ratio < 1 else f"{ratio:.3g} x"


def as_text(rows: Sequence[Row]) -> str:
    """For a terminal."""
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (HEAD, *rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def as_markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    lines = [f"| {' | '.join(row)} |" for row in (HEAD, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(HEAD), *lines[1:]])
