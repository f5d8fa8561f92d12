"""The stage as lines of text: for pipes, logs and terminals that can do no more. No control codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zoocache.demo.pace import Pace
from zoocache.demo.promise import Promise, all_kept
from zoocache.demo.scene import Act, Scene


class Lines:
    """See `scene.Stage`."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def begin(self, number: int, act: Act) -> None:
        """An act begins."""
        self._print(f"act {number}: {act.title}")

    def tell(self, text: str) -> None:
        """Something happened."""
        self._print(f"  {text}")

    def judge(self, promise: Promise) -> None:
        """A promise was tested."""
        self._print(f"  {mark(promise.kept)} {promise.seen}")

    def tick(self, scene: Scene) -> None:
        """Nothing: a log needs no picture."""

    def close(self) -> None:
        """Nothing is open."""

    def _print(self, text: str) -> None:
        print(f"{self._pace.elapsed_s():5.1f} s  {text}", flush=True)


def mark(kept: bool) -> str:
    """A check mark or a cross, if the output can show it."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    if encoding.startswith("utf"):
        return "✓" if kept else "✗"
    return "kept:" if kept else "BROKEN:"


def print_summary(promises: Sequence[Promise]) -> None:
    """What was promised, what was seen, and whether it held."""
    print("\nwhat was promised, and what was seen:\n")
    for promise in promises:
        print(f"{mark(promise.kept)} {promise.said}\n    {promise.seen}")
    print(f"\n{verdict(promises)}")


def verdict(promises: Sequence[Promise]) -> str:
    """The last line."""
    if all_kept(promises):
        return f"all {len(promises)} promises held"
    broken = sum(not promise.kept for promise in promises)
    return f"{broken} of {len(promises)} promises BROKEN"
