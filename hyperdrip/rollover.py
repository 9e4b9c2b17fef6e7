"""Rolling over: whatever an open day before today still holds is settled and planned again.

Replanning starts from the ledger, not from the queue: what is in backoff cannot be read there.
"""

from dataclasses import dataclass
from datetime import date

import psycopg

from hyperdrip import instance as instances
from hyperdrip import ledger, queue, quota
from hyperdrip.clock import Clock, day_of
from hyperdrip.delivery import Settled, settle_expired
from hyperdrip.models import MessageState
from hyperdrip.replanner import Moved, replan_leads
from hyperdrip.scheduler import Moment, in_planner_transaction


@dataclass(frozen=True)
class Policy:
    """What a rollover has to know of the settings."""

    on_unknown: str = ""
    max_attempts: int = 5
    with_email: bool = True


@dataclass(frozen=True)
class RolledOver:
    """What a rollover did.

    `late` messages had missed their day and got another; `moved` counts those that had to make room
    for them, too. `is_clock_back`: the clock stands before a day already opened.
    """

    today: date
    late: int = 0
    moved: int = 0
    settled: tuple[Settled, ...] = ()
    closed: tuple[date, ...] = ()
    still_open: tuple[date, ...] = ()
    is_clock_back: bool = False

    @property
    def unknown(self) -> int:
        """Messages of dead workers that are unknown now."""
        return sum(
            finish.state is MessageState.UNKNOWN
            for settled in self.settled
            for finish in settled.finished
        )


def roll_over(conn: psycopg.Connection, clock: Clock, policy: Policy) -> RolledOver:
    """Open today, then settle, replan and close the open days before it.

    A message that is being sent is left alone until its visibility has passed. Does nothing when
    the clock stands before a day already opened.
    """
    instance = instances.require_instance(conn)
    today = day_of(clock.read(conn), instance.time_zone)
    if instance.newest_day is not None and today < instance.newest_day:
        return RolledOver(today=today, is_clock_back=True)
    instances.open_day(conn, today)
    open_days = quota.list_open_days(conn, today)
    if not open_days:
        return RolledOver(today=today)
    settled = [settle_lost(conn, instance.environment, day, policy) for day in open_days]
    moved = _replan(conn, clock, policy) if _has_late(conn, today) else Moved()
    for day in open_days:
        queue.archive_strays(conn, queue.name_of(instance.environment, day))
    closed = [day for day in open_days if _close(conn, instance.environment, day)]
    return RolledOver(
        today=today,
        late=moved.late,
        moved=moved.total,
        settled=tuple(settled),
        closed=tuple(closed),
        still_open=tuple(day for day in open_days if day not in closed),
    )


def settle_lost(conn: psycopg.Connection, environment: str, day: date, policy: Policy) -> Settled:
    """Settle what dead workers left of a day: being sent, and visible again.

    Reads the ledger, not the queue: reading hides what others may want to claim.
    """
    return settle_expired(
        conn,
        environment,
        ledger.list_sending(conn, day),
        day=day,
        on_unknown=policy.on_unknown,
        max_attempts=policy.max_attempts,
        lease_ends=None,
    )


def _has_late(conn: psycopg.Connection, today: date) -> bool:
    return bool(ledger.list_leads_with_late_messages(conn, today))


def _replan(conn: psycopg.Connection, clock: Clock, policy: Policy) -> Moved:
    def work(moment: Moment) -> Moved:
        late = ledger.list_leads_with_late_messages(conn, moment.today)
        return replan_leads(conn, moment, late, with_email=policy.with_email)

    return in_planner_transaction(conn, clock, work)


def _close(conn: psycopg.Connection, environment: str, day: date) -> bool:
    """Close a day whose queue is empty and whose messages are all settled."""
    if queue.seconds_to_next(conn, queue.name_of(environment, day)) is not None:
        return False
    return quota.close_day(conn, day)
