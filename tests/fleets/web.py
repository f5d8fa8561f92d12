"""What a process of a web site does: it changes prices, reads them, and sends tasks; `tests.peers` leads it by name."""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult

from tests.children import DEADLINE_S
from tests.fleets import shop
from tests.fleets.celery_app import app

price, raise_price = shop.price, shop.raise_price

_sent: list[AsyncResult[Any]] = []


def send(worker: str, task: str, argument: object) -> int:
    """Send a task to a worker; the number by which to ask for its result."""
    _sent.append(app.send_task(task, (argument,), queue=worker))
    return len(_sent) - 1


def result(number: int) -> Any:
    """What a task returned; raises what it raised, and what became of its worker."""
    return _sent[number].get(timeout=DEADLINE_S)


def do(worker: str, task: str, argument: object) -> Any:
    """`send` and `result`."""
    return result(send(worker, task, argument))


def trade(workers: list[str], items: str, rounds: int) -> list[tuple[int, int]]:
    """Raise prices, and after each have all workers asked for it while the next ones rise: what each answer had to be
    at least, by what was told before it was sent and by what was told before it was computed, and what it was.
    """
    sent = []
    for number in range(rounds):
        item = items[number % len(items)]
        least = shop.raise_price(item)
        sent += [(least, send(worker, "ask", item)) for worker in workers]
    return [(max(least, answer[0]), answer[1]) for least, number in sent for answer in [result(number)]]
