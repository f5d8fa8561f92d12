"""The hash."""

from __future__ import annotations

import hashlib

from zoocache.digests import blake2b


def test_it_is_the_hash_that_everybody_knows() -> None:
    """What was hashed by another release, or by another library, is found again."""
    expected = hashlib.blake2b(b"org:1", digest_size=16, person=b"key").hexdigest()
    assert expected == blake2b(b"org:1", digest_size=16, person=b"key").hexdigest()
