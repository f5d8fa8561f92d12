"""Pools of processes, however they start them, share one cache with the process that uses them.

A pool belongs to a child of the test, which does one of the things below and tells what it saw, not to the process of
the tests: a fork server keeps the environment in which the first pool of its process was made, and lives as long.
"""

from __future__ import annotations

import json

import pytest

from tests.children import Children
from tests.fleets import shop
from tests.fleets.conftest import FLEET_S, STORES, in_stores
from tests.fleets.pools import PROCESSES, ROUNDS, lose_a_process, share, share_with_newcomers
from zoocache._zoocache import Core

each_pool = pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
each_method = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@each_pool
@each_method
def test_a_pool_shares_the_cache_of_its_user(storage: str, kind: str, method: str, children: Children) -> None:
    """A price that rose in the user of a pool is never followed by an old one in the pool, nor the other way round."""
    seen = json.loads(children.call(share, kind, method).output(FLEET_S))
    risen = range(1, ROUNDS + 1)
    assert [[new, [new] * 6] for new in risen] == seen["mine"]
    assert [[new, new] for new in risen] == seen["theirs"]
    assert (120, []) == (len(seen["asked"]), shop.stale(seen["asked"]))
    most = 1 if storage in STORES else PROCESSES + 1
    assert most * (ROUNDS + 1) >= len(shop.fills("a"))
    assert [] == Core().check()


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_processes_of_one_call_each(storage: str, method: str, children: Children) -> None:
    """A process that lives for one call has nothing old of the one that it comes from, and what it says stays said."""
    seen = json.loads(children.call(share_with_newcomers, method).output(FLEET_S))
    assert [[new, [new] * 4] for new in range(1, 5)] == seen["mine"]
    assert [[new, new] for new in range(5, 9)] == seen["theirs"]
    assert [8] * 4 == seen["kept"]
    if storage in STORES:
        assert 9 == seen["fills"]
    assert [] == Core().check()


@in_stores
@each_pool
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_killed_process_of_a_pool(storage: str, kind: str, method: str, children: Children) -> None:
    """Who waits for a process of a pool that is killed in the middle of a fill takes over, alone."""
    child = children.call(lose_a_process, kind, method)
    seen, afterwards = json.loads(child.line()), json.loads(child.line())
    assert ("", 0, 2) == (child.output(), seen["price"], len(seen["fills"]))
    assert seen["pid"] == seen["fills"][1] == child.pid != seen["fills"][0]
    assert {"again": [1] * 6, "fills": 3} == afterwards
    assert [] == Core().check()
