"""Reconciling: what is unknown is marked as sent, sent again, or cancelled where nothing more goes.

Nobody but the other side can know what became of an unknown message, so a person decides.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import psycopg

from hyperdrip import leads, ledger, quota
from hyperdrip.clock import Clock
from hyperdrip.models import LeadStatus, MessageKey, MessageState
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
        keys = [found.key for found in _lock(conn, which, with_console=False)]
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
        found = _lock(conn, which, with_console=which.sender == CONSOLE)
        keys = [each.key for each in found if each.hindrance is None]
        left_out = {each.key: each.hindrance for each in found if each.hindrance is not None}
        if not keys:
            return Reconciled(left_out=left_out)
        changes = _take_back(conn, keys, MessageState.PLANNED)
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


def cancel(
    conn: psycopg.Connection, clock: Clock, which: Which, *, is_dry_run: bool = False
) -> Reconciled:
    """Cancel messages that were not sent and never will be: their leads get nothing more.

    Those of leads that go on are left out: they can be sent again. The first hand-over may have
    left, so its unit of quota stays used.
    """

    def work(_moment: Moment) -> Reconciled:
        found = _lock(conn, which, with_console=which.sender == CONSOLE)
        keys = [each.key for each in found if each.is_over]
        left_out = {
            each.key: each.hindrance or "its lead goes on: --resend"
            for each in found
            if not each.is_over
        }
        if keys:
            quota.apply(conn, _take_back(conn, keys, MessageState.CANCELLED))
        return Reconciled(len(keys), len({lead_id for lead_id, _, _ in keys}), {}, left_out)

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


@dataclass(frozen=True)
class _Found:
    """A message that can be settled, why it cannot be sent again, and if its lead's run is over."""

    key: MessageKey
    hindrance: str | None
    is_over: bool


def _take_back(
    conn: psycopg.Connection, keys: Sequence[MessageKey], state: MessageState
) -> dict[date, quota.Change]:
    changes: dict[date, quota.Change] = defaultdict(quota.Change)
    for day, count in ledger.take_back_settled(conn, keys, state):
        changes[day].resent += count
    return changes


def _lock(conn: psycopg.Connection, which: Which, *, with_console: bool) -> list[_Found]:
    """Lock the leads of the messages that are meant, and list these as they are then."""
    found = _list(conn, which, with_console=with_console)
    leads.lock_leads(conn, {each.key[0] for each in found})
    # A worker may have found out meanwhile what became of one of them.
    still = replace(which, keys=tuple(each.key for each in found))
    return _list(conn, still, with_console=with_console)


def _list(conn: psycopg.Connection, which: Which, *, with_console: bool) -> list[_Found]:
    rows = ledger.list_reconcilable(
        conn,
        with_console=with_console,
        lead_id=which.lead_id,
        number=which.number,
        sender=which.sender,
        before=which.before,
        keys=which.keys,
    )
    return [_Found(*row) for row in rows]
