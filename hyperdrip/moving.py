"""A planner operation: moving what is planned for leads to other days, and nobody else's."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg

from hyperdrip import leads, quota
from hyperdrip.clock import Clock
from hyperdrip.errors import InvalidDataError, NoRoomError
from hyperdrip.models import Changed, LeadStatus
from hyperdrip.planning import Remaining, Schedule, asked_day, move
from hyperdrip.replanner import give_days
from hyperdrip.scheduler import Moment, in_planner_transaction

MOST_DAYS = 730


@dataclass(frozen=True)
class Move:
    """Where to: the next message on the day `to` and the others behind it, or all by some days."""

    to: date | None = None
    by_days: int = 0

    def check(self, moment: Moment) -> None:
        """Raises: InvalidDataError for a day in the past, or a number of days that cannot be."""
        if self.to is not None and self.to < moment.today:
            raise InvalidDataError(
                f"to={self.to} is in the past; today is {moment.today}"
                f" ({moment.instance.time_zone})"
            )
        if self.to is not None and (self.to - moment.today).days > MOST_DAYS:
            raise InvalidDataError(
                f"to={self.to} is more than {MOST_DAYS} days ahead; today is {moment.today}"
            )
        if not -MOST_DAYS <= self.by_days <= MOST_DAYS:
            raise InvalidDataError(
                f"by={self.by_days} is not a number from -{MOST_DAYS} to {MOST_DAYS}"
            )


def move_leads(
    conn: psycopg.Connection,
    clock: Clock,
    lead_ids: Collection[int],
    where: Move,
    *,
    horizon_days: int,
    with_email: bool,
    is_dry_run: bool = False,
) -> Changed:
    """Move what is planned for ACTIVE leads; messages of others keep their days.

    Raises: InvalidDataError for a day in the past; NoRoomError when a lead would end past the
    horizon, where it does not end now; then nothing is moved.
    """

    def work(moment: Moment) -> Changed:
        where.check(moment)
        last_day = moment.today + timedelta(days=horizon_days)
        locked = leads.lock_leads(conn, lead_ids)
        found: dict[int, Remaining] = {}

        def find(lot: Mapping[int, tuple[int, Remaining]]) -> dict[int, Schedule]:
            found.update((i, lead) for i, (_, lead) in lot.items() if None not in lead.due)
            return _schedules(conn, moment, found, where, last_day)

        moved = give_days(conn, moment, sorted(locked), find, with_email=with_email)
        changed = {i: lead for i, lead in found.items() if moved.schedules[i] != lead.due}
        start_of = {i: _start(lead, where, moment.today) for i, lead in changed.items()}
        leads.set_start_days(conn, start_of)
        planned = Counter(
            new
            for i, lead in changed.items()
            for old, new in zip(lead.due, moved.schedules[i], strict=True)
            if old != new
        )
        left_out = {
            i: _reason(status, has_days=i in found)
            for i, (_, status, _) in locked.items()
            if i not in changed
        }
        return Changed(
            tuple(sorted(changed)), messages=moved.total, planned=dict(planned), left_out=left_out
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def _schedules(
    conn: psycopg.Connection,
    moment: Moment,
    found: Mapping[int, Remaining],
    where: Move,
    last_day: date,
) -> dict[int, Schedule]:
    freed = Counter(day for lead in found.values() for day in lead.due if day is not None)
    calendar = quota.read_calendar(
        conn, today=moment.today, daily_max=moment.instance.daily_max, freed=freed
    )
    schedules = move(
        found.values(),
        calendar=calendar,
        from_day=moment.today,
        to=where.to,
        by_days=where.by_days,
    )
    for lead_id, days in schedules.items():
        if days[-1] > max(last_day, found[lead_id].due[-1] or last_day):
            raise NoRoomError(
                f"lead_{lead_id} would end on {days[-1]}, past the horizon {last_day};"
                " nothing was moved; fewer leads or an earlier day would fit"
            )
    return schedules


def _start(lead: Remaining, where: Move, today: date) -> date:
    """The day that was asked for, so that pulling messages forward does not undo the move."""
    asked = asked_day(lead, 0, to=where.to, by_days=where.by_days)
    return max(today, asked or today)


def _reason(status: LeadStatus, *, has_days: bool) -> str:
    if has_days:
        return "has these days already"
    return f"is {status}" if status is not LeadStatus.ACTIVE else "has nothing planned"
