"""The tags and keys of storm and killer: a small tree, so that everybody meets everybody.

    zoo                                  all
    zoo:house0 …                         HOUSES
    zoo:house0:cage0 …                   CAGES in each
    zoo:house0:cage0:animal3             ANIMALS in each: one for each key

A key is a number. Keys below `len(OWN_TAGS)` are read through cached functions; the NAMES keys after them stand for
names that are kept with `set`, each with the tag of one animal.
"""

from __future__ import annotations

HOUSES, CAGES, ANIMALS = 2, 2, 3
NAMES = 6

HOUSE_TAGS = [f"zoo:house{house}" for house in range(HOUSES)]
CAGE_TAGS = [f"{house}:cage{cage}" for house in HOUSE_TAGS for cage in range(CAGES)]
OWN_TAGS = [f"{cage}:animal{animal}" for cage in CAGE_TAGS for animal in range(ANIMALS)]

TAGS = ["zoo", *HOUSE_TAGS, *CAGE_TAGS, *OWN_TAGS]
"""All tags; events name them by their place in here."""

ANIMAL_KEYS = range(len(OWN_TAGS))
NAME_KEYS = range(len(OWN_TAGS), len(OWN_TAGS) + NAMES)
KEYS = len(OWN_TAGS) + NAMES

TAG_NUMBERS = {tag: number for number, tag in enumerate(TAGS)}


def own_tag(key: int) -> str:
    """The tag that a key depends on."""
    return OWN_TAGS[key % len(OWN_TAGS)]


def neighbour(key: int) -> int:
    """The key that `ways.both` reads together with this one; mostly in another house."""
    return (key * 5 + 1) % len(OWN_TAGS)


def ancestors(key: int) -> list[str]:
    """The tags on the path of a key, the highest first, its own last."""
    parts = own_tag(key).split(":")
    return [":".join(parts[:length]) for length in range(1, len(parts) + 1)]


def reached_by(kind: str, key: int, tag: int) -> list[int]:
    """The keys that a mutation overtakes, as an event tells of it: by its kind, its key and its tag. An invalidation
    of several tags has an event for each key, and its tag is the key's own."""
    if kind == "clear":
        return list(range(KEYS))
    if kind == "invalidate" and (tag < len(TAGS) or key < KEYS):
        name = TAGS[tag] if tag < len(TAGS) else own_tag(key)
        return [each for each in range(KEYS) if is_below(each, name)]
    return [key] if key < KEYS else []


def is_below(key: int, tag: str) -> bool:
    """Whether an invalidation of the tag reaches the key."""
    return f"{own_tag(key)}:".startswith(f"{tag}:")
