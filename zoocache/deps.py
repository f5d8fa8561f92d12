"""Tags, the paths above them, and the hashes under which host and stores know these paths.

A tag is 1 to 256 characters of ASCII letters, digits, `_`, `.` and `-`, in at most 16 non-empty segments parted by `:`.
The prefixes of `org:1:user` are `org`, `org:1` and `org:1:user`; whoever depends on a tag depends on all of them.

The bytes
    path hash   16 bytes, BLAKE2b (RFC 7693, digest length 16) of the prefix in ASCII, without key, salt or person

Two different paths have the same hash with probability 2**-128, which is taken for never. The first 8 bytes, read as
one native u64, are never zero, so that a table may let a zero word mean "empty": if BLAKE2b gives eight zero bytes
there (once in 2**64 paths), the first of them becomes 1.

`paths` remembers tags, and an invalid one is never kept: a tag seen before costs one look-up. To check a tag does not
hash it: in memory the hashes of most are never asked for, since nothing is invalidated while an entry lives. The hashes
above a tag are remembered apart, so that siblings share them. Both are bounded: 16 384 tags and 4 096 parents, some 10
MB when full of deep tags, nothing before they are used.
"""

from __future__ import annotations

import re
import reprlib
from functools import lru_cache
from itertools import accumulate, chain
from typing import NoReturn, TypeAlias

from zoocache.digests import blake2b
from zoocache.errors import InvalidDeps, InvalidTag

Path: TypeAlias = bytes
"""The hash of one prefix of a tag."""

Deps: TypeAlias = "str | list[str] | tuple[str, ...] | set[str] | frozenset[str]"
"""What may stand where dependencies are given: one tag, or a collection of tags."""

MAX_LENGTH = 256
MAX_DEPTH = 16
PATH_BYTES = 16
CACHED_TAGS = 16_384
CACHED_PARENTS = 4_096

_SEGMENT = r"[A-Za-z0-9_.-]+"
_is_tag = re.compile(rf"(?=.{{1,{MAX_LENGTH}}}\Z){_SEGMENT}(?::{_SEGMENT}){{0,{MAX_DEPTH - 1}}}").fullmatch
_find_stranger = re.compile(r"[^A-Za-z0-9_.:-]").search
_new_hash = blake2b(digest_size=PATH_BYTES).copy
_EMPTY_WORD = bytes(8)
_LEAST = bytes(7) + b"\1"

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 80


def check_tag(tag: object) -> str:
    """The tag itself, if it is one.

    Args:
        tag: what was given as a tag; of a subclass of `str` (a `str` Enum) the plain text is taken.

    Returns:
        The tag as a plain `str`.

    Raises:
        InvalidTag: it is no `str`, or breaks a rule; the message names both.
    """
    if type(tag) is not str:
        tag = _plain(tag)
    if not _is_tag(tag):
        _refuse(tag)
    return tag


def check_deps(deps: object) -> tuple[str, ...]:
    """The tags of a `deps` value, each once, in an order that does not depend on the hash seed.

    Args:
        deps: one tag, or a list, tuple, set or frozenset of tags.

    Returns:
        The tags in the order given; those of a set in alphabetical order.

    Raises:
        InvalidDeps: it is something else, for example a generator.
        InvalidTag: one of the tags is invalid.
    """
    if isinstance(deps, str):
        return (check_tag(deps),)
    if isinstance(deps, (list, tuple)):
        if len(deps) == 1:
            return (check_tag(deps[0]),)
        return tuple(dict.fromkeys(map(check_tag, deps)))
    if isinstance(deps, (set, frozenset)):
        return tuple(sorted(map(check_tag, deps)))
    raise InvalidDeps(
        f"deps is {_described(deps)}; give one tag, or a list, tuple, set or frozenset of tags "
        "(an iterable becomes one by list(…))"
    )


def prefixes(tag: str) -> tuple[str, ...]:
    """`org:1:user` gives `org`, `org:1`, `org:1:user`; for valid tags only."""
    return tuple(accumulate(tag.split(":"), "{}:{}".format))


def path_hash(path: str) -> Path:
    """The 16 bytes by which a prefix is known; see the head of this file."""
    hasher = _new_hash()
    hasher.update(path.encode())
    return _with_a_word(hasher.digest())


@lru_cache(maxsize=CACHED_TAGS)
def paths(tag: str) -> tuple[Path, ...]:
    """The hashes of all prefixes of a tag, the shortest first, its own last.

    Args:
        tag: a plain `str`.

    Raises:
        InvalidTag: it breaks a rule.
    """
    if not _is_tag(tag):
        _refuse(tag)
    parent = tag.rpartition(":")[0]
    return (*_paths_above(parent), path_hash(tag)) if parent else (path_hash(tag),)


@lru_cache(maxsize=CACHED_PARENTS)
def _paths_above(parent: str) -> tuple[Path, ...]:
    # One hash that grows by a segment at a time: digest() leaves it open, and a constructor for each would cost double.
    hasher = _new_hash()
    found = []
    for segment in parent.encode().replace(b":", b"\0:").split(b"\0"):
        hasher.update(segment)
        found.append(hasher.digest())
    return tuple(found if min(found) >= _LEAST else map(_with_a_word, found))


def own_path(tag: str) -> Path:
    """The hash of the tag itself: the one node that an invalidation touches."""
    return paths(tag)[-1]


def paths_of(tags: tuple[str, ...]) -> tuple[Path, ...]:
    """The hashes of all prefixes of several tags, each once."""
    if len(tags) == 1:
        return paths(tags[0])
    return tuple(dict.fromkeys(chain.from_iterable(map(paths, tags))))


def _with_a_word(digest: bytes) -> bytes:
    return b"\1" + digest[1:] if digest.startswith(_EMPTY_WORD) else digest


def _plain(tag: object) -> str:
    if isinstance(tag, str):
        return str.__str__(tag)
    raise InvalidTag(f"{_described(tag)} is no tag; a tag is a str")


def _described(value: object) -> str:
    return "None" if value is None else f"{_shown.repr(value)} (of type {type(value).__name__})"


def _refuse(tag: str) -> NoReturn:
    raise InvalidTag(f"{_shown.repr(tag)}: {_broken_rule(tag)}")


def _broken_rule(tag: str) -> str:
    if not tag:
        return "a tag is not empty"
    if len(tag) > MAX_LENGTH:
        return f"a tag has at most {MAX_LENGTH} characters, this one has {len(tag)}"
    stranger = _find_stranger(tag)
    if stranger:
        return (
            f"{stranger[0]!a} at position {stranger.start()} is not allowed; a tag is made of ASCII letters, digits, "
            "'_', '.' and '-', in segments parted by ':'"
        )
    segments = tag.split(":")
    if "" in segments:
        return "no segment is empty; a ':' stands between two segments, never first, last or doubled"
    return f"a tag has at most {MAX_DEPTH} segments, this one has {len(segments)}"
