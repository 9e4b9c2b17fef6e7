"""status and explain: how things stand, and why."""

from typing import TYPE_CHECKING, Any

import typer

from hyperdrip.cli.invocation import Invocation, Json, command
from hyperdrip.cli.leads import LeadKey
from hyperdrip.cli.output import coloured, console, instant, print_json, print_line, quota_day_json

if TYPE_CHECKING:
    from hyperdrip.overview import Overview


def register(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "status", example="hyperdrip status")(show_status)
    command(app, "explain", example="hyperdrip explain ada@example.com")(explain_lead)


def show_status(run: Invocation, json: Json = False) -> None:
    """Show on one screen how today stands, who works, and what is wrong."""
    with run.open_planner() as drip:
        found = drip.overview()
    if json:
        print_json(_overview_json(found))
        return
    today = found.today
    print_line(f"{today.day} ({found.instance.time_zone}), {found.instance.environment}")
    print_line(f"today:    {today.sent} sent, {today.scheduled} to go, capacity {today.capacity}")
    print_line(
        f"planned:  next on {found.next_day or 'no day'}, last on {found.last_day or 'no day'}"
    )
    print_line(f"leads:    {_list(found.leads)}")
    print_line(f"messages: {_list(found.messages)}")
    for worker in found.workers:
        print_line(
            f"worker:   {worker.sender} on {worker.host}, pid {worker.pid}, seen"
            f" {worker.seen_seconds} s ago"
        )
    page = console()
    for warning in found.warnings:
        page.print(coloured(f"WARNING: {warning}", "bold red"), soft_wrap=True)
    if not found.warnings:
        page.print(coloured("all is well", "green"))


def explain_lead(run: Invocation, lead: LeadKey, json: Json = False) -> None:
    """Say the one rule that decides what happens to a lead today, with the numbers it read."""
    with run.open() as drip:
        found = drip.explain(lead)
    if json:
        numbers = {
            key: instant(value) if hasattr(value, "tzinfo") else value
            for key, value in found.numbers.items()
        }
        print_json({"lead": found.lead, "rule": found.rule, "text": found.text, "numbers": numbers})
    else:
        print_line(f"{found.lead}: {found.text}")


def _overview_json(found: "Overview") -> dict[str, Any]:
    return {
        "environment": found.instance.environment,
        "timeZone": found.instance.time_zone,
        "paused": found.instance.is_paused,
        "fenced": found.fence.is_closed,
        "today": quota_day_json(found.today),
        "nextDay": found.next_day,
        "lastDay": found.last_day,
        "openDays": list(found.open_days),
        "leads": found.leads,
        "messages": found.messages,
        "workers": [
            {
                "host": worker.host,
                "pid": worker.pid,
                "sender": worker.sender,
                "startedAt": instant(worker.started_at),
                "seenSeconds": worker.seen_seconds,
            }
            for worker in found.workers
        ],
        "warnings": list(found.warnings),
    }


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
