"""The program of a listener that a user's process started: `python -I -S detached.py [prefix]`, settings on stdin.

It begins as a child of that process, in the middle of anything. So before it imports anything of ours it closes what it
inherited, forks, and lets the first half end at once, for its parent to reap. The second half belongs to nobody: it has
a session of its own, so no signal of that process's terminal reaches it, and holds no pipe that somebody waits on.

That half is the **keeper**: it does nothing but wait for its child, the listener, and begins another if that is killed.
For whoever uses the cache finds a dead listener, but on a host where nobody does, what stands in the outbox would wait
for ever. The keeper imports nothing of ours, so it is small; if it is the one that is killed, the listener goes on.

The import path is the parent's: it finds zoocache and what that needs in the same places, whatever they are (a venv,
PYTHONPATH, an editable install).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

PAUSE_S = 1.0
"""A listener that was killed is followed at once, but not more often than this."""


def close_inherited() -> None:
    """Close all descriptors but the first three; those that `listdir` opens meanwhile are gone by then."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                continue


def detach() -> None:
    """Go on in a process that is nobody's child."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)


def read_all() -> bytes:
    """What stands on stdin, which is then empty for good."""
    with open(0, "rb", closefd=False) as said:
        data = said.read()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing:
        os.close(nothing)
    return data


def stay_in_child() -> None:
    """Come back in a child, and in another one each time that one is killed; end with the one that ends by itself.

    What the keeper is told is passed on. It waits for that and for the child's end in one call, with both kinds of
    signal blocked; a handler beside `waitpid` was rejected: one that comes right before that call is run after it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as long as it is ignored, the kernel itself reaps the child
    kinds = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, kinds)
    is_told = False
    while True:
        began_s = time.monotonic()
        child = os.fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        while not (end := os.waitpid(child, os.WNOHANG))[0]:
            kind = signal.sigwait(kinds)
            if kind != signal.SIGCHLD:
                is_told = True
                os.kill(child, kind)
        if not os.WIFSIGNALED(end[1]):
            break
        if is_told or signal.sigtimedwait(kinds - {signal.SIGCHLD}, max(0.0, began_s + PAUSE_S - time.monotonic())):
            break
    os._exit(0)


def main() -> None:
    """See the head of this file."""
    close_inherited()
    detach()
    said = json.loads(read_all())
    stay_in_child()
    sys.path[:] = said["path"]
    from zoocache.listener.process import run_detached

    run_detached(said["settings"])


if __name__ == "__main__":
    main()
