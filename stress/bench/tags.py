"""A million tags, each invalidated once, beside a thousand: what a hit and an invalidation cost then."""

from __future__ import annotations

import functools
import itertools
import random

import zoocache
from stress.bench.place import Place, measured
from stress.bench.table import Row, compare
from stress.bench.timing import Effort, loop_of, race
from zoocache import cacheable, runtime
from zoocache._zoocache import Core
from zoocache.shm.layout import H_SEQ

FEW, MANY = 1_000, 1_000_000
BYTES_A_TAG = 256
AT_ONCE = 100
SAMPLED = FEW
"""Any tag is one of so many, drawn from all of them: as many different ones whatever their number, since a process
remembers the hashes of the tags that it met lately, and what is compared here is the trie. They are alone in their
race: among the others' samples the processor would forget where the objects of a thousand tags are in a heap that a
hundred times as many have passed through, which took as long as the invalidation itself."""
ALONE_TURNS = 6
"""As much time as the others take together."""
HIT, SAME_RATIO = 1.1, 1.2
"""What "nothing" may amount to, for the noise; and the target of an invalidation."""


def rows(effort: Effort) -> list[Row]:
    """Measure, and make the rows."""
    many = round(MANY * effort.scale)
    found: dict[int, dict[str, float]] = {}
    for count in (FEW, many, FEW):
        size = 32 * 2**20 + count * BYTES_A_TAG
        times = measured("memory", functools.partial(_measure, count, effort), shm_size=size)
        found[count] = {name: min(value, found.get(count, times)[name]) for name, value in times.items()}
    few, lots = found[FEW], _as_if_beside(found[many], found[FEW])
    beside = f"with {FEW} tags"
    return [
        compare(f"hit, memory, with {many} tags", lots["hit"], beside, few["hit"], HIT),
        compare(f"hit, memory, with {many} tags, seq moved before each", lots["moving"], beside, few["moving"], HIT),
        compare(f"invalidate the same of {many} tags, memory", lots["same"], beside, few["same"], SAME_RATIO),
        compare(f"invalidate any of {many} tags, memory", lots["any"], beside, few["any"], SAME_RATIO),
    ]  # fmt: skip


def _as_if_beside(times: dict[str, float], others: dict[str, float]) -> dict[str, float]:
    """Times of another process, at another minute, as if the machine had been as fast as it was for these others."""
    speed = others["lru_cache"] / times["lru_cache"]
    return {name: value * speed for name, value in times.items()}


@cacheable(deps=lambda key: f"shop:{key}")
def _entry(key: int) -> int:
    return key


def _tag(number: int) -> str:
    return f"shop:{number}"


def _measure(count: int, effort: Effort, _place: Place) -> dict[str, float]:
    for start in range(0, count, AT_ONCE):
        zoocache.invalidate(*map(_tag, range(start, start + AT_ONCE)))
    assert len(Core().tags()) == count
    words = runtime.engine().trie.words
    chance = random.Random(7)
    tags = itertools.cycle([_tag(number) for number in chance.sample(range(count), SAMPLED)])
    times = race(
        {
            "lru_cache": loop_of("call(7)", call=functools.lru_cache(maxsize=64)(_entry.__wrapped__)),
            "hit": loop_of("call(7)", call=_entry),
            "moved": loop_of(f"words[{H_SEQ}] += 1", words=words),
            "moving": loop_of(f"words[{H_SEQ}] += 1; call(7)", words=words, call=_entry),
            "same": loop_of("invalidate('shop:9')", invalidate=zoocache.invalidate),
        },
        effort,
    )
    often = effort._replace(samples=effort.samples * ALONE_TURNS)
    times |= race({"any": loop_of("invalidate(next(tags))", invalidate=zoocache.invalidate, tags=tags)}, often)
    times["moving"] -= times.pop("moved")
    return times
