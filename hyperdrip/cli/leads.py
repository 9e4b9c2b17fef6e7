"""`leads`: who is in a drip, and how far."""

from collections.abc import Sequence
from typing import Annotated

import typer

from hyperdrip.cli.completion import complete_campaign, complete_lead, complete_status
from hyperdrip.cli.invocation import (
    Invocation,
    Json,
    Limit,
    check_choice,
    check_limit,
    command,
    group,
)
from hyperdrip.cli.output import (
    lead_json,
    print_json,
    print_line,
    print_table,
    short_instant,
)
from hyperdrip.models import Lead, LeadStatus, Message

LeadKey = Annotated[
    str,
    typer.Argument(
        metavar="LEAD", help="lead_123, 123, or the address.", autocompletion=complete_lead
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    leads = group(
        app,
        "leads",
        "Who is in a drip, and how far.",
        example="hyperdrip leads show ada@example.com",
    )
    command(leads, "list", example="hyperdrip leads list --status ACTIVE")(list_leads)
    command(leads, "show", example="hyperdrip leads show ada@example.com")(show_lead)
    command(leads, "search", example="hyperdrip leads search northwind")(search_leads)
    # Late: these modules build on this one.
    from hyperdrip.cli import exporting, steering

    steering.register(leads)
    exporting.register(leads)


def list_leads(
    run: Invocation,
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            help=f"One of: {', '.join(LeadStatus)}.",
            metavar="S",
            autocompletion=complete_status,
        ),
    ] = None,
    campaign: Annotated[
        str | None,
        typer.Option(
            "--campaign",
            help="Only this campaign.",
            metavar="C",
            autocompletion=complete_campaign,
        ),
    ] = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List leads, oldest first."""
    check_limit(limit)
    wanted = check_choice("--status", status, [*LeadStatus]) if status else None
    with run.open() as drip:
        leads = drip.list_leads(status=wanted, campaign=campaign, limit=limit)
    _print_leads(leads, is_json=json, empty="No leads")


def search_leads(
    run: Invocation,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A piece of what you remember.")],
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """Find leads by a piece of their name, address, phone, notes or fields, in any letter case.

    Phones are compared by their digits.
    """
    check_limit(limit)
    if not text.strip():
        raise typer.BadParameter("the text to look for is empty")
    with run.open() as drip:
        leads = drip.search_leads(text.strip(), limit=limit)
    _print_leads(leads, is_json=json, empty="No lead matches")


def show_lead(run: Invocation, lead: LeadKey, json: Json = False) -> None:
    """Show a lead, and each of its messages."""
    with run.open() as drip:
        found = drip.require_lead(lead)
        messages = drip.list_lead_messages(found)
    if json:
        print_json(lead_json(found, messages))
    else:
        _print_lead(found, messages)


def _print_leads(leads: Sequence[Lead], *, is_json: bool, empty: str) -> None:
    if is_json:
        print_json([lead_json(lead) for lead in leads])
        return
    print_table(
        ("lead", "name", "email", "campaign", "messages", "next", "status"),
        [
            (
                lead.key,
                lead.name,
                lead.email,
                lead.campaign,
                f"{lead.message_count}/{lead.max_messages}",
                lead.next_scheduled_for,
                lead.status.value,
            )
            for lead in leads
        ],
        empty=empty,
    )


def _print_lead(lead: Lead, messages: list[Message]) -> None:
    facts = {
        "lead": lead.key,
        "name": lead.name,
        "email": lead.email,
        "phone": lead.phone,
        "notes": lead.notes,
        **{f"field {key}": value for key, value in lead.fields.items()},
        "campaign": f"{lead.campaign}, version {lead.campaign_version}, run {lead.run}",
        "status": " ".join(filter(None, (lead.status.value, lead.status_reason))),
        "messages": f"{lead.message_count}/{lead.max_messages}",
        "last sent": short_instant(lead.last_sent_at),
        "next": lead.next_scheduled_for,
        "added": short_instant(lead.created_at),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            print_line(f"{name + ':':<12} {value}")
    print_line("")
    print_table(
        ("#", "day", "state", "attempts", "sent", "error"),
        [
            (m.number, m.day, m.state.value, m.attempts, short_instant(m.sent_at), m.error)
            for m in messages
        ],
        empty="No messages",
    )
