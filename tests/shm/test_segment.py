"""zoocache/shm/segment.py: attached once made, made once, let go when it is an orphan."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import posix_ipc
import pytest

from tests.children import DEADLINE_S, Children
from tests.crowd import Runner
from tests.forks import Forks
from tests.shared_memory import objects_of
from tests.shm.locking import PATIENT_S, shared_words
from zoocache.errors import Busy, SegmentError
from zoocache.shm import identity, kernel
from zoocache.shm import object as object_room
from zoocache.shm.attachment import attach, attach_to_existing, destroy
from zoocache.shm.layout import (
    DEAD,
    H_CAUGHT_UP,
    H_FLOOR,
    H_INCARNATION,
    H_SEQ,
    H_STATE,
    LIVE,
    LOCK_ATTACHED,
    MIN_SIZE,
    NEVER,
)
from zoocache.shm.object import CURRENT_S
from zoocache.shm.outbox import DONE
from zoocache.shm.segment import Orphaned, Segment

Attach = Callable[..., Segment]


def object_file(prefix: str) -> Path:
    """Where Linux shows the segment of a prefix."""
    return Path(identity.segment_file(identity.segment_name(prefix)))


def gate_file(prefix: str) -> Path:
    """Where Linux shows its semaphore."""
    return Path(identity.semaphore_file(identity.gate_name(identity.segment_name(prefix))))


def move_seq(segment: Segment) -> int:
    """A mutation."""
    segment.words[H_SEQ] += 1
    return segment.words[H_SEQ]


def lose_name(prefix: str) -> None:
    """What a person's rm does, and time enough for the loss to be looked for."""
    object_file(prefix).unlink()
    time.sleep(CURRENT_S)


# Attaching.


def test_all_who_attach_share_one_segment(attach_here: Attach) -> None:
    """What one writes the other reads, under one incarnation."""
    one, other = attach_here(), attach_here()
    assert 1 == one.write(move_seq, one)
    assert (1, one.incarnation) == (other.words[H_SEQ], other.incarnation)
    assert 2 == other.write(move_seq, other)
    assert 2 == one.words[H_SEQ]


def test_prefixes_are_apart(attach_here: Attach, make_prefix: Callable[[], str]) -> None:
    """Another prefix is another segment."""
    one, other = attach_here(), attach(make_prefix(), MIN_SIZE)
    one.write(move_seq, one)
    assert 0 == other.words[H_SEQ]
    other.leave()


def test_a_new_segment_is_ours_alone(attach_here: Attach, prefix: str) -> None:
    """Segment and semaphore are readable and writable by their owner only, whatever the umask."""
    before = os.umask(0)
    try:
        attach_here()
    finally:
        os.umask(before)
    assert [0o100600] * 2 == [path.stat().st_mode for path in (object_file(prefix), gate_file(prefix))]


def test_a_new_segment_has_all_its_room(attach_here: Attach, prefix: str) -> None:
    """The memory is there from the beginning, so that no later store can find none."""
    attach_here()
    info = object_file(prefix).stat()
    assert MIN_SIZE == info.st_size <= info.st_blocks * 512


def test_what_was_written_outlives_who_wrote_it(attach_here: Attach) -> None:
    """Nothing is unlinked at the end: the next one finds the segment as it was left."""
    first = attach_here()
    first.write(move_seq, first)
    incarnation = first.incarnation
    first.leave()
    again = attach_here()
    assert (1, incarnation) == (again.words[H_SEQ], again.incarnation)


def test_the_end_of_a_process_unlinks_nothing(prefix: str, children: Children) -> None:
    """An interpreter that attached and ended left the segment's name where it was, and no thread and no warning."""
    code = "import sys; from zoocache.shm.attachment import attach; s = attach(sys.argv[1], 262144); s.write(int)"
    child = children.code(code, prefix)
    assert "" == child.output()
    assert "" == child.errors()
    assert object_file(prefix).exists()


def test_an_incarnation_is_never_used_twice(attach_here: Attach, prefix: str) -> None:
    """A segment that was removed and made anew has another incarnation."""
    one = attach_here()
    lose_name(prefix)
    assert one.incarnation != attach_here().incarnation


COLD_ROUNDS, NEWCOMERS = 12, 5


def test_many_attach_at_once_from_cold(prefix: str, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many create the segment at the same moment, they end up on one, with its name, whole."""
    monkeypatch.setattr(object_room, "CREATION_S", DEADLINE_S)
    words = shared_words(NEWCOMERS + 2)

    def come(place: int) -> None:
        while not words[NEWCOMERS]:
            time.sleep(0)
        segment = attach(prefix, MIN_SIZE, PATIENT_S)
        segment.write(move_seq, segment)
        words[place] = segment.words[H_INCARNATION]
        assert segment.is_current()

    for _ in range(COLD_ROUNDS):
        object_file(prefix).unlink(missing_ok=True)
        gate_file(prefix).unlink(missing_ok=True)
        words[NEWCOMERS] = 0
        newcomers = [forks.fork(come, place) for place in range(NEWCOMERS)]
        words[NEWCOMERS] = 1
        assert [0] * NEWCOMERS == [child.wait() for child in newcomers]
        assert 1 == len({words[place] for place in range(NEWCOMERS)})
    last = attach(prefix)
    assert NEWCOMERS == last.words[H_SEQ]
    last.leave()


def test_newcomers_wait_for_a_creator(prefix: str, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is making the segment the others wait; they never see a half of it, and never make a second."""
    monkeypatch.setattr(object_room, "CREATION_S", DEADLINE_S)
    code = "import sys; from zoocache.shm.attachment import attach; attach(sys.argv[1], 262144); print('made'); input()"
    creator = children.code(code, prefix, points="segment.headed=stop")
    creator.wait_stopped()
    newcomers = [Runner(attach, prefix, MIN_SIZE) for _ in range(3)]
    creator.resume()
    creator.wait_for("made")
    attached = [newcomer.result() for newcomer in newcomers]
    assert 1 == len({segment.incarnation for segment in attached})
    for segment in attached:
        segment.leave()


def test_a_creator_that_stopped_is_told_of(prefix: str, children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever for one who stopped while making the segment, and nobody takes it from him."""
    monkeypatch.setattr(object_room, "CREATION_S", 0.1)
    code = "import sys; from zoocache.shm.attachment import attach; attach(sys.argv[1], 262144); print('made'); input()"
    creator = children.code(code, prefix, points="segment.headed=stop")
    creator.wait_stopped()
    with pytest.raises(SegmentError, match="whoever creates it has stopped; resume or end it"):
        attach(prefix, MIN_SIZE)
    creator.kill()
    creator.wait()
    attach(prefix, MIN_SIZE).leave()


# Its size.


def test_the_size_is_fixed_at_creation(attach_here: Attach) -> None:
    """Who comes to a segment in use gets it as it is, whatever size he asks for."""
    one = attach_here(MIN_SIZE)
    other = attach_here(2 * MIN_SIZE)
    assert (one.incarnation, MIN_SIZE) == (other.incarnation, other.layout.size)


def test_who_is_alone_gets_the_size_that_he_asks_for(attach_here: Attach) -> None:
    """Once nobody is attached, an explicit size makes the segment anew; no size takes it as it is."""
    first = attach_here(MIN_SIZE)
    first.leave()
    second = attach_here(2 * MIN_SIZE)
    assert (2 * MIN_SIZE, False) == (second.layout.size, first.incarnation == second.incarnation)
    second.leave()
    third = attach_here(None)
    assert (2 * MIN_SIZE, second.incarnation) == (third.layout.size, third.incarnation)


def test_who_detaches_no_longer_counts(attach_here: Attach, prefix: str, forks: Forks) -> None:
    """A process counts as attached until it leaves or is killed, its forked children count for themselves."""
    segment = attach_here()
    readable, writable = os.pipe()

    def stay() -> None:
        segment.after_fork()
        os.write(writable, b"!")
        time.sleep(1000)

    child = forks.fork(stay)
    os.read(readable, 1)
    segment.leave()
    with pytest.raises(SegmentError, match="in use"):
        destroy(prefix)
    child.kill()
    assert destroy(prefix)
    os.close(readable)
    os.close(writable)


# What outlives those who were attached.


def test_the_first_after_all_had_gone_has_heard_nothing(attach_here: Attach) -> None:
    """A host has caught up as long as somebody is attached; who comes after that must catch up anew."""
    first = attach_here()
    first.words[H_CAUGHT_UP] = 1
    second = attach_here()
    assert 1 == second.words[H_CAUGHT_UP]
    first.leave()
    second.leave()
    assert 0 == attach_here().words[H_CAUGHT_UP]


def test_what_is_to_be_told_outlives_a_change_of_size(attach_here: Attach) -> None:
    """A segment that nobody uses is replaced by one of another size, unless its outbox holds something."""
    first = attach_here()
    place = first.write(first.outbox.append, 0, b"to be told")
    first.leave()
    second = attach_here(2 * MIN_SIZE)
    assert [b"to be told"] == [record.payload for record in second.outbox.waiting(4096)]
    second.write(second.outbox.become, place, DONE)
    second.write(second.outbox.settle)
    second.leave()
    assert 2 * MIN_SIZE == attach_here(2 * MIN_SIZE).layout.size


def test_who_makes_no_segment(prefix: str, attach_here: Attach) -> None:
    """The listener attaches to what is there, and makes nothing."""
    assert attach_to_existing(prefix) is None
    assert [] == objects_of(prefix)
    words = attach_here().words
    there = attach_to_existing(prefix)
    assert there is not None
    assert words[H_INCARNATION] == there.incarnation
    there.leave()


# Removing it.


def test_destroy_removes_both_objects(attach_here: Attach, prefix: str) -> None:
    """`destroy` removes segment and semaphore, tells whether there was one, and a new one can be made."""
    attach_here().leave()
    assert (True, True) == (object_file(prefix).exists(), gate_file(prefix).exists())
    assert (True, False) == (destroy(prefix), destroy(prefix))
    assert (False, False) == (object_file(prefix).exists(), gate_file(prefix).exists())
    assert 0 == attach_here().words[H_SEQ]


def test_destroy_refuses_while_somebody_is_attached(attach_here: Attach, prefix: str) -> None:
    """A segment in use is not removed, and goes on."""
    segment = attach_here()
    with pytest.raises(SegmentError, match="end the processes that are attached first"):
        destroy(prefix)
    assert 1 == segment.write(move_seq, segment)


def test_destroy_refuses_what_is_not_ours(attach_here: Attach, prefix: str) -> None:
    """What would not be used is not removed either."""
    attach_here().leave()
    object_file(prefix).chmod(0o666)
    with pytest.raises(SegmentError, match="0666"):
        destroy(prefix)
    assert object_file(prefix).exists()


# Orphans.


@pytest.mark.parametrize("finder", [0, 1])
def test_a_mutation_finds_the_orphan(attach_here: Attach, prefix: str, finder: int) -> None:
    """After the name is gone, the next mutation in any process retires the segment: its readers see seq move and the
    floor at the top, whoever holds it.
    """
    users = [attach_here(), attach_here()]
    users[0].write(move_seq, users[0])
    lose_name(prefix)
    with pytest.raises(Orphaned):
        users[finder].write(move_seq, users[finder])
    other = users[1 - finder]
    assert (2, NEVER, DEAD) == (other.words[H_SEQ], other.words[H_FLOOR], other.words[H_STATE])
    with pytest.raises(Orphaned):
        other.write(move_seq, other)
    with pytest.raises(Orphaned):
        other.try_write(move_seq, other)


def test_orphans_meet_again(attach_here: Attach, prefix: str) -> None:
    """All who attach anew after the name was lost are on one segment again."""
    users = [attach_here(), attach_here()]
    lose_name(prefix)
    for user in users:
        assert not user.is_current()
        user.leave()
    anew = [attach_here(), attach_here()]
    assert anew[0].incarnation == anew[1].incarnation
    assert 1 == anew[0].write(move_seq, anew[0]) == anew[1].words[H_SEQ]


def test_a_name_that_leads_elsewhere_is_lost(attach_here: Attach, prefix: str) -> None:
    """A segment is an orphan though somebody has made another under its name already."""
    old = attach_here()
    object_file(prefix).unlink()
    new = attach_here()
    assert (False, True) == (old.is_still_current(), new.is_still_current())
    with pytest.raises(Orphaned):
        old.write(move_seq, old)
    assert 1 == new.write(move_seq, new)


def test_a_burst_of_writes_finds_the_orphan_before_its_heir_is_used(attach_here: Attach, prefix: str) -> None:
    """A writer may take a removed segment for current for a moment, but not once anybody uses the one made in its
    place: an invalidation of what was computed there must get there.
    """
    old = attach_here()
    for _ in range(50):
        old.write(move_seq, old)
        object_file(prefix).unlink()
        with contextlib.suppress(Orphaned):  # nothing hangs on when it is found
            old.write(lambda: None)
        new = attach_here()  # from here on it can be used
        with pytest.raises(Orphaned):
            old.write(move_seq, old)
        old = new


def test_threads_meet_an_orphan_in_good_order(prefix: str, attach_here: Attach) -> None:
    """When one thread lets go of an orphan, the others end what they are at, or meet Orphaned: no descriptor is pulled
    from under them, and no lock stays behind.
    """
    current = [attach_here()]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            segment = current[0]
            try:
                segment.write(move_seq, segment)
                segment.slots.is_dead(segment.claim_slot(0))
            except Orphaned:
                time.sleep(0)

    threads = [Runner(write) for _ in range(3)]
    for _ in range(200):
        old, current[0] = current[0], attach_here()
        object_file(prefix).unlink()
        old.leave()
    stop.set()
    for thread in threads:
        thread.result()


def test_one_who_has_left_retires_nothing(attach_here: Attach) -> None:
    """A thread that still uses what its process has left meets Orphaned; the segment of the others stays well."""
    one, other = attach_here(), attach_here()
    one.leave()
    one.leave()
    with pytest.raises(Orphaned):
        one.write(move_seq, one)
    one.retire()
    assert (False, True, LIVE) == (one.is_current(), other.is_current(), other.words[H_STATE])


# Forks and the dead.


def test_a_child_writes_under_a_lock_of_its_own(segment: Segment, forks: Forks) -> None:
    """Parent and child exclude each other."""

    def child_writes() -> None:
        segment.after_fork()
        for _ in range(200):
            segment.write(move_seq, segment)

    child = forks.fork(child_writes)
    for _ in range(200):
        segment.write(move_seq, segment)
    assert 0 == child.wait()
    assert 400 == segment.words[H_SEQ]


def test_a_child_keeps_no_lock_of_its_dead_parent(segment: Segment, forks: Forks, prefix: str) -> None:
    """A parent that is killed inside is followed by a third process, though the child that it forked lives on with
    copies of all that it had.
    """
    readable, writable = os.pipe()

    def fork_and_stay() -> None:
        segment.after_fork()
        segment.write(int)
        if not os.fork():
            segment.after_fork()
            os.write(writable, str(os.getpid()).encode())
            time.sleep(1000)
        segment.write(lambda: (os.write(writable, b" "), time.sleep(1000)))

    parent = forks.fork(fork_and_stay)
    said = b""
    while len(said.split()) < 1 or b" " not in said:
        said += os.read(readable, 20)
    try:
        assert (False, None) == segment.try_write(int)
        parent.kill()
        assert 1 == segment.write(move_seq, segment)
        os.kill(int(said), 0)  # the child lives
    finally:
        os.kill(int(said), signal.SIGKILL)
    os.close(readable)
    os.close(writable)


def test_a_child_without_a_free_descriptor_attaches_anew(segment: Segment, forks: Forks) -> None:
    """A child that cannot have a description of its own does not go on with its parent's."""

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 4096))
        segment.after_fork()
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        with pytest.raises(Orphaned):
            segment.write(int)

    assert 0 == forks.fork(starve).wait()
    assert 1 == segment.write(move_seq, segment)
    assert LIVE == segment.words[H_STATE]


def test_a_child_finds_room_for_its_descriptor(segment: Segment, forks: Forks) -> None:
    """A process at its limit of descriptors can fork: what the lock closes makes room for what is opened."""
    segment.write(int)  # now the lock has its descriptor

    def work_at_the_limit() -> None:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        while (fd := os.open("/", os.O_RDONLY)) <= highest:
            pass  # the free numbers are used up
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd, 4096))
        segment.after_fork()
        segment.write(move_seq, segment)

    assert 0 == forks.fork(work_at_the_limit).wait()
    assert 1 == segment.words[H_SEQ]


def test_leaving_gives_all_descriptors_back(attach_here: Attach) -> None:
    """Who attached, wrote, claimed a slot and left holds no descriptor more than before."""
    attach_here().leave()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        segment = attach_here()
        segment.write(int)
        segment.claim_slot(0)
        segment.leave()
        del segment
    gc.collect()
    # What is left are the mappings that the fixture refers to: one descriptor each.
    assert before + 5 >= len(os.listdir("/proc/self/fd"))


def test_a_write_is_busy_while_another_process_is_inside(prefix: str, attach_here: Attach, forks: Forks) -> None:
    """A stopped writer is not robbed, readers go on, and when it is gone the next one writes."""
    segment = attach_here(lock_timeout_s=0.1)
    readable, writable = os.pipe()

    def stay() -> None:
        mine = attach(prefix)
        mine.write(lambda: (os.write(writable, b"!"), time.sleep(1000)))

    child = forks.fork(stay)
    os.read(readable, 1)
    child.stop()
    with pytest.raises(Busy):
        segment.write(move_seq, segment)
    assert (False, None) == segment.try_write(move_seq, segment)
    assert 0 == segment.words[H_SEQ]
    child.kill()
    assert 1 == segment.write(move_seq, segment)
    os.close(readable)
    os.close(writable)


def test_attached_is_told_by_the_kernel(attach_here: Attach, prefix: str) -> None:
    """The lock that counts the attached is free once all have left, however they went."""
    segment = attach_here()
    fd = os.open(object_file(prefix), os.O_RDWR)
    assert kernel.is_held(fd, LOCK_ATTACHED)
    segment.leave()
    assert not kernel.is_held(fd, LOCK_ATTACHED)
    os.close(fd)


def test_the_semaphore_may_go_at_any_time(attach_here: Attach, prefix: str, forks: Forks) -> None:
    """Removing only the semaphore harms nobody: old and new users still exclude each other."""
    old = attach_here()
    posix_ipc.unlink_semaphore(identity.gate_name(old.name))

    def write_anew() -> None:
        new = attach(prefix, None, PATIENT_S)
        for _ in range(100):
            new.write(move_seq, new)

    child = forks.fork(write_anew)
    for _ in range(100):
        old.write(move_seq, old)
    assert 0 == child.wait(DEADLINE_S)
    assert 200 == old.words[H_SEQ]
