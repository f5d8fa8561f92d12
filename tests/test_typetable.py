"""`zoocache.typetable`: types of modules that nobody imported yet."""

from __future__ import annotations

import sys
import threading
import types

import pytest

from tests.children import Children
from zoocache.typetable import TypeTable


class Known:
    pass


class Late:
    pass


@pytest.fixture
def late_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that is there, but empty as yet."""
    module = types.ModuleType("late_module")
    monkeypatch.setitem(sys.modules, "late_module", module)
    return module


def test_a_type_is_known_once_its_module_is_loaded(late_module: types.ModuleType) -> None:
    """A late type has its entry as soon as its module has it, a module that is half imported notwithstanding."""
    table = TypeTable({Known: 1}, {"late_module": {"Late": 2, "More": 2}, "never_imported": {"X": 3}}, 0)
    assert (1, 0) == (table[Known], table[Late])
    late_module.Late = Late  # type: ignore[attr-defined]
    assert 0 == table[Late]
    late_module.More = int  # type: ignore[attr-defined]
    assert (2, 2, 0) == (table[Late], table[int], table[str])


def test_threads_find_the_same(late_module: types.ModuleType) -> None:
    """Threads that miss a type at the same time all get its entry."""
    late_module.Late = Late  # type: ignore[attr-defined]
    found = []
    for _ in range(50):
        table = TypeTable({}, {"late_module": {"Late": 2}}, 0)
        barrier = threading.Barrier(4)

        def look(table: TypeTable[int] = table, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(60)
            found.append(table[Late])

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [2] * 200 == found


def test_costly_modules_are_not_imported(children: Children) -> None:
    """Keys and codec do not import what only some values need."""
    text = """
        import sys
        from zoocache.keys import text
        from zoocache import codec, identity
        print("imported:", *sorted({"decimal", "fractions", "uuid", "zoneinfo"} & {*sys.modules}))
        from decimal import Decimal
        print(text.text_of(Decimal(1)))
    """
    assert "imported:\nm1\n" == children.code(text).output()
