"""Reconciling: what is unknown is marked as sent, or sent again, by somebody who found out.

Nobody but the other side can know what became of an unknown message, so a person decides.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import psycopg

from hyperdrip import leads, ledger, quota
from hyperdrip.clock import Clock
from hyperdrip.models import LeadStatus, MessageKey
from hyperdrip.replanner import find_schedules, give_days
from hyperdrip.scheduler import Moment, in_planner_transaction

CONSOLE = "console"


@dataclass(frozen=True)
class Which:
    """Which unknown messages: those that meet all that is given; `before`: were claimed then."""

    lead_id: int | None = None
    number: int | None = None
    before: datetime | None = None
    sender: str | None = None
    keys: tuple[MessageKey, ...] | None = None


@dataclass(frozen=True)
class Reconciled:
    """What was settled. `planned`: messages by their new day; `left_out`: with the reason."""

    messages: int = 0
    leads: int = 0
    planned: Mapping[date, int] = field(default_factory=dict)
    left_out: Mapping[MessageKey, str] = field(default_factory=dict)


def mark_sent(
    conn: psycopg.Connection, clock: Clock, which: Which, *, is_dry_run: bool = False
) -> Reconciled:
    """Mark unknown messages as sent when they were claimed; their leads count them already."""

    def work(_moment: Moment) -> Reconciled:
        keys, _ = _lock(conn, which, with_console=False)
        marked = ledger.mark_sent(conn, keys) if keys else 0
        return Reconciled(marked, leads=len({lead_id for lead_id, _, _ in keys}))

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def send_again(
    conn: psycopg.Connection,
    clock: Clock,
    which: Which,
    *,
    with_email: bool,
    is_dry_run: bool = False,
) -> Reconciled:
    """Plan messages again from today on, with what is left of their leads' drips behind them.

    Each costs another unit of quota: its first hand-over may have left. Nobody else is moved. Of
    the console sender, which delivers nothing, also what was marked as sent. Those of leads that
    have ended otherwise, or must not be written to, are left out.
    """

    def work(moment: Moment) -> Reconciled:
        keys, left_out = _lock(conn, which, with_console=which.sender == CONSOLE)
        keys = [key for key in keys if key not in left_out]
        if not keys:
            return Reconciled(left_out=left_out)
        changes: dict[date, quota.Change] = defaultdict(quota.Change)
        for day, count in ledger.send_again(conn, keys):
            changes[day].resent += count
        lead_ids = sorted({lead_id for lead_id, _, _ in keys})
        statuses = leads.lock_leads(conn, lead_ids)
        active = [lead for lead in lead_ids if statuses[lead][1] is LeadStatus.ACTIVE]
        moved = give_days(
            conn,
            moment,
            active,
            lambda remaining: find_schedules(conn, moment, remaining),
            with_email=with_email,
            changes=changes,
        )
        quota.apply(conn, changes)
        planned = Counter(day for days in moved.schedules.values() for day in days)
        return Reconciled(len(keys), len(lead_ids), dict(planned), left_out)

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def _lock(
    conn: psycopg.Connection, which: Which, *, with_console: bool
) -> tuple[list[MessageKey], dict[MessageKey, str]]:
    """Lock the leads of the messages that are meant, and list them as they are then.

    Returns their keys, and why some cannot be sent again.
    """
    found = _list(conn, which, with_console=with_console)
    leads.lock_leads(conn, {key[0] for key, _ in found})
    # A worker may have found out meanwhile what became of one of them.
    still = replace(which, keys=tuple(key for key, _ in found))
    found = _list(conn, still, with_console=with_console)
    return [key for key, _ in found], {key: why for key, why in found if why is not None}


def _list(
    conn: psycopg.Connection, which: Which, *, with_console: bool
) -> Sequence[tuple[MessageKey, str | None]]:
    return ledger.list_reconcilable(
        conn,
        with_console=with_console,
        lead_id=which.lead_id,
        number=which.number,
        sender=which.sender,
        before=which.before,
        keys=which.keys,
    )
