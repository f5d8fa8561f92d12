"""A fresh interpreter that joins a run of forks: python -m stress.newcomer DIRECTORY GENERATION."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from stress.board import Shape
from stress.fleet import end_with_parent
from stress.offspring import FLIGHT_TIMEOUT_S, life, listen, live
from stress.places import Places
from stress.run import Options, Run

WORD = "newcomers"
"""The file in a run's directory that tells of it."""


def leave_word(run: Run) -> None:
    """Tell newcomers of a run."""
    said = {"options": vars(run.options), "shape": run.board.shape, "prefix": run.prefix, "server": run.server_url}
    (run.directory / WORD).write_text(json.dumps(said))


def join(directory: Path) -> Run | None:
    """The run that has this directory; None if it is over."""
    try:
        said = json.loads((directory / WORD).read_text())
        run = Run(Options(**said["options"]), Shape(*said["shape"]), FLIGHT_TIMEOUT_S, (directory, said["prefix"]))
    except FileNotFoundError:
        return None
    run.server_url = said["server"]
    return run


def places_of(run: Run) -> Places:
    """The places of a run's descendants: those behind the fleet's."""
    return Places(run.directory / "places", range(run.options.processes, run.board.shape.slots))


def main() -> None:
    """Take a place, if there is one, and live."""
    end_with_parent()
    run = join(Path(sys.argv[1]))
    if run is None:
        return
    life.run, life.places = run, places_of(run)
    life.generation, life.children = int(sys.argv[2]), set()
    slot = life.places.take()
    if slot is None or run.halted:
        return
    try:
        listen()
        run.settle()
        live(slot)
    except BaseException:  # noqa: BLE001  # reported, whatever it is
        run.fail(f"a fresh interpreter raised, seed {run.options.seed}:\n{traceback.format_exc()}")
        run.halt()


if __name__ == "__main__":
    main()
