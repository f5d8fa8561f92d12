"""The format of `zoocache.codec`, byte for byte: entries outlive a release."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import pathlib
import uuid
from typing import Any

import pytest

from tests.codec.sameness import same
from tests.specimens import BERLIN, MOMENT, Color, NotedPoint, Pair, Point, Right, noted
from zoocache import codec

FORMAT: list[tuple[str, Any]] = [
    ("81a1619701ffcb3ff8000000000000c0c3a2c3a9c40100", {"a": [1, -1, 1.5, None, True, "é", b"\x00"]}),
    ("c101c70901000000000000000001", 2**64),
    ("c101d8020000000000000000000000000000f83f", 1.5j),
    ("c101d5036162", bytearray(b"ab")),
    ("c101d604e8070a1b", MOMENT.date()),
    ("c101d705021e000000000000", MOMENT.time()),
    ("c101c70c06e8070a1b021e000000000000", MOMENT),
    ("c101c71a06e8070a1b021e0000000000017a4575726f70652f4265726c696e", MOMENT.replace(tzinfo=BERLIN, fold=1)),
    ("c101c71506e8070a1b021e0000000000006f0000000000000000", MOMENT.replace(tzinfo=dt.timezone.utc)),
    ("c101c70a086e00a493d60000000058", dt.timezone(dt.timedelta(hours=1), "X")),
    ("c101c70c07ffffffff0200000003000000", dt.timedelta(-1, 2, 3)),
    ("c101c70d094575726f70652f4265726c696e", BERLIN),
    ("c101d60a312e3530", decimal.Decimal("1.50")),
    ("c101d60b2d312c33", fractions.Fraction(-1, 3)),
    ("c101d80c00000000000000000000000000000001", uuid.UUID(int=1)),
    ("c101d60d00612f62", pathlib.PurePosixPath("a/b")),
    ("c101c7050e312c392c32", range(1, 9, 2)),
    ("c10293c700200192c7002002", (1, (2,))),
    ("c10292c7002101", {1}),
    ("c10292c7002201", frozenset({1})),
    ("c10294c7002301c0c0", slice(1, None)),
    ("c10292c7002481a16201", collections.OrderedDict(b=1)),
    ("c10292c7002581a16101", collections.Counter("a")),
    ("c10293c70026ad6275696c74696e733a6c69737481019102", collections.defaultdict(list, {1: [2]})),
    ("c10293c700270201", collections.deque([1], 2)),
    (
        "c1029292c7154074657374732e73706563696d656e733a436f6c6f72a352454492c7154074657374732e73706563696d656e733a526967687403",
        [Color.RED, Right.READ | Right.WRITE],
    ),
    ("c10293c7194174657374732e73706563696d656e733a506f696e7400780079019102", Point(1, [2])),
    (
        "c10294c71e4174657374732e73706563696d656e733a4e6f746564506f696e7400780079010081a46e6f7465a178",
        noted(NotedPoint(1), note="x"),
    ),
    ("c10293c7184274657374732e73706563696d656e733a50616972007800790102", Pair(1, 2)),
]


@pytest.mark.parametrize(("text", "value"), FORMAT, ids=[repr(value) for _, value in FORMAT])
def test_the_format_stays(text: str, value: Any) -> None:
    """The bytes of an earlier release mean the same today, and today's are the same."""
    assert same(value, codec.decode(bytes.fromhex(text)))
    assert text == codec.encode(value, label="f()").hex()
