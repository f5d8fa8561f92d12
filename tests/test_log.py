"""The log."""

from __future__ import annotations

import logging

import pytest

from tests.children import Children
from tests.logs import said
from zoocache.log import log

USE = """
import sys, zoocache
print("logging" in sys.modules)
zoocache.get("k")
import logging
print(logging.getLogger("zoocache").handlers)
"""


def test_it_is_the_logger_of_that_name(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever configures the logger `zoocache` gets the messages."""
    with caplog.at_level(logging.INFO, "zoocache"):
        log.info("%d of %d", 1, 2)
        log.debug("nobody asked for this")
    (record,) = said(caplog)
    assert ("zoocache", logging.INFO, "1 of 2") == (record.name, record.levelno, record.getMessage())


def test_it_is_loaded_by_the_first_use_and_not_by_the_import(children: Children) -> None:
    """`logging` is there before anything could fail, and no message goes to standard error unasked."""
    lines = children.code(USE).output().splitlines()
    assert ["False", "[<NullHandler (NOTSET)>]"] == lines
