"""The small steps that tests of stores take. Children of a test run these too, so nothing slow is imported here."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from zoocache.clock import Now
from zoocache.storage import FOREVER, Life, Stamp, Store, lmdb_files
from zoocache.storage.lmdb import MIN_MAP_SIZE, LmdbStore

BOOT = 0xB007
PATIENT_S = 20.0
"""Who is inside a lock may have no processor for a while."""
START = Now(1_700_000_000_000, 5_000_000, BOOT)


def hashed(text: str) -> bytes:
    """A digest or a path."""
    return blake2b(text.encode(), digest_size=16).digest()


def paths_of(tag: str) -> list[bytes]:
    """The paths of a tag: all its prefixes."""
    parts = tag.split(":")
    return [hashed(":".join(parts[: end + 1])) for end in range(len(parts))]


def after(ms: int, *, wall_ms: int | None = None, boot: int = BOOT) -> Now:
    """So long after the start; the wall clock may have gone otherwise, and it may be another boot."""
    up_ms = START.up_ms + ms if boot == BOOT else ms
    return Now(START.wall_ms + (ms if wall_ms is None else wall_ms), up_ms, boot)


def save(
    store: Store, key: str, *tags: str, body: bytes = b"", stamp: Stamp | None = None, life: Life = FOREVER,
    now: Now = START, anew: bool = False, computed: bool = False,
) -> bool:  # fmt: skip
    """Save an entry that depends on these tags; with the present stamp, if none is given."""
    paths = [path for tag in tags for path in paths_of(tag)]
    stamp = store.stamp() if stamp is None else stamp
    return store.save(hashed(key), paths, stamp, body or key.encode(), life, now, anew=anew, computed=computed)


def body(store: Store, key: str, now: Now = START) -> bytes | None:
    """What is loaded of a key."""
    loaded = store.load(hashed(key), now)
    return None if loaded is None else loaded.body


def store_at(place: Path, boot: int = BOOT) -> LmdbStore:
    """A small store, as a process of this boot opens it."""
    return LmdbStore(place, map_size=MIN_MAP_SIZE, boot=boot, timeout_s=PATIENT_S)


def living(place: Path) -> Path:
    """The directory of the living environment of such a store."""
    return (place / lmdb_files.LINK).resolve()


def works(store: Store) -> bool:
    """Whether a store keeps what it is given."""
    save(store, "new", "n")
    return body(store, "new") == b"new"


def fill_up(path: str, name: str, limit: int) -> None:
    """In a child: save more than the limit allows, and see that it is kept to."""
    store = LmdbStore(path, max_entries=limit, timeout_s=PATIENT_S)
    most = 0
    for index in range(400):
        assert save(store, f"{name}{index}")
        most = max(most, store.count())
    print(most)
