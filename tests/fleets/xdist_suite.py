"""A suite as a user writes it, for test_xdist.py, which runs a copy of it under pytest-xdist."""

from __future__ import annotations

import pytest

from tests.fleets import shop
from tests.patience import be_patient

ITEMS = "abc"


@pytest.fixture(scope="session")
def expensive() -> int:
    """What each worker needs, and one computes."""
    be_patient()
    return shop.price("expensive")


@pytest.mark.parametrize("number", range(40))
def test_prices(number: int, expensive: int) -> None:
    """A test that changes a price sees it at once; of the others' changes it sees what was done."""
    new = shop.raise_price(ITEMS[number % 3])
    assert new <= shop.price(ITEMS[number % 3])
    answers = [shop.ask(item) for item in ITEMS]
    assert [] == shop.stale(answers)
    assert 0 == expensive
