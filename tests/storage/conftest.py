"""What the tests of stores share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system in memory where there is one: a store syncs, and a disk takes its time for that."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="zoostore-", dir=MEMORY))
    yield made
    shutil.rmtree(made, ignore_errors=True)
