"""What a stress program says when something stale was read: by the oracle, by the history checker, or by both.

Which of the two finds it first is open: the oracle looks at once, but sees less.
"""

from __future__ import annotations

import re


def who_saw(said: str, seed: int) -> set[str]:
    """Who found something stale in a run; what the oracle says of it must be whole."""
    found = {"history"} if re.search(rf"HISTORY, seed {seed}: (FRESH|VERSION): ", said) else set()
    if not re.search(r"^STALE: ", said, re.MULTILINE):  # who asks between two lives, or in the end, says so before it
        return {*found, "check"} if "STALE: " in said else found
    report = re.search(
        r"STALE: key \d+ was read at version (\d+), though (\d+) was finished before\n"
        rf"  seed {seed}, slot \d, lane \d, key (\d+), tag zoo:\S+; the last events of this key:\n(.*)\n\n",
        said, re.DOTALL,
    )  # fmt: skip
    assert report is not None, said
    assert int(report[1]) < int(report[2])
    assert re.search(rf"process \d+ lane \d+ +\S+ +key {report[3]} version \d+ ", report[4])  # it may read others' too
    return {*found, "oracle"}
