"""What if: where more leads would go, and what another daily maximum would do. Writes nothing."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, timedelta

import psycopg

from hyperdrip.clock import Clock
from hyperdrip.db import snapshot
from hyperdrip.errors import InvalidDataError
from hyperdrip.limits import Change, find_days
from hyperdrip.models import QuotaDay
from hyperdrip.planning import Block, Calendar, PastHorizon, plan, smallest_daily_max
from hyperdrip.scheduler import (
    Enrolment,
    Moment,
    check_enrolment,
    list_delays,
    pin,
    read_moment,
)

FARTHEST_DAYS = 36_500
MOST_LEADS = 1_000_000_000


@dataclass(frozen=True)
class Forecast:
    """The calendar as it would be; `last_day` None: the plan would not end within 100 years.

    `first_day` and `last_day` are those of the leads asked about, or of everything planned when
    none are. `daily_max_that_fits`: set when the plan reaches past the horizon.
    """

    leads: int
    messages: int
    daily_max: int
    horizon: date
    first_day: date | None
    last_day: date | None
    fits: bool
    daily_max_that_fits: int | None
    days: tuple[QuotaDay, ...]


def forecast(
    conn: psycopg.Connection,
    clock: Clock,
    enrolment: Enrolment,
    *,
    add: int = 0,
    daily_max: int | None = None,
) -> Forecast:
    """Answer what would happen with `add` more leads, and with another daily maximum.

    Costs as much as the distinct days of the answer, however many leads.

    Raises: InvalidDataError; NotFoundError for an unknown campaign.
    """
    if not 0 <= add <= MOST_LEADS:
        raise InvalidDataError(f"add={add} is not a number from 0 to {MOST_LEADS}")
    with snapshot(conn):
        moment = read_moment(conn, clock)
        change = Change(daily_max=daily_max)
        change.check(moment)
        version, enrolment = pin(conn, enrolment)
        start = check_enrolment(enrolment, moment)
        delays = list_delays(conn, enrolment, version)
        days, calendar = find_days(conn, moment, change)
        limit = daily_max or moment.instance.daily_max
        horizon = moment.today + timedelta(days=enrolment.horizon_days)
        question = _Question(add, delays, start, moment, limit)
        blocks = question.answer(calendar, moment.today + timedelta(days=FARTHEST_DAYS))
        found = Forecast(
            leads=add,
            messages=add * len(delays),
            daily_max=limit,
            horizon=horizon,
            first_day=None,
            last_day=None,
            fits=False,
            daily_max_that_fits=None,
            days=tuple(days),
        )
        if isinstance(blocks, PastHorizon):
            days_only = _with_blocks(found, [], moment.today).days
            found = replace(found, days=days_only)
        else:
            found = _with_blocks(found, blocks, moment.today)
        if not found.fits:
            fitting = question.smallest_daily_max(conn, horizon)
            found = replace(found, daily_max_that_fits=fitting)
        return found


@dataclass(frozen=True)
class _Question:
    leads: int
    delays: list[int]
    start: date
    moment: Moment
    limit: int

    def answer(self, calendar: Calendar, last_day: date) -> list[Block] | PastHorizon:
        return plan(
            calendar, leads=self.leads, delays=self.delays, start=self.start, last_day=last_day
        )

    def smallest_daily_max(self, conn: psycopg.Connection, horizon: date) -> int | None:
        def calendar_at(limit: int) -> Calendar:
            return find_days(conn, self.moment, Change(daily_max=limit))[1]

        return smallest_daily_max(
            calendar_at,
            leads=self.leads,
            delays=self.delays,
            start=self.start,
            last_day=horizon,
            above=self.limit,
        )


def _with_blocks(found: Forecast, blocks: list[Block], today: date) -> Forecast:
    """Add what was planned: every day from today to the last one with something planned."""
    added: Counter[date] = Counter()
    for block in blocks:
        for day in block.days:
            added[day] += block.leads
    known = {day.day: day for day in found.days}
    planned = [day for day, counts in known.items() if counts.scheduled]
    last = max([*planned, *added], default=today)
    blank = QuotaDay(today, found.daily_max, 0, 0)
    asked = added or planned
    last_day = max(asked, default=None)
    return replace(
        found,
        first_day=min(asked, default=None),
        last_day=last_day,
        fits=not added or last_day is None or last_day <= found.horizon,
        days=tuple(
            replace(counts, day=day, scheduled=counts.scheduled + added[day])
            for day in (today + timedelta(days=n) for n in range((last - today).days + 1))
            for counts in [known.get(day, blank)]
        ),
    )
