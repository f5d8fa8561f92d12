"""The demo: it ends by itself, says what it saw, and is not content with a cache that breaks its promises."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import DEADLINE_S, ROOT, Child, Children
from tests.crowd import until
from tests.shared_memory import DEV_SHM
from zoocache.demo import database, oracle, world
from zoocache.demo.crew import Crew, CrewFault
from zoocache.demo.database import Database
from zoocache.demo.ledger import Ledger, Line, begun
from zoocache.demo.oracle import READS, STALE, Oracle
from zoocache.demo.promise import Promise, all_kept

pytest.importorskip("typer", reason="the demo needs the extra cli")
pytest.importorskip("rich", reason="the demo needs the extra cli")

COMMAND = "from zoocache.cli import main; main()"
ESCAPE = "\x1b"

DEAF = """
    import zoocache
    zoocache.invalidate = lambda *tags: None
"""
"""A `sitecustomize` that breaks the cache of every process: invalidations do nothing."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a demo of this test keeps its files; empty before and, if the demo is tidy, afterwards."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def segments_of(pid: int) -> list[str]:
    """What lies in /dev/shm of the demo that a process directed."""
    return [path.name for path in DEV_SHM.glob(f"*zoocache-{os.geteuid()}-demo-{pid}-*")]


def processes_in(directory: Path) -> list[str]:
    """The command lines of the processes that were started for a demo with its files here."""
    return [line for line in map(command_line, Path("/proc").glob("[0-9]*")) if str(directory) in line]


def command_line(process: Path) -> str:
    """What a process was started with; nothing if it is gone meanwhile."""
    try:
        return (process / "cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def assert_nothing_is_left(pid: int, temporary: Path) -> None:
    """No file, no process, no segment of a demo."""
    assert [] == list(temporary.iterdir())
    assert [] == segments_of(pid)
    assert [] == processes_in(temporary)


def lines_until(child: Child, text: str) -> list[str]:
    """The lines of a child's output up to the one with some text."""
    lines = [child.line()]
    while text not in lines[-1]:
        lines.append(child.line())
    return lines


def test_every_promise_holds(children: Children, temporary: Path) -> None:
    """The demo shows nine promises with LMDB, all held, in plain lines without control codes, and leaves nothing."""
    child = children.code(COMMAND, "demo", "--seconds", "8", "--plain")
    output = child.output(120)
    assert ["all 9 promises held"] == output.splitlines()[-1:]
    summary = output.partition("what was promised, and what was seen:")[2]
    assert 9 == len(re.findall(r"^✓ ", summary, re.MULTILINE))
    for seen in (
        r"3 others asked 48 times and computed 0$",
        r" reads, [\d,]+ invalidations \(.*\): 0 stale$",
        r"4 died, 4 computed again; 12 others: 0 computed again$",
        r"1 execution in the ledger; 8 have the right answer$",
        r"1 of 5 followers computed, 5 have the right answer",
        r"hits beside the frozen holder",
        r"after 2 kill -9: no fault$",
        r"12 of 16 entries were warm; 4 computed, of the 4 ",
    ):
        assert re.search(seen, summary, re.MULTILINE), seen
    assert ESCAPE not in output
    assert_nothing_is_left(child.pid, temporary)


def test_a_cache_that_breaks_its_promises_is_found_out(children: Children, temporary: Path, tmp_path: Path) -> None:
    """With invalidations that do nothing the demo ends with 1, and tells which promises broke."""
    (tmp_path / "sitecustomize.py").write_text("\n".join(line.strip() for line in DEAF.splitlines()))
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    child = children.code(COMMAND, "demo", "--seconds", "5", "--plain", env={"PYTHONPATH": path})
    lines_until(child, "what was promised")
    summary = "\n".join(lines_until(child, " BROKEN"))
    assert 1 == child.wait()
    assert "✗ When invalidate has returned, no process gets the old value." in summary
    assert "✗ Only what hangs below the tag dies; its siblings live on." in summary
    assert "✓ What one process computed, all others have without computing." in summary
    assert re.search(r"^\d of \d promises BROKEN$", summary, re.MULTILINE)
    assert_nothing_is_left(child.pid, temporary)


def test_ctrl_c_leaves_nothing(children: Children, temporary: Path) -> None:
    """Interrupted in the middle, with its processes at work, the demo ends with 130 and leaves nothing."""
    child = children.code(COMMAND, "demo", "--seconds", "10", "--plain")
    lines_until(child, "act 2")
    os.killpg(child.pid, signal.SIGINT)
    assert 130 == child.wait()
    assert_nothing_is_left(child.pid, temporary)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_by_a_signal_it_leaves_nothing(children: Children, temporary: Path, number: signal.Signals) -> None:
    """Told to end while its processes start, the demo ends as a shell expects it, and leaves nothing."""
    child = children.code(COMMAND, "demo", "--seconds", "60", "--plain")
    until(lambda: processes_in(temporary))
    child.process.send_signal(number)
    assert 128 + number == child.wait()
    assert_nothing_is_left(child.pid, temporary)


def test_live_picture_and_memory(temporary: Path) -> None:
    """On a terminal there is a live picture, then the summary; with entries in memory seven promises are shown."""
    output, status, pid = on_terminal("demo", "--seconds", "5", "--storage", "memory")
    assert 0 == status, output
    picture, _, summary = output.rpartition("\x1b[?1049l")
    for shown in ("one cache, memory", "worker 4", "updating", "frozen", "killed", "org:1", "team:b", "reads judged"):
        assert shown in picture
    assert "all 7 promises held" in summary
    assert 7 == summary.count("✓")
    assert_nothing_is_left(pid, temporary)


def on_terminal(*arguments: str) -> tuple[str, int, int]:
    """Run the command line on a terminal of 80 by 24: what it showed, its exit status, its pid."""
    screen, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
        start_new_session=True, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = b"".join(chunks(screen)).decode(errors="replace")
        return shown, process.wait(DEADLINE_S), process.pid
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        os.close(screen)


def chunks(screen: int) -> Iterator[bytes]:
    """What a terminal shows, until nobody writes to it any more."""
    try:
        while chunk := os.read(screen, 65536):
            yield chunk
    except OSError:  # EIO: Linux says so when the last writer is gone
        return


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A directory with the database and the oracle of a demo."""
    database.create(tmp_path)
    oracle.create(tmp_path)
    return tmp_path


def test_the_oracle_finds_what_is_stale(stage: Path) -> None:
    """An answer older than an invalidation that had returned before the read is stale; a newer one never is."""
    judge, writer = Oracle(stage, 0), Oracle(stage, 1)
    question = next(each for each in world.QUESTIONS if each.key == "card 1 a 2")
    writer.settle("org:1:team:a", 5)
    floors = judge.floors(question)
    assert [1, 5, 1] == floors
    writer.settle("org:1:team:a", 6)
    assert judge.judge(floors, (1, 5, 1))
    assert judge.judge(floors, (1, 6, 2))
    assert not judge.judge(floors, (9, 4, 9))
    assert not judge.judge(judge.floors(question), (1, 5, 1))
    assert (4, 2) == (writer.total(READS), writer.total(STALE))
    assert (0, 4) == (writer.count(READS, 1), writer.count(READS, 0))
    judge.close()
    writer.close()


def test_the_database_raises_versions(stage: Path) -> None:
    """A change raises the version of its row alone, and the answers tell it in the order of a question's tags."""
    people = Database(stage)
    assert (("Ben", "Engine room", "Acme"), (1, 1, 1)) == people.card(1, "a", 2)
    assert [2, 2, 3] == [people.rename(world.PATHS[tag]) for tag in ("org:1", "org:1:team:a:user:2", "org:1")]
    assert (("Ben 2", "Engine room", "Acme 3"), (3, 1, 2)) == people.card(1, "a", 2)
    assert (("Ada", "Ben 2", "Cleo"), (3, 1, 1, 2, 1)) == people.roster(1, "a")
    assert len(world.PATHS) + 3 == people.census()
    people.close()


def test_the_ledger_counts_executions(stage: Path) -> None:
    """Lines of several processes stand whole in one file, from any point on."""
    mine, other = Ledger(stage), Ledger(stage)
    mine.write("begun", "card 1 a 2")
    start = mine.end()
    other.write("begun", "census 1")
    mine.write("done", "card 1 a 2")
    me = os.getpid()
    assert [Line("begun", me, "census 1"), Line("done", me, "card 1 a 2")] == mine.since(start)
    assert ["card 1 a 2", "census 1"] == begun(other.since())
    mine.close()
    other.close()


def test_a_question_dies_with_its_tags() -> None:
    """A card dies with its user, team and organisation; a roster with each of its users too; nothing else kills it."""
    below = {tag: [each.key for each in world.questions_below(tag)] for tag in world.PATHS}
    assert ["card 1 a 2", "roster 1 a"] == below["org:1:team:a:user:2"]
    assert ["card 1 a 1", "card 1 a 2", "card 1 a 3", "roster 1 a"] == below["org:1:team:a"]
    assert 8 == len(below["org:2"])
    assert list(world.QUESTIONS) == list(world.questions_below(None))


def test_nothing_shown_is_no_success() -> None:
    """Promises are kept if there were some and each was."""
    good, bad = Promise("said", "seen", kept=True), Promise("said", "not seen", kept=False)
    assert [False, True, False] == [all_kept(promises) for promises in ([], [good, good], [good, bad])]


def test_the_tree_tells_the_last_invalidation_that_reached_a_tag() -> None:
    """A tag shows its own last invalidation or an ancestor's, whichever was later; one that had none shows none."""
    from zoocache.demo.scene import Reached
    from zoocache.demo.tree import NEVER, reached, tag_tree

    tags = {"org:1": Reached(3, 0.0), "org:1:team:a": Reached(7, 0.0), "org:1:team:a:user:1": Reached(5, 0.0)}
    assert [3, 7, 7, 3] == [
        reached(tags, tag).version for tag in ("org:1", "org:1:team:a", "org:1:team:a:user:1", "org:1:team:b:user:1")
    ]
    assert NEVER == reached(tags, "org:2:team:a")
    lines = tag_tree(tags, 26).plain.splitlines()
    assert ["org:1 Acme         #3", "├─ team:a          #7", "│   1 #7 2 #7 3 #7"] == [
        line.rstrip() for line in lines[:3]
    ]


def test_who_ends_too_early_ends_the_demo(stage: Path) -> None:
    """A process that is not there any more is a fault that is named, never a wait."""
    crew = Crew(stage, {"ZOOCACHE_PREFIX": os.environ["ZOOCACHE_PREFIX"]})
    member = crew.hire("victim")
    try:
        crew.ready([member])
        crew.kill(member)
        with pytest.raises(CrewFault, match="victim: has ended"):
            crew.answers([member])
        with pytest.raises(CrewFault, match="victim: is not there any more"):
            crew.order([member], "read", "asking", tag=None)
    finally:
        crew.end()


def test_an_order_that_fails_is_told(stage: Path) -> None:
    """What goes wrong in a process comes to the director in words, and the process goes on."""
    crew = Crew(stage, {"ZOOCACHE_PREFIX": os.environ["ZOOCACHE_PREFIX"]})
    member = crew.hire("worker")
    try:
        crew.ready([member])
        with pytest.raises(CrewFault, match="worker: InvalidTag"):
            crew.do([member], "invalidate", "asking", tag="no::tag")
        (answer,) = crew.do([member], "read", "asking", tag="org:1:team:a:none")
        assert 0.0 <= answer.pop("overslept_s") < DEADLINE_S
        assert {"faults": [], "longest_s": 0.0} == answer
        assert [0] == crew.dismiss([member])
    finally:
        crew.end()
