"""The staging table of imports: a function per query."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from hyperdrip.db import query
from hyperdrip.planning import Block

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
    """Stage rows (line, name, email, phone, notes, fields, cells); returns how many."""
    count = 0
    with conn.cursor() as cursor, cursor.copy(query("copy_import_rows")) as copy:
        for row in rows:
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
    blocks: Sequence[Block],
    *,
    import_id: int,
    campaign: str,
    campaign_version: int,
    max_messages: int,
    start_on: date | None,
    now: datetime,
) -> None:
    """Insert the new leads of a batch, enrol known ones again, and update others."""
    firsts, lasts, first_days, position = [], [], [], 1
    for block in blocks:
        firsts.append(position)
        position += block.leads
        lasts.append(position - 1)
        first_days.append(block.days[0])
    values = {
        "batch": batch,
        "firsts": firsts,
        "lasts": lasts,
        "first_days": first_days,
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
