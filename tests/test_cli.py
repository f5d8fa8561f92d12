"""The command line: what each command does to a real cache, what it says, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import zoocache
from tests.children import DEADLINE_S, ROOT, Child, Children
from tests.crowd import until
from tests.shared_memory import objects_of
from tests.structure.source import SOURCES
from zoocache import _zoocache
from zoocache.shm import layout
from zoocache.shm.attachment import attach

pytest.importorskip("typer", reason="the command line needs the extra cli")
cli = pytest.importorskip("zoocache.cli")

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
"""Whatever a terminal would obey; a newline is none."""

USER = """
    import sys, zoocache

    @zoocache.cacheable(deps=lambda org: f"org:{org}:user:1")
    def name(org):
        print("computed", flush=True)
        return f"user of {org}"

    zoocache.configure(storage_url=sys.argv[1] if len(sys.argv) > 1 else None)
    name(1)
    for line in sys.stdin:
        name(1)
        print("answered", flush=True)
"""


class Outcome(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    output: str
    errors: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as a new process would: nothing is configured before it."""

    def run_command(*arguments: str) -> Outcome:
        zoocache.reset()
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        zoocache.reset()
        written = capsys.readouterr()
        return Outcome(end.value.code or 0, written.out, written.err)

    return run_command


@pytest.fixture
def user(children: Children) -> Child:
    """A process that uses the cache of the test's prefix, in memory: it has computed once."""
    child = children.code(USER)
    child.wait_for("computed")
    return child


def heard(child: Child) -> list[str]:
    """What a user's process says to one more call: whether it computed."""
    child.say()
    lines = [child.line()]
    while lines[-1] != "answered":
        lines.append(child.line())
    return lines


def one_line(text: str) -> str:
    """The only line of a text."""
    assert text.endswith("\n")
    assert 1 == text.count("\n")
    assert "Traceback" not in text
    return text[:-1]


def test_the_package_runs_as_a_module() -> None:
    """`python -m zoocache` is the command line."""
    ended = subprocess.run(
        [sys.executable, "-m", "zoocache", "version"], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S,
        check=False,
    )  # fmt: skip
    assert (0, f"{zoocache.version()}\n", "") == (ended.returncode, ended.stdout, ended.stderr)


def test_version(run: Run) -> None:
    """`zoocache version` prints the version."""
    assert Outcome(0, f"{zoocache.version()}\n", "") == run("version")


def test_invalidate_reaches_other_processes(run: Run, user: Child) -> None:
    """An entry in another process lives until a tag above its own is invalidated from the command line."""
    assert ["answered"] == heard(user)
    outcome = run("invalidate", "org:1", "org:2")
    assert 0 == outcome.status
    assert one_line(outcome.output).startswith("invalidated org:1, org:2: version 1 (")
    assert "in LMDB give --storage-url" in outcome.output
    assert ["computed", "answered"] == heard(user)


def test_invalidate_reaches_a_storage_that_it_is_told_of(run: Run, children: Children, tmp_path: Path) -> None:
    """With --storage-url an entry is dead for the processes that come afterwards."""
    url = f"lmdb://{tmp_path}/cache"
    script = tmp_path / "user.py"
    script.write_text(textwrap.dedent(USER))
    children.script(script, url).wait_for("computed")
    warm = children.script(script, url)
    assert ["answered"] == heard(warm)
    assert "LMDB" not in run("invalidate", "org:1:user:1", "--storage-url", url).output
    assert ["computed", "answered"] == heard(warm)


def test_clear_reaches_other_processes(run: Run, user: Child) -> None:
    """`zoocache clear` drops what other processes hold."""
    assert one_line(run("clear").output).startswith("cleared (prefix ")
    assert ["computed", "answered"] == heard(user)


def test_tags_lists_versions(run: Run, user: Child, prefix: str) -> None:
    """`zoocache tags` lists each invalidated tag with its version, by name, without control codes."""
    for tag in ("org:2", "org:1:user:1", "org:2"):
        assert 0 == run("invalidate", tag).status
    status, output, errors = run("tags", "--prefix", prefix)
    assert (0, "") == (status, errors)
    head, *rows = output.splitlines()
    assert ["VERSION", "INVALIDATED", "(UTC)", "TAG"] == head.split()
    assert [["2", "org:1:user:1"], ["3", "org:2"]] == [[row.split()[0], row.split()[-1]] for row in rows]
    assert not CONTROL.search(output)
    assert ["computed", "answered"] == heard(user)


def test_prune_tells_how_many(run: Run, user: Child) -> None:
    """`zoocache prune` gives back the nodes that are old enough, and no others."""
    run("invalidate", "org:1", "org:2")
    assert one_line(run("prune", "3600").output).startswith("gave back 0 tags ")
    assert one_line(run("prune", "0").output).startswith("gave back 2 tags ")
    assert 1 == len(run("tags").output.splitlines())
    assert ["computed", "answered"] == heard(user)


def test_top_once_shows_processes_and_tags(run: Run, user: Child) -> None:
    """`zoocache top --once` shows who is attached and what was invalidated last, without control codes."""
    run("invalidate", "org:7:team:a")
    counters = re.compile(rf"^ *{user.pid} .* 1 +1 ", re.MULTILINE)
    until(lambda: counters.search(run("top", "--once").output))  # it says "computed" before it has
    status, output, errors = run("top", "--once")
    assert (0, "") == (status, errors)
    assert counters.search(output)
    assert re.search(r"^ +1 +\d+ s +org:7:team:a *$", output, re.MULTILINE)
    assert not CONTROL.search(output)


def test_top_lives_on_a_terminal_until_ctrl_c(user: Child, prefix: str) -> None:
    """On a terminal `zoocache top` shows new pictures until Ctrl-C, which is no failure."""
    screen, theirs = pty.openpty()
    program = "from zoocache.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "top", "--interval", "0.1"], stdin=theirs, stdout=theirs, stderr=theirs,
        cwd=ROOT, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = read_until(screen, str(user.pid))
        zoocache.invalidate("org:1:team:late")
        read_until(screen, "org:1:team:late")
        process.send_signal(signal.SIGINT)
        read_until(screen, "\x1b[?1049l")  # the terminal is given back
        assert 0 == process.wait(DEADLINE_S)
        assert prefix in seen
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        os.close(screen)


def read_until(terminal: int, text: str) -> str:
    """Read what a terminal shows until some text has come."""
    seen, deadline_s = "", time.monotonic() + DEADLINE_S
    while text not in seen:
        assert time.monotonic() < deadline_s, f"{text!r} did not come, but {seen!r}"
        seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


def test_check_of_a_sound_segment(run: Run, user: Child) -> None:
    """`zoocache check` ends with 0 where nothing is wrong."""
    run("invalidate", "org:3")
    outcome = run("check")
    assert 0 == outcome.status
    assert one_line(outcome.output).endswith(" is sound")
    assert ["answered"] == heard(user)


def test_check_tells_faults(run: Run, prefix: str) -> None:
    """`zoocache check` ends with 1 and names what is wrong with a scribbled segment."""
    run("invalidate", "org:1")
    segment = attach(prefix, _zoocache.segment_bytes(prefix))
    (node,) = segment.tables.nodes()
    segment.words[layout.H_SEQ] = 0
    words = range(layout.HEADER_WORDS, len(segment.words))
    (at,) = (index for index in words if segment.words[index + layout.N_HIGH] == node.high)
    segment.words[at + layout.N_CHANGED] = 9
    segment.leave()
    outcome = run("check")
    assert 1 == outcome.status
    assert "a node has changed after seq\n" == outcome.output


HOLDER = """
    import os, signal, zoocache
    from zoocache import runtime
    @zoocache.cacheable
    def get(): return 1
    get()
    zoocache.invalidate("org:1")
    lock = runtime.engine().trie.segment.lock
    lock.run(lambda: os.kill(os.getpid(), signal.SIGSTOP))
"""


def test_looking_beside_a_stopped_process(run: Run, children: Children) -> None:
    """`tags` and `top` show what they show though a stopped process holds the write lock; `check` names it."""
    holder = children.code(HOLDER)
    holder.wait_stopped()
    assert "org:1" in run("tags").output
    assert "org:1" in run("top", "--once").output
    outcome = run("check")
    assert (1, "") == outcome[:2]
    assert one_line(outcome.errors).endswith(f"Stopped at this moment: process {holder.pid}.")


def test_destroy_removes_the_segment_of_nobody(run: Run, user: Child, prefix: str) -> None:
    """`zoocache destroy` refuses while a process is attached, removes the segment afterwards, and may come again."""
    outcome = run("destroy", "--prefix", prefix)
    assert (1, "") == outcome[:2]
    assert "is in use" in one_line(outcome.errors)
    assert objects_of(prefix)
    user.end()
    assert Outcome(0, "destroyed\n", "") == run("destroy")
    assert [] == objects_of(prefix)
    assert Outcome(0, "there was nothing to destroy\n", "") == run("destroy")


@pytest.mark.parametrize("command", ["tags", "top", "check"])
def test_looking_makes_nothing(run: Run, prefix: str, command: str) -> None:
    """Where a prefix has no segment, a command that only looks says so and makes none."""
    outcome = run(command)
    assert (1, "") == outcome[:2]
    assert f"no segment of prefix '{prefix}'" in one_line(outcome.errors)
    assert [] == objects_of(prefix)


@pytest.mark.parametrize("command", [["tags"], ["invalidate", "org:1"], ["check"]])
def test_a_segment_keeps_its_size(run: Run, prefix: str, command: list[str]) -> None:
    """A command that is alone with a segment of another size than the default takes it as it is."""
    attach(prefix, 512 * 1024).leave()
    zoocache.configure(prefix=prefix, shm_size=512 * 1024)
    zoocache.invalidate("org:9")
    assert 0 == run(*command).status
    assert 512 * 1024 == _zoocache.segment_bytes(prefix)
    assert "org:9" in run("tags").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["invalidate", "org::1"], "'org::1'"),
        (["invalidate", "org:1\n\x1b[2J"], "org:1"),
        (["tags", "--prefix", "no spaces"], "prefix"),
        (["clear", "--storage-url", "carrier-pigeon://x"], "carrier-pigeon://"),
        (["prune", "--", "-1"], "max_age_secs"),
        (["destroy", "--prefix", "*"], "prefix"),
    ],
)
def test_errors_are_one_line(run: Run, arguments: list[str], said: str) -> None:
    """What zoocache refuses is told in one line on standard error, without control codes; the status is 1."""
    outcome = run(*arguments)
    assert (1, "") == outcome[:2]
    assert one_line(outcome.errors).startswith("zoocache: ")
    assert said in outcome.errors
    assert not CONTROL.search(outcome.errors)


def test_the_environment_gives_settings(
    run: Run, make_prefix: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings come from ZOOCACHE_PREFIX and its like; an option comes first."""
    one, other = make_prefix(), make_prefix()
    monkeypatch.setenv("ZOOCACHE_PREFIX", one)
    assert f"prefix '{one}'" in run("invalidate", "org:1").output
    assert f"prefix '{other}'" in run("invalidate", "org:1", "--prefix", other).output
    monkeypatch.setenv("ZOOCACHE_DEFAULT_TTL", "soon")
    assert "ZOOCACHE_DEFAULT_TTL" in one_line(run("invalidate", "org:1").errors)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_listener_ends_in_order_while_it_is_being_loaded(children: Children, redis_url: str, number: int) -> None:
    """A supervisor who ends it in its first moments sees status 0, as later."""
    text = "import sys; from zoocache.cli import main; sys.argv[1:] = ['listen', '--bus-url', sys.argv[1]]; main()"
    child = children.code(text, redis_url)
    until(lambda: signal.SIGTERM in caught(child.pid))  # set last; the interpreter has one for SIGINT from the start
    os.kill(child.pid, number)
    assert (0, "") == (child.wait(), child.errors())


def caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    (line,) = re.findall(r"SigCgt:\t(\w+)", Path(f"/proc/{pid}/status").read_text())
    return {number for number in range(1, 65) if int(line, 16) >> (number - 1) & 1}


@pytest.mark.parametrize("arguments", [[], ["fly"], ["invalidate"], ["prune", "soon"], ["demo", "--storage", "tape"]])
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    """What is no command line of zoocache ends with 2."""
    assert 2 == run(*arguments).status


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(children: Children, missing: str) -> None:
    """Without typer or rich there is one line that tells what to install, and the status is 2."""
    text = "import sys; sys.modules[sys.argv.pop(1)] = None; from zoocache.cli import main; main()"
    child = children.code(text, missing, "version")
    assert 2 == child.wait()
    assert "pip install zoocache[cli]" in one_line(child.errors())
    assert missing in child.errors()


def test_command_line_and_demo_import_only_what_is_public() -> None:
    """No file of `cli` or `demo` imports anything of zoocache but `zoocache` and `zoocache._zoocache`."""
    private = [
        f"{source}:{line} {name}"
        for source in SOURCES
        if source.room in ("cli", "demo")
        for name, line in source.imports()
        if re.match(r"zoocache\.(?!_zoocache\b|cli\b|demo\b)[a-z]\w*", name)
        and not hasattr(zoocache, name.split(".")[1])
    ]
    assert [] == private
