"""docs/reliability.md: its table of mutants is the one of `stress/mutants`."""

from __future__ import annotations

import re

from stress.mutants import MUTANTS
from stress.mutants.table import JUDGES
from tests.docs.pages import ROOT

HEAD = "| mutant | rule that is turned off | program | seconds until then | caught by |"


def rows() -> list[list[str]]:
    """The cells of each line of the table."""
    _, _, rest = (ROOT / "docs" / "reliability.md").read_text().partition(f"{HEAD}\n| --- | --- | --- | --- | --- |\n")
    table, _, _ = rest.partition("\n\n")
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def test_every_mutant_has_its_row() -> None:
    """Each stands there once, with its rule and with the program and the storage that must fail."""
    expected = [(name, each.rule, f"{each.program}, {each.storage}") for name, each in MUTANTS.items()]
    assert sorted(expected) == sorted((name, rule, program) for name, rule, program, _, _ in rows())


def test_every_mutant_was_caught() -> None:
    """Each row says after how many seconds, and by judges that there are."""
    assert [] == [row for row in rows() if not re.fullmatch(r"\d+\.\d", row[3])]
    assert set() == {judge for row in rows() for judge in row[4].split(", ")} - {*JUDGES, "own judge"}
