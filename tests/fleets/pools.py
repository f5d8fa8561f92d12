"""What a child of the tests of pools does: it makes a pool, shares the cache with it, and tells what it saw.

Apart from the tests, so that a child imports no pytest: that would take longer than all it does.
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

from tests.children import DEADLINE_S
from tests.crowd import Runner, followers_elsewhere, until
from tests.fleets import shop

PROCESSES = 2
ROUNDS = 5


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


def share_with_newcomers(method: str) -> None:
    """In the child: each call is the first and last of a process that inherits or starts anew."""
    shop.price("a")
    with make_pool("Pool", method, maxtasksperchild=1) as pool:
        mine = [(shop.raise_price("a"), results(begin(pool, shop.price, ["a"] * 4))) for _ in range(4)]
        theirs = [(*results(begin(pool, shop.raise_price, ["a"])), shop.price("a")) for _ in range(4)]
        kept = results(begin(pool, shop.price, ["a"] * 4))
    print(json.dumps({"mine": mine, "theirs": theirs, "kept": kept, "fills": len(shop.fills("a"))}))


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
