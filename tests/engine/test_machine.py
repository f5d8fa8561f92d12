"""The engine of several processes against a plain dict, whatever the schedule: see tests/engine/interleaved.py."""

from __future__ import annotations

import logging
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stress import mutants
from tests.engine.interleaved import KEYS, PROCESSES, World, clock_of, reached_by
from tests.fuzz import LONG, is_long
from zoocache import clock, deps
from zoocache.engine import mutations
from zoocache.engine.core import Engine

MEMORY = Path("/dev/shm")
DISTURBANCES = ("clear", "prune", "prune", "crowd", "kill", "restart", "reboot", "remove", "clock")

POINTS = 12
"""So many named points of one rule may let others go on."""


def plan_of(seed: int) -> list[int]:
    """What others do at the first named points; mostly somebody does something."""
    dice = random.Random(seed)
    return [dice.choice((0, dice.randrange(1, 60))) for _ in range(POINTS)]


plans = st.integers(0, 10**6).map(plan_of)
process_ = st.integers(0, PROCESSES - 1)
keys_ = st.sampled_from(list(KEYS))
tags_ = st.sampled_from([("org",), ("org:1:team",), ("org:2",), ("late",), ("org:1:team", "late")])


class EngineMachine(RuleBasedStateMachine):
    """Two processes, their calls under way, and what each value may not be older than."""

    on_disk = False

    @initialize()
    def start(self) -> None:
        """Nothing is cached."""
        logging.getLogger("zoocache").setLevel(logging.CRITICAL)
        self.offset_ms = 0
        self.place = Path(tempfile.mkdtemp(prefix="zoomachine-", dir=MEMORY if MEMORY.is_dir() else None))
        self.clock = clock_of(lambda: self.offset_ms)
        self.clock.__enter__()
        prefix = f"machine{os.getpid()}n{secrets.token_hex(4)}"
        self.world = World(prefix, self.place / "store" if self.on_disk else None)
        self.points = reached_by(self.world)
        self.points.__enter__()

    def teardown(self) -> None:
        """Everybody ends, and then lets go."""
        if not hasattr(self, "points"):
            return
        try:
            self.world.finish()
            self.nothing_is_wrong()
        finally:
            self.points.__exit__(None, None, None)
            self.world.leave()
            self.clock.__exit__(None, None, None)
            shutil.rmtree(self.place)
            logging.getLogger("zoocache").setLevel(logging.NOTSET)

    @invariant()
    def nothing_is_wrong(self) -> None:
        """What the world has seen."""
        assert [] == self.world.wrong

    @rule(process=process_, key=keys_, plan=plans)
    def begin(self, process: int, key: str, plan: list[int]) -> None:
        """A caller comes."""
        self.world.begin(process, key, plan)

    @rule(process=process_, key=keys_, plan=plans)
    def call(self, process: int, key: str, plan: list[int]) -> None:
        """A caller comes, and is not kept waiting for long; others go on meanwhile."""
        call = self.world.begin(process, key, plan)
        for how in plan:
            self.world.step(call, how % 5)

    @precondition(lambda self: self.world.pending())
    @rule(which=st.integers(0, 9), how=st.integers(0, 13), plan=plans)
    def step(self, which: int, how: int, plan: list[int]) -> None:
        """A call goes one effect further."""
        waiting = self.world.pending()
        self.world.step(waiting[which % len(waiting)], how, plan)

    @precondition(lambda self: self.world.pending())
    @rule(which=st.integers(0, 9), times=st.integers(2, 8))
    def run_on(self, which: int, times: int) -> None:
        """A call goes some effects further."""
        waiting = self.world.pending()
        call = waiting[which % len(waiting)]
        for _ in range(times):
            self.world.step(call)

    @rule(process=process_, tags=tags_, plan=plans)
    def invalidate(self, process: int, tags: tuple[str, ...], plan: list[int]) -> None:
        """The database changes, and that is told."""
        self.world.invalidate(process, tags, plan)

    @rule(process=process_, plan=plans)
    def invalidate_what_is_live(self, process: int, plan: list[int]) -> None:
        """What the process holds ready is invalidated: who comes in the middle of that finds it still live."""
        self.world.begin(process, "team", [])
        self.world.finish()
        self.world.invalidate(process, ("org:1:team",), plan)

    @rule(process=process_, tags=tags_, plan=plans, dies_in=st.integers(0, 10))
    def die_while_invalidating(self, process: int, tags: tuple[str, ...], plan: list[int], dies_in: int) -> None:
        """The process is killed at a named point of an invalidation, which promises nothing then."""
        self.world.invalidate(process, tags, plan, dies_in)

    @rule(process=process_, what=st.sampled_from(DISTURBANCES), plan=plans)
    def disturb(self, process: int, what: str, plan: list[int]) -> None:
        """Something rare: everything is cleared or pruned, the trie gets full, a process or the segment goes, the clock
        is set."""
        world = self.world
        if what in {"clear", "prune", "crowd"}:
            getattr(world, what)(process, plan)
        elif what in {"kill", "restart"}:
            getattr(world, what)(process)
        elif what in {"reboot", "remove"}:
            getattr(world, what)()
        else:
            self.offset_ms += -3_600_000 if self.offset_ms > 0 else 5_000_000

    @precondition(lambda self: not self.world.pending())
    @rule(process=process_, key=keys_)
    def call_twice(self, process: int, key: str) -> None:
        """What was not invalidated is not computed again, here or, once it was computed into a store, elsewhere. What
        is live here may be half invalidated, by one who died after he had told the store."""
        world = self.world
        before = world.computed
        world.begin(process, key, [])
        world.finish()
        computed = world.computed
        elsewhere = self.on_disk and computed > before
        for again in (process, (process + 1) % PROCESSES if elsewhere else process):
            world.begin(again, key, [])
            world.finish()
        assert computed == world.computed, f"{key} was computed again"


class MachineOnDisk(EngineMachine):
    """The same with LMDB."""

    on_disk = True


def played(count: int, machine: type[EngineMachine], *, derandomize: bool = False) -> None:
    """Play so many schedules."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count, stateful_step_count=30, deadline=None, derandomize=derandomize, database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if derandomize else tuple(Phase),
        ),
    )  # fmt: skip


@pytest.mark.timeout(0 if is_long() else 300)
@pytest.mark.parametrize("machine", [EngineMachine, MachineOnDisk], ids=["memory", "lmdb"])
def test_fuzz_schedules(machine: type[EngineMachine]) -> None:
    """Whatever the schedule, nothing older is served than what had been told when the call began, and nothing is
    computed twice at once."""
    played(12 * (LONG if is_long() else 1), machine)


def _segment_first(engine: Engine, tags: tuple[str, ...]) -> None:
    """An invalidation tells the segment first, and the store second."""
    engine.on_segment(lambda trie: trie.invalidate(mutations.targets_of(tags), 1))
    if engine.store is not None:
        engine.store.invalidate([deps.own_path(tag) for tag in tags], clock.now())


def _plant_segment_first() -> None:
    mutants.put(mutations, "invalidate", _segment_first)


def _plant_lives_inside() -> None:
    mutants.put(Engine, "believes_lives", lambda _: True)


MUTANTS: dict[str, tuple[type[EngineMachine], Callable[[], None]]] = {
    "segment-first": (MachineOnDisk, _plant_segment_first),
    "lives-inside": (MachineOnDisk, _plant_lives_inside),
    **{name: (EngineMachine, mutants.MUTANTS[name].plant) for name in ("late-note", "gullible", "everyone-leads")},
}


@pytest.fixture
def _pulled() -> Iterator[None]:
    """No fault outlives its test."""
    yield
    mutants.pull()


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_pulled")
@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_is_awake(name: str) -> None:
    """A rule of safety that is turned off is missed by some schedule."""
    machine, plant = MUTANTS[name]
    plant()
    with pytest.raises(AssertionError, match=r"was told before|times at once|computed again"):
        played(400, machine, derandomize=True)
