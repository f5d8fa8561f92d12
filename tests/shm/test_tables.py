"""zoocache/shm/tables.py: what was inserted is found, and the floor covers what a replacement dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache.shm import tables as tables_room
from zoocache.shm.layout import H_COUNT, H_FLOOR, H_GEN, H_INSERTS, LOAD_PERCENT, N_AT, N_CHANGED, NEVER
from zoocache.shm.object import retire
from zoocache.shm.segment import Segment
from zoocache.shm.tables import MISSING, PROBES, Node, Tables

WORDS = st.integers(0, 2**64 - 1)


def node(high: int, low: int = 1, changed: int = 1, text: bytes = b"t") -> Node:
    """A node."""
    return Node(high, low, changed, 9, text)


def insert(tables: Tables, *nodes: Node) -> list[bool]:
    """Insert as a writer does."""
    tables.begin_inserts()
    done = [tables.insert(each) for each in nodes]
    tables.end_inserts()
    return done


def read(tables: Tables, high: int, low: int) -> tuple[int, int] | None:
    """What a reader sees of a node: changed and at."""
    words = tables._words
    at = tables.find(words[H_GEN], high, low)
    return None if at == MISSING else (words[at + N_CHANGED], words[at + N_AT])


@pytest.fixture
def tables(segment: Segment) -> Tables:
    """The tables of the smallest segment."""
    return segment.tables


def test_what_was_inserted_is_found(tables: Tables) -> None:
    """A node is found by both words of its hash, and nothing else is."""
    assert [True] == insert(tables, node(5, 6, changed=7))
    assert ((7, 9), None, None) == (read(tables, 5, 6), read(tables, 5, 7), read(tables, 6, 6))
    assert [node(5, 6, changed=7)] == list(tables.nodes())
    assert 1 == tables.count()


@pytest.mark.parametrize("times", [1, tables_room.COPY_ATTEMPTS])
def test_a_copy_is_of_one_table(tables: Tables, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """A table that is replaced twice while it is copied is copied anew, or not at all."""
    old, new = node(5), node(6)
    insert(tables, old)
    copy = Tables.nodes

    def replaced_meanwhile(self: Tables) -> Iterator[Node]:
        copied = list(copy(self))
        if len(rounds) < times:
            rounds.append(1)
            for _ in range(2):
                self.replace([new], 0)
        yield from copied

    rounds: list[int] = []
    monkeypatch.setattr(Tables, "nodes", replaced_meanwhile)
    assert ([new] if times == 1 else None) == tables.copied()


def test_probing_goes_round_the_end(tables: Tables) -> None:
    """Nodes that all want the last place continue at the first."""
    last = tables.layout.nodes - 1
    crowd = [node(last + tables.layout.nodes * step, step) for step in range(5)]
    assert [True] * 5 == insert(tables, *crowd)
    assert [(1, 9)] * 5 == [read(tables, each.high, each.low) for each in crowd]


def test_a_crowded_place_refuses(tables: Tables) -> None:
    """After PROBES steps an insert says that there is no place near, and a search says missing."""
    crowd = [node(3 + tables.layout.nodes * step, step) for step in range(PROBES + 1)]
    assert [True] * PROBES + [False] == insert(tables, *crowd)
    assert [True] * PROBES + [False] == [read(tables, each.high, each.low) is not None for each in crowd]


def test_inserts_are_odd_while_one_is_under_way(tables: Tables) -> None:
    """`inserts` grows by two with each batch, is odd in between, and stays odd after one that was left unfinished."""
    words = tables._words
    seen = [words[H_INSERTS]]
    for step in (
        tables.begin_inserts,
        tables.end_inserts,
        tables.begin_inserts,
        tables.begin_inserts,
        tables.end_inserts,
    ):
        step()
        seen.append(words[H_INSERTS])
    assert [0, 1, 2, 3, 3, 4] == seen


def test_a_replacement_moves_inserts_gen_and_floor(tables: Tables) -> None:
    """Survivors stay, the others are covered by the floor, and whoever kept anything must look again."""
    words = tables._words
    insert(tables, node(1, changed=4), node(2, changed=5), node(3, changed=9))
    gen, inserts = words[H_GEN], words[H_INSERTS]
    tables.replace([node(3, changed=9)], 5)
    assert (gen + 1, inserts + 2, 5) == (words[H_GEN], words[H_INSERTS], words[H_FLOOR])
    assert (None, None, (9, 9), 1) == (read(tables, 1, 1), read(tables, 2, 1), read(tables, 3, 1), tables.count())


def test_the_floor_never_falls(tables: Tables) -> None:
    """A replacement with a lower floor leaves it where it was."""
    tables.replace([], 50)
    tables.replace([], 3)
    assert 50 == tables._words[H_FLOOR]


def test_a_survivor_without_a_place_raises_the_floor(tables: Tables) -> None:
    """A survivor that finds no place near is lost like any other: the floor covers it."""
    crowd = [node(3 + tables.layout.nodes * step, step, changed=100 + step) for step in range(PROBES + 3)]
    tables.replace(crowd, 7)
    assert (PROBES, 100 + PROBES + 2) == (tables.count(), tables._words[H_FLOOR])


def test_replacements_alternate_between_the_tables(tables: Tables) -> None:
    """Nothing of what stood in a table two replacements ago shines through."""
    insert(tables, node(1), node(2))
    for survivors in ([node(3)], [node(4)], [node(5)]):
        tables.replace(survivors, 0)
        assert survivors == list(tables.nodes())
        assert tables.count() == tables._words[H_COUNT + (tables._words[H_GEN] & 1)]


def test_room_ends_at_the_load(tables: Tables) -> None:
    """A table counts as full before probing gets long, and an arena when the text does not fit."""
    most = tables.layout.nodes * LOAD_PERCENT // 100
    assert (True, False) == (tables.has_room(most, 0), tables.has_room(most + 1, 0))
    assert (True, False) == (tables.has_room(1, tables.layout.arena), tables.has_room(1, tables.layout.arena + 1))
    insert(tables, node(1, text=b"x" * 100))
    assert (False, False) == (tables.has_room(most, 0), tables.has_room(1, tables.layout.arena - 99))


def test_texts_follow_their_nodes(tables: Tables) -> None:
    """Each node has its own text, before and after a replacement."""
    nodes = [node(high, text=b"n" * high) for high in (1, 2, 30)]
    insert(tables, *nodes)
    assert sorted(nodes) == sorted(tables.nodes())
    tables.replace(nodes[1:], 0)
    assert sorted(nodes[1:]) == sorted(tables.nodes())


def test_an_insert_in_a_retired_segment(tables: Tables) -> None:
    """A segment that is retired in the middle of an insert stays retired, and the insert is no error."""
    tables.begin_inserts()
    retire(tables._words)
    assert tables.insert(node(1))
    tables.end_inserts()
    tables.begin_inserts()
    tables.end_inserts()
    assert NEVER == tables._words[H_INSERTS]


@given(st.dictionaries(st.tuples(st.integers(1, 2**64 - 1), WORDS), WORDS, max_size=40))
def test_a_built_table_has_what_was_put_in(kept: dict[tuple[int, int], int]) -> None:
    """Whatever the hashes, a survivor is in the built table or its number is in `lost`."""
    survivors = [Node(high, low, changed, 0, b"") for (high, low), changed in kept.items()]
    table, _, count, lost = tables_room._built(survivors, 61, 1 << 16)
    rows = [tuple(table[at : at + 3]) for at in range(0, len(table), 5) if table[at]]
    missing = [each.changed for each in survivors if (each.high, each.low, each.changed) not in rows]
    assert (count, len(kept)) == (len(rows), len(rows) + len(missing))
    assert max(missing, default=0) == lost


def test_a_small_built_table_loses_the_rest() -> None:
    """A table that is too small for its survivors takes what fits; the highest number of the others is told."""
    survivors = [node(high, changed=high) for high in range(1, 10)]
    *_, count, lost = tables_room._built(survivors, 5, 1 << 16)
    assert (5, 9) == (count, lost)


@pytest.mark.parametrize("after", ["begun", "inserted"])
def test_readers_trust_nothing_that_an_unfinished_insert_left(attach_here: Callable[..., Segment], after: str) -> None:
    """While `inserts` is odd a second process finds a node that is whole, or none."""
    writer, reader = attach_here().tables, attach_here().tables
    writer.begin_inserts()
    if after == "inserted":
        writer.insert(node(1, changed=3))
    assert reader._words[H_INSERTS] & 1
    assert (None if after == "begun" else (3, 9)) == read(reader, 1, 1)
