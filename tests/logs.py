"""What the library has said, whatever else was logged meanwhile: asyncio tells of a task that some test left behind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of our own logger."""
    return [record for record in caplog.records if record.name == "zoocache"]
