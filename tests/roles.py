"""Users of the three roles, as which the tests' commands and workers connect.

Whatever a command or a worker of the tests does, it does with the rights of its role alone. Set-ups
and looks behind the curtain keep the administrator's connection.
"""

import re
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from hyperdrip import roles
from hyperdrip.roles import Roles

KINDS = tuple(vars(Roles.of_prefix("any")))
_MIGRATED = re.compile(r"\b(hyperdrip_[0-9a-f]{8})_[0-9a-f]{12}\b")

# The first words of commands that only read, or only send. `db` is the owner's, the rest plans.
READS = {
    ("audit",), ("campaigns", "diff"), ("campaigns", "list"), ("campaigns", "preview"),
    ("campaigns", "show"), ("campaigns", "stats"), ("campaigns", "test"), ("explain",),
    ("leads", "export"), ("leads", "list"), ("leads", "search"), ("leads", "show"), ("messages",),
    ("plan",), ("queues", "peek"), ("queues", "show"), ("quota", "show"), ("quota", "today"),
    ("status",),
}  # fmt: skip
SENDS = {("worker",), ("rollover",)}

_has_users: dict[str, bool] = {}


def make(conn: psycopg.Connection[Any], word: str) -> None:
    """Make the roles of a run if they are not there, with a user each, and grant them a database.

    Does nothing where this may not be done.
    """
    allowed = conn.execute(
        "select 1 from pg_roles where rolname = current_user and (rolsuper or rolcreaterole)"
    ).fetchone()
    if allowed is None:
        return
    own = Roles.of_prefix(word)
    roles.apply(conn, own)
    for kind, role in vars(own).items():
        if not _exists(conn, user_of(word, kind)):
            conn.execute(
                sql.SQL("create role {} login password {} in role {}").format(
                    sql.Identifier(user_of(word, kind)), sql.Literal(word), sql.Identifier(role)
                )
            )


def drop(conn: psycopg.Connection[Any], word: str) -> None:
    """Drop the users and roles of a run; its databases are gone already."""
    for kind, role in vars(Roles.of_prefix(word)).items():
        for name in (user_of(word, kind), role):
            conn.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))


def user_of(word: str, kind: str) -> str:
    """The name of a run's user."""
    return f"{word}_{kind}_user"


def under(dsn: str, kind: str) -> str:
    """The same database as its user of a role; as it is, if it has none or names one already."""
    match = _MIGRATED.search(dsn)
    if match is None or not _has_users.get(match[1]):
        return dsn
    word = match[1]
    if f"{word}_" in dsn.replace(match[0], ""):
        return dsn
    return make_conninfo(dsn, user=user_of(word, kind), password=word)


def kind_of(arguments: tuple[str, ...]) -> str | None:
    """The role under which a command has to work; None: the owner's own."""
    words = tuple(word for word in arguments if not word.startswith("-"))
    if not words or words[0] == "db":
        return None
    if words[:1] in SENDS:
        return "worker"
    return "reader" if words[:1] in READS or words[:2] in READS else "planner"


def note(conn: psycopg.Connection[Any], word: str) -> None:
    """Find out whether a run has users, so that `under` need not ask a database that is shaky."""
    if word not in _has_users:
        _has_users[word] = _exists(conn, user_of(word, "worker"))


def _exists(conn: psycopg.Connection[Any], name: str) -> bool:
    return conn.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone() is not None
