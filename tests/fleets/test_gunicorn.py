"""gunicorn with four workers and --preload: a master that used the cache before it forked them, and replaces them."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.children import DEADLINE_S, Child, Children
from tests.crowd import Runner, followers_elsewhere, until
from tests.fleets import shop
from tests.fleets.conftest import STORES, in_stores
from zoocache._zoocache import Core

pytest.importorskip("gunicorn", reason="gunicorn is not installed: the dependency group `fleets` has it")

WORKERS = 4
COMMAND = "import sys; from gunicorn.app.wsgiapp import run; sys.argv[0] = 'gunicorn'; run()"


class Site(NamedTuple):
    """A running gunicorn: its master, and where it listens."""

    master: Child
    port: int

    def get(self, page: str, item: str) -> tuple[int, Any]:
        """Which worker answered, and what."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request("GET", f"/{page}/{item}")
            answer = connection.getresponse()
            assert 200 == answer.status, self.master.errors()
            pid, value = json.loads(answer.read())
        finally:
            connection.close()
        return pid, value

    def begin(self, page: str, item: str) -> Runner:
        """`get` in a thread of its own."""
        return Runner(self.get, page, item)

    def crew(self, name: str) -> list[int]:
        """All workers: each was held up in the computation of a price of its own at one moment."""
        items = [f"{name}{number}" for number in range(WORKERS)]
        for item in items:
            shop.close_gate(item)
        held = [self.begin("price", item) for item in items]
        until(lambda: all(shop.fills(item) for item in items))
        for item in items:
            shop.open_gate(item)
        pids = [runner.result()[0] for runner in held]
        assert WORKERS == len(set(pids))
        return pids


@pytest.fixture
def start(children: Children) -> Iterator[Callable[..., Site]]:
    """Starts a gunicorn with further variables in its environment, and ends it as an administrator would."""
    sites: list[Site] = []

    def start(**variables: str) -> Site:
        command = ["-c", "tests/fleets/gunicorn_settings.py", "--preload", "tests.fleets.gunicorn_app:app"]
        master = children.code(COMMAND, *command, env={"WORKERS": str(WORKERS), **variables})
        sites.append(Site(master, int(master.wait_for("ready").split()[1])))
        return sites[-1]

    yield start
    for site in sites:
        site.master.process.send_signal(signal.SIGTERM)
        assert 0 == site.master.wait(), site.master.errors()


def test_workers_of_a_master_that_used_the_cache(storage: str, start: Callable[..., Site]) -> None:
    """What the master computed all workers have; what rises in one is never followed by an old price in another."""
    site = start()
    workers = site.crew("held")
    assert [[0, 0]] * 12 == [site.get("ask", "warm")[1] for _ in range(12)]
    assert [site.master.pid] == shop.fills("warm")
    for new in range(1, 13):
        item = ("warm", "cold")[new % 2]
        _, risen = site.get("raise", item)
        assert [[risen, risen]] * 6 == [runner.result()[1] for runner in [site.begin("ask", item) for _ in range(6)]]
    assert (6, 6) == (shop.price("warm"), shop.price("cold"))
    most = 1 if storage in STORES else WORKERS + 1
    assert 7 * most >= max(len(shop.fills("warm")), len(shop.fills("cold")))
    assert set(shop.fills("cold")) <= {*workers, os.getpid()}
    assert [] == Core().check()


def test_many_at_once(storage: str, start: Callable[..., Site]) -> None:
    """While prices rise and others ask, and workers leave after a while and are replaced, no answer is too old."""
    site = start(MAX_REQUESTS="40")
    first = site.crew("held")

    def visit(number: int) -> list[Any]:
        answers = []
        for turn in range(30):
            item = "abc"[(number + turn) % 3]
            if turn % 5 == number:
                site.get("raise", item)
            least = shop.told(item)
            _, (then, price) = site.get("ask", item)
            answers += [(least, price), (then, price)]
        return answers

    answers = [answer for runner in [Runner(visit, number) for number in range(5)] for answer in runner.result()]
    assert (300, []) == (len(answers), shop.stale(answers))
    assert 30 == sum(shop.look(item) for item in "abc") == sum(shop.price(item) for item in "abc")
    assert set(first) != set(site.crew("again"))
    assert [] == Core().check()


@in_stores
def test_a_worker_is_killed_in_a_fill(storage: str, start: Callable[..., Site]) -> None:
    """A worker that is killed while it computes is replaced twice: by who waits for its price, and by the master."""
    site = start()
    before = site.crew("held")
    shop.close_gate("a")
    lost = site.begin("ask", "a")
    until(lambda: shop.fills("a"))
    following = site.begin("ask", "a")
    until(followers_elsewhere)
    os.kill(shop.fills("a")[0], signal.SIGKILL)
    assert isinstance(lost.error(), OSError)
    until(lambda: len(shop.fills("a")) > 1)
    shop.open_gate("a")
    heir, answer = following.result()
    victim, *heirs = shop.fills("a")
    assert ([heir], [0, 0]) == (heirs, answer)
    after = site.crew("again")
    assert (set(before) - {victim}, WORKERS) == (set(before) & set(after), len(after))
    assert [1, 1] == [site.get("raise", "a")[1], site.get("price", "a")[1]]
    assert [] == Core().check()
