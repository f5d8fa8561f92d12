"""zoocache/shm/wake.py: what wakes the listener."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.forks import Forks
from tests.logs import said
from tests.shm.locking import PATIENT_S
from zoocache.shm import identity
from zoocache.shm.segment import Segment
from zoocache.shm.wake import Wake


@pytest.fixture
def wake(segment: Segment) -> Wake:
    """Of this test's segment."""
    assert segment.wake is not None
    return segment.wake


@pytest.fixture
def file(segment: Segment) -> Path:
    """Where it shows, once it is there."""
    return Path(identity.semaphore_file(identity.wake_name(segment.name)))


def waiting(wake: Wake) -> threading.Thread:
    """A thread that waits once."""
    thread = threading.Thread(target=wake.wait, daemon=True)
    thread.start()
    return thread


def test_nothing_is_made_before_it_is_needed(wake: Wake, file: Path) -> None:
    """Who has no other hosts gets no second semaphore; its mode is as narrow as all others'."""
    assert not file.exists()
    wake.ring()
    assert 0o100600 == file.stat().st_mode


def test_a_ring_wakes(wake: Wake) -> None:
    """Who waits goes on once somebody has rung, before or after."""
    wake.ring()
    assert wake.wait()
    thread = waiting(wake)
    wake.ring()
    thread.join(PATIENT_S)
    assert not thread.is_alive()


def test_rings_do_not_add_up(wake: Wake) -> None:
    """However often it rings while nobody waits, there is one thing to do."""
    for _ in range(5):
        wake.ring()
    assert wake._semaphore is not None
    assert 1 == wake._semaphore.value


def test_another_process_wakes(wake: Wake, segment: Segment, forks: Forks) -> None:
    """A ring is heard across processes, from one that opened it itself, and from a forked child."""
    for ringing in (Wake(identity.wake_name(segment.name)), wake):
        assert 0 == forks.fork(ringing.ring).wait()
        assert wake.wait()


def test_a_forbidden_semaphore(file: Path, segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    """Where it cannot be opened, nobody is woken, nobody fails, and one warning says so."""
    file.write_bytes(bytes(64))
    os.chmod(file, 0o666)
    wake = Wake(identity.wake_name(segment.name))
    wake.ring()
    wake.ring()
    assert not wake.wait()
    assert 1 == len(said(caplog))
    assert "is open to others" in caplog.text
