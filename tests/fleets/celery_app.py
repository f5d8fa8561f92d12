"""The shop's back office: a Celery application whose tasks read and raise prices through the cache.

It is an ordinary one. Nothing in it is there for the cache's sake, except that the main process of a worker uses the
cache before it forks its pool, which is the harder case.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_ready

from tests.fleets import shop
from tests.patience import be_patient

be_patient()

apart = {"global_keyprefix": f"{os.environ['ZOOCACHE_PREFIX']}:"}  # the server is shared with other tests

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(
    broker_transport_options=apart,
    result_backend_transport_options=apart,
    worker_prefetch_multiplier=1,
    worker_redirect_stdouts=False,
    worker_send_task_events=False,
)


@app.task(name="ask")
def ask(item: str) -> tuple[int, int]:
    """What an item must cost at least, and what the cache says."""
    return shop.ask(item)


@app.task(name="price")
def price(item: str) -> int:
    """What an item costs, from the cache."""
    return shop.price(item)


@app.task(name="bill")
def bill(items: list[str]) -> dict[str, int]:
    """What several items cost, from the cache."""
    return shop.bill(tuple(items))


@app.task(name="raise_price")
def raise_price(item: str) -> int:
    """Make an item dearer."""
    return shop.raise_price(item)


@worker_init.connect
def _warm_up(**_: Any) -> None:
    """In the main process of a worker, before it forks."""
    shop.price("warm")


@worker_ready.connect
def _tell(**_: Any) -> None:
    """In the main process of a worker, once it takes tasks."""
    print("ready", flush=True)
