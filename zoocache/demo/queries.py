"""The cached functions of the demo: what an application would write.

Each execution leaves two lines in the ledger. Answers are named tuples: they come back from LMDB as what they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from zoocache import add_deps, cacheable
from zoocache.demo.database import Database
from zoocache.demo.ledger import Ledger
from zoocache.demo.oracle import COST_MS, Oracle
from zoocache.demo.world import ORG_TAGS, USERS, Question, tag_of


class Desk(NamedTuple):
    """What the functions of this process work with."""

    database: Database
    ledger: Ledger
    oracle: Oracle


class Card(NamedTuple):
    """A user, with the versions of organisation, team and user."""

    user: str
    team: str
    org: str
    versions: tuple[int, ...]


class Roster(NamedTuple):
    """The users of a team, with the versions of organisation, team and each user."""

    users: tuple[str, ...]
    versions: tuple[int, ...]


_desks: list[Desk] = []  # of this process: none, or one


def sit_down(directory: Path, row: int) -> Desk:
    """Open what the functions need, once a process."""
    _desks.append(Desk(Database(directory), Ledger(directory), Oracle(directory, row)))
    return _desks[-1]


def stand_up() -> None:
    """Close what `sit_down` has opened."""
    for each in _desks.pop():
        each.close()


@contextmanager
def _executing(key: str) -> Iterator[Desk]:
    desk = _desks[-1]
    desk.ledger.write("begun", key)
    yield desk
    desk.ledger.write("done", key)


@cacheable(namespace="demo", deps=tag_of)
def card(org: int, team: str, user: int) -> Card:
    """A user's card; dies with the user, the team or the organisation."""
    with _executing(f"card {org} {team} {user}") as desk:
        names, versions = desk.database.card(org, team, user)
        return Card(*names, versions)


@cacheable(namespace="demo", deps=tag_of)
def roster(org: int, team: str) -> Roster:
    """A team's users; dies with each of them too, which only the query itself knows."""
    with _executing(f"roster {org} {team}") as desk:
        users, versions = desk.database.roster(org, team)
        add_deps([tag_of(org, team, user) for user in USERS])
        return Roster(users, versions)


@cacheable(namespace="demo", deps=ORG_TAGS)
def census(number: int) -> int:
    """An expensive query over everything; `number` makes a new cold key. The oracle says how long it takes."""
    with _executing(f"census {number}") as desk:
        time.sleep(desk.oracle.words[COST_MS] / 1000)
        return desk.database.census()


_FUNCTIONS: dict[str, Callable[..., Card | Roster]] = {"card": card, "roster": roster}


def ask(question: Question) -> Card | Roster:
    """The answer to a question, through the cache."""
    return _FUNCTIONS[question.name](*question.arguments)
