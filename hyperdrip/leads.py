"""The table of leads: a function per query, and the rules for what a lead may hold."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from hyperdrip.db import array, nullable_array, query
from hyperdrip.errors import InvalidDataError, NotFoundError
from hyperdrip.models import ImportResult, Lead, LeadStatus, NewLead

LONGEST_NAME = 200
LONGEST_PHONE = 40
LONGEST_NOTES = 10_000
LONGEST_FIELD_NAME = 60
LONGEST_FIELD = 2_000
LONGEST_REASON = 200
LAYOUT = "\n\r\t"


def check_new_lead(
    *,
    name: str,
    email: str,
    phone: str | None = None,
    notes: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> NewLead:
    """Check and normalise what a person typed.

    Raises: InvalidDataError naming the first value that cannot be taken.
    """
    return NewLead(
        name=_one_line("name", name, LONGEST_NAME),
        email=_email(email),
        phone=_phone(phone),
        notes=_notes(notes),
        fields={_field_name(key): _field(key, value) for key, value in (fields or {}).items()},
    )


def check_reason(reason: str) -> str:
    """Why somebody pauses or stops a lead. Raises: InvalidDataError for more than a line."""
    return _one_line("reason", reason, LONGEST_REASON)


def phone_key(phone: str | None) -> str | None:
    """The form in which phones are compared: digits, with 00 written as +. The table's own rule."""
    if phone is None:
        return None
    return re.sub(r"^00", "+", re.sub(r"[^0-9+]", "", phone))


def parse_key(text: str) -> tuple[int | None, str | None]:
    """Read a LEAD as commands take it: (id, None) for `lead_123` or `123`, else (None, address)."""
    key = text.strip()
    match = re.fullmatch(r"(?:lead_)?([0-9]{1,18})", key)
    if match:
        return int(match[1]), None
    # What no address has is not for the database to refuse: it is nobody's.
    return None, key if key.isprintable() else ""


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
    """Addresses that must never be written to: address in lower case -> reason."""
    return dict(conn.execute(query("list_suppressed"), {"emails": list(emails)}).fetchall())


def insert_import(conn: psycopg.Connection, *, source: str) -> int:
    """Record an import that begins; returns its id."""
    row = conn.execute(query("insert_import"), {"source": source}).fetchone()
    assert row is not None
    return int(row[0])


def finish_import(conn: psycopg.Connection, result: ImportResult) -> None:
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
    first_days: Sequence[date],
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
            "first_days": list(first_days),
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
    first_days: Sequence[date],
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
            "first_days": list(first_days),
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


def suppress_hashed(conn: psycopg.Connection, emails: Collection[str], *, reason: str) -> None:
    """Suppress addresses under their keyed hash, in place of the addresses themselves."""
    conn.execute(query("suppress_hashed"), {"emails": sorted(emails), "reason": reason})


def lock_finishing(conn: psycopg.Connection, lead_ids: Collection[int]) -> dict[int, LeadStatus]:
    """Lock leads by id until the end of the transaction; the statuses of those not ACTIVE."""
    rows = conn.execute(
        query("lock_finishing_leads"), {"lead_ids": array(sorted(set(lead_ids)))}
    ).fetchall()
    return {lead_id: LeadStatus(status) for lead_id, status in rows}


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


def refresh_next_days(conn: psycopg.Connection, lead_ids: Collection[int]) -> None:
    """Set next_scheduled_for from the ledger."""
    conn.execute(query("refresh_next_days"), {"lead_ids": sorted(set(lead_ids))})


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
            "sent_ats": nullable_array(sent_at for _, _, _, _, sent_at in settled),
        },
    ).fetchall()


def lead_of(**columns: Any) -> Lead:
    """A lead from the columns of its row."""
    return Lead(**{**columns, "status": LeadStatus(columns["status"])})


def _one_line(what: str, value: str, longest: int) -> str:
    text = value.replace("\u00a0", " ").strip()
    if not text:
        raise InvalidDataError(f"{what} is empty; every lead needs one", column=what)
    if len(text) > longest:
        raise InvalidDataError(
            f"{what} has {len(text)} characters; at most {longest} fit", column=what
        )
    if _has_control_characters(text):
        raise InvalidDataError(
            f"{what}={text[:60]!r} has control characters or a line break", column=what
        )
    return text


# Plain addresses, in the form that email-validator gives back; all others are left to it. The last
# label is at least two letters, and none of the names that are not addresses on the internet.
_PLAIN_EMAIL = re.compile(
    r"(?!.{64,}@)[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*"
    r"@(?=.{4,250}$)(?:(?!..--)[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?\.)+"
    r"(?!(?:arpa|invalid|local|localhost|onion|alt|test)$)[a-z]{2,30}"
)


def _email(value: str) -> str:
    from email_validator import EmailNotValidError, validate_email

    text = value.replace("\u00a0", " ").strip()
    if _PLAIN_EMAIL.fullmatch(text):
        return text
    try:
        if len(text) > 320:
            raise EmailNotValidError("it is longer than an address can be")
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        reason = str(error).rstrip(".")
        raise InvalidDataError(
            f"email={text[:80]!r} is no e-mail address: {reason}", column="email"
        ) from None
    return found.normalized


def _phone(value: str | None) -> str | None:
    text = (value or "").replace("\u00a0", " ").strip()
    if not text:
        return None
    digits = re.sub(r"[^0-9]", "", text)
    if not re.fullmatch(r"\+?[0-9 ().\-/]+", text) or not 3 <= len(digits) <= 20:
        raise InvalidDataError(
            f"phone={text[:60]!r} is no phone number; write digits, such as +1 202 555 0143",
            column="phone",
        )
    if len(text) > LONGEST_PHONE:
        raise InvalidDataError(
            f"phone has {len(text)} characters; at most {LONGEST_PHONE} fit", column="phone"
        )
    return text


def _notes(value: str | None) -> str | None:
    text = (value or "").strip()
    if len(text) > LONGEST_NOTES:
        raise InvalidDataError(
            f"notes have {len(text)} characters; at most {LONGEST_NOTES} fit", column="notes"
        )
    if _has_control_characters(text, besides=LAYOUT):
        raise InvalidDataError(
            "notes have control characters; only line breaks and tabs are fine", column="notes"
        )
    return text or None


def _field_name(key: str) -> str:
    name = re.sub("[ \u00a0]+", " ", key).strip()  # as a column of a spreadsheet is called
    if not name or len(name) > LONGEST_FIELD_NAME or _has_control_characters(name):
        raise InvalidDataError(
            f"field name {name[:60]!r} is empty, longer than {LONGEST_FIELD_NAME} characters,"
            " or has control characters",
            column=key,
        )
    return name


def _field(key: str, value: str) -> str:
    text = value.strip()
    if len(text) > LONGEST_FIELD:
        raise InvalidDataError(
            f"field {key[:60]!r} has {len(text)} characters; at most {LONGEST_FIELD} fit",
            column=key,
        )
    if _has_control_characters(text, besides=LAYOUT):
        raise InvalidDataError(
            f"field {key[:60]!r} has control characters; only line breaks and tabs are fine",
            column=key,
        )
    return text


def _has_control_characters(text: str, *, besides: str = "") -> bool:
    """Has it characters that no text needs, or that no database takes (lone surrogates)?"""
    return any(
        ord(char) < 32
        or 127 <= ord(char) < 160
        or char in "\u2028\u2029"
        or "\ud800" <= char <= "\udfff"
        for char in text
        if char not in besides
    )
