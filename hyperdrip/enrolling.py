"""A planner operation: a new run for leads whose last one has ended."""

from collections import defaultdict
from collections.abc import Collection
from datetime import date

import psycopg

from hyperdrip import leads
from hyperdrip.clock import Clock
from hyperdrip.models import Changed
from hyperdrip.planning import Block
from hyperdrip.queue import Address
from hyperdrip.scheduler import (
    Enrolment,
    Moment,
    check_enrolment,
    in_planner_transaction,
    pin,
    place,
    plan_leads,
    require_queues,
)


def enroll_again(
    conn: psycopg.Connection,
    clock: Clock,
    lead_ids: Collection[int],
    enrolment: Enrolment,
    *,
    is_dry_run: bool = False,
) -> Changed:
    """Begin a new run for leads that have ended, planned behind each other like new leads.

    Ended: COMPLETED, FAILED, or STOPPED by hand, with an undone import, or by a suppression that is
    there no more. Whoever is under way, was
    stopped for another reason, is suppressed, or has a message that is being sent is left out.

    Raises: NotFoundError for an unknown campaign; InvalidDataError for a start in the past, or more
    messages than steps; NoRoomError past the horizon; then nobody is enrolled.
    """

    def work(moment: Moment) -> Changed:
        version, pinned = pin(conn, enrolment)
        check_enrolment(pinned, moment)
        locked = leads.lock_leads(conn, lead_ids)
        left_out = leads.list_hindrances(conn, lead_ids)
        chosen = [lead_id for lead_id in locked if lead_id not in left_out]
        if not chosen:
            return Changed(left_out=left_out)
        blocks = plan_leads(conn, moment, pinned, count=len(chosen), version=version)
        require_queues(conn, moment, {day for block in blocks for day in block.days})
        planned = _write(conn, moment, pinned, chosen, blocks, version=version)
        return Changed(
            tuple(chosen), messages=sum(planned.values()), planned=planned, left_out=left_out
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def _write(
    conn: psycopg.Connection,
    moment: Moment,
    enrolment: Enrolment,
    lead_ids: list[int],
    blocks: list[Block],
    *,
    version: int,
) -> dict[date, int]:
    """Write the new runs; returns how many messages each day got."""
    schedules = [block.days for block in blocks for _ in range(block.leads)]
    begun = leads.begin_runs(
        conn,
        lead_ids,
        campaign=enrolment.campaign,
        campaign_version=version,
        max_messages=enrolment.max_messages,
        start_on=enrolment.start,
    )
    by_day: dict[date, list[Address]] = defaultdict(list)
    for (lead_id, email, run), days in zip(begun, schedules, strict=True):
        for number, day in enumerate(days, start=1):
            by_day[day].append(Address(lead_id, run, number, email))
    place(conn, moment, enrolment, by_day, version=version)
    return {day: len(found) for day, found in by_day.items()}
