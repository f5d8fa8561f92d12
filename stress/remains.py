"""What a run has left whose supervisor was killed by SIGKILL, and its removal.

At that moment nothing can be done. The kernel ends the fleet, the server and the networks with their supervisor, but
listeners and their keepers are nobody's children and live on, and whatever lies in /dev/shm and in files stays. A run's
directories have the number of its supervisor in their names; in its own stands its prefix, by which all the rest is
found.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stress import listeners, processes
from stress.run import DIRECTORY, PREFIX
from stress.summary import objects_of
from zoocache.shm import identity

OF_SERVERS = "redis"
"""What the names of the directories of real servers begin with; see tests/servers.py."""


def main(supervisor: int) -> bool:
    """End and remove what a run has left, and tell what that was; whether it may be done.

    Args:
        supervisor: the number that the process of the run had.
    """
    if Path(f"/proc/{supervisor}").exists():
        print(f"process {supervisor} is there: if it is a run, SIGTERM ends it, and nothing is left")
        return False
    removed = remove(supervisor)
    print("\n".join(removed) or f"nothing of a run of process {supervisor} is left in {tempfile.gettempdir()}")
    return True


def remove(supervisor: int) -> list[str]:
    """End and remove what a run has left.

    Args:
        supervisor: the number that its process had; it is gone.

    Returns:
        What was ended and removed.

    Raises:
        TimeoutError: processes do not end.
    """
    return [
        *(each for directory in _directories(DIRECTORY, supervisor) for each in _remove_run(directory)),
        *(each for directory in _directories(OF_SERVERS, supervisor) for each in _remove_files(directory)),
    ]


def _directories(name: str, supervisor: int) -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).glob(f"{name}-{supervisor}-*"))


def _remove_run(directory: Path) -> list[str]:
    prefix = _prefix_in(directory)
    ended: set[int] = set()

    def doomed() -> list[int]:
        found = [*processes.that_map(directory), *(listeners.of(prefix) if prefix else ())]
        ended.update(found)
        return found

    processes.end(doomed)
    objects = list(objects_of(prefix)) if prefix else []
    for name in objects:
        Path(identity.SHM_DIR, name).unlink(missing_ok=True)
    return [*(f"process {pid}" for pid in sorted(ended)), *objects, *_remove_files(directory)]


def _prefix_in(directory: Path) -> str:
    """The prefix of a run; "" if it was killed before it had written it down, and so before it had begun."""
    try:
        return (directory / PREFIX).read_text()
    except FileNotFoundError:
        return ""


def _remove_files(directory: Path) -> list[str]:
    shutil.rmtree(directory)
    return [str(directory)]
