"""`messages`: the ledger."""

from typing import Annotated

import typer

from hyperdrip.cli.completion import complete_lead, complete_state
from hyperdrip.cli.invocation import (
    DayOption,
    Invocation,
    Json,
    Limit,
    check_choice,
    check_limit,
    command,
    group,
    parse_number,
)
from hyperdrip.cli.leads import LeadKey
from hyperdrip.cli.output import (
    message_details_json,
    message_json,
    print_json,
    print_line,
    print_table,
    short_instant,
)
from hyperdrip.models import MessageState


def register(app: typer.Typer) -> None:
    """Add these commands."""
    messages = group(
        app,
        "messages",
        "The ledger: every message, its day and its state.",
        example="hyperdrip messages list --state unknown",
    )
    command(messages, "list", example="hyperdrip messages list --state unknown")(list_messages)
    command(messages, "show", example="hyperdrip messages show lead_1 2")(show_message)


def list_messages(
    run: Invocation,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            help=f"One of: {', '.join(MessageState)}.",
            metavar="S",
            autocompletion=complete_state,
        ),
    ] = None,
    day: DayOption = None,
    lead: Annotated[
        str | None,
        typer.Option(
            "--lead", help="Only this lead.", metavar="LEAD", autocompletion=complete_lead
        ),
    ] = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List messages by day."""
    check_limit(limit)
    wanted = check_choice("--state", state, [*MessageState]) if state else None
    with run.open() as drip:
        messages = drip.list_messages(state=wanted, day=day, lead=lead, limit=limit)
    if json:
        print_json([message_json(message) for message in messages])
        return
    print_table(
        ("day", "lead", "#", "email", "state", "attempts", "sender", "sent", "error"),
        [
            (
                message.day,
                f"lead_{message.lead_id}",
                message.number,
                message.email,
                message.state.value,
                message.attempts,
                message.sender,
                short_instant(message.sent_at),
                message.error,
            )
            for message in messages
        ],
        empty="No messages",
    )


def show_message(
    run: Invocation,
    lead: LeadKey,
    number: Annotated[
        int,
        typer.Argument(
            parser=parse_number,
            metavar="NUMBER",
            help="1 for the first message.",
        ),
    ],
    json: Json = False,
) -> None:
    """Show one message of a lead's present run."""
    with run.open() as drip:
        message = drip.require_message(lead, number)
    value = message_details_json(message)
    if json:
        print_json(value)
        return
    for name, cell in value.items():
        if cell is not None:
            print_line(f"{name + ':':<15} {cell}")
