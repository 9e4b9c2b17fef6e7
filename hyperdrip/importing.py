"""Importing a spreadsheet of leads: staged, decided, planned once, committed once.

1. Rows are read, checked and copied into a staging table; those that cannot be taken are left out.
2. Under the planner lock the database decides what becomes of each row, and the plan is made.
3. Leads, ledger and envelopes are written from the staging table, day by day; quota last.

A failure anywhere leaves nothing. Memory stays flat: rows pass through, and are never held.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from hyperdrip import leads, queue, quota, staging
from hyperdrip.clock import Clock
from hyperdrip.columns import Columns, match
from hyperdrip.errors import InvalidDataError, NoRoomError
from hyperdrip.fault_file import FaultFile
from hyperdrip.lead_values import check_new_lead
from hyperdrip.models import ImportResult, NewLead
from hyperdrip.planning import Block
from hyperdrip.scheduler import (
    Enrolment,
    Moment,
    check_enrolment,
    create_queues,
    in_planner_transaction,
    pin,
    plan_leads,
    read_moment,
    require_queues,
)
from hyperdrip.sheets import STRANGE_SPACES, Sheet, open_sheet

ROWS_PER_SEND = 20_000
LONGEST_VALUE = 2_000

Progress = Callable[[str, float], None]  # what is being done, and how far: 0 to 1


@dataclass(frozen=True)
class ImportOptions:
    """How a file is imported.

    `existing`: what becomes of rows whose lead is there already: `skip`, `update` (name, phone,
    notes, fields), or `enroll` (begin again, for leads that have ended). `errors`: where rows that
    were not taken are written.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    existing: str = "skip"
    encoding: str | None = None
    delimiter: str | None = None
    errors: Path | None = None
    is_dry_run: bool = False


def import_file(
    conn: psycopg.Connection,
    clock: Clock,
    source: str,
    enrolment: Enrolment,
    options: ImportOptions,
    *,
    on_progress: Progress = lambda _what, _part: None,
) -> ImportResult:
    """Add the leads of a CSV or Excel file (`-`: standard input) in one transaction.

    Raises: InvalidDataError when it is no such file; NoRoomError; HyperdripError when the error
    file cannot be written. In all these cases nothing was taken.
    """
    moment = read_moment(conn, clock)
    check_enrolment(pin(conn, enrolment)[1], moment)
    batch = staging.begin(conn)
    try:
        with open_sheet(source, encoding=options.encoding, delimiter=options.delimiter) as sheet:
            columns = match(source, sheet.header, options.mapping)
            with FaultFile(options.errors, source, sheet.header) as faults:
                rows = _staged_rows(sheet, columns, faults, on_progress)
                staged = staging.copy_rows(conn, batch, rows)
                if not options.is_dry_run:
                    _prepare_queues(conn, moment, enrolment, batch, existing=options.existing)
                start = replace(enrolment, import_source=_name_of(source))
                job = _Job(
                    conn, batch, start, options, faults, columns, staged, sheet.notes, on_progress
                )
                return in_planner_transaction(conn, clock, job.run, is_dry_run=options.is_dry_run)
    finally:
        staging.clear(conn, batch)


def _name_of(source: str) -> str:
    """What an import is called; the name of a file may be no text at all."""
    name = "standard input" if source == "-" else Path(source).name
    return name.encode(errors="backslashreplace").decode()


def _staged_rows(
    sheet: Sheet, columns: Columns, faults: FaultFile, on_progress: Progress
) -> Iterator[tuple[object, ...]]:
    for line, cells in sheet.rows:
        if line % 100 == 0:
            on_progress("Reading", sheet.position / max(1, sheet.size))
        try:
            lead = _check(sheet, columns, cells)
        except InvalidDataError as error:
            name, places = columns.describe(error.column)
            value = "+".join(cells[place] for place in places)
            if len(cells) != len(sheet.header):  # what does not fit the columns is not lost
                value = ",".join(cells)[:LONGEST_VALUE]
            faults.reject(line, cells, column=name, value=value, reason=str(error))
            continue
        kept = Jsonb(cells) if faults.is_wanted else None
        yield line, lead.name, lead.email, lead.phone, lead.notes, Jsonb(dict(lead.fields)), kept


def _check(sheet: Sheet, columns: Columns, cells: Sequence[str]) -> NewLead:
    if len(cells) != len(sheet.header):
        end = "" if len(cells) > len(sheet.header) else ", and the file ends: it seems cut off"
        raise InvalidDataError(f"{len(cells)} cells where the header has {len(sheet.header)}{end}")
    parts = {part: STRANGE_SPACES.sub(" ", text) for part, text in columns.read(cells).items()}
    return check_new_lead(
        name=parts["name"],
        email=parts["email"],
        phone=parts.get("phone"),
        notes=parts.get("notes"),
        fields=columns.read_fields(cells),
    )


def _prepare_queues(
    conn: psycopg.Connection,
    moment: Moment,
    enrolment: Enrolment,
    batch: int,
    *,
    existing: str,
) -> None:
    """Create the queues of the days that the rows may need, before the transaction begins.

    A guess: the transaction finds out again what is missing. An empty queue harms nobody.
    """
    rows = staging.count_unknown(conn, batch, existing=existing)
    if not rows:
        return
    version, enrolment = pin(conn, enrolment)
    try:
        blocks = plan_leads(conn, moment, enrolment, count=rows, version=version)
    except NoRoomError:
        return  # fewer rows may fit; if not, it is said then
    names = {queue.name_of(moment.instance.environment, day) for b in blocks for day in b.days}
    create_queues(conn, queue.list_missing(conn, names))


@dataclass(frozen=True)
class _Job:
    """Everything between the staged rows and the commit."""

    conn: psycopg.Connection
    batch: int
    enrolment: Enrolment
    options: ImportOptions
    faults: FaultFile
    columns: Columns
    staged: int
    notes: tuple[str, ...]
    on_progress: Progress

    def run(self, moment: Moment) -> ImportResult:
        """Decide, plan and write; runs inside a planner transaction."""
        conn = self.conn
        version, enrolment = pin(conn, self.enrolment)
        self.on_progress("Deciding", 0.0)
        fates = staging.decide(
            conn,
            self.batch,
            existing=self.options.existing,
            is_dry_run=self.options.is_dry_run,
        )
        count = fates["new"] + fates["enroll"]
        blocks = plan_leads(conn, moment, enrolment, count=count, version=version) if count else []
        by_day = _by_day(blocks)
        require_queues(conn, moment, by_day)
        for row in staging.list_left_out(conn, self.batch):
            self.faults.leave_out(row, self.columns)
        self.faults.sync()
        result = self._result(fates, by_day)
        if not self.options.is_dry_run:
            result = self._write(moment, enrolment, by_day, version=version, result=result)
        self.faults.publish()
        return result

    def _write(
        self,
        moment: Moment,
        enrolment: Enrolment,
        by_day: Mapping[date, Sequence[tuple[int, int, int]]],
        *,
        version: int,
        result: ImportResult,
    ) -> ImportResult:
        conn = self.conn
        assert enrolment.import_source is not None
        import_id = leads.insert_import(conn, source=enrolment.import_source)
        self.on_progress("Writing leads", 0.0)
        staging.write_leads(
            conn,
            self.batch,
            import_id=import_id,
            campaign=enrolment.campaign,
            campaign_version=version,
            max_messages=enrolment.max_messages,
            start_on=enrolment.start,
            now=moment.now,
        )
        total = sum(_count(found) for found in by_day.values())
        done = 0
        for day in sorted(by_day):
            for chunk in _chunks(by_day[day]):
                queue.send_imported(
                    conn,
                    queue.name_of(moment.instance.environment, day),
                    chunk,
                    batch=self.batch,
                    campaign=enrolment.campaign,
                    campaign_version=version,
                    with_email=enrolment.with_email,
                )
                done += _count(chunk)
                self.on_progress("Planning", done / total)
        quota.apply(conn, {day: quota.Change(reserved=_count(b)) for day, b in by_day.items()})
        result = replace(result, import_id=import_id)
        leads.finish_import(conn, result)
        return result

    def _result(
        self,
        fates: Mapping[str, int],
        by_day: Mapping[date, Sequence[tuple[int, int, int]]],
    ) -> ImportResult:
        planned = {day: _count(by_day[day]) for day in sorted(by_day)}
        return ImportResult(
            import_id=None,
            read=self.staged + self.faults.rejected,
            added=fates["new"],
            updated=fates["update"],
            duplicates=fates["duplicate"],
            rejected=self.faults.rejected + fates["rejected"],
            suppressed=fates["suppressed"],
            enrolled=fates["enroll"],
            first_day=min(planned, default=None),
            last_day=max(planned, default=None),
            planned=planned,
            notes=self.notes,
            left_out=self.faults.shown,
        )


def _by_day(blocks: Sequence[Block]) -> dict[date, list[tuple[int, int, int]]]:
    """Which positions have which message on a day: (first, last, number)."""
    by_day: dict[date, list[tuple[int, int, int]]] = defaultdict(list)
    first = 1
    for block in blocks:
        last = first + block.leads - 1
        for number, day in enumerate(block.days, start=1):
            by_day[day].append((first, last, number))
        first = last + 1
    return by_day


def _count(blocks: Sequence[tuple[int, int, int]]) -> int:
    return sum(last - first + 1 for first, last, _ in blocks)


def _chunks(
    blocks: Sequence[tuple[int, int, int]],
) -> Iterator[list[tuple[int, int, int]]]:
    """The same rows in portions of at most ROWS_PER_SEND."""
    chunk: list[tuple[int, int, int]] = []
    room = ROWS_PER_SEND
    for first, last, number in blocks:
        start = first
        while start <= last:
            end = min(last, start + room - 1)
            chunk.append((start, end, number))
            room -= end - start + 1
            start = end + 1
            if not room:
                yield chunk
                chunk, room = [], ROWS_PER_SEND
    if chunk:
        yield chunk
