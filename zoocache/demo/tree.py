"""The tags of the demo as a tree, each with the number of the last invalidation that reached it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.text import Text

from zoocache.demo.scene import Reached
from zoocache.demo.world import ORGS, TEAMS, USERS, tag_of

LINES = len(ORGS) * (1 + 2 * len(TEAMS))
NEVER = Reached(0, 0.0)

GLOWS = ((0.15, "bold white on red"), (0.6, "bold yellow"), (2.0, "yellow"))
"""How a version looks that is younger than so many seconds."""


def tag_tree(tags: Mapping[str, Reached], width: int) -> Text:
    """Two organisations, their teams, and the users of a team in one line.

    Args:
        tags: the invalidations that are known.
        width: columns; the users have shorter names where there is little.
    """
    now_s = time.time()
    text = Text(no_wrap=True, overflow="crop")
    for org, name in ORGS.items():
        text.append(f"org:{org}", "bold").append(f" {name} ".ljust(width - 12), "dim")
        _append_version(text, tags, tag_of(org), now_s)
        text.append("\n")
        for team in TEAMS:
            _append_team(text, tags, (org, team), now_s, width)
    text.rstrip()
    return text


def _append_team(text: Text, tags: Mapping[str, Reached], path: tuple[int, str], now_s: float, width: int) -> None:
    org, team = path
    last = team == list(TEAMS)[-1]
    text.append("└─ " if last else "├─ ", "dim").append(f"team:{team}".ljust(width - 10))
    _append_version(text, tags, tag_of(org, team), now_s)
    text.append("\n   " if last else "\n│  ", "dim")
    for user in USERS:
        text.append(f" {'user:' if width >= 42 else ''}{user} ", "dim")
        _append_version(text, tags, tag_of(org, team, user), now_s)
    text.append("\n")


def reached(tags: Mapping[str, Reached], tag: str) -> Reached:
    """The last invalidation that reached a tag: its own or an ancestor's."""
    parts = tag.split(":")
    paths = (":".join(parts[: end + 1]) for end in range(len(parts)))
    return max((tags.get(path, NEVER) for path in paths), key=lambda each: each.version)


def _append_version(text: Text, tags: Mapping[str, Reached], tag: str, now_s: float) -> None:
    version, at_s = reached(tags, tag)
    if not version:
        text.append("·", "dim")
        return
    text.append(f"#{version}", next((style for age_s, style in GLOWS if now_s - at_s < age_s), "cyan"))
