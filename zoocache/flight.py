"""Flights inside one process: for one key one leader computes, threads and tasks that want the same follow.

`_mutex` guards `_flights` and the words of every flight. It is an RLock, because a signal handler may interrupt its
holder in the same thread; all that happens under it is a few steps on plain containers that bear being nested.

A follower that waits longer than its patience replaces the leader: the flight leaves the table, and the first who
comes after begins another. A leader that was cancelled or interrupted abandons its flight: who waited begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

from zoocache.errors import RecursiveFill

VALUE: Literal["value"] = "value"
ERROR: Literal["error"] = "error"
ABANDONED: Literal["abandoned"] = "abandoned"
LOADED = object()
Kind = Literal["value", "error", "abandoned"]


class Flight:
    """One computation of one key.

    Attributes:
        thread: the leader's; in one thread there may be many leaders that are tasks, and one that is not.
        kind: how it ended: VALUE, ERROR or ABANDONED; None while it is under way.
        payload: what the engine hands to followers with VALUE; the exception with ERROR. Stored before `kind`.
        overtaken: the key was set anew meanwhile: what comes of this is not kept.
        tags: what the computation depends on, as far as it came: for those who get its exception.
        doubtful: it depends on something else that nobody here knows the tags of: what comes of it is not kept.
        stamp: what a store said before the computation began, if there is one that judges what comes of it; LOADED if
            that came from there.
        wakers: who waits; each leaves when it has been called. After the end nobody comes any more.
    """

    __slots__ = ("doubtful", "key", "kind", "overtaken", "payload", "stamp", "tags", "thread", "waits_for",
                 "wakers")  # fmt: skip

    def __init__(self, key: str) -> None:
        self.key = key
        self.thread = threading.get_ident()
        self.kind: Kind | None = None
        self.payload: Any = None
        self.overtaken = False
        self.tags: Iterable[str] = ()
        self.doubtful = False
        self.stamp: object = None
        self.wakers: list[Callable[[], object]] = []
        self.waits_for: list[Flight] | None = None  # what this one's function waits for; twice if two of its tasks do

    @property
    def is_kept(self) -> bool:
        """Whether what it brings may be kept."""
        return not self.overtaken and not self.doubtful


class Flights:
    """The flights of one process."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._flights: dict[str, Flight] = {}
        self._apart: list[Flight] = []  # under way, though nobody follows them (any more)

    def after_fork(self) -> None:
        """In a forked child: the leaders are in the parent, nobody here is waiting, and the lock may be held."""
        for flight in (*self._flights.values(), *self._apart):
            flight.wakers = []  # they would ring in the parent's event loops
        self._mutex = threading.RLock()
        self._flights = {}
        self._apart = []

    def join(self, own: Flight) -> Flight:
        """The flight of a key that is under way; if there is none, `own` is from here on.

        One step of a dict, which the interpreter makes whole, so that no exception out of a signal handler can come
        between the table and whoever is to end what stands there.
        """
        return self._flights.setdefault(own.key, own)

    def lead_apart(self, own: Flight) -> None:
        """Begin a flight that nobody follows, but that can be overtaken; to be ended as the others."""
        with self._mutex:
            self._apart.append(own)

    def wait(self, flight: Flight, waker: Callable[[], object], waiting: Iterable[Flight]) -> bool:
        """Have `waker` called once the flight ends.

        Args:
            flight: of somebody else.
            waker: called once or twice, by the leader's thread; must not block. If it raises twice, the leader is told.
            waiting: the flights whose functions wait with the caller.

        Returns:
            Whether it is still under way; if not, `waker` is not called.

        Raises:
            RecursiveFill: the flight itself waits, perhaps through others, for one of `waiting`.
        """
        with self._mutex:
            if flight.kind is not None:
                return False
            _link(flight, waiting)
            flight.wakers.append(waker)
            return True

    def stop_waiting(self, flight: Flight, waiting: Iterable[Flight]) -> None:
        """The caller waits no more, whatever came of it."""
        with self._mutex:
            _unlink(flight, waiting)

    def end(self, flight: Flight, kind: Kind, payload: Any = None) -> None:
        """The leader's last act: wake all who wait. Called again, because a signal handler has interrupted it, it wakes
        those who were not woken yet."""
        with self._mutex:
            if self._flights.get(flight.key) is flight:
                self._flights.pop(flight.key, None)  # a signal handler may have been quicker
            elif flight in self._apart:
                self._apart.remove(flight)
            if flight.kind is None:
                flight.payload = payload
                flight.kind = kind
        if flight.wakers:
            _wake(flight.wakers)

    def replace(self, flight: Flight) -> None:
        """The leader takes too long: let the next who comes lead another."""
        with self._mutex:
            if self._flights.get(flight.key) is flight:
                self._flights.pop(flight.key, None)  # a signal handler may have been quicker
                self._apart.append(flight)

    def overtake(self, key: str, flight: Flight | None = None) -> bool:
        """The key is set anew: what its flights bring is not kept.

        Args:
            key: full text.
            flight: what it is set to comes of this one.

        Returns:
            Whether nothing had overtaken that flight before.
        """
        with self._mutex:
            was_overtaken = flight is not None and flight.overtaken
            _overtake(self._flights.get(key), *self._of_those_apart(key))
        return not was_overtaken

    def _of_those_apart(self, key: str) -> list[Flight]:
        return [flight for flight in self._apart if flight.key == key]

    def overtake_all(self) -> None:
        """Everything was cleared: what the flights bring is not kept."""
        with self._mutex:
            _overtake(*self._flights.values(), *self._apart)


def _wake(wakers: list[Callable[[], object]]) -> None:
    """Call each, though one of them raise: the others would sleep on. If a signal handler raises, those that are left
    stay here, and perhaps one that was called.
    """
    trouble: Exception | None = None
    while wakers:
        try:
            wakers[0]()
        except Exception:  # noqa: BLE001  # a signal handler's perhaps, before the waker did anything
            try:
                wakers[0]()
            except Exception as error:  # noqa: BLE001  # it is raised when all are awake
                trouble = error
        del wakers[:1]
    if trouble is not None:
        raise trouble


# What happens under the mutex in a loop happens in a frame of its own: see shm/lock.py.


def _overtake(*flights: Flight | None) -> None:
    for flight in flights:
        if flight is not None:
            flight.overtaken = True


def _link(flight: Flight, waiting: Iterable[Flight]) -> None:
    """Note who waits for a flight from now on, unless that closes a circle."""
    mine = set(waiting)
    if mine & _all_behind(flight):
        raise RecursiveFill(
            f"{flight.key}: the one who computes this waits for a key that is being computed here, and this would wait "
            "for it; neither could ever end"
        )
    for other in mine:
        other.waits_for = [flight, *(other.waits_for or ())]


def _unlink(flight: Flight, waiting: Iterable[Flight]) -> None:
    for other in set(waiting):
        if other.waits_for and flight in other.waits_for:
            other.waits_for.remove(flight)


def _all_behind(flight: Flight) -> set[Flight]:
    """The flight and all that it waits for, at any remove."""
    found: set[Flight] = set()
    frontier = [flight]
    while frontier:
        one = frontier.pop()
        if one not in found:
            found.add(one)
            frontier.extend(one.waits_for or ())
    return found
