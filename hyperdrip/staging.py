"""The staging table of imports: a function per query."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, islice

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from hyperdrip.db import query

ROWS_OF_A_PART = 2000
IDLE, INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS


@dataclass(frozen=True)
class LeftOut:
    """A staged row that was not taken, and why."""

    line: int
    email: str
    phone: str | None
    cells: list[str] | None
    fate: str
    culprit: str
    reason: str


def begin(conn: psycopg.Connection) -> int:
    """Begin an import; returns the number of its batch."""
    row = conn.execute(query("insert_import_batch")).fetchone()
    assert row is not None
    return int(row[0])


def copy_rows(conn: psycopg.Connection, batch: int, rows: Iterable[tuple[object, ...]]) -> int:
    """Stage rows (line, name, email, phone, notes, fields, cells); returns how many.

    A part at a time: while a statement runs, nobody can clean up what workers leave behind.
    """
    count, left = 0, iter(rows)
    with conn.cursor() as cursor:
        while (first := next(left, None)) is not None:
            with cursor.copy(query("copy_import_rows")) as copy:
                for row in chain([first], islice(left, ROWS_OF_A_PART - 1)):
                    copy.write_row((batch, *row))
                    count += 1
    return count


def clear(conn: psycopg.Connection, batch: int) -> None:
    """Remove the staged rows of a batch. What stays when that fails, a later import removes."""
    if not conn.closed and conn.info.transaction_status in (IDLE, INTRANS):
        with suppress(psycopg.Error), conn.transaction():
            conn.execute(query("delete_import_rows"), {"batch": batch})


def forget_addresses(conn: psycopg.Connection, emails: Collection[str]) -> None:
    """Remove the staged rows of addresses, whichever import left them."""
    conn.execute(query("delete_staged_rows"), {"emails": sorted(emails)})


def count_unknown(conn: psycopg.Connection, batch: int, *, existing: str) -> int:
    """How many rows may get days: those that are not there already, or may begin again."""
    row = conn.execute(
        query("count_import_rows_to_plan"), {"batch": batch, "existing": existing}
    ).fetchone()
    assert row is not None
    return int(row[0])


def decide(
    conn: psycopg.Connection, batch: int, *, existing: str, is_dry_run: bool
) -> Counter[str]:
    """Decide what becomes of each row: fate -> how many. A dry run draws no ids."""
    row = conn.execute(query("has_suppressions")).fetchone()
    rows = conn.execute(
        query("decide_import"),
        {
            "batch": batch,
            "existing": existing,
            "has_suppressions": row is not None and row[0],
            "is_dry_run": is_dry_run,
        },
    ).fetchall()
    return Counter(dict(rows))


def list_left_out(conn: psycopg.Connection, batch: int) -> Iterator[LeftOut]:
    """Rows that were not taken, by line; streamed."""
    with conn.cursor(name="left_out", row_factory=class_row(LeftOut)) as cursor:
        yield from cursor.execute(query("list_left_out"), {"batch": batch})


def write_leads(
    conn: psycopg.Connection,
    batch: int,
    *,
    import_id: int,
    campaign: str,
    campaign_version: int,
    max_messages: int,
    start_on: date | None,
    now: datetime,
) -> None:
    """Insert the new leads of a batch, enrol known ones again, and update others."""
    values = {
        "batch": batch,
        "import_id": import_id,
        "campaign": campaign,
        "campaign_version": campaign_version,
        "max_messages": max_messages,
        "start_on": start_on,
        "now": now,
    }
    conn.execute(query("lock_imported_leads"), values)
    conn.execute(query("insert_imported_leads"), values)
    conn.execute(query("enroll_imported_leads"), values)
    conn.execute(query("update_imported_leads"), values)
