"""The little world of the demo: two organisations, their teams and users, and the questions about them.

A question is a call of a cached function. Its answer has one version for each of the question's tags, in their order,
so that one rule judges all answers: none may be older than an invalidation that had returned.
"""

from __future__ import annotations

from typing import NamedTuple

ORGS = {1: "Acme", 2: "Globex"}
TEAMS = {"a": "Engine room", "b": "Front desk"}
USERS = {1: "Ada", 2: "Ben", 3: "Cleo"}

Path = tuple[int] | tuple[int, str] | tuple[int, str, int]


def tag_of(org: int, team: str | None = None, user: int | None = None) -> str:
    """The tag of an organisation, of one of its teams, or of a user of that."""
    parts = [f"org:{org}"]
    if team is not None:
        parts.append(f"team:{team}")
    if user is not None:
        parts.append(f"user:{user}")
    return ":".join(parts)


ORG_TAGS = tuple(tag_of(org) for org in ORGS)

PATHS: dict[str, Path] = {
    **{tag_of(org): (org,) for org in ORGS},
    **{tag_of(org, team): (org, team) for org in ORGS for team in TEAMS},
    **{tag_of(org, team, user): (org, team, user) for org in ORGS for team in TEAMS for user in USERS},
}
"""Tag -> organisation, team and user, as far as it names them."""

INDEX = {tag: index for index, tag in enumerate(PATHS)}


def is_below(tag: str, ancestor: str) -> bool:
    """Whether a tag is `ancestor` or anything below it."""
    return tag == ancestor or tag.startswith(f"{ancestor}:")


class Question(NamedTuple):
    """One call of a cached function.

    Attributes:
        name: of the function in `queries`: `card` or `roster`.
        arguments: of the call.
        tags: whose versions the answer tells.
        deps: the tags that its entry depends on; each stands for all its ancestors too.
    """

    name: str
    arguments: tuple[int | str, ...]
    tags: tuple[str, ...]
    deps: tuple[str, ...]

    @property
    def key(self) -> str:
        """How the ledger calls it."""
        return f"{self.name} {' '.join(map(str, self.arguments))}"

    def dies_with(self, tag: str) -> bool:
        """Whether an invalidation of `tag` kills its entry."""
        return any(is_below(dep, tag) for dep in self.deps)


def _card(org: int, team: str, user: int) -> Question:
    own = tag_of(org, team, user)
    return Question("card", (org, team, user), (tag_of(org), tag_of(org, team), own), (own,))


def _roster(org: int, team: str) -> Question:
    own, members = tag_of(org, team), tuple(tag_of(org, team, user) for user in USERS)
    return Question("roster", (org, team), (tag_of(org), own, *members), (own, *members))


QUESTIONS = (
    *(_card(org, team, user) for org in ORGS for team in TEAMS for user in USERS),
    *(_roster(org, team) for org in ORGS for team in TEAMS),
)


def questions_below(tag: str | None) -> tuple[Question, ...]:
    """The questions that are about `tag` or something below it; None: all."""
    return QUESTIONS if tag is None else tuple(each for each in QUESTIONS if each.dies_with(tag))
