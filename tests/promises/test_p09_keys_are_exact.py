"""P9: one call, one key, in every process and under every name of a program; two calls, two keys."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoocache
from tests.children import Children
from zoocache import UnkeyableArgument, cacheable

KEYS = """
    import dataclasses, datetime, decimal, enum, json, uuid
    from zoocache import cacheable

    class Color(enum.Enum):
        RED = 1

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        tags: frozenset = frozenset()

    @cacheable
    def f(*args, **kwargs):
        return 1

    words = ["pear", "apple", "fig", "plum", "quince", "date", "lime"]
    calls = [
        f.key_for({*words}), f.key_for(frozenset(words)), f.key_for({word: 1 for word in words}),
        f.key_for({frozenset({"a", "b"}): {("x", 1), ("y", 2)}}), f.key_for(**{word: word for word in words}),
        f.key_for(Point(1, frozenset(words))), f.key_for(Color.RED), f.key_for(10**50, -0.0, float("nan"), 1e300),
        f.key_for(datetime.date(2026, 1, 1), uuid.UUID(int=1), decimal.Decimal("1.0")),
    ]
    print(json.dumps(calls))
"""


def test_keys_do_not_depend_on_the_hash_seed(children: Children, tmp_path: Path) -> None:
    """Sets, dicts and keywords give the same keys whatever PYTHONHASHSEED is."""
    script = tmp_path / "keys.py"
    script.write_text(textwrap.dedent(KEYS))
    seen = {children.script(script, env={"PYTHONHASHSEED": seed}).output() for seed in ("0", "1", "12345")}
    assert 1 == len(seen)
    keys = json.loads(seen.pop())
    assert len(keys) == len(set(keys))


def test_values_are_shared_across_hash_seeds(children: Children, tmp_path: Path) -> None:
    """A process with another hash seed finds, in the store, what a call with a set computed."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import os, zoocache
        zoocache.configure(storage_url="lmdb://" + os.environ["PLACE"])
        @zoocache.cacheable
        def f(words, **more):
            return os.getpid()
        words = {"pear", "apple", "fig", "plum", "quince"}
        print(f(words, b={2: {3}, 1: {4}}, a=frozenset(words)))
    """)
    )
    env = {"PLACE": str(tmp_path / "cache")}
    seen = {children.script(script, env={**env, "PYTHONHASHSEED": seed}).output() for seed in ("1", "2", "3")}
    assert 1 == len(seen)


MAIN = """
    import multiprocessing, os, sys, zoocache

    zoocache.configure(storage_url="lmdb://" + os.environ["PLACE"])

    @zoocache.cacheable
    def get(n):
        return [os.getpid(), sys.argv[1:] or "child"]

    if __name__ == "__main__":
        mine = get(1)
        for method in ("spawn", "forkserver", "fork"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                assert mine == pool.apply(get, (1,)), method
                theirs = pool.apply(get, (method,))
                assert theirs == get(method), method
                assert theirs[0] != os.getpid(), method
        print("shared", len({get(n)[0] for n in (1, "spawn", "forkserver", "fork")}))
"""


def test_a_script_and_the_children_that_it_spawns(children: Children, tmp_path: Path) -> None:
    """A function of `__main__` is the same one under the `__mp_main__` of a spawned child, and after a fork."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(MAIN))
    assert "shared 4\n" == children.script(script, env={"PLACE": str(tmp_path / "cache")}).output()


def test_two_scripts_do_not_share(children: Children, tmp_path: Path) -> None:
    """Functions of one name in the `__main__` of two scripts are two; the same script twice is one."""
    text = textwrap.dedent("""
        import os, zoocache
        zoocache.configure(storage_url="lmdb://" + os.environ["PLACE"])
        @zoocache.cacheable
        def get():
            return os.getpid()
        print(get())
    """)
    env = {"PLACE": str(tmp_path / "cache")}
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text(text)
    other.write_text(text)
    first, second, again = (children.script(script, env=env).output() for script in (one, other, one))
    assert first != second
    assert first == again


def test_a_module_that_is_run_and_imported(children: Children, tmp_path: Path) -> None:
    """`python -m package.module` and `import package.module` have the same functions."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "prices.py").write_text(
        textwrap.dedent("""
        import os, zoocache
        zoocache.configure(storage_url="lmdb://" + os.environ["PLACE"])
        @zoocache.cacheable
        def get():
            return os.getpid()
        print(get())
    """)
    )
    env = {"PLACE": str(tmp_path / "cache"), "PYTHONPATH": f"{tmp_path}:{Path(zoocache.__file__).parent.parent}"}
    run = children.code("import runpy; runpy.run_module('shop.prices', run_name='__main__', alter_sys=True)", env=env)
    imported = children.code("import shop.prices", env=env)
    assert run.output() == imported.output()


def test_closures_of_one_name(storage: str) -> None:
    """Functions that were made by one function never share, unless what they hold is the same."""

    def make(factor: Any) -> Callable[[int], Any]:
        @cacheable
        def times(n: int) -> Any:
            return n * factor

        return times

    double, triple, text = make(2), make(3), make("x")
    assert [4, 6, "xx"] == [double(2), triple(2), text(2)]
    assert [4, 6, "xx"] == [double(2), triple(2), text(2)]
    assert 1 == double.info().hits  # type: ignore[attr-defined]


def test_lambdas_of_one_line(storage: str) -> None:
    """Lambdas that do different things are different functions, wherever they stand."""
    functions = [cacheable(lambda x: x + 1), cacheable(lambda x: x + 2), cacheable(lambda x: x - 1)]
    assert [11, 12, 9] == [function(10) for function in functions]
    assert [11, 12, 9] == [function(10) for function in functions]


def test_methods_of_one_name(storage: str) -> None:
    """Classes with methods of one name do not share; a subclass has its parent's method, on instances of its own."""

    class A:
        name = "a"

        @classmethod
        @cacheable
        def tell(cls) -> str:
            return cls.name

    class B(A):
        name = "b"

    class C:
        name = "c"

        @classmethod
        @cacheable
        def tell(cls) -> str:
            return cls.name

    for _ in range(2):
        assert ["a", "b", "c"] == [A.tell(), B.tell(), C.tell()]


def test_the_parts_of_a_key_do_not_run_together(storage: str) -> None:
    """Strings that look like other calls, like separators, like other types, are just strings."""

    @cacheable
    def show(*args: Any, **kwargs: Any) -> str:
        return repr((args, kwargs))

    tricky: list[tuple[Any, ...]] = [
        ("a", "b"), ("a,b",), ("a", "b,"), ("s1:a",), ("s1:a,s1:b",), (("a", "b"),), (["a", "b"],), ("", ""), ("",), (),
        ("a)", "(b"), ("|",), ("%7C",), ("i1",), (1,), ("1",), (b"1",), ("\x00",), ("\n",), ("None",), (None,),
        ("(),",), (((),),), (((), ()),), ((),), ({},), ([],), (set(),), (frozenset(),), ({"a": "b"},),
        ({"a": ("b",)},), ({"a", "b"},),
    ]  # fmt: skip
    for _ in range(2):
        for args in tricky:
            assert repr((args, {})) == show(*args)
            assert repr((args, {"x": args})) == show(*args, x=args)
    assert len({show.key_for(*args) for args in tricky}) == len(tricky)


def test_the_four_in_a_store(lmdb: Path) -> None:
    """1, True, 1.0 and "1" are four for another life of the process too, in any order."""

    @cacheable
    def kind(value: Any) -> str:
        return type(value).__name__

    values: list[Any] = [1, True, 1.0, "1"]
    expected = [kind(value) for value in values]
    for order in (values, values[::-1], values[2:] + values[:2]):
        zoocache.reset()
        assert [type(value).__name__ for value in order] == [kind(value) for value in order]
        assert 4 == kind.info().hits
    assert ["int", "bool", "float", "str"] == expected


@pytest.mark.parametrize(
    "argument", [object(), lambda: 1, iter([1]), {"a": [object()]}, (1, {object()})], ids=lambda a: type(a).__name__
)
def test_an_argument_without_a_stable_key(storage: str, argument: Any) -> None:
    """It is an error that names function and argument, and nothing is computed."""
    runs = []

    @cacheable
    def search(query: str, options: Any = None) -> None:
        runs.append(query)

    with pytest.raises(UnkeyableArgument, match=r"search.*'options'"):
        search("a", options=argument)
    with pytest.raises(UnkeyableArgument, match=r"search.*'options'"):
        search.key_for("a", argument)
    assert [] == runs
