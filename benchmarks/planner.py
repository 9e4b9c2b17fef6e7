"""The planner and the commands that look: what they read should not grow with what is there.

Counters, not times: pages that a connection touched, statements that it sent, rows that were read.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import commands, filling
from benchmarks.commands import settings_of
from benchmarks.harness import Options, Row, Server
from hyperdrip import Hyperdrip

PROCESSES = 8
FULL_DAYS = 300
PER_DAY = 1000
WARM_UP = 3
TRANSACTION = (b"BEGIN", b"COMMIT", b"SAVEPOINT", b"RELEASE", b"ROLLBACK")
COMMANDS = (
    ("plan", "plan", "--json"),
    ("quota show", "quota", "show", "--json"),
    ("leads list", "leads", "list", "--json"),
    ("queues show", "queues", "show", "--json"),
)


def run(server: Server, options: Options) -> Iterator[Row]:
    """`add-lead` with and without full days before it, then the commands that look."""
    yield from _full_days(server, options)
    yield from _looking(server, options)


# --- add-lead by many processes ---


def _full_days(server: Server, options: Options) -> Iterator[Row]:
    calls = 100 if options.is_full else 20
    pages, statements = {}, {}
    for full_days in (0, FULL_DAYS):
        with server.database("planner") as url:
            with closing(server.connect(url)) as conn:
                _prepare(conn, full_days)
            server.settle(url)
            counted = _count_calls(url, calls)
        pages[full_days] = sum(pages for pages, _ in counted) / PROCESSES / calls
        statements[full_days] = sum(count for _, count in counted) / PROCESSES / calls
    for what, found in (("shared buffers", pages), ("statements", statements)):
        yield Row(
            name=f"add-lead by {PROCESSES} processes, {FULL_DAYS} full days before it: {what}",
            value=found[FULL_DAYS] / found[0], low=None, high=None, gate=1.1, goal=1.1,
            is_higher_better=False, unit="x",
            note=f"{found[FULL_DAYS]:.1f} a call, {found[0]:.1f} with an empty calendar",
        )  # fmt: skip


def _prepare(conn: psycopg.Connection[Any], full_days: int) -> None:
    """Full days from today on, and the queues of the days behind them."""
    filling.set_daily_max(conn, PER_DAY)
    today = filling.today_of(conn)
    conn.execute(
        "insert into hyperdrip.quota_day (day, reserved)"
        " select %s::date + n, %s from generate_series(0, %s) as coming (n)",
        [today, PER_DAY, full_days - 1],
    )
    filling.create_queues(conn, {today + timedelta(days=full_days + n) for n in range(10)})


def _count_calls(url: str, calls: int) -> list[tuple[int, int]]:
    """Let PROCESSES processes add leads at the same time; pages and statements of each."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.planner", url, str(number), str(calls)],
            cwd=Path(__file__).parents[1],
            env={**commands.environment(url), "PYTHONPATH": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]
    found = []
    for process in processes:
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError("a process that adds leads broke off")
        found.append(tuple(json.loads(out)))
    return [(int(pages), int(statements)) for pages, statements in found]


def _add_leads(url: str, number: int, calls: int) -> tuple[int, int]:
    """One of the processes: what its own connection touched, after a warm-up, and what it sent."""
    with Hyperdrip.open(settings_of(url)) as drip, tempfile.TemporaryFile() as trace:

        def add(call: int) -> None:
            drip.add_lead(name="Ada Marlowe", email=f"ada{number}.{call}@example.com")

        for call in range(WARM_UP):
            add(call)
        with drip._session() as conn:
            before = _touched(conn)
            conn.pgconn.trace(trace.fileno())
            for call in range(calls):
                add(WARM_UP + call)
            conn.pgconn.untrace()
            after = _touched(conn)
        trace.seek(0)
        sent = sum(_is_statement(line) for line in trace)
    return after - before, sent


def _touched(conn: psycopg.Connection[Any]) -> int:
    """Pages that this connection found or read, so far (PostgreSQL 18)."""
    conn.execute("select pg_stat_force_next_flush()")
    row = conn.execute(
        "select sum(coalesce(hits, 0) + coalesce(reads, 0))::bigint"
        " from pg_stat_get_backend_io(pg_backend_pid()) where object = 'relation'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _is_statement(line: bytes) -> bool:
    """In libpq's trace: what the client (F) has executed, but for BEGIN, COMMIT and the like."""
    parts = line.split(b"\t")
    if len(parts) < 4 or parts[1] != b"F":
        return False
    if parts[3] == b"Execute":
        return True
    return parts[3] == b"Query" and not parts[4].lstrip(b' "').upper().startswith(TRANSACTION)


# --- commands that look ---


def _looking(server: Server, options: Options) -> Iterator[Row]:
    """Rows of leads, messages and envelopes that a command reads, and rows that it prints.

    The calendar has a row a day, however many leads there are; PostgreSQL reads a year of it at
    once. Envelopes that `queues show` prints the number of are counted by PGMQ, one by one. A line
    of `leads list` shows two rows: a lead, and the day of its next message.
    PostgreSQL's own planner looks up the end of an index now and then: hence the 5 %.
    """
    leads = 1_000_000 if options.is_full else 100_000
    with server.database("looking") as url:
        filling.fill(url, leads=leads, per_day=leads // 50)  # 250 days
        server.settle(url)
        for name, *arguments in COMMANDS:
            with closing(server.connect(url)) as conn:
                before = _rows_read(conn)
                ended = commands.hyperdrip(url, *arguments)
                after = _rows_read(conn)
            read = {table: count - before.get(table, 0) for table, count in after.items()}
            rows = json.loads(ended.out)
            printed = len(rows) + sum(bool(row.get("nextScheduledFor")) for row in rows)
            counted = sum(row["length"] + row["archived"] for row in rows if "archived" in row)
            most = ", ".join(
                f"{count:,} of {table}"
                for table, count in sorted(read.items(), key=lambda item: -item[1])
                if count
            )
            yield Row(
                name=f"{name} with {leads:,} leads: rows read for each that is printed or counted",
                value=(sum(read.values()) - read["quota_day"]) / (printed + counted),
                low=None, high=None, gate=1.05, goal=1.05, is_higher_better=False, unit="",
                note=f"{printed} rows printed, {counted:,} counted, read {most or 'none'};"
                f" the command took {ended.seconds:.2f} s",
            )  # fmt: skip


def _rows_read(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """Rows read since the beginning, by scans and through indexes, also inside functions.

    Of the tables that grow with what is planned; the command's process has ended, so its counters
    are there.
    """
    conn.execute("select pg_stat_clear_snapshot()")
    rows = conn.execute(
        """
        select
            case when t.schemaname = 'pgmq' then left(t.relname, 1) || '_...' else t.relname end,
            sum(t.seq_tup_read + coalesce(i.idx_tup_read, 0))::bigint
        from pg_stat_user_tables as t
        left join (
            select relid, sum(idx_tup_read) as idx_tup_read
            from pg_stat_user_indexes
            group by relid
        ) as i on i.relid = t.relid
        where
            t.schemaname = 'hyperdrip' and t.relname in ('lead', 'message', 'quota_day')
            or t.schemaname = 'pgmq' and t.relname ~ '^[qa]_'
        group by 1
        """
    ).fetchall()
    return {table: int(count) for table, count in rows}


if __name__ == "__main__":
    print(json.dumps(_add_leads(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
