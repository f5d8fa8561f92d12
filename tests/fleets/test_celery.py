"""Celery for real: a broker, prefork workers and a process of a web site that share one cache.

There is no `zoocache.contrib.celery`, because nothing is needed beyond `import zoocache`. A pool process is forked by
`os.fork`, after which the cache has locks, descriptors and an LMDB of its own. It ends by `os._exit` or by a signal, so
no handler at exit is called: what a process held in the segment is free once the kernel knows it as dead, and a flight
that it led is taken over. Tasks are plain calls: nothing is opened at the beginning of one or closed at its end, and a
process that serves one task only (`worker_max_tasks_per_child=1`) leaves nothing behind that adds up.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.children import Child, Children
from tests.crowd import followers_elsewhere, until
from tests.fleets import shop
from tests.fleets.conftest import STORES, in_stores
from tests.peers import Peer, start_peer
from tests.servers import Server
from zoocache._zoocache import Core

pytest.importorskip("celery", reason="celery is not installed: the dependency group `fleets` has it")

POOL = 2
COMMAND = "import sys; from celery.__main__ import main; sys.argv[0] = 'celery'; main()"
OPTIONS = ["-P", "prefork", "-c", str(POOL), "-l", "WARNING", "--without-gossip", "--without-mingle"]


@pytest.fixture(autouse=True)
def _broker(shared_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", f"redis+socket://{shared_server.path}")


@pytest.fixture
def web(children: Children) -> Callable[[], Peer]:
    """Starts a process of the web site."""
    return lambda: start_peer(children, world="tests.fleets.web")


@pytest.fixture
def workers(children: Children) -> Callable[..., list[Child]]:
    """Starts workers with these names, which are those of their queues too; they take tasks when it returns."""

    def start(*names: str, options: list[str] | None = None) -> list[Child]:
        command = ["-A", "tests.fleets.celery_app", "worker", *OPTIONS, *(options or [])]
        started = [children.code(COMMAND, *command, "-n", name, "-Q", name) for name in names]
        for worker in started:
            worker.wait_for("ready")
        return started

    return start


def leave(site: Peer, *workers: Child) -> None:
    """End them as an administrator would, who waits until it is done."""
    site.end()
    for worker in workers:
        worker.process.send_signal(signal.SIGTERM)
    for worker in workers:
        assert 0 == worker.wait(), worker.errors()


def test_workers_and_a_site(storage: str, web: Callable[[], Peer], workers: Callable[..., list[Child]]) -> None:
    """A price that rose in the site is never followed by an old one in a task, nor one that a task raised in the site
    or in another worker.
    """
    names = ["one", "two"]
    running = workers(*names)
    site = web()
    for new in range(1, 4):
        assert new == site.call("raise_price", "tea")
        assert [new] * 4 == [site.call("do", name, "price", "tea") for name in names * 2]
    for new in range(1, 4):
        here, there = names[new % 2], names[1 - new % 2]
        assert new == site.call("do", here, "raise_price", "ink")
        assert (new, new) == (site.call("do", there, "price", "ink"), site.call("price", "ink"))
        assert {"tea": 3, "ink": new} == site.call("do", there, "bill", ["tea", "ink"])
    answers = site.call("trade", names, ["a", "b", "c"], 30)
    assert (60, []) == (len(answers), shop.stale(answers))
    most = 1 if storage in STORES else len(names) * POOL + 1
    assert 4 * most >= len(shop.fills("tea"))
    assert (1 if storage in STORES else 2) == len(shop.fills("warm"))
    leave(site, *running)
    assert [] == Core().check()


def test_a_process_for_each_task(storage: str, web: Callable[[], Peer], workers: Callable[..., list[Child]]) -> None:
    """With worker_max_tasks_per_child=1 each task starts from what the worker's main process knew when it warmed up,
    and yet it gives no old price; what it raises or keeps outlives it.
    """
    (worker,) = workers("one", options=["-c", "4", "--max-tasks-per-child", "1"])
    site = web()
    assert [0] * 4 == ask_at_once(site, "one", "warm", 4)
    assert [worker.pid] == shop.fills("warm")
    # Not in many rounds: processes that end at one moment Celery replaces five seconds later, at its next look.
    assert 1 == site.call("raise_price", "warm")
    assert [1] * 3 == ask_at_once(site, "one", "warm", 3)
    assert 2 == site.call("do", "one", "raise_price", "warm") == site.call("price", "warm")
    assert [2] == ask_at_once(site, "one", "warm", 1)
    fills = shop.fills("warm")
    assert (3 if storage in STORES else 6) == len(fills) == len(set(fills))
    leave(site, worker)
    assert [] == Core().check()


def ask_at_once(site: Peer, worker: str, item: str, times: int) -> list[int]:
    """Send so many tasks that tell what an item costs, and wait for them."""
    sent = [site.call("send", worker, "price", item) for _ in range(times)]
    return [site.call("result", number) for number in sent]


@in_stores
def test_a_worker_is_killed_in_a_fill(
    storage: str, web: Callable[[], Peer], workers: Callable[..., list[Child]]
) -> None:
    """Who waits for a task that dies in the middle of a fill takes over, alone: when a process of a pool is killed, and
    when a worker is, with all its processes.
    """
    one, two = workers("one", "two")
    site = web()

    kill_in_a_fill(site, "tea", lambda victim: os.kill(victim, signal.SIGKILL))
    assert [0, 0] == [site.call("do", worker, "price", "tea") for worker in ("one", "two")]
    kill_in_a_fill(site, "ink", lambda victim: os.killpg(one.pid, signal.SIGKILL))
    assert -signal.SIGKILL == one.wait()
    assert (2, 2) == (len(shop.fills("tea")), len(shop.fills("ink")))

    assert [1, 1] == [site.call("raise_price", "ink"), site.call("do", "two", "price", "ink")]
    assert [2, 2] == [site.call("do", "two", "raise_price", "ink"), site.call("price", "ink")]
    leave(site, two)
    assert [] == Core().check()


def kill_in_a_fill(site: Peer, item: str, kill: Callable[[int], None]) -> None:
    """Let worker one compute a price and worker two wait for it, and kill the process that computes."""
    shop.close_gate(item)
    site.call("send", "one", "price", item)
    until(lambda: shop.fills(item))
    waits = site.call("send", "two", "price", item)
    until(followers_elsewhere)
    (victim,) = shop.fills(item)
    kill(victim)
    until(lambda: len(shop.fills(item)) > 1)
    shop.open_gate(item)
    assert 0 == site.call("result", waits)
    assert victim != shop.fills(item)[1]
