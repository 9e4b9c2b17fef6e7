"""Quota counters per day: a function per query. Their rows are locked last before COMMIT."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg

from hyperdrip.db import query
from hyperdrip.models import Instance, QuotaDay
from hyperdrip.planning import Calendar


@dataclass
class Change:
    """What a transaction adds to the counters of a day; negative to take away."""

    reserved: int = 0
    sent: int = 0
    resent: int = 0


@dataclass(frozen=True)
class Gate:
    """May anything be claimed on a day? `room` is what today's limit still allows."""

    room: int
    waiting: int
    is_paused: bool
    newest_day: date | None


def lock_planner(conn: psycopg.Connection) -> None:
    """Take the planner lock until the end of the transaction, before anything is read."""
    conn.execute(query("lock_planner"))


def list_counters(
    conn: psycopg.Connection, *, first_day: date, last_day: date | None = None
) -> list[tuple[date, int | None, int, int]]:
    """Days with a row of their own: day, own capacity or None, reserved, sent; by day."""
    return conn.execute(
        query("list_quota_days"), {"first_day": first_day, "last_day": last_day}
    ).fetchall()


def list_days(
    conn: psycopg.Connection, *, first_day: date, last_day: date | None, instance: Instance
) -> list[QuotaDay]:
    """Days that somebody planned for or gave a capacity of their own, by day."""
    return [
        QuotaDay(day, instance.daily_max if capacity is None else capacity, reserved, sent)
        for day, capacity, reserved, sent in list_counters(
            conn, first_day=first_day, last_day=last_day
        )
    ]


def list_every_day(
    conn: psycopg.Connection, *, first_day: date, last_day: date, instance: Instance
) -> list[QuotaDay]:
    """Each day from `first_day` to `last_day`, also those that nothing is planned for."""
    known = {
        found.day: found
        for found in list_days(conn, first_day=first_day, last_day=last_day, instance=instance)
    }
    days = [first_day + timedelta(days=n) for n in range((last_day - first_day).days + 1)]
    return [known.get(day) or QuotaDay(day, instance.daily_max, 0, 0) for day in days]


def read_calendar(
    conn: psycopg.Connection, *, today: date, daily_max: int, freed: Mapping[date, int]
) -> Calendar:
    """Free room from `today` on, with `daily_max` as the limit of days without their own.

    `freed`: messages by day that are about to be planned again, so that their room counts as free.
    """
    rows = list_counters(conn, first_day=today)
    return Calendar(
        {
            day: (daily_max if capacity is None else capacity) - reserved - sent + freed.get(day, 0)
            for day, capacity, reserved, sent in rows
        },
        daily_max=daily_max,
    )


def apply(conn: psycopg.Connection, changes: Mapping[date, Change]) -> None:
    """Add to the counters of days; the rows are locked by day until the end of the transaction."""
    days = sorted(day for day, change in changes.items() if change != Change())
    if not days:
        return
    if any(changes[day].reserved > 0 for day in days):
        conn.execute(query("ensure_quota_days"), {"days": days})
    conn.execute(
        query("add_to_quota"),
        {
            "days": days,
            "reserved": [changes[day].reserved for day in days],
            "sent": [changes[day].sent for day in days],
            "resent": [changes[day].resent for day in days],
        },
    )


def lock_days(conn: psycopg.Connection, days: Collection[date]) -> None:
    """Lock the counters of days, so that the next statement reads what nobody can change."""
    conn.execute(query("lock_quota_days"), {"days": sorted(days)})


def count_claimed(
    conn: psycopg.Connection, day: date, claimed: int, *, now: datetime
) -> tuple[bool, bool]:
    """Count claimed messages of a day, which is locked then. Waits for nobody.

    Returns whether it could be locked, and whether they were counted: not without the lock, and not
    if the day has no room for them or was closed.
    """
    values = {"day": day, "claimed": claimed, "now": now}
    row = conn.execute(query("count_claimed"), values).fetchone()
    assert row is not None
    return row


def set_capacity(conn: psycopg.Connection, day: date, capacity: int | None) -> None:
    """Give a day its own capacity; None = the daily maximum again."""
    conn.execute(query("set_capacity"), {"day": day, "capacity": capacity})


def read_gate(conn: psycopg.Connection, day: date) -> Gate:
    """Room, waiting messages and pause for a day, without a lock: a hint, not a promise."""
    row = conn.execute(query("get_gate"), {"day": day}).fetchone()
    assert row is not None
    return Gate(*row)


def list_open_days(conn: psycopg.Connection, today: date) -> list[date]:
    """Days before `today` that are not closed, by day."""
    rows = conn.execute(query("list_open_days"), {"today": today}).fetchall()
    return [day for (day,) in rows]


def close_day(conn: psycopg.Connection, day: date) -> bool:
    """Close a day if none of its messages is planned or being sent."""
    return conn.execute(query("close_day"), {"day": day}).fetchone() is not None


def get_next_planned_day(conn: psycopg.Connection, day: date) -> tuple[date, int] | None:
    """The first day after `day` with something planned, and how many."""
    return conn.execute(query("get_next_planned_day"), {"day": day}).fetchone()
