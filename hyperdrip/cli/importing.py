"""import, and import undo."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from hyperdrip.cli.adding import Campaign, MaxMessages
from hyperdrip.cli.invocation import Invocation, Json, check_choice, command, parse_day
from hyperdrip.cli.output import count_of, import_json, print_json, print_line, print_table
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import ImportResult

EXISTING = ("skip", "update", "enroll")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "import", example="hyperdrip import leads.csv --errors rejected.csv")(import_leads)


def import_leads(
    run: Invocation,
    file: Annotated[
        list[str],
        typer.Argument(metavar="FILE|- | undo ID", help="CSV or Excel; - is standard input."),
    ],
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help='Which column is what: --map email="E-Mail" --map name="First"+"Last".',
            metavar="WHAT=COLUMN",
        ),
    ] = None,
    existing: Annotated[
        str,
        typer.Option("--existing", help="Leads that are there: skip, update, enroll.", metavar="E"),
    ] = "skip",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="Write rows that were not taken here.", metavar="FILE.csv"),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Default: detected.", metavar="NAME")
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option("--delimiter", help="A character, or tab; default: detected.", metavar="C"),
    ] = None,
    max_messages: MaxMessages = None,
    campaign: Campaign = "default",
    start: Annotated[
        date | None,
        typer.Option("--start", parser=parse_day, help="First day; default: today.", metavar="DAY"),
    ] = None,
    json: Json = False,
) -> None:
    """Add the leads of a CSV or Excel file, all in one transaction.

    The columns name, email, phone and notes are known in any letter case; --map names others; the
    rest become fields. Rows that are there already are skipped, rows that cannot be taken are
    named; the good rows stay. `import undo ID` takes back what has not been sent.
    """
    if len(file) == 2 and file[0] == "undo":
        _undo(run, file[1], is_json=json)
        return
    if len(file) != 1:
        raise typer.BadParameter("name one file, - for standard input, or: undo ID")
    existing = check_choice("--existing", existing, EXISTING)
    from hyperdrip.columns import parse_mapping
    from hyperdrip.importing import ImportOptions
    from hyperdrip.sheets import can_delimit

    delimiter = "\t" if delimiter in ("\\t", "tab") else delimiter
    if delimiter is not None and not can_delimit(delimiter):
        raise typer.BadParameter(f"--delimiter {delimiter!r} is not one character between cells")
    options = ImportOptions(
        mapping=parse_mapping(mapping or []),
        existing=existing,
        encoding=encoding,
        delimiter=delimiter,
        errors=errors,
        is_dry_run=dry_run,
    )
    with run.open_planner() as drip, progress_of(run) as on_progress:
        result = drip.import_file(
            file[0],
            options,
            max_messages=max_messages,
            campaign=campaign,
            start=start,
            on_progress=on_progress,
        )
    for line in (*result.notes, *result.left_out):
        run.note(line)
    if json:
        print_json(import_json(result))
    else:
        _print_result(result)
    if result.rejected:
        where = f", see {str(errors)!r}" if errors else "; --errors FILE.csv writes them to a file"
        raise InvalidDataError(
            f"{count_of(result.rejected, 'row')} of {file[0]!r} could not be taken{where}; mend"
            " them and import again: what is there is skipped"
        )


def _undo(run: Invocation, text: str, *, is_json: bool) -> None:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise typer.BadParameter(f"{text!r} is no number of an import")
    with run.open() as drip:
        undone = drip.undo_import(int(text))
    if is_json:
        print_json(
            {
                "importId": undone.import_id,
                "removed": undone.removed,
                "stopped": undone.stopped,
            }
        )
    else:
        print_line(
            f"Import {undone.import_id} undone: {count_of(undone.removed, 'lead')} removed,"
            f" {count_of(undone.stopped, 'lead')} stopped that had a message already"
        )


def _print_result(result: ImportResult) -> None:
    name = "Dry run" if result.import_id is None else f"Import {result.import_id}"
    parts = [
        f"{count_of(result.read, 'row')} read",
        f"{count_of(result.added, 'lead')} added",
        f"{result.updated} updated" if result.updated else "",
        f"{result.enrolled} enrolled again" if result.enrolled else "",
        f"{count_of(result.duplicates, 'duplicate')} skipped",
        f"{result.suppressed} suppressed" if result.suppressed else "",
        f"{result.rejected} rejected",
        f"planned from {result.first_day} to {result.last_day}" if result.first_day else "",
    ]
    print_line(f"{name}: {', '.join(part for part in parts if part)}")
    if result.import_id is None and result.planned:
        print_table(
            ("day", "messages"), [(day, count) for day, count in result.planned.items()], empty=""
        )


@contextmanager
def progress_of(run: Invocation) -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr that knows its end; only at a terminal."""
    if run.is_quiet or not sys.stderr.isatty():
        yield lambda _what, _part: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading", total=1.0)
        yield lambda what, part: bar.update(task, description=what, completed=part)
