"""Pools of processes, however they start them, share one cache with the process that uses them.

A pool belongs to a child of the test, which does one of the things below and tells what it saw, not to the process of
the tests: a fork server keeps the environment in which the first pool of its process was made, and lives as long.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from tests.children import DEADLINE_S, Children
from tests.crowd import Runner, followers_elsewhere, until
from tests.fleets import shop
from tests.fleets.conftest import STORES, in_stores
from zoocache._zoocache import Core

PROCESSES = 2
ROUNDS = 5

each_pool = pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
each_method = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


def make_pool(kind: str, method: str, **options: Any) -> Any:
    """A pool of that kind, whose processes start in that way."""
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["tests.fleets.shop"])
    if kind == "Pool":
        return context.Pool(PROCESSES, **options)
    return ProcessPoolExecutor(PROCESSES, mp_context=context, **options)


def begin(pool: Any, function: Callable[[str], Any], items: Sequence[str]) -> list[Any]:
    """Have a pool call a function with each item; what stands for the results."""
    if isinstance(pool, ProcessPoolExecutor):
        return [pool.submit(function, item) for item in items]
    return [pool.apply_async(function, (item,)) for item in items]


def results(begun: list[Any]) -> list[Any]:
    """Wait for what was begun."""
    return [each.result(DEADLINE_S) if isinstance(each, Future) else each.get(DEADLINE_S) for each in begun]


def share(kind: str, method: str) -> None:
    """In the child: prices rise in it, in its pool, and while the pool asks for them."""
    shop.price("a")
    with make_pool(kind, method) as pool:
        results(begin(pool, shop.price, ["a"] * 6))
        mine = [(shop.raise_price("a"), results(begin(pool, shop.price, ["a"] * 6))) for _ in range(ROUNDS)]
        theirs = [(*results(begin(pool, shop.raise_price, ["b"])), shop.price("b")) for _ in range(ROUNDS)]
        asked = begin(pool, shop.ask, "cde" * 40)
        for number in range(40):
            shop.raise_price("cde"[number % 3])
        print(json.dumps({"mine": mine, "theirs": theirs, "asked": results(asked)}))


@each_pool
@each_method
def test_a_pool_shares_the_cache_of_its_user(storage: str, kind: str, method: str, children: Children) -> None:
    """A price that rose in the user of a pool is never followed by an old one in the pool, nor the other way round."""
    seen = json.loads(children.call(share, kind, method).output())
    risen = range(1, ROUNDS + 1)
    assert [[new, [new] * 6] for new in risen] == seen["mine"]
    assert [[new, new] for new in risen] == seen["theirs"]
    assert (120, []) == (len(seen["asked"]), shop.stale(seen["asked"]))
    most = 1 if storage in STORES else PROCESSES + 1
    assert most * (ROUNDS + 1) >= len(shop.fills("a"))
    assert [] == Core().check()


def share_with_newcomers(method: str) -> None:
    """In the child: each call is the first and last of a process that inherits or starts anew."""
    shop.price("a")
    with make_pool("Pool", method, maxtasksperchild=1) as pool:
        mine = [(shop.raise_price("a"), results(begin(pool, shop.price, ["a"] * 4))) for _ in range(4)]
        theirs = [(*results(begin(pool, shop.raise_price, ["a"])), shop.price("a")) for _ in range(4)]
        kept = results(begin(pool, shop.price, ["a"] * 4))
    print(json.dumps({"mine": mine, "theirs": theirs, "kept": kept, "fills": len(shop.fills("a"))}))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_processes_of_one_call_each(storage: str, method: str, children: Children) -> None:
    """A process that lives for one call has nothing old of the one that it comes from, and what it says stays said."""
    seen = json.loads(children.call(share_with_newcomers, method).output())
    assert [[new, [new] * 4] for new in range(1, 5)] == seen["mine"]
    assert [[new, new] for new in range(5, 9)] == seen["theirs"]
    assert [8] * 4 == seen["kept"]
    if storage in STORES:
        assert 9 == seen["fills"]
    assert [] == Core().check()


def lose_a_process(kind: str, method: str) -> None:
    """In the child: one of its pool is killed while it computes what the child waits for."""
    with make_pool(kind, method) as pool:
        shop.close_gate("a")
        (lost,) = begin(pool, shop.price, ["a"])
        until(lambda: shop.fills("a"))
        follower = Runner(shop.price, "a")
        until(followers_elsewhere)
        os.kill(shop.fills("a")[0], signal.SIGKILL)
        until(lambda: len(shop.fills("a")) > 1)
        shop.open_gate("a")
        print(json.dumps({"pid": os.getpid(), "price": follower.result(), "fills": shop.fills("a")}))
        if kind == "ProcessPoolExecutor":  # it gives up; the other kind would have us wait for ever for what was lost
            assert isinstance(lost.exception(DEADLINE_S), BrokenProcessPool)
    with make_pool(kind, method) as pool:
        shop.raise_price("a")
        print(json.dumps({"again": results(begin(pool, shop.price, ["a"] * 6)), "fills": len(shop.fills("a"))}))


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
