"""Removing a segment: alone, whole, and without touching anybody else's descriptors."""

from __future__ import annotations

import gc
import os

import pytest

from tests.conftest import objects_of
from zoocache.errors import SegmentError
from zoocache.shm.segment import attach, destroy


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


def test_destroy_takes_one_host(prefix: str) -> None:
    """Where several hosts share a /dev/shm, one is removed and the others stay."""
    for host_id in ("", "a", "b"):
        attach(prefix, host_id=host_id).leave()
    assert destroy(prefix, "a")
    assert not destroy(prefix, "a")
    assert 4 == len(objects_of(prefix))
    assert destroy(prefix)
    assert destroy(prefix, "b")
