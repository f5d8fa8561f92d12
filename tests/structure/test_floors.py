"""The floors of the library: imports go down only, and each dependency has its owners."""

from __future__ import annotations

import sys
from collections import defaultdict

import pytest

from tests.structure.source import PACKAGE, SOURCES, Source

FLOORS: tuple[set[str], ...] = (
    {
        "_version", "imports", "forks", "errors", "config", "digests", "deps", "log",
        "names", "anatomy", "typetable", "keys", "identity", "signature",  # what a call is called
        "codec", "entry",  # what a value looks like outside
    },
    {"shm"},
    {"trie", "clock", "flight"},
    {"server"},
    {"storage", "bus"},
    {"engine"},
    {"listener"},
    {"outside"},
    {"runtime"},
    {"decorator", "cached", "functions", "wrapper"},
    {"__init__", "_zoocache"},
    {"cli", "contrib", "demo"},
    {"__main__"},
)  # fmt: skip
"""From the ground up; docs/architecture.md tells what each room is for. A new room gets its place here."""

OWNERS: dict[str, set[str]] = {
    "posix_ipc": {"shm"},
    "lmdb": {"storage"},
    "redis": {"server"},
    "msgpack": {"codec", "entry", "keys", "storage", "bus"},
    "typer": {"cli"},
    "rich": {"cli", "demo"},
}
"""Who may import what was not written here."""

PUBLIC = {"__init__", "errors"}
"""What an integration may import: what every user may."""

FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(imported: str) -> str:
    """The room of an imported name: `shm` for `zoocache.shm.lock.Lock`, `__init__` for `zoocache.invalidate`."""
    room = f"{imported}.".split(".")[1]
    return room if (PACKAGE / f"{room}.py").exists() or (room and (PACKAGE / room).is_dir()) else "__init__"


def own_imports(source: Source) -> list[tuple[str, int]]:
    """The rooms that a file imports, other than its own, and on which line."""
    found = [(room_of(name), line) for name, line in source.imports() if name.split(".")[0] == "zoocache"]
    return [(room, line) for room, line in found if room != source.room]


def test_imports_go_down() -> None:
    """No file imports a room of a floor above its own."""
    assert set() == {source.room for source in SOURCES} - FLOOR_OF.keys(), "these rooms have no floor yet"
    upward = [
        f"{source}:{line} imports {room}" for source in SOURCES for room, line in own_imports(source)
        if FLOOR_OF[room] > FLOOR_OF[source.room]
    ]  # fmt: skip
    assert [] == upward


def test_rooms_of_one_floor_import_each_other_in_no_circle() -> None:
    """Neighbours may know each other, but not both ways, nor around three corners."""
    knows = defaultdict(set)
    for source in SOURCES:
        knows[source.room] |= {room for room, _ in own_imports(source)}
    left = set(knows)
    while free := {room for room in left if not knows[room] & left}:
        left -= free
    assert set() == left


def test_foreign_packages_have_owners() -> None:
    """Each dependency is imported in the rooms that own it, and nowhere else."""
    tops = [(source, name.split(".")[0], line) for source in SOURCES for name, line in source.imports()]
    strangers = [
        f"{source}:{line} imports {top}" for source, top, line in tops
        if top not in {*sys.stdlib_module_names, "zoocache"} and source.room not in OWNERS.get(top, ())
    ]  # fmt: skip
    assert [] == strangers


def test_integrations_import_only_what_is_public() -> None:
    """A file of `contrib` imports nothing of zoocache that a user may not."""
    private = [
        f"{source}:{line} imports {room}" for source in SOURCES if source.room == "contrib"
        for room, line in own_imports(source) if room not in PUBLIC
    ]  # fmt: skip
    assert [] == private


@pytest.mark.parametrize(
    ("imported", "room"),
    [
        ("zoocache", "__init__"),
        ("zoocache.errors.Busy", "errors"),
        ("zoocache.shm.lock.Lock", "shm"),
        ("zoocache.shm", "shm"),
        ("zoocache.nothing_of_that_name", "__init__"),
    ],
)
def test_an_imported_name_belongs_to_a_room(imported: str, room: str) -> None:
    """These tests take an import for the room that it reaches."""
    assert room == room_of(imported)
