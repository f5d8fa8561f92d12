"""P10: a program that closes what it has not opened, as those do that become daemons."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

import zoocache
from tests.children import Child, Children
from tests.shm.locking import is_free
from zoocache import cacheable, invalidate

FILES = 40
"""More than the library has open: each of its numbers gets another file."""

FIRST = 3
"""The first descriptor that is none of the standard ones."""

truth = [0]


@cacheable(deps="truth")
def get() -> int:
    """The truth."""
    return truth[0]


def change_and_check(number: int) -> None:
    """What is kept is handed out until it is invalidated."""
    before = get()
    truth[0] = number
    assert before == get()
    invalidate("truth")
    assert (number, number) == (get(), get())


def become_daemon(folder: str) -> None:
    """In a child that has used the cache: two forks, then close all (Stevens and Rago, APUE, 13.3), and go on. It stays
    in its session, so that the test can end it."""
    change_and_check(1)
    for _ in range(2):
        if os.fork():
            os._exit(0)
    go_on(folder, again=False)


def close_and_go_on(folder: str) -> None:
    """In a child that has used the cache: the same without a fork."""
    logging.basicConfig()
    change_and_check(1)
    go_on(folder, again=True)


def go_on(folder: str, *, again: bool) -> None:
    """Close all, have files under those numbers, locked, and use the cache; `again`: close what that has opened."""
    os.closerange(FIRST, 1024)
    files = {path: os.open(path, os.O_RDWR | os.O_CREAT) for path in (Path(folder, str(at)) for at in range(FILES))}
    assert [*range(FIRST, FIRST + FILES)] == [*files.values()]
    for fd in files.values():
        fcntl.flock(fd, fcntl.LOCK_EX)
    change_and_check(2)
    truth[0] = 3
    print("ready", flush=True)
    input()
    assert 3 == get()  # another process has invalidated it
    zoocache.reset()
    change_and_check(4)
    if again:
        for number in (5, 6):
            os.closerange(FIRST + FILES, 1024)
            change_and_check(number)
    assert [] == [path for path in files if is_free(path)]
    for path, fd in files.items():
        os.write(fd, b"mine")
        assert b"mine" == path.read_bytes()
    print("done", flush=True)


def see_through(child: Child) -> None:
    """Invalidate once in this process, and wait for a good end."""
    child.wait_for("ready")
    invalidate("truth")
    child.say()
    assert "done\n" == child.output()


def test_a_daemon_goes_on(storage: str, children: Children, tmp_path: Path) -> None:
    """A daemon goes on with the cache that its parent had used: with the others, and touching none of its files."""
    see_through(children.call(become_daemon, str(tmp_path)))


def test_descriptors_that_are_closed_under_the_library(near: str, children: Children, tmp_path: Path) -> None:
    """Without a fork the library notices in time as well, and says so."""
    child = children.call(close_and_go_on, str(tmp_path))
    see_through(child)
    assert "descriptors were closed by other code" in child.errors()
