"""zoocache/shm/identity.py: names of a host's objects, and whose they may be."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache.errors import SegmentRefused
from zoocache.shm import identity
from zoocache.shm.layout import LAYOUT

PREFIXES = st.text(st.characters(codec=None, exclude_categories=()), max_size=80)  # lone surrogates too


@given(PREFIXES, PREFIXES)
def test_two_prefixes_never_share_a_name(one: str, other: str) -> None:
    """Names differ exactly when prefixes differ, though they look alike once odd characters are replaced."""
    assert (one == other) == (identity.segment_name(one) == identity.segment_name(other))


@pytest.mark.parametrize(("one", "other"), [("a/b", "a_b"), ("a b", "a_b"), ("", "default"), ("x" * 41, "x" * 42)])
def test_prefixes_that_look_alike_are_apart(one: str, other: str) -> None:
    """What is replaced or cut in a name is not lost to it."""
    assert identity.segment_name(one) != identity.segment_name(other)


@given(PREFIXES)
def test_a_name_is_one_that_the_system_takes(prefix: str) -> None:
    """A leading slash and no other, plain ASCII, short enough for the semaphore's prefix and suffix."""
    name = identity.segment_name(prefix)
    assert re.fullmatch(r"/[A-Za-z0-9_.-]+", name)
    assert 255 >= len(os.path.basename(identity.semaphore_file(identity.gate_name(name))))


@given(PREFIXES, PREFIXES.filter(bool), PREFIXES.filter(bool))
def test_hosts_that_share_one_folder_are_apart(prefix: str, one: str, other: str) -> None:
    """Each host_id has a name of its own, which is no neighbour's of the others."""
    names = [identity.segment_name(prefix, host_id=host_id) for host_id in ("", one, other)]
    assert (3 if one != other else 2) == len(set(names)) == len(set(map(identity.name_of_all, names)))
    assert all(re.fullmatch(r"/[A-Za-z0-9_.@-]+", name) for name in names)
    assert all(not name.startswith(f"{identity.name_of_all(names[0])}-") for name in names[1:])
    assert 255 >= max(len(identity.semaphore_file(identity.wake_name(name))) for name in names) - len(identity.SHM_DIR)


def test_a_name_tells_user_and_layout() -> None:
    """Users and layouts are apart by name."""
    name = identity.segment_name("shop")
    assert f"/zoocache-{os.geteuid()}-shop-" == name[: name.index("shop-") + len("shop-")]
    assert identity.segment_name("shop", LAYOUT + 1) != name


def test_the_semaphore_has_a_name_of_its_own() -> None:
    """Musl keeps segments and semaphores in one folder, so their names must differ."""
    name = identity.segment_name("shop")
    assert identity.gate_name(name) != name
    assert 3 == len({name, identity.gate_name(name), identity.wake_name(name)})
    assert identity.semaphore_file(identity.gate_name(name)) != identity.segment_file(name)


def test_what_is_ours_is_taken(tmp_path: Path) -> None:
    """A plain file of this user, closed to all others, with one name."""
    path = tmp_path / "own"
    path.touch(0o600)
    identity.refuse_foreign(path.stat(), "/own")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o777])
def test_what_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or others is one too many; the message tells name, mode and way out."""
    path = tmp_path / "open"
    path.touch()
    path.chmod(mode)
    with pytest.raises(SegmentRefused, match=rf"/open .*{mode:04o}.*remove it or configure another prefix"):
        identity.refuse_foreign(path.stat(), "/open")


def test_what_has_two_names_is_refused(tmp_path: Path) -> None:
    """A hard link would let it live on after its name was removed."""
    path = tmp_path / "linked"
    path.touch(0o600)
    os.link(path, tmp_path / "second")
    with pytest.raises(SegmentRefused, match="hard link"):
        identity.refuse_foreign(path.stat(), "/linked")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe or a socket under the name is not a segment."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in (".", "pipe", "socket"):
            with pytest.raises(SegmentRefused, match="not a regular object"):
                identity.refuse_foreign((tmp_path / name).stat(), "/odd")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    """Root too does not trust what another user made; the message tells both."""
    path = tmp_path / "theirs"
    path.touch(0o600)
    os.chown(path, 1234, 1234)
    with pytest.raises(SegmentRefused, match="belongs to uid 1234, not to uid 0"):
        identity.refuse_foreign(path.stat(), "/theirs")
