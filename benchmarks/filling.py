"""Leads and their messages by the hundred thousand, set by set, past every check of ours.

What is here leaves the same rows as the planner would: leads, ledger, envelopes and quota.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg
from psycopg import sql


@dataclass(frozen=True)
class Share:
    """The leads that have message `number` on `day`: the ids from `first` to `last`."""

    day: date
    number: int
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


def shares(
    *, first_id: int, leads: int, messages: int, per_day: int, today: date
) -> Iterator[Share]:
    """Where leads go on an empty calendar: `per_day` of them side by side, and so on."""
    last_id = first_id + leads - 1
    for block, first in enumerate(range(first_id, last_id + 1, per_day)):
        for number in range(1, messages + 1):
            day = today + timedelta(days=block * messages + number - 1)
            yield Share(day, number, first, min(first + per_day - 1, last_id))


def today_of(conn: psycopg.Connection) -> date:
    row = conn.execute(
        "select (clock_timestamp() at time zone time_zone)::date from hyperdrip.instance"
    ).fetchone()
    assert row is not None
    assert isinstance(row[0], date)
    return row[0]


def queue_of(conn: psycopg.Connection, day: date) -> str:
    row = conn.execute(
        "select hyperdrip.queue_of(environment, %s) from hyperdrip.instance", [day]
    ).fetchone()
    assert row is not None
    return str(row[0])


def create_queues(conn: psycopg.Connection, days: set[date]) -> dict[date, str]:
    """The names of the queues of days; each is created in a transaction of its own."""
    assert conn.autocommit
    names = {day: queue_of(conn, day) for day in sorted(days)}
    for name in names.values():
        conn.execute("select hyperdrip.create_queue(%s)", [name])
    return names


def write_messages(
    conn: psycopg.Connection,
    planned: list[Share],
    names: dict[date, str],
    *,
    campaign: str = "default",
) -> None:
    """Envelopes and ledger rows of leads that are there, share by share; quota last."""
    for share in planned:
        name = names[share.day]
        envelopes = sql.Identifier("pgmq", f"q_{name}")
        values = {
            "first": share.first, "last": share.last, "number": share.number, "day": share.day,
            "campaign": campaign,
            "sequence": f'pgmq."q_{name}"', "count": share.count,
        }  # fmt: skip
        row = conn.execute(
            "select coalesce(pg_sequence_last_value("
            "pg_get_serial_sequence(%(sequence)s, 'msg_id')::regclass), 0)",
            values,
        ).fetchone()
        assert row is not None
        values["before"] = row[0]
        conn.execute(
            sql.SQL("""
                insert into {envelopes} (msg_id, vt, message, headers) overriding system value
                select
                    %(before)s + lead.id - %(first)s + 1, clock_timestamp(),
                    jsonb_build_object(
                        'leadId', 'lead_' || lead.id, 'email', lead.email,
                        'messageNumber', %(number)s::integer, 'scheduledDate', %(day)s::date
                    ),
                    jsonb_build_object('run', 1)
                from hyperdrip.lead as lead
                where lead.id between %(first)s and %(last)s
            """).format(envelopes=envelopes),
            values,
        )
        conn.execute(
            "select setval(pg_get_serial_sequence(%(sequence)s, 'msg_id'),"
            " %(before)s::bigint + %(count)s)",
            values,
        )
        conn.execute(
            """
            insert into hyperdrip.message
                (lead_id, run, number, campaign, campaign_version, day, envelope_id)
            select
                id, 1, %(number)s, %(campaign)s, 1, %(day)s, %(before)s + id - %(first)s + 1
            from generate_series(%(first)s::bigint, %(last)s::bigint) as lead (id)
            """,
            values,
        )
    for share in planned:
        conn.execute(
            "insert into hyperdrip.quota_day as old (day, reserved) values (%s, %s)"
            " on conflict (day) do update"
            " set reserved = old.reserved + excluded.reserved, is_closed = false",
            [share.day, share.count],
        )


def take_ids(conn: psycopg.Connection, count: int) -> int:
    """Draw `count` ids of leads; returns the first."""
    row = conn.execute(
        "select setval(name, coalesce(pg_sequence_last_value(name), 0) + %(count)s) - %(count)s + 1"
        " from (select pg_get_serial_sequence('hyperdrip.lead', 'id')::regclass)"
        " as sequence (name)",
        {"count": count},
    ).fetchone()
    assert row is not None
    return int(row[0])


def set_daily_max(conn: psycopg.Connection, daily_max: int) -> None:
    conn.execute("update hyperdrip.instance set daily_max = %s", [daily_max])


def fill(
    url: str, *, leads: int, messages: int = 5, per_day: int, campaign: str = "default"
) -> None:
    """Add leads from today on, `per_day` of them side by side, and their messages.

    The daily maximum is set to `per_day`: days with something planned are full.
    """
    with psycopg.connect(url, autocommit=True) as conn:
        set_daily_max(conn, per_day)
        today = today_of(conn)
        first = take_ids(conn, leads)
        planned = list(
            shares(first_id=first, leads=leads, messages=messages, per_day=per_day, today=today)
        )
        names = create_queues(conn, {share.day for share in planned})
        firsts = [(share.first, share.last) for share in planned if share.number == 1]
        with conn.transaction():
            for first_of_share, last in firsts:
                conn.execute(
                    """
                    insert into hyperdrip.lead (
                        id, name, email, fields, campaign, campaign_version, max_messages
                    )
                    overriding system value
                    select
                        id, 'Lead number ' || id, 'lead' || id || '@example.com',
                        jsonb_build_object('company', 'Company ' || id %% 1000),
                        %(campaign)s, 1, %(messages)s
                    from generate_series(%(first)s::bigint, %(last)s::bigint) as new_lead (id)
                    """,
                    {
                        "first": first_of_share,
                        "last": last,
                        "messages": messages,
                        "campaign": campaign,
                    },
                )
            write_messages(conn, planned, names, campaign=campaign)
