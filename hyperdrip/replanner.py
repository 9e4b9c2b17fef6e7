"""Planner operations that move or give back days: replanning, pause, resume, stop, limits."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from hyperdrip import instance as instances
from hyperdrip import leads, ledger, quota
from hyperdrip.clock import Clock
from hyperdrip.errors import InvalidDataError
from hyperdrip.ledger import Planned
from hyperdrip.models import LeadStatus, MessageKey, MessageState
from hyperdrip.planning import Remaining, Schedule, ideal_days, replan
from hyperdrip.queue import Address
from hyperdrip.scheduler import (
    Moment,
    archive_by_day,
    enqueue,
    in_planner_transaction,
    require_queues,
)


@dataclass(frozen=True)
class Moved:
    """How many messages got another day; `late`: those whose day had passed."""

    total: int = 0
    late: int = 0


def replan_leads(
    conn: psycopg.Connection,
    moment: Moment,
    lead_ids: Collection[int],
    *,
    with_email: bool,
    is_everybody: bool = False,
) -> Moved:
    """Give the planned messages of leads days from today on.

    Others keep their days if that delays nobody further than the days that were lost; otherwise
    everybody who has a day from today on is planned again, leads under way first. Messages that
    keep their day are not touched. Runs inside a planner transaction.
    """
    if not lead_ids:
        return Moved()
    chosen = sorted(set(lead_ids))
    if not is_everybody and not _fits(conn, moment, chosen):
        others = ledger.list_leads_with_planned_days(conn, moment.today)
        chosen = sorted({*chosen, *others})
    locked = leads.lock_leads(conn, chosen)
    planned = ledger.lock_planned(conn, chosen)
    remaining = ledger.list_remaining(conn, chosen)
    schedules = _schedules(conn, moment, remaining)
    target: dict[MessageKey, date] = {
        (lead_id, run, number): day
        for lead_id, (run, lead) in remaining.items()
        for number, day in zip(lead.numbers, schedules[lead_id], strict=True)
    }
    moving = [
        message
        for message in planned
        if target[message.lead_id, message.run, message.number] != message.day
    ]
    if moving:
        emails = {lead_id: email for lead_id, (email, _, _) in locked.items()}
        _move(conn, moment, moving, target, emails, with_email=with_email)
    late = sum(message.day is not None and message.day < moment.today for message in moving)
    return Moved(total=len(moving), late=late)


def pause_leads(
    conn: psycopg.Connection, clock: Clock, lead_ids: Collection[int], *, reason: str | None
) -> list[int]:
    """Pause leads that are ACTIVE: their days are freed; returns the ids that were paused.

    A message that is being sent is not touched.
    """

    def work(moment: Moment) -> list[int]:
        leads.lock_leads(conn, lead_ids)
        paused = leads.set_status(
            conn, lead_ids, LeadStatus.PAUSED, from_statuses=[LeadStatus.ACTIVE], reason=reason
        )
        give_back(conn, moment.instance.environment, paused, MessageState.PLANNED)
        return paused

    return in_planner_transaction(conn, clock, work)


def resume_leads(
    conn: psycopg.Connection, clock: Clock, lead_ids: Collection[int], *, with_email: bool
) -> list[int]:
    """Resume leads that are PAUSED: what is left of their runs is planned from today on."""

    def work(moment: Moment) -> list[int]:
        leads.lock_leads(conn, lead_ids)
        resumed = leads.set_status(
            conn, lead_ids, LeadStatus.ACTIVE, from_statuses=[LeadStatus.PAUSED], reason=None
        )
        replan_leads(conn, moment, resumed, with_email=with_email)
        leads.complete(conn, resumed)
        return resumed

    return in_planner_transaction(conn, clock, work)


def stop_leads(
    conn: psycopg.Connection, clock: Clock, lead_ids: Collection[int], *, reason: str
) -> list[int]:
    """Stop leads for good: what is planned is cancelled and its days are freed.

    Returns the ids that were stopped. A message that is being sent is not touched.
    """

    def work(moment: Moment) -> list[int]:
        leads.lock_leads(conn, lead_ids)
        stopped = leads.set_status(
            conn,
            lead_ids,
            LeadStatus.STOPPED,
            from_statuses=[LeadStatus.ACTIVE, LeadStatus.PAUSED],
            reason=reason,
        )
        give_back(conn, moment.instance.environment, stopped, MessageState.CANCELLED)
        return stopped

    return in_planner_transaction(conn, clock, work)


def set_daily_max(
    conn: psycopg.Connection, clock: Clock, daily_max: int, *, with_email: bool
) -> int:
    """Store another daily maximum; returns how many messages a lowered one moved."""
    if daily_max < 1:
        raise InvalidDataError(f"daily maximum {daily_max} is below 1; to stop: hyperdrip pause")

    def work(moment: Moment) -> int:
        instances.set_daily_max(conn, daily_max)
        return _relieve(conn, moment, with_email=with_email)

    return in_planner_transaction(conn, clock, work)


def set_capacity(
    conn: psycopg.Connection,
    clock: Clock,
    days: Sequence[date],
    capacity: int | None,
    *,
    with_email: bool,
) -> int:
    """Give days a capacity of their own (None: the daily maximum); returns how many moved."""
    if capacity is not None and capacity < 0:
        raise InvalidDataError(f"capacity {capacity} is below 0")

    def store(moment: Moment) -> None:
        for day in days:
            if day < moment.today:
                raise InvalidDataError(f"day {day} is in the past; today is {moment.today}")
        for day in sorted(days):
            quota.set_capacity(conn, day, capacity)

    # Two transactions: quota rows are locked last, so they cannot be held while messages move.
    in_planner_transaction(conn, clock, store)
    return in_planner_transaction(
        conn, clock, lambda moment: _relieve(conn, moment, with_email=with_email)
    )


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
    leads.refresh_next_days(conn, lead_ids)
    archive_by_day(conn, environment, envelopes)
    if changes is None:
        quota.apply(conn, totals)
    return len(taken)


def _relieve(conn: psycopg.Connection, moment: Moment, *, with_email: bool) -> int:
    """Replan everybody if a day from today on has more planned than it may have."""
    now = instances.require_instance(conn)
    days = quota.list_days(conn, first_day=moment.today, last_day=None, instance=now)
    if all(day.scheduled + day.sent <= day.capacity or not day.scheduled for day in days):
        return 0
    everybody = ledger.list_leads_with_planned_days(conn, moment.today)
    moment = Moment(now, moment.now, moment.today)
    moved = replan_leads(conn, moment, everybody, with_email=with_email, is_everybody=True)
    return moved.total


def _fits(conn: psycopg.Connection, moment: Moment, lead_ids: Collection[int]) -> bool:
    """Can these leads be placed beside all others with no message later than it must be?"""
    remaining = ledger.list_remaining(conn, lead_ids)
    schedules = _schedules(conn, moment, remaining)
    return all(
        schedules[lead_id] == ideal_days(lead, from_day=moment.today)
        for lead_id, (_, lead) in remaining.items()
        if lead.is_under_way or lead.due[0] is not None
    )


def _schedules(
    conn: psycopg.Connection, moment: Moment, remaining: Mapping[int, tuple[int, Remaining]]
) -> dict[int, Schedule]:
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


def _move(
    conn: psycopg.Connection,
    moment: Moment,
    moving: Sequence[Planned],
    target: Mapping[MessageKey, date],
    emails: Mapping[int, str],
    *,
    with_email: bool,
) -> None:
    environment = moment.instance.environment
    require_queues(conn, environment, {target[m.lead_id, m.run, m.number] for m in moving})
    old_envelopes: dict[date, list[int]] = defaultdict(list)
    new_by_backoff: dict[datetime | None, dict[date, list[Address]]] = defaultdict(
        lambda: defaultdict(list)
    )
    changes: dict[date, quota.Change] = defaultdict(quota.Change)
    for message in moving:
        day = target[message.lead_id, message.run, message.number]
        address = Address(message.lead_id, message.run, message.number, emails[message.lead_id])
        new_by_backoff[message.not_before][day].append(address)
        changes[day].reserved += 1
        if message.day is not None and message.envelope_id is not None:
            old_envelopes[message.day].append(message.envelope_id)
            changes[message.day].reserved -= 1
    moves: list[tuple[MessageKey, date, int]] = []
    archive_by_day(conn, environment, old_envelopes)
    for not_before, by_day in new_by_backoff.items():
        placed = enqueue(conn, environment, by_day, with_email=with_email, visible_at=not_before)
        moves += [
            ((address.lead_id, address.run, address.number), day, envelope_id)
            for address, (day, envelope_id) in placed.items()
        ]
    if ledger.move_messages(conn, moves) != len(moves):
        raise RuntimeError("messages changed while they were locked; nothing was moved")
    leads.refresh_next_days(conn, {message.lead_id for message in moving})
    quota.apply(conn, changes)
