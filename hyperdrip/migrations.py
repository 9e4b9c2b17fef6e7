"""Migrations: forward-only SQL files, each in one transaction with its record; and PGMQ itself."""

from dataclasses import dataclass

import psycopg
from psycopg import errors as pg

from hyperdrip import queue
from hyperdrip.db import query, run_script, sql_folder
from hyperdrip.errors import DatabaseError, NotMigratedError, SettingsError

OLDEST_PGMQ = (1, 5)


@dataclass(frozen=True)
class Status:
    """What is applied, in order, and what is still to come."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]


def migrate(
    conn: psycopg.Connection, *, environment: str, time_zone: str, daily_max: int
) -> list[str]:
    """Bring a database up to date; returns the names of what was applied.

    Installs PGMQ if it is not there: the extension when the server has it, else the SQL of the
    official wheel. Writes the instance row if there is none. Several at once wait for each other.

    Raises: DatabaseError.
    """
    applied: list[str] = []
    with conn.transaction():
        conn.execute(query("lock_migrations"))
        run_script(conn, query("create_migration_table"))
    with conn.transaction():
        conn.execute(query("lock_migrations"))
        applied += _install_pgmq(conn)
    for name, text in _shipped().items():
        with conn.transaction():
            conn.execute(query("lock_migrations"))
            known = _recorded(conn)
            _check_recorded(known)
            if name not in known:
                run_script(conn, text)
                _record(conn, name, _checksum(text))
                applied.append(name)
    conn.execute(
        query("insert_instance"),
        {
            "environment": environment,
            "time_zone": time_zone,
            "daily_max": daily_max,
            "fingerprint": _fingerprint(conn),
        },
    )
    return applied


def read_status(conn: psycopg.Connection) -> Status:
    """What is applied and what is pending; verifies the checksums. Raises: DatabaseError."""
    row = conn.execute(query("has_migration_table")).fetchone()
    known = _recorded(conn) if row is not None and row[0] else {}
    _check_recorded(known)
    pending = tuple(name for name in _shipped() if name not in known)
    return Status(tuple(known), pending)


def is_migrated(conn: psycopg.Connection) -> bool:
    """Has this database an instance row: was it ever migrated to the end?"""
    return bool(read_status(conn).applied) and get_identity(conn) is not None


def get_identity(conn: psycopg.Connection) -> tuple[str, str] | None:
    """Environment and time zone of a database that any version migrated to the end, or None."""
    try:
        return conn.execute(query("get_identity")).fetchone()
    except pg.UndefinedTable:
        return None


def require_current(conn: psycopg.Connection) -> None:
    """One cheap look. Raises: NotMigratedError when something is pending or the schema is newer."""
    try:
        row = conn.execute(query("get_newest_migration")).fetchone()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        row = None
    newest = row[0] if row is not None else None
    latest = max(_shipped_names())
    if newest is None:
        raise NotMigratedError("the database is not migrated yet; run: hyperdrip db migrate")
    if newest < latest:
        raise NotMigratedError(
            f"the database stands at migration {newest}, this version needs {latest};"
            " run: hyperdrip db migrate"
        )
    if newest > latest:
        raise NotMigratedError(
            f"the database stands at migration {newest}, this version knows only {latest};"
            " install a newer Hyperdrip"
        )


def check_agreement(
    *, environment: str, time_zone: str | None, stored_environment: str, stored_time_zone: str
) -> None:
    """Raises: SettingsError when this process and the database disagree on what they are.

    `time_zone`: None when nobody set one, so that the database's own counts.
    """
    if environment != stored_environment:
        raise SettingsError(
            f"this database holds {stored_environment} data and HYPERDRIP_ENV is {environment};"
            " they never share a database"
        )
    if time_zone is not None and time_zone != stored_time_zone:
        raise SettingsError(
            f"this database counts its days in {stored_time_zone} and TIMEZONE is {time_zone};"
            f" set TIMEZONE={stored_time_zone} or leave it out"
        )


def _install_pgmq(conn: psycopg.Connection) -> list[str]:
    row = conn.execute(query("list_pgmq_extension")).fetchone()
    if row is not None and row[1] is not None:
        version: str = row[1]
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGMQ:
            raise DatabaseError(
                f"this database has PGMQ {version}, 1.5 or later is needed;"
                " run: alter extension pgmq update"
            )
        return []
    if queue.is_installed(conn):
        return []
    if row is not None:
        try:
            conn.execute("create extension pgmq")
        except pg.InsufficientPrivilege as error:
            raise DatabaseError(
                "the extension pgmq is available and this user may not create it;"
                " let an administrator run: create extension pgmq"
            ) from error
        name = f"pgmq extension {row[0]}"
    elif queue.has_schema(conn):
        raise DatabaseError(
            "this database has a schema pgmq that is not PGMQ's; rename it, or use another database"
        )
    else:
        from pgmq.install import get_embedded_install_sql, get_embedded_sql_version

        text = get_embedded_install_sql().encode()
        run_script(conn, text)
        name = f"pgmq sql {get_embedded_sql_version()}"
    _record(conn, name, "")
    return [name]


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in (sql_folder() / "migrations").glob("*.sql"))


def _shipped() -> dict[str, bytes]:
    folder = sql_folder() / "migrations"
    return {name: (folder / f"{name}.sql").read_bytes() for name in _shipped_names()}


def _recorded(conn: psycopg.Connection) -> dict[str, str]:
    rows = conn.execute(query("list_migrations")).fetchall()
    return {name: checksum for name, checksum, _ in rows}


def _record(conn: psycopg.Connection, name: str, checksum: str) -> None:
    conn.execute(query("insert_migration"), {"name": name, "checksum": checksum})


def _check_recorded(known: dict[str, str]) -> None:
    for name, text in _shipped().items():
        if name in known and known[name] != _checksum(text):
            raise DatabaseError(
                f"migration {name} was applied with another text than this version ships;"
                " install the version that migrated this database"
            )


def _checksum(text: bytes) -> str:
    import hashlib  # late: whoever only looks whether all is applied does without

    return hashlib.sha256(text).hexdigest()


def _fingerprint(conn: psycopg.Connection) -> str:
    row = conn.execute(query("get_fingerprint")).fetchone()
    assert row is not None
    return str(row[0])
