"""reconcile: settling what is unknown."""

import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo

import typer

from hyperdrip.cli.completion import complete_lead
from hyperdrip.cli.invocation import Invocation, Json, command, parse_number
from hyperdrip.cli.output import print_json, print_line
from hyperdrip.errors import InvalidDataError, SettingsError
from hyperdrip.lead_values import parse_message_key
from hyperdrip.models import MessageKey

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip
    from hyperdrip.reconciling import Reconciled

Action = Literal["sent", "resend", "cancel"]


def register(app: typer.Typer) -> None:
    """Add this command."""
    command(app, "reconcile", example="hyperdrip reconcile lead_5 2 --sent")(reconcile)


def reconcile(
    run: Invocation,
    lead: Annotated[
        str | None,
        typer.Argument(help="Only this lead's.", metavar="[LEAD]", autocompletion=complete_lead),
    ] = None,
    number: Annotated[
        int | None,
        typer.Argument(parser=parse_number, help="Only this message.", metavar="[NUMBER]"),
    ] = None,
    sent: Annotated[bool, typer.Option("--sent", help="They were sent: mark them so.")] = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="They were not: send them again.")
    ] = False,
    cancel: Annotated[
        bool,
        typer.Option("--cancel", help="They were not, and their leads get nothing more."),
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="All that are unknown.")] = False,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", help="Handed over before this day or instant.", metavar="DAY|INSTANT"
        ),
    ] = None,
    sender: Annotated[
        str | None,
        typer.Option(
            "--sender",
            help="Only this sender's. With console and --resend also what it marked as sent.",
            metavar="S",
        ),
    ] = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Only these: a file, or - for standard input, with lead_5-1-2 (lead, run, number)"
            " a line.",
            metavar="FILE|-",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Settle messages of unknown fate, once you know: mark them as sent, or send them again.

    Those of leads that were stopped or failed, and of earlier runs, cannot be sent again: --cancel.
    Without any of these it only says how many there are.
    """
    given = {"sent": sent, "resend": resend, "cancel": cancel}
    chosen = [name for name, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise typer.BadParameter(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    action: Action | None = "sent" if sent else "resend" if resend else "cancel" if cancel else None
    if action and not (lead or everything or before or sender or from_file):
        raise typer.BadParameter("say which: LEAD, --all, --before, --sender, or --from")
    keys = _read_keys(from_file) if from_file else None
    with run.open() as drip:

        def settle(*, is_dry_run: bool) -> "Reconciled":
            return drip.reconcile(
                action=action or "sent",
                lead=lead,
                number=number,
                before=_instant(drip, before) if before else None,
                sender=sender,
                keys=keys,
                is_dry_run=is_dry_run,
            )

        result = settle(is_dry_run=True)
        if action and result.messages and not dry_run:
            if not yes:
                if not run.can_ask:
                    raise SettingsError(
                        f"{_describe(result, 'would be', action)}; reconcile asks before it"
                        " does that and there is no terminal to ask at; to say it: --yes"
                    )
                run.note(_describe(result, "will be", action))
                run.confirm("Go on?")
            result = settle(is_dry_run=False)
    if json:
        print_json(_as_json(result, action, is_dry_run=dry_run))
    elif not action:
        print_line(
            _count(result)
            + (
                " unknown; settle with --sent, --resend or --cancel, see: hyperdrip"
                " messages list --state unknown"
                if result.messages
                else " unknown"
            )
        )
    else:
        print_line(_describe(result, "would be" if dry_run else "were", action))
    others = len(set(keys or ())) - result.messages - len(result.left_out)
    if action and others > 0:
        run.note(
            f"{others} of the messages in {from_file} are not to be settled, and stay as they are"
        )
    if action != "sent":
        for (lead_id, _, left), why in list(result.left_out.items())[:10]:
            run.note(f"left out: message {left} of lead_{lead_id}: {why}")


def _count(result: "Reconciled") -> str:
    return f"{result.messages} messages of {result.leads} leads"


DONE = {"sent": "marked as sent", "resend": "planned again", "cancel": "cancelled"}


def _describe(result: "Reconciled", verb: str, action: Action) -> str:
    text = f"{_count(result)} {verb} {DONE[action]}"
    if result.planned:
        text += f", until {max(result.planned)}"
    if result.left_out:
        text += f"; {len(result.left_out)} left out"
    return text


def _as_json(result: "Reconciled", action: Action | None, *, is_dry_run: bool) -> dict[str, object]:
    return {
        "action": action,
        "dryRun": is_dry_run or not action,
        "messages": result.messages,
        "leads": result.leads,
        "firstDay": min(result.planned, default=None),
        "lastDay": max(result.planned, default=None),
        "leftOut": [
            {"lead": f"lead_{lead_id}", "run": run, "number": number, "reason": why}
            for (lead_id, run, number), why in result.left_out.items()
        ],
    }


def _instant(drip: "Hyperdrip", text: str) -> datetime:
    """A day (its start, in the database's zone) or an instant."""
    try:
        if len(text) == len("2024-01-15"):
            day = date.fromisoformat(text)
            zone = ZoneInfo(drip.instance().time_zone)
            return datetime.combine(day, datetime.min.time(), zone)
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found
    except ValueError:
        pass
    raise typer.BadParameter(
        f"--before {text!r} is no day such as 2024-01-15 and no instant such as"
        " 2024-01-15T09:00:00Z"
    )


def _read_keys(name: str) -> tuple[MessageKey, ...]:
    if name == "-" and sys.stdin is None:
        raise InvalidDataError("standard input is closed; name a file")
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidDataError(f"--from {name!r} cannot be read: {why}") from None
    keys = []
    for place, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        key = parse_message_key(line)
        if key is None:
            raise InvalidDataError(
                f"line {place} of {name} is {line[:40]!r}; write lead_5-1-2 for message 2 of run 1"
                " of lead_5"
            )
        keys.append(key)
    return tuple(keys)
