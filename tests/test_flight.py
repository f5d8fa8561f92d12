"""zoocache/flight.py: one leader for a key among threads and tasks, and an end that everybody hears."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import pytest

from tests.children import DEADLINE_S
from tests.crowd import Runner, together
from tests.forks import Forks
from zoocache.errors import RecursiveFill
from zoocache.flight import ABANDONED, ERROR, VALUE, Flight, Flights

DONE = (VALUE, "brought")


@pytest.fixture
def flights() -> Flights:
    """The flights of a process."""
    return Flights()


@pytest.fixture
def _switching() -> Iterator[None]:
    """Threads change places as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def led(flights: Flights, key: str) -> Flight:
    """Lead a flight that nobody leads."""
    own = Flight(key)
    assert own is flights.join(own)
    return own


def outcome(flight: Flight) -> tuple[object, object]:
    """How a flight ended."""
    return flight.kind, flight.payload


def test_the_first_leads_and_the_others_follow(flights: Flights) -> None:
    """One key, one flight; another key, another one."""
    flight = led(flights, "a")
    assert [flight] * 2 == [flights.join(Flight("a")), flights.join(Flight("a"))]
    assert led(flights, "b") is not flight


def test_the_end_wakes_all_who_wait(flights: Flights) -> None:
    """Each waker is called once, and finds the outcome there; the next one to come leads anew."""
    flight, heard = led(flights, "a"), []
    for name in range(3):
        assert flights.wait(flight, lambda name=name: heard.append((name, outcome(flight))), ())
    flights.end(flight, *DONE)
    assert [(0, DONE), (1, DONE), (2, DONE)] == heard
    assert led(flights, "a") is not flight


def test_who_comes_after_the_end_does_not_wait(flights: Flights) -> None:
    """A follower that found the flight before its end and asks after it gets the outcome at once."""
    flight = led(flights, "a")
    flights.end(flight, *DONE)
    assert not flights.wait(flight, lambda: pytest.fail("nobody waits"), ())
    assert DONE == outcome(flight)


@pytest.mark.parametrize(("kind", "payload"), [DONE, (ERROR, ValueError("no")), (ABANDONED, None)])
def test_whatever_ends_a_flight_ends_it(flights: Flights, kind: Literal["value", "error"], payload: object) -> None:
    """A value, an exception and a leader that gave up reach those who wait as they are."""
    flight = led(flights, "a")
    flights.end(flight, kind, payload)
    assert (kind, payload) == outcome(flight)


def test_a_waker_that_fails_does_not_keep_the_others_asleep(flights: Flights) -> None:
    """Every follower is woken, though the event loop of one of them is gone."""
    flight, heard = led(flights, "a"), []

    def fail() -> None:
        raise RuntimeError("Event loop is closed")

    for waker in (lambda: heard.append(1), fail, lambda: heard.append(2)):
        flights.wait(flight, waker, ())
    with pytest.raises(RuntimeError):
        flights.end(flight, *DONE)
    assert [1, 2] == sorted(heard)
    assert DONE == outcome(flight)


def test_an_end_that_was_interrupted_is_repeated(flights: Flights) -> None:
    """A signal handler may raise while the followers are woken: the second call wakes those that are left, and changes
    nothing of the outcome."""
    flight, heard, interrupts = led(flights, "a"), [], [KeyboardInterrupt()]

    def interrupt() -> None:
        heard.append(2)
        if interrupts:
            raise interrupts.pop()

    for waker in (lambda: heard.append(1), interrupt, lambda: heard.append(3)):
        flights.wait(flight, waker, ())
    with pytest.raises(KeyboardInterrupt):
        flights.end(flight, *DONE)
    flights.end(flight, ABANDONED)
    assert ([1, 2, 2, 3], DONE) == (heard, outcome(flight))


def test_a_replaced_leader_does_not_end_its_successor(flights: Flights) -> None:
    """After `replace` the next one leads another flight, and the late end of the first leaves that alone; those who
    still wait for the first are woken by it, and nothing is kept of it.
    """
    slow, heard = led(flights, "a"), []
    flights.wait(slow, lambda: heard.append("slow"), ())
    flights.replace(slow)
    successor = led(flights, "a")
    flights.replace(slow)
    flights.end(slow, *DONE)
    assert [] == flights._apart
    assert (["slow"], successor) == (heard, flights.join(Flight("a")))


def test_overtaking_reaches_the_flights_of_the_key(flights: Flights) -> None:
    """Setting a key anew marks its flights and no others, those that were replaced too; later ones are not marked."""
    replaced, other = led(flights, "a"), led(flights, "b")
    flights.replace(replaced)
    flight = led(flights, "a")
    flights.overtake("a")
    flights.overtake("nobody's")
    assert (True, True, False) == (replaced.overtaken, flight.overtaken, other.overtaken)
    flights.end(flight, *DONE)
    assert (True, False) == (led(flights, "a").is_kept, flight.is_kept)


def test_overtaking_reaches_a_flight_apart(flights: Flights) -> None:
    """A flight that nobody follows is overtaken like the others; who sets the key by it learns whether it was."""
    first, second = Flight("k"), Flight("k")
    flights.lead_apart(first)
    flights.lead_apart(second)
    assert flights.join(leader := Flight("k")) is leader
    assert [True, False] == [flights.overtake("k", first), flights.overtake("k", second)]
    assert [True] * 3 == [flight.overtaken for flight in (first, second, leader)]
    flights.end(first, ABANDONED)
    flights.end(second, ABANDONED)
    third = Flight("k")
    flights.lead_apart(third)
    assert flights.overtake("k", third)


def test_a_clear_overtakes_all(flights: Flights) -> None:
    """A clear marks every flight under way."""
    replaced = led(flights, "a")
    flights.replace(replaced)
    others = [led(flights, "a"), led(flights, "b")]
    flights.overtake_all()
    assert [True] * 3 == [flight.overtaken for flight in (replaced, *others)]


# Who waits for whom.


def nothing() -> None:
    """A waker."""


def test_waiting_for_each_other_is_refused(flights: Flights) -> None:
    """The one that would close a circle of waiting is told so; the others go on waiting."""
    one, two, three = (led(flights, key) for key in "abc")
    assert flights.wait(two, nothing, [one])
    assert flights.wait(three, nothing, [two])
    with pytest.raises(RecursiveFill, match="a: the one who computes this waits for a key"):
        flights.wait(one, nothing, [three])
    assert ([], None) == (one.wakers, three.waits_for)


def test_waiting_for_oneself_is_refused(flights: Flights) -> None:
    """A function that waits for its own flight would never end."""
    flight = led(flights, "a")
    with pytest.raises(RecursiveFill):
        flights.wait(flight, nothing, [flight])


def test_outer_fills_wait_too(flights: Flights) -> None:
    """Whoever waits inside a nested call waits with all the fills around it."""
    outer, inner, other = (led(flights, key) for key in "abc")
    assert flights.wait(other, nothing, [inner, outer])
    with pytest.raises(RecursiveFill):
        flights.wait(outer, nothing, [other])


def test_who_waits_no_more_closes_no_circle(flights: Flights) -> None:
    """After `stop_waiting` the others may wait for that fill."""
    one, two = led(flights, "a"), led(flights, "b")
    flights.wait(two, nothing, [one])
    flights.stop_waiting(two, [one])
    assert flights.wait(one, nothing, [two])


def test_one_of_two_who_wait_may_go(flights: Flights) -> None:
    """When two threads of one fill wait for the same flight and one of them stops, the fill still waits."""
    one, two = led(flights, "a"), led(flights, "b")
    flights.wait(two, nothing, [one])
    flights.wait(two, nothing, [one])
    flights.stop_waiting(two, [one])
    with pytest.raises(RecursiveFill):
        flights.wait(one, nothing, [two])
    flights.stop_waiting(two, [one])
    assert flights.wait(one, nothing, [two])


def test_a_flight_that_has_ended_closes_no_circle(flights: Flights) -> None:
    """What is over is not waited for."""
    one, two = led(flights, "a"), led(flights, "b")
    flights.wait(two, nothing, [one])
    flights.end(two, *DONE)
    flights.stop_waiting(two, [one])
    again = led(flights, "b")
    assert flights.wait(one, nothing, [again])


def test_a_long_chain_is_followed(flights: Flights) -> None:
    """A chain of a thousand fills is walked without recursion, and its circle is found."""
    chain = [led(flights, str(number)) for number in range(1000)]
    for one, two in itertools.pairwise(chain):
        flights.wait(two, nothing, [one])
    with pytest.raises(RecursiveFill):
        flights.wait(chain[0], nothing, [chain[-1]])


# Threads.


@pytest.mark.usefixtures("_switching")
def test_threads_agree_on_a_leader(flights: Flights) -> None:
    """Of threads that come at the same moment exactly one leads."""
    for key in map(str, range(50)):
        owns = [Flight(key) for _ in range(4)]
        joined = [runner.result() for runner in together([partial(flights.join, own) for own in owns])]
        assert (1, 1) == (len(set(joined)), sum(own is flight for own, flight in zip(owns, joined, strict=True)))


@pytest.mark.usefixtures("_switching")
def test_no_follower_is_forgotten(flights: Flights) -> None:
    """Whoever joins around the moment of the end either leads, or finds the outcome, or is woken."""

    def call(key: str) -> int:
        own = Flight(key)
        flight = flights.join(own)
        if flight is own:
            flights.end(flight, *DONE)
        else:
            bell = threading.Event()
            if flights.wait(flight, bell.set, ()):
                assert bell.wait(DEADLINE_S), "nobody rang"
            assert DONE == outcome(flight)
        return 1

    for key in map(str, range(100)):
        assert 4 == sum(runner.result() for runner in together([lambda key=key: call(key)] * 4))
    assert {} == flights._flights


def test_a_handler_may_use_the_flights_that_it_interrupted(flights: Flights) -> None:
    """Code that interrupts a holder of the mutex in its own thread does not wait for it."""

    def inside() -> Flight:
        with flights._mutex:
            flight = led(flights, "a")
            flights.end(flight, *DONE)
            return flight

    assert DONE == outcome(Runner(inside).result())


# Forks.


def test_a_child_starts_with_no_flights(flights: Flights, forks: Forks) -> None:
    """In a forked child nobody leads, whoever led in the parent and whatever its threads held."""
    flight = led(flights, "a")
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with flights._mutex:
            inside.set()
            leave.wait(DEADLINE_S)

    thread = Runner(hold)
    inside.wait(DEADLINE_S)

    def look() -> None:
        flights.after_fork()
        flights.end(led(flights, "a"), *DONE)

    assert 0 == forks.fork(look).wait()
    leave.set()
    thread.result()
    assert flight is flights.join(Flight("a"))


def test_a_leader_that_forks_may_end_in_both(flights: Flights) -> None:
    """A fill that forks goes on in parent and child; each ends its own copy."""
    flight = led(flights, "a")
    pid = os.fork()
    if not pid:
        flights.after_fork()
        flights.end(flight, *DONE)
        os._exit(0 if outcome(flight) == DONE else 1)
    assert (pid, 0) == os.waitpid(pid, 0)
    assert flight.kind is None
    flights.end(flight, *DONE)


def test_a_child_rings_no_bell_of_its_parents(flights: Flights) -> None:
    """A leader that forks and ends in the child wakes nobody there: who waits is in the parent."""
    flight, heard = led(flights, "a"), []
    flights.wait(flight, lambda: heard.append(1), ())
    flights.after_fork()
    flights.end(flight, *DONE)
    assert [] == heard


def test_keys_are_let_go(flights: Flights) -> None:
    """Nothing is kept of a flight that has ended."""
    calls: list[Callable[[], object]] = []
    for number in range(100):
        flight = led(flights, str(number))
        flights.wait(flight, lambda: calls.append(nothing), ())
        flights.end(flight, *DONE)
    assert ({}, 100) == (flights._flights, len(calls))
