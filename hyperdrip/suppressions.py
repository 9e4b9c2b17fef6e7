"""The table of addresses that must never be written to: a function per query.

An address stands there in lower case; one that was erased, as a keyed hash.
"""

from collections.abc import Collection
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from hyperdrip.db import query
from hyperdrip.models import MessageKey, Suppression


def insert(
    conn: psycopg.Connection, emails: Collection[str], *, reason: str, now: datetime
) -> tuple[list[str], int]:
    """Suppress addresses; returns those that were not suppressed yet, and how many were.

    In lower case, and each counted once: the database says what that is, as it does in every claim.
    """
    values = {"emails": sorted(emails), "reason": reason, "now": now}
    row = conn.execute(query("insert_suppressions"), values).fetchone()
    assert row is not None
    total, added = row
    return added, total - len(added)


def delete(conn: psycopg.Connection, email: str) -> list[str]:
    """Suppress an address no more; returns why it was, or nothing."""
    return [
        why for (why,) in conn.execute(query("delete_suppression"), {"email": email}).fetchall()
    ]


def list_newest(conn: psycopg.Connection, *, part: str | None, limit: int) -> list[Suppression]:
    """Suppressions whose address contains `part`, the newest first."""
    with conn.cursor(row_factory=class_row(Suppression)) as cursor:
        return cursor.execute(query("list_suppressions"), {"part": part, "limit": limit}).fetchall()


def list_leads_at(conn: psycopg.Connection, emails: Collection[str]) -> list[int]:
    """The leads that have these addresses, in any letter case; by id."""
    rows = conn.execute(query("list_leads_at"), {"emails": sorted(emails)}).fetchall()
    return [lead_id for (lead_id,) in rows]


def stop_unsubscribed(conn: psycopg.Connection, key: MessageKey, *, reason: str) -> bool:
    """Stop a locked lead for good; False when it had unsubscribed before.

    `key`: the message that made it do so; run and number are 0 when nobody knows.
    """
    lead_id, run, number = key
    values = {"lead_id": lead_id, "run": run or None, "number": number or None, "reason": reason}
    return conn.execute(query("stop_unsubscribed"), values).fetchone() is not None
