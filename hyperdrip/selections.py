"""Finding leads: by what people call them, by what they have in common, by a piece of text."""

from collections.abc import Iterator, Sequence

import psycopg
from psycopg.rows import kwargs_row

from hyperdrip.db import query
from hyperdrip.errors import NotFoundError
from hyperdrip.lead_values import parse_key
from hyperdrip.leads import lead_of
from hyperdrip.models import Lead, Selection

SHOWN = 3
IDS_PER_FETCH = 1000


def select_ids(conn: psycopg.Connection, selection: Selection) -> list[int]:
    """The ids of the leads of a selection, in order.

    Raises: NotFoundError naming the first keys that are nobody's, or the import.
    """
    rows = conn.execute(query("select_leads"), _conditions(conn, selection)).fetchall()
    return [lead_id for (lead_id,) in rows]


def stream_ids(conn: psycopg.Connection, selection: Selection) -> Iterator[list[int]]:
    """As select_ids, by the thousand as they are asked for; in a transaction of the caller's."""
    conditions = _conditions(conn, selection)
    with conn.cursor(name="selected") as cursor:
        cursor.execute(query("select_leads"), conditions)
        while rows := cursor.fetchmany(IDS_PER_FETCH):
            yield [lead_id for (lead_id,) in rows]


def stream_leads(conn: psycopg.Connection, selection: Selection) -> Iterator[Lead]:
    """The leads of a selection, by id, read as they are asked for."""
    for lead_ids in stream_ids(conn, selection):
        yield from list_leads_by_id(conn, lead_ids)


def resolve_keys(conn: psycopg.Connection, keys: Sequence[str]) -> list[int]:
    """The ids that keys stand for, in the order of the keys, which may repeat themselves.

    Raises: NotFoundError naming the first ones that are nobody's.
    """
    parsed = [parse_key(key) for key in keys]
    rows = conn.execute(
        query("resolve_leads"),
        {
            "lead_ids": [lead_id for lead_id, _ in parsed],
            "emails": [email for _, email in parsed],
        },
    ).fetchall()
    unknown = [keys[position - 1] for position, lead_id in rows if lead_id is None]
    if unknown:
        hidden = len(unknown) - SHOWN
        more = f" and {hidden} more" if hidden > 0 else ""
        raise NotFoundError(
            f"no lead {', '.join(repr(key[:80]) for key in unknown[:SHOWN])}{more};"
            " `hyperdrip leads list` shows who is there"
        )
    return [lead_id for _, lead_id in rows]


def search(conn: psycopg.Connection, text: str, *, limit: int) -> list[Lead]:
    """Leads with a text in their name, address, notes or fields, or its digits in their phone.

    In any letter case; by id.
    """
    with conn.cursor(row_factory=kwargs_row(lead_of)) as cursor:
        return cursor.execute(query("search_leads"), {"text": text, "limit": limit}).fetchall()


def list_leads_by_id(conn: psycopg.Connection, lead_ids: Sequence[int]) -> list[Lead]:
    """Leads with these ids, by id."""
    with conn.cursor(row_factory=kwargs_row(lead_of)) as cursor:
        return cursor.execute(query("list_leads_by_id"), {"lead_ids": list(lead_ids)}).fetchall()


def list_field_names(conn: psycopg.Connection, lead_ids: Sequence[int]) -> list[str]:
    """The names of the further fields that any of these leads has, in order."""
    rows = conn.execute(query("list_field_names"), {"lead_ids": list(lead_ids)}).fetchall()
    return [name for (name,) in rows]


def _conditions(conn: psycopg.Connection, selection: Selection) -> dict[str, object]:
    lead_ids = None if selection.lead_ids is None else set(selection.lead_ids)
    if selection.keys is not None:
        named = set(resolve_keys(conn, selection.keys))
        lead_ids = named if lead_ids is None else lead_ids & named
    if selection.import_id is not None:
        _require_import(conn, selection.import_id)
    return {
        "lead_ids": None if lead_ids is None else sorted(lead_ids),
        "status": selection.status,
        "campaign": selection.campaign,
        "import_id": selection.import_id,
        "names": [name for name, _ in selection.where],
        "values": [value for _, value in selection.where],
    }


def _require_import(conn: psycopg.Connection, import_id: int) -> None:
    if conn.execute(query("has_import"), {"import_id": import_id}).fetchone() is None:
        raise NotFoundError(f"no import {import_id}; `hyperdrip import` says its number")
