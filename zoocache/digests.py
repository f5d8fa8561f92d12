"""BLAKE2b (RFC 7693), the one hash of this library, without OpenSSL.

`hashlib` hands out this very class, but loads OpenSSL for others that are not needed here: a third of a megabyte in
each process, and 4 ms. Where an interpreter has no such module of its own, `hashlib` knows.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["blake2b"]
