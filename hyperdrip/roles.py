"""Roles: who plans, who sends and who only reads, each with no more rights than it needs.

Roles belong to the whole server, what they are granted to one database. Queues that are made later
are granted as they are made: the database remembers the names.
"""

from dataclasses import dataclass

import psycopg
from psycopg import errors as pg
from psycopg import sql

from hyperdrip.db import first_line, query, run_script, sql_folder
from hyperdrip.errors import DatabaseError, InvalidDataError

LONGEST_NAME = 63  # bytes, as PostgreSQL has it


@dataclass(frozen=True)
class Roles:
    """The names of the three roles."""

    planner: str
    worker: str
    reader: str

    @classmethod
    def of_prefix(cls, prefix: str) -> "Roles":
        """`hyperdrip_planner`, and so on. Raises: InvalidDataError for a name that cannot be."""
        names = [f"{prefix}_{kind}" for kind in ("planner", "worker", "reader")]
        longest = LONGEST_NAME - len("_planner")
        if not prefix or prefix.startswith("pg_") or not prefix.isprintable():
            raise InvalidDataError(
                f"prefix={prefix!r} is no start of a role's name: not empty, without control"
                " characters, and not pg_, which is PostgreSQL's own"
            )
        if len(prefix.encode()) > longest:
            raise InvalidDataError(
                f"prefix={prefix!r} has {len(prefix.encode())} bytes; at most {longest} fit"
            )
        return cls(*names)


def read_roles(conn: psycopg.Connection) -> Roles | None:
    """The roles that this database grants its queues to, or None; also if this server lacks one."""
    try:
        found: dict[str, str] = dict(conn.execute(query("list_roles")).fetchall())
    except pg.UndefinedTable:
        return None
    return Roles(**found) if len(found) == len(Roles.__annotations__) else None


def script(conn: psycopg.Connection, roles: Roles) -> str:
    """The SQL that makes the roles and grants them what they need; it may be run again."""
    names = {
        kind: part.as_string(conn)
        for kind, name in vars(roles).items()
        for kind, part in ((kind, sql.Identifier(name)), (f"{kind}_name", sql.Literal(name)))
    }
    return (sql_folder() / "roles.sql").read_text() % names


def apply(conn: psycopg.Connection, roles: Roles) -> None:
    """Make and grant the roles, all or nothing. Raises: DatabaseError when that is not allowed."""
    try:
        with conn.transaction():
            conn.execute(query("lock_migrations"))
            run_script(conn, script(conn, roles).encode())
    except pg.InsufficientPrivilege as error:
        raise DatabaseError(
            f"this user may not make or grant roles ({first_line(error)}); let the owner of the"
            " database or an administrator run what this prints: hyperdrip db roles"
        ) from error


def apply_again(conn: psycopg.Connection, roles: Roles | None) -> None:
    """Grant what a migration has made anew to the roles of this database, if it has any."""
    if roles is not None:
        apply(conn, roles)
