"""The database behind the cache: SQLite, in one file, with a version in every row that each change raises."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from zoocache.demo import world
from zoocache.demo.world import ORGS, TEAMS, USERS

FILE = "people.sqlite"
Versions = tuple[int, ...]

WAIT_S = 20.0
"""How long a statement waits for another process that writes."""

_SCHEMA = """
    CREATE TABLE orgs (org INTEGER PRIMARY KEY, name TEXT, version INTEGER);
    CREATE TABLE teams (org INTEGER, team TEXT, name TEXT, version INTEGER, PRIMARY KEY (org, team));
    CREATE TABLE users (
        org INTEGER, team TEXT, user INTEGER, name TEXT, version INTEGER, PRIMARY KEY (org, team, user)
    );
"""

_CARD = """
    SELECT users.name, teams.name, orgs.name, orgs.version, teams.version, users.version
    FROM users JOIN teams USING (org, team) JOIN orgs USING (org) WHERE org = ? AND team = ? AND user = ?
"""

_ROSTER = """
    SELECT users.name, orgs.version, teams.version, users.version
    FROM users JOIN teams USING (org, team) JOIN orgs USING (org) WHERE org = ? AND team = ? ORDER BY user
"""

_ROWS = (("orgs", "org = ?"), ("teams", "org = ? AND team = ?"), ("users", "org = ? AND team = ? AND user = ?"))
"""Where the row of a path (organisation, team, user) lies, by the length of the path."""


class Database:
    """One process's connection."""

    def __init__(self, directory: Path) -> None:
        self._connection = sqlite3.connect(
            directory / FILE, timeout=WAIT_S, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA synchronous = OFF")

    def card(self, org: int, team: str, user: int) -> tuple[tuple[str, str, str], Versions]:
        """A user: the names of user, team and organisation; the versions of organisation, team and user."""
        row = self._connection.execute(_CARD, (org, team, user)).fetchone()
        return row[:3], row[3:]

    def roster(self, org: int, team: str) -> tuple[tuple[str, ...], Versions]:
        """A team: the names of its users; the versions of organisation, team and each user."""
        rows = self._connection.execute(_ROSTER, (org, team)).fetchall()
        return tuple(row[0] for row in rows), (*rows[0][1:3], *(row[3] for row in rows))

    def census(self) -> int:
        """How many changes there were altogether."""
        tables = ("orgs", "teams", "users")
        counts = (self._connection.execute(f"SELECT sum(version) FROM {each}").fetchone()[0] for each in tables)
        return sum(counts)

    def rename(self, path: world.Path) -> int:
        """Change an organisation, a team or a user; returns its new version, after the commit."""
        table, where = _ROWS[len(path) - 1]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(
            f"UPDATE {table} SET version = version + 1, name = rtrim(name, ' 0123456789') || ' ' || (version + 1) "
            f"WHERE {where}",
            path,
        )
        (version,) = self._connection.execute(f"SELECT version FROM {table} WHERE {where}", path).fetchone()
        self._connection.execute("COMMIT")
        return int(version)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def create(directory: Path) -> None:
    """Make the database, every row at version 1."""
    connection = sqlite3.connect(directory / FILE)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        connection.executemany("INSERT INTO orgs VALUES (?, ?, 1)", ORGS.items())
        connection.executemany(
            "INSERT INTO teams VALUES (?, ?, ?, 1)", [(org, team, name) for org in ORGS for team, name in TEAMS.items()]
        )
        connection.executemany(
            "INSERT INTO users VALUES (?, ?, ?, ?, 1)",
            [(org, team, user, name) for org in ORGS for team in TEAMS for user, name in USERS.items()],
        )
        connection.commit()
    finally:
        connection.close()
