"""The file of a history: what was kept is judged again, and what was damaged is told from what was cut short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stress import kept_history, proof, tree
from stress.__main__ import main
from stress.board import Board, Shape
from stress.kept_history import Unreadable, Writer

OWN = tree.TAG_NUMBERS[tree.own_tag(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A history of two blocks: a change, and two reads of what it has overtaken."""
    board, found = Board(tmp_path / "board", Shape(slots=1, lanes=1)), tmp_path / "history"
    ring, writer = board.ring(0, 0), Writer(found, 5, 1)
    ring.attend(1)
    ring.note("invalidate", 3, 100, 200, tag=OWN, version=1)
    ring.note("read", 3, 300, 400, version=0, filled_ns=50)
    writer.add(ring.take())
    writer.add(ring.take())
    ring.note("read", 3, 300, 400, version=0, filled_ns=50)
    writer.add(ring.take())
    writer.end()
    return found


def test_it_is_judged_again(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong in it is told with its seed."""
    history = kept_history.read(path)
    assert (5, 1, ["invalidate", "read", "read"], True) == (
        history.seed, history.slots_per_host, [event.kind for event in history.events], history.is_whole,
    )  # fmt: skip
    assert not proof.main(kept_history.read(path))
    said = capsys.readouterr().out
    assert "HISTORY, seed 5: FRESH" in said
    assert "3 events, 2 reads, 4 faults; " in said
    assert "cut short" not in said


def test_the_run_was_killed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever the file ends, it is judged up to its last whole block, and called cut short."""
    kept = path.read_bytes()
    seen = set()
    for length in range(len(kept)):
        path.write_bytes(kept[:length])
        try:
            history = kept_history.read(path)
        except Unreadable:
            seen.add(0)
        else:
            assert not history.is_whole
            seen.add(len(history.events))
    assert {0, 2, 3} == seen
    path.write_bytes(kept[:-1])
    assert not proof.main(kept_history.read(path))
    assert "3 events, 2 reads, 4 faults; " in (said := capsys.readouterr().out)
    assert "; the file is cut short: " in said


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damage_is_found(path: Path, data: st.DataObject) -> None:
    """Bits that were flipped anywhere, or bytes that were put in or taken out before the last block: never another
    history."""
    kept = path.read_bytes()
    damaged = bytearray(kept)
    how = data.draw(st.sampled_from(["flip", "put in", "take out", "go on"]))
    place = data.draw(st.integers(0, len(kept) - 1))
    if how == "flip":
        damaged[place] ^= data.draw(st.integers(1, 255))
    elif how == "put in":
        damaged[place:place] = data.draw(st.binary(min_size=1, max_size=100))
    elif how == "take out":
        at = min(place, len(kept) - 40)
        del damaged[at : at + data.draw(st.integers(1, 16))]  # of more, the file would look cut short in its last block
    else:
        damaged += data.draw(st.binary(min_size=1, max_size=100))
    other = path.with_name("damaged")
    other.write_bytes(damaged)
    if damaged != kept:
        with pytest.raises(Unreadable):
            kept_history.read(other)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (b"", "is not what"), (b"\n", "is not what"), (b"\xff\x00\n", "is not what"),
        (b"[]\n", "is not what"), (b'{"seed": 5, "slots_per_host": 1}\n', "is not what"),
        (b'{"format": 1, "seed": 5}\n', "does not say"), (b'{"format": 1, "slots_per_host": 5}\n', "does not say"),
        (b'{"format": 1, "seed": 5, "slots_per_host": 0}\n', "does not say"),
        (b'{"format": 1, "seed": 5, "slots_per_host": "1"}\n', "does not say"),
        (b'{"format": 1, "seed": 5, "slots_per_host": 1}\n', "holds no event"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged(kept: bytes, said: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says why, and its exit status is not that of a broken promise."""
    path.write_bytes(kept)
    with pytest.raises(SystemExit) as ended:
        main(["history", str(path)])
    assert 2 == ended.value.code
    found = capsys.readouterr()
    assert "" == found.out
    assert f": error: argument file: {path} {said}" in found.err


def test_what_is_no_file(tmp_path: Path) -> None:
    """The same for a directory, and for nothing at all."""
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(Unreadable, match=f"^{path}: "):
            kept_history.read(path)


def test_a_line_of_another_run(path: Path) -> None:
    """The first line is checked with the first block."""
    line, _, blocks = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps(json.loads(line) | {"slots_per_host": 2}).encode() + b"\n" + blocks)
    with pytest.raises(Unreadable, match="checksum"):
        kept_history.read(path)
