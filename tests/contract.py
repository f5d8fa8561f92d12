"""What every storage owes to the public API.

A storage's own test class is this one with a `storage_url` fixture:

class TestMemory(Contract):
    @pytest.fixture
    def storage_url(self) -> str:
        return "memory://"
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import zoocache
from tests.crowd import together, until
from tests.undisturbed import Watch, undisturbed
from zoocache import (
    ConfigError,
    InvalidDeps,
    InvalidKey,
    InvalidTag,
    UnkeepableResult,
    add_deps,
    cacheable,
    clear,
    configure,
    delete,
    get,
    invalidate,
    prune,
)
from zoocache import set as put

MISSING = object()


class Contract:
    """The suite."""

    @pytest.fixture(autouse=True)
    def _configured(self, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZOOCACHE_STORAGE_URL", storage_url)

    # Keys and values.

    def test_a_miss(self) -> None:
        """What was never set is the default, which is None if nothing else was asked for."""
        assert get("k") is None
        assert MISSING is get("k", MISSING)
        assert not delete("k")

    def test_set_and_get(self) -> None:
        """What was set is there, and stays."""
        put("k", "v")
        assert ["v"] * 3 == [get("k") for _ in range(3)]
        assert "v" == get("k", MISSING)

    @pytest.mark.parametrize("value", [None, False, 0, "", (), b""], ids=repr)
    def test_values_that_are_false(self, value: object) -> None:
        """A value that is false is a value: `get` tells it from a miss, and a call is not made again for it."""
        put("k", value)
        assert value == get("k", MISSING)
        assert type(value) is type(get("k", MISSING))
        runs = []

        @cacheable
        def function() -> object:
            runs.append(1)
            return value

        assert [value] * 3 == [function() for _ in range(3)]
        assert 1 == len(runs)

    def test_set_again(self) -> None:
        """A later value takes the place of an earlier one, whatever their types, tags and lives."""
        put("k", 1, deps="a", ttl=1000)
        put("k", [2])
        assert [2] == get("k")
        invalidate("a")
        assert [2] == get("k")

    def test_delete(self) -> None:
        """A deleted key is gone; the answer is whether it was there; it can be set again."""
        put("k", 1)
        assert delete("k")
        assert MISSING is get("k", MISSING)
        assert not delete("k")
        put("k", 2)
        assert 2 == get("k")

    def test_many_keys(self) -> None:
        """Each key has its own value."""
        for n in range(200):
            put(f"k{n}", n)
        assert list(range(200)) == [get(f"k{n}") for n in range(200)]
        for n in range(0, 200, 2):
            delete(f"k{n}")
        assert [None if n % 2 == 0 else n for n in range(200)] == [get(f"k{n}") for n in range(200)]

    @pytest.mark.parametrize(
        "key", ["a", "ä\u20ac\U0001f600", "\x00", " ", "a\nb", "\udc80", "x" * 100_000, "..", "k|%"], ids=ascii
    )
    def test_every_text_is_a_key(self, key: str) -> None:
        """Keys are any text."""
        put(key, "v")
        assert "v" == get(key)
        assert None is get(key + "x")
        assert delete(key)

    @pytest.mark.parametrize("key", ["", None, 5, b"k", ("k",)], ids=["empty", "None", "5", "b", "t"])
    @pytest.mark.parametrize("function", [get, delete, lambda key: put(key, 1)], ids=["get", "delete", "set"])
    def test_what_is_no_key(self, function: Callable[[Any], Any], key: Any) -> None:
        """Anything but a text is refused."""
        with pytest.raises(InvalidKey):
            function(key)

    def test_a_key_of_any_length(self) -> None:
        """What is kept for a call with a long argument is found and deleted by its key; none so long may be set."""

        @cacheable
        def length(text: str) -> int:
            return len(text)

        text = "x" * (1 << 21)
        key = length.key_for(text)
        assert (None, 1 << 21, 1 << 21) == (get(key), length(text), get(key))
        assert (True, None, False) == (delete(key), get(key), delete(key))
        with pytest.raises(InvalidKey, match="digest"):
            put(key, 1)

    def test_a_refused_set_changes_nothing(self) -> None:
        """A wrong tag, ttl or value leaves what was there."""
        put("k", "old")
        refused: list[tuple[type[Exception], Any, dict[str, Any]]] = [
            (InvalidTag, 1, {"deps": "a::b"}), (InvalidDeps, 1, {"deps": 5}), (InvalidDeps, 1, {"deps": lambda: "a"}),
            (ConfigError, 1, {"ttl": 0}), (ConfigError, 1, {"ttl": "5"}), (ConfigError, 1, {"max_age": -1}),
            (UnkeepableResult, (n for n in "ab"), {}),
        ]  # fmt: skip
        for error, value, options in refused:
            with pytest.raises(error):
                put("k", value, **options)
            assert "old" == get("k")

    def test_keys_of_calls(self) -> None:
        """`key_for` names the entry of a call: read it, set it, delete it; also with very long arguments."""
        runs = []

        @cacheable
        def function(text: str) -> int:
            runs.append(1)
            return len(text)

        for text in ("a", "x" * 100_000):
            key = function.key_for(text)
            assert len(text) == function(text) == get(key)
            put(key, -1)
            assert -1 == function(text)
            assert delete(key)
            assert len(text) == function(text)
        assert 4 == len(runs)

    def test_a_key_is_no_tag(self) -> None:
        """A key and a tag of one name have nothing to do with each other."""
        put("a", 1, deps="a")
        put("below", 2, deps="a:b")
        assert (1, 2) == (get("a"), get("below"))
        version = zoocache.get_tag_version("a")
        put("a", 3)
        delete("a")
        assert 2 == get("below")
        assert version == zoocache.get_tag_version("a")

    def test_a_key_is_not_a_calls_key_by_chance(self) -> None:
        """Keys that were set by hand and those of calls are one space, and a call's key says whose it is."""

        @cacheable
        def function() -> int:
            return 1

        put("function", 2)
        put("function()", 2)
        assert 1 == function()

    # Lives.

    def test_a_ttl_ends(self) -> None:
        """After its ttl a value is a miss; never before."""
        configure(read_extend_ttl=False)
        start_s = time.monotonic()
        put("k", 1, ttl=0.05)
        until(lambda: get("k") is None)
        assert 0.045 <= time.monotonic() - start_s

    def test_fractions_of_a_second_count(self) -> None:
        """A ttl of 0.1 s is no whole second."""
        configure(read_extend_ttl=False)

        def attempt(number: int) -> float:
            watch = Watch(0.5)
            put(f"k{number}", 1, ttl=0.1)
            while get(f"k{number}") is not None:
                watch.look()
                time.sleep(0.01)
            return watch.look()

        assert 0.095 <= undisturbed(attempt) <= 1.6  # three pauses that are just short enough

    def test_the_ttl_of_a_function(self) -> None:
        """`cacheable(ttl=…)` ends, and the function runs again."""
        runs = []

        @cacheable(ttl=0.05)
        def function() -> int:
            runs.append(1)
            return len(runs)

        assert 1 == function()
        time.sleep(0.06)
        until(lambda: function() == 2)

    def test_the_default_ttl(self) -> None:
        """`default_ttl` is for all that says nothing else."""
        configure(default_ttl=0.05)
        put("default", 1)
        put("own", 1, ttl=1000)
        until(lambda: time.sleep(0.06) or get("default") is None)  # type: ignore[func-returns-value]
        assert 1 == get("own")

    def test_reads_keep_alive(self) -> None:
        """With `read_extend_ttl` a value that is read lives on, far beyond its ttl; one that is not does not."""

        def attempt(number: int) -> None:
            watch = Watch(0.1)
            put(f"left{number}", 1, ttl=0.4)
            put(f"read{number}", 1, ttl=0.4)
            while watch.look() < 1.0:
                value = get(f"read{number}")
                watch.look()
                assert 1 == value
                time.sleep(0.02)
            assert None is get(f"left{number}")

        undisturbed(attempt)

    def test_reads_do_not_keep_alive_where_they_should_not(self) -> None:
        """Without `read_extend_ttl` a value ends, however often it is read."""
        configure(read_extend_ttl=False)
        put("k", 1, ttl=0.1)
        until(lambda: get("k") is None)

    def test_an_age_limit_ends_all(self) -> None:
        """`max_age` is the end, whatever was read; it need not be longer than the ttl."""
        start_s = time.monotonic()
        put("k", 1, ttl=1000, max_age=0.1)
        put("only", 1, max_age=0.1)
        until(lambda: get("k") is None and get("only") is None)
        assert 0.095 <= time.monotonic() - start_s

    def test_a_read_does_not_go_beyond_the_age_limit(self) -> None:
        """A value that is read again and again within its ttl ends at its `max_age`."""
        start_s = time.monotonic()
        put("k", 1, ttl=0.15, max_age=0.3)
        until(lambda: get("k") is None)
        assert 30 > time.monotonic() - start_s

    def test_the_configured_age_limit(self) -> None:
        """`configure(max_age=…)` is for all that says nothing else."""
        configure(max_age=0.05)
        put("k", 1)
        put("own", 1, max_age=1000)
        until(lambda: get("k") is None)
        assert 1 == get("own")

    def test_a_refreshed_value_has_a_new_life(self) -> None:
        """Setting a key begins its ttl and its age anew."""

        def attempt(number: int) -> None:
            watch = Watch(0.3)
            while watch.look() < 1.0:
                put(f"k{number}", 1, ttl=0.4, max_age=0.4)
                time.sleep(0.05)
                value = get(f"k{number}")
                watch.look()
                assert 1 == value

        undisturbed(attempt)

    # Invalidation, clear, prune.

    def test_tags_kill(self) -> None:
        """A tag kills what depends on it or on anything below it, and nothing else."""
        tags = {"a": "a", "ab": "ab", "a:b": "a:b", "a:b:c": "a:b:c", "b:a": "b:a"}
        for key, tag in tags.items():
            put(key, key, deps=tag)
        invalidate("a:b")
        assert {"a", "ab", "b:a"} == {key for key in tags if get(key)}
        invalidate("a")
        assert {"ab", "b:a"} == {key for key in tags if get(key)}

    def test_one_of_many_tags_kills(self) -> None:
        """An entry of a thousand tags dies with any one of them."""
        tags = [f"many:{n}:x" for n in range(1000)]
        put("k", 1, deps=tags)
        assert 1 == get("k")
        invalidate(random.Random(5).choice(tags).rpartition(":")[0])
        assert None is get("k")

    def test_what_comes_after_an_invalidation_lives(self) -> None:
        """A value that was set after its tag was killed is there, time and again."""
        for n in range(20):
            put("k", n, deps="a:b")
            assert n == get("k")
            invalidate("a:b" if n % 2 else "a")
            assert None is get("k")

    def test_clear(self) -> None:
        """`clear` leaves nothing, and what comes afterwards stays."""

        @cacheable
        def function() -> int:
            return next(numbers)

        numbers = iter(range(5))
        put("k", 1)
        function()
        clear()
        assert None is get("k")
        assert 1 == function()
        put("k", 2)
        assert (2, 1) == (get("k"), function())

    def test_prune(self) -> None:
        """A prune says how many nodes went, brings nothing back, and a young tag stays."""
        put("dead", 1, deps="a:b")
        put("alive", 1, deps="c:d")
        invalidate("a:b", "a")
        assert None is get("dead")
        assert 0 == prune(3600)
        assert 2 <= prune(0)
        assert 0 == prune(0)
        assert None is get("dead")
        put("dead", 2, deps="a:b")
        assert 2 == get("dead")
        invalidate("a")
        assert None is get("dead")

    @pytest.mark.parametrize("age", [-1, "1", None, True, float("nan"), float("inf")], ids=repr)
    def test_a_prune_of_nonsense(self, age: Any) -> None:
        """An age that is no duration is refused."""
        with pytest.raises(ConfigError, match="max_age_secs"):
            prune(age)

    # Calls.

    def test_a_call_is_made_once(self) -> None:
        """The same arguments, the same result, one execution."""
        runs = []

        @cacheable
        def function(*args: int, **kwargs: int) -> tuple[Any, ...]:
            runs.append(1)
            return args, len(kwargs)

        for _ in range(3):
            assert ((1, 2), 1) == function(1, 2, a=3)
            assert ((), 0) == function()
        assert 2 == len(runs)

    def test_an_exception_is_not_kept(self) -> None:
        """It reaches the caller, and the next call tries again."""
        answers = iter([ValueError("no"), KeyError("no"), 5])

        @cacheable
        def function() -> int:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        with pytest.raises(ValueError, match="no"):
            function()
        with pytest.raises(KeyError):
            function()
        assert [5, 5] == [function(), function()]
        assert (1, 3, 3, 2) == function.info()[:4]

    def test_tags_from_everywhere(self) -> None:
        """Static tags, late ones and those of inner calls all kill."""
        runs = []

        @cacheable(deps="inner:x")
        def inner() -> None: ...

        @cacheable(deps=["static:x"])
        def outer() -> int:
            inner()
            get("by hand")
            add_deps("late:x")
            runs.append(1)
            return len(runs)

        put("by hand", 1, deps="hand:x")
        for number, tag in enumerate(["inner", "static:x", "late", "hand"], 1):
            assert [number] * 2 == [outer(), outer()]
            invalidate(tag)
        assert 5 == outer()

    def test_mutable_values_serve_every_caller(self) -> None:
        """Calls, `get` and followers all give something equal to what the function returned."""
        value = {"rows": [{"id": n, "tags": ["a", "b"]} for n in range(50)]}

        @cacheable
        def function() -> dict[str, Any]:
            return {"rows": [{"id": n, "tags": ["a", "b"]} for n in range(50)]}

        assert [value] * 3 == [function(), function(), get(function.key_for())]

    def test_refresh(self) -> None:
        """`refresh` replaces; when the function raises, the old value stays."""
        answers = iter([[1], [2], LookupError("down"), [3]])

        @cacheable
        def function() -> list[int]:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        assert [[1], [1], [2], [2]] == [function(), function(), function.refresh(), function()]
        with pytest.raises(LookupError):
            function.refresh()
        assert [2] == function()

    @pytest.mark.parametrize("way", ["deleted", "set"])
    def test_refresh_is_overtaken_by_its_key(self, way: str) -> None:
        """A call that was dropped or set while `refresh` computed it is computed anew: who computed may have seen what
        was true before."""
        runs, overtake = [], False

        @cacheable
        def function() -> int:
            runs.append(1)
            if overtake and way == "deleted":
                function.invalidate_call()
            elif overtake:
                put(function.key_for(), 0)
            return len(runs)

        assert [1, 1] == [function(), function()]
        overtake = True
        assert 2 == function.refresh()
        overtake = False
        assert [3, 3] == [function(), function()]

    def test_invalidate_call(self) -> None:
        """One entry of one call goes, and says whether it was there."""
        runs = []

        @cacheable
        def function(a: int, b: int = 2) -> int:
            runs.append(1)
            return len(runs)

        assert [1, 2] == [function(1), function(2)]
        assert function.invalidate_call(a=1, b=2)
        assert not function.invalidate_call(1)
        assert [3, 2] == [function(1), function(2)]

    def test_one_fill_for_many_threads(self) -> None:
        """Threads that want one cold key at once make it once."""
        runs, barrier = [], threading.Barrier(2)

        @cacheable
        def function(n: int) -> int:
            runs.append(n)
            return n

        for n in range(10):
            assert [n] * 5 == [runner.result() for runner in together([lambda n=n: function(n)] * 5)]  # type: ignore[misc]
        assert list(range(10)) == runs
        barrier.abort()

    def test_a_bound_on_the_entries(self) -> None:
        """With `max_entries` what is used often stays, and what is kept never grows without end."""
        configure(max_entries=20)
        put("hot", 0)
        for n in range(500):
            assert 0 == get("hot", 0)
            put(f"k{n}", n)
        kept = sum(get(f"k{n}") is not None for n in range(500))
        assert 1 <= kept <= 20
        assert 499 == get("k499")

    # For tasks.

    def test_the_twins_for_tasks(self) -> None:
        """Each `…_async` does what its twin does."""

        async def main() -> list[Any]:
            seen = []
            await zoocache.set_async("k", 1, deps=["a:b"], ttl=1000, max_age=1000)
            seen.append(await zoocache.get_async("k"))
            await zoocache.invalidate_async("a", "b")
            seen.append(await zoocache.get_async("k", "gone"))
            await zoocache.set_async("k", 2)
            seen.append(await zoocache.delete_async("k"))
            seen.append(await zoocache.delete_async("k"))
            await zoocache.set_async("k", 3)
            await zoocache.clear_async()
            seen.append(await zoocache.get_async("k"))
            return seen

        assert [1, "gone", True, False, None] == asyncio.run(main())

    def test_the_twins_refuse_the_same(self) -> None:
        """And raise what their twins raise."""

        async def main() -> None:
            with pytest.raises(InvalidTag):
                await zoocache.invalidate_async("a", "a::b")
            with pytest.raises(InvalidKey):
                await zoocache.get_async("")
            with pytest.raises(InvalidKey):
                await zoocache.delete_async("")
            with pytest.raises(InvalidDeps):
                await zoocache.set_async("k", 1, deps=5)

        asyncio.run(main())

    def test_coroutines(self) -> None:
        """A coroutine function is awaited once for all who want it, and its value kept."""
        runs = []

        @cacheable(deps="a")
        async def function(n: int) -> dict[int, int]:
            runs.append(n)
            await asyncio.sleep(0)
            return {n: n}

        async def main() -> None:
            assert [{1: 1}] * 20 == await asyncio.gather(*(function(1) for _ in range(20)))
            await zoocache.invalidate_async("a")
            assert [{1: 1}, {2: 2}] == [await function(1), await function(2)]

        asyncio.run(main())
        assert [1, 1, 2] == runs

    # Against a plain dict.

    @pytest.mark.parametrize("seed", range(3))
    def test_like_a_dict(self, seed: int) -> None:
        """Over a random life, it holds what a dict would that forgets what was killed; a prune may cost an entry that
        was there before, and brings none back.
        """
        chance, model, pruned_at = random.Random(seed), dict[str, tuple[int, str]](), -1
        keys, tags = [f"k{n}" for n in range(8)], ["a", "a:b", "a:b:c", "a:d", "e"]
        for step in range(400):
            key, tag = chance.choice(keys), chance.choice(tags)
            expected = model.get(key, (None, ""))[0]
            if expected is not None and expected < pruned_at and get(key) is None:
                expected = model.pop(key) and None
            match chance.choice(["set", "set", "get", "get", "delete", "invalidate", "prune", "clear"]):
                case "set":
                    put(key, step, deps=tag)
                    model[key] = (step, tag)
                case "delete":
                    assert (expected is not None) == delete(key)
                    model.pop(key, None)
                case "invalidate":
                    invalidate(tag)
                    model = {k: v for k, v in model.items() if not f"{v[1]}:".startswith(f"{tag}:")}
                case "prune" if chance.random() < 0.1:
                    prune(0)
                    pruned_at = step
                case "clear" if chance.random() < 0.1:
                    clear()
                    model.clear()
                case _:
                    assert expected == get(key)


__all__ = ["Contract"]
