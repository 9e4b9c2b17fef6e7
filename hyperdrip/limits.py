"""Changing how much may leave: what it would move, doing it, and pulling messages forward."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import psycopg

from hyperdrip import instance as instances
from hyperdrip import ledger, quota
from hyperdrip.clock import Clock
from hyperdrip.db import snapshot
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import QuotaDay
from hyperdrip.planning import Calendar, Remaining, Schedule, pull_forward, replan
from hyperdrip.replanner import Moved, give_days
from hyperdrip.scheduler import Moment, in_planner_transaction, read_moment

Lot = Mapping[int, tuple[int, Remaining]]  # lead id -> (run, what is left of it)


@dataclass(frozen=True)
class Change:
    """Other limits: a daily maximum (None: as it is), and days' own (None: the daily maximum)."""

    daily_max: int | None = None
    capacities: Mapping[date, int | None] = field(default_factory=dict)

    def check(self, moment: Moment) -> None:
        """Raises: InvalidDataError for a limit that cannot be, or a day in the past."""
        if self.daily_max is not None and self.daily_max < 1:
            raise InvalidDataError(
                f"daily maximum {self.daily_max} is below 1; to stop: hyperdrip pause"
            )
        for day, capacity in self.capacities.items():
            if capacity is not None and capacity < 0:
                raise InvalidDataError(f"capacity {capacity} of {day} is below 0")
            if day < moment.today:
                raise InvalidDataError(f"day {day} is in the past; today is {moment.today}")


@dataclass(frozen=True)
class Preview:
    """What a change of limits would move: messages, leads, and the last day anything gets."""

    messages: int = 0
    leads: int = 0
    last_day: date | None = None


def preview_change(conn: psycopg.Connection, clock: Clock, change: Change) -> Preview:
    """What a change would move; nothing is written, and nobody waits."""
    with snapshot(conn):
        moment = read_moment(conn, clock)
        change.check(moment)
        if not _is_overfull(_days(conn, moment, change)):
            return Preview()
        lot = _everybody(conn, moment)
        schedules = _relieved(conn, moment, change, lot)
        return _compare(lot, schedules)


def apply_change(
    conn: psycopg.Connection, clock: Clock, change: Change, *, with_email: bool
) -> int:
    """Store other limits, and move what no longer fits; returns how many messages moved."""

    def work(moment: Moment) -> int:
        change.check(moment)
        if change.daily_max is not None:
            instances.set_daily_max(conn, change.daily_max)
        moved, changes = Moved(), dict[date, quota.Change]()
        if _is_overfull(_days(conn, moment, change)):
            moved = give_days(
                conn,
                moment,
                ledger.list_leads_with_planned_days(conn, moment.today),
                lambda lot: _relieved(conn, moment, change, lot),
                with_email=with_email,
                changes=changes,
            )
        # All rows at once and by day: workers lock them in that order, too.
        quota.lock_days(conn, {*changes, *change.capacities})
        quota.apply(conn, changes)
        for day in sorted(change.capacities):
            quota.set_capacity(conn, day, change.capacities[day])
        return moved.total

    return in_planner_transaction(conn, clock, work)


def preview_pull(conn: psycopg.Connection, clock: Clock) -> Preview:
    """What pulling forward would move; nothing is written."""
    with snapshot(conn):
        moment = read_moment(conn, clock)
        lot = _everybody(conn, moment)
        return _compare(lot, _pulled(conn, moment, lot))


def pull_everybody(conn: psycopg.Connection, clock: Clock, *, with_email: bool) -> int:
    """Move messages to earlier days with room; returns how many moved. None comes later."""

    def work(moment: Moment) -> int:
        lead_ids = ledger.list_leads_with_planned_days(conn, moment.today)
        return give_days(
            conn,
            moment,
            lead_ids,
            lambda lot: _pulled(conn, moment, lot),
            with_email=with_email,
        ).total

    return in_planner_transaction(conn, clock, work)


def find_days(
    conn: psycopg.Connection, moment: Moment, change: Change
) -> tuple[list[QuotaDay], Calendar]:
    """The calendar from today on as it would be after a change, as days and as free room."""
    days = _days(conn, moment, change)
    daily_max = change.daily_max or moment.instance.daily_max
    if change != Change() and _is_overfull(days):  # nothing moves by itself
        schedules = _relieved(conn, moment, change, _everybody(conn, moment))
        planned = Counter(day for schedule in schedules.values() for day in schedule)
        known = {day.day: day for day in days}
        blank = QuotaDay(moment.today, daily_max, 0, 0)
        days = [
            replace(known.get(day, blank), day=day, scheduled=planned.get(day, 0))
            for day in sorted({*known, *planned})
        ]
    free = {day.day: day.capacity - day.scheduled - day.sent for day in days}
    return days, Calendar(free, daily_max=daily_max)


def _days(conn: psycopg.Connection, moment: Moment, change: Change) -> list[QuotaDay]:
    """Days of the calendar from today on, with the capacities that they would have."""
    daily_max = change.daily_max or moment.instance.daily_max
    found = {
        day: QuotaDay(day, _capacity(change.capacities.get(day, own), daily_max), reserved, sent)
        for day, own, reserved, sent in quota.list_counters(conn, first_day=moment.today)
    }
    for day, own in change.capacities.items():
        found.setdefault(day, QuotaDay(day, _capacity(own, daily_max), 0, 0))
    return [found[day] for day in sorted(found)]


def _capacity(own: int | None, daily_max: int) -> int:
    return daily_max if own is None else own


def _is_overfull(days: Sequence[QuotaDay]) -> bool:
    return any(day.scheduled and day.scheduled + day.sent > day.capacity for day in days)


def _everybody(conn: psycopg.Connection, moment: Moment) -> Lot:
    lead_ids = ledger.list_leads_with_planned_days(conn, moment.today)
    return ledger.list_remaining(conn, lead_ids)


def _relieved(
    conn: psycopg.Connection, moment: Moment, change: Change, lot: Lot
) -> dict[int, Schedule]:
    """Everybody planned again under other limits, leads under way first."""
    freed = Counter(day for _, lead in lot.values() for day in lead.due)
    free = {
        day.day: day.capacity - day.scheduled - day.sent + freed[day.day]
        for day in _days(conn, moment, change)
    }
    calendar = Calendar(free, daily_max=change.daily_max or moment.instance.daily_max)
    return replan([lead for _, lead in lot.values()], calendar=calendar, from_day=moment.today)


def _pulled(conn: psycopg.Connection, moment: Moment, lot: Lot) -> dict[int, Schedule]:
    calendar = quota.read_calendar(
        conn, today=moment.today, daily_max=moment.instance.daily_max, freed={}
    )
    return pull_forward(
        [lead for _, lead in lot.values()], calendar=calendar, from_day=moment.today
    )


def _compare(lot: Lot, schedules: Mapping[int, Schedule]) -> Preview:
    moved = {
        lead_id: sum(old != new for old, new in zip(lot[lead_id][1].due, days, strict=True))
        for lead_id, days in schedules.items()
    }
    return Preview(
        messages=sum(moved.values()),
        leads=sum(count > 0 for count in moved.values()),
        last_day=max((days[-1] for days in schedules.values() if days), default=None),
    )
