"""Each storage keeps the contract of the public API."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.contract")
from tests.contract import Contract  # noqa: E402  # after the line above, so that a failing assert says what it saw


class TestMemory(Contract):
    """In memory, the default."""

    @pytest.fixture
    def storage_url(self) -> str:
        return "memory://"


class TestLmdb(Contract):
    """In LMDB."""

    @pytest.fixture
    def storage_url(self, tmp_path: Path) -> str:
        return f"lmdb://{tmp_path / 'cache'}"
