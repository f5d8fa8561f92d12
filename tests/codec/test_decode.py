"""`zoocache.codec.decode`: it trusts no byte. Whatever is wrong with the bytes is Undecodable, which is a miss."""

from __future__ import annotations

import os
import struct
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.children import Children
from tests.codec.kinds import KEPT
from tests.fuzz import Edit, busy_at_most, edited, edits, examples
from tests.specimens import MOMENT, Color, Frozen, Pair, Point
from zoocache import codec
from zoocache.codec.faults import Undecodable
from zoocache.errors import ZooCacheError

SMALL = [value for value in KEPT if len(codec.encode(value, label="f()")) < 500]
PAYLOADS = [codec.encode(value, label="f()") for value in SMALL]
SCALAR, MARKED = b"\xc1\x01", b"\xc1\x02"


def ext(code: int, payload: bytes) -> bytes:
    """One ext object."""
    return b"\xc8" + struct.pack(">Hb", len(payload), code) + payload


def array(*items: bytes) -> bytes:
    """A marked array of packed items."""
    return MARKED + msgpack.Packer().pack_array_header(len(items)) + b"".join(items)


def decodes(data: bytes) -> bool:
    """Whether the bytes are a value; the only error they may raise is Undecodable."""
    try:
        codec.decode(data)
    except Undecodable:
        return False
    return True


@examples(100)
@given(st.binary())
@example(b"")
@example(MARKED)
@example(b"\xc1\xc1")
@example(b"\xd4\x01\x00")
def test_fuzz_any_bytes(data: bytes) -> None:
    """Any bytes are a value or Undecodable, with marks or without."""
    decodes(data)
    decodes(SCALAR + data)
    decodes(MARKED + data)


@examples(400)
@given(st.sampled_from(PAYLOADS), edits, st.sampled_from([b"", *PAYLOADS]), st.integers(0, 500))
def test_fuzz_payloads(payload: bytes, changes: list[Edit], other: bytes, at: int) -> None:
    """Bytes of a value that were changed, cut, swapped or mixed with another's are a value or Undecodable."""
    mixed = payload[:at] + other[1:] + payload[at:]
    with busy_at_most(5):
        decodes(edited(mixed, changes))
        decodes(edited(payload, changes))


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload[:20].hex())
def test_bytes_that_were_cut_are_no_value(payload: bytes) -> None:
    """Not one byte may be missing, and none may follow."""
    assert [] == [size for size in range(len(payload)) if decodes(payload[:size])]
    assert not decodes(payload + b"\0")
    assert not decodes(payload + payload)


CLASS = f"{__name__}:NoClass"
MARK_OF = {
    "Color": f"{Color.__module__}:Color",
    "Point": "\0".join((f"{Point.__module__}:Point", "x", "y")),
    "Pair": "\0".join((f"{Pair.__module__}:Pair", "x", "y")),
}
NIL, ONE = b"\xc0", b"\x01"
BAD = {
    "nothing": b"",
    "only the first two bytes": MARKED,
    "only the first of two": b"\xc1",
    "of no known kind": b"\xc1\x03\x01",
    "a type that msgpack does not have": MARKED + b"\xc1",
    "trailing bytes": b"\x01\x02",
    "an unknown scalar": SCALAR + ext(31, b""),
    "a negative code": SCALAR + ext(-2, b"x"),
    "a mark among scalars": SCALAR + array(ext(32, b""), ONE)[2:],
    "an unknown mark": array(ext(99, b"")),
    "a mark alone": MARKED + ext(32, b""),
    "a mark at the wrong place": array(ONE, ext(32, b"")),
    "two marks": array(ext(32, b""), ext(32, b"")),
    "a mark as a key": MARKED + b"\x81" + ext(32, b"") + ONE,
    "a mark as a value": MARKED + b"\x81" + ONE + ext(32, b""),
    "a list as a key": b"\x81\x90\x01",
    "a list in a set": array(ext(33, b""), b"\x90"),
    "half a slice": array(ext(35, b""), ONE),
    "an OrderedDict of a list": array(ext(36, b""), b"\x90"),
    "a Counter of nothing": array(ext(37, b"")),
    "a defaultdict of no function": array(ext(38, b""), bytes(msgpack.packb("sys:path")), b"\x80"),
    "a defaultdict of a method of an instance": array(ext(38, b""), bytes(msgpack.packb("sys:path.append")), b"\x80"),
    "a deque of length text": array(ext(39, b""), b"\xa1x"),
    "a complex of seven bytes": SCALAR + ext(2, b"1234567"),
    "a date without a month": SCALAR + ext(4, struct.pack("<HBB", 2024, 0, 1)),
    "a datetime with half a zone": SCALAR + ext(6, codec.encode(MOMENT, label="")[5:] + b"o\0"),
    "a zone of an unknown kind": SCALAR + ext(8, b"x"),
    "a zone of more than a day": SCALAR + ext(8, b"o" + struct.pack("<q", 86_400_000_000)),
    "a timezone without an offset": SCALAR + ext(8, b""),
    "a zone that is not there": SCALAR + ext(9, b"Atlantis/Centre"),
    "a zone outside": SCALAR + ext(9, b"../../etc/passwd"),
    "a directory as a zone": SCALAR + ext(9, b"Europe"),
    "a Decimal of words": SCALAR + ext(10, b"one"),
    "a Decimal that is not ASCII": SCALAR + ext(10, b"\xff"),
    "a Fraction of nothing": SCALAR + ext(11, b"1,0"),
    "a Fraction of one number": SCALAR + ext(11, b"1"),
    "a UUID of 15 bytes": SCALAR + ext(12, b"x" * 15),
    "a path of an unknown class": SCALAR + ext(13, b"\x09x"),
    "a path of another system": SCALAR + ext(13, b"\x03." if os.name == "posix" else b"\x02."),
    "a path of no class": SCALAR + ext(13, b""),
    "a range without a step": SCALAR + ext(14, b"0,1,0"),
    "text that is not UTF-8": b"\xa1\xff",
    "a mark's text that is not UTF-8": array(ext(64, b"\xff"), ONE),
    "a class without a name": array(ext(64, b""), ONE),
    "a class that is gone": array(ext(64, CLASS.encode()), ONE),
    "a module that is gone": array(ext(64, b"no_such_module_anywhere:Color"), ONE),
    "a file as a module": array(ext(64, b"/etc/passwd:Color"), ONE),
    "a relative module": array(ext(64, b"..x:Color"), ONE),
    "a function as a class": array(ext(64, b"os:system"), ONE),
    "an attribute of an instance": array(ext(64, b"sys:flags.__class__"), ONE),
    "another class as an Enum": array(ext(64, b"builtins:dict"), ONE),
    "a dataclass as an Enum": array(ext(64, MARK_OF["Point"].encode()), ONE),
    "an Enum as a dataclass": array(ext(65, MARK_OF["Color"].encode()), ONE),
    "a namedtuple as a dataclass": array(ext(65, MARK_OF["Pair"].encode()), ONE, ONE),
    "no member": array(ext(64, MARK_OF["Color"].encode())),
    "a member that is gone": array(ext(64, MARK_OF["Color"].encode()), b"\xa4BLUE"),
    "a member by its value": array(ext(64, MARK_OF["Color"].encode()), ONE),
    "a field too few": array(ext(65, MARK_OF["Point"].encode()), ONE),
    "two fields too many": array(ext(65, MARK_OF["Point"].encode()), ONE, ONE, NIL, NIL),
    "attributes that are no map": array(ext(65, MARK_OF["Point"].encode()), ONE, ONE, ONE),
    "a field that is gone": array(ext(65, MARK_OF["Point"].replace("y", "z").encode()), ONE, ONE),
    "fields that came": array(ext(65, MARK_OF["Point"].removesuffix("\0y").encode()), ONE),
    "an item too few": array(ext(66, MARK_OF["Pair"].encode()), ONE),
    "a tuple with a class's payload": array(ext(32, b"builtins:dict")),
    "an array that claims more than there is": b"\xdd\xff\xff\xff\xff",
    "a map that claims more than there is": b"\xdf\xff\xff\xff\xff",
    "text that claims more than there is": b"\xdb\xff\xff\xff\xff",
    "arrays without an end": b"\x91" * 100_000 + b"\xc0",
    "maps without an end": b"\x81\x01" * 100_000 + b"\xc0",
    "tuples without an end": MARKED + (b"\x92" + ext(32, b"")) * 100_000 + b"\xc0",
    "ext objects in ext objects": MARKED + ext(32, ext(32, ext(32, NIL))),
    "a timestamp of no day": SCALAR + ext(-1, b"\xff" * 12),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_bytes_are_undecodable(data: bytes) -> None:
    """Every kind of wrong bytes raises Undecodable, an internal error that the engine takes for a miss."""
    with pytest.raises(Undecodable) as caught:
        codec.decode(data)
    assert isinstance(caught.value, ZooCacheError)
    assert isinstance(caught.value, ValueError)


BOMB = """
    import resource
    from zoocache import codec
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 1 << 20
    bombs = [
        b"\\xdd\\xff\\xff\\xff\\xff", b"\\xc1\\x02\\xdf\\xff\\xff\\xff\\xff", b"\\xc6\\xff\\xff\\xff\\xff",
        (b"\\xdd" + size.to_bytes(4, "big")) * 1000 + bytes(size - 5000),
        b"\\xc1\\x02" + (b"\\x92\\xc7\\x00\\x20") * 100_000, b"\\x91" * size, b"\\x81" * size,
    ]
    for bomb in bombs:
        try: codec.decode(bomb)
        except codec.Undecodable: print("undecodable")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000)
"""


def test_bombs_take_no_memory(children: Children) -> None:
    """Bytes that claim to be huge take little memory before they are found out."""
    assert "undecodable\n" * 7 + "True\n" == children.code(BOMB).output()


def test_a_module_that_fails_to_load_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the module of a class raises when it is imported, the bytes are Undecodable."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "failing_module.py").write_text("raise ZeroDivisionError('mine')")
    with pytest.raises(Undecodable, match="ZeroDivisionError"):
        codec.decode(array(ext(64, b"failing_module:Color"), b"\xa3RED"))


def test_the_module_of_a_class_is_imported(tmp_path: Path, children: Children) -> None:
    """A process that has not loaded a class's module yet loads it, and no other, to give the value back."""
    (tmp_path / "kinds_there.py").write_text("import enum\nclass Kind(enum.Enum): ONE = 1")
    (tmp_path / "other_module.py").write_text("")
    data = array(ext(64, b"kinds_there:Kind"), b"\xa3ONE")
    child = children.code(
        """
        import sys
        from zoocache import codec
        sys.path.insert(0, sys.argv[1])
        before = set(sys.modules)
        value = codec.decode(bytes.fromhex(sys.argv[2]))
        print(value, sorted(set(sys.modules) - before))
        """,
        str(tmp_path),
        data.hex(),
    )
    assert "Kind.ONE ['kinds_there']\n" == child.output()


def test_plain_msgpack_is_read_as_it_is() -> None:
    """Bytes without our first byte are msgpack's own, ext objects and timestamps too."""
    for value in ({"a": [1, None]}, [msgpack.ExtType(99, b"x")], msgpack.Timestamp(5, 6)):
        assert value == codec.decode(bytes(msgpack.packb(value)))


def test_a_view_of_bytes_will_do() -> None:
    """A storage may hand over a view of its own memory; nothing of it is referred to afterwards."""
    for value in ([1, "a", b"b"], (1, Pair(b"c", Frozen(2)))):
        data = bytearray(codec.encode(value, label="f()"))
        again = codec.decode(memoryview(data))
        data[:] = bytes(len(data))
        assert value == again


def changed_class(text: str) -> Any:
    """A class by the name `Changing` in this module, as a new release might have it."""
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(textwrap.dedent(text), namespace)  # noqa: S102  # the releases of a class
    sys.modules[__name__].Changing = namespace["Changing"]
    return namespace["Changing"]


ONE_RELEASE = "import dataclasses\n@dataclasses.dataclass\nclass Changing:\n    x: int\n    y: int = 0"
OTHER_RELEASES = [
    "import dataclasses\n@dataclasses.dataclass\nclass Changing:\n    x: int",
    "import dataclasses\n@dataclasses.dataclass\nclass Changing:\n    x: int\n    y: int = 0\n    z: int = 0",
    "import dataclasses\n@dataclasses.dataclass\nclass Changing:\n    y: int\n    x: int = 0",
    "import collections\nChanging = collections.namedtuple('Changing', 'x y')",
    "import enum\nclass Changing(enum.Enum): x = 1",
    "class Changing:\n    x = 1\n    y = 2",
    "Changing = 5",
]


@pytest.mark.parametrize("release", OTHER_RELEASES)
def test_a_class_that_changed_is_a_miss(release: str) -> None:
    """Values of a class that has other fields, or is of another kind by now, are Undecodable."""
    data = codec.encode([changed_class(ONE_RELEASE)(1, 2)], label="f()")
    assert 2 == codec.decode(data)[0].y
    changed_class(release)
    with pytest.raises(Undecodable):
        codec.decode(data)


SPAWN = """
    import dataclasses, enum, multiprocessing, sys
    from zoocache import codec

    @dataclasses.dataclass
    class Point:
        x: int
        kind: object = None

    class Kind(enum.Flag):
        A = 1
        B = 2

    VALUE = [Point(1, Kind.A | Kind.B), (Kind.B, Point(2))]

    def read(data, answers):
        value = codec.decode(data)
        answers.put((__name__, value == VALUE, codec.encode(value, label="f()") == data))

    if __name__ == "__main__":
        data = codec.encode(VALUE, label="f()")
        for method in ("spawn", "forkserver", "fork"):
            context = multiprocessing.get_context(method)
            answers = context.Queue()
            child = context.Process(target=read, args=(data, answers))
            child.start()
            print(*answers.get(timeout=60), flush=True)
            child.join(60)
"""


def test_classes_of_a_script_are_found_in_its_children(children: Children, tmp_path: Path) -> None:
    """What a script keeps of its own classes comes back in the processes it spawns, and the other way round."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SPAWN))
    lines = children.script(tmp_path / "script.py").output().splitlines()
    assert ["__mp_main__ True True", "__mp_main__ True True", "__main__ True True"] == lines


def test_classes_of_another_script_are_not_mistaken(children: Children, tmp_path: Path) -> None:
    """A script does not take its own class for that of another script, though both are `__main__`."""
    text = """
        import enum, sys
        from zoocache import codec
        class Color(enum.Enum): RED = 1
        if len(sys.argv) == 1:
            print(codec.encode(Color.RED, label="f()").hex())
        else:
            try: print(codec.decode(bytes.fromhex(sys.argv[1])))
            except codec.Undecodable as error: print("undecodable")
    """
    for name in ("one.py", "other.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
    data = children.script(tmp_path / "one.py").output().strip()
    assert "Color.RED\n" == children.script(tmp_path / "one.py", data).output()
    assert "undecodable\n" == children.script(tmp_path / "other.py", data).output()
