"""Looking at all tables at once: what a refusal must leave as it was."""

from typing import Any

import psycopg


def everything(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """How many rows each table has, and where each sequence stands."""
    tables = conn.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables"
        " where schemaname in ('hyperdrip', 'pgmq') order by 1"
    ).fetchall()
    found: dict[str, Any] = {}
    for (table,) in tables:
        (found[table],) = conn.execute(f"select count(*) from {table}").fetchone() or (0,)
    sequences = conn.execute(
        "select schemaname || '.' || sequencename, last_value from pg_sequences"
        " where schemaname in ('hyperdrip', 'pgmq') order by 1"
    ).fetchall()
    return {**found, **dict(sequences)}


def assert_nothing_new(conn: psycopg.Connection[Any], before: dict[str, Any]) -> None:
    """No row but those of a batch, and of queues that are empty; numbers may have been drawn."""
    found = {
        name: count
        for name, count in everything(conn).items()
        if not name.endswith("_seq") and name != "pgmq.meta" and "import_" not in name
    }
    assert {name: count for name, count in found.items() if count != before.get(name, 0)} == {}


def count_waiting(conn: psycopg.Connection[Any]) -> int:
    """How many wait for a lock in this database."""
    row = conn.execute(
        "select count(*) from pg_locks where not granted and database ="
        " (select oid from pg_database where datname = current_database())"
    ).fetchone()
    assert row is not None
    return int(row[0])
