"""stress/processes.py: who is dead."""

from __future__ import annotations

import signal
from pathlib import Path

from stress import processes
from tests.children import Children
from tests.crowd import until

ITS_FIRST_THREAD_ENDS = """
import ctypes, threading
threading.Thread(target=input, args=["here\\n"]).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_zombie_with_threads_is_not_dead(children: Children) -> None:
    """A process whose first thread has ended shows as a zombie; it is dead when its other threads have ended too."""
    child = children.code(ITS_FIRST_THREAD_ENDS)
    child.wait_for("here")
    until(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())
    assert not processes.is_dead(child.pid)
    child.process.send_signal(signal.SIGKILL)
    until(lambda: processes.is_dead(child.pid))
    assert -signal.SIGKILL == child.wait()
    assert processes.is_dead(child.pid)
