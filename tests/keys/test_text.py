"""`zoocache.keys.text`: one value, one text; two values, two texts."""

from __future__ import annotations

import collections
import math
import sys
import zoneinfo
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.children import Children
from tests.specimens import DIFFERENT, PATIENT, Keyed, NotedPoint, Point, Right, noted
from zoocache import keys


def test_different_values_have_different_texts() -> None:
    """Values that differ in type or in value, at any depth, have texts that differ."""
    texts = collections.defaultdict(list)
    for index, value in enumerate(DIFFERENT):
        texts[keys.encode(value)].append(index)
    assert [] == [indices for indices in texts.values() if len(indices) > 1]


def test_a_text_inside_another_stays_apart() -> None:
    """Two arguments side by side never make the text of two others."""
    pairs = [keys.encode_call("f()", ("a", "b"), (x, y)) for x in DIFFERENT for y in DIFFERENT[::7]]
    assert len(pairs) == len(set(pairs))


EQUAL = [
    ({1, 2, 3}, {3, 2, 1}),
    (frozenset("abc"), frozenset("cba")),
    ({"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}),
    (math.nan, -math.nan),
    (float("nan"), math.inf - math.inf),
    (Point(1, [2]), Point(1, [2])),
    (noted(NotedPoint(1), note=1), noted(NotedPoint(1), note=1)),
    (Keyed({1, 2}), Keyed({2, 1})),
    pytest.param(10**5000, 10**5000, id="long int"),
    (collections.Counter("ab"), collections.Counter("ba")),
    (zoneinfo.ZoneInfo("UTC"), zoneinfo.ZoneInfo.no_cache("UTC")),
    (Right.READ | Right.WRITE, Right.WRITE | Right.READ),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_one_text(one: object, other: object) -> None:
    """Values that are the same in type and value have the same text, however they came to be."""
    assert keys.encode(one) == keys.encode(other)


def canonical(value: Any) -> Any:
    """What a value is, as hashable plain data: equal exactly if type and value are."""
    cls = type(value)
    if cls is float:
        return cls, "nan" if math.isnan(value) else value.hex()
    if cls in (list, tuple):
        return cls, tuple(map(canonical, value))
    if cls in (set, frozenset):
        return cls, frozenset(map(canonical, value))
    if cls is dict:
        return cls, frozenset((canonical(key), canonical(item)) for key, item in value.items())
    return cls, bytes(value) if cls is bytearray else value


tricky = st.text("s1:,()[]{}<>dix\ud800é", max_size=5)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.integers(), st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf]),
    tricky, tricky.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=3).map(bytearray),
)  # fmt: skip
hashables = st.recursive(
    scalars.filter(lambda value: type(value) is not bytearray),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
values = st.recursive(
    st.one_of(scalars, hashables),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.sets(hashables, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
    ),
    max_leaves=8,
)  # fmt: skip


@PATIENT
@given(values, values)
def test_texts_are_equal_exactly_if_the_values_are(one: Any, other: Any) -> None:
    """Of any two values, the texts are equal if and only if type and value are, at every depth."""
    assert (canonical(one) == canonical(other)) == (keys.encode(one) == keys.encode(other))


TEXT_OF_SETS = """
    import sys
    from zoocache import keys
    words = {f"word {i}" for i in range(50)}
    print(keys.encode([words, frozenset(words), dict.fromkeys(words), {(w, i) for i, w in enumerate(sorted(words))}]))
    print(keys.encode([sys.flags.hash_randomization, int, len, __import__("socket").AF_INET]))
"""


def test_texts_do_not_depend_on_the_process(children: Children) -> None:
    """Processes with different hash seeds write the same texts."""
    seeds = [children.code(TEXT_OF_SETS, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2", "random")]
    outputs = {child.output() for child in seeds}
    assert 1 == len(outputs)


def test_the_interpreters_limit_on_digits_changes_nothing() -> None:
    """A long int has one text, whatever limit its process sets on decimal digits."""
    set_limit = getattr(sys, "set_int_max_str_digits", None)
    if set_limit is None:
        pytest.skip("this Python has no such limit")
    before = sys.get_int_max_str_digits()
    texts = set()
    try:
        for limit in (640, 0):
            set_limit(limit)
            texts |= {keys.encode([10**1000, -(10**1000), 2**64, 2**64 - 1])}
    finally:
        set_limit(before)
    assert 1 == len(texts)


def test_classes_of_a_program_without_a_file_are_not_shared(children: Children) -> None:
    """Two programs from -c may have classes of one name; no key of theirs is the same."""
    text = """
        import enum
        from zoocache import keys
        class Color(enum.Enum): RED = {}
        print(keys.encode(Color.RED), keys.encode(Color.RED) == keys.encode(Color.RED))
    """
    one, other = (children.code(text.format(value)).output() for value in (1, 2))
    assert one != other
    assert one.endswith("True\n")
    assert other.endswith("True\n")


SPAWN = """
    import enum, multiprocessing, sys
    from zoocache import keys

    class Color(enum.Enum):
        RED = 1

    def tell():
        print(__name__, keys.encode([Color.RED, Color, tell]), flush=True)

    if __name__ == "__main__":
        tell()
        for method in ("spawn", "forkserver", "fork"):
            child = multiprocessing.get_context(method).Process(target=tell)
            child.start()
            child.join(60)
            assert child.exitcode == 0
"""


def test_a_script_has_one_name_in_all_its_processes(children: Children, tmp_path: Path) -> None:
    """A class of a script is the same under `__main__` and under the `__mp_main__` of spawned children."""
    script = tmp_path / "script.py"
    script.write_text(dedent(SPAWN))
    lines = [line.split(" ", 1) for line in children.script(script).output().splitlines()]
    assert {"__main__", "__mp_main__"} == {name for name, _ in lines}
    assert 4 == len(lines)
    assert 1 == len({text for _, text in lines})
    assert f"{script.resolve()}:Color" in lines[0][1]
