"""Importing a file of leads: how fast, how much memory, and what a worker notices of it.

The floor loads the same file by COPY and INSERT ... SELECT into the same tables, to the same final
rows, without a check of any value: no address is parsed, no duplicate looked for, no plan made.
"""

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import psycopg
from psycopg import sql

from benchmarks import commands, filling
from benchmarks.commands import settings_of
from benchmarks.harness import Options, Paired, Row, Server, in_turn
from hyperdrip import Hyperdrip

MESSAGES = 5
BLOCKS = 4  # the daily maximum is a quarter of the leads: 20 days, each of them full
ALONE_SECONDS = 5.0


def run(server: Server, options: Options) -> Iterator[Row]:
    """Speed against the floor, a dry run, memory, and a worker beside it."""
    yield from _speed(server, options)
    yield _memory(server, options)
    yield _worker_beside(server, options)


# --- the file ---


def write_leads(path: Path, count: int) -> Path:
    """A file as people have them: international names, phones, notes here and there, two fields."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "email", "phone", "notes", "company", "city"))
        rows.writerows(_rows(count))
    return path


def _rows(count: int) -> Iterator[tuple[str, ...]]:
    names = ("Ada Marlowe", "Zoë Ångström", "Ben Okafor", "Carla Nunes", "Dmitri Volkov")
    cities = ("Lisbon", "Zürich", "Lagos", "Osaka", "Toronto")
    for number in range(1, count + 1):
        notes = (
            f"Met at the fair, stand {number % 90}; asked about prices" if number % 4 == 0 else ""
        )
        yield (
            f"{names[number % 5]} {number}",
            f"person.{number}@company{number % 5000}.example.com",
            f"+1202{number:07d}",
            notes,
            f"Company {number % 5000}",
            cities[number % 5],
        )


# --- ours and the floor ---


def import_ours(url: str, path: Path) -> None:
    """What `hyperdrip import FILE` does once its process is up."""
    with Hyperdrip.open(settings_of(url)) as drip:
        result = drip.import_file(str(path))
    assert result.rejected == result.duplicates == 0


def import_dry(url: str, path: Path) -> None:
    from hyperdrip.importing import ImportOptions

    with Hyperdrip.open(settings_of(url)) as drip:
        drip.import_file(str(path), ImportOptions(is_dry_run=True))


def import_floor(url: str, path: Path, leads: int) -> None:
    """The same rows, as they come."""
    with psycopg.connect(url, autocommit=True) as conn:
        today = filling.today_of(conn)
        per_day = leads // BLOCKS
        first = filling.take_ids(conn, leads)
        planned = list(
            filling.shares(
                first_id=first, leads=leads, messages=MESSAGES, per_day=per_day, today=today
            )
        )
        names = filling.create_queues(conn, {share.day for share in planned})
        with conn.transaction():
            conn.execute(
                "create temporary table raw (position bigint generated always as identity,"
                " name text, email text, phone text, notes text, company text, city text)"
                " on commit drop"
            )
            with (
                path.open("rb") as file,
                conn.cursor() as cursor,
                cursor.copy(
                    "copy raw (name, email, phone, notes, company, city)"
                    " from stdin (format csv, header)"
                ) as copy,
            ):
                while chunk := file.read(1 << 16):
                    copy.write(chunk)
            row = conn.execute(
                "insert into hyperdrip.lead_import"
                " (source, read_count, added_count, first_day, last_day)"
                " values (%s, %s, %s, %s, %s) returning id",
                [path.name, leads, leads, planned[0].day, planned[-1].day],
            ).fetchone()
            assert row is not None
            conn.execute(
                """
                insert into hyperdrip.lead (
                    id, name, email, phone, notes, fields, import_id,
                    campaign, campaign_version, max_messages
                )
                overriding system value
                select
                    %(first)s + position - 1, name, email, phone, notes,
                    jsonb_build_object('company', company, 'city', city), %(import_id)s,
                    'default', 1, %(messages)s
                from raw
                """,
                {
                    "first": first, "import_id": row[0], "messages": MESSAGES,
                },
            )  # fmt: skip
            filling.write_messages(conn, planned, names)


def final_rows(url: str) -> dict[str, object]:
    """A sum over what is in the tables, leaving out instants, to compare two ways of loading."""
    with psycopg.connect(url) as conn:
        found: dict[str, object] = {}
        for name, columns in (
            ("lead", "id, name, email, phone, notes, fields, campaign, max_messages,"
                " message_count, status"),
            ("message", "lead_id, run, number, campaign, campaign_version, day, envelope_id,"
                " state"),
            ("quota_day", "day, capacity, reserved, sent"),
            ("lead_import", "read_count, added_count, first_day, last_day"),
        ):  # fmt: skip
            found[name] = _sum(conn, sql.Identifier("hyperdrip", name), columns)
        for (queue,) in conn.execute("select queue_name from pgmq.meta").fetchall():
            table = sql.Identifier("pgmq", f"q_{queue}")
            found[queue] = _sum(conn, table, "msg_id, message, headers")
        return found


def _sum(conn: psycopg.Connection, table: sql.Identifier, columns: str) -> tuple[int, int]:
    row = conn.execute(
        sql.SQL(
            "select count(*), coalesce(sum(hashtextextended(one::text, 0)), 0)"
            " from (select {columns} from {table}) as one"
        ).format(columns=sql.SQL(columns), table=table)
    ).fetchone()
    assert row is not None
    return row[0], int(row[1])


@contextmanager
def _empty(server: Server, leads: int) -> Iterator[str]:
    """A database with room for a quarter of the leads each day; its queues are there already.

    Creating tables takes both sides the same time, and would make a short form of this harmless.
    """
    with server.database("template") as url:
        with closing(server.connect(url)) as conn:
            filling.set_daily_max(conn, leads // BLOCKS)
            today = filling.today_of(conn)
            days = range(BLOCKS * MESSAGES + 1)  # one more, in case midnight passes
            filling.create_queues(conn, {today + timedelta(days=n) for n in days})
        yield url


@contextmanager
def _copy(server: Server, template: str) -> Iterator[str]:
    with server.database("import", template=template) as url:
        server.settle(url)
        yield url


# --- rows ---


def _nothing() -> None:
    """For `settle`."""


def _speed(server: Server, options: Options) -> Iterator[Row]:
    leads = 200_000 if options.is_full else 20_000
    path = write_leads(server.folder / "speed.csv", leads)
    _compare_final_rows(server)

    with _empty(server, leads) as template:

        def seconds(load: Callable[[str, Path], None]) -> float:
            with _copy(server, template) as url:
                started = time.perf_counter()
                load(url, path)
                return time.perf_counter() - started

        yield from _speed_rows(seconds, options, leads)


def _speed_rows(
    seconds: Callable[[Callable[[str, Path], None]], float], options: Options, leads: int
) -> Iterator[Row]:
    figures = in_turn(
        {
            "import": lambda: seconds(import_ours),
            "floor": lambda: seconds(partial(import_floor, leads=leads)),
            "dry run": lambda: seconds(import_dry),
        },
        rounds=options.pairs,
        settle=_nothing,  # each run settles a database of its own
    )
    ours, floor, dry = (tuple(figures[name]) for name in ("import", "floor", "dry run"))
    found = Paired(floor, ours)  # seconds: the other way round for rates
    yield Row(
        name=f"import of {leads:,} rows, against COPY and INSERT ... SELECT without checks",
        value=found.ratio, low=found.low, high=found.high, gate=0.35, goal=0.6,
        is_higher_better=True, unit="x",
        note=f"{leads:,} leads with {MESSAGES} messages each over {BLOCKS * MESSAGES} days:"
        f" {leads / median(ours):,.0f} leads/s, floor {leads / median(floor):,.0f} leads/s",
    )  # fmt: skip
    found = Paired(dry, ours)
    yield Row(
        name="import --dry-run, against the import itself",
        value=found.ratio, low=found.low, high=found.high, gate=1.0, goal=1.0,
        is_higher_better=False, unit="x",
        note=f"time: {median(dry):.2f} s, the import {median(ours):.2f} s",
    )  # fmt: skip


def _compare_final_rows(server: Server) -> None:
    """The floor is one only if what it leaves is what we leave."""
    leads = 1000
    path = write_leads(server.folder / "small.csv", leads)
    found = []
    loads: tuple[Callable[[str, Path], None], ...] = (
        import_ours,
        partial(import_floor, leads=leads),
    )
    for load in loads:
        with _empty(server, leads) as template, _copy(server, template) as url:
            load(url, path)
            found.append(final_rows(url))
    assert found[0] == found[1], "the floor of the import leaves other rows"


def _memory(server: Server, options: Options) -> Row:
    few, many = 10_000, 1_000_000 if options.is_full else 100_000
    peaks = []
    for leads in (few, many):
        path = write_leads(server.folder / "memory.csv", leads)
        with _empty(server, leads) as template, _copy(server, template) as url:
            ended = commands.hyperdrip(url, "import", path, with_memory=True)
        peaks.append(ended.peak_mb)
    growth = peaks[1] - peaks[0]
    return Row(
        name=f"memory of an import, {few:,} to {many:,} rows",
        value=growth, low=None, high=None, gate=30.0, goal=30.0,
        is_higher_better=False, unit="MB",
        note=f"peak of the command's resident memory: {peaks[0]:.0f} MB and {peaks[1]:.0f} MB",
    )  # fmt: skip


def _worker_beside(server: Server, options: Options) -> Row:
    """A drain with the sender null, alone and while an import runs: alone, beside it, alone."""
    leads = 1_000_000 if options.is_full else 100_000
    due = 3_000_000 if options.is_full else 600_000
    path = write_leads(server.folder / "beside.csv", leads)
    with server.database("beside") as url:
        filling.fill(url, leads=due, messages=1, per_day=due)
        with psycopg.connect(url, autocommit=True) as conn:
            # Today has room for a quarter of the new leads, so that the import takes of it, too.
            filling.set_daily_max(conn, due + leads // BLOCKS)
        server.settle(url)
        worker = ("worker", "--drain", "--sender", "null", "--message-delay", "0", "--quiet")
        with (
            psycopg.connect(url, autocommit=True) as conn,
            commands.started(url, *worker) as running,
        ):
            today = filling.today_of(conn)
            _wait_until(lambda: _sent(conn, today) > 0)
            before = _rate(conn, today, lambda: time.sleep(ALONE_SECONDS))
            beside = _rate(conn, today, lambda: commands.hyperdrip(url, "import", path))
            has_outlived = running.is_running()
            after = _rate(conn, today, lambda: time.sleep(ALONE_SECONDS)) if has_outlived else None
    alone = before if after is None else (before + after) / 2
    ratio = beside / alone
    note = f"{alone:,.0f} messages/s alone, {beside:,.0f}/s while {leads:,} rows are imported"
    if not has_outlived:
        note += "; the queue was empty before the import ended, so its rate is a lower bound"
    return Row(
        name="a worker while an import runs, against the worker alone",
        value=ratio, low=None, high=None, gate=0.5, goal=0.5,
        is_higher_better=True, unit="x", note=note,
    )  # fmt: skip


def _sent(conn: psycopg.Connection, day: date) -> int:
    row = conn.execute("select sent from hyperdrip.quota_day where day = %s", [day]).fetchone()
    return int(row[0]) if row else 0


def _rate(conn: psycopg.Connection, day: date, work: Callable[[], object]) -> float:
    """Messages a second while something is done."""
    sent, started = _sent(conn, day), time.perf_counter()
    work()
    return (_sent(conn, day) - sent) / (time.perf_counter() - started)


def _wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"the worker sent nothing within {seconds:g} s")
        time.sleep(0.02)
