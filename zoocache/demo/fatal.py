"""The act with the kills: one process dies while it computes for others, one while it holds the write lock."""

from __future__ import annotations

from zoocache.demo.crew import Answer, Member
from zoocache.demo.ledger import Line, begun
from zoocache.demo.oracle import BEGUN, COST_MS, READS
from zoocache.demo.scene import Scene

PROMISED_S = 1.0
"""How long a death may delay others."""

ENDLESS_MS = 60_000
"""The victim's query: longer than the victim lives, shorter than for ever."""

QUICK_MS = 50
"""The heir's query."""

NUMBER = 2
KEY = f"census {NUMBER}"
CALM_ORG = "org:2"
LEAST_HOLD_S = 0.3
MOST_HOLD_S = 1.0
"""The holder's standstill; shorter than the time after which a write would give up."""


def two_deaths(scene: Scene) -> None:
    """Of a leader whom others follow, and of who holds the write lock."""
    _leader(scene)
    one_death(scene)


def one_death(scene: Scene) -> None:
    """Of who holds the write lock; then a look at the segment."""
    _holder(scene)
    assert scene.core is not None
    faults = scene.core.check()
    killed = sum(each.state == "killed" for each in scene.crew.members)
    seen = f"after {killed} kill -9: " + ("no fault" if not faults else "; ".join(faults))
    scene.judge("No death leaves the shared memory broken.", seen, not faults)


def _roam(scene: Scene, roamers: list[Member]) -> None:
    order = scene.oracle.orders()
    scene.crew.order(roamers, "roam", "reading", tag=CALM_ORG, order=order, limit_s=scene.limit_s)


def _gather(scene: Scene, roamers: list[Member]) -> list[Answer]:
    scene.oracle.order_stop()
    return scene.crew.answers(roamers)


def _leader(scene: Scene) -> None:
    """Kill the leader of a flight that others wait for."""
    *followers, victim = [*scene.workers[2:], *scene.guests]
    roamers = scene.workers[:2]
    start = scene.ledger.end()
    scene.oracle.words[COST_MS] = ENDLESS_MS
    scene.crew.order([victim], "census", "computing", number=NUMBER)
    scene.crew.wait_until(lambda: begun(scene.ledger.since(start)), "the beginning of the victim's query")
    _roam(scene, roamers)
    scene.crew.order(followers, "census", "waiting", number=NUMBER)
    scene.stage.tell(f"{victim.name} computes, {len(followers)} wait for it")
    scene.pause(scene.pace.part_s(0.04, LEAST_HOLD_S, MOST_HOLD_S))
    scene.oracle.words[COST_MS] = QUICK_MS
    killed_s = scene.crew.kill(victim)
    scene.stage.tell(f"kill -9 {victim.pid}: {victim.name} is dead in the middle of its query")
    answers = scene.crew.answers(followers)
    faults = [fault for answer in _gather(scene, roamers) for fault in answer["faults"]]
    _judge_heir(scene, answers, killed_s, scene.ledger.since(start), faults)


def _judge_heir(scene: Scene, answers: list[Answer], killed_s: float, lines: list[Line], faults: list[str]) -> None:
    wishes = [wish for answer in answers for wish in answer["wishes"]]
    longest_s = max(wish["ended_s"] - max(wish["began_s"], killed_s) for wish in wishes)
    heirs = begun(lines).count(KEY) - 1
    done = sum(line.word == "done" and line.key == KEY for line in lines)
    right = sum(wish["value"] == scene.database.census() for wish in wishes)
    scene.judge(
        "A leader that is killed has one heir, within a second.",
        f"{heirs} of {len(wishes)} followers computed, {right} have the right answer; longest wait {longest_s:.2f} s",
        heirs == done == 1 and right == len(wishes) and longest_s <= _allowed_s(scene, answers), faults,
    )  # fmt: skip


def _holder(scene: Scene) -> None:
    """Stop a process that holds the write lock, see that hits go on, kill it, and see that writes go on."""
    roamers, start = scene.workers[:2], scene.ledger.end()
    holder = _freeze(scene)
    before, begun_before = _counts(scene, READS, roamers), _counts(scene, BEGUN, [scene.writer])
    _roam(scene, roamers)
    scene.crew.order([scene.writer], "rename", "blocked", tag="org:1", limit_s=scene.limit_s)
    scene.crew.wait_until(lambda: _counts(scene, BEGUN, [scene.writer]) != begun_before, "the beginning of a write")
    scene.pause(scene.pace.part_s(0.04, LEAST_HOLD_S, MOST_HOLD_S))
    scene.crew.wait_until(lambda: all(map(int.__lt__, before, _counts(scene, READS, roamers))), "a hit of each reader")
    hits = sum(_counts(scene, READS, roamers)) - sum(before)
    killed_s = scene.crew.kill(holder)
    scene.frozen = False
    (write,) = scene.crew.answers([scene.writer])
    _judge_hits(scene, hits, _gather(scene, roamers), begun(scene.ledger.since(start)))
    waited_s = write["ended_s"] - killed_s
    scene.judge(
        "A write lock dies with its holder.",
        f"a write had waited for {killed_s - write['began_s']:.2f} s; it went on {waited_s:.3f} s after the kill -9",
        write["began_s"] < killed_s and 0 < waited_s <= _allowed_s(scene, [write]),
    )  # fmt: skip


def _freeze(scene: Scene) -> Member:
    """A process that stands still while it holds the write lock."""
    holder = scene.crew.hire("holder", points="lock.held=stop")
    scene.crew.ready([holder])
    scene.crew.order([holder], "invalidate", "locking", tag="org:1:team:b")
    scene.crew.wait_stopped(holder)
    scene.frozen = True
    scene.stage.tell(f"{holder.name} ({holder.pid}) stands still with the write lock; one write waits for it")
    return holder


def _judge_hits(scene: Scene, hits: int, answers: list[Answer], computed: list[str]) -> None:
    longest_s = max(answer["longest_s"] for answer in answers)
    scene.judge(
        "Hits wait for nobody, not even for who holds the write lock.",
        f"{hits:,} hits beside the frozen holder; the longest took {longest_s * 1000:.1f} ms",
        not computed and longest_s <= _allowed_s(scene, answers),
        [fault for answer in answers for fault in answer["faults"]],
    )  # fmt: skip


def _allowed_s(scene: Scene, answers: list[Answer]) -> float:
    return scene.sleeper.allowed_s(PROMISED_S, (answer["overslept_s"] for answer in answers))


def _counts(scene: Scene, what: int, members: list[Member]) -> list[int]:
    return [scene.oracle.count(what, each.row) for each in members]
