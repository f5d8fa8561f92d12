"""Damage for tests that feed bad bytes to the library: what every fuzz test draws, and how many examples it takes.

    @examples(200)
    @given(damaged(pack(message)))
    def test_fuzz_messages(data): ...

The rule that all of them check: an error of the library's family or a miss; never another exception, a crash, a hang,
or a value that was never put there under that key. The suite takes some seconds of it; a long run, of which
docs/reliability.md tells, is

    HYPOTHESIS_PROFILE=long pytest tests -k fuzz --timeout=0 --hypothesis-show-statistics
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

MOST_EDITS = 4
LONG = 40
"""A long run takes so many times the examples of the suite."""

WORDS = (0, 1, 2, 2**16 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)
"""Extreme words: what arithmetic, lengths and counters stumble over."""

_PIECES = [
    *(word.to_bytes(8, "little") for word in WORDS), *(word.to_bytes(8, "big") for word in WORDS),
    *(bytes([0]) * size for size in (1, 4, 16)), b"\xff" * 4, b"\xc1\x02", b"\xdd\xff\xff\xff\xff", b"9" * 16,
    b"-0000000000000001", b"                ", b"nan", b"1e308", b"\r\n", b"$-1\r\n", b"*1\r\n", b":",
]  # fmt: skip


def is_long() -> bool:
    """Whether this is a long run."""
    return os.environ.get("HYPOTHESIS_PROFILE") == "long"


def examples(count: int, **others: Any) -> settings:
    """The settings of a fuzz test that takes so many examples in the suite."""
    most = count * (LONG if is_long() else 1)
    return settings(max_examples=most, deadline=None, suppress_health_check=list(HealthCheck), **others)


words = st.sampled_from(WORDS) | st.integers(0, 2**64 - 1)


class Edit(NamedTuple):
    """One change of bytes, whatever they are: places are taken modulo their length."""

    what: str
    at: int
    other: int
    size: int
    piece: bytes


places = st.integers(0, 2**16 - 1)
edits = st.lists(
    st.builds(
        Edit, st.sampled_from(["flip", "flip", "overwrite", "insert", "cut", "swap"]), places, places,
        st.sampled_from([1, 2, 8, 16, 10**6]), st.sampled_from(_PIECES) | st.binary(min_size=1, max_size=8),
    ),
    min_size=1, max_size=MOST_EDITS,
)  # fmt: skip
"""What may happen to bytes that are not known yet; `edited` does it."""


def edited(data: bytes, changes: Iterable[Edit]) -> bytes:
    """These bytes, changed."""
    found = bytearray(data)
    for change in changes:
        if found:
            _edit(found, change)
    return bytes(found)


def _edit(found: bytearray, change: Edit) -> None:
    what, at, other, size, piece = change
    at, other = at % len(found), other % len(found)
    if what == "flip":
        found[at] ^= 1 << size % 8
    elif what == "cut":
        del found[at : at + size]
    elif what == "swap":
        one, two = found[at : at + size], found[other : other + size]
        found[at : at + len(one)], found[other : other + len(two)] = two[: len(one)], one[: len(two)]
    else:
        found[at : at + (len(piece) if what == "overwrite" else 0)] = piece


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """These bytes, with some of: flipped bits, extreme words, cuts, inserts, ranges that changed places."""
    return edits.map(lambda changes: edited(data, changes))


def damaged_or_noise(data: bytes) -> st.SearchStrategy[bytes]:
    """These bytes damaged, or any bytes at all."""
    return st.one_of(damaged(data), damaged(data), damaged(data), st.binary(max_size=2 * len(data) + 8))


@contextlib.contextmanager
def busy_at_most(seconds: float) -> Iterator[None]:
    """Fail where this thread computes for longer: bad bytes must not make anything loop. A wait that never ends is
    what the deadline of the test is for."""

    def fail(_number: int, _frame: object) -> None:
        raise AssertionError(f"busy for more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, fail)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
