"""Named points: places between two stores where a test may stop or kill this process.

In production `ARMED` is None and a point is one test of a module variable. A test arms points through the
environment of a child process, for example ZOOCACHE_POINTS="trie.changed=kill" or
"lock.held=stop,claim.led=log:PATH":

    kill      SIGKILL to oneself
    stop      SIGSTOP to oneself; whoever wants may send SIGCONT
    exit      os._exit(3)
    log:PATH  append the point's name to PATH

An action may carry "@N": it happens at the N-th time the point is reached. Points are written as

    if points.ARMED: points.reach("room.word")

and every name stands in `ALL`, so that one test can walk over them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

ALL = (
    "segment.sized", "segment.headed", "segment.live",
    "slot.locked", "slot.named",
    "lock.gated", "lock.held", "lock.unlocked",
    "table.counted", "table.fielded", "table.published", "table.settled",
    "trie.changed", "trie.committed",
    "prune.copied", "prune.floored", "prune.flipped",
    "claim.written", "claim.led", "claim.inherited", "claim.failed", "claim.ended",
    "outbox.written", "outbox.appended", "outbox.lost",
    "store.begun", "store.written", "store.committed", "store.marked",
    "engine.stored", "engine.filled",
    "hosts.sent", "hosts.stored", "hosts.changed", "hosts.heard",
)  # fmt: skip


def _act(action: str, name: str) -> None:
    import signal  # in tests only

    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "exit":
        os._exit(3)
    elif action.startswith("log:"):
        with open(action[4:], "a") as log:
            log.write(name + "\n")
    else:
        raise ValueError(f"ZOOCACHE_POINTS: {action!r} is no action; kill, stop, exit and log:PATH are")


def _parse(text: str) -> dict[str, tuple[str, int]]:
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, action = part.partition("=")
        if name not in ALL:
            raise ValueError(f"ZOOCACHE_POINTS: {name!r} is no point")
        action, _, at = action.partition("@")
        armed[name] = (action, int(at or 1))
    return armed


ARMED: dict[str, tuple[str, int]] | None = _parse(os.environ.get("ZOOCACHE_POINTS", "")) or None
_reached: dict[str, int] = {}


def reach(name: str, act: Callable[[str, str], None] = _act) -> None:
    """Do what was armed for the point, if anything was.

    Args:
        name: one of `ALL`.
        act: what carries the action out.
    """
    if ARMED is None or name not in ARMED:
        return
    action, at = ARMED[name]
    _reached[name] = _reached.get(name, 0) + 1
    if _reached[name] == at or (action.startswith("log:") and at == 1):
        act(action, name)
