"""A key is set while a fill of it is just being held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import zoocache
from tests.crowd import Runner
from zoocache import cacheable
from zoocache.engine import keeping


@pytest.mark.parametrize("setter", ["set", "refresh"])
def test_what_is_set_at_the_last_moment_of_a_fill(storage: str, setter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was `set` or refreshed stays, though an older fill of that key had come as far as to hold its value."""
    hold_new, values = keeping.hold_new, ["new", "old"]

    @cacheable
    def compute() -> str:
        return values.pop()

    ways: dict[str, Callable[[], object]] = {
        "set": lambda: zoocache.set(compute.key_for(), "new"), "refresh": compute.refresh,
    }  # fmt: skip
    set_anew = [ways[setter]]

    def hold(*arguments: Any) -> None:
        if set_anew:
            Runner(set_anew.pop()).result()
        hold_new(*arguments)

    monkeypatch.setattr(keeping, "hold_new", hold)
    assert "old" == compute()
    assert "new" == compute()
