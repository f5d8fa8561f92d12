"""Fixtures for the rooms of shared memory: forked children, small segments, files to lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import posix_ipc
import pytest

from tests.forks import Fork, Forks
from tests.shm.locking import PATIENT_S, OpenLock, staying
from zoocache.shm.attachment import attach
from zoocache.shm.layout import MIN_SIZE
from zoocache.shm.lock import Lock
from zoocache.shm.segment import Segment


@pytest.fixture
def attach_here(prefix: str) -> Iterator[Callable[..., Segment]]:
    """Attaches to this test's segment, MIN_SIZE unless another size is asked for; all is left in the end."""
    attached: list[Segment] = []

    def attach_one(size: int | None = MIN_SIZE, lock_timeout_s: float = 20.0) -> Segment:
        attached.append(attach(prefix, size, lock_timeout_s))
        return attached[-1]

    yield attach_one
    for segment in attached:
        segment.leave()


@pytest.fixture
def segment(attach_here: Callable[..., Segment]) -> Segment:
    """A segment of the smallest size."""
    return attach_here()


@pytest.fixture
def locked_file(tmp_path: Path) -> Path:
    """A file to set kernel locks on."""
    path = tmp_path / "locked"
    path.write_bytes(bytes(64))
    return path


@pytest.fixture
def gate_name(prefix: str) -> str:
    """The name of a semaphore; removed in the end with all that has the test's prefix."""
    return f"/zoocache-{os.geteuid()}-{prefix}-gate"


@pytest.fixture(params=["gate", "no gate"])
def open_lock(request: pytest.FixtureRequest, locked_file: Path, gate_name: str) -> OpenLock:
    """Makes locks as separate processes would, all on one file: with the semaphore, and without."""

    def make(timeout_s: float = PATIENT_S) -> Lock:
        gate = posix_ipc.Semaphore(gate_name, posix_ipc.O_CREAT, 0o600, 1) if request.param == "gate" else None
        return Lock(lambda: os.open(locked_file, os.O_RDWR | os.O_CLOEXEC), gate, "the lock", timeout_s)

    return make


@pytest.fixture
def holder(open_lock: OpenLock, forks: Forks) -> Fork:
    """A process that holds the lock for ever."""
    readable, writable = os.pipe()
    child = forks.fork(lambda: open_lock().run(staying(writable)))
    os.read(readable, 1)
    os.close(readable)
    os.close(writable)
    return child
