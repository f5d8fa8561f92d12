"""The bytes of an entry in Redis. The head is text of fixed width, so that scripts need no more than string.sub.

      0    4   FORMAT; what begins otherwise, and so whatever a later release writes, is a miss
      4   16   epoch of the stamp, hex digits
     20   16   n of the stamp            )
     36   16   n of the key stamp        )
     52   16   ttl_ms, 0 for never       )  decimal digits, filled up with zeros
     68   16   max_age_ms, 0 for never   )
     84   16   made                      )  by the server's clock, in ms
    100   16   touched: when ttl_ms began)
    116    1   S if a read starts the ttl again, else -
    117    6   number of paths
    123   16 each, raw: the paths; then the body, and nothing behind it

Writer: one SET, in a script; a touch stores the 16 digits of `touched` in place (SETRANGE), in another. A script is
one step of the server, and a server that dies in one has not done it: no reader sees half a record.
Reader: a script looks at the head, then at the numbers, and hands out the whole record, which is taken apart here.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoocache.storage import FOREVER, Life, Loaded

FORMAT = b"zoo1"
PATH_SIZE = 16
HEAD_SIZE = 123
MOST_PATHS = 999_999
_LONGEST_MS = 10**15  # 31,000 years

_N = slice(20, 36)
_TTL_MS = slice(52, 68)
_MAX_AGE_MS = slice(68, 84)
_SLIDING = slice(116, 117)
_PATHS = slice(117, 123)


def pack_life(life: Life) -> bytes:
    """The 32 bytes at 52."""
    return b"%016d%016d" % (min(life.ttl_ms, _LONGEST_MS), min(life.max_age_ms, _LONGEST_MS))


def pack_rest(paths: Sequence[bytes], body: bytes, life: Life) -> bytes:
    """What stands from 116 on."""
    return b"".join((b"S" if life.sliding else b"-", b"%06d" % len(paths), *paths, body))


def unpack(record: bytes, left_ms: int | None, age_left_ms: int | None) -> Loaded | None:
    """A valid, living entry.

    Args:
        record: all of it; a script has looked at its head.
        left_ms, age_left_ms: as the server's clock tells; None for no limit.

    Returns:
        None if it is malformed all the same.
    """
    try:
        life = Life(int(record[_TTL_MS]), record[_SLIDING] == b"S", int(record[_MAX_AGE_MS]))
        n = int(record[_N])
        body_at = HEAD_SIZE + PATH_SIZE * int(record[_PATHS])
    except ValueError:
        return None
    return Loaded(record[body_at:], FOREVER if life == FOREVER else life, left_ms, age_left_ms, n)
