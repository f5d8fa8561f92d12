"""The program of a listener that a user's process started: `python -I -S detached.py [prefix]`, settings on stdin.

It begins as a child of that process, in the middle of anything. So before it imports anything of ours it closes what it
inherited, forks, and lets the first half end at once, for its parent to reap. The second half belongs to nobody: it has
a session of its own, so no signal of that process's terminal reaches it, and holds no pipe that somebody waits on.

The import path is the parent's: it finds zoocache and what that needs in the same places, whatever they are (a venv,
PYTHONPATH, an editable install).
"""

from __future__ import annotations

import json
import os
import sys


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


def main() -> None:
    """See the head of this file."""
    close_inherited()
    detach()
    said = json.loads(read_all())
    sys.path[:] = said["path"]
    from zoocache.listener.process import run_detached

    run_detached(said["settings"])


if __name__ == "__main__":
    main()
