"""Planner operations that change where leads stand: pause, resume, stop, undo an import.

A message that is being sent is never touched.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date

import psycopg

from hyperdrip import leads, quota, selections, suppressions
from hyperdrip.clock import Clock
from hyperdrip.errors import ConflictError
from hyperdrip.models import Changed, LeadStatus, MessageState, Selection, UndoneImport
from hyperdrip.replanner import Moved, find_schedules, give_back, give_days, with_displaced
from hyperdrip.scheduler import Moment, in_planner_transaction

# What is stopped with this reason, or with it and more behind a colon, may be enrolled again.
BY_HAND = "by hand"
UNSUBSCRIBED = "unsubscribed"


def pause_leads(
    conn: psycopg.Connection,
    clock: Clock,
    lead_ids: Collection[int],
    *,
    reason: str | None,
    is_dry_run: bool = False,
) -> Changed:
    """Pause leads that are ACTIVE: their days are freed."""

    def work(moment: Moment) -> Changed:
        locked = leads.lock_leads(conn, lead_ids)
        paused = leads.set_status(
            conn, lead_ids, LeadStatus.PAUSED, from_statuses=[LeadStatus.ACTIVE], reason=reason
        )
        freed = give_back(conn, moment.instance.environment, paused, MessageState.PLANNED)
        return Changed(tuple(paused), messages=freed, left_out=_left_out(locked, paused))

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def resume_leads(
    conn: psycopg.Connection,
    clock: Clock,
    lead_ids: Collection[int],
    *,
    with_email: bool,
    is_dry_run: bool = False,
) -> Changed:
    """Resume leads that are PAUSED: what is left of their runs is planned from today on."""

    def work(moment: Moment) -> Changed:
        paused = selections.select_ids(
            conn, Selection(lead_ids=tuple(lead_ids), status=LeadStatus.PAUSED)
        )
        # One lock for all, by id: a worker may be about to finish messages of several of them.
        everybody = with_displaced(conn, moment, paused) if paused else []
        locked = leads.lock_leads(conn, {*lead_ids, *everybody})
        resumed = leads.set_status(
            conn, paused, LeadStatus.ACTIVE, from_statuses=[LeadStatus.PAUSED], reason=None
        )
        moved = Moved()
        if resumed:
            moved = give_days(
                conn,
                moment,
                everybody,
                lambda remaining: find_schedules(conn, moment, remaining),
                with_email=with_email,
            )
        leads.complete(conn, resumed)
        planned = Counter(day for found in resumed for day in moved.schedules.get(found, ()))
        return Changed(
            tuple(resumed),
            messages=planned.total(),
            planned=dict(planned),
            displaced=moved.total - planned.total(),
            left_out=_left_out({i: locked[i] for i in lead_ids if i in locked}, resumed),
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def stop_leads(
    conn: psycopg.Connection,
    clock: Clock,
    lead_ids: Collection[int],
    *,
    reason: str,
    is_dry_run: bool = False,
) -> Changed:
    """Stop leads for good: what is planned is cancelled and its days are freed.

    Who is stopped because they have unsubscribed is suppressed, too, also if nothing was planned.
    """

    def work(moment: Moment) -> Changed:
        locked = leads.lock_leads(conn, lead_ids)
        if reason == UNSUBSCRIBED:
            emails = [locked[i][0] for i in locked.keys() - set(leads.list_erased(conn, locked))]
            suppressions.insert(conn, emails, reason=reason, now=moment.now)
        stopped, cancelled = _stop(conn, moment, lead_ids, reason=reason)
        return Changed(tuple(stopped), messages=cancelled, left_out=_left_out(locked, stopped))

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def undo_import(conn: psycopg.Connection, clock: Clock, import_id: int) -> UndoneImport:
    """Take back what has not been sent of an import.

    Leads that had no message are removed; leads under way are stopped. Raises: NotFoundError;
    ConflictError when it was undone already.
    """

    def work(moment: Moment) -> UndoneImport:
        if leads.is_import_undone(conn, import_id):
            raise ConflictError(f"import {import_id} was undone already")
        lead_ids = leads.list_ids_of_import(conn, import_id)
        leads.lock_leads(conn, lead_ids)
        changes: dict[date, quota.Change] = {}
        reason = f"import {import_id} was undone"
        stopped, _ = _stop(conn, moment, lead_ids, reason=reason, changes=changes)
        removed = leads.delete_untouched(conn, stopped)
        leads.set_import_undone(conn, import_id, moment.now)
        quota.apply(conn, changes)
        return UndoneImport(import_id, removed=removed, stopped=len(stopped) - removed)

    return in_planner_transaction(conn, clock, work)


def _stop(
    conn: psycopg.Connection,
    moment: Moment,
    lead_ids: Collection[int],
    *,
    reason: str,
    changes: dict[date, quota.Change] | None = None,
) -> tuple[list[int], int]:
    """Stop locked leads; returns those that were stopped, and how many messages were cancelled."""
    stopped = leads.set_status(
        conn,
        lead_ids,
        LeadStatus.STOPPED,
        from_statuses=[LeadStatus.ACTIVE, LeadStatus.PAUSED],
        reason=reason,
    )
    environment = moment.instance.environment
    cancelled = give_back(conn, environment, stopped, MessageState.CANCELLED, changes)
    return stopped, cancelled


def _left_out(
    locked: Mapping[int, tuple[str, LeadStatus, int]], changed: Collection[int]
) -> dict[int, str]:
    """Why leads were left as they are: their status."""
    done = set(changed)
    return {
        lead_id: f"is {status}" for lead_id, (_, status, _) in locked.items() if lead_id not in done
    }
