"""Importing a clean CSV file of leads: read, check, leave out who is there, plan, write at once."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import psycopg

from hyperdrip import leads
from hyperdrip.clock import Clock
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import ImportResult, NewLead
from hyperdrip.scheduler import Enrolment, Moment, enroll, in_planner_transaction

KNOWN_COLUMNS = ("name", "email", "phone", "notes")


def import_csv(
    conn: psycopg.Connection, clock: Clock, path: Path, enrolment: Enrolment
) -> ImportResult:
    """Add the leads of a CSV file in one transaction; rows that cannot be taken are left out.

    Raises: InvalidDataError when the file is no CSV with a name and an email column; NoRoomError.
    """
    rejections: list[str] = []
    candidates: list[tuple[int, NewLead]] = []
    for line, found in read_csv(path):
        if isinstance(found, str):
            rejections.append(f"line {line}: {found}")
        else:
            candidates.append((line, found))

    def work(moment: Moment) -> ImportResult:
        chosen, duplicates = _leave_out_taken(conn, candidates)
        enrolled = enroll(conn, moment, chosen, replace(enrolment, import_source=path.name))
        assert enrolled.import_id is not None
        result = ImportResult(
            import_id=enrolled.import_id,
            read=len(candidates) + len(rejections),
            added=len(chosen),
            updated=0,
            duplicates=len(duplicates),
            rejected=len(rejections),
            first_day=min((days[0] for days in enrolled.schedules), default=None),
            last_day=max((days[-1] for days in enrolled.schedules), default=None),
            left_out=(*rejections, *duplicates),
        )
        leads.finish_import(conn, result)
        return result

    return in_planner_transaction(conn, clock, work)


def _leave_out_taken(
    conn: psycopg.Connection, candidates: Sequence[tuple[int, NewLead]]
) -> tuple[list[NewLead], list[str]]:
    """Leave out whom the database or an earlier row has already, by address or phone."""
    keys = [leads.phone_key(lead.phone) for _, lead in candidates]
    emails = [lead.email for _, lead in candidates]
    owner_of: dict[str, str] = {}
    phone_keys = [key for key in keys if key]
    for lead_id, email, phone in leads.list_taken(conn, emails=emails, phone_keys=phone_keys):
        owner_of[email] = f"lead_{lead_id}"
        if phone:
            owner_of[phone] = f"lead_{lead_id}"
    suppressed = leads.list_suppressed(conn, emails)
    chosen: list[NewLead] = []
    duplicates: list[str] = []
    for (line, lead), key in zip(candidates, keys, strict=True):
        own = [lead.email.lower(), *([key] if key else [])]
        owner = next((owner_of[word] for word in own if word in owner_of), None)
        if owner is not None:
            duplicates.append(f"line {line}: {lead.email} is a duplicate of {owner}")
        elif lead.email.lower() in suppressed:
            duplicates.append(f"line {line}: {lead.email} is suppressed")
        else:
            chosen.append(lead)
            owner_of.update(dict.fromkeys(own, f"line {line}"))
    return chosen, duplicates


def read_csv(path: Path) -> Iterator[tuple[int, NewLead | str]]:
    """Yield (line number, lead), or (line number, reason) for a row that cannot be taken.

    Header names are case-insensitive; columns other than name, email, phone and notes become
    fields. Raises: InvalidDataError when the file is no CSV with a name and an email column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(file, path)
    except IsADirectoryError:
        raise InvalidDataError(f"{str(path)!r} is a folder; name a CSV file") from None
    except OSError as error:
        raise InvalidDataError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidDataError(f"{str(path)!r} is no UTF-8 text; save it as CSV UTF-8") from None


def _rows(file: TextIO, path: Path) -> Iterator[tuple[int, NewLead | str]]:
    reader = csv.reader(file, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        columns = [column.lower() for column in header]
        for needed in ("name", "email"):
            if needed not in columns:
                raise InvalidDataError(
                    f"{str(path)!r} has no column {needed!r}; it has:"
                    f" {', '.join(header)[:200] or 'nothing'}"
                )
        for name in set(columns):
            if columns.count(name) > 1:
                raise InvalidDataError(f"{str(path)!r} has the column {name!r} more than once")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, _lead(header, columns, cells)
    except csv.Error as error:
        raise InvalidDataError(f"{str(path)!r} line {reader.line_num}: {error}") from None


def _lead(header: list[str], columns: list[str], cells: list[str]) -> NewLead | str:
    if len(cells) != len(columns):
        return f"{len(cells)} cells where the header has {len(columns)}"
    row = dict(zip(columns, cells, strict=True))
    fields = {
        column: cell
        for column, lowered, cell in zip(header, columns, cells, strict=True)
        if column and lowered not in KNOWN_COLUMNS and cell.strip()
    }
    try:
        return leads.check_new_lead(
            name=row["name"],
            email=row["email"],
            phone=row.get("phone"),
            notes=row.get("notes"),
            fields=fields,
        )
    except InvalidDataError as error:
        return str(error)
