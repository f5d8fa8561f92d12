"""zoocache/shm/object.py: what lies under the name is ours and whole, or it is refused, or replaced; there is room for
it, or that is said.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import resource
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Forks
from tests.logs import said
from tests.shm import namespaces
from tests.shm.locking import PATIENT_S
from zoocache.errors import SegmentError, SegmentRefused, SegmentTooSmall
from zoocache.shm import identity
from zoocache.shm import layout as at
from zoocache.shm import object as shm_object
from zoocache.shm.attachment import attach
from zoocache.shm.layout import DEFAULT_SIZE, HEADER_WORDS, MIN_SIZE, NEVER, WORD
from zoocache.shm.object import is_sound_header, open_object, settle
from zoocache.shm.segment import Orphaned, Segment

Attach = Callable[..., Segment]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user or give files away")


@pytest.fixture
def file(prefix: str) -> Path:
    """Where the segment of this test is or would be."""
    return Path(identity.segment_file(identity.segment_name(prefix)))


@pytest.fixture
def gate(prefix: str) -> Path:
    """Where its semaphore is or would be."""
    return Path(identity.semaphore_file(identity.gate_name(identity.segment_name(prefix))))


def make_sound(prefix: str) -> int:
    """Leave a segment that nobody is attached to; its incarnation."""
    segment = attach(prefix, MIN_SIZE)
    segment.leave()
    return segment.incarnation


def write_word(file: Path, index: int, value: int) -> None:
    """Scribble."""
    with open(file, "r+b") as raw:
        raw.seek(index * WORD)
        raw.write(struct.pack("=Q", value))


# What is not ours is refused.


def refused(prefix: str, match: str) -> None:
    """Attaching fails, and leaves no descriptor behind."""
    gc.collect()  # what earlier tests left
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SegmentRefused, match=match):
        attach(prefix, MIN_SIZE)
    gc.collect()  # the mapping of what was refused
    assert before == len(os.listdir("/proc/self/fd"))


@as_root
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_another_users_object_is_refused(prefix: str, file: Path, mode: int) -> None:
    """What another user made under our name is not trusted, though we could open it."""
    make_sound(prefix)
    os.chown(file, 1234, 1234)
    file.chmod(mode)
    refused(prefix, "belongs to uid 1234, not to uid 0|belongs to another user")


@as_root
def test_what_cannot_be_opened_is_refused(prefix: str, file: Path, forks: Forks) -> None:
    """A user who may not open what has his name is told so, not shown a traceback of the system's."""
    name = identity.segment_name(prefix).replace("-0-", "-1234-", 1)
    theirs = Path(identity.segment_file(name))
    theirs.touch(0o600)

    def try_it() -> None:
        os.setuid(1234)
        refused(prefix, "cannot be opened.*belongs to another user")

    try:
        assert 0 == forks.fork(try_it).wait()
    finally:
        theirs.unlink()


def test_an_object_open_to_others_is_refused(prefix: str, file: Path) -> None:
    """Mode 0666 means that anybody may have written into it; it stays as it is."""
    make_sound(prefix)
    file.chmod(0o666)
    refused(prefix, r"0666.*remove it or configure another prefix")
    assert 0o666 == stat.S_IMODE(file.stat().st_mode)


def test_an_object_with_a_second_name_is_refused(prefix: str, file: Path) -> None:
    """A hard link is how another user keeps, or plants, an object."""
    make_sound(prefix)
    second = file.with_name(file.name + "-second")
    os.link(file, second)
    try:
        refused(prefix, "hard link")
    finally:
        second.unlink()


@pytest.mark.parametrize("kind", ["folder", "symbolic link", "broken link", "pipe", "socket"])
def test_what_is_no_plain_object_is_refused(prefix: str, file: Path, tmp_path: Path, kind: str) -> None:
    """Whatever else has the name is refused, and a link is not followed."""
    target = tmp_path / "target"
    target.touch(0o600)
    with socket.socket(socket.AF_UNIX) as server:
        plant = {
            "folder": file.mkdir,
            "symbolic link": lambda: file.symlink_to(target),
            "broken link": lambda: file.symlink_to(tmp_path / "nowhere"),
            "pipe": lambda: os.mkfifo(file, 0o600),
            "socket": lambda: server.bind(str(file)),
        }
        plant[kind]()
        try:
            with pytest.raises(SegmentError, match=r"not a regular object|No such device"):
                attach(prefix, MIN_SIZE)
        finally:
            file.rmdir() if kind == "folder" else file.unlink()
    assert 0 == target.stat().st_size


# What is not whole is replaced.

DAMAGE: dict[str, Callable[[Path], None]] = {
    "magic": lambda file: write_word(file, at.H_MAGIC, 0x1234),
    "no magic": lambda file: write_word(file, at.H_MAGIC, 0),
    "layout": lambda file: write_word(file, at.H_LAYOUT, at.LAYOUT + 1),
    "size": lambda file: write_word(file, at.H_SIZE, 2 * MIN_SIZE),
    "dead": lambda file: write_word(file, at.H_STATE, at.DEAD),
    "nodes": lambda file: write_word(file, at.H_NODES, 1 << 40),
    "slots": lambda file: write_word(file, at.H_SLOTS, 0),
    "claims": lambda file: write_word(file, at.H_CLAIMS, 3),
    "arena": lambda file: write_word(file, at.H_ARENA, NEVER),
    "floor": lambda file: write_word(file, at.H_FLOOR, NEVER),
    "seq": lambda file: write_word(file, at.H_SEQ, NEVER),
    "gen": lambda file: write_word(file, at.H_GEN, NEVER),
    "inserts": lambda file: write_word(file, at.H_INSERTS, NEVER),
    "tickets": lambda file: write_word(file, at.H_TICKETS, NEVER),
    "clock": lambda file: write_word(file, at.H_HLC, NEVER),
    "count": lambda file: write_word(file, at.H_COUNT + 1, 1 << 30),
    "use": lambda file: write_word(file, at.H_USED, 1 << 30),
    "header": lambda file: write_header(file, random.Random(5).randbytes(HEADER_WORDS * WORD)),
    "zeros": lambda file: write_header(file, bytes(HEADER_WORDS * WORD)),
    "cut to a header": lambda file: os.truncate(file, HEADER_WORDS * WORD),
    "cut to a byte": lambda file: os.truncate(file, 1),
    "cut in half": lambda file: os.truncate(file, MIN_SIZE // 2),
    "odd size": lambda file: os.truncate(file, MIN_SIZE + 3),
    "grown": lambda file: os.truncate(file, 2 * MIN_SIZE),
}


def write_header(file: Path, header: bytes) -> None:
    """Scribble over all of it."""
    with open(file, "r+b") as raw:
        raw.write(header)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_replaced_by_who_is_alone(
    prefix: str, file: Path, attach_here: Attach, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment that is damaged, cut or of another make is replaced, with a warning that names it; it begins anew."""
    incarnation = make_sound(prefix)
    write_word(file, at.H_SEQ, 77)
    DAMAGE[damage](file)
    segment = attach_here(None)
    assert [logging.WARNING] == [record.levelno for record in said(caplog)]
    assert identity.segment_name(prefix) in caplog.text
    assert (0, False) == (segment.words[at.H_SEQ], segment.incarnation == incarnation)
    assert "ok" == segment.write(str, "ok")


def test_an_empty_object_is_made_whole(prefix: str, file: Path, attach_here: Attach) -> None:
    """What a process left that was killed right after it had made the name serves the next one."""
    file.touch(0o600)
    inode = file.stat().st_ino
    assert "ok" == attach_here().write(str, "ok")
    assert inode == file.stat().st_ino


def test_a_replaced_segment_leaves_the_old_mapping_alone(prefix: str, file: Path, attach_here: Attach) -> None:
    """Damage is unlinked, never written over: who still has it mapped keeps what he has."""
    make_sound(prefix)
    kept = os.open(file, os.O_RDONLY)
    write_word(file, at.H_MAGIC, 5)
    attach_here()
    assert (0, MIN_SIZE) == (os.fstat(kept).st_nlink, os.fstat(kept).st_size)
    assert 5 == struct.unpack("=Q", os.pread(kept, 8, 0))[0]
    os.close(kept)


@pytest.mark.parametrize("damage", ["magic", "layout", "dead", "nodes", "floor", "zeros"])
def test_damage_in_use_is_retired(
    prefix: str, file: Path, attach_here: Attach, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever comes to a damaged segment that others use retires it, with a warning: they fall out and attach anew."""
    user = attach_here()
    user.write(lambda: None)
    DAMAGE[damage](file)
    seq = user.words[at.H_SEQ]
    newcomer = attach_here()
    assert "damaged while in use" in caplog.text
    assert (NEVER, at.DEAD) == (user.words[at.H_FLOOR], user.words[at.H_STATE])
    assert seq != user.words[at.H_SEQ]
    with pytest.raises(Orphaned):
        user.write(lambda: None)
    assert newcomer.incarnation == attach_here().incarnation


def test_a_user_finds_lost_sanity_himself(file: Path, attach_here: Attach) -> None:
    """A scribbled magic is found by the next writer too, without any newcomer."""
    user, other = attach_here(), attach_here()
    DAMAGE["magic"](file)
    with pytest.raises(Orphaned):
        user.write(lambda: None)
    assert (NEVER, at.DEAD) == (other.words[at.H_FLOOR], other.words[at.H_STATE])


@pytest.mark.parametrize("others", [True, False])
def test_a_name_that_goes_while_one_attaches(prefix: str, file: Path, attach_here: Attach, others: bool) -> None:
    """Who has opened an object that lost its name before he was attached begins again, alone or not."""
    make_sound(prefix)
    if others:
        attach_here()
    name = identity.segment_name(prefix)
    fd = open_object(name)
    assert fd is not None
    file.unlink()
    assert not settle(name, fd, None)
    os.close(fd)


def test_a_sound_header_is_one_that_attach_writes(segment: Segment) -> None:
    """The judge of headers takes what was written, for its own size only."""
    header = segment.words[:HEADER_WORDS].tolist()
    assert (True, False) == (is_sound_header(header, MIN_SIZE), is_sound_header(header, 2 * MIN_SIZE))


# The semaphore.


def test_a_semaphore_open_to_others_is_refused(prefix: str, gate: Path) -> None:
    """Others could hold every write up; the message names the semaphore's own file."""
    make_sound(prefix)
    gate.chmod(0o666)
    refused(prefix, f"{gate.name}.*0666")


@as_root
def test_another_users_semaphore_is_refused(prefix: str, gate: Path) -> None:
    """The same for its owner."""
    make_sound(prefix)
    os.chown(gate, 1234, 1234)
    refused(prefix, f"{gate.name}.*belongs to uid 1234|not ours")


def test_a_semaphore_whose_maker_was_killed_is_taken(prefix: str, gate: Path, attach_here: Attach) -> None:
    """The C library makes a semaphore under another name and links it; who dies in between leaves two names."""
    make_sound(prefix)
    second = gate.with_name(gate.name + "-made")
    os.link(gate, second)
    try:
        assert "ok" == attach_here().write(str, "ok")
    finally:
        second.unlink()


@pytest.mark.parametrize("size", [0, 8, 31])
def test_a_semaphore_that_was_cut_is_replaced(
    prefix: str, gate: Path, attach_here: Attach, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The first touch of a cut semaphore would be SIGBUS; it is replaced instead, with a warning."""
    make_sound(prefix)
    os.truncate(gate, size)
    assert "ok" == attach_here().write(str, "ok")
    assert f"{gate.name.removeprefix('sem.')} is damaged" in caplog.text


@pytest.mark.parametrize("value", [0, 1, 1000, 2**31 - 1])
def test_a_semaphore_with_any_value_serves(prefix: str, gate: Path, attach_here: Attach, value: int) -> None:
    """Whatever number stands in it, writes go on."""
    make_sound(prefix)
    with open(gate, "r+b") as raw:
        raw.write(struct.pack("=Q", value))
    segment = attach_here()
    assert ["ok"] * 20 == [segment.write(str, "ok") for _ in range(20)]


@as_root
def test_an_odd_umask_shuts_nobody_out(prefix: str, forks: Forks) -> None:
    """A process whose umask cuts its own rights makes objects that its next one can open."""

    def come_twice() -> None:
        os.setuid(1234)
        os.umask(0o777)
        attach(prefix, MIN_SIZE)
        second = attach(prefix)
        second.write(int)
        for path in (identity.segment_file(second.name), identity.semaphore_file(identity.gate_name(second.name))):
            assert 0o600 == stat.S_IMODE(os.stat(path).st_mode)
            os.unlink(path)

    assert 0 == forks.fork(come_twice).wait()


# Room.


@pytest.fixture
def in_namespace(forks: Forks) -> Callable[[Callable[[], object]], None]:
    """Runs something in a forked child with a mount namespace of its own; it must end well."""
    if forks.fork(namespaces.with_shm("size=64k", lambda: None)).wait():
        pytest.skip("mount namespaces are not permitted here")

    def run(work: Callable[[], object]) -> None:
        assert 0 == forks.fork(work).wait()

    return run


InNamespace = Callable[[Callable[[], object]], None]


def touch_all(segment: Segment) -> None:
    """Store into every page: SIGBUS if one is not there."""
    pages = range(HEADER_WORDS, len(segment.words), 512)
    for index in pages:
        segment.words[index] = 1
    for index in pages:
        segment.words[index] = 0


class Records(logging.Handler):
    """What was logged, in a forked child."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        logging.getLogger("zoocache").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())


@pytest.mark.parametrize(("room", "expected"), [("1m", 1 << 20), ("4m", 4 << 20), ("5m", 4 << 20), ("20m", 16 << 20)])
def test_the_default_takes_what_room_there_is(
    in_namespace: InNamespace, room: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an explicit size a small /dev/shm gets a smaller segment, with a warning, and all of it is there: with
    room for the semaphore beside it or without.
    """
    monkeypatch.setattr(shm_object, "DEFAULT_SIZE", DEFAULT_SIZE)  # as users have it

    def work() -> None:
        records = Records()
        segment = attach("room")
        assert expected == segment.layout.size
        assert (expected < DEFAULT_SIZE) == any("little room" in text for text in records.texts)
        touch_all(segment)
        assert "ok" == segment.write(str, "ok")

    in_namespace(namespaces.with_shm(f"size={room}", work))


def test_an_explicit_size_is_not_made_smaller(in_namespace: InNamespace) -> None:
    """Who asks for more than there is gets an error with the way out, and nothing is left lying about."""

    def work() -> None:
        with pytest.raises(SegmentTooSmall, match=rf"no room.*2097152 bytes.*smaller shm_size \(at least {MIN_SIZE}\)"):
            attach("room", 2 << 20)
        assert [] == os.listdir("/dev/shm")
        assert MIN_SIZE == attach("room", MIN_SIZE).layout.size

    in_namespace(namespaces.with_shm("size=1m", work))


@pytest.mark.parametrize("size", [None, MIN_SIZE])
def test_no_room_at_all_is_an_error(in_namespace: InNamespace, size: int | None) -> None:
    """Below the smallest size there is no segment, and no advice to make it smaller still."""

    def work() -> None:
        with pytest.raises(SegmentTooSmall, match=r"no room.*enlarge it or empty it$"):
            attach("room", size)
        assert [] == os.listdir("/dev/shm")

    in_namespace(namespaces.with_shm("size=64k", work))


def test_others_may_fill_the_rest(in_namespace: InNamespace) -> None:
    """A /dev/shm that fills up later takes nothing from a segment: every page of it was there from the beginning."""

    def work() -> None:
        segment = attach("room", MIN_SIZE)
        with open("/dev/shm/filler", "wb") as filler, pytest.raises(OSError, match="No space left"):
            os.posix_fallocate(filler.fileno(), 0, 1 << 20)
        free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
        with open("/dev/shm/filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, free)
        assert 0 == os.statvfs("/dev/shm").f_bavail
        touch_all(segment)
        assert "ok" == segment.write(str, "ok")
        with pytest.raises(SegmentTooSmall):
            attach("another")

    in_namespace(namespaces.with_shm("size=1m", work))


class Growing(list[int]):
    """A header to which others write: after each look they have appended, and told."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        for word in (at.H_OUT_HEAD, at.H_OUT_TAIL, at.H_SEQ, at.H_FLOOR):
            self[word] = super().__getitem__(word) + 8
        return found


def test_a_header_that_changes_meanwhile_is_sound(prefix: str) -> None:
    """What others append and tell while a header is looked at does not make it one of a damaged segment."""
    segment = attach(prefix, MIN_SIZE)
    header = Growing(segment.words[:HEADER_WORDS].tolist())
    assert is_sound_header(header, MIN_SIZE)
    assert 0 < list(header)[at.H_OUT_TAIL]
    segment.leave()


def test_without_shared_memory_there_is_a_private_segment(in_namespace: InNamespace, forks: Forks) -> None:
    """Where /dev/shm is missing there is one warning, and a segment that forked children share."""

    def work() -> None:
        records = Records()
        segment = attach("room", MIN_SIZE, PATIENT_S)
        assert (False, 1) == (segment.shared, len(records.texts))
        assert "stay inside this process and the children it forks" in records.texts[0]
        assert PATIENT_S == segment.lock._timeout_s
        touch_all(segment)
        child = os.fork()
        if not child:
            segment.after_fork()
            for _ in range(100):
                segment.write(add_one, segment)
            os._exit(0)
        for _ in range(100):
            segment.write(add_one, segment)
        assert (child, 0) == os.waitpid(child, 0)
        assert 200 == segment.words[at.H_SEQ]
        assert 1 == len(records.texts)

    in_namespace(namespaces.without_shm(work))


def add_one(segment: Segment) -> None:
    """A mutation."""
    segment.words[at.H_SEQ] += 1


def test_a_shm_that_is_closed_to_us_is_an_error(in_namespace: InNamespace) -> None:
    """Where a user may not make objects he is told so: what he would share in silence with nobody is no cache."""

    def work() -> None:
        os.setuid(1234)
        with pytest.raises(SegmentRefused, match="closed to this one"):
            attach("room")

    in_namespace(namespaces.with_shm("size=1m,mode=755", work))


def test_a_shm_that_is_read_only_is_an_error(in_namespace: InNamespace) -> None:
    """The same for one that nobody may write to."""

    def work() -> None:
        with pytest.raises(SegmentError, match=r"Read-only file system; mount /dev/shm so that it may be written to"):
            attach("room")

    in_namespace(namespaces.with_shm("size=1m", work, namespaces.MS_RDONLY))


def test_a_shm_without_room_for_another_file_is_an_error(in_namespace: InNamespace) -> None:
    """Where the file system has no inode left, the message does not speak of bytes."""

    def work() -> None:
        with pytest.raises(SegmentError, match="as many files as it may; remove some"):
            attach("room")

    in_namespace(namespaces.with_shm("size=1m,nr_inodes=1", work))


def test_without_proc_there_is_an_error(in_namespace: InNamespace, prefix: str) -> None:
    """Where a process cannot open its own descriptors again it is told what is missing."""

    def work() -> None:
        with pytest.raises(SegmentError, match=r"cannot be attached.*/proc/self/fd"):
            attach(prefix, MIN_SIZE)

    in_namespace(namespaces.without_proc(work))


@pytest.mark.parametrize("free", range(4))
def test_without_free_descriptors(prefix: str, forks: Forks, free: int) -> None:
    """At the limit of descriptors attaching works or says so, leaks none, and works as soon as there are some."""

    def starve() -> None:
        highest = max(fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}"))
        for fd in range(highest):  # no free number below the highest
            if not os.path.exists(f"/proc/self/fd/{fd}"):
                os.dup2(0, fd)
        gc.collect()  # what earlier tests left
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + free, 4096))
        for _ in range(3):
            with contextlib.suppress(SegmentError):
                attach(prefix, MIN_SIZE).leave()
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        gc.collect()  # the mappings of those that were left
        assert before == len(os.listdir("/proc/self/fd"))
        segment = attach(prefix, MIN_SIZE)
        assert "ok" == segment.write(str, "ok")

    assert 0 == forks.fork(starve).wait()
