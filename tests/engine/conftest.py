"""What the tests of the engine share."""

from __future__ import annotations

from pathlib import Path

import pytest


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
