"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import DEADLINE_S
from tests.engine.peopled import Host, MakeHost
from zoocache.engine import mutations
from zoocache.listener import starter


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener may take long to come, and who waits until the server has it waits as long; forked peers too."""
    monkeypatch.setattr(mutations, "WAIT_S", DEADLINE_S)
    monkeypatch.setattr(starter, "STARTING_MS", 1000 * DEADLINE_S)


@pytest.fixture
def host(prefix: str, redis_url: str) -> Iterator[MakeHost]:
    """Makes hosts of which nothing runs by itself, under this test's prefix."""
    made: list[Host] = []

    def make(host_id: str, url: str = redis_url, **options: object) -> Host:
        made.append(Host(prefix, host_id, url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.leave()


@pytest.fixture(params=["memory", "lmdb"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each storage in turn, in force here and in all children; its kind."""
    kind: str = request.param
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", "memory://" if kind == "memory" else f"lmdb://{tmp_path / 'cache'}")
    return kind


@pytest.fixture
def lmdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An LMDB storage, in force here and in all children; its directory."""
    monkeypatch.setenv("ZOOCACHE_STORAGE_URL", f"lmdb://{tmp_path / 'cache'}")
    return tmp_path / "cache"
