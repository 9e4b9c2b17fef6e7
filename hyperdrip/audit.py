"""Proving the invariants from the tables: ledger against queues, quota and leads.

Each check is one statement, and so sees one moment; workers may go on meanwhile. No transaction
holds them together: one that reads thousands of queues would exhaust the server's lock table.
"""

from collections import defaultdict

import psycopg

from hyperdrip import queue
from hyperdrip.db import query
from hyperdrip.instance import require_instance
from hyperdrip.models import AuditCheck

SHOWN = 3


class _Check:
    """Collects what contradicts one invariant: the first faults, and how many there are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: list[str] = []
        self._total = 0

    def add(self, fault: str, *, total: int = 1) -> None:
        """`total`: how many faults stand behind this one, itself included."""
        self._total += total
        if len(self._shown) < SHOWN:
            self._shown.append(fault)

    def result(self) -> AuditCheck:
        if not self._total:
            return AuditCheck(self._name, True, "")
        hidden = self._total - len(self._shown)
        more = f" and {hidden} more" if hidden else ""
        return AuditCheck(self._name, False, "; ".join(self._shown) + more)


def run_audit(conn: psycopg.Connection) -> list[AuditCheck]:
    """Check every invariant; the checks in a fixed order, each with what contradicts it."""
    closed = _Check("a closed day holds nothing open")
    days = _check_days(conn, closed)
    queues = _check_queues(conn, closed)
    return [
        *(check.result() for check in (*days, closed, *queues)),
        _check_leads(conn).result(),
        _check_order(conn).result(),
    ]


def _check_days(conn: psycopg.Connection, closed: _Check) -> list[_Check]:
    """Counters, limits and closed days, all from one statement: it reads the whole ledger."""
    counters = _Check("quota counters equal the ledger")
    limits = _Check("no day exceeds its quota")
    rows = conn.execute(query("audit_quota"))
    for day, reserved, planned, sent, gone, highest, sending, is_closed in rows:
        if (reserved, sent) != (planned, gone):
            counters.add(
                f"{day}: {reserved} reserved and {planned} planned, {sent} sent and {gone} gone"
            )
        if sent > highest:
            limits.add(f"{day}: {sent} sent, the limit was {highest}")
        if is_closed and (reserved or planned or sending):
            closed.add(f"{day}: {reserved} reserved, {planned} planned and {sending} being sent")
    return [counters, limits]


def _check_queues(conn: psycopg.Connection, closed: _Check) -> list[_Check]:
    """Each queue and its archive against the ledger; a pruned queue proves nothing any more.

    Whether a day is closed is read together with its queue: it may be closed at any moment.
    """
    checks = {
        "missing": _Check("every planned message has its envelope"),
        "stray": _Check("every envelope points at an open message"),
        "unsettled": _Check("archived envelopes are settled"),
    }
    environment = require_instance(conn).environment
    days = conn.execute(query("list_days_with_open_messages")).fetchall()
    names = set(queue.list_names(conn))  # after the days: a queue is made before its messages
    for day, messages in days:
        if queue.name_of(environment, day) not in names:
            checks["missing"].add(f"{day} has no queue for {messages} messages", total=messages)
    for name in sorted(names):
        day = queue.day_of(name)
        if day is None or name != queue.name_of(environment, day):
            continue
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for kind, words, total in queue.list_faults(conn, name, limit=SHOWN):
            found[kind].append((words, total))
        for kind, faults in found.items():
            check = closed if kind == "closed" else checks[kind]
            for words, _ in faults[:-1]:
                check.add(words)
            last, total = faults[-1]
            check.add(last, total=total - len(faults) + 1)
    return list(checks.values())


def _check_leads(conn: psycopg.Connection) -> _Check:
    check = _Check("leads agree with the ledger")
    for lead_id, fault in conn.execute(query("audit_leads")):
        check.add(f"lead_{lead_id}: {fault}")
    return check


def _check_order(conn: psycopg.Connection) -> _Check:
    check = _Check("messages of a lead come in order")
    for lead_id, _, number, day in conn.execute(query("audit_order")):
        check.add(f"lead_{lead_id} #{number} on {day}")
    return check
