"""Why a lead gets a message today or not: the one rule that decided, with the numbers it read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from hyperdrip import leads, queue
from hyperdrip.clock import Clock, day_of
from hyperdrip.db import query, snapshot
from hyperdrip.fence import Fence, read_fence
from hyperdrip.models import LeadStatus, MessageState
from hyperdrip.scheduler import Moment, read_moment


@dataclass(frozen=True)
class Explanation:
    """`rule` is one word for programs, `text` one sentence for people, `numbers` what was read."""

    lead: str
    rule: str
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Facts:
    """One row of explain_lead.sql."""

    lead_id: int
    email: str
    status: str
    status_reason: str | None
    message_count: int
    max_messages: int
    is_campaign_paused: bool
    campaign: str
    suppressed_because: str | None
    number: int | None
    day: date | None
    state: str | None
    envelope_id: int | None
    attempts: int | None
    not_before: datetime | None
    is_in_backoff: bool | None
    claimed_at: datetime | None
    due_behind: int | None
    worker_host: str | None
    worker_pid: int | None
    number_before: int | None
    state_before: str | None
    day_before: date | None
    capacity: int
    sent: int
    waiting: int
    live_workers: int


def explain(conn: psycopg.Connection, clock: Clock, key: str) -> Explanation:
    """The one rule that decided today for a lead. Raises: NotFoundError."""
    with snapshot(conn):
        lead = leads.require_lead(conn, key)
        moment = read_moment(conn, clock)
        with conn.cursor(row_factory=class_row(_Facts)) as cursor:
            facts = cursor.execute(
                query("explain_lead"), {"lead_id": lead.id, "today": moment.today}
            ).fetchone()
        assert facts is not None
        real_today = day_of(moment.now, moment.instance.time_zone)
        rule, text, numbers = (
            _ended(facts)
            or _held(facts, moment, real_today, read_fence(conn))
            or _in_flight(facts)
            or _later(facts, moment.today)
            or _due(conn, facts, moment)
        )
    return Explanation(lead.key, rule, text, numbers)


Finding = tuple[str, str, dict[str, Any]]


def _ended(facts: _Facts) -> Finding | None:
    because = f": {facts.status_reason}" if facts.status_reason else ""
    count = {"messageCount": facts.message_count, "maxMessages": facts.max_messages}
    match LeadStatus(facts.status):
        case LeadStatus.COMPLETED:
            return (
                "completed",
                f"it has had all its messages ({facts.message_count}/{facts.max_messages})",
                count,
            )
        case LeadStatus.FAILED:
            return "failed", f"a message could not be delivered{because}", count
        case LeadStatus.STOPPED:
            return "stopped", f"it was stopped{because}", count
        case LeadStatus.PAUSED:
            return (
                "paused",
                f"it is paused{because}; to go on: hyperdrip leads resume lead_{facts.lead_id}",
                count,
            )
        case LeadStatus.ACTIVE:
            return None


def _held(facts: _Facts, moment: Moment, real_today: date, fence: Fence) -> Finding | None:
    """What holds up this lead together with others."""
    if facts.suppressed_because is not None:
        return "suppressed", f"its address is suppressed: {facts.suppressed_because}", {}
    if fence.is_closed:
        return "fenced", f"this database is a copy and sends nothing: {fence.difference}", {}
    if moment.instance.is_paused:
        return "instance-paused", "everything is paused; to go on: hyperdrip resume", {}
    if facts.is_campaign_paused:
        return "campaign-paused", f"the campaign {facts.campaign} is paused", {}
    if real_today < moment.today:
        return (
            "clock-back",
            f"the clock says {real_today}, and {moment.today} was open already: nothing is sent"
            " until then",
            {"clock": real_today, "newestDay": moment.today},
        )
    return None


def _in_flight(facts: _Facts) -> Finding | None:
    if facts.state != MessageState.SENDING:
        return None
    text = (
        f"is being sent by pid {facts.worker_pid} on {facts.worker_host} since"
        f" {_instant(facts.claimed_at)}"
    )
    numbers = {"number": facts.number, "claimedAt": facts.claimed_at, "pid": facts.worker_pid}
    if facts.due_behind is not None:
        return (
            "waiting-for-message",
            f"message {facts.due_behind} waits for message {facts.number}, which {text}",
            {**numbers, "waiting": facts.due_behind},
        )
    return "sending", f"message {facts.number} {text}", numbers


def _later(facts: _Facts, today: date) -> Finding | None:
    if facts.day is None:
        return "nothing-planned", "nothing is planned for it", {}
    if facts.day <= today:
        return None
    numbers = {"number": facts.number, "scheduledDate": facts.day}
    if facts.day_before == today:
        return (
            "sent-today",
            f"message {facts.number_before} was handed over today ({facts.state_before}); message"
            f" {facts.number} is due on {facts.day}",
            numbers,
        )
    return "not-due", f"message {facts.number} is not due until {facts.day}", numbers


def _due(conn: psycopg.Connection, facts: _Facts, moment: Moment) -> Finding:
    """Message `number` is due today, or was before: what keeps it?"""
    numbers: dict[str, Any] = {
        "number": facts.number,
        "scheduledDate": facts.day,
        "capacity": facts.capacity,
        "sent": facts.sent,
        "waiting": facts.waiting,
        "liveWorkers": facts.live_workers,
    }
    what = f"message {facts.number}"
    if facts.is_in_backoff:
        why = f"could not be delivered (attempt {facts.attempts}) and is tried again at"
        if not facts.attempts:  # its domain's pace, or a refusal that was not its own
            why = "was put off, such as by its domain's pace (DOMAIN_LIMITS), until"
        return (
            "backoff",
            f"{what} {why} {_instant(facts.not_before)}",
            {**numbers, "attempts": facts.attempts, "notBefore": facts.not_before},
        )
    if not facts.live_workers:
        return "no-worker", f"{what} is due and no worker is alive: hyperdrip worker", numbers
    if facts.day is not None and facts.day < moment.today:
        return (
            "overdue",
            f"{what} was due on {facts.day} and gets another day when a worker rolls over",
            numbers,
        )
    if facts.sent >= facts.capacity:
        return (
            "quota-used-up",
            f"{what} is due, and today's quota is used up ({facts.sent} of {facts.capacity})",
            numbers,
        )
    assert facts.day is not None
    assert facts.envelope_id is not None
    name = queue.name_of(moment.instance.environment, facts.day)
    ahead = queue.count_before(conn, name, facts.envelope_id)
    return (
        "queued",
        f"{what} waits in {name} behind {ahead} others",
        {**numbers, "ahead": ahead},
    )


def _instant(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if moment is not None else "?"
