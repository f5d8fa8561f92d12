"""Tests of zoocache.shm.neighbours."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import zoocache
from tests.children import Children
from zoocache import cacheable, configure, invalidate
from zoocache.shm import identity
from zoocache.shm import layout as at
from zoocache.shm.attachment import attach
from zoocache.shm.layout import LAYOUT
from zoocache.shm.neighbours import Neighbours
from zoocache.shm.segment import Segment


def segment_of_layout(prefix: str, layout: int) -> Segment:
    """A segment under another layout's name: the header, which is all that a neighbour looks at, is the same."""
    segment = attach(prefix)
    other = identity.segment_file(identity.segment_name(prefix, layout))
    os.rename(identity.segment_file(segment.name), other)
    return segment


def test_an_invalidation_raises_the_floor_of_a_neighbour_that_was_there(prefix: str) -> None:
    """What another release holds on this host is stale after an invalidation by this one."""
    other = segment_of_layout(prefix, LAYOUT + 1)
    own = attach(prefix)
    neighbours = Neighbours(own.name, own.words)
    before = other.words[at.H_SEQ]
    neighbours.raise_floors()
    assert (before + 1, before + 1) == (other.words[at.H_FLOOR], other.words[at.H_SEQ])
    assert 0 == other.words[at.H_INSERTS] & 1
    assert 0 == own.words[at.H_FLOOR]


def test_a_newcomer_is_found(prefix: str) -> None:
    """Who came first finds the neighbour that came later, because the newcomer has moved a word."""
    first = segment_of_layout(prefix, LAYOUT + 1)
    first.name = identity.segment_name(prefix, LAYOUT + 1)
    neighbours_of_first = Neighbours(first.name, first.words)
    second = attach(prefix)
    Neighbours(second.name, second.words)
    neighbours_of_first.raise_floors()
    assert 1 == second.words[at.H_FLOOR]


def test_the_public_invalidate_reaches_the_neighbour(prefix: str, children: Children) -> None:
    """A process of another layout drops what it holds once `invalidate` has returned here."""
    other = segment_of_layout(prefix, LAYOUT + 1)
    configure(prefix=prefix)

    @cacheable(deps=["a:b"])
    def value() -> int:
        return 1

    value()
    invalidate("x")
    assert other.words[at.H_SEQ] == other.words[at.H_FLOOR] == 1
    zoocache.clear()
    assert other.words[at.H_SEQ] == other.words[at.H_FLOOR] == 2


def test_a_neighbour_that_lost_its_name_is_reached(prefix: str) -> None:
    """Who is still attached to a neighbour's removed segment is told all the same, and its absence is no error."""
    other = segment_of_layout(prefix, LAYOUT + 1)
    own = attach(prefix)
    neighbours = Neighbours(own.name, own.words)
    (found,) = neighbours._mapped.values()
    os.unlink(identity.segment_file(identity.segment_name(prefix, LAYOUT + 1)))
    found.raise_floor()
    neighbours.raise_floors()
    assert 1 == other.words[at.H_FLOOR] == other.words[at.H_SEQ]


def test_a_neighbour_whose_descriptor_was_closed(prefix: str) -> None:
    """It is reached all the same: what was closed is opened anew."""
    other = segment_of_layout(prefix, LAYOUT + 1)
    own = attach(prefix)
    neighbours = Neighbours(own.name, own.words)
    (found,) = neighbours._mapped.values()
    assert found._description is not None
    os.close(found._description.fd)
    neighbours.raise_floors()
    assert 1 == other.words[at.H_FLOOR] == other.words[at.H_SEQ]


def test_a_retired_neighbour_stays_retired(prefix: str) -> None:
    """A neighbour that is retired while its floor is being raised stays dead, and that is no error."""
    other = segment_of_layout(prefix, LAYOUT + 1)
    own = attach(prefix)
    (found,) = Neighbours(own.name, own.words)._mapped.values()
    other.retire()
    found._raise_floor()
    assert at.NEVER == other.words[at.H_INSERTS]
    assert at.DEAD == other.words[at.H_STATE]


def test_no_lock_of_a_neighbour_is_inherited(prefix: str) -> None:
    """Between two raisings there is no description of the neighbour's lock that a forked child could keep."""
    segment_of_layout(prefix, LAYOUT + 1)
    own = attach(prefix)
    neighbours = Neighbours(own.name, own.words)
    gc.collect()  # what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    neighbours.raise_floors()
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_foreign_object_is_no_neighbour(prefix: str) -> None:
    """An object that is open to others, or too short, under a neighbour's name is left alone."""
    for layout, mode in ((LAYOUT + 1, 0o666), (LAYOUT + 2, 0o600)):
        file = Path(identity.segment_file(identity.segment_name(prefix, layout)))
        file.write_bytes(b"\0" * (8192 if mode == 0o666 else 8))
        file.chmod(mode)
    own = attach(prefix)
    neighbours = Neighbours(own.name, own.words)
    own.words[at.H_NEIGHBOURS] += 1
    neighbours.raise_floors()
    file = Path(identity.segment_file(identity.segment_name(prefix, LAYOUT + 1)))
    assert b"\0" * 8192 == file.read_bytes()
