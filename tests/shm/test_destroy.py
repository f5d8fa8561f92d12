"""Removing a segment: alone, whole, and without touching anybody else's descriptors."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

import pytest

from tests.children import DEADLINE_S
from tests.crowd import until
from tests.forks import Forks
from tests.shared_memory import objects_of
from zoocache.errors import SegmentError
from zoocache.shm import identity, kernel
from zoocache.shm import layout as at
from zoocache.shm import object as object_room
from zoocache.shm.attachment import attach, attach_to_existing, destroy
from zoocache.shm.layout import LOCK_ATTACHED, MIN_SIZE


def test_destroy_removes_what_nobody_uses(prefix: str) -> None:
    """A segment that nobody is attached to goes, with its semaphores; then there is none to remove."""
    segment = attach(prefix)
    assert segment.wake is not None
    segment.wake.ring()
    segment.leave()
    assert 3 == len(objects_of(prefix))
    assert destroy(prefix)
    assert [] == objects_of(prefix)
    assert not destroy(prefix)


def test_who_comes_while_it_is_removed_makes_no_other(
    prefix: str, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that has found the segment, and waits for whoever is removing it, leaves nothing in its place."""
    monkeypatch.setattr(object_room, "CREATION_S", DEADLINE_S)
    attach(prefix).leave()
    gc.collect()  # the child inherits nothing that bears this name
    reader, writer = os.pipe()
    late = forks.fork(_find_none, prefix, reader)
    fd = os.open(identity.segment_file(identity.segment_name(prefix)), os.O_RDWR)
    assert kernel.try_exclusive(fd, LOCK_ATTACHED)  # as `destroy` does
    os.write(writer, b"1")
    until(lambda: any(prefix in link for link in _open_files(late.pid)))
    for path in objects_of(prefix):
        path.unlink()
    for own in (fd, reader, writer):
        os.close(own)
    assert 0 == late.wait()
    assert [] == objects_of(prefix)


def _find_none(prefix: str, reader: int) -> None:
    os.read(reader, 1)
    assert attach_to_existing(prefix) is None


def _open_files(pid: int) -> list[str]:
    fds = Path(f"/proc/{pid}/fd")
    links = []
    for fd in os.listdir(fds):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(fds / fd))
    return links


def test_destroy_closes_only_what_it_opened(prefix: str) -> None:
    """No descriptor that another part of the process has opened meanwhile is closed, and none is left open."""
    attach(prefix).leave()
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    assert destroy(prefix)
    assert before == set(os.listdir("/proc/self/fd"))


def test_destroy_refuses_what_is_in_use(prefix: str) -> None:
    """A segment that somebody is attached to stays, with its semaphore."""
    segment = attach(prefix)
    try:
        there = objects_of(prefix)
        with pytest.raises(SegmentError, match="is in use"):
            destroy(prefix)
        assert there == objects_of(prefix)
    finally:
        segment.leave()


@pytest.mark.parametrize("how", ["destroy", "another size"])
def test_who_has_lost_his_descriptors_is_told(prefix: str, how: str) -> None:
    """No lock shows him; but what he reads is dead as soon as the segment is removed."""
    segment = attach(prefix)
    description = segment._description
    assert description is not None
    os.close(description.fd)
    if how == "destroy":
        assert destroy(prefix)
    else:
        attach(prefix, 2 * MIN_SIZE).leave()
    assert at.DEAD == segment.words[at.H_STATE]
    assert not segment.is_current()
    segment.leave()


def test_destroy_takes_one_host(prefix: str) -> None:
    """Where several hosts share a /dev/shm, one is removed and the others stay."""
    for host_id in ("", "a", "b"):
        attach(prefix, host_id=host_id).leave()
    assert destroy(prefix, "a")
    assert not destroy(prefix, "a")
    assert 4 == len(objects_of(prefix))
    assert destroy(prefix)
    assert destroy(prefix, "b")
