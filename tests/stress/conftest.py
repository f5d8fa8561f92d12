"""Running the programs of `stress` as a person would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.children import Children
from tests.shared_memory import objects_of

PATIENT_S = 240.0
"""A mutant is to be caught within a minute; how soon is a matter of chance, and of what else the machine has to do. It
is given three, for a run ends with the catch."""

PROGRAM = "import sys; from stress.__main__ import main; sys.exit(main(sys.argv[1:]))"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests here have longer than others."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(PATIENT_S + 60))


class Ended(NamedTuple):
    """How a program ended: its exit status, and what it said."""

    status: int
    said: str


@pytest.fixture
def stress(children: Children, prefix: str, tmp_path: Path) -> Callable[..., Ended]:
    """Runs a program with these arguments, and sees to it that it leaves nothing behind."""

    def run(*arguments: str) -> Ended:
        child = children.code(PROGRAM, *arguments, env={"TMPDIR": str(tmp_path)})
        status = child.wait(PATIENT_S)
        assert ([], []) == (objects_of(prefix), list(tmp_path.iterdir())), child.errors()
        return Ended(status, child._unread.decode() + child.errors())

    return run
