"""add-lead."""

from datetime import date
from typing import Annotated

import typer

from hyperdrip.cli.completion import complete_campaign
from hyperdrip.cli.invocation import Invocation, Json, command, parse_day, parse_number
from hyperdrip.cli.output import count_of, lead_json, print_json, print_line

Campaign = Annotated[
    str,
    typer.Option(
        "--campaign",
        help="The campaign to enrol in.",
        metavar="C",
        autocompletion=complete_campaign,
    ),
]
MaxMessages = Annotated[
    int | None,
    typer.Option(
        "--max-messages",
        parser=parse_number,
        help="At most one for each step; default: all, without steps MAX_MESSAGES.",
        metavar="N",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this command."""
    command(
        app,
        "add-lead",
        example='hyperdrip add-lead --name "Ada Marlowe" --email ada@example.com',
    )(add_lead)


def add_lead(
    run: Invocation,
    name: Annotated[str, typer.Option("--name", help="The lead's name.", metavar="N")],
    email: Annotated[str, typer.Option("--email", help="The address to write to.", metavar="E")],
    phone: Annotated[str | None, typer.Option("--phone", metavar="P")] = None,
    notes: Annotated[str | None, typer.Option("--notes", metavar="T")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option("--field", help="A further field, as often as you like.", metavar="K=V"),
    ] = None,
    max_messages: MaxMessages = None,
    campaign: Campaign = "default",
    start: Annotated[
        date | None,
        typer.Option("--start", parser=parse_day, help="First day; default: today.", metavar="DAY"),
    ] = None,
    json: Json = False,
) -> None:
    """Add a lead: each of its messages gets its day at once."""
    # Of the door only what adds leads: the whole takes longer to import than a lead to add.
    from hyperdrip.client.leads import LeadMethods

    fields = dict(_split_field(text) for text in field or [])
    with LeadMethods.open(run.settings()) as drip:
        run.check_daily_max(drip)
        lead = drip.add_lead(
            name=name,
            email=email,
            phone=phone,
            notes=notes,
            fields=fields,
            max_messages=max_messages,
            campaign=campaign,
            start=start,
        )
        messages = drip.list_lead_messages(lead)
    if json:
        print_json(lead_json(lead, messages))
    else:
        days = ", ".join(str(message.day) for message in messages)
        print_line(f"Added {lead.key} {lead.email}: {count_of(len(messages), 'message')} on {days}")


def _split_field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--field {text!r} is not of the form NAME=VALUE")
    return name, value
