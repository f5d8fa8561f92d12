"""python -m stress partition: hosts whose network, listeners and server fail; and an oracle that would see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stress.hosts import Host
from tests.stress.conftest import Ended
from tests.stress.judges import who_saw
from zoocache.shm import identity
from zoocache.shm.layout import HEADER_WORDS

Stress = Callable[..., Ended]

SHORT = ("--hosts", "2", "--processes", "1", "--seconds", "3", "--slack", "5")
UNTIL_CAUGHT = ("--hosts", "2", "--processes", "2", "--seconds", "180", "--slack", "5")


@pytest.mark.parametrize("mixture", [("memory",), ("lmdb",), ("redis",), ("redis", "--no-bus")], ids="".join)
def test_partition_holds(mixture: tuple[str, ...], stress: Stress) -> None:
    """Faults of all kinds, in each storage: nothing stale once all has settled, and nobody hangs."""
    ended = stress("partition", "--seed", "1", *SHORT, "--storage", *mixture)
    assert 0 == ended.status, ended.said
    assert "partition: every promise held (seed 1)" in ended.said
    rounds, faults = map(int, re.findall(r"(\d+) rounds, (\d+) faults", ended.said)[0])
    assert (True, True) == (rounds > 0, faults > 0)
    reads, hits = map(int, re.findall(r"(\d+) reads, (\d+) of them hits", ended.said)[0])
    assert reads > hits > 0


@pytest.mark.parametrize(
    ("mutant", "storage"),
    [
        ("mute", "lmdb"), ("no-replay", "memory"), ("no-floor", "memory"), ("open-gate", "redis"),
        ("dozing", "memory"),
    ],
)  # fmt: skip
def test_the_oracle_sees(mutant: str, storage: str, stress: Stress) -> None:
    """With one rule between hosts turned off, partition fails, and tells what was stale."""
    ended = stress("partition", "--seed", "2", "--storage", storage, "--mutant", mutant, *UNTIL_CAUGHT)
    assert 1 == ended.status, ended.said
    assert who_saw(ended.said, 2), ended.said
    assert "partition: BROKEN (seed 2)" in ended.said


def test_a_segment_that_is_being_made_has_no_listener(prefix: str) -> None:
    """Between the making of the object and of its header there is nothing to read, and that is no error."""
    host = Host(cast("Any", SimpleNamespace(prefix=prefix)), 0, cast("Any", None))
    file = Path(identity.segment_file(identity.segment_name(prefix, host_id=host.host_id)))
    for header in (None, b"", bytes(8 * HEADER_WORDS - 8)):
        if header is not None:
            file.write_bytes(header)
        assert 0 == host.listener()
    file.unlink()


def test_hosts_without_anything_between_them_are_refused(stress: Stress) -> None:
    """Memory or LMDB without a bus is no partition: the program says so, and runs nothing."""
    ended = stress("partition", "--storage", "memory", "--no-bus")
    assert 2 == ended.status
    assert "--no-bus" in ended.said
