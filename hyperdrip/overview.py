"""One screen: what this database is, how today stands, and what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row

from hyperdrip import quota
from hyperdrip.clock import Clock, day_of
from hyperdrip.db import query, snapshot
from hyperdrip.fence import Fence, read_fence
from hyperdrip.models import Instance, QuotaDay
from hyperdrip.scheduler import Moment, read_moment


@dataclass(frozen=True)
class LiveWorker:
    """A worker that was seen within the last minute."""

    host: str
    pid: int
    sender: str
    started_at: datetime
    seen_seconds: int


@dataclass(frozen=True)
class Overview:
    """What `status` shows. `next_day` is the next day after today with something planned."""

    instance: Instance
    today: QuotaDay
    open_days: tuple[date, ...]
    next_day: date | None
    last_day: date | None
    workers: tuple[LiveWorker, ...]
    leads: dict[str, int]
    messages: dict[str, int]
    fence: Fence
    warnings: tuple[str, ...]


def read_overview(conn: psycopg.Connection, clock: Clock, *, message_delay_ms: int) -> Overview:
    """Read it all. `message_delay_ms`: how far apart one worker sends."""
    with snapshot(conn):
        fence = read_fence(conn)
        moment = read_moment(conn, clock)
        (today,) = quota.list_every_day(
            conn, first_day=moment.today, last_day=moment.today, instance=moment.instance
        )
        days = quota.list_days(
            conn, first_day=moment.today, last_day=None, instance=moment.instance
        )
        coming = [day for day in days if day.scheduled and day.day > moment.today]
        open_days = tuple(quota.list_open_days(conn, moment.today))
        with conn.cursor(row_factory=class_row(LiveWorker)) as cursor:
            workers = tuple(cursor.execute(query("list_worker_ages")).fetchall())
        leads: dict[str, int] = dict(conn.execute(query("count_leads")).fetchall())
        messages: dict[str, int] = dict(conn.execute(query("count_messages")).fetchall())
    warnings = [
        *_fenced(fence),
        *_standing_still(moment, today, workers),
        *_will_not_be_met(moment, [today, *coming], workers, message_delay_ms),
        *_left_behind(open_days, messages),
    ]
    return Overview(
        instance=moment.instance,
        today=today,
        open_days=open_days,
        next_day=coming[0].day if coming else None,
        last_day=(coming or [today])[-1].day if coming or today.scheduled else None,
        workers=workers,
        leads=leads,
        messages=messages,
        fence=fence,
        warnings=tuple(warnings),
    )


def _fenced(fence: Fence) -> list[str]:
    if not fence.is_closed:
        return []
    return [
        f"this database is a copy and sends nothing: {fence.difference};"
        " if the original sends no more: hyperdrip db unlock"
    ]


def _standing_still(moment: Moment, today: QuotaDay, workers: tuple[LiveWorker, ...]) -> list[str]:
    warnings = []
    real_today = day_of(moment.now, moment.instance.time_zone)
    if real_today < moment.today:
        warnings.append(
            f"the clock says {real_today}, and {moment.today} was open already: nothing is sent"
        )
    if moment.instance.is_paused:
        warnings.append("everything is paused; to go on: hyperdrip resume")
    if not workers:
        due = f" and {_are(today.scheduled, 'message')} due today" if today.scheduled else ""
        warnings.append(f"no worker is alive{due}; to start one: hyperdrip worker")
    return warnings


def _will_not_be_met(
    moment: Moment, days: Sequence[QuotaDay], workers: tuple[LiveWorker, ...], message_delay_ms: int
) -> list[str]:
    """Will what is due on a day leave on it? The first day that does not make it stands for all."""
    reasons = {
        day.day: reason
        for day in days
        if (reason := _reason_for_delay(moment, day, workers, message_delay_ms))
    }
    if not reasons:
        return []
    first = min(reasons)
    name = "today" if first == moment.today else str(first)
    more = f", nor will {_count(len(reasons) - 1, 'more day')}" if len(reasons) > 1 else ""
    return [f"{name} will not be met{more}: {reasons[first]}"]


def _reason_for_delay(
    moment: Moment, day: QuotaDay, workers: tuple[LiveWorker, ...], message_delay_ms: int
) -> str | None:
    room = max(0, day.capacity - day.sent)
    if day.scheduled > room:
        return f"{_are(day.scheduled, 'message')} due and the quota has room for {room}"
    needed_seconds = message_delay_ms / 1000 * day.scheduled / max(1, len(workers))
    if needed_seconds > _seconds_left(moment, day.day):
        return (
            f"{_count(day.scheduled, 'message')} {message_delay_ms / 1000:g} s apart take longer"
            " than there is time; lower WORKER_MESSAGE_DELAY or start more workers"
        )
    return None


def _seconds_left(moment: Moment, day: date) -> float:
    """How long a day lasts, or what is left of it."""
    zone = ZoneInfo(moment.instance.time_zone)
    begins, ends = (
        datetime.combine(day + timedelta(days=n), datetime.min.time(), zone).astimezone(UTC)
        for n in (0, 1)
    )
    return (ends - max(begins, moment.now)).total_seconds()


def _left_behind(open_days: tuple[date, ...], messages: dict[str, int]) -> list[str]:
    warnings = []
    if open_days:
        warnings.append(
            f"{_count(len(open_days), 'day')} before today still open, first {open_days[0]};"
            " a worker or hyperdrip rollover sees to them"
        )
    if messages.get("unknown"):
        warnings.append(
            f"{_are(messages['unknown'], 'message')} unknown:"
            " hyperdrip messages list --state unknown"
        )
    return warnings


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _are(number: int, noun: str) -> str:
    return f"{_count(number, noun)} {'is' if number == 1 else 'are'}"
