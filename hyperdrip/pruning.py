"""Pruning: dropping the queues of days that are over, and what archives need no more.

A queue is dropped in a transaction of its own under the planner lock, and only what is found
there counts: a day before today, closed, its queue empty, no message of it planned or being sent.
Workers hold queues while they wait for quota rows and take no planner lock, so nothing here may
hold a row that they want. Others (a dump, say) may hold a queue for long: planners do not wait
for them, so neither does the pruning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import errors as pg

from hyperdrip import queue
from hyperdrip.clock import Clock
from hyperdrip.db import query
from hyperdrip.errors import InvalidDataError
from hyperdrip.scheduler import Moment, in_planner_transaction, read_moment

LONGEST_DAYS = 36_500
LOCK_SECONDS = 3
IN_USE = "another session uses it, a dump perhaps; prune again later"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Dropped:
    """A queue that was dropped, and how many envelopes were in its archive."""

    queue: str
    day: date
    archived: int


@dataclass(frozen=True)
class Kept:
    """A queue that is old enough and was kept, and why. `is_busy`: it may go another time."""

    queue: str
    day: date
    reason: str

    @property
    def is_busy(self) -> bool:
        """Did only another session stand in the way?"""
        return self.reason == IN_USE


@dataclass(frozen=True)
class Pruned:
    """What pruning did, or in a dry run would do; queues by day.

    `deleted`: archived envelopes of queues that stay, to which no settled message points.
    """

    dropped: tuple[Dropped, ...]
    kept: tuple[Kept, ...]
    deleted: int


def prune(
    conn: psycopg.Connection,
    clock: Clock,
    *,
    older_than_days: int,
    is_dry_run: bool = False,
    on_progress: Progress = lambda _what, _part: None,
) -> Pruned:
    """Drop the queues of closed days more than `older_than_days` ago, and shrink other archives.

    Commits as it goes: each queue, and each batch of envelopes, in a transaction of its own.

    Raises: InvalidDataError for a number of days that cannot be.
    """
    if not 0 <= older_than_days <= LONGEST_DAYS:
        raise InvalidDataError(
            f"older-than={older_than_days} is not a number of days from 0 to {LONGEST_DAYS}"
        )
    moment = read_moment(conn, clock)
    environment = moment.instance.environment
    old = [
        (name, day)
        for name, day in _list_own(conn, environment)
        if (moment.today - day).days > older_than_days
    ]
    dropped: list[Dropped] = []
    kept: list[Kept] = []
    for done, (name, day) in enumerate(old):
        on_progress("Dropping", done / len(old))
        found: Dropped | Kept | None = (
            _judge(conn, name, day)
            if is_dry_run
            else _drop(conn, clock, name, day, older_than_days=older_than_days)
        )
        if isinstance(found, Dropped):
            dropped.append(found)
        elif found is not None:
            kept.append(found)
    gone = {found.queue for found in dropped}
    deleted = _shrink(
        conn,
        [name for name, _ in _list_own(conn, environment) if name not in gone],
        older_than_days=older_than_days,
        is_dry_run=is_dry_run,
        on_progress=on_progress,
    )
    return Pruned(tuple(dropped), tuple(kept), deleted)


def _list_own(conn: psycopg.Connection, environment: str) -> list[tuple[str, date]]:
    """The queues of this environment, by day."""
    found = [(name, queue.day_of(name)) for name in queue.list_names(conn)]
    return [(n, d) for n, d in found if d is not None and n == queue.name_of(environment, d)]


def _drop(
    conn: psycopg.Connection, clock: Clock, name: str, day: date, *, older_than_days: int
) -> Dropped | Kept | None:
    def work(moment: Moment) -> Dropped | Kept | None:
        if (moment.today - day).days <= older_than_days:
            return None  # the clock went back
        conn.execute(query("set_lock_timeout"), {"seconds": LOCK_SECONDS})
        queue.lock(conn, name)
        found = _judge(conn, name, day)
        if isinstance(found, Dropped):
            queue.drop_over(conn, name)
        return found

    try:
        return in_planner_transaction(conn, clock, work)
    except pg.UndefinedTable:
        return None  # somebody else dropped it
    except pg.LockNotAvailable:
        return Kept(name, day, IN_USE)


def _judge(conn: psycopg.Connection, name: str, day: date) -> Dropped | Kept:
    """Is all of a day before today over, so that nobody needs its queue any more?"""
    row = conn.execute(query("get_day_end"), {"day": day}).fetchone()
    assert row is not None
    is_closed, has_open = row
    if has_open or not is_closed:
        return Kept(name, day, "its day is still open; a worker or hyperdrip rollover sees to it")
    if queue.seconds_to_next(conn, name) is not None:
        return Kept(name, day, "its day is closed, and envelopes lie in it that nobody planned")
    return Dropped(name, day, queue.count_archived(conn, name))


def _shrink(
    conn: psycopg.Connection,
    names: Sequence[str],
    *,
    older_than_days: int,
    is_dry_run: bool,
    on_progress: Progress,
) -> int:
    """Delete archived envelopes that no settled message needs; how many there were."""
    deleted = 0
    for done, name in enumerate(names):
        on_progress("Shrinking archives", done / len(names))
        after: int | None = 0
        while after is not None:
            after, count = queue.shrink_archive(
                conn, name, after=after, older_than_days=older_than_days, is_dry_run=is_dry_run
            )
            deleted += count
    return deleted
