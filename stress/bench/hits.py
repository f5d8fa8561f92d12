"""Warm hits: of values of three kinds, with a TTL, while `seq` moves, in tasks, and of a function with *args."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

import zoocache
from stress.bench import rivals
from stress.bench.place import Place, measured
from stress.bench.table import Row, compare, limit
from stress.bench.timing import Effort, loop_of, race
from zoocache import cacheable, codec, runtime
from zoocache.shm.layout import H_SEQ

KEY = 7
VALUES: dict[str, Any] = {
    "int": 42,
    "small dict": {"id": 7, "name": "Ada", "active": True, "score": 1.5},
    "list of 200 dicts": [{"id": number, "name": f"user {number}", "active": True} for number in range(200)],
}
IMMUTABLE = "int"
DECODING_TURNS = 3
"""The difference of two long times needs more samples than their ratio."""

Times = dict[str, float]


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    memory = measured("memory", lambda place: _measure(place, "memory", effort))
    lmdb = measured("lmdb", lambda place: _measure(place, "lmdb", effort))
    return [*_rows_of("memory", memory), *_rows_of("LMDB", lmdb)]


def _rows_of(storage: str, found: dict[str, Times]) -> list[Row]:
    table = []
    for kind in VALUES:
        times = found[kind]
        own = times.pop("zoocache")
        decode = times.pop("decode", None)
        for name, other in times.items():
            most = 3.5 if name == "lru_cache" and (kind == IMMUTABLE or storage == "memory") else None
            table.append(compare(f"hit, {kind}, {storage}", own, name, other, most))
        if decode is not None:
            table.append(limit(f"hit, {kind}, {storage}, beyond its decoding", own - decode, 1000.0))
    extras = found["extras"]
    lru = extras["lru_cache"]
    table.append(compare(f"hit, int, {storage}, with a TTL", extras["ttl"], "lru_cache", lru, 5))
    table += [
        compare(f"hit, int, {storage}, with a TTL", extras["ttl"], name, extras[name])
        for name in extras if name.endswith(", TTL")
    ]  # fmt: skip
    moving = extras["moving"] - extras["moved"]
    table.append(compare(f"hit, int, {storage}, seq moved before each", moving, "lru_cache", lru, 8))
    table.append(compare(f"hit, int, {storage}, *args", extras["star"], "lru_cache", extras["star lru_cache"]))
    table.append(compare(f"hit, int, {storage}, async", extras["async"], "sync", extras["sync"], 2))
    return table


def _measure(place: Place, storage: str, effort: Effort) -> dict[str, Times]:
    others = rivals.in_memory() if storage == "memory" else {"lru_cache": rivals.in_memory()["lru_cache"]}
    others |= rivals.on_disk(place.directory)
    found = {kind: _race_of(value, others, storage, effort) for kind, value in VALUES.items()}
    return {**found, "extras": _extras(effort)}


def _tag(key: int) -> str:
    return f"org:1:user:{key}"


def _race_of(value: Any, others: dict[str, rivals.Decorator], storage: str, effort: Effort) -> Times:
    def get(key: int) -> Any:
        assert key
        return value

    get.__qualname__ = f"get {type(value).__name__}"  # some know a function by its name alone
    functions = {name: decorate(get) for name, decorate in others.items()}
    functions["zoocache"] = cacheable(deps=_tag)(get)
    candidates = {"dict": loop_of("table[key]", table={KEY: value}, key=KEY)}
    for name, function in functions.items():
        assert function(KEY) == value == function(KEY)
        candidates[name] = loop_of("call(7)", call=function)
    if storage != "memory" and not codec.is_immutable(value):
        candidates["decode"] = loop_of("decode(packed)", decode=codec.decode, packed=codec.encode(value, label="value"))
    turns = DECODING_TURNS if "decode" in candidates else 1
    return race(candidates, effort._replace(samples=effort.samples * turns))


def _extras(effort: Effort) -> Times:
    """What concerns the int only."""
    words = runtime.engine().trie.words
    zoocache.invalidate(_tag(KEY))  # so that its node exists, and a hit has something to look at
    plain, lasting, star, task = _functions()
    star_lru = functools.lru_cache(maxsize=rivals.SIZE)(star.__wrapped__)
    candidates = {
        "lru_cache": loop_of("call(7)", call=functools.lru_cache(maxsize=rivals.SIZE)(plain.__wrapped__)),
        "ttl": loop_of("call(7)", call=lasting),
        "moved": loop_of(f"words[{H_SEQ}] += 1", words=words),
        "moving": loop_of(f"words[{H_SEQ}] += 1; call(7)", words=words, call=plain),
        "star": loop_of("call(7, 8)", call=star),
        "star lru_cache": loop_of("call(7, 8)", call=star_lru),
        "sync": loop_of("call(7)", call=plain),
        "async": lambda count: _run(_await(task, count)),
    }
    for name, decorate in rivals.with_ttl().items():
        candidates[name] = loop_of("call(7)", call=decorate(plain.__wrapped__))
    return race(candidates, effort)


def _functions() -> tuple[Any, Any, Any, Any]:
    @cacheable(deps=_tag)
    def plain(key: int) -> int:
        return key

    @cacheable(deps=_tag, ttl=rivals.TTL_S)
    def lasting(key: int) -> int:
        return key

    @cacheable(deps=lambda *keys: _tag(keys[0]))
    def star(*keys: int) -> int:
        return keys[0]

    @cacheable(deps=_tag)
    async def task(key: int) -> int:
        return key

    return plain, lasting, star, task


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """To its end: a hit never gives way to the loop, so none is needed, nor measured."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a hit waits for something")


async def _await(function: Callable[[int], Any], count: int) -> None:
    for _ in range(count):
        await function(7)
