"""`leads pause|resume|stop|enroll|move|erase`: done to one lead or to many at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperdrip.cli.adding import Campaign, MaxMessages
from hyperdrip.cli.invocation import Invocation, command, parse_day, parse_number
from hyperdrip.cli.output import count_of, print_json, print_line, print_table
from hyperdrip.cli.selection import Choice, choosing
from hyperdrip.errors import ConflictError, SettingsError
from hyperdrip.models import Changed, Selection

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip

Reason = Annotated[
    str | None, typer.Option("--reason", help="Why; shown with the status.", metavar="TEXT")
]
SHOWN = 20
# What somebody writes to say that there is no way back: it is stored as it stands. Any other reason
# is one by hand, after which a lead may be enrolled again.
FINAL_REASONS = ("unsubscribed", "replied", "bounced", "complained", "suppressed")


@dataclass(frozen=True)
class Verb:
    """How a command is spoken of; `takes`: what becomes of the messages."""

    name: str
    past: str
    takes: str
    is_final: bool = False


PAUSE = Verb("pause", "paused", "taken off the calendar")
RESUME = Verb("resume", "resumed", "planned")
STOP = Verb("stop", "stopped", "cancelled")
ENROLL = Verb("enroll", "enrolled", "planned")
MOVE = Verb("move", "moved", "moved")
ERASE = Verb("erase", "erased", "cancelled", is_final=True)


def register(leads: typer.Typer) -> None:
    """Add these commands to the group of leads."""
    add = command
    add(leads, "pause", example="hyperdrip leads pause --where company=Northwind --yes")(
        choosing(pause)
    )
    add(leads, "resume", example="hyperdrip leads resume --status PAUSED --dry-run")(
        choosing(resume)
    )
    add(leads, "stop", example='hyperdrip leads stop ada@example.com --reason "asked by phone"')(
        choosing(stop)
    )
    add(leads, "enroll", example="hyperdrip leads enroll --status COMPLETED --start 2024-03-01")(
        choosing(enroll, campaign="--from-campaign")
    )
    add(leads, "move", example="hyperdrip leads move lead_1 lead_2 --to 2024-02-01 --yes")(
        choosing(move)
    )
    add(leads, "erase", example="hyperdrip leads erase ada@example.com")(choosing(erase))


def pause(
    run: Invocation,
    choice: Choice,
    reason: Reason = None,
) -> None:
    """Pause leads: their days are freed for others until they are resumed."""
    _apply(
        run,
        choice,
        PAUSE,
        lambda drip, which: drip.pause_leads(
            which, reason=(reason or "").strip() or None, is_dry_run=choice.is_dry_run
        ),
    )


def resume(run: Invocation, choice: Choice) -> None:
    """Resume paused leads: what is left of their messages is planned from today on.

    Leads that are under way come before those that have not begun.
    """
    _apply(
        run,
        choice,
        RESUME,
        lambda drip, which: drip.resume_leads(which, is_dry_run=choice.is_dry_run),
    )


def stop(
    run: Invocation,
    choice: Choice,
    reason: Reason = None,
) -> None:
    """Stop leads for good: what is planned is cancelled, and its days are freed.

    A message that is being sent is finished. A lead stopped by hand may be enrolled again, one with
    the reason unsubscribed, replied, bounced or complained never. With unsubscribed its address is
    suppressed, too, as by `hyperdrip unsubscribe`.
    """
    given = (reason or "").strip()
    stored = f"by hand: {given}" if given else "by hand"
    if given.lower() in FINAL_REASONS:
        stored = given.lower()
    _apply(
        run,
        choice,
        STOP,
        lambda drip, which: drip.stop_leads(which, reason=stored, is_dry_run=choice.is_dry_run),
    )


def enroll(
    run: Invocation,
    choice: Choice,
    campaign: Campaign = "default",
    max_messages: MaxMessages = None,
    start: Annotated[
        date | None,
        typer.Option("--start", parser=parse_day, help="First day; default: today.", metavar="DAY"),
    ] = None,
) -> None:
    """Begin a new run for leads that have ended, planned behind each other like new leads.

    That is for leads that are COMPLETED or FAILED, or that were stopped by hand, with an undone
    import, or by a suppression that was removed. Suppressed and unsubscribed ones are never
    enrolled again.
    """
    _apply(
        run,
        choice,
        ENROLL,
        lambda drip, which: drip.enroll_leads(
            which,
            campaign=campaign,
            max_messages=max_messages,
            start=start,
            is_dry_run=choice.is_dry_run,
        ),
    )


def move(
    run: Invocation,
    choice: Choice,
    to: Annotated[
        date | None,
        typer.Option("--to", parser=parse_day, help="The next message goes here.", metavar="DAY"),
    ] = None,
    by: Annotated[
        int | None,
        typer.Option(
            "--by",
            parser=parse_number,
            help="Each message goes this many days further; below 0: nearer.",
            metavar="N",
        ),
    ] = None,
) -> None:
    """Move what is planned for leads to other days; messages of others keep their days.

    With --to, the next message goes to the first day with room on or after DAY, and the others
    follow with their delays. With --by, each goes N days further, never before today, and never too
    close to the one before.
    """
    if (to is None) == (by is None):
        raise typer.BadParameter("say where to: either --to DAY or --by N")
    _apply(
        run,
        choice,
        MOVE,
        lambda drip, which: drip.move_leads(
            which, to=to, by_days=by or 0, is_dry_run=choice.is_dry_run
        ),
    )


def erase(run: Invocation, choice: Choice) -> None:
    """Erase leads for good: nothing is left that says who they were, and there is no way back.

    What is planned is cancelled. The ledger keeps their ids, and a keyed hash of the address makes
    sure that it is never added again. A lead with a message that is being sent is refused.
    """
    _apply(
        run,
        choice,
        ERASE,
        lambda drip, which: drip.erase_leads(which, is_dry_run=choice.is_dry_run),
    )


def _apply(
    run: Invocation,
    choice: Choice,
    verb: Verb,
    work: "Callable[[Hyperdrip, Selection], Changed]",
) -> None:
    with run.open_planner() as drip:
        lead_ids = tuple(drip.select_leads(choice.selection))
        changed = Changed()
        if lead_ids:
            if not choice.is_dry_run:
                _confirm(run, choice, verb, len(lead_ids))
            with run.busy(verb.name):
                # Exactly those that were counted, whoever came in meanwhile.
                changed = work(drip, Selection(lead_ids=lead_ids))
    if choice.is_json:
        print_json(_changed_json(choice, len(lead_ids), changed))
    elif not lead_ids:
        print_line("No lead matches")
    else:
        _print_changed(run, choice, verb, changed)
    if changed.refused and not choice.is_dry_run:
        raise ConflictError(
            f"{_name(changed.refused)}; not {verb.past}, try again once it is settled"
        )


def _confirm(run: Invocation, choice: Choice, verb: Verb, count: int) -> None:
    """Ask before more than one lead is changed, and before anything that has no way back.

    Raises: SettingsError where nobody can be asked; HyperdripError when the answer is no.
    """
    if choice.is_yes or (count == 1 and not verb.is_final):
        return
    if not run.can_ask or choice.reads_stdin:
        raise SettingsError(
            f"this would {verb.name} {count_of(count, 'lead')} and there is no terminal to ask at;"
            " to go on: --yes (--dry-run says what would be done)"
        )
    question = f"{verb.name.capitalize()} {count_of(count, 'lead')}"
    if verb.is_final:
        question += " for good"
    run.confirm(f"{question}?")


def _print_changed(run: Invocation, choice: Choice, verb: Verb, changed: Changed) -> None:
    who = count_of(len(changed.lead_ids), "lead")
    parts = [f"Dry run: would {verb.name} {who}" if choice.is_dry_run else f"{verb.past} {who}"]
    if changed.messages:
        parts.append(f"{count_of(changed.messages, 'message')} {verb.takes}{_span(changed)}")
    if changed.displaced:
        parts.append(f"{count_of(changed.displaced, 'message')} of others make room")
    kept = {**changed.left_out, **changed.refused}
    if kept:
        parts.append("1 lead left as it is" if len(kept) == 1 else f"{len(kept)} left as they are")
    line = "; ".join(parts)
    print_line(line[:1].upper() + line[1:])
    if choice.is_dry_run and changed.planned:
        print_table(("day", "messages"), sorted(changed.planned.items()), empty="")
    for lead_id in sorted(kept)[:SHOWN]:
        run.note(f"lead_{lead_id} {kept[lead_id]}")
    if len(kept) > SHOWN:
        run.note(f"and {len(kept) - SHOWN} more")


def _span(changed: Changed) -> str:
    if not changed.planned:
        return ""
    first, last = min(changed.planned), max(changed.planned)
    return f" on {first}" if first == last else f", from {first} to {last}"


def _name(refused: Mapping[int, str]) -> str:
    named = [f"lead_{lead_id} {reason}" for lead_id, reason in sorted(refused.items())[:3]]
    hidden = len(refused) - len(named)
    return ", ".join(named) + (f" and {hidden} more" if hidden else "")


def _changed_json(choice: Choice, selected: int, changed: Changed) -> dict[str, Any]:
    days = sorted(changed.planned)
    return {
        "dryRun": choice.is_dry_run,
        "selected": selected,
        "changed": len(changed.lead_ids),
        "leads": [f"lead_{lead_id}" for lead_id in changed.lead_ids],
        "messages": changed.messages,
        "displaced": changed.displaced,
        "firstDay": days[0] if days else None,
        "lastDay": days[-1] if days else None,
        "planned": [{"day": day, "messages": changed.planned[day]} for day in days],
        "leftOut": _reasons(changed.left_out),
        "refused": _reasons(changed.refused),
    }


def _reasons(reasons: Mapping[int, str]) -> list[dict[str, str]]:
    return [{"lead": f"lead_{lead_id}", "reason": reasons[lead_id]} for lead_id in sorted(reasons)]
