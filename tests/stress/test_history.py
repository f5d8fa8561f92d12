"""The history checker: what can be explained is accepted, and what cannot is told, with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stress.events import NONE, Event
from stress.history import KEPT, World, check, explain

TAGS = ["all", "one", "two"]
"""Key 1 is below the tags all and one, key 2 below all and two."""
BRIEF, PLAIN, NESTED = 1, 2, 3

WORLD = World(
    lambda kind, key, tag: [1, 2] if kind == "clear" or tag == 0 else [tag] if kind == "invalidate" else [key],
    host_of=lambda slot: slot // 10, own_fill={BRIEF, PLAIN}, oldest_ns={BRIEF: 1_000},
)  # fmt: skip


def wrote(start: int, end: int, version: int, tag: int = 1, kind: str = "invalidate", slot: int = 0) -> list[Event]:
    """The truth of key 1 became a version a moment before its tag, or another one above it, was invalidated."""
    return [
        Event(start - 1, start, "begun", 1, tag, version, slot=slot),
        Event(start, end, kind, 1, tag, version, slot=slot),
    ]


def got(start: int, end: int, version: int, filled: int, way: int = PLAIN, slot: int = 0, key: int = 1) -> Event:
    """A read."""
    return Event(start, end, "read", key, NONE, version, 0, filled, way, slot=slot)


def rules(*events: Event | list[Event]) -> list[str]:
    """The rules that a history breaks."""
    flat = [each for event in events for each in (event if isinstance(event, list) else [event])]
    return [violation.rule for violation in check(flat, WORLD)]


@pytest.mark.parametrize(
    ("expected", "read"),
    [
        pytest.param([], got(10, 12, 0, 11), id="filled by itself"),
        pytest.param([], got(110, 119, 0, 50), id="while it is under way the old may be read"),
        pytest.param([], got(110, 119, 1, 105), id="and the new"),
        pytest.param([], got(110, 190, 0, 50), id="the read began before the end"),
        pytest.param([], got(120, 130, 0, 50), id="at the very end: who knows"),
        pytest.param([], got(130, 140, 1, 135), id="filled afterwards"),
        pytest.param([], got(130, 140, 1, 100), id="filled while it was under way"),
        pytest.param(["FRESH", "VERSION"], got(121, 130, 0, 50), id="stale"),
        pytest.param(["FRESH"], got(121, 130, 1, 99), id="filled before, though with the new truth"),
        pytest.param(
            ["VERSION"], got(121, 130, 0, 99, key=1)._replace(filled_ns=100), id="the old truth, filled later"
        ),
        pytest.param(["FUTURE"], got(10, 20, 1, 15), id="not yet written"),
        pytest.param(["MIXED"], got(105, 115, 0, 110), id="the old truth was no longer there"),
    ],
)
def test_one_invalidation(expected: list[str], read: Event) -> None:
    """Version 1 became true at 99; the tag was invalidated from 100 to 120."""
    assert expected == rules(wrote(100, 120, 1), read)


@pytest.mark.parametrize(
    ("expected", "kind", "tag", "key"),
    [
        ([], "invalidate", 2, 1), (["FRESH"], "invalidate", 0, 1), (["FRESH"], "clear", NONE, 1),
        (["FRESH"], "invalidate", 0, 2), (["FRESH"], "invalidate", 2, 2), ([], "invalidate", 1, 2),
        ([], "prune", NONE, 1), ([], "busy", 1, 1), ([], "begun", 1, 1), ([], "visitors", NONE, 1),
    ],
)  # fmt: skip
def test_what_overtakes_what(expected: list[str], kind: str, tag: int, key: int) -> None:
    """A mutation overtakes what is below its tag, whoever's truth it is; what gave up promised nothing."""
    assert expected == rules(Event(100, 120, kind, NONE, tag), got(130, 140, 0, 50, key=key))


def test_the_latest_beginning_counts() -> None:
    """Of the mutations that ended in time that one decides that began last, in whatever order they ended."""
    long, short = Event(100, 200, "invalidate", NONE, 1), Event(140, 150, "invalidate", NONE, 1)
    for read, expected in (
        (got(160, 170, 0, 120), ["FRESH"]), (got(160, 170, 0, 145), []), (got(210, 220, 0, 139), ["FRESH"]),
    ):  # fmt: skip
        assert expected == rules(long, short, read) == rules(read, short, long)


def test_the_highest_version_counts() -> None:
    """A mutation of another key that reaches this one has a version of its own."""
    other = Event(300, 310, "invalidate", 2, 0, version=99)
    assert [] == rules(wrote(100, 120, 5), other, got(320, 330, 5, 315))
    assert ["VERSION"] == rules(wrote(100, 120, 5), other, got(320, 330, 4, 0))


def test_what_was_set() -> None:
    """It was there, at the latest, when the call had ended; of what nobody saw being set, only the version counts."""
    was_set = wrote(100, 120, 1, kind="set", tag=1)
    overtaken = Event(130, 140, "invalidate", NONE, 1)
    assert [] == rules(was_set, got(125, 126, 1, 0))
    assert ["FRESH"] == rules(was_set, overtaken, got(150, 160, 1, 0))
    assert [] == rules(was_set, overtaken._replace(start_ns=110), got(150, 160, 1, 0)), "both were under way"
    assert [] == rules(was_set[:1], overtaken, got(150, 160, 1, 0))
    assert ["VERSION"] == rules(was_set, got(125, 126, 0, 0))


def test_a_dropped_call() -> None:
    """What its own fill has seen is new after the drop; an outer value may rest on what an inner call had."""
    for way, expected in ((PLAIN, ["DROPPED"]), (BRIEF, []), (NESTED, [])):
        assert expected == rules(Event(100, 120, "drop", 1, way=PLAIN), got(130, 140, 0, 50, way=way))
    assert [] == rules(Event(100, 120, "drop", 1, way=NESTED), got(130, 140, 0, 50, way=NESTED))
    assert [] == rules(Event(100, 120, "drop", 1, way=PLAIN, slot=10), got(130, 140, 0, 50))
    assert [] == rules(Event(100, 120, "drop", 1, way=PLAIN), got(130, 140, 0, 110))


def test_a_greatest_age() -> None:
    """It counts from the end of the first call that had the value; one second is forgiven."""
    filling, also, grace = got(100, 200, 0, 150, BRIEF), got(120, 300, 0, 150, BRIEF), 1_000_000_000
    assert [] == rules(filling, also, got(1_200 + grace, 9**12, 0, 150, BRIEF))
    assert ["OLD"] == rules(also, filling, got(1_201 + grace, 9**12, 0, 150, BRIEF))
    assert [] == rules(filling, got(1_201 + grace, 9**12, 0, 150, PLAIN))
    assert [] == rules(got(1_201 + grace, 9**12, 0, 150, BRIEF)), "who filled it was killed"


def test_another_host_hears_later() -> None:
    """A mutation on another host counts from the next moment at which all had heard everything."""
    change, settled = wrote(100, 120, 1, slot=10), Event(500, 501, "settled")
    assert [] == rules(change, got(130, 140, 0, 50))
    assert ["FRESH", "VERSION"] == rules(change, got(130, 140, 0, 50, slot=19))
    assert [] == rules(change, settled, got(490, 510, 0, 50))
    assert ["FRESH", "VERSION"] == rules(change, settled, got(501, 510, 0, 50))
    assert [] == rules(wrote(499, 500, 1, slot=10), settled, got(501, 510, 0, 50)), "it ended no sooner than that"


def test_only_the_last_mutations_are_kept() -> None:
    """However many there were, the one that began last and the highest version are still known."""
    first = wrote(10, 20, 7)
    many = [Event(30 + number, 31 + number, "invalidate", 2, 1, version=9) for number in range(3 * KEPT)]
    late = Event(29, 40 + 3 * KEPT, "invalidate", 2, 1)
    assert ["VERSION"] == rules(first, many, late, got(10 * KEPT, 10 * KEPT + 1, 6, 0))
    assert ["FRESH"] == rules(first, many, late, got(10 * KEPT, 10 * KEPT + 1, 7, 3 * KEPT))
    assert [] == rules(first, many, late, got(10 * KEPT, 10 * KEPT + 1, 7, 30 + 3 * KEPT))


def test_a_violation_is_explained() -> None:
    """It is told with the read, with what forbids it, and with the events of the key around them."""
    events = [
        *wrote(100_000_000, 120_000_000, 1), got(121_000_000, 130_000_000, 0, 50_000_000),
        Event(1, 2, "read", 1), Event(101_000_000, 102_000_000, "read", 2), Event(110_000_000, 111_000_000, "clear"),
    ]  # fmt: skip
    said = explain(check(events, WORLD)[0], events, WORLD, TAGS).splitlines()
    assert "FRESH: what was read was filled 60.000 ms before" == said[0]
    assert ["clear", "read/2", "begun", "clear", "invalidate", "read/2"] == [
        line.split("lane 0")[1].split()[0] for line in said[1:] if "lane 0" in line
    ]
    assert "filled at 1.000 ms" in said[-1]


# A model: one key on one host, and a cache that does everything right, in whatever order things happen.


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What a right cache brings about. Each operation has a start, a moment at which it takes effect, and an end, all
    in any order; the owner of the key makes one change after the other, somebody else invalidates at any time."""
    kinds = draw(st.lists(st.sampled_from(["change", "other", "read"]), min_size=1, max_size=12))
    moments = draw(st.permutations(range(10, 10 + 3 * len(kinds))))
    owned = iter(sorted(moments[: 3 * kinds.count("change")]))
    others = iter(moments[3 * kinds.count("change") :])
    steps = []
    for kind in kinds:
        start, middle, end = sorted(next(owned if kind == "change" else others) for _ in range(3))
        steps += [(start, "start", kind, start, end), (middle, "middle", kind, start, end)]
    return _as_it_happens(sorted(steps))


def _as_it_happens(steps: list[tuple[int, str, str, int, int]]) -> list[Event]:
    events: list[Event] = []
    version, kept = 0, None
    for moment, part, kind, start, end in steps:
        if part == "start" and kind == "change":
            version += 1
            events += [Event(start, start, "begun", 1, 1, version), Event(start, end, "invalidate", 1, 1, version)]
        elif part == "middle" and kind == "read":
            kept = kept or (version, moment)
            events.append(got(start, end, *kept))
        elif part == "middle":
            kept = None
            if kind == "other":
                events.append(Event(start, end, "invalidate", NONE, 0))
    return events


@settings(deadline=None)
@given(histories())
def test_what_a_right_cache_does_is_accepted(events: list[Event]) -> None:
    """Whatever the order, nothing is held against it."""
    assert [] == check(events, WORLD)


@settings(deadline=None)
@given(histories(), st.data())
def test_an_older_value_is_rejected_where_the_rule_says_so(events: list[Event], data: st.DataObject) -> None:
    """One read is given an older value: it is told exactly if some mutation that ended before the read forbids it."""
    reads = [place for place, event in enumerate(events) if event.kind == "read"]
    if not reads:
        return
    place = data.draw(st.sampled_from(reads))
    filled = data.draw(st.integers(1, events[place].filled_ns))
    events[place] = read = events[place]._replace(filled_ns=filled)
    stale = any(
        event.kind == "invalidate" and event.end_ns < read.start_ns and filled < event.start_ns for event in events
    )
    assert stale == ("FRESH" in [each.rule for each in check(events, WORLD) if each.read is read])


@settings(deadline=None)
@given(histories(), st.data())
def test_an_older_version_is_rejected_where_the_rule_says_so(events: list[Event], data: st.DataObject) -> None:
    """The same with a version."""
    reads = [place for place, event in enumerate(events) if event.kind == "read"]
    if not reads:
        return
    place = data.draw(st.sampled_from(reads))
    version = data.draw(st.integers(0, events[place].version))
    events[place] = read = events[place]._replace(version=version)
    stale = any(
        event.kind == "invalidate" and event.end_ns < read.start_ns and version < event.version for event in events
    )
    assert stale == ("VERSION" in [each.rule for each in check(events, WORLD) if each.read is read])
