"""The shop of a fleet, and the storages that a fleet shares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleets import shop

STORES = ["lmdb", "redis+bus"]
"""Storages in which one process computes for all."""
STORAGES = ["memory", *STORES]
FLEET_S = 110.0
"""How long a whole fleet may take, on a machine that has much else to do."""

in_stores = pytest.mark.parametrize("storage", STORES, indirect=True)


def variables(kind: str, at: Path, server: str) -> dict[str, str]:
    """What stands in the environment of a fleet that shares this kind of storage."""
    if kind == "redis+bus":
        return {"ZOOCACHE_STORAGE_URL": server, "ZOOCACHE_BUS_URL": server}
    return {"ZOOCACHE_STORAGE_URL": "memory://" if kind == "memory" else f"lmdb://{at / 'cache'}"}


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.build(tmp_path / "shop")
    monkeypatch.setenv("SHOP", str(tmp_path / "shop"))


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each storage in turn, in force here and in all children; its kind."""
    kind: str = request.param
    server = request.getfixturevalue("redis_url") if "redis" in kind else ""
    for name, value in variables(kind, tmp_path, server).items():
        monkeypatch.setenv(name, value)
    return kind
