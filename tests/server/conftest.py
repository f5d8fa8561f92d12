"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forks import Forks


@pytest.fixture
def forks() -> Iterator[Forks]:
    """Forks children (see `tests.forks`); none of them outlives the test."""
    forked = Forks()
    yield forked
    forked.end()
