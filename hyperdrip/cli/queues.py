"""`queues`: what waits in PGMQ."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdrip.cli.importing import progress_of
from hyperdrip.cli.invocation import (
    Invocation,
    Json,
    Limit,
    check_limit,
    command,
    group,
    parse_day,
    parse_number,
)
from hyperdrip.cli.output import (
    coloured,
    count_of,
    envelope_json,
    print_json,
    print_line,
    print_table,
    pruned_json,
    queue_json,
    short_instant,
)
from hyperdrip.errors import HyperdripError

if TYPE_CHECKING:
    from hyperdrip.pruning import Pruned


def register(app: typer.Typer) -> None:
    """Add these commands."""
    queues = group(
        app, "queues", "The PGMQ queues, one for each sending day.", example="hyperdrip queues show"
    )
    command(queues, "show", example="hyperdrip queues show --all")(show_queues)
    command(queues, "prune", example="hyperdrip queues prune --older-than 90")(prune)
    command(queues, "peek", example="hyperdrip queues peek 2024-01-15 --limit 3")(peek)


def show_queues(
    run: Invocation,
    all_queues: Annotated[
        bool, typer.Option("--all", help="Every queue, not only open days and the coming 14.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the queues of the open days and the coming 14 days, as PGMQ counts them."""
    with run.open() as drip:
        found = drip.list_queues(is_all=all_queues)
    if json:
        print_json([queue_json(queue) for queue in found])
        return
    print_table(
        ("queue", "length", "visible", "total", "archived", "late"),
        [
            (
                queue.queue,
                queue.length,
                queue.visible,
                queue.total,
                queue.archived,
                coloured(_span(queue.late_seconds), "red") if queue.late_seconds else "",
            )
            for queue in found
        ],
        empty="No queues",
    )


def peek(
    run: Invocation,
    day: Annotated[
        date | None,
        typer.Argument(parser=parse_day, metavar="[DAY]", help="Default: today."),
    ] = None,
    limit: Limit = 10,
    json: Json = False,
) -> None:
    """Look at the first envelopes of a day's queue; nothing is hidden or changed."""
    check_limit(limit)
    with run.open() as drip:
        envelopes = drip.peek(day or drip.moment().today, limit=limit)
    if json:
        print_json([envelope_json(envelope) for envelope in envelopes])
        return
    print_table(
        ("envelope", "lead", "email", "#", "scheduled", "reads", "visible from"),
        [
            (
                envelope.envelope_id,
                envelope.body.get("leadId"),
                envelope.body.get("email"),
                envelope.body.get("messageNumber"),
                envelope.body.get("scheduledDate"),
                envelope.read_count,
                short_instant(envelope.visible_at),
            )
            for envelope in envelopes
        ],
        empty="The queue is empty",
    )


def prune(
    run: Invocation,
    older_than: Annotated[
        int,
        typer.Option(
            "--older-than",
            parser=parse_number,
            help="Days since a queue's day; 0 is every day before today.",
            metavar="DAYS",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be dropped; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Drop the queues of days that are long over, with their archives.

    Only of closed days. The ledger stays. Archives of other queues lose the old envelopes of
    messages that were moved or cancelled.
    """
    with run.open() as drip, progress_of(run) as on_progress:
        found = drip.prune_queues(
            older_than_days=older_than, is_dry_run=dry_run, on_progress=on_progress
        )
    if json:
        print_json({"dryRun": dry_run, **pruned_json(found)})
    else:
        _print_pruned(found, is_dry_run=dry_run)
    busy = sum(kept.is_busy for kept in found.kept)
    if busy:
        raise HyperdripError(f"{busy} queue(s) are in use by another session; prune again later")


def _print_pruned(found: "Pruned", *, is_dry_run: bool) -> None:
    for dropped in found.dropped:
        verb = "Would drop" if is_dry_run else "Dropped"
        print_line(f"{verb} {dropped.queue} with {count_of(dropped.archived, 'archived envelope')}")
    for kept in found.kept:
        print_line(f"Kept {kept.queue}: {kept.reason}")
    would = "would be " if is_dry_run else ""
    print_line(
        f"{count_of(len(found.dropped), 'queue')} {would}dropped, {len(found.kept)} kept;"
        f" {count_of(found.deleted, 'archived envelope')} of other queues {would}deleted"
    )


def _span(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    return f"{days} d {hours} h" if days else f"{hours} h {rest // 60} min"
