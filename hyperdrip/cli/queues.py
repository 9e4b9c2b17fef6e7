"""`queues`: what waits in PGMQ."""

from datetime import date
from typing import Annotated

import typer

from hyperdrip.cli.invocation import (
    Invocation,
    Json,
    Limit,
    check_limit,
    command,
    group,
    parse_day,
)
from hyperdrip.cli.output import (
    coloured,
    envelope_json,
    print_json,
    print_table,
    queue_json,
    short_instant,
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    queues = group(
        app, "queues", "The PGMQ queues, one for each sending day.", example="hyperdrip queues show"
    )
    command(queues, "show", example="hyperdrip queues show --all")(show_queues)
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


def _span(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    return f"{days} d {hours} h" if days else f"{hours} h {rest // 60} min"
