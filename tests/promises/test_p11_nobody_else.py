"""P11: objects and files are the user's own; what is foreign or broken is refused or replaced, never trusted."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import zoocache
from tests.children import Children
from tests.forks import Forks
from tests.shared_memory import objects_of
from zoocache import ConfigError, SegmentRefused, cacheable, configure, invalidate
from zoocache._zoocache import Core
from zoocache.shm import identity

NOBODY = 65_534


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_all_that_is_made_is_the_users_alone(lmdb: Path, prefix: str, children: Children, umask: int) -> None:
    """Objects in shared memory, files and folders of a storage: nobody else can read or write them."""
    text = f"import os, zoocache; os.umask({umask}); zoocache.set('k', 1); zoocache.invalidate('a'); print('ok')"
    assert "ok\n" == children.code(text).output()
    made = [*objects_of(prefix), lmdb, *lmdb.rglob("*")]
    assert 5 < len(made)
    for path in made:
        info = path.lstat()
        for_others = 0 if stat.S_ISLNK(info.st_mode) else stat.S_IMODE(info.st_mode) & 0o077
        assert (os.geteuid(), 0) == (info.st_uid, for_others), path
    zoocache.set("k", 2)
    assert 2 == zoocache.get("k")


def test_names_tell_the_user(prefix: str) -> None:
    """Two users with one prefix have two segments."""
    invalidate("a")
    assert all(f"-{os.geteuid()}-" in path.name for path in objects_of(prefix))


@pytest.fixture
def segment_file(prefix: str) -> Path:
    """Where this test's segment will be."""
    return Path(identity.segment_file(identity.segment_name(prefix)))


def test_a_segment_that_others_may_write_is_refused(segment_file: Path) -> None:
    """Somebody prepared an object that is open to all: it is not used, and the error says how to get rid of it."""
    segment_file.touch()
    segment_file.chmod(0o666)
    get = cacheable(lambda: 1)
    with pytest.raises(SegmentRefused, match=r"open to others.*[Rr]emove"):
        get()
    with pytest.raises(SegmentRefused):
        invalidate("a")
    segment_file.unlink()
    assert 1 == get()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_segment_of_another_user_is_refused(segment_file: Path) -> None:
    """An object of our name that belongs to another uid is not used."""
    segment_file.touch(0o600)
    os.chown(segment_file, NOBODY, NOBODY)
    with pytest.raises(SegmentRefused, match=str(NOBODY)):
        invalidate("a")


def test_a_link_in_the_segments_place(segment_file: Path, tmp_path: Path) -> None:
    """A symbolic link that leads elsewhere is not followed into somebody's file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    segment_file.symlink_to(victim)
    with pytest.raises(zoocache.SegmentError):
        invalidate("a")
    assert "precious" == victim.read_text()


@pytest.mark.parametrize("size", [1, 100, 4096, 1 << 20, (1 << 24) - 8, 1 << 24, 3 << 20])
@pytest.mark.parametrize("content", [b"\x00", b"\xff", b"ab"], ids=["zeros", "ones", "text"])
def test_a_broken_segment_is_replaced(
    segment_file: Path, size: int, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever bytes lie there: they are not trusted, a new segment takes their place, with a word in the log."""
    segment_file.write_bytes((content * size)[:size])
    segment_file.chmod(0o600)
    numbers = iter(range(10))
    get = cacheable(deps="a")(lambda: next(numbers))
    with caplog.at_level(logging.WARNING, "zoocache"):
        assert (0, 0) == (get(), get())
    assert "replaced" in caplog.text
    invalidate("a")
    assert 1 == get()
    assert [] == Core().check()


def test_a_segment_that_is_scribbled_over_in_use(segment_file: Path, forks: Forks) -> None:
    """A header that is overwritten under running processes: they let go of it and meet in a new one."""
    numbers = iter(range(100))
    get = cacheable(deps="a")(lambda: next(numbers))
    get()
    with segment_file.open("r+b") as file:
        file.write(os.urandom(512))
    invalidate("a")
    first = get()
    assert 0 < first
    assert first == get()

    def work() -> None:
        zoocache.reset()
        invalidate("a")

    assert 0 == forks.fork(work).wait()
    assert first < get()
    assert [] == Core().check()


def test_nobodys_values_under_another_prefix(lmdb: Path, make_prefix: Callable[[], str], children: Children) -> None:
    """Two prefixes in one LMDB directory see nothing of each other."""
    zoocache.set("k", "mine")
    text = "import zoocache; print(zoocache.get('k')); zoocache.set('k', 'theirs'); zoocache.clear()"
    assert "None\n" == children.code(text, env={"ZOOCACHE_PREFIX": make_prefix()}).output()
    assert "mine" == zoocache.get("k")
    zoocache.reset()
    assert "mine" == zoocache.get("k")


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@host/zero",
        "redis://user:hunter2@host:x",
        "redis://user:hunter2@/0",
        "postgres://user:hunter2@host",
        "lmdb://user:hunter2@host/x",
        "hunter2",
        "memory://hunter2",
    ],
)
def test_no_secret_in_any_message(url: str, children: Children) -> None:
    """A password in a URL is in no error, no log, no repr."""
    with pytest.raises(ConfigError) as raised:
        configure(storage_url=url)
    assert "hunter2" not in f"{raised.value!r} {raised.value} {raised.value.__cause__!r}"
    child = children.code("import zoocache; zoocache.get('k')", env={"ZOOCACHE_STORAGE_URL": url})
    assert 1 == child.wait()
    assert "ConfigError" in child.errors()
    assert "hunter2" not in child.errors()
