"""What the tests of the engine share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.children import DEADLINE_S
from zoocache.engine import mutations


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits until the server has it waits as long as a listener may take to come; forked peers have it too."""
    monkeypatch.setattr(mutations, "WAIT_S", DEADLINE_S)


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
