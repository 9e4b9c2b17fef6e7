"""`leads export`: leads as a spreadsheet or as JSON, read from the database as they are written."""

import csv
import json as jsons
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from hyperdrip.cli.invocation import Invocation, check_choice, command
from hyperdrip.cli.output import count_of, json_line, lead_json
from hyperdrip.cli.selection import Choice, choosing
from hyperdrip.columns import KNOWN, export_header, neutralise
from hyperdrip.errors import HyperdripError
from hyperdrip.models import Lead

if TYPE_CHECKING:
    from hyperdrip.client.selections import Export

FORMATS = ("csv", "jsonl")
# Of the JSON form of a lead: what says where it stands.
OWN = (
    "id",
    "campaign",
    "maxMessages",
    "messageCount",
    "lastSentAt",
    "nextScheduledFor",
    "status",
    "statusReason",
    "createdAt",
)


def register(leads: typer.Typer) -> None:
    """Add this command to the group of leads."""
    command(leads, "export", example="hyperdrip leads export --status ACTIVE --output leads.csv")(
        choosing(export, is_change=False)
    )


def export(
    run: Invocation,
    choice: Choice,
    format: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--format", help="csv or jsonl (one JSON value a line).", metavar="F")
    ] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Default: standard output.", metavar="FILE"),
    ] = None,
) -> None:
    """Export leads, or all of them: a row for each, a column for each field.

    In CSV, cells that a spreadsheet would take for a formula (they begin with = + - @, as phones
    may) get an apostrophe before them; importing the file takes it away again.
    """
    kind = "json" if choice.is_json else check_choice("--format", format, FORMATS)
    with (
        run.open() as drip,
        drip.export_leads(choice.selection) as found,
        _opened(output, with_mark=kind == "csv") as file,
    ):
        written = _counted(run, found, is_shown=output is not None)
        if kind == "csv":
            _write_csv(file, found, written)
        elif kind == "jsonl":
            file.writelines(json_line(lead_json(lead)) + "\n" for lead in written)
        else:
            _write_json(file, written)
    if not found.count:
        run.note("No lead matches")
    elif output is not None:
        run.note(f"Exported {count_of(found.count, 'lead')} to {str(output)!r}")


def _write_csv(file: IO[str], found: "Export", leads: Iterator[Lead]) -> None:
    writer = csv.writer(file)
    writer.writerow(export_header(found.field_names, OWN))
    for lead in leads:
        value = lead_json(lead)
        cells = [value[part] for part in KNOWN]
        cells += [lead.fields.get(name) for name in found.field_names]
        cells += [value[name] for name in OWN]
        writer.writerow([neutralise(_text(cell)) for cell in cells])


def _write_json(file: IO[str], leads: Iterator[Lead]) -> None:
    """One JSON value: a list, written piece by piece."""
    mark = "[\n"
    for lead in leads:
        file.write(mark + json_line(lead_json(lead)))
        mark = ",\n"
    file.write("[]\n" if mark == "[\n" else "\n]\n")


def _text(cell: Any) -> str:
    """A cell as text; what somebody put into fields with SQL as JSON."""
    if cell is None:
        return ""
    if isinstance(cell, bool | dict | list):
        return jsons.dumps(cell, ensure_ascii=False)
    return str(cell)


def _counted(run: Invocation, found: "Export", *, is_shown: bool) -> Iterator[Lead]:
    """The leads, with a bar on stderr that knows its end; only at a terminal."""
    if not is_shown or run.is_quiet or not sys.stderr.isatty():
        yield from found.leads
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(found.leads, total=found.count, description="Exporting")


@contextmanager
def _opened(path: Path | None, *, with_mark: bool) -> Iterator[IO[str]]:
    """Standard output, or a file that is there once it is whole.

    `with_mark`: a file begins with a byte order mark, without which Excel misreads it.

    Raises: HyperdripError when the file cannot be written.
    """
    if path is None or str(path) == "-":
        with suppress(AttributeError):
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        return
    encoding = "utf-8-sig" if with_mark else "utf-8"
    whole = path.resolve()
    is_plain = whole.is_file() or not whole.exists()
    part = whole.with_name(f".{whole.name}.{os.getpid()}") if is_plain else whole
    try:
        try:
            with part.open("w", encoding=encoding, newline="") as file:
                yield file
                file.flush()
                if is_plain:
                    os.fsync(file.fileno())
            if is_plain:
                part.replace(whole)
        finally:
            if is_plain:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise HyperdripError(
            f"--output {str(path)!r} cannot be written: {error.strerror or error}"
        ) from None
