"""What every test gets: a cache prefix of its own, a reset cache afterwards, children that are always reaped."""

from __future__ import annotations

import gc
import itertools
import os
import secrets
import signal
import sys
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from stress import processes
from tests.children import DEADLINE_S, Children
from tests.forks import Forks
from tests.patience import be_patient
from tests.servers import Server, Servers
from tests.shared_memory import objects_of
from zoocache.listener.starter import PROGRAM
from zoocache.shm import object as shm_object

SEGMENT_BYTES = 4 << 20
WORKERS_PER_CPU = 2
"""With `-n auto`. Half of their time tests wait: for servers, for children, for a time-out that is tested."""

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how long an example takes is a matter of what else the machine has to do

_count = itertools.count()


def pytest_xdist_auto_num_workers() -> int | None:
    """How many workers `-n auto` starts, unless the environment tells it."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return WORKERS_PER_CPU * len(os.sched_getaffinity(0))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The tests themselves and all they import stay for the whole run: nobody looks there for garbage, neither while
    they are collected, nor at each `gc.collect` of a test, nor in a forked child, whose memory would become its own.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


ENDING = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What interrupts and ends a process, and what they do in one that was started as usual."""


@pytest.fixture(scope="session", autouse=True)
def _can_be_ended() -> Iterator[None]:
    """Whoever is started with these ignored (`nohup make test &` does so) hands that on; tests, and pools, end children
    by them.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, usual in ENDING.items():
        if before[number] is signal.SIG_IGN:
            signal.signal(number, usual)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _handlers_stay(_can_be_ended: None) -> Iterator[None]:
    """A handler that a test leaves behind goes to all that the worker forks; pools would wait for them for ever."""
    before = [signal.getsignal(number) for number in ENDING]
    yield
    assert before == [signal.getsignal(number) for number in ENDING]


@pytest.fixture(scope="session", autouse=True)
def _segments_are_small() -> Iterator[None]:
    """Who names no size gets less here, and in forked children, than users do: to fill 16 MiB with zeros, and to give
    them back, takes longer than most tests. In fresh interpreters nothing is changed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shm_object, "DEFAULT_SIZE", SEGMENT_BYTES)
        yield


@pytest.fixture(scope="session")
def _nothing_is_left() -> Iterator[None]:
    """A listener that was on its way when its test had ended opens its semaphore anew. By the end of the run it has
    come, and this worker's prefixes are nobody else's.
    """
    yield
    own = f"t{os.getpid()}n"
    processes.end(lambda: processes.that_begin(PROGRAM, own))
    for path in objects_of(own, ends=("",)):
        path.unlink(missing_ok=True)


@pytest.fixture
def make_prefix(_nothing_is_left: None) -> Iterator[Callable[[], str]]:
    """Makes prefixes that no other test, worker or run has. In the end their listeners are ended, and what lies in
    /dev/shm under them is removed: a listener that comes later would open its semaphore, and leave it behind.
    """
    made = []

    def make() -> str:
        made.append(f"t{os.getpid()}n{next(_count)}r{secrets.token_hex(4)}")
        return made[-1]

    yield make
    for prefix in made:
        if any(path.name.endswith("-wake") for path in objects_of(prefix)):  # somebody had a listener to wake
            processes.end(lambda: processes.of((PROGRAM, prefix)))  # noqa: B023
        for path in objects_of(prefix):
            path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def prefix(make_prefix: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """This test's own prefix. It stands in the environment too, so a cache without `configure` is apart as well, here
    and in every child.
    """
    own = make_prefix()
    monkeypatch.setenv("ZOOCACHE_PREFIX", own)
    _forget_all()  # a finalizer or a thread of an earlier test may have begun something since then, without a prefix
    return own


@pytest.fixture(autouse=True)
def _reset(prefix: str) -> Iterator[None]:  # after `prefix`: the cache lets go before its objects are removed
    yield
    _forget_all()


def _forget_all() -> None:
    if "zoocache" in sys.modules:
        sys.modules["zoocache"].reset()


@pytest.fixture
def forks() -> Iterator[Forks]:
    """Forks children; none of them outlives the test."""
    started = Forks()
    yield started
    started.end()


@pytest.fixture
def children(prefix: str) -> Iterator[Children]:
    """Starts interpreters (see `tests.children`); none of them outlives the test."""
    started = Children()
    yield started
    started.end()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """The server that all tests of this pytest worker share; see `tests.servers`."""
    started = Servers()
    yield started.start()
    started.end()


@pytest.fixture
def redis_url(shared_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its URL. A test is alone there under its own `prefix`.

    Nobody stops this server, and to wait for a processor is no outage: here and in every child an answer may take as
    long as a test. Outages have servers of their own.
    """
    monkeypatch.setenv("ZOOCACHE_REDIS_TIMEOUT", str(DEADLINE_S))
    return shared_server.url


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Starts servers of this test's own, which it may stop, freeze and configure; none of them outlives it."""
    started = Servers()
    yield started
    started.end()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a lock, here and in forked children, waits long."""
    be_patient(monkeypatch.setattr)
