"""The workers of pytest-xdist on one shared trie: a test run of a user, inside this one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.children import Children
from tests.fleets import shop, xdist_suite
from tests.fleets.conftest import FLEET_S, STORES
from zoocache._zoocache import Core

WORKERS = 2
RUN = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
ENVIRONMENT = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Of what is installed it has pytest-xdist only: the others' imports cost more than the tests."""


def test_workers_share_one_trie(storage: str, children: Children, tmp_path: Path) -> None:
    """No test of any worker gets a price that is older than an invalidation that had returned in another worker."""
    suite = tmp_path / "suite"
    suite.mkdir()
    shutil.copy(xdist_suite.__file__, suite / "test_prices.py")
    (suite / "pytest.ini").write_text("[pytest]\naddopts = -v -p no:cacheprovider\n")
    run = children.code(RUN, "-p", "xdist", "-n", str(WORKERS), str(suite), cwd=suite, env=ENVIRONMENT)
    said = run.output(FLEET_S)
    assert ("40 passed" in said, "[gw0]" in said, "[gw1]" in said) == (True, True, True)
    assert [14, 13, 13] == [shop.look(item) for item in "abc"] == [shop.price(item) for item in "abc"]
    assert (1 if storage in STORES else WORKERS) == len(set(shop.fills("expensive")))
    assert [] == Core().check()
