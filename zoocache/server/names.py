"""What the keys of a prefix are called in a server.

    {zoocache:P}:numbers    hash: epoch, n, floor, mark; and of each path (16 raw bytes) "n wall_ms"
    {zoocache:P}:stream     stream: what was invalidated, ids "n-0", one field `payload`
    {zoocache:P}:channel    the same, as it happens
    {zoocache:P}:e:D        entry of the digest D, 32 hex digits
    {zoocache:P}:l:D        lease of a flight
    {zoocache:P}:f:T        how the flight with the token T failed, hex digits
    {zoocache:P}:used       sorted set: digests by their last use, only where the number of entries is limited

P is the prefix, percent-encoded but for letters, digits and `_.-~:`: so no pattern means more than it says, and no
prefix reads like a part of another's key. The braces make all of it one hash slot of a cluster.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote


class Names(NamedTuple):
    """The keys of one prefix. Made by `names_of`; entries, leases and failures need their digest or token."""

    root: bytes
    numbers: bytes
    stream: bytes
    channel: bytes
    used: bytes

    def entry(self, digest: bytes) -> bytes:
        """Of the entry with this digest."""
        return b"%b:e:%b" % (self.root, digest.hex().encode())

    def lease(self, digest: bytes) -> bytes:
        """Of the flight that computes this digest."""
        return b"%b:l:%b" % (self.root, digest.hex().encode())

    def failure(self, token: bytes) -> bytes:
        """Of how the flight with this token failed."""
        return b"%b:f:%b" % (self.root, token.hex().encode())

    @property
    def pattern(self) -> bytes:
        """What SCAN finds all entries, leases and failures of this prefix by, and nothing else."""
        return b"%b:[elf]:*" % self.root


def names_of(prefix: str) -> Names:
    """The keys of a prefix; "" for the cache without a name."""
    root = b"{zoocache:%b}" % quote(prefix, safe=":").encode()
    return Names(root, *(b"%b:%b" % (root, end) for end in (b"numbers", b"stream", b"channel", b"used")))
