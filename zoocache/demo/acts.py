"""The acts, in order. Each does something to real processes, measures it outside the cache, and judges a promise."""

from __future__ import annotations

import time
from typing import Any

from zoocache.demo import fatal
from zoocache.demo.crew import Answer
from zoocache.demo.ledger import begun
from zoocache.demo.oracle import COST_MS
from zoocache.demo.scene import HERD, Act, Scene
from zoocache.demo.world import QUESTIONS, questions_below

TEAM = "org:1:team:a"
LAST_TEAM = "org:2:team:b"
STORM_PAUSE_S = 0.01
SLOW_READ = 0.003
"""The share of the time between two questions that are asked so slowly that a person sees them."""

SLOW_MS = 400


def warm_up(scene: Scene) -> None:
    """One process asks every question, then all others ask them too."""
    first, *others = scene.workers
    pause_s = scene.pace.part_s(SLOW_READ, 0.0, 0.2)
    start = scene.ledger.end()
    faults = faults_of(scene.crew.do([first], "read", "asking", tag=None, pause_s=pause_s))
    own = begun(scene.ledger.since(start))
    scene.stage.tell(f"{first.name} asked {len(QUESTIONS)} questions and computed {len(own)} answers")
    start = scene.ledger.end()
    faults += faults_of(scene.crew.do(others, "read", "asking", tag=None, pause_s=pause_s))
    theirs = begun(scene.ledger.since(start))
    asked = f"{first.name} computed {len(own)}; {len(others)} others asked {len(others) * len(QUESTIONS)} times"
    keys = sorted(question.key for question in QUESTIONS)
    if scene.shared:
        said = "What one process computed, all others have without computing."
        scene.judge(said, f"{asked} and computed {len(theirs)}", sorted(own) == keys and not theirs, faults)
    else:
        said = "In memory each process computes an answer once."
        kept = sorted(own) == keys and sorted(theirs) == sorted(keys * len(others))
        scene.judge(said, f"{asked} and computed {len(theirs)}", kept, faults)


def faults_of(answers: list[Answer]) -> list[str]:
    """The stale reads that the processes have told."""
    return [fault for answer in answers for fault in answer["faults"]]


def invalidation(scene: Scene) -> None:
    """All read at random while one process changes the database; then one subtree dies in a calm world."""
    scene.crew.ready(scene.guests)
    _storm(scene)
    _subtree(scene)


def _storm(scene: Scene) -> None:
    before = scene.totals()
    order: dict[str, Any] = {"order": scene.oracle.orders(), "limit_s": scene.limit_s}
    scene.crew.order(scene.workers, "roam", "reading", tag=None, **order)
    scene.crew.order([scene.writer], "storm", "updating", pause_s=STORM_PAUSE_S, **order)
    scene.pause(max(scene.pace.part_s(0.12, 1.0, 5.0), scene.pace.left_s(0.42)))
    scene.crew.wait_until(lambda: _is_new(scene.totals(), before), "a read, and an invalidation")
    scene.oracle.order_stop()
    (storm,) = scene.crew.answers([scene.writer])
    faults = faults_of(scene.crew.answers(scene.workers))
    reads, stale, updates = (now - then for now, then in zip(scene.totals(), before, strict=True))
    scene.judge(
        "When invalidate has returned, no process gets the old value.",
        f"{reads:,} reads, {updates:,} invalidations (median {storm['median_s'] * 1000:.1f}, slowest "
        f"{storm['longest_s'] * 1000:.0f} ms): {stale:,} stale",
        reads > 0 and updates > 0 and stale == 0, faults,
    )  # fmt: skip


def _is_new(totals: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
    return totals[0] > before[0] and totals[2] > before[2]


def _subtree(scene: Scene) -> None:
    faults = faults_of(scene.crew.do(scene.workers, "read", "asking", tag=None))
    start = scene.ledger.end()
    scene.crew.do([scene.writer], "rename", "updating", tag=TEAM, limit_s=scene.limit_s)
    faults += faults_of(scene.crew.do(scene.workers, "read", "asking", tag=None))
    again = begun(scene.ledger.since(start))
    below = [question.key for question in questions_below(TEAM)]
    expected = below * (1 if scene.shared else len(scene.workers))
    others = len(QUESTIONS) - len(below)
    in_vain = sum(key not in expected for key in again)
    scene.judge(
        "Only what hangs below the tag dies; its siblings live on.",
        f"{TEAM}: {len(expected)} died, {len(again) - in_vain} computed again; {others} others: {in_vain} computed "
        "again",
        sorted(again) == sorted(expected), faults,
    )  # fmt: skip


def herd(scene: Scene) -> None:
    """Eight want the same cold key at the same moment."""
    scene.oracle.words[COST_MS] = SLOW_MS
    start, at_s = scene.ledger.end(), time.monotonic() + scene.pace.part_s(0.03, 0.3, 1.0)
    crowd = [*scene.workers, *scene.guests] if scene.shared else scene.workers[:1]
    threads = 1 if scene.shared else HERD
    answers = scene.crew.do(crowd, "census", "waiting", number=1, at_s=at_s, threads=threads)
    wishes = [wish for answer in answers for wish in answer["wishes"]]
    executions = begun(scene.ledger.since(start)).count("census 1")
    landed_s = min(wish["ended_s"] for wish in wishes)
    early = sum(wish["began_s"] < landed_s for wish in wishes)
    right = sum(wish["value"] == scene.database.census() for wish in wishes)
    who = "processes" if scene.shared else "threads of one process"
    scene.judge(
        f"One cold key that {len(wishes)} {who} want is computed once.",
        f"{early} of {len(wishes)} asked in time; {executions} execution in the ledger; {right} have the right answer",
        executions == 1 and right == len(wishes) == len(crowd) * threads,
    )  # fmt: skip


def restart(scene: Scene) -> None:
    """Everything ends, the shared memory goes too, and a newcomer asks every question."""
    faults = faults_of(scene.crew.do(scene.readers(), "read", "asking", tag=None))
    scene.crew.do([scene.writer], "rename", "updating", tag=LAST_TEAM, limit_s=scene.limit_s)
    statuses = scene.crew.dismiss([*scene.readers(), scene.writer])
    left = scene.leave() or "the segment is removed, as a reboot would"
    scene.stage.tell(f"{len(statuses)} processes have ended; {left}")
    scene.pause(scene.pace.part_s(0.02, 0.1, 2.0))
    newcomer = scene.crew.hire("newcomer")
    scene.crew.ready([newcomer])
    scene.attach()
    start = scene.ledger.end()
    faults += faults_of(
        scene.crew.do([newcomer], "read", "asking", tag=None, pause_s=scene.pace.part_s(SLOW_READ, 0.0, 0.2))
    )
    again = begun(scene.ledger.since(start))
    expected = [question.key for question in questions_below(LAST_TEAM)]
    scene.judge(
        "The cache survives a restart, and what was dead stays dead.",
        f"{len(QUESTIONS) - len(again)} of {len(QUESTIONS)} entries were warm; {len(again)} computed, of the "
        f"{len(expected)} that {LAST_TEAM} had killed",
        not any(statuses) and sorted(again) == sorted(expected), faults,
    )  # fmt: skip


_INVALIDATE = Act(
    "invalidate", "An invalidation returns, and the subtree is dead everywhere",
    "One process changes the database and invalidates; the others read as fast as they can. An oracle outside the "
    "cache judges every read.", 0.5, invalidation,
)  # fmt: skip

_ONCE = Act(
    "once", "Eight want one cold key, one computes",
    "A slow query that nobody has asked yet, wanted by all at the same moment.", 0.63, herd,
)  # fmt: skip

PROGRAMS: dict[str, tuple[Act, ...]] = {
    "lmdb": (
        Act("warm up", "One computes, all have it",
            "Entries lie in LMDB, where every process finds them. One process warms the cache for all.", 0.2, warm_up),
        _INVALIDATE,
        _ONCE,
        Act("kill -9", "Killed in the middle, and nobody waits",
            "One dies while it computes for all others, one while it holds the write lock.", 0.85, fatal.two_deaths),
        Act("restart", "The cache outlives its processes, and the dead stay dead",
            "All processes end, the shared memory is removed; a newcomer opens the same LMDB.", 1.0, restart),
    ),
    "memory": (
        Act("warm up", "Each computes once",
            "Entries lie in the memory of each process; what they share is the word about what is dead.",
            0.25, warm_up),
        _INVALIDATE,
        _ONCE,
        Act("kill -9", "Killed with the write lock, and nobody waits",
            "One stands still while it holds the lock that every write needs, and dies.", 1.0, fatal.one_death),
    ),
}  # fmt: skip
"""What can be shown with each storage."""
