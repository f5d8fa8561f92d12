"""`zoocache.names`: a name leads to one thing, and a thing without a name has none."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.children import Children
from tests.specimens import Color, Outer, Point, function
from zoocache import names


def other_module(name: str, text: str, tmp_path: Path) -> types.ModuleType:
    """A module that is loaded by hand, as plug-ins are; nothing registers it."""
    (tmp_path / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMED = [int, len, Path, Color, Point, Outer, Outer.Inner, Outer.method, function, names.find]
NAMELESS = [lambda: None, type("int", (), {}), 5, None, [].append, Outer().method, type(None)]


@pytest.mark.parametrize("thing", NAMED)
def test_a_name_leads_back(thing: Any) -> None:
    """What has a name is found under it."""
    name = names.name_of(thing)
    assert name is not None
    assert names.find(name) is thing


def lost() -> None:
    """The module's name for this is given to something else below."""


LOST, lost = lost, function


@pytest.mark.parametrize("thing", [LOST, *NAMELESS])
def test_what_no_name_leads_to_has_none(thing: Any) -> None:
    """Local, redefined and bound things, instances, and types that their module does not show, have no name."""
    assert names.name_of(thing) is None


def test_a_module_that_nobody_can_find_gives_no_names(tmp_path: Path) -> None:
    """Two plug-ins of one name, loaded by hand, are not taken for each other."""
    module = other_module("plugin", "class Thing: pass", tmp_path)
    assert names.name_of(module.Thing) is None
    assert names.namespace_name(vars(module)) is None


def test_a_registered_module_gives_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in that is registered is found, and one that replaces it is another."""
    first = other_module("plugin", "class Thing: pass", tmp_path)
    monkeypatch.setitem(sys.modules, "plugin", first)
    assert "plugin:Thing" == names.name_of(first.Thing)
    second = other_module("plugin", "class Thing: pass", tmp_path)
    monkeypatch.setitem(sys.modules, "plugin", second)
    assert names.name_of(first.Thing) is None
    assert names.find("plugin:Thing") is second.Thing


@pytest.mark.parametrize(
    "name", ["", ":", "int", "builtins:", ":int", "builtins:int.", "builtins:nothing", "no_module_here:x",
             "sys:path.append", "os.path.:join", "/etc/passwd:x", "../x:y", "sys:flags.nothing", "\0:x",
             "builtins:int:float"],
)  # fmt: skip
def test_a_wrong_name_leads_nowhere(name: str) -> None:
    """A name that leads nowhere is a LookupError or the ImportError of its module, and runs no attribute's code."""
    with pytest.raises((LookupError, ImportError)):
        names.find(name)


def test_the_main_program_comes_first(children: Children, tmp_path: Path) -> None:
    """A module that was run with -m and is imported as well has one name; it means the program that runs."""
    (tmp_path / "both.py").write_text(
        "from zoocache import names\n"
        "class Thing: pass\n"
        "if __name__ == '__main__':\n"
        "    import both\n"
        "    print(names.name_of(Thing), names.name_of(both.Thing), names.find('both:Thing') is Thing)\n"
    )
    run = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_module('both', run_name='__main__', alter_sys=1)"
    )
    child = children.code(run, str(tmp_path))
    assert "both:Thing None True\n" == child.output()
