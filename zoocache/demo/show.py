"""The show, from the first process to the exit status; whatever happens, nothing of it is left behind."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from zoocache import ZooCacheError
from zoocache.demo import database, lines, oracle
from zoocache.demo.acts import PROGRAMS
from zoocache.demo.crew import Crew, CrewFault
from zoocache.demo.database import Database
from zoocache.demo.ledger import Ledger
from zoocache.demo.lines import Lines
from zoocache.demo.oracle import Oracle
from zoocache.demo.pace import Pace, Sleeper
from zoocache.demo.promise import all_kept
from zoocache.demo.scene import HERD, SEGMENT_BYTES, Plan, Scene, Stage
from zoocache.demo.signals import held, orderly

STORAGES = tuple(PROGRAMS)
LMDB_BYTES = 64 * 1024 * 1024
INTERRUPTED = 130
"""What a shell calls a program that Ctrl-C ended."""


def run(plan: Plan) -> int:
    """Show the demo.

    Returns:
        The exit status: 0 if every promise held, 1 if not, 130 if it was interrupted.

    Raises:
        ZooCacheError: this host has no room for a segment.
    """
    live = not plan.plain and _is_screen()
    try:
        with orderly(), _scene(plan, live) as scene:
            scene.attach()
            _play(scene)
            complaints = scene.complaints()
    except KeyboardInterrupt:
        print("interrupted; every process has ended and nothing is left behind", file=sys.stderr)
        return INTERRUPTED
    if live:
        from zoocache.demo import screen

        screen.print_summary(scene.promises)
    else:
        lines.print_summary(scene.promises)
    if all_kept(scene.promises):
        return 0
    print("\n".join(complaints), file=sys.stderr)
    return 1


def _is_screen() -> bool:
    """Whether standard output can show a live picture."""
    if not sys.stdout.isatty() or lines.mark(True) != "✓":
        return False
    from rich.console import Console

    return not Console().is_dumb_terminal


@contextmanager
def _scene(plan: Plan, live: bool) -> Iterator[Scene]:
    """Everything that the acts need. At the end all of it goes, in the reverse order, and Ctrl-C must wait for that."""
    stack = ExitStack()
    try:
        with held():
            scene = _set(plan, live, stack)
        yield scene
    except BaseException as error:
        _forget_frames(error)
        raise
    finally:
        with held():
            stack.close()


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames that an exception has left refer to: it would keep this process attached."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _set(plan: Plan, live: bool, stack: ExitStack) -> Scene:
    """Make everything, and write into `stack` how it goes."""
    directory = Path(tempfile.mkdtemp(prefix="zoocache-demo-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    database.create(directory)
    oracle.create(directory)
    prefix = f"demo-{os.getpid()}-{secrets.token_hex(4)}"
    pace, sleeper = Pace(plan.seconds), Sleeper()
    stack.callback(sleeper.stop)
    stage = _stage(live, pace)
    stack.callback(stage.close)
    scene = Scene(
        plan, prefix, stage, pace, sleeper, Crew(directory, _settings(plan, prefix, directory)),
        Oracle(directory), Ledger(directory), Database(directory),
    )  # fmt: skip
    for each in (scene.oracle, scene.ledger, scene.database):
        stack.callback(each.close)
    stack.callback(_leave, scene)
    stack.callback(scene.crew.end)
    return scene


def _leave(scene: Scene) -> None:
    left = scene.leave()
    if left:
        print(left, file=sys.stderr)


def _stage(live: bool, pace: Pace) -> Stage:
    if not live:
        return Lines(pace)
    from zoocache.demo.screen import Screen

    return Screen()


def _settings(plan: Plan, prefix: str, directory: Path) -> dict[str, str]:
    """The cache of the crew, as environment variables."""
    settings = {"ZOOCACHE_PREFIX": prefix, "ZOOCACHE_SHM_SIZE": str(SEGMENT_BYTES)}
    if plan.storage == "lmdb":
        settings |= {"ZOOCACHE_STORAGE_URL": f"lmdb://{directory}/cache", "ZOOCACHE_LMDB_MAP_SIZE": str(LMDB_BYTES)}
    return settings


def _play(scene: Scene) -> None:
    try:
        _hire(scene)
        for number, act in enumerate(PROGRAMS[scene.plan.storage], 1):
            scene.stage.begin(number, act)
            act.play(scene)
            scene.pause(scene.pace.left_s(act.until))
    except (CrewFault, ZooCacheError) as fault:
        scene.judge("The demo runs to its end.", str(fault), kept=False)


def _hire(scene: Scene) -> None:
    crew, count = scene.crew, scene.plan.workers
    crew.hire("writer")
    scene.workers = [crew.hire(f"worker {number}") for number in range(1, count + 1)]
    crew.ready(crew.members)
    if scene.shared:
        scene.guests = [crew.hire(f"guest {number}") for number in range(count + 1, HERD + 1)]
