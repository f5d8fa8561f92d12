"""`tests.children`: the tool with which other tests start processes is itself to be trusted."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from tests.children import DEADLINE_S, Children
from zoocache.shm import points


def greet(name: str, times: int) -> None:
    """Called in a child."""
    for _ in range(times):
        print("hello", name)


def is_gone(pid: int) -> bool:
    """Whether no such process runs any more; a zombie, which init will reap, runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_child_runs_a_text(children: Children) -> None:
    """A text runs in another process, with arguments, and its output comes back."""
    child = children.code("import os, sys; print(os.getpid(), sys.argv[1])", "x")
    assert f"{child.pid} x\n" == child.output()


def test_a_child_calls_a_function(children: Children) -> None:
    """A function of a test module runs in another process."""
    assert "hello you\nhello you\n" == children.call(greet, "you", 2).output()


def test_a_conversation(children: Children) -> None:
    """Lines go both ways, one at a time."""
    child = children.code("""
        print("noise"); print("ready now")
        print(input() + "!")
        print("last", end="")
    """)
    assert "ready now" == child.wait_for("ready")
    child.say("hey")
    assert "hey!" == child.line()
    assert "last" == child.line()
    assert 0 == child.wait()


def test_a_child_hears_ctrl_c(children: Children) -> None:
    """A child can be interrupted."""
    child = children.code("""
        import time
        print("here", flush=True)
        while True:  # what comes right before a call is seen after it, and one that waits for input would never end
            time.sleep(0.01)
    """)
    child.wait_for("here")
    child.process.send_signal(signal.SIGINT)
    assert -signal.SIGINT == child.wait()


@pytest.mark.timeout(3 * DEADLINE_S)
def test_a_child_hears_ctrl_c_though_the_tests_do_not(children: Children) -> None:
    """It can be interrupted when the tests were started in the background of a shell, which has them ignore that."""
    own = f"{__file__}::{test_a_child_hears_ctrl_c.__name__}"
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-m", "pytest", "-q"]
    assert "1 passed" in children.command([*command, own]).output(deadline_s=2 * DEADLINE_S)


def test_failure_is_told(children: Children) -> None:
    """A child that fails shows its traceback in the test's own failure."""
    with pytest.raises(AssertionError, match=r"ended with 1(.|\n)*ZeroDivisionError"):
        children.code("1 / 0").output()


def test_a_missing_line_is_told(children: Children) -> None:
    """A child that ends without the line that was waited for is an error at once."""
    with pytest.raises(AssertionError, match="without a line that starts with 'ready'"):
        children.code("print('no')").wait_for("ready")


def test_silence_has_a_deadline(children: Children) -> None:
    """A child that says nothing is waited for no longer than the deadline."""
    with pytest.raises(AssertionError, match="said nothing more"):
        children.code("input()").line(deadline_s=0.2)


def test_stop_resume_and_kill(children: Children) -> None:
    """A child can be stopped, resumed and killed, and its status tells the signal."""
    child = children.code("print('ready')\nwhile True: print(input())")
    child.wait_for("ready")
    child.stop()
    child.say("still")
    with pytest.raises(AssertionError, match="said nothing more"):
        child.line(deadline_s=0.2)
    child.resume()
    assert "still" == child.line()
    child.kill()
    assert -signal.SIGKILL == child.wait()


def test_an_armed_point(children: Children) -> None:
    """A point that is armed through `points` acts in the child, and in no other process."""
    reach = "from zoocache.shm import points; points.reach('lock.held'); print('after')"
    stopped = children.code(reach, points="lock.held=stop")
    stopped.wait_stopped()
    stopped.resume()
    assert "after\n" == stopped.output()
    assert -signal.SIGKILL == children.code(reach, points="lock.held=kill").wait()
    assert "after\n" == children.code(reach).output()
    assert points.ARMED is None


def test_grandchildren_end_too() -> None:
    """What a child started does not outlive it."""
    own = Children()
    child = own.code("""
        import os, time
        grandchild = os.fork()
        if grandchild:
            print(grandchild)
        time.sleep(600)
    """)
    grandchild = int(child.line())
    own.end()
    assert -signal.SIGKILL == child.process.returncode
    until = time.monotonic() + DEADLINE_S
    while not is_gone(grandchild):
        assert time.monotonic() < until
        time.sleep(0.002)
