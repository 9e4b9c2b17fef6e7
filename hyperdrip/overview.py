"""One screen: what this database is, how today stands, and what is wrong."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
from psycopg.rows import class_row

from hyperdrip import quota
from hyperdrip.clock import Clock, day_of
from hyperdrip.db import query
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
    warnings: tuple[str, ...]


def read_overview(conn: psycopg.Connection, clock: Clock, *, message_delay_ms: int) -> Overview:
    """Read it all. `message_delay_ms`: how far apart one worker sends."""
    with conn.transaction():
        moment = read_moment(conn, clock)
        (today,) = quota.list_every_day(
            conn, first_day=moment.today, last_day=moment.today, instance=moment.instance
        )
        days = quota.list_days(
            conn, first_day=moment.today, last_day=None, instance=moment.instance
        )
        coming = [day.day for day in days if day.scheduled and day.day > moment.today]
        open_days = tuple(quota.list_open_days(conn, moment.today))
        with conn.cursor(row_factory=class_row(LiveWorker)) as cursor:
            workers = tuple(cursor.execute(query("list_worker_ages")).fetchall())
        leads: dict[str, int] = dict(conn.execute(query("count_leads")).fetchall())
        messages: dict[str, int] = dict(conn.execute(query("count_messages")).fetchall())
    warnings = [
        *_standing_still(moment, today, workers),
        *_will_not_be_met(moment, today, workers, message_delay_ms),
        *_left_behind(open_days, messages),
    ]
    return Overview(
        instance=moment.instance,
        today=today,
        open_days=open_days,
        next_day=min(coming, default=None),
        last_day=max(coming, default=moment.today if today.scheduled else None),
        workers=workers,
        leads=leads,
        messages=messages,
        warnings=tuple(warnings),
    )


def _standing_still(moment: Moment, today: QuotaDay, workers: tuple[LiveWorker, ...]) -> list[str]:
    real_today = day_of(moment.now, moment.instance.time_zone)
    if real_today < moment.today:
        return [
            f"the clock says {real_today}, and {moment.today} was open already: nothing is sent"
        ]
    if moment.instance.is_paused:
        return ["everything is paused; to go on: hyperdrip resume"]
    if not workers:
        due = f" and {today.scheduled} messages are due today" if today.scheduled else ""
        return [f"no worker is alive{due}; to start one: hyperdrip worker"]
    return []


def _will_not_be_met(
    moment: Moment, today: QuotaDay, workers: tuple[LiveWorker, ...], message_delay_ms: int
) -> list[str]:
    """Will what is due today leave today?"""
    if not today.scheduled:
        return []
    room = max(0, today.capacity - today.sent)
    if today.scheduled > room:
        return [
            f"today will not be met: {today.scheduled} messages are due and the quota has room for"
            f" {room}"
        ]
    needed = timedelta(milliseconds=message_delay_ms * today.scheduled) / max(1, len(workers))
    zone = ZoneInfo(moment.instance.time_zone)
    midnight = datetime.combine(moment.today + timedelta(days=1), datetime.min.time(), zone)
    if workers and moment.now + needed > midnight:
        return [
            f"today will not be met: {today.scheduled} messages {message_delay_ms / 1000:g} s apart"
            f" take longer than the day has left; lower WORKER_MESSAGE_DELAY or start more workers"
        ]
    return []


def _left_behind(open_days: tuple[date, ...], messages: dict[str, int]) -> list[str]:
    warnings = []
    if open_days:
        warnings.append(
            f"{len(open_days)} days before today are still open, first {open_days[0]};"
            " a worker or hyperdrip rollover sees to them"
        )
    if messages.get("unknown"):
        warnings.append(
            f"{messages['unknown']} messages are unknown: hyperdrip messages list --state unknown"
        )
    return warnings
