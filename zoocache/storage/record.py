"""The bytes of a store's records. All words are little-endian.

    entry    0  u16  MARK: tells the format, and a page of zeros from a record
             2  u16  flags: AGED if the second head follows, SLIDING if a read starts the ttl again
             4  u32  number of paths
             8  u64  length of the body
            16  u64  n of the stamp
            24  u64  n of the key stamp
            32  u64  born: the transaction that wrote it, for eviction
            40  u64  ttl_ms           )
            48  u64  max_age_ms       )
            56  u64  made, wall_ms    )  only if AGED
            64  u64  made, up_ms      )
            72  u64  made, boot       )
             .  16 bytes a path, then the body, and nothing behind it

    life     u64 used (the transaction that saw it read), then its last touch: u64 wall_ms, u64 up_ms, u64 boot; all
             three are 0 if it was never touched
    number   u64 n, u64 wall_ms of the invalidation
    own      of the numbers: 8 bytes FORMAT, u64 epoch, u64 n, u64 floor
             of the entries: 8 bytes FORMAT, u64 epoch, u64 how many lives, u64 how many evicted so far
    position 8 bytes FORMAT, u64 epoch, u64 n, 8 bytes mark: up to where the host has heard what others invalidated;
             u64 origin: how it calls itself since then, when it tells them

Who reads bytes that this file did not write gets None, or the number above all stamps: malformed is a miss, never an
exception of `struct`. Whether well-formed bytes are the right ones only the engine knows, by the full key in the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from zoocache.clock import Now
from zoocache.storage import FOREVER, Life

Bytes = bytes | memoryview

MARK = 0x5A01
AGED = 1
SLIDING = 2
PATH_SIZE = 16
FORMAT = b"zooLMDB1"
NEVER = (1 << 64) - 1
"""The number of a path whose number cannot be read: above every stamp."""

_FAR = 1 << 63
"""No counter ever gets there; one that has would soon be beyond its word."""

_HEAD = Struct("<HHIQQQQ")
_AGES = Struct("<QQQQQ")
_LIFE = Struct("<QQQQ")
_NUMBER = Struct("<QQ")
_OWN = Struct("<8sQQQ")
_POSITION = Struct("<8sQQ8sQ")
_HEAD_SIZE = _HEAD.size
_AGED_SIZE = _HEAD.size + _AGES.size
_OWN_SIZE = _OWN.size
_NUMBER_SIZE = _NUMBER.size
_ZERO = Now(0, 0, 0)

pack_number = _NUMBER.pack


class Head(NamedTuple):
    """An entry's record without its paths and body.

    Attributes:
        n: of the stamp.
        key_n: of the key stamp.
        born: the transaction that wrote it.
        life: as saved.
        made: when it was saved; all zeros if it lives for ever.
        paths_at: where the paths begin.
        body_at: where the body begins.
    """

    n: int
    key_n: int
    born: int
    life: Life
    made: Now
    paths_at: int
    body_at: int


class Touch(NamedTuple):
    """What changes of an entry while its body stays.

    Attributes:
        used: the last transaction that saw it read.
        at: when its ttl began again; None if it never did.
    """

    used: int
    at: Now | None


def pack_entry(
    paths: Sequence[bytes], n: int, key_n: int, born: int, life: Life, now: Now, body: bytes
) -> bytes:  # fmt: skip
    """An entry's record.

    Args:
        paths: hashes of 16 bytes.
        n: of the stamp.
        key_n: of the key stamp.
        born: the transaction that writes it.
        life: how long it lives from `now`.
        now: this moment.
        body: opaque.
    """
    if life == FOREVER:
        return b"".join((_HEAD.pack(MARK, 0, len(paths), len(body), n, key_n, born), *paths, body))
    flags = AGED | SLIDING if life.sliding else AGED
    head = _HEAD.pack(MARK, flags, len(paths), len(body), n, key_n, born)
    return b"".join((head, _AGES.pack(life.ttl_ms, life.max_age_ms, *now), *paths, body))


def entry_size(paths: Sequence[bytes], body: bytes) -> int:
    """The most bytes that `pack_entry` makes of these."""
    return _AGED_SIZE + PATH_SIZE * len(paths) + len(body)


def head(entry: Bytes) -> Head | None:
    """The head of an entry's record, or None if it is malformed."""
    size = len(entry)
    if size < _HEAD_SIZE:
        return None
    mark, flags, paths, body, n, key_n, born = _HEAD.unpack_from(entry)
    at = _AGED_SIZE if flags else _HEAD_SIZE
    body_at = at + PATH_SIZE * paths
    if mark != MARK or body_at + body != size:
        return None
    if not flags:
        return Head(n, key_n, born, FOREVER, _ZERO, at, body_at)
    ttl_ms, max_age_ms, wall_ms, up_ms, boot = _AGES.unpack_from(entry, _HEAD_SIZE)
    life = Life(ttl_ms, flags & SLIDING != 0, max_age_ms)
    return Head(n, key_n, born, life, Now(wall_ms, up_ms, boot), at, body_at)


def paths_of(entry: Bytes, found: Head) -> list[bytes]:
    """The paths of an entry's record, whose head this is."""
    return [bytes(entry[at : at + PATH_SIZE]) for at in range(found.paths_at, found.body_at, PATH_SIZE)]


def pack_touch(used: int, at: Now | None) -> bytes:
    """The record of a `Touch`."""
    return _LIFE.pack(used, *(at or _ZERO))


def touch(life: Bytes | None) -> Touch | None:
    """What was packed, or None if there is none or it is malformed."""
    if life is None or len(life) != _LIFE.size:
        return None
    used, wall_ms, up_ms, boot = _LIFE.unpack(life)
    return Touch(used, Now(wall_ms, up_ms, boot) if wall_ms or up_ms else None)


def number(record: Bytes | None) -> tuple[int, int]:
    """N and wall_ms of a number; (0, 0) where there is none, (`NEVER`, 0) where it is malformed."""
    if record is None:
        return 0, 0
    return _NUMBER.unpack(record) if len(record) == _NUMBER_SIZE else (NEVER, 0)


def pack_own(epoch: int, first: int, second: int) -> bytes:
    """A table's own record: epoch, n, floor of the numbers; epoch, lives, evicted of the entries."""
    return _OWN.pack(FORMAT, epoch, first, second)


def own(record: Bytes | None) -> tuple[int, int, int] | None:
    """What was packed, or None if there is none, or it is malformed or of another format."""
    if record is None or len(record) != _OWN_SIZE:
        return None
    format_, epoch, first, second = _OWN.unpack(record)
    is_sound = format_ == FORMAT and first < _FAR and second < _FAR
    return (epoch, first, second) if is_sound else None


def pack_position(epoch: int, n: int, mark: bytes, origin: int) -> bytes:
    """The record of a position."""
    return _POSITION.pack(FORMAT, epoch, n, mark, origin)


def position(data: Bytes | None) -> tuple[int, int, bytes, int] | None:
    """Epoch, n and mark of a position, and the origin with it; None if there is none."""
    if data is None or len(data) != _POSITION.size:
        return None
    format_, epoch, n, mark, origin = _POSITION.unpack(data)
    return (epoch, n, mark, origin) if format_ == FORMAT else None
