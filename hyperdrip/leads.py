"""The table of leads: a function per query."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from hyperdrip.db import array, instant_array, nullable_array, query
from hyperdrip.errors import NotFoundError
from hyperdrip.lead_values import parse_key
from hyperdrip.models import Claim, Lead, LeadStatus, NewLead

if TYPE_CHECKING:
    from hyperdrip.results import ImportResult


def get_lead(conn: psycopg.Connection, key: str) -> Lead | None:
    """A lead by `lead_123`, `123` or its address in any letter case."""
    lead_id, email = parse_key(key)
    with conn.cursor(row_factory=kwargs_row(lead_of)) as cursor:
        return cursor.execute(query("get_lead"), {"lead_id": lead_id, "email": email}).fetchone()


def require_lead(conn: psycopg.Connection, key: str) -> Lead:
    """As get_lead. Raises: NotFoundError."""
    lead = get_lead(conn, key)
    if lead is None:
        raise NotFoundError(f"no lead {key!r}; `hyperdrip leads list` shows who is there")
    return lead


def list_leads(
    conn: psycopg.Connection, *, status: str | None, campaign: str | None, limit: int
) -> list[Lead]:
    """Leads by id."""
    with conn.cursor(row_factory=kwargs_row(lead_of)) as cursor:
        return cursor.execute(
            query("list_leads"), {"status": status, "campaign": campaign, "limit": limit}
        ).fetchall()


def list_leads_like(conn: psycopg.Connection, start: str, *, limit: int) -> list[tuple[int, str]]:
    """Leads whose address or `lead_123` begins with `start`: id, address; by address."""
    return conn.execute(query("list_leads_like"), {"start": start, "limit": limit}).fetchall()


def list_taken(
    conn: psycopg.Connection, *, emails: Sequence[str], phone_keys: Sequence[str]
) -> list[tuple[int, str, str | None]]:
    """Leads that have one of these addresses or phones: id, address in lower case, phone key."""
    return conn.execute(
        query("list_taken"), {"emails": list(emails), "phone_keys": list(phone_keys)}
    ).fetchall()


def list_suppressed(conn: psycopg.Connection, emails: Sequence[str]) -> dict[str, str]:
    """Those that must never be written to, as they were given: address -> reason."""
    return dict(conn.execute(query("list_suppressed"), {"emails": list(emails)}).fetchall())


def insert_import(conn: psycopg.Connection, *, source: str) -> int:
    """Record an import that begins; returns its id."""
    row = conn.execute(query("insert_import"), {"source": source}).fetchone()
    assert row is not None
    return int(row[0])


def finish_import(conn: psycopg.Connection, result: "ImportResult") -> None:
    """Write down what came of an import."""
    conn.execute(
        query("finish_import"),
        {
            "import_id": result.import_id,
            "read": result.read,
            "added": result.added,
            "updated": result.updated,
            "duplicates": result.duplicates,
            "rejected": result.rejected,
            "suppressed": result.suppressed,
            "enrolled": result.enrolled,
            "first_day": result.first_day,
            "last_day": result.last_day,
        },
    )


def is_import_undone(conn: psycopg.Connection, import_id: int) -> bool:
    """Was this import undone? Locks its record. Raises: NotFoundError."""
    row = conn.execute(query("lock_import"), {"import_id": import_id}).fetchone()
    if row is None:
        raise NotFoundError(f"no import {import_id}; `hyperdrip import` says its number")
    return row[0] is not None


def set_import_undone(conn: psycopg.Connection, import_id: int, now: datetime) -> None:
    """Write down that an import was undone."""
    conn.execute(query("set_import_undone"), {"import_id": import_id, "now": now})


def list_ids_of_import(conn: psycopg.Connection, import_id: int) -> list[int]:
    """The leads of an import, by id."""
    rows = conn.execute(query("list_leads_of_import"), {"import_id": import_id}).fetchall()
    return [lead_id for (lead_id,) in rows]


def delete_untouched(conn: psycopg.Connection, lead_ids: Collection[int]) -> int:
    """Delete leads, and their ledger rows, that have cancelled messages only; returns how many."""
    row = conn.execute(query("delete_untouched_leads"), {"lead_ids": sorted(lead_ids)}).fetchone()
    assert row is not None
    return int(row[0])


def insert_leads(
    conn: psycopg.Connection,
    new_leads: Sequence[NewLead],
    *,
    campaign: str,
    campaign_version: int,
    max_messages: int,
    import_id: int | None,
    start_on: date | None,
    now: datetime,
) -> list[int]:
    """Insert leads; returns their ids in the same order, which is ascending."""
    rows = conn.execute(
        query("insert_leads"),
        {
            "names": [lead.name for lead in new_leads],
            "emails": [lead.email for lead in new_leads],
            "phones": [lead.phone for lead in new_leads],
            "notes": [lead.notes for lead in new_leads],
            "fields": [Jsonb(dict(lead.fields)) for lead in new_leads],
            "campaign": campaign,
            "campaign_version": campaign_version,
            "max_messages": max_messages,
            "import_id": import_id,
            "start_on": start_on,
            "now": now,
        },
    ).fetchall()
    id_of = {email: lead_id for lead_id, email in rows}
    return [id_of[lead.email] for lead in new_leads]


def list_emails(conn: psycopg.Connection, lead_ids: Collection[int]) -> dict[int, str]:
    """The addresses of leads, by id."""
    return dict(conn.execute(query("list_emails"), {"lead_ids": sorted(lead_ids)}).fetchall())


def lock_leads(
    conn: psycopg.Connection, lead_ids: Collection[int]
) -> dict[int, tuple[str, LeadStatus, int]]:
    """Lock leads by id until the end of the transaction: id -> (address, status, run)."""
    rows = conn.execute(query("lock_leads"), {"lead_ids": array(sorted(set(lead_ids)))}).fetchall()
    return {lead_id: (email, LeadStatus(status), run) for lead_id, email, status, run in rows}


def list_hindrances(conn: psycopg.Connection, lead_ids: Collection[int]) -> dict[int, str]:
    """Those of these leads that cannot begin another run: id -> why, in words after its name."""
    return dict(conn.execute(query("list_hindrances"), {"lead_ids": sorted(lead_ids)}).fetchall())


def begin_runs(
    conn: psycopg.Connection,
    lead_ids: Sequence[int],
    *,
    campaign: str,
    campaign_version: int,
    max_messages: int,
    start_on: date | None,
) -> list[tuple[int, str, int]]:
    """Begin a new run for locked leads, given by id; returns (id, address, run) of each."""
    return conn.execute(
        query("begin_runs"),
        {
            "lead_ids": list(lead_ids),
            "campaign": campaign,
            "campaign_version": campaign_version,
            "max_messages": max_messages,
            "start_on": start_on,
        },
    ).fetchall()


def set_start_days(conn: psycopg.Connection, start_of: Mapping[int, date]) -> None:
    """Set the day before which locked leads do not go on, by id."""
    lead_ids = sorted(start_of)
    conn.execute(
        query("set_start_days"),
        {"lead_ids": lead_ids, "days": [start_of[lead_id] for lead_id in lead_ids]},
    )


def list_erased(conn: psycopg.Connection, lead_ids: Collection[int]) -> list[int]:
    """Those of these leads that are erased already, by id."""
    rows = conn.execute(query("list_erased"), {"lead_ids": sorted(lead_ids)}).fetchall()
    return [lead_id for (lead_id,) in rows]


def erase(conn: psycopg.Connection, lead_ids: Collection[int]) -> None:
    """Take everything personal out of locked leads, which are STOPPED then."""
    conn.execute(query("erase_leads"), {"lead_ids": sorted(lead_ids)})


def suppress(conn: psycopg.Connection, reasons: Mapping[int, str]) -> None:
    """Suppress the addresses of locked leads (id -> why); what is suppressed keeps its reason."""
    conn.execute(
        query("suppress_leads"), {"lead_ids": list(reasons), "reasons": list(reasons.values())}
    )


def suppress_hashed(conn: psycopg.Connection, emails: Collection[str], *, reason: str) -> None:
    """Suppress addresses under their keyed hash, in place of the addresses themselves."""
    conn.execute(query("suppress_hashed"), {"emails": sorted(emails), "reason": reason})


def lock_finishing(conn: psycopg.Connection, lead_ids: Collection[int]) -> dict[int, LeadStatus]:
    """Lock leads by id until the end of the transaction; the statuses of those not ACTIVE."""
    rows = conn.execute(
        query("lock_finishing_leads"), {"lead_ids": array(sorted(set(lead_ids)))}
    ).fetchall()
    return {lead_id: LeadStatus(status) for lead_id, status in rows}


def has_suppressed(conn: psycopg.Connection, claims: Sequence[Claim]) -> bool:
    """Is the address of any of these claims suppressed, by itself or by its hash?"""
    row = conn.execute(
        query("has_suppressed"),
        {
            "emails": nullable_array([claim.email for claim in claims]),
            "lead_ids": array([claim.lead_id for claim in claims]),
        },
    ).fetchone()
    assert row is not None
    return bool(row[0])


def set_status(
    conn: psycopg.Connection,
    lead_ids: Collection[int],
    status: LeadStatus,
    *,
    from_statuses: Sequence[LeadStatus],
    reason: str | None,
) -> list[int]:
    """Move leads that have one of `from_statuses`; returns the ids that moved."""
    rows = conn.execute(
        query("set_lead_status"),
        {
            "lead_ids": sorted(set(lead_ids)),
            "status": status.value,
            "from_statuses": [old.value for old in from_statuses],
            "reason": reason,
        },
    ).fetchall()
    return [lead_id for (lead_id,) in rows]


def complete(conn: psycopg.Connection, lead_ids: Collection[int]) -> None:
    """Complete ACTIVE leads that have had all their messages."""
    conn.execute(query("complete_leads"), {"lead_ids": sorted(set(lead_ids))})


def advance(
    conn: psycopg.Connection, settled: Sequence[tuple[int, int, int, int, datetime | None]]
) -> list[tuple[int, str, int, int]]:
    """Move leads on after settled messages, given as (lead, run, number, counted 0/1, sent at).

    Returns those that completed: id, address, message count, maximum.
    """
    return conn.execute(
        query("advance_leads"),
        {
            "lead_ids": array(lead_id for lead_id, _, _, _, _ in settled),
            "runs": array(run for _, run, _, _, _ in settled),
            "numbers": array(number for _, _, number, _, _ in settled),
            "counted": array(counted for _, _, _, counted, _ in settled),
            "sent_ats": instant_array(sent_at for _, _, _, _, sent_at in settled),
        },
    ).fetchall()


def lead_of(**columns: Any) -> Lead:
    """A lead from the columns of its row."""
    return Lead(**{**columns, "status": LeadStatus(columns["status"])})
