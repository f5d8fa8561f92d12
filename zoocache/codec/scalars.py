"""Scalars that msgpack lacks: each is one ext object, whose code is its type and whose payload is its value.

    1 int beyond 64 bits   two's complement, little-endian       8 timezone   zone, as below
    2 complex              two doubles                           9 ZoneInfo   its key
    3 bytearray            the bytes                            10 Decimal    its text
    4 date                 year, month, day                     11 Fraction   numerator,denominator, hexadecimal
    5 time                 clock, zone                          12 UUID       16 bytes
    6 datetime             year, month, day, clock, zone        13 path       which class, text
    7 timedelta            days, seconds, microseconds          14 range      start,stop,step, hexadecimal

    clock   hour, minute, second, microsecond, fold
    zone    nothing: naive; `o`, microseconds from UTC: a fixed offset; `n`, the same and a name; `z`, key: a ZoneInfo

All numbers little-endian. Text is UTF-8, lone surrogates included.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

from msgpack import ExtType

from zoocache.codec.faults import Undecodable, Unkeepable
from zoocache.imports import whole
from zoocache.typetable import TypeTable

INT, COMPLEX, BYTEARRAY, DATE, TIME, DATETIME, TIMEDELTA, TIMEZONE, ZONE_INFO, DECIMAL, FRACTION, UUID_, PATH, RANGE = (
    range(1, 15)
)
_COMPLEX = struct.Struct("<dd")
_DATE = struct.Struct("<HBB")
_TIME = struct.Struct("<BBBIB")
_DATETIME = struct.Struct("<HBBBBBIB")
_TIMEDELTA = struct.Struct("<iii")
_OFFSET = struct.Struct("<q")
_MICROSECOND = timedelta(microseconds=1)
_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")


def to_bytes(text: str) -> bytes:
    """UTF-8 that bears lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The reverse of `to_bytes`."""
    return data.decode("utf-8", "surrogatepass")


def _pack_int(value: int) -> ExtType:
    return ExtType(INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _read_int(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _pack_complex(value: complex) -> ExtType:
    return ExtType(COMPLEX, _COMPLEX.pack(value.real, value.imag))


def _read_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


def pack_bytearray(value: bytearray) -> ExtType:
    """Not in the table: msgpack never asks about a bytearray."""
    return ExtType(BYTEARRAY, bytes(value))


def _pack_date(value: date) -> ExtType:
    return ExtType(DATE, _DATE.pack(value.year, value.month, value.day))


def _read_date(data: bytes) -> date:
    return date(*_DATE.unpack(data))


def _pack_time(value: time) -> ExtType:
    clock = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return ExtType(TIME, clock + _zone_bytes(value.tzinfo))


def _read_time(data: bytes) -> time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    return time(hour, minute, second, microsecond, _zone_of(data[_TIME.size :]), fold=fold)


def _pack_datetime(value: datetime) -> ExtType:
    moment = _DATETIME.pack(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold
    )
    return ExtType(DATETIME, moment if value.tzinfo is None else moment + _zone_bytes(value.tzinfo))


def _read_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(data)
    zone = _zone_of(data[_DATETIME.size :])
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=zone, fold=fold)


def _pack_timedelta(value: timedelta) -> ExtType:
    return ExtType(TIMEDELTA, _TIMEDELTA.pack(value.days, value.seconds, value.microseconds))


def _read_timedelta(data: bytes) -> timedelta:
    return timedelta(*_TIMEDELTA.unpack(data))


def _zone_bytes(zone: tzinfo | None) -> bytes:
    return b"" if zone is None else _ZONES[type(zone)](zone)


def _zone_of(data: bytes) -> tzinfo | None:
    if not data:
        return None
    kind, rest = data[:1], data[1:]
    return _read_zone_info(rest) if kind == b"z" else _fixed_of(kind, rest)


@functools.lru_cache(maxsize=256)
def _fixed_of(kind: bytes, rest: bytes) -> timezone:
    offset = _OFFSET.unpack_from(rest)[0] * _MICROSECOND
    if kind == b"n":
        return timezone(offset, to_text(rest[_OFFSET.size :]))
    if kind != b"o" or len(rest) != _OFFSET.size:
        raise Undecodable(f"zone {kind!r} of {len(rest)} bytes is of no known kind")
    return timezone(offset)


def _fixed_bytes(zone: timezone) -> bytes:
    offset, name = zone.utcoffset(None), zone.tzname(None)
    packed = _OFFSET.pack(offset // _MICROSECOND)
    return b"o" + packed if name == timezone(offset).tzname(None) else b"n" + packed + to_bytes(name)


def _info_bytes(zone: Any) -> bytes:
    if zone.key is None:
        raise Unkeepable("a ZoneInfo that was read from a file has no key to find it by")
    return b"z" + to_bytes(zone.key)


def _foreign_bytes(zone: tzinfo) -> bytes:
    raise Unkeepable(f"its zone is a {type(zone).__qualname__}; only datetime.timezone and zoneinfo.ZoneInfo are kept")


_ZONES: TypeTable[Callable[[Any], bytes]] = TypeTable(
    {timezone: _fixed_bytes}, {"zoneinfo": {"ZoneInfo": _info_bytes}}, _foreign_bytes
)


def _pack_timezone(value: timezone) -> ExtType:
    return ExtType(TIMEZONE, _fixed_bytes(value))


def _read_timezone(data: bytes) -> tzinfo | None:
    if not data:
        raise Undecodable("a timezone without an offset")
    return _zone_of(data)


def _pack_zone_info(value: Any) -> ExtType:
    return ExtType(ZONE_INFO, _info_bytes(value)[1:])


def _read_zone_info(data: bytes) -> tzinfo:
    with whole:
        from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(to_text(data))
    except OSError as error:  # its key leads to a directory, or to what may not be read
        if error.filename is None:  # not of a file, so not of the key
            raise
        raise Undecodable(f"no such zone here: {type(error).__name__}") from error


def _pack_decimal(value: Any) -> ExtType:
    return ExtType(DECIMAL, str(value).encode())


def _read_decimal(data: bytes) -> Any:
    with whole:
        from decimal import Decimal

    return Decimal(data.decode("ascii"))


def _hex_bytes(*numbers: int) -> bytes:
    return ",".join(f"{number:x}" for number in numbers).encode()


def _hex_numbers(data: bytes) -> list[int]:
    return [int(number, 16) for number in data.split(b",")]


def _pack_fraction(value: Any) -> ExtType:
    return ExtType(FRACTION, _hex_bytes(value.numerator, value.denominator))


def _read_fraction(data: bytes) -> Any:
    with whole:
        from fractions import Fraction

    numerator, denominator = _hex_numbers(data)
    return Fraction(numerator, denominator)


def _pack_uuid(value: Any) -> ExtType:
    return ExtType(UUID_, value.bytes)


def _read_uuid(data: bytes) -> Any:
    with whole:
        from uuid import UUID

    return UUID(bytes=data)


def _pack_path(value: Any) -> ExtType:
    text, cls = str(value), type(value)
    if cls(text) != value:
        raise Unkeepable("it cannot be told from another path by its text")
    return ExtType(PATH, bytes([_PATHS.index(cls.__name__)]) + to_bytes(text))


def _read_path(data: bytes) -> Any:
    with whole:
        import pathlib

    return getattr(pathlib, _PATHS[data[0]])(to_text(data[1:]))


def _pack_range(value: range) -> ExtType:
    return ExtType(RANGE, _hex_bytes(value.start, value.stop, value.step))


def _read_range(data: bytes) -> range:
    start, stop, step = _hex_numbers(data)
    return range(start, stop, step)


PACK: TypeTable[Callable[[Any], ExtType] | None] = TypeTable(
    {
        int: _pack_int,
        complex: _pack_complex,
        date: _pack_date,
        time: _pack_time,
        datetime: _pack_datetime,
        timedelta: _pack_timedelta,
        timezone: _pack_timezone,
        range: _pack_range,
    },
    {
        "zoneinfo": {"ZoneInfo": _pack_zone_info},
        "decimal": {"Decimal": _pack_decimal},
        "fractions": {"Fraction": _pack_fraction},
        "uuid": {"UUID": _pack_uuid},
        "pathlib": dict.fromkeys(_PATHS, _pack_path),
    },
    None,
)
READ: dict[int, Callable[[bytes], Any]] = {
    INT: _read_int,
    COMPLEX: _read_complex,
    BYTEARRAY: bytearray,
    DATE: _read_date,
    TIME: _read_time,
    DATETIME: _read_datetime,
    TIMEDELTA: _read_timedelta,
    TIMEZONE: _read_timezone,
    ZONE_INFO: _read_zone_info,
    DECIMAL: _read_decimal,
    FRACTION: _read_fraction,
    UUID_: _read_uuid,
    PATH: _read_path,
    RANGE: _read_range,
}


def read_scalar(code: int, data: bytes) -> Any:
    """The value of an ext object.

    Raises:
        Undecodable: there is no scalar of that code.
        Exception: whatever the type's constructor raises on a payload that says nothing.
    """
    reader = READ.get(code)
    if reader is None:
        raise Undecodable(f"ext code {code} is not known")
    return reader(data)
