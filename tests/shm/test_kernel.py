"""zoocache/shm/kernel.py: locks on bytes that end with their holder."""

from __future__ import annotations

import gc
import os
import signal
import time
from pathlib import Path

import pytest

from tests.children import Children
from tests.forks import Forks
from zoocache.shm import kernel

BYTE = 4096


def opened(path: Path) -> int:
    """A new description of the file."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def hold(path: Path, byte: int, ready: int) -> None:
    """In a child: take a byte, say so, and sleep."""
    assert kernel.try_exclusive(opened(path), byte)
    os.write(ready, b"!")
    time.sleep(1000)


def test_one_description_excludes_another(locked_file: Path) -> None:
    """Who holds a byte for writing keeps out all others, readers too; each byte is a lock of its own."""
    mine, other = opened(locked_file), opened(locked_file)
    assert kernel.try_exclusive(mine, BYTE)
    assert not kernel.try_exclusive(other, BYTE)
    assert not kernel.try_shared(other, BYTE)
    assert kernel.try_exclusive(other, BYTE + 1)
    os.close(mine)
    os.close(other)


def test_readers_share(locked_file: Path) -> None:
    """Several hold a byte for reading at once, and keep out who would write."""
    mine, other = opened(locked_file), opened(locked_file)
    assert kernel.try_shared(mine, BYTE)
    assert kernel.try_shared(other, BYTE)
    assert not kernel.try_exclusive(other, BYTE)
    kernel.release(mine, BYTE)
    assert kernel.try_exclusive(other, BYTE)
    os.close(mine)
    os.close(other)


def test_a_writer_becomes_a_reader_without_letting_go(locked_file: Path) -> None:
    """The step from exclusive to shared lets readers in, and no writer."""
    mine, other = opened(locked_file), opened(locked_file)
    assert kernel.try_exclusive(mine, BYTE)
    assert kernel.try_shared(mine, BYTE)
    assert not kernel.try_exclusive(other, BYTE)
    assert kernel.try_shared(other, BYTE)
    os.close(mine)
    os.close(other)


def test_is_held_tells_of_others_only(locked_file: Path) -> None:
    """A lock shows to all descriptions but the one that holds it, whichever way it is held."""
    mine, other = opened(locked_file), opened(locked_file)
    assert not kernel.is_held(other, BYTE)
    kernel.try_exclusive(mine, BYTE)
    assert (False, True) == (kernel.is_held(mine, BYTE), kernel.is_held(other, BYTE))
    kernel.try_shared(mine, BYTE)
    assert (False, True) == (kernel.is_held(mine, BYTE), kernel.is_held(other, BYTE))
    kernel.release(mine, BYTE)
    assert not kernel.is_held(other, BYTE)
    os.close(mine)
    os.close(other)


def test_release_of_nothing_is_harmless(locked_file: Path) -> None:
    """Giving back what one does not hold does nothing, to others neither."""
    mine, other = opened(locked_file), opened(locked_file)
    kernel.release(mine, BYTE)
    kernel.try_exclusive(other, BYTE)
    kernel.release(mine, BYTE)
    assert kernel.is_held(mine, BYTE)
    os.close(mine)
    os.close(other)


def test_closing_another_descriptor_loses_nothing(locked_file: Path) -> None:
    """A close of some other descriptor of the file leaves the lock alone, as it would not with classic record locks."""
    mine, other = opened(locked_file), opened(locked_file)
    kernel.try_exclusive(mine, BYTE)
    os.close(opened(locked_file))
    locked_file.read_bytes()
    assert kernel.is_held(other, BYTE)
    os.close(mine)
    os.close(other)


def test_a_kill_releases(locked_file: Path, forks: Forks) -> None:
    """The lock of a process that is killed is free as soon as the process is gone."""
    readable, writable = os.pipe()
    child = forks.fork(hold, locked_file, BYTE, writable)
    os.read(readable, 1)
    mine = opened(locked_file)
    assert not kernel.try_exclusive(mine, BYTE)
    assert -signal.SIGKILL == child.kill()
    assert kernel.try_exclusive(mine, BYTE)
    for fd in (readable, writable, mine):
        os.close(fd)


def test_a_stopped_process_keeps_its_lock(locked_file: Path, forks: Forks) -> None:
    """Whoever is stopped is not dead."""
    readable, writable = os.pipe()
    child = forks.fork(hold, locked_file, BYTE, writable)
    os.read(readable, 1)
    child.stop()
    mine = opened(locked_file)
    assert not kernel.try_exclusive(mine, BYTE)
    for fd in (readable, writable, mine):
        os.close(fd)


def test_a_forked_copy_shares_the_lock_and_a_reopened_one_does_not(locked_file: Path, forks: Forks) -> None:
    """An inherited descriptor is its parent's lock; `reopen` gives one that excludes and is excluded."""
    mine = opened(locked_file)
    assert kernel.try_exclusive(mine, BYTE)

    def look() -> None:
        assert kernel.try_exclusive(mine, BYTE)
        assert not kernel.try_exclusive(kernel.reopen(mine), BYTE)

    assert 0 == forks.fork(look).wait()
    os.close(mine)


def test_reopen_needs_no_name(locked_file: Path) -> None:
    """A description of one's own can be had though the file's name is gone, and it is of the same file."""
    mine = opened(locked_file)
    locked_file.unlink()
    other = kernel.reopen(mine)
    assert os.fstat(mine).st_ino == os.fstat(other).st_ino
    assert kernel.try_exclusive(mine, BYTE)
    assert not kernel.try_exclusive(other, BYTE)
    os.close(mine)
    os.close(other)


def test_reopen_needs_an_open_descriptor() -> None:
    """A closed descriptor cannot be reopened."""
    with pytest.raises(OSError, match="/proc/self/fd/-1"):
        kernel.reopen(-1)


def test_a_started_program_inherits_nothing(locked_file: Path, children: Children) -> None:
    """What is opened again is closed in a program that this process starts, so the program keeps no lock alive."""
    mine = opened(locked_file)
    other = kernel.reopen(mine)
    kernel.try_exclusive(other, BYTE)
    child = children.code("print('ready', flush=True); input()")
    child.wait_for("ready")
    os.close(other)
    assert kernel.try_exclusive(mine, BYTE)
    os.close(mine)


def test_a_description_closes_with_its_last_reference(locked_file: Path) -> None:
    """Whoever still refers to a description can use it; after the last one it is closed."""
    description = kernel.Description(opened(locked_file))
    fd, user = description.fd, description
    del description
    assert os.fstat(user.fd).st_ino == locked_file.stat().st_ino
    del user
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("others", ["nothing", "another file", "the same file"])
def test_a_description_that_is_closed_by_others(locked_file: Path, tmp_path: Path, others: str) -> None:
    """Who has closed what he had not opened is found out, whatever has its number since, and that is let alone."""
    description = kernel.Description(opened(locked_file))
    fd = description.fd
    os.close(fd)
    if others != "nothing":
        other = opened(locked_file) if others == "the same file" else os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
        assert fd == other
    assert not description.is_whole()
    with pytest.raises(kernel.Lost):
        description.fd  # noqa: B018
    description.close()
    if others != "nothing":
        os.close(other)


def test_a_description_closed_twice_closes_once(locked_file: Path) -> None:
    """A second close does not close what has got the number meanwhile."""
    description, other = kernel.Description(opened(locked_file)), opened(locked_file)
    fd = description.fd
    description.close()
    os.dup2(other, fd)
    description.close()
    del description
    os.close(fd)
    os.close(other)
