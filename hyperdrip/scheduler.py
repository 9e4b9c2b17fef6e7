"""Planner operations that take days: enrolling leads, and the transaction they all share.

Lock order, everywhere: planner lock, leads by id, messages, envelopes, quota rows by day last.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeVar

import psycopg

from hyperdrip import leads, ledger, queue, quota, receipts
from hyperdrip.clock import Clock, day_of
from hyperdrip.db import (
    SERVER_LOST,
    OwnConnection,
    is_in_transaction,
    is_server_lost,
    query,
    require_read_committed,
)
from hyperdrip.errors import (
    ConflictError,
    InvalidDataError,
    NoRoomError,
    NotFoundError,
    SettingsError,
)
from hyperdrip.instance import require_instance
from hyperdrip.lead_values import phone_key
from hyperdrip.models import Instance, NewLead
from hyperdrip.planning import Block, Calendar, PastHorizon, Schedule, plan, smallest_daily_max
from hyperdrip.queue import Address

LONGEST_HORIZON_DAYS = 730
MOST_QUEUES = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """What a planner operation stands on: the instance, the instant, and today.

    `is_dry_run`: all that is written is rolled back, so no queue is created and nothing enqueued.
    """

    instance: Instance
    now: datetime
    today: date
    is_dry_run: bool = False


@dataclass(frozen=True)
class Enrolment:
    """How new leads are enrolled: the parameters that they share.

    `is_max_given`: somebody asked for `max_messages`; otherwise that counts only where the campaign
    has no steps. `import_source`: the file they come from, to be recorded as an import.
    """

    max_messages: int = 5
    is_max_given: bool = True
    campaign: str = "default"
    start: date | None = None
    horizon_days: int = 365
    with_email: bool = True
    import_source: str | None = None


@dataclass(frozen=True)
class Enrolled:
    """Leads that got their days: ids and schedules in the order given."""

    lead_ids: tuple[int, ...]
    schedules: tuple[Schedule, ...]
    import_id: int | None


class QueuesMissing(Exception):
    """A plan needs queues that do not exist; they are created outside of its transaction."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the queues to create."""
        super().__init__(", ".join(names))
        self.names = names


def read_moment(conn: psycopg.Connection, clock: Clock) -> Moment:
    """Read the instance and the clock. A day once opened stays the earliest today there is."""
    instance = require_instance(conn)
    now = clock.read(conn)
    today = day_of(now, instance.time_zone)
    return Moment(instance, now, max(today, instance.newest_day or today))


def in_planner_transaction(
    conn: psycopg.Connection,
    clock: Clock,
    work: Callable[[Moment], T],
    *,
    is_dry_run: bool = False,
) -> T:
    """Run `work` alone among planners, in one transaction; all of it is written or nothing.

    A dry run does the same work and rolls it back, but for the envelopes of new days.

    Queues that it needs are created first, each in a short transaction of its own: an empty queue
    harms nobody, and hundreds created in one transaction exhaust the lock table.

    When the reply to COMMIT is lost, another connection looks up whether it was done; if so, the
    result is returned and `conn` is closed.

    Raises: DatabaseUnavailable when it was not done, or nobody can know; what `work` raises.
    """
    while True:
        try:
            return _commit_once(conn, clock, work, is_dry_run=is_dry_run)
        except QueuesMissing as missing:
            create_queues(conn, missing.names)


def _commit_once(
    conn: psycopg.Connection, clock: Clock, work: Callable[[Moment], T], *, is_dry_run: bool
) -> T:
    is_ours = not is_in_transaction(conn)
    is_committed_here = is_ours and not is_dry_run
    token = None
    try:
        with conn.transaction(force_rollback=is_dry_run):
            if not (is_ours and isinstance(conn, OwnConnection)):  # those it begins always are
                require_read_committed(conn)
            quota.lock_planner(conn)
            result = work(replace(read_moment(conn, clock), is_dry_run=is_dry_run))
            if is_committed_here:
                token = receipts.write(conn)
    except SERVER_LOST as error:
        if token is None or not (conn.closed or is_server_lost(error)):  # not done, for certain
            raise
        receipts.require_committed(conn, token, error)
    return result


def create_queues(conn: psycopg.Connection, names: Sequence[str]) -> None:
    """Create queues, each in a short transaction of its own, or in the caller's if one is open.

    A caller's transaction keeps the lock of each queue until it ends, so it takes the planner lock
    before: nobody who waits for one of these queues holds anything that is needed here.

    Raises: InvalidDataError for more than one transaction should create.
    """
    if names and is_in_transaction(conn):
        if len(names) > MOST_QUEUES:
            raise InvalidDataError(
                f"{len(names)} queues are missing and one transaction creates at most"
                f" {MOST_QUEUES}; outside of a transaction each is created in its own"
            )
        quota.lock_planner(conn)
    for name in names:
        queue.create(conn, name)


def require_queues(conn: psycopg.Connection, moment: Moment, days: Iterable[date]) -> None:
    """Raises: QueuesMissing with the queues of `days` that do not exist; never in a dry run."""
    if moment.is_dry_run:
        return
    environment = moment.instance.environment
    missing = queue.list_missing(conn, [queue.name_of(environment, day) for day in set(days)])
    if missing:
        raise QueuesMissing(missing)


def enroll(
    conn: psycopg.Connection,
    moment: Moment,
    new_leads: Sequence[NewLead],
    enrolment: Enrolment,
) -> Enrolled:
    """Plan leads and write them, their ledger rows, envelopes and quota.

    Runs inside a planner transaction; nobody else adds leads meanwhile, so the caller can leave out
    whom it finds in the database before.

    Raises: NotFoundError for an unknown campaign; InvalidDataError for a start in the past, or more
    messages than steps; NoRoomError when the plan reaches past the horizon; QueuesMissing.
    """
    version, enrolment = pin(conn, enrolment)
    blocks: list[Block] = []
    if new_leads:
        blocks = plan_leads(conn, moment, enrolment, count=len(new_leads), version=version)
    require_queues(conn, moment, {d for b in blocks for d in b.days})
    return _write(conn, moment, enrolment, new_leads, blocks, version=version)


def check_enrolment(enrolment: Enrolment, moment: Moment) -> date:
    """The first day on which message 1 may go.

    Raises: InvalidDataError for a number of messages that cannot be, or a start in the past.
    """
    if not 1 <= enrolment.max_messages <= 365:
        raise InvalidDataError(
            f"max-messages={enrolment.max_messages} is not a number from 1 to 365"
        )
    if not 1 <= enrolment.horizon_days <= LONGEST_HORIZON_DAYS:
        raise SettingsError(
            f"SCHEDULE_HORIZON_DAYS={enrolment.horizon_days} is not a number from 1 to"
            f" {LONGEST_HORIZON_DAYS}"
        )
    start = enrolment.start or moment.today
    if start < moment.today:
        raise InvalidDataError(
            f"start={start} is in the past; today is {moment.today} ({moment.instance.time_zone})"
        )
    return start


def plan_leads(
    conn: psycopg.Connection,
    moment: Moment,
    enrolment: Enrolment,
    *,
    count: int,
    version: int,
) -> list[Block]:
    """Plan `count` new leads; nothing is written. The blocks come in the order of the leads.

    Raises: InvalidDataError for a start in the past; NoRoomError when the plan reaches past the
    horizon, with the daily maximum that would fit.
    """
    start = check_enrolment(enrolment, moment)
    delays = list_delays(conn, enrolment, version)
    last_day = moment.today + timedelta(days=enrolment.horizon_days)
    daily_max = moment.instance.daily_max

    def calendar_at(limit: int) -> Calendar:
        return quota.read_calendar(conn, today=moment.today, daily_max=limit, freed={})

    found = plan(calendar_at(daily_max), leads=count, delays=delays, start=start, last_day=last_day)
    if not isinstance(found, PastHorizon):
        return found
    fitting = smallest_daily_max(
        calendar_at,
        leads=count,
        delays=delays,
        start=start,
        last_day=last_day,
        above=daily_max,
    )
    cure = (
        f"a daily maximum of {fitting} would fit (now {daily_max}):"
        f" hyperdrip quota set default {fitting}"
        if fitting
        else "fewer messages or an earlier start would fit"
    )
    raise NoRoomError(
        f"no room before {last_day} for {count} x {enrolment.max_messages} messages from"
        f" {start}; the first day with room is {found.first_free_day}; {cure}"
    )


def refuse_taken(conn: psycopg.Connection, new_lead: NewLead) -> None:
    """Check that nobody has this address or phone, and that it may be written to.

    Raises: ConflictError when one is taken; InvalidDataError when the address is suppressed.
    """
    key = phone_key(new_lead.phone)
    taken = leads.list_taken(conn, emails=[new_lead.email], phone_keys=[key] if key else [])
    for lead_id, email, _ in taken:
        what = (
            f"address {new_lead.email}"
            if email == new_lead.email.lower()
            else (f"phone {new_lead.phone}")
        )
        raise ConflictError(
            f"{what} belongs to lead_{lead_id} already; see: hyperdrip leads show lead_{lead_id}"
        )
    for reason in leads.list_suppressed(conn, [new_lead.email]).values():
        raise InvalidDataError(
            f"email={new_lead.email} is suppressed ({reason}): never write to it"
        )


def require_campaign_version(conn: psycopg.Connection, campaign: str) -> int:
    """The newest version of a campaign. Raises: NotFoundError."""
    return _require_newest(conn, campaign)[0]


def pin(conn: psycopg.Connection, enrolment: Enrolment) -> tuple[int, Enrolment]:
    """The newest version of the campaign, and the enrolment with as many messages as it gives.

    That is one for each step, unless fewer are asked for. The built-in campaign gives any number.

    Raises: NotFoundError; InvalidDataError for more messages than steps.
    """
    version, steps = _require_newest(conn, enrolment.campaign)
    if not steps:
        return version, enrolment
    if not enrolment.is_max_given:
        return version, replace(enrolment, max_messages=steps)
    if enrolment.max_messages > steps:
        raise InvalidDataError(
            f"max-messages={enrolment.max_messages} is more than the campaign"
            f" {enrolment.campaign!r} has steps ({steps})"
        )
    return version, enrolment


def _require_newest(conn: psycopg.Connection, campaign: str) -> tuple[int, int]:
    row = conn.execute(query("get_campaign_version"), {"name": campaign}).fetchone()
    if row is None:
        raise NotFoundError(f"no campaign {campaign!r}; the built-in one is called default")
    version, steps = row
    return version, steps


def place(
    conn: psycopg.Connection,
    moment: Moment,
    enrolment: Enrolment,
    by_day: Mapping[date, Sequence[Address]],
    *,
    version: int,
) -> None:
    """Write the messages of runs that begin: envelopes, ledger rows, and quota last."""
    placed = enqueue(conn, moment, by_day, with_email=enrolment.with_email)
    ledger.insert_messages(conn, placed, campaign=enrolment.campaign, campaign_version=version)
    quota.apply(conn, {day: quota.Change(reserved=len(found)) for day, found in by_day.items()})


def enqueue(
    conn: psycopg.Connection,
    moment: Moment,
    by_day: Mapping[date, Sequence[Address]],
    *,
    with_email: bool,
    visible_at: datetime | None = None,
) -> dict[Address, tuple[date, int]]:
    """Put envelopes into the queues of their days; address -> (day, envelope id)."""
    placed: dict[Address, tuple[date, int]] = {}
    for day in sorted(by_day):
        if moment.is_dry_run:  # its queue may not exist, and nobody will read what is rolled back
            placed.update((address, (day, 0)) for address in by_day[day])
            continue
        ids = queue.send_batch(
            conn,
            queue.name_of(moment.instance.environment, day),
            by_day[day],
            with_email=with_email,
            visible_at=visible_at,
        )
        placed.update(
            (address, (day, envelope_id))
            for address, envelope_id in zip(by_day[day], ids, strict=True)
        )
    return placed


def archive_by_day(
    conn: psycopg.Connection, environment: str, by_day: Mapping[date, Sequence[int]]
) -> None:
    """Archive envelopes in the queues of their days."""
    for day in sorted(by_day):
        queue.archive(conn, queue.name_of(environment, day), by_day[day])


def list_delays(conn: psycopg.Connection, enrolment: Enrolment, version: int) -> list[int]:
    """Days that have to lie before each message; the first one counts for nothing."""
    rows = conn.execute(
        query("list_step_delays"), {"campaign": enrolment.campaign, "version": version}
    ).fetchall()
    delay_of: dict[int, int] = dict(rows)
    return [delay_of.get(number, 1) for number in range(1, enrolment.max_messages + 1)]


def _write(
    conn: psycopg.Connection,
    moment: Moment,
    enrolment: Enrolment,
    new_leads: Sequence[NewLead],
    blocks: Sequence[Block],
    *,
    version: int,
) -> Enrolled:
    schedules = [block.days for block in blocks for _ in range(block.leads)]
    import_id = None
    if enrolment.import_source is not None:
        import_id = leads.insert_import(conn, source=enrolment.import_source)
    ids = leads.insert_leads(
        conn,
        new_leads,
        campaign=enrolment.campaign,
        campaign_version=version,
        max_messages=enrolment.max_messages,
        import_id=import_id,
        start_on=enrolment.start,
        now=moment.now,
    )
    by_day: dict[date, list[Address]] = defaultdict(list)
    for lead_id, new_lead, days in zip(ids, new_leads, schedules, strict=True):
        for number, day in enumerate(days, start=1):
            by_day[day].append(Address(lead_id, 1, number, new_lead.email))
    place(conn, moment, enrolment, by_day, version=version)
    return Enrolled(tuple(ids), tuple(schedules), import_id)
