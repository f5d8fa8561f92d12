"""The world of a promise, and the storages in which it must hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.children import Children
from tests.peers import Peer, fork_peer, start_peer

STORAGES = ["memory", "lmdb", "redis", "redis+bus"]


def storage_url(kind: str, folder: Path) -> str:
    """The URL of a new storage in a folder."""
    return "memory://" if kind == "memory" else f"lmdb://{folder / 'cache'}"


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    (folder / ".score").write_bytes(bytes(16))
    monkeypatch.setenv("WORLD", str(folder))


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each storage in turn, in force here and in all children; its kind."""
    kind: str = request.param
    storage, _, bus = kind.partition("+")
    server = request.getfixturevalue("redis_url") if storage == "redis" or bus else None
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", server if storage == "redis" else storage_url(storage, tmp_path))
    if bus:
        monkeypatch.setenv("ZOOCACHE_BUS_URL", server)
    return kind


@pytest.fixture(params=[kind for kind in STORAGES if kind in {"memory", "lmdb"}])
def near(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each storage that is asked without waiting for another machine, in force here and in all children; its kind."""
    kind: str = request.param
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", storage_url(kind, tmp_path))
    return kind


@pytest.fixture
def lmdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An LMDB storage, in force here and in all children; its directory."""
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", storage_url("lmdb", tmp_path))
    return tmp_path / "cache"


@pytest.fixture
def peer(children: Children) -> Callable[[], Peer]:
    """Forks peers."""
    return lambda: fork_peer(children)


@pytest.fixture
def stranger(children: Children) -> Callable[[], Peer]:
    """Starts peers in fresh interpreters."""
    return lambda: start_peer(children)
