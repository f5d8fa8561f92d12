"""Several processes in one: each an engine of its own on one segment and one store, and calls that go step by step.

    world = World(place, prefix)
    call = world.begin(0, "team", plan)       # as process 0
    world.step(call)                          # one effect further: a pause, the end of a flight, a read, a return
    world.invalidate(1, ("org",), plan)       # as process 1; other calls go on at the named points in between

A call's function reads the "database" and names what it read by tags; what it read, it returns. So every value tells
how old it is, and `World.judge` compares that with what had been told when the call began: nothing older may come. That
is P1, P2 and P3 in one sentence. Where the same key is computed twice at once without an excuse, that breaks P4.

A **plan** is a list of numbers, drawn beforehand, that says which calls go on at which named points
(zoocache/shm/points.py) of what is done in one piece otherwise: between the two halves of an invalidation, between
`changed` and `seq`, between the floor and the flip. Each call runs in a context of its own, as a thread does.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.shared_memory import objects_of
from tests.storage.steps import store_at
from zoocache import clock, keys
from zoocache.config import Settings
from zoocache.engine import call as calls
from zoocache.engine import claimed, core, mutations
from zoocache.engine import fill as fills
from zoocache.engine.core import Engine, Outside
from zoocache.engine.effects import Compute, Effect, Follow
from zoocache.engine.live import LIVE, SEQ, WORDS
from zoocache.engine.spec import Call, Spec
from zoocache.errors import ZooCacheError
from zoocache.shm import points
from zoocache.shm.layout import H_SEQ, MIN_SIZE
from zoocache.storage.lmdb import LmdbStore

PROCESSES = 2
TAGS = ("org", "org:1:team", "org:2", "late")
KEYS: dict[str, tuple[str, ...]] = {"team": ("org:1:team",), "outer": ("org:2",)}
"""What each function depends on from the start. Any may add `late`; `outer` needs `team`."""

Value = tuple[str, tuple[tuple[str, int], ...]]
"""Whose it is, and what was read: tag and version."""


class Killed(BaseException):
    """A process dies at a named point."""


class Failure(Exception):
    """A cached function raises."""


class Simulated:
    """One call under way.

    Attributes:
        process: whose.
        key: what is called.
        told: what had been told when it began.
        computing: the function runs; `read` is what it has read so far.
        inner: a call that the function makes.
        done: it has returned, raised, or is dead.
    """

    def __init__(self, process: int, key: str, told: dict[str, int]) -> None:
        self.process, self.key, self.told = process, key, told
        self.context = contextvars.copy_context()
        self.steps: Any = None
        self.effect: Effect | None = None
        self.read: dict[str, int] = {}
        self.substeps = 0
        self.inner: Simulated | None = None
        self.done = False
        self.value: Value | None = None
        self.error: BaseException | None = None

    @property
    def computing(self) -> bool:
        """Whether its function runs."""
        return not self.done and isinstance(self.effect, Compute)


class World:
    """See the head of this file.

    Args:
        prefix: of the segment.
        place: a directory for LMDB; None: in memory.
    """

    def __init__(self, prefix: str, place: Path | None) -> None:
        self.prefix, self.place = prefix, place
        self.database = dict.fromkeys(TAGS, 0)
        self.told = dict.fromkeys(TAGS, 0)
        self.calls: list[Simulated] = []
        self.excused: set[str] = set()
        self.wrong: list[str] = []  # said afterwards: nothing may be raised through the frames of the library
        self.graves: list[Any] = []
        self.computed = self.crowds = 0
        self._plan: Iterator[int] = iter(())
        self._dies_in: int | None = None
        self._depth = 0
        self.specs = {key: Spec(key, f"test:{key}", _never, tags) for key, tags in KEYS.items()}
        self.engines = [self._start() for _ in range(PROCESSES)]

    def _start(self) -> Engine:
        settings = Settings(
            storage_url="memory://" if self.place is None else f"lmdb://{self.place}", prefix=self.prefix,
            shm_size=MIN_SIZE,
        )  # fmt: skip
        store = None if self.place is None else store_at(self.place)
        return Engine(settings, Outside(near=store))

    # Calls.

    def begin(self, process: int, key: str, plan: list[int], parent: Simulated | None = None) -> Simulated:
        """A caller comes: what the wrapper has is handed out at once, else the steps begin."""
        call = Simulated(process, key, dict(self.told))
        if parent is not None:
            call.context = parent.context
            parent.inner = call
        found = call.context.run(self._hit, call)
        if found is not None:
            self._return(call, found)
            return call
        engine = self.engines[process]
        call.steps = calls.steps(engine, Call(self.specs[key], f"test:{key}()", key))
        if parent is None:
            self.calls.append(call)
        with self.planned(plan):
            self._advance(call, lambda: next(call.steps))
        return call

    def _hit(self, call: Simulated) -> Value | None:
        """As the wrapper, which trusts an entry while `seq` stands still."""
        engine = self.engines[call.process]
        key = f"test:{call.key}()"
        entry = engine.lives.get(key)
        if entry is not None and fills.current() is None and entry[WORDS][H_SEQ] == entry[SEQ]:
            value: Value = entry[LIVE].hand_out()
            return value
        believed = engine.believed(key)
        return None if believed is None else believed[LIVE].hand_out()

    def step(self, call: Simulated, how: int = 0, plan: list[int] | None = None) -> None:
        """One effect further. `how` chooses what a function does next."""
        if call.done or self._depth > 3:
            return
        with self.planned(plan) if plan is not None else contextlib.nullcontext():
            if isinstance(call.effect, Compute):
                self._compute(call, how)
            elif isinstance(call.effect, Follow):
                flight = call.effect._flight
                if flight.kind is not None:
                    self._advance(call, lambda: call.steps.send(True))
                elif how == 13:
                    self.excused.add(call.key)
                    self._advance(call, lambda: call.steps.send(False))
            else:
                self._advance(call, lambda: call.steps.send(None))

    def _compute(self, call: Simulated, how: int) -> None:
        """The next thing that a function does: reads, late dependencies, an inner call, the end."""
        call.substeps += 1
        if call.inner is not None:
            inner = call.inner
            if not inner.done:
                self.step(inner, how)
                return
            call.inner = None
            if inner.error is not None:
                error = inner.error
                self._advance(call, lambda: call.steps.throw(error))
                return
            assert inner.value is not None
            call.read = {**dict(inner.value[1]), **call.read, "": 1}
            return
        tags = KEYS[call.key]
        if not set(tags) <= set(call.read):
            call.read.update((tag, self.database[tag]) for tag in tags)
        elif call.key == "outer" and "" not in call.read:
            self.begin(call.process, "team", [], parent=call)
        elif how % 5 == 1 and "late" not in call.read and call.substeps < 6:
            call.read["late"] = self.database["late"]
        elif "late" in call.read and "late?" not in call.read:
            call.context.run(fills.add_deps, "late")
            call.read["late?"] = 1
        elif how % 7 == 6:
            self._advance(call, lambda: call.steps.throw(Failure(call.key)))
        else:
            value = call.key, tuple(sorted((tag, n) for tag, n in call.read.items() if tag in TAGS))
            self._advance(call, lambda: call.steps.send(value))

    def _advance(self, call: Simulated, go_on: Callable[[], Effect]) -> None:
        call.effect = None  # a function that ran is over: who comes at a point behind the end of its flight may compute
        try:
            call.effect = call.context.run(go_on)
        except StopIteration as stop:
            self._return(call, stop.value)
        except (Failure, ZooCacheError) as error:
            call.done, call.error = True, error
        else:
            if isinstance(call.effect, Compute):
                self.computed += 1
                call.read, call.substeps = {}, 0
                self._judge_once(call)

    def _return(self, call: Simulated, value: Value) -> None:
        call.done, call.value = True, value
        self.judge(call, value)

    def judge(self, call: Simulated, value: Value) -> None:
        """Nothing older comes than what had been told when the call began, and nothing of another key."""
        key, read = value
        if call.key != key:
            self.wrong.append(f"{call.key} was given the value of {key}")
        self.wrong += [
            f"process {call.process}: {key} has {tag} of version {version}, but {call.told[tag]} was told before"
            for tag, version in read if version < call.told[tag]
        ]  # fmt: skip

    def _judge_once(self, call: Simulated) -> None:
        """Nobody else computes the same, in this process or, with a store, in any."""
        together = [
            each for each in self.every_call()
            if each.computing and each.key == call.key and (self.place is not None or each.process == call.process)
        ]  # fmt: skip
        by = [each.process for each in together]
        if len(by) > 1 and call.key not in self.excused:
            self.wrong.append(f"{call.key} is computed {len(by)} times at once, by {by}")

    def every_call(self) -> Iterator[Simulated]:
        """Those under way, inner ones too."""
        for call in self.calls:
            each: Simulated | None = call
            while each is not None:
                if not each.done:
                    yield each
                each = each.inner

    def pending(self) -> list[Simulated]:
        """Calls that are not done; the others are forgotten."""
        self.calls = [call for call in self.calls if not call.done]
        return self.calls

    def finish(self) -> None:
        """Let everybody end."""
        for _ in range(2000):
            if not self.pending():
                return
            for call in list(self.calls):
                self.step(call)
        raise AssertionError(f"these never end: {[(call.process, call.key, call.effect) for call in self.calls]}")

    # What changes the cache.

    def invalidate(self, process: int, tags: tuple[str, ...], plan: list[int], dies_in: int | None = None) -> None:
        """Change the database and invalidate; `dies_in`: the process dies at that named point."""
        covered = [tag for tag in TAGS if any(tag == each or tag.startswith(f"{each}:") for each in tags)]
        for tag in covered:
            self.database[tag] += 1
        telling = {tag: self.database[tag] for tag in covered}
        self._change(process, lambda engine: mutations.invalidate(engine, tags), plan, dies_in, telling)

    def clear(self, process: int, plan: list[int]) -> None:
        """Change all, and clear."""
        for tag in TAGS:
            self.database[tag] += 1
        self._change(process, lambda engine: _run(mutations.clear(engine)), plan, None, dict(self.database))

    def prune(self, process: int, plan: list[int]) -> None:
        """Give all nodes and numbers back."""
        self._change(process, lambda engine: _run(mutations.prune(engine, 0)), plan, None, {})

    def crowd(self, process: int, plan: list[int]) -> None:
        """So many other tags are invalidated that the trie is full, and older nodes give way."""
        self.crowds += 1
        tags = [f"other:{self.crowds}:{each}" for each in range(300)]
        self._change(process, lambda engine: mutations.invalidate(engine, tags), plan, None, {})

    def _change(
        self, process: int, action: Callable[[Engine], object], plan: list[int], dies_in: int | None,
        telling: dict[str, int],
    ) -> None:  # fmt: skip
        self._dies_in = dies_in
        try:
            with self.planned(plan):
                action(self.engines[process])
        except Killed:
            self.kill(process)
        else:
            for tag, version in telling.items():
                self.told[tag] = max(self.told[tag], version)
        finally:
            self._dies_in = None

    # Processes.

    def kill(self, process: int) -> None:
        """It dies where it stands; another one comes. Its kernel locks are gone, and its generators never go on."""
        engine = self.engines[process]
        self._bury(process)
        segment = engine.trie.segment
        segment.lock.close()
        if segment._description is not None:
            segment._description.close()
        self.graves.append(engine)
        self.engines[process] = self._start()

    def restart(self, process: int) -> None:
        """It ends in order; another one comes."""
        self._bury(process)
        self.engines[process].close()
        self.engines[process] = self._start()

    def reboot(self) -> None:
        """All end in order, the segment is gone; then all come again."""
        for process, engine in enumerate(self.engines):
            self._bury(process)
            engine.close()
        self.unlink()
        self.engines = [self._start() for _ in self.engines]

    def remove(self) -> None:
        """Somebody removes the segment, and everybody notices, with calls under way."""
        self.unlink()
        self.excused.update(KEYS)
        for engine in self.engines:
            engine._looked_s = -1.0
            engine.trie.segment._current_s = 0.0
            engine.look_around()

    def unlink(self) -> None:
        """Remove the names."""
        for path in objects_of(self.prefix):
            path.unlink(missing_ok=True)

    def _bury(self, process: int) -> None:
        for call in self.calls:
            if call.process == process and not call.done:
                _die(call)
                self.graves.append(call)

    def leave(self) -> None:
        """Let go of everything."""
        for call in (*self.calls, *self.graves):
            if isinstance(call, Simulated):
                _close(call)
        for engine in self.engines:
            engine.close()
        self.unlink()

    # Interleaving.

    @contextlib.contextmanager
    def planned(self, plan: list[int]) -> Iterator[None]:
        """At the named points that are reached meanwhile, others go on as the plan says."""
        before, self._plan = self._plan, iter(plan)
        try:
            yield
        finally:
            self._plan = before

    def reach(self, _name: str) -> None:
        """In place of `points.reach`."""
        if self._dies_in is not None:
            self._dies_in -= 1
            if self._dies_in < 0:
                self._dies_in = None
                raise Killed
        number = next(self._plan, 0)
        if number and self._depth < 2:
            self._depth += 1
            try:
                self._others(number)
            finally:
                self._depth -= 1

    def _others(self, number: int) -> None:
        """Some others go on, or a new caller comes."""
        dies_in, self._dies_in = self._dies_in, None
        plan, self._plan = self._plan, iter(())
        outside = contextvars.Context()
        try:
            free = [process for process, engine in enumerate(self.engines) if not _is_inside(engine)]
            waiting = [call for call in self.calls if call.process in free and not call.done and not _is_running(call)]
            if waiting and number % 3:
                for each in (waiting[number % len(waiting)], waiting[number // 3 % len(waiting)]):
                    if not each.done and not _is_running(each):
                        outside.run(self.step, each, number)
            elif free:
                process = free[number % len(free)]
                outside.run(self.begin, process, list(KEYS)[number // 5 % len(KEYS)], [])
        finally:
            self._dies_in, self._plan = dies_in, plan


def _die(call: Simulated) -> None:
    """A call goes on no more, nor does the one that it waits for."""
    call.done = True
    if call.inner is not None:
        _die(call.inner)


def _close(call: Simulated) -> None:
    """Let a dead call's generators end, in their own context."""
    if call.inner is not None:
        _close(call.inner)
    if call.steps is not None:
        call.context.run(call.steps.close)


def _is_inside(engine: Engine) -> bool:
    """Whether this thread holds a lock of the process: another of its threads would wait for that, and cannot here."""
    locks = [engine.trie.segment.lock]
    if isinstance(engine.store, LmdbStore) and engine.store._access.attached is not None:
        locks.append(engine.store._access.attached.lock)
    return any(lock._threads._is_owned() for lock in locks)  # type: ignore[attr-defined]


def _is_running(call: Simulated) -> bool:
    """Whether a call stands on the stack of whoever asks: it cannot go on before it was left."""
    each: Simulated | None = call
    while each is not None:
        if each.steps is not None and each.steps.gi_running:
            return True
        each = each.inner
    return call.steps is None


def _never(_values: Any) -> Any:
    raise AssertionError("the world computes")


def _run(steps: Any) -> None:
    """Steps that wait for nobody here."""
    with contextlib.suppress(StopIteration):
        while True:
            next(steps)


@contextlib.contextmanager
def reached_by(world: World) -> Iterator[None]:
    """Every named point of the library leads to the world, and whatever is done now and then is done each time: no
    schedule depends on how fast this machine is."""
    armed = dict.fromkeys(points.ALL, ("world", 1))
    before = points.ARMED, points.reach, claimed.PROBE_S, core.LOOK_S
    points.ARMED, points.reach, claimed.PROBE_S, core.LOOK_S = armed, world.reach, 0.0, 0.0  # type: ignore[assignment]
    try:
        yield
    finally:
        points.ARMED, points.reach, claimed.PROBE_S, core.LOOK_S = before  # type: ignore[assignment]


@contextlib.contextmanager
def clock_of(offset_ms: Callable[[], int]) -> Iterator[None]:
    """The wall clock is set by a test."""
    wall_ms, now = clock.wall_ms, clock.now

    def moved() -> clock.Now:
        found = now()
        return found._replace(wall_ms=found.wall_ms + offset_ms())

    clock.wall_ms, clock.now = lambda: wall_ms() + offset_ms(), moved
    try:
        yield
    finally:
        clock.wall_ms, clock.now = wall_ms, now


def digest_of(key: str) -> bytes:
    """Of the key of a function."""
    return keys.digest(f"test:{key}()")
