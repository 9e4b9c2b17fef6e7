"""PGMQ: the only file that says `pgmq.`.

Written for PGMQ 1.5 and later: arguments are named and cast, result columns are named. A queue
that does not exist is an empty queue. `archive`, `set_vt` and `read` go by id alone, whoever asks:
the token in the ledger is the lock, not the visibility timeout.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql

from hyperdrip.db import array
from hyperdrip.models import Envelope

BATCH = 10_000

_NAME = re.compile(r"(?:test-)?drip-messages-([0-9]{4}-[0-9]{2}-[0-9]{2})")


@dataclass(frozen=True)
class Address:
    """What an envelope says: which message of which lead."""

    lead_id: int
    run: int
    number: int
    email: str


def name_of(environment: str, day: date) -> str:
    """The queue of a day: `drip-messages-2024-01-15`, in tests with `test-` before it."""
    return f"{'test-' if environment == 'test' else ''}drip-messages-{day.isoformat()}"


def day_of(name: str) -> date | None:
    """The day of one of our queues, or None for a queue that is not ours."""
    match = _NAME.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def is_installed(conn: psycopg.Connection) -> bool:
    """Is there a `pgmq` schema with its functions, as an extension or not?"""
    found = conn.execute("select to_regclass('pgmq.meta') is not null").fetchone()
    return bool(found and found[0])


def has_schema(conn: psycopg.Connection) -> bool:
    """Is there a schema of that name, whoever made it?"""
    found = conn.execute("select to_regnamespace('pgmq') is not null").fetchone()
    return bool(found and found[0])


def get_version(conn: psycopg.Connection) -> str | None:
    """How PGMQ got here: `extension 1.7.0`, `sql` for an install without one, or None."""
    row = conn.execute("select extversion from pg_extension where extname = 'pgmq'").fetchone()
    if row is not None:
        return f"extension {row[0]}"
    return "sql" if is_installed(conn) else None


def list_names(conn: psycopg.Connection) -> list[str]:
    """All queues of this tool, by name, so by day."""
    rows = conn.execute("select queue_name from pgmq.meta order by queue_name").fetchall()
    return [name for (name,) in rows if day_of(name)]


def list_missing(conn: psycopg.Connection, names: Iterable[str]) -> list[str]:
    """Those of `names` that do not exist, in order."""
    wanted = sorted(set(names))
    rows = conn.execute(
        "select queue_name from pgmq.meta where queue_name = any(%(names)s::text[])",
        {"names": wanted},
    ).fetchall()
    existing = {name for (name,) in rows}
    return [name for name in wanted if name not in existing]


def create(conn: psycopg.Connection, name: str) -> None:
    """Create a queue if it is not there, in a short transaction of its own (`pgmq.create`).

    Through the function that works as the owner and grants what it has made.
    """
    with conn.transaction():
        conn.execute("select hyperdrip.create_queue(%(name)s::text)", {"name": name})


def lock(conn: psycopg.Connection, name: str) -> None:
    """Keep everybody off a queue and its archive until the end of the transaction.

    First the queue, as whoever archives does. Raises: psycopg's UndefinedTable when it is gone.
    """
    # As `pgmq.create` and `pgmq.drop_queue` do, and before the table as they do: the other way
    # round two of us would wait for each other (`pgmq.acquire_queue_lock`, PGMQ 1.13.0).
    conn.execute(
        "select pg_advisory_xact_lock(hashtext('pgmq.queue_' || %(queue)s::text))", {"queue": name}
    )
    for table in (f"q_{name}", f"a_{name}"):
        conn.execute(
            sql.SQL("lock table pgmq.{table} in access exclusive mode").format(
                table=sql.Identifier(table)
            )
        )


def drop_over(conn: psycopg.Connection, name: str) -> None:
    """Drop a queue without an open message, and its archive, as the owner (`pgmq.drop_queue`)."""
    conn.execute("select hyperdrip.drop_queue(%(name)s::text)", {"name": name})


def drop(conn: psycopg.Connection, name: str) -> None:
    """Drop a queue, its archive, and whatever is in them (`pgmq.drop_queue`)."""
    with conn.transaction():
        conn.execute("select pgmq.drop_queue(%(name)s::text)", {"name": name})


_SEND_BATCH = b"""
select sent.msg_id
from pgmq.send_batch(
    queue_name => %(queue)s::text,
    msgs => (
        select array_agg(jsonb_strip_nulls(jsonb_build_object(
            'leadId', 'lead_' || item.lead_id, 'email', item.email,
            'messageNumber', item.number, 'scheduledDate', %(day)s::date
        )) order by item.position)
        from unnest(%(lead_ids)s::bigint[], %(emails)s::text[], %(numbers)s::integer[])
            with ordinality as item (lead_id, email, number, position)
    ),
    headers => (
        select array_agg(jsonb_build_object('run', item.run) order by item.position)
        from unnest(%(runs)s::integer[]) with ordinality as item (run, position)
    ),
    delay => coalesce(%(visible_at)s::timestamptz, clock_timestamp())
) as sent (msg_id)
"""


def send_batch(
    conn: psycopg.Connection,
    name: str,
    addresses: Sequence[Address],
    *,
    with_email: bool = True,
    visible_at: datetime | None = None,
) -> list[int]:
    """Enqueue an envelope for each address (`pgmq.send_batch`); the ids in the same order.

    `visible_at`: not readable before that instant of the server's clock; None = at once.
    """
    if not addresses:
        return []
    rows = conn.execute(
        _SEND_BATCH,
        {
            "queue": name,
            "day": day_of(name),
            "lead_ids": [address.lead_id for address in addresses],
            "emails": [address.email if with_email else None for address in addresses],
            "numbers": [address.number for address in addresses],
            "runs": [address.run for address in addresses],
            "visible_at": visible_at,
        },
    ).fetchall()
    return [envelope_id for (envelope_id,) in rows]


# Ids come in the order of the messages, and columns are put side by side: a join by position might
# compare each of thousands of rows with all others, because statistics know nothing of a batch.
_SEND_IMPORTED = b"""
with item as (
    select
        array_agg(staged.lead_id order by staged.position, block.number) as lead_ids,
        array_agg(staged.run order by staged.position, block.number) as runs,
        array_agg(block.number order by staged.position, block.number) as numbers,
        array_agg(
            jsonb_strip_nulls(jsonb_build_object(
                'leadId', 'lead_' || staged.lead_id,
                'email', case when %(with_email)s then staged.email end,
                'messageNumber', block.number, 'scheduledDate', %(day)s::date
            ))
            order by staged.position, block.number
        ) as messages,
        array_agg(jsonb_build_object('run', staged.run) order by staged.position, block.number)
            as headers
    from unnest(
        %(firsts)s::integer[], %(lasts)s::integer[], %(numbers)s::integer[]
    ) as block (first, last, number)
    inner join hyperdrip.import_row as staged
        on staged.batch = %(batch)s and staged.position between block.first and block.last
),

sent as (
    select array_agg(envelope.id order by envelope.position) as ids
    from item
    cross join lateral pgmq.send_batch(
        queue_name => %(queue)s::text,
        msgs => item.messages,
        headers => item.headers,
        delay => clock_timestamp()
    ) with ordinality as envelope (id, position)
)

insert into hyperdrip.message (
    lead_id, run, number, campaign, campaign_version, day, envelope_id
)
select
    placed.lead_id, placed.run, placed.number,
    %(campaign)s::text, %(campaign_version)s::integer, %(day)s::date, placed.envelope_id
from item
cross join sent
cross join lateral unnest(item.lead_ids, item.runs, item.numbers, sent.ids)
    as placed (lead_id, run, number, envelope_id)
"""


def send_imported(
    conn: psycopg.Connection,
    name: str,
    blocks: Sequence[tuple[int, int, int]],
    *,
    batch: int,
    campaign: str,
    campaign_version: int,
    with_email: bool,
) -> None:
    """Enqueue messages of staged rows and write their ledger rows, without a detour to here.

    `blocks`: (first position, last position, message number) of rows that have a message on the
    queue's day (`pgmq.send_batch`).
    """
    conn.execute(
        _SEND_IMPORTED,
        {
            "batch": batch,
            "queue": name,
            "day": day_of(name),
            "firsts": [first for first, _, _ in blocks],
            "lasts": [last for _, last, _ in blocks],
            "numbers": [number for _, _, number in blocks],
            "campaign": campaign,
            "campaign_version": campaign_version,
            "with_email": with_email,
        },
    )


_READ = b"""
select
    coalesce(array_agg(read.msg_id order by read.msg_id), '{}') as envelope_ids,
    clock_timestamp() as server_now
from pgmq.read(
    queue_name => %(queue)s::text, vt => %(vt)s::integer, qty => %(quantity)s::integer
) as read
where to_regclass(format('pgmq.%%I', 'q_' || %(queue)s::text)) is not null
"""


def read(
    conn: psycopg.Connection, name: str, *, vt_seconds: int, quantity: int
) -> tuple[list[int], datetime]:
    """Read up to `quantity` visible envelopes and hide them for `vt_seconds` (`pgmq.read`).

    Returns their ids, in order: whose they are is in the ledger; and the server's clock. In a
    transaction that is rolled back nothing was read.
    """
    row = conn.execute(
        _READ, {"queue": name, "vt": vt_seconds, "quantity": quantity}, binary=True
    ).fetchone()
    assert row is not None
    envelope_ids, server_now = row
    return envelope_ids, server_now


def peek(conn: psycopg.Connection, name: str, *, limit: int) -> list[Envelope] | None:
    """Look at the first envelopes by id without hiding them; None when there is no such queue."""
    if list_missing(conn, [name]):
        return None
    rows = conn.execute(
        sql.SQL(
            "select msg_id, read_ct, vt, message, headers from pgmq.{table}"
            " order by msg_id limit %(limit)s"
        ).format(table=sql.Identifier(f"q_{name}")),
        {"limit": limit},
    ).fetchall()
    return [_envelope(row) for row in rows]


def archive(conn: psycopg.Connection, name: str, envelope_ids: Sequence[int]) -> None:
    """Move envelopes to the queue's archive (`pgmq.archive`); ids that are gone do no harm.

    Nor does a queue that is gone: who finishes late may find its day pruned.
    """
    if envelope_ids:
        conn.execute(
            "select count(*)"
            " from pgmq.archive(queue_name => %(queue)s::text, msg_ids => %(ids)s::bigint[])"
            " where to_regclass(format('pgmq.%%I', 'q_' || %(queue)s::text)) is not null",
            {"queue": name, "ids": array(sorted(envelope_ids))},
        )


_SCRUB = """
with held as materialized (
    select envelope.msg_id
    from pgmq.{table} as envelope
    where
        envelope.message ? 'email'
        and envelope.message ->> 'leadId' in (
            select 'lead_' || given.lead_id
            from unnest(%(lead_ids)s::bigint[]) as given (lead_id)
        )
    order by envelope.msg_id
    for update of envelope
)

update pgmq.{table} as envelope
set message = envelope.message - 'email'
from held
where envelope.msg_id = held.msg_id
"""


def scrub(conn: psycopg.Connection, lead_ids: Collection[int]) -> None:
    """Take the addresses of leads out of the bodies of all their envelopes, archived or not.

    Reads every queue and every archive: nothing says where envelopes lie that once moved.
    """
    for name in list_names(conn):
        for table in (f"q_{name}", f"a_{name}"):
            conn.execute(
                sql.SQL(_SCRUB).format(table=sql.Identifier(table)),
                {"lead_ids": sorted(lead_ids)},
            )


def set_visible(
    conn: psycopg.Connection, name: str, envelope_ids: Sequence[int], *, in_seconds: int
) -> None:
    """Make envelopes readable `in_seconds` from now on the server's clock (`pgmq.set_vt`)."""
    if envelope_ids:
        conn.execute(
            "select count(shown.msg_id)"
            " from unnest(%(ids)s::bigint[]) as item (id)"
            " cross join lateral pgmq.set_vt(%(queue)s::text, item.id, %(seconds)s::integer)"
            " as shown",
            {"queue": name, "ids": array(sorted(envelope_ids)), "seconds": in_seconds},
        )


def list_visible(conn: psycopg.Connection, name: str, envelope_ids: Sequence[int]) -> set[int]:
    """Those of these envelopes that anybody may read: their lease is over."""
    try:
        with conn.transaction():
            rows = conn.execute(
                sql.SQL(
                    "select msg_id from pgmq.{table}"
                    " where msg_id = any(%(ids)s::bigint[]) and vt <= clock_timestamp()"
                ).format(table=sql.Identifier(f"q_{name}")),
                {"ids": array(envelope_ids)},
            ).fetchall()
    except pg.UndefinedTable:
        return set(envelope_ids)
    return {envelope_id for (envelope_id,) in rows}


def list_hidden(conn: psycopg.Connection, name: str, envelope_ids: Sequence[int]) -> list[int]:
    """Those of these envelopes that nobody may read: a lease holds. In order.

    Nothing is locked: a read of somebody else locks also what has just been hidden from it.
    """
    try:
        with conn.transaction():
            rows = conn.execute(
                sql.SQL(
                    "select msg_id from pgmq.{table}"
                    " where msg_id = any(%(ids)s::bigint[]) and vt > clock_timestamp()"
                    " order by msg_id"
                ).format(table=sql.Identifier(f"q_{name}")),
                {"ids": array(envelope_ids)},
            ).fetchall()
    except pg.UndefinedTable:
        return []
    return [envelope_id for (envelope_id,) in rows]


def archive_strays(conn: psycopg.Connection, name: str) -> None:
    """Archive the envelopes of a day's queue that point at no open message of that day."""
    try:
        rows = conn.execute(
            sql.SQL(
                "select envelope.msg_id from pgmq.{table} as envelope where not exists ("
                "select 1 from hyperdrip.message where message.day = %(day)s"
                " and message.envelope_id = envelope.msg_id"
                " and message.state in ('planned', 'sending'))"
                " order by envelope.msg_id"
            ).format(table=sql.Identifier(f"q_{name}")),
            {"day": day_of(name)},
        ).fetchall()
    except pg.UndefinedTable:
        return
    archive(conn, name, [envelope_id for (envelope_id,) in rows])


def count_archived(conn: psycopg.Connection, name: str) -> int:
    """How many envelopes lie in a queue's archive."""
    row = conn.execute(
        sql.SQL("select count(*) from pgmq.{table}").format(table=sql.Identifier(f"a_{name}"))
    ).fetchone()
    assert row is not None
    return int(row[0])


_OLD = """
with looked_at as materialized (
    select archived.msg_id, archived.archived_at
    from pgmq.{archive} as archived
    where archived.msg_id > %(after)s
    order by archived.msg_id
    limit %(limit)s
),

unneeded as (
    select looked_at.msg_id
    from looked_at
    where
        looked_at.archived_at < clock_timestamp() - make_interval(days => %(days)s)
        and not exists (
            select 1
            from hyperdrip.message as message
            where
                message.day = %(day)s
                and message.envelope_id = looked_at.msg_id
                and message.state <> 'cancelled'
        )
)
"""

# Locked by id, as `scrub` does.
_SHRINK = """
, held as materialized (
    select archived.msg_id
    from pgmq.{archive} as archived
    where archived.msg_id in (select unneeded.msg_id from unneeded)
    order by archived.msg_id
    for update of archived
),

gone as (
    delete from pgmq.{archive} as archived
    using held
    where archived.msg_id = held.msg_id
    returning archived.msg_id
)

select max(looked_at.msg_id), (select count(*) from gone)
from looked_at
"""

_COUNT_OLD = """
select max(looked_at.msg_id), (select count(*) from unneeded)
from looked_at
"""


def shrink_archive(
    conn: psycopg.Connection, name: str, *, after: int, older_than_days: int, is_dry_run: bool
) -> tuple[int | None, int]:
    """Delete archived envelopes to which no message points, among the next BATCH after an id.

    Only what was archived so many days ago, on the server's clock, as PGMQ writes it. Returns the
    last id that was looked at (None at the end) and how many were deleted, or in a dry run would.
    """
    statement = sql.SQL(_OLD + (_COUNT_OLD if is_dry_run else _SHRINK)).format(
        archive=sql.Identifier(f"a_{name}")
    )
    values = {"after": after, "limit": BATCH, "days": older_than_days, "day": day_of(name)}
    try:
        row = conn.execute(statement, values).fetchone()
    except pg.UndefinedTable:
        return None, 0
    assert row is not None
    return row[0], int(row[1])


def seconds_to_next(conn: psycopg.Connection, name: str) -> float | None:
    """Seconds until an envelope can be read (0 or less: now); None when the queue is empty."""
    try:
        row = conn.execute(
            sql.SQL(
                "select extract(epoch from min(vt) - clock_timestamp())::float8 from pgmq.{table}"
            ).format(table=sql.Identifier(f"q_{name}"))
        ).fetchone()
    except pg.UndefinedTable:
        return None
    return row[0] if row else None


def count_before(conn: psycopg.Connection, name: str, envelope_id: int) -> int:
    """Envelopes of a queue that were enqueued before another one."""
    row = conn.execute(
        sql.SQL("select count(*) from pgmq.{table} where msg_id < %(id)s").format(
            table=sql.Identifier(f"q_{name}")
        ),
        {"id": envelope_id},
    ).fetchone()
    assert row is not None
    return int(row[0])


def get_metrics(conn: psycopg.Connection, name: str) -> dict[str, Any] | None:
    """What `pgmq.metrics` says, by column name, and `archived`: the rows of the archive.

    None when somebody has just dropped the queue.
    """
    try:
        with conn.transaction():
            return _read_metrics(conn, name)
    except pg.UndefinedTable:
        return None


def _read_metrics(conn: psycopg.Connection, name: str) -> dict[str, Any]:
    row = conn.execute(
        "select to_jsonb(pgmq.metrics(queue_name => %(queue)s::text))", {"queue": name}
    ).fetchone()
    assert row is not None
    return {**row[0], "archived": count_archived(conn, name)}


_FIND_FAULTS = """
with ledger as (
    select envelope_id, lead_id, run, number, state, state in ('planned', 'sending') as is_open
    from hyperdrip.message
    where day = %(day)s and envelope_id is not null
),

fault as (
    select
        'missing' as kind,
        format('lead_%%s #%%s on %%s', lead_id, number, %(day)s::date) as words
    from ledger
    where
        is_open
        and not exists (
            select 1
            from pgmq.{queue} as envelope
            where
                envelope.msg_id = ledger.envelope_id
                and envelope.message ->> 'leadId' = 'lead_' || ledger.lead_id
                and envelope.headers ->> 'run' = ledger.run::text
                and envelope.message ->> 'messageNumber' = ledger.number::text
        )
    union all
    select 'stray', format('envelope %%s of %%s', envelope.msg_id, %(day)s::date)
    from pgmq.{queue} as envelope
    left join ledger on envelope.msg_id = ledger.envelope_id and ledger.is_open
    where ledger.envelope_id is null
    union all
    select 'closed', format('%%s: envelope %%s is in its queue', quota_day.day, envelope.msg_id)
    from pgmq.{queue} as envelope
    cross join hyperdrip.quota_day
    where quota_day.day = %(day)s and quota_day.is_closed
    union all
    select
        'unsettled',
        format('archived envelope %%s of %%s is %%s', ledger.envelope_id, %(day)s::date, state)
    from pgmq.{archive} as archived
    inner join ledger on archived.msg_id = ledger.envelope_id
    where ledger.is_open
    union all
    select
        'unsettled',
        format(
            'lead_%%s #%%s of %%s is %%s and not archived', lead_id, number, %(day)s::date, state
        )
    from ledger
    where
        not is_open
        and state <> 'cancelled'
        and not exists (
            select 1 from pgmq.{archive} as archived where archived.msg_id = ledger.envelope_id
        )
)

select ranked.kind, ranked.words, ranked.total
from (
    select
        kind, words,
        row_number() over (partition by kind order by words) as rank,
        count(*) over (partition by kind) as total
    from fault
) as ranked
where ranked.rank <= %(limit)s
order by ranked.kind, ranked.words
"""


def list_faults(conn: psycopg.Connection, name: str, *, limit: int) -> list[tuple[str, str, int]]:
    """Where a day's queue and its archive contradict the ledger: kind, words, how many of it.

    `missing`: an open message without its envelope; `stray`: an envelope of no open message;
    `closed`: an envelope of a day that is closed; `unsettled`: archived and open, or settled and
    not archived. At most `limit` of each kind.
    A queue that somebody has just dropped has none.
    """
    statement = sql.SQL(_FIND_FAULTS).format(
        queue=sql.Identifier(f"q_{name}"), archive=sql.Identifier(f"a_{name}")
    )
    try:
        with conn.transaction():
            return conn.execute(statement, {"day": day_of(name), "limit": limit}).fetchall()
    except pg.UndefinedTable:
        return []


def _envelope(row: tuple[Any, ...]) -> Envelope:
    envelope_id, read_count, visible_at, body, headers = row
    return Envelope(
        envelope_id=envelope_id,
        read_count=read_count,
        visible_at=visible_at,
        body=body if isinstance(body, dict) else {},
        headers=headers if isinstance(headers, dict) else {},
    )
