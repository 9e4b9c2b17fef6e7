"""Proving the invariants from the tables: ledger against queues, quota and leads.

Reads one snapshot of the whole database, so workers may go on meanwhile. This is the one place
that reads under REPEATABLE READ: it only reads, and never through `pgmq.read`.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date

import psycopg

from hyperdrip import queue
from hyperdrip.db import query
from hyperdrip.instance import require_instance
from hyperdrip.models import AuditCheck

SHOWN = 3
OPEN_STATES = frozenset({"planned", "sending"})

Row = tuple[int, int, int, str]  # lead, run, number, state


def run_audit(conn: psycopg.Connection) -> list[AuditCheck]:
    """Check every invariant; the checks in a fixed order, each with what contradicts it."""
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read read only")
        environment = require_instance(conn).environment
        ledger: dict[date, dict[int, Row]] = defaultdict(dict)
        for day, envelope_id, lead_id, run, number, state in conn.execute(
            query("list_ledger_envelopes")
        ):
            ledger[day][envelope_id] = (lead_id, run, number, state)
        quota_rows = conn.execute(query("audit_quota")).fetchall()
        queued = _list_queued(conn, environment)
        return [
            _check(
                "quota counters equal the ledger",
                [
                    f"{day}: {reserved} reserved and {planned} planned, {sent} sent and {gone} gone"
                    for day, reserved, planned, sent, gone, _ in quota_rows
                    if (reserved, sent) != (planned, gone)
                ],
            ),
            _check(
                "no day exceeds its quota",
                [
                    f"{day}: {sent} sent, the limit was {highest}"
                    for day, _, _, sent, _, highest in quota_rows
                    if sent > highest
                ],
            ),
            _check("every planned message has its envelope", _list_missing(ledger, queued)),
            _check("every envelope points at an open message", _list_stray(ledger, queued)),
            _check("archived envelopes are settled", _list_unsettled(conn, environment, ledger)),
            _check(
                "leads agree with the ledger",
                [
                    f"lead_{lead_id}: {fault}"
                    for lead_id, fault in conn.execute(query("audit_leads"))
                ],
            ),
            _check(
                "messages of a lead come in order",
                [
                    f"lead_{lead_id} #{number} on {day}"
                    for lead_id, _, number, day in conn.execute(query("audit_order"))
                ],
            ),
        ]


def _check(name: str, faults: Sequence[str]) -> AuditCheck:
    if not faults:
        return AuditCheck(name, True, "")
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return AuditCheck(name, False, "; ".join(faults[:SHOWN]) + more)


def _list_queued(
    conn: psycopg.Connection, environment: str
) -> dict[date, dict[int, tuple[str | None, int | None, int | None]]]:
    queued = {}
    for name in queue.list_names(conn):
        day = queue.day_of(name)
        if day is not None and name == queue.name_of(environment, day):
            queued[day] = {
                envelope_id: (lead, run, number)
                for envelope_id, lead, run, number in queue.list_envelopes(conn, name)
            }
    return queued


def _list_missing(
    ledger: dict[date, dict[int, Row]],
    queued: dict[date, dict[int, tuple[str | None, int | None, int | None]]],
) -> list[str]:
    return [
        f"lead_{lead_id} #{number} on {day}"
        for day, rows in ledger.items()
        for envelope_id, (lead_id, run, number, state) in rows.items()
        if state in OPEN_STATES
        and queued.get(day, {}).get(envelope_id) != (f"lead_{lead_id}", run, number)
    ]


def _list_stray(
    ledger: dict[date, dict[int, Row]],
    queued: dict[date, dict[int, tuple[str | None, int | None, int | None]]],
) -> list[str]:
    return [
        f"envelope {envelope_id} of {day}"
        for day, envelopes in queued.items()
        for envelope_id in envelopes
        if ledger.get(day, {}).get(envelope_id, (0, 0, 0, ""))[3] not in OPEN_STATES
    ]


def _list_unsettled(
    conn: psycopg.Connection, environment: str, ledger: dict[date, dict[int, Row]]
) -> list[str]:
    """Archived envelopes that the ledger still waits for; settled ones that are not archived.

    A day whose queue was pruned proves nothing any more.
    """
    faults = []
    for name in queue.list_names(conn):
        day = queue.day_of(name)
        if day is None or name != queue.name_of(environment, day):
            continue
        archived = [row[0] for row in queue.list_envelopes(conn, name, is_archive=True)]
        rows = ledger.get(day, {})
        faults += [
            f"archived envelope {envelope_id} of {day} is {rows[envelope_id][3]}"
            for envelope_id in archived
            if envelope_id in rows and rows[envelope_id][3] in OPEN_STATES
        ]
        kept = set(archived)
        faults += [
            f"lead_{lead_id} #{number} of {day} is {state} and not archived"
            for envelope_id, (lead_id, _, number, state) in rows.items()
            if state in ("sent", "unknown", "failed") and envelope_id not in kept
        ]
    return faults
