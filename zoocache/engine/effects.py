"""What a call asks of the world while it runs: wait, pause, compute, ask; and the two drivers that do it.

The engine's steps are generators that yield effects, so the same steps serve threads and tasks: `drive` blocks its
thread, `drive_async` awaits. An effect's answer is sent into the generator, its exception thrown there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zoocache.engine import fill as fills
from zoocache.errors import Busy
from zoocache.flight import Flight, Flights
from zoocache.shm.lock import DEFAULT_TIMEOUT_S, Inside, at_once, pauses, stood_s

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


class Pause:
    """Let time pass."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def block(self) -> None:
        """In a thread."""
        time.sleep(self._seconds)

    async def wait(self) -> None:
        """In a task."""
        import asyncio  # loaded already: its loop runs

        await asyncio.sleep(self._seconds)


class Compute:
    """Call the cached function itself."""

    __slots__ = ("_function", "_values")

    def __init__(self, function: Callable[[Any], Any], values: Any) -> None:
        self._function = function
        self._values = values

    def block(self) -> Any:
        """In a thread."""
        return self._function(self._values)

    async def wait(self) -> Any:
        """In a task."""
        return await self._function(self._values)


class Far(Protocol):
    """What may be far away: each of its methods blocks, and has a twin that is awaited."""

    def later(self, method: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """The twin of a method, called with these."""


class Ask:
    """Ask what is far away: a thread waits for the answer, a task awaits it."""

    __slots__ = ("_args", "_far", "_kwargs", "_method")

    def __init__(self, far: Far, method: str, *args: Any, **kwargs: Any) -> None:
        self._far = far
        self._method = method
        self._args = args
        self._kwargs = kwargs

    def block(self) -> Any:
        """In a thread."""
        return getattr(self._far, self._method)(*self._args, **self._kwargs)

    async def wait(self) -> Any:
        """In a task."""
        return await self._far.later(self._method, *self._args, **self._kwargs)


class Follow:
    """Wait for a flight of this process; the answer is whether it ended in time."""

    __slots__ = ("_flight", "_flights", "_inside", "_patience_s")

    def __init__(self, flights: Flights, flight: Flight, inside: Iterable[Flight], patience_s: float) -> None:
        self._flights = flights
        self._flight = flight
        self._inside = tuple(inside)
        self._patience_s = patience_s

    def block(self) -> bool:
        """In a thread. One that this very thread leads, below this frame, would never end while it is waited for: a
        signal handler or a finalizer has interrupted the leader, or the function calls itself in a fresh context."""
        if self._flight.thread == threading.get_ident():
            fills.refuse_flight(self._flight)
            return self._flight.kind is not None
        bell = threading.Lock()
        bell.acquire()
        if not self._flights.wait(self._flight, lambda: _let_go(bell), self._inside):
            return True
        try:
            return bell.acquire(timeout=min(self._patience_s, threading.TIMEOUT_MAX))
        finally:
            self._flights.stop_waiting(self._flight, self._inside)

    async def wait(self) -> bool:
        """In a task."""
        import asyncio  # loaded already: its loop runs

        loop = asyncio.get_running_loop()
        bell: asyncio.Future[None] = loop.create_future()
        if not self._flights.wait(self._flight, lambda: _ring(loop, bell), self._inside):
            return True
        try:
            done, _ = await asyncio.wait((bell,), timeout=self._patience_s)
        finally:
            self._flights.stop_waiting(self._flight, self._inside)
        return bool(done)


def _let_go(bell: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # it was rung already
        bell.release()


def _ring(loop: asyncio.AbstractEventLoop, bell: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop of a follower that gave up may be closed, at any moment
        loop.call_soon_threadsafe(_ring_here, bell)


def _ring_here(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)


Effect = Pause | Compute | Ask | Follow
Steps = Generator[Effect, Any, T]


class Disguised(Exception):
    """A StopIteration that a cached function raised: thrown into the steps as it is, it would look like their end."""

    def __init__(self, original: StopIteration) -> None:
        super().__init__(original)
        self.original = original


def drive(steps: Steps[T]) -> T:
    """Run steps in this thread.

    Returns:
        What they return.
    """
    try:
        return _run(steps)
    except Disguised as disguised:
        raise disguised.original from None
    finally:
        steps.close()  # what a signal handler raises here, between two steps, must end them too


def _run(steps: Steps[T]) -> T:
    try:
        effect = next(steps)
        while True:
            try:
                answer = effect.block()
            except StopIteration as error:  # noqa: PERF203
                effect = steps.throw(Disguised(error))
            except BaseException as error:  # noqa: BLE001  # the steps decide what becomes of it
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive_async(steps: Steps[T]) -> T:
    """Run steps in this task; the loop is never blocked."""
    try:
        effect = next(steps)
        while True:
            try:
                answer = await effect.wait()
            except BaseException as error:  # noqa: BLE001, PERF203  # the steps decide what becomes of it
                effect = steps.throw(error)
            else:
                effect = steps.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


def patiently(action: Callable[..., T], *args: Any) -> Steps[T]:
    """Repeat `action(*args)` if it finds a lock taken, letting the thread or the loop do other things in between.

    Raises:
        Busy: the lock stayed with another for as long as a blocking caller would have waited.
    """
    try:  # mostly that is all
        return at_once(action, *args)
    except Inside:
        raise
    except Busy:
        deadline_s = time.monotonic() + DEFAULT_TIMEOUT_S
    for pause_s in pauses():
        planned_s = time.monotonic() + pause_s
        yield Pause(pause_s)
        deadline_s += stood_s(planned_s)
        try:
            return at_once(action, *args)
        except Inside:
            raise
        except Busy:
            if time.monotonic() >= deadline_s:
                raise
    raise AssertionError("pauses() never ends")
