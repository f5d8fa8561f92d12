"""The codec: values to bytes and back, each with its type.

Format. JSON-like values are one msgpack object (github.com/msgpack/msgpack, spec.md) and nothing else, so that C writes
and reads them. What msgpack lacks is

    a scalar        an ext object, codes 1 to 31: `zoocache.codec.scalars`
    a container     an array whose first item is a mark, an ext object with a code from 32: `containers`, `classes`

and bytes with any of these begin with 0xC1, which msgpack never uses, and one byte more: 1 if there are scalars only,
2 if there are marks, for only then must reading look at each array. The msgpack object follows.

The writer packs the value in one go; msgpack asks `_Writer.lower` about each object that it does not know. Then the
writer makes sure of what msgpack knew: a bytearray or memoryview was written as bytes, and an ExtType of the user's as
one of ours. If there is any, it packs again with these veiled, so that they are asked about too. Whether there are bin
objects at all shows in a second packing without them, which costs half of a look at each part. Rejected for that look:
`gc.get_referents`, which is faster, and overlooks what is in the `__dict__` of an instance since CPython 3.13.

The reader trusts no byte: whatever is wrong with them is `Undecodable`, which is a miss. What a signal handler raises
meanwhile goes to the caller (`faults.MALFORMED`). msgpack bounds the length of each
array by the length of the bytes; every mark that was read must have been used up by its array. No code is ever run but
the constructors named here, and the import of a module that a class's name begins with.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from msgpack import ExtType, Timestamp, Unpacker, packb, unpackb
from msgpack.exceptions import StackError

from zoocache.anatomy import locate
from zoocache.codec.classes import Shape, builder_of, lower_instance
from zoocache.codec.containers import BUILD, LOWER, Builder
from zoocache.codec.faults import MALFORMED, Undecodable, Unkeepable
from zoocache.codec.immutable import is_immutable
from zoocache.codec.scalars import PACK, pack_bytearray, read_scalar
from zoocache.errors import UnkeepableResult

__all__ = ["Undecodable", "decode", "encode", "is_immutable"]

MAX_DEPTH = 1024  # of arrays and maps: what msgpack's reader has room for
_OURS, _SCALARS, _MARKS = b"\xc1", b"\xc1\x01", b"\xc1\x02"
_FIRST_MARK = 32
_MISREAD = frozenset({bytearray, memoryview, ExtType})
_SINGLE = frozenset({type(None), bool, float, str})
"""What is packed alone as it would be inside something else, without a look at what msgpack may make of it."""
_LEAVES = frozenset({type(None), bool, int, float, str, bytes, Timestamp})
_WORD = 1 << 63
_TEXT = frozenset({str})
_items = chain.from_iterable
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels, or contains itself"
_WAY_OUT = "return plain data, a dataclass, an Enum member or a namedtuple instead"


def encode(value: Any, *, label: str) -> bytes:
    """The bytes of a value.

    Args:
        value: what to keep.
        label: what an error calls the function it comes from, such as `get_user()`.

    Returns:
        Bytes that `decode` turns into an equal value of the same type, in any process that has its classes.

    Raises:
        UnkeepableResult: something in it would not come back; the message names the label and the path inside.
    """
    try:
        return _pack(value)
    except Unkeepable:
        raise _refusal(value, label) from None


def decode(data: bytes | memoryview) -> Any:
    """The value of bytes from `encode`.

    Raises:
        Undecodable: they are none, or of a class that is not to be had here as it was.
    """
    try:
        if data[:1] != _OURS:
            return unpackb(data, strict_map_key=False, unicode_errors="surrogatepass")
        return _read(bytes(data[:2]), memoryview(data)[2:])
    except Undecodable:
        raise
    except MALFORMED as error:  # the bytes decide which constructors run, and what these raise
        raise Undecodable(f"reading it raised {type(error).__name__}") from error  # whose text may show the value


def _read(kind: bytes, body: memoryview) -> Any:
    if kind == _SCALARS:
        return unpackb(body, ext_hook=read_scalar, strict_map_key=False, unicode_errors="surrogatepass")
    if kind != _MARKS:
        raise Undecodable(f"bytes of kind {kind!r} are not known")
    return _Reader().read(body)


def _pack(value: Any) -> bytes:
    try:
        if type(value) in _SINGLE or (type(value) is int and -_WORD <= value < _WORD):
            single: bytes = packb(value)
            return single
        return _Writer().write(value, None)
    except UnicodeEncodeError:  # a lone surrogate somewhere; to ask for them from the start would cost all others
        return _Writer().write(value, "surrogatepass")
    except (ValueError, RecursionError, OverflowError) as error:  # msgpack's: too deep, or beyond 4 GiB
        raise Unkeepable(_TOO_DEEP if "recursion" in str(error) else str(error)) from None


class _Veiled:
    """Around an object of which msgpack would make something else."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _veil(value: Any) -> Any:
    cls = type(value)
    if cls is list:
        return [_veil(item) for item in value]
    if cls is dict:
        return {_veil(key): _veil(item) for key, item in value.items()}
    return _Veiled(value) if cls in _MISREAD else value


class _Writer:
    """One encoding.

    Attributes:
        marks: those of classes, made once in an encoding.
        asked: whether msgpack met an object that it does not know.
        lowered: id of a container → its items, as they were handed to msgpack.
        veils: whether what msgpack would misread is veiled.
    """

    __slots__ = ("asked", "lowered", "marks", "veils")

    def __init__(self) -> None:
        self.lowered: dict[int, list[Any]] = {}
        self.marks: dict[type, tuple[ExtType, Shape]] = {}
        self.asked = self.veils = False

    def write(self, value: Any, unicode_errors: str | None) -> bytes:
        body: bytes = packb(value, default=self.lower, strict_types=True, unicode_errors=unicode_errors)
        if len(body) > MAX_DEPTH:
            _refuse_depth(body)
        if (self.asked or _has_bins(value, body, unicode_errors)) and self.misread(value):
            self.veils = True
            body = packb(_veil(value), default=self.lower, strict_types=True, unicode_errors=unicode_errors)
        if not self.asked:
            return body
        return _MARKS + body if self.lowered else _SCALARS + body

    def lower(self, value: Any) -> Any:
        """What msgpack shall write for an object that it does not know."""
        self.asked = True
        cls = type(value)
        if cls is _Veiled:
            value = value.value
            cls = type(value)
            if cls is bytearray:
                return pack_bytearray(value)
        lower = LOWER.get(cls)
        if lower is None and cls not in self.marks and (pack := PACK[cls]) is not None:
            return pack(value)
        mark, items = lower_instance(value, self.marks) if lower is None else lower(value)
        if self.veils:
            items = [_veil(item) for item in items]
        self.lowered[id(value)] = items
        return [mark, *items]

    def misread(self, value: Any) -> bool:
        """Whether msgpack made something else of any object. It looks level by level, so that C does most of it."""
        lists, dicts = [[value]], list[dict[Any, Any]]()
        while lists or dicts:
            kinds = set(map(type, chain(_items(lists), _items(map(dict.values, dicts)))))
            keys = set(map(type, set().union(*dicts)))
            if not keys <= _TEXT:  # nothing that is misread is equal to text, but b"" may stand for an equal memoryview
                keys = set(map(type, _items(dicts)))
            if not _MISREAD.isdisjoint(kinds | keys):
                return True
            parts = list(_items(dicts)) if keys - _LEAVES else []
            if parts or not kinds <= _LEAVES:
                parts += chain(_items(lists), _items(map(dict.values, dicts)))
            lists, dicts = self.containers(parts, kinds)
        return False

    def containers(self, parts: list[Any], kinds: set[type]) -> tuple[list[list[Any]], list[dict[Any, Any]]]:
        """The lists and dicts among these, and what was made lists for msgpack."""
        lists = [part for part in parts if type(part) is list] if list in kinds else []
        dicts = [part for part in parts if type(part) is dict] if dict in kinds else []
        if self.lowered:
            lists += filter(None, map(self.lowered.get, map(id, parts)))
        return lists, dicts


def _has_bins(value: Any, body: bytes, unicode_errors: str | None) -> bool:
    """Whether a plain value has bytes in it, or what msgpack takes for bytes."""
    if b"\xc4" not in body and b"\xc5" not in body and b"\xc6" not in body:  # what bin objects begin with
        return False
    return bool(packb(value, strict_types=True, use_bin_type=False, unicode_errors=unicode_errors) != body)


def _refuse_depth(body: bytes) -> None:
    """Let msgpack's reader run through the bytes without making anything of them."""
    reader = Unpacker(None, read_size=1, max_buffer_size=len(body))
    reader.feed(body)
    try:
        reader.skip()
    except StackError:
        raise Unkeepable(_TOO_DEEP) from None


class _Mark:
    """The first item of an array, while it is read.

    Attributes:
        build: makes the container from the other items.
    """

    __slots__ = ("build",)

    def __init__(self, build: Builder) -> None:
        self.build = build


class _Reader:
    """One decoding of bytes with marks.

    Attributes:
        marks: those of classes, by code and payload, so that each class is looked up once.
        unused: marks that were read and have not become a container yet.
    """

    __slots__ = ("marks", "unused")

    def __init__(self) -> None:
        self.marks: dict[tuple[int, bytes], _Mark] = {}
        self.unused = 0

    def read(self, data: memoryview) -> Any:
        value = unpackb(
            data, ext_hook=self.ext, list_hook=self.array, strict_map_key=False, unicode_errors="surrogatepass"
        )
        if self.unused:
            raise Undecodable("a mark stands where none belongs")
        return value

    def ext(self, code: int, data: bytes) -> Any:
        if code < _FIRST_MARK:
            return read_scalar(code, data)
        self.unused += 1
        mark = self.marks.get((code, data))
        if mark is None:
            plain = None if data else BUILD.get(code)
            mark = self.marks[code, data] = _Mark(plain or builder_of(code, data))
        return mark

    def array(self, items: list[Any]) -> Any:
        if not items or type(items[0]) is not _Mark:
            return items
        self.unused -= 1
        return items.pop(0).build(items)


def _why_not(value: Any) -> str | None:
    """Why a value cannot be kept; None if it can."""
    try:
        _pack(value)
    except Unkeepable as error:
        return error.why
    return None


def _refusal(value: Any, label: str) -> UnkeepableResult:
    why = _why_not(value)
    path, culprit = ("", value) if why == _TOO_DEEP else locate(value, lambda part: _why_not(part) is not None)
    because = _why_not(culprit)
    reason = f" ({because})" if because else ""
    return UnkeepableResult(f"{label}: result{path}: {type(culprit).__name__} cannot be kept{reason}; {_WAY_OUT}")
