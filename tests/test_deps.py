"""`zoocache.deps`: what a tag is, and the hashes of its paths."""

from __future__ import annotations

import enum
import string
import sys
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoocache import deps
from zoocache.deps import check_deps, check_tag, own_path, path_hash, paths, paths_of, prefixes
from zoocache.errors import InvalidDeps, InvalidTag

LETTERS = string.ascii_letters + string.digits + "_.-"
segments = st.text(LETTERS, min_size=1, max_size=12)
tags = st.lists(segments, min_size=1, max_size=16).map(":".join).filter(lambda tag: len(tag) <= 256)


def is_tag(text: str) -> bool:
    """The rules of a tag, written a second time and otherwise than in `zoocache.deps`."""
    parts = text.split(":")
    return len(text) <= 256 and len(parts) <= 16 and all(part and set(part) <= set(LETTERS) for part in parts)


class Colour(str, enum.Enum):
    RED = "colour:red"


@given(tags)
def test_a_valid_tag_is_returned(tag: str) -> None:
    """A tag that keeps the rules comes back as it was."""
    assert tag == check_tag(tag)


@given(st.one_of(st.text(max_size=20), st.text(LETTERS + ":", max_size=300), tags.map(lambda tag: tag + ":x" * 15)))
def test_only_valid_tags_pass(text: str) -> None:
    """A text is accepted exactly if it keeps every rule."""
    try:
        check_tag(text)
        accepted = True
    except InvalidTag:
        accepted = False
    assert is_tag(text) == accepted


@pytest.mark.parametrize(
    ("tag", "rule"),
    [
        ("", "'': a tag is not empty"),
        ("user 42", "'user 42': ' ' at position 4"),
        ("user:42\n", "'user:42\\n': '\\n' at position 7"),
        ("straße", "'straße': '\\xdf' at position 4"),
        ("٣", "at position 0"),
        (":user", "no segment is empty"),
        ("user:", "no segment is empty"),
        ("org::1", "'org::1': no segment is empty"),
        ("x" * 257, "at most 256 characters, this one has 257"),
        (":".join("x" * 17), "at most 16 segments, this one has 17"),
    ],
)
def test_a_broken_rule_is_named(tag: str, rule: str) -> None:
    """The message of InvalidTag names the tag and the very rule that it broke."""
    with pytest.raises(InvalidTag) as caught:
        check_tag(tag)
    assert rule in str(caught.value)


@pytest.mark.parametrize("tag", ["x" * 256, ":".join("x" * 16), "a", "A.b-c_9", "-:.:_"])
def test_the_limits_themselves_are_allowed(tag: str) -> None:
    """256 characters, 16 segments and one character are within the rules."""
    assert tag == check_tag(tag)


@pytest.mark.parametrize("tag", [None, 42, b"user:42", 1.5, ["user:42"], object()])
def test_a_tag_is_a_str(tag: object) -> None:
    """What is no str is InvalidTag and the message names its type."""
    with pytest.raises(InvalidTag, match=r"no tag; a tag is a str") as caught:
        check_tag(tag)
    assert tag is None or type(tag).__name__ in str(caught.value)


def test_a_long_tag_is_shortened_in_the_message() -> None:
    """A message stays readable however long the tag was."""
    with pytest.raises(InvalidTag) as caught:
        check_tag("x" * 100_000)
    assert len(str(caught.value)) < 200


def test_a_str_enum_counts_as_its_text() -> None:
    """A member of a str Enum is taken as its plain text."""
    assert str is type(check_tag(Colour.RED))
    assert "colour:red" == check_tag(Colour.RED)
    assert paths("colour:red") == paths(check_tag(Colour.RED))


@pytest.mark.parametrize(
    ("given_deps", "expected"),
    [
        ("a:b", ("a:b",)),
        (["b", "a", "b"], ("b", "a")),
        (("b", "a"), ("b", "a")),
        (["b"], ("b",)),
        ([], ()),
        ({"b", "a", "c"}, ("a", "b", "c")),
        (frozenset({"b", "a"}), ("a", "b")),
        ([Colour.RED, "colour:red"], ("colour:red",)),
    ],
)
def test_deps_become_a_tuple(given_deps: object, expected: tuple[str, ...]) -> None:
    """A tag or a collection of tags becomes a tuple without duplicates, in an order no hash seed changes."""
    assert expected == check_deps(given_deps)


@pytest.mark.parametrize(
    "given_deps", [None, 42, 1.5, b"a", {"a": 1}, iter(["a"]), (tag for tag in ["a"]), {"a": 1}.keys(), object()]
)
def test_other_deps_are_refused(given_deps: object) -> None:
    """What could be consumed by looking, or has no tags, is InvalidDeps."""
    with pytest.raises(InvalidDeps, match="give one tag, or a list, tuple, set or frozenset of tags"):
        check_deps(given_deps)


@pytest.mark.parametrize("given_deps", ["a b", ["a", "b c"], {"a", ""}, ["a", 1], [["a"]], {"a", 1}])
def test_each_of_the_deps_is_checked(given_deps: object) -> None:
    """One invalid tag among valid ones is InvalidTag."""
    with pytest.raises(InvalidTag):
        check_deps(given_deps)


@given(tags)
def test_prefixes_grow_by_one_segment(tag: str) -> None:
    """The prefixes of a tag are its first segment, its first two, and so on to the tag itself."""
    parts = tag.split(":")
    assert tuple(":".join(parts[: depth + 1]) for depth in range(len(parts))) == prefixes(tag)


@given(tags)
def test_paths_are_the_hashes_of_the_prefixes(tag: str) -> None:
    """The paths of a tag are the hashes of its prefixes in order; the last is its own."""
    assert tuple(map(path_hash, prefixes(tag))) == paths(tag)
    assert path_hash(tag) == own_path(tag)


@given(tags)
def test_a_path_hash_is_blake2b(tag: str) -> None:
    """A path's hash is BLAKE2b of 16 bytes, the same in every process and release."""
    assert blake2b(tag.encode(), digest_size=16).digest() == path_hash(tag)


def test_known_hashes_stay() -> None:
    """Hashes lie in LMDB files and segments, so they never change between releases."""
    expected = ("f785a58d5c93c6a5d6d4ab7769543adc", "69daed2501cb907643596caa2f787452")
    assert expected == tuple(path.hex() for path in paths("org:1"))


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        (bytes(16), b"\1" + bytes(15)),
        (bytes(8) + b"\7" * 8, b"\1" + bytes(7) + b"\7" * 8),
        (bytes(7) + b"\1" + bytes(8), bytes(7) + b"\1" + bytes(8)),
        (b"\1" + bytes(15), b"\1" + bytes(15)),
    ],
)
def test_the_first_word_is_never_zero(digest: bytes, expected: bytes) -> None:
    """A hash that begins with eight zero bytes gets a one; all others stay as they are."""
    actual = deps._with_a_word(digest)
    assert expected == actual
    assert 0 != int.from_bytes(actual[:8], sys.byteorder)
    assert (digest != actual) == (digest < deps._LEAST)


@given(st.lists(tags, min_size=1, max_size=5))
def test_paths_of_several_tags_are_each_once(several: list[str]) -> None:
    """The paths of several tags are all of theirs, without duplicates."""
    actual = paths_of(tuple(several))
    assert len(set(actual)) == len(actual)
    assert {path for tag in several for path in paths(tag)} == set(actual)


def test_no_tags_have_no_paths() -> None:
    """An entry without dependencies has no paths."""
    assert () == paths_of(())


def test_what_is_remembered_is_bounded() -> None:
    """However many tags a process sees, it remembers a fixed number of them."""
    for number in range(deps.CACHED_TAGS + 100):
        paths(f"bounded:{number}:x")
    assert deps.CACHED_TAGS == paths.cache_info().currsize
    assert deps.CACHED_PARENTS == deps._paths_above.cache_info().currsize
