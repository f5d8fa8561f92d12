"""Several hosts: what an invalidation, a hit and a miss cost with a server, and how soon another host sees.

The server is real, on this machine, behind a socket in a file; redis-py asks it over the same socket, in turns.
"""

from __future__ import annotations

import functools
from typing import Any

import zoocache
from stress.bench import misses, visibility
from stress.bench.place import Place, opened
from stress.bench.server import be_host, client, missing, started
from stress.bench.table import Row, compare
from stress.bench.timing import Effort, loop_of, race
from zoocache import cacheable

TITLES = {"memory": "memory", "lmdb": "LMDB", "redis": "Redis"}
TURNS = 3
"""A process has a bus or has none, so these two take turns with each other; so often, or once if it is to be quick."""


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows; one that says why, where there is nothing to measure with."""
    absent = missing()
    if absent:
        return [Row("hosts", "not measured", absent)]
    with started() as url:
        return [
            *_visible("memory", url, effort),
            *_visible("redis", url, effort),
            *_of_the_bus("memory", url, effort),
            *_of_the_bus("lmdb", url, effort),
            *_of_redis(url, effort),
        ]


def _visible(storage: str, url: str, effort: Effort) -> list[Row]:
    with opened("here", "there") as place:
        return visibility.rows(place, url, storage, effort)


# The bus.


def _of_the_bus(storage: str, url: str, effort: Effort) -> list[Row]:
    """What the outbox adds to an invalidation."""
    turns = max(1, round(TURNS * effort.scale))
    less = effort._replace(samples=max(1, effort.samples // turns))
    plain = told = float("inf")
    with opened() as place:
        for _ in range(turns):
            plain = min(plain, place.ask(lambda: be_host(place, storage, lambda: _invalidate_ns(less))))
            told = min(told, place.ask(lambda: be_host(place, storage, lambda: _invalidate_ns(less), bus_url=url)))
    return [compare(f"invalidate with a bus, {TITLES[storage]}", told, "without", plain, 2)]


def _invalidate_ns(effort: Effort) -> float:
    return race({"invalidate": _invalidation()}, effort)["invalidate"]


def _invalidation() -> Any:
    return loop_of("invalidate('org:1:user:7')", invalidate=zoocache.invalidate)


# Entries in Redis.


def _of_redis(url: str, effort: Effort) -> list[Row]:
    table = []
    for title, bus in (("with a bus", {"bus_url": url}), ("no bus", {})):
        with opened() as place:
            work = functools.partial(_measure_redis, place, url, effort)
            found = place.ask(functools.partial(be_host, place, "redis", work, storage_url=url, **bus))
        table += _rows_of_redis(title, found, hits_ask=not bus)
    return table


def _rows_of_redis(title: str, found: dict[str, float], hits_ask: bool) -> list[Row]:
    get, raw = found["get"], "redis-py GET"
    table = [compare(f"hit, int, Redis, {title}", found["hit"], raw, get, None if hits_ask else 0.02)]
    if not hits_ask:
        table.append(compare(f"hit, int, Redis, {title}", found["hit"], "lru_cache", found["lru_cache"], 3.5))
    table.append(compare(f"invalidate, Redis, {title}", found["invalidate"], raw, found["round trip"], 1.5))
    table.append(compare(f"miss, Redis, {title}, above the function", found["miss"], raw, get))
    return table


def _measure_redis(place: Place, url: str, effort: Effort) -> dict[str, float]:
    """Hits apart from invalidations, for which the listener is at work too."""

    @cacheable(deps=lambda key: f"org:2:user:{key}")
    def get(key: int) -> int:
        return key

    lru = functools.lru_cache(maxsize=64)(get.__wrapped__)
    with client(url) as raw:
        raw.set(f"raw:{place.prefix}", b"42")
        round_trip = {"get": loop_of("get(key)", get=raw.get, key=f"raw:{place.prefix}")}
        hits = {"hit": loop_of("call(7)", call=get), "lru_cache": loop_of("call(7)", call=lru)}
        found = race({**round_trip, **hits}, effort)
        told = race({**round_trip, "invalidate": _invalidation()}, effort)
    fresh = cacheable(deps=lambda key: f"new:{key}")(_same)
    found |= {"invalidate": told["invalidate"], "round trip": told["get"]}
    return found | misses.above(_same, {"miss": fresh}, effort)


def _same(key: int) -> int:
    return key
