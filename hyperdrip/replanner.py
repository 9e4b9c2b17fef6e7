"""Giving planned messages other days, or none: ledger, envelopes and quota in step.

Everything here runs inside a planner transaction, but for `give_back` after a failed send.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import psycopg

from hyperdrip import leads, ledger, quota
from hyperdrip.ledger import Planned
from hyperdrip.models import MessageKey, MessageState
from hyperdrip.planning import Remaining, Schedule, ideal_days, replan
from hyperdrip.queue import Address
from hyperdrip.scheduler import Moment, archive_by_day, enqueue, require_queues


@dataclass(frozen=True)
class Moved:
    """How many messages got another day; `late`: those whose day had passed.

    `schedules`: the days that the leads have now which were looked at, by lead id.
    """

    total: int = 0
    late: int = 0
    schedules: Mapping[int, Schedule] = field(default_factory=dict)


def replan_leads(
    conn: psycopg.Connection, moment: Moment, lead_ids: Collection[int], *, with_email: bool
) -> Moved:
    """Give the planned messages of leads days from today on.

    Others keep their days if that delays nobody further than the days that were lost; otherwise
    everybody who has a day from today on is planned again, leads under way first. Messages that
    keep their day are not touched.
    """
    if not lead_ids:
        return Moved()
    return give_days(
        conn,
        moment,
        with_displaced(conn, moment, lead_ids),
        lambda remaining: find_schedules(conn, moment, remaining),
        with_email=with_email,
    )


def with_displaced(
    conn: psycopg.Connection, moment: Moment, lead_ids: Collection[int]
) -> list[int]:
    """Leads that are to be replanned, with everybody who has to make room for them; by id.

    Asked before the leads are locked: all of them are locked at once, by id.
    """
    if _fits(conn, moment, lead_ids):
        return sorted(set(lead_ids))
    return sorted({*lead_ids, *ledger.list_leads_with_planned_days(conn, moment.today)})


def give_days(
    conn: psycopg.Connection,
    moment: Moment,
    lead_ids: Sequence[int],
    find: Callable[[Mapping[int, tuple[int, Remaining]]], Mapping[int, Schedule]],
    *,
    with_email: bool,
    changes: dict[date, quota.Change] | None = None,
) -> Moved:
    """Lock leads and their planned messages, `find` their days, and move what gets another one.

    `find` is given what is left of each lead: lead id -> (run, remaining). Leads that it leaves out
    keep their days. With `changes`, the quota is left to the caller, who applies them last before
    COMMIT.
    """
    locked = leads.lock_leads(conn, lead_ids)
    planned = ledger.lock_planned(conn, lead_ids)
    remaining = ledger.list_remaining(conn, lead_ids)
    schedules = find(remaining)
    target: dict[MessageKey, date] = {
        (lead_id, run, number): day
        for lead_id, (run, lead) in remaining.items()
        if lead_id in schedules
        for number, day in zip(lead.numbers, schedules[lead_id], strict=True)
    }
    moving = [
        message
        for message in planned
        if target.get((message.lead_id, message.run, message.number), message.day) != message.day
    ]
    if moving:
        emails = {lead_id: email for lead_id, (email, _, _) in locked.items()}
        move_messages(conn, moment, moving, target, emails, with_email=with_email, changes=changes)
    late = sum(message.day is not None and message.day < moment.today for message in moving)
    return Moved(total=len(moving), late=late, schedules=schedules)


def give_back(
    conn: psycopg.Connection,
    environment: str,
    lead_ids: Collection[int],
    state: MessageState,
    changes: dict[date, quota.Change] | None = None,
) -> int:
    """Take leads' planned messages out of ledger, queues and quota; returns how many.

    The leads are locked already. With `changes`, the quota is left to the caller, who applies them
    last before COMMIT.
    """
    if not lead_ids:
        return 0
    taken = ledger.take_back(conn, lead_ids, state)
    totals = {} if changes is None else changes
    envelopes: dict[date, list[int]] = defaultdict(list)
    for _, day, envelope_id in taken:
        if day is not None and envelope_id is not None:
            envelopes[day].append(envelope_id)
            totals.setdefault(day, quota.Change()).reserved -= 1
    archive_by_day(conn, environment, envelopes)
    if changes is None:
        quota.apply(conn, totals)
    return len(taken)


def _fits(conn: psycopg.Connection, moment: Moment, lead_ids: Collection[int]) -> bool:
    """Can these leads be placed beside all others with no message later than it must be?"""
    remaining = ledger.list_remaining(conn, lead_ids)
    schedules = find_schedules(conn, moment, remaining)
    return all(
        schedules[lead_id] == ideal_days(lead, from_day=moment.today)
        for lead_id, (_, lead) in remaining.items()
        if lead.is_under_way or lead.due[0] is not None
    )


def find_schedules(
    conn: psycopg.Connection, moment: Moment, remaining: Mapping[int, tuple[int, Remaining]]
) -> dict[int, Schedule]:
    """Replan what is left of leads, as if only they had no days yet; lead id -> days."""
    freed: dict[date, int] = defaultdict(int)
    for _, lead in remaining.values():
        for day in lead.due:
            if day is not None:
                freed[day] += 1
    calendar = quota.read_calendar(
        conn, today=moment.today, daily_max=moment.instance.daily_max, freed=freed
    )
    return replan(
        [lead for _, lead in remaining.values()], calendar=calendar, from_day=moment.today
    )


def move_messages(
    conn: psycopg.Connection,
    moment: Moment,
    moving: Sequence[Planned],
    target: Mapping[MessageKey, date],
    emails: Mapping[int, str],
    *,
    with_email: bool,
    changes: dict[date, quota.Change] | None = None,
) -> None:
    """Give locked messages their `target` days: new envelopes, old ones archived, quota last."""
    environment = moment.instance.environment
    require_queues(conn, moment, {target[m.lead_id, m.run, m.number] for m in moving})
    old_envelopes: dict[date, list[int]] = defaultdict(list)
    new_by_backoff: dict[datetime | None, dict[date, list[Address]]] = defaultdict(
        lambda: defaultdict(list)
    )
    totals = {} if changes is None else changes
    for message in moving:
        day = target[message.lead_id, message.run, message.number]
        address = Address(message.lead_id, message.run, message.number, emails[message.lead_id])
        new_by_backoff[message.not_before][day].append(address)
        totals.setdefault(day, quota.Change()).reserved += 1
        if message.day is not None and message.envelope_id is not None:
            old_envelopes[message.day].append(message.envelope_id)
            totals.setdefault(message.day, quota.Change()).reserved -= 1
    moves: list[tuple[MessageKey, date, int]] = []
    archive_by_day(conn, environment, old_envelopes)
    for not_before, by_day in new_by_backoff.items():
        placed = enqueue(conn, moment, by_day, with_email=with_email, visible_at=not_before)
        moves += [
            ((address.lead_id, address.run, address.number), day, envelope_id)
            for address, (day, envelope_id) in placed.items()
        ]
    if ledger.move_messages(conn, moves) != len(moves):
        raise RuntimeError("messages changed while they were locked; nothing was moved")
    if changes is None:
        quota.apply(conn, totals)
