"""`campaigns`: what is written to leads."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperdrip.cli.completion import SenderName, complete_campaign, complete_lead
from hyperdrip.cli.importing import progress_of
from hyperdrip.cli.invocation import Invocation, Json, command, group, parse_number
from hyperdrip.cli.output import (
    count_of,
    instant,
    print_json,
    print_line,
    print_table,
    short_instant,
)
from hyperdrip.errors import CampaignError, HyperdripError, InvalidDataError, SettingsError
from hyperdrip.models import Campaign, CampaignVersion

if TYPE_CHECKING:
    from hyperdrip.applying import Applied
    from hyperdrip.campaign_changes import Change

SHOWN = 20
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder with campaign.toml and 01-*.md, 02-*.md.")
]
Name = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", autocompletion=complete_campaign, help="Its name.")
]
Version = Annotated[
    int | None,
    typer.Option("--version-number", parser=parse_number, metavar="N", help="Default: the newest."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    campaigns = group(
        app,
        "campaigns",
        "What is written to leads: a folder with a text for each step.",
        example="hyperdrip campaigns apply campaigns/trial-onboarding",
    )
    add = command
    add(campaigns, "apply", example="hyperdrip campaigns apply campaigns/trial-onboarding")(
        apply_folder
    )
    add(campaigns, "diff", example="hyperdrip campaigns diff campaigns/trial-onboarding")(
        diff_folder
    )
    add(campaigns, "list", example="hyperdrip campaigns list")(list_campaigns)
    add(campaigns, "show", example="hyperdrip campaigns show trial-onboarding")(show_campaign)
    add(
        campaigns,
        "preview",
        example="hyperdrip campaigns preview 2 --campaign trial-onboarding --lead ada@example.com",
    )(preview_step)
    add(
        campaigns,
        "test",
        example="hyperdrip campaigns test 2 --to you@example.com --campaign trial-onboarding",
    )(try_step)
    add(campaigns, "stats", example="hyperdrip campaigns stats trial-onboarding")(show_stats)


def apply_folder(
    run: Invocation,
    folder: Folder,
    move_active: Annotated[
        bool, typer.Option("--move-active", help="Leads under way get the new version, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and say what would change; store nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before leads are moved.")] = False,
    json: Json = False,
) -> None:
    """Check a campaign's folder and store it as a new version; unchanged, it stores nothing.

    All mistakes are named, and a folder with any is not stored. Each message that leads under way
    would still get is written out once. These leads stay on their version; with --move-active their
    messages to come get the new one on the same days, and if one of them cannot be written, nothing
    is stored. A lead with more messages to come than there are steps stays as it is.
    """
    campaign = _read(folder, is_json=json)
    with run.open_planner() as drip, progress_of(run) as on_progress:
        done = drip.apply_campaign(
            campaign, is_moving=move_active, is_dry_run=True, on_progress=on_progress
        )
    is_refused = move_active and bool(done.failures)
    if not (dry_run or is_refused):
        if done.moved:
            _confirm_move(run, done, is_yes=yes)
        with run.open_planner() as drip:
            done = drip.apply_campaign(campaign, is_moving=move_active, rehearsed=done)
    is_done = not (dry_run or is_refused)
    if json:
        print_json(_applied_json(done, is_stored=is_done and bool(done.changes), dry_run=dry_run))
    elif not is_refused:
        print_line(_say(done, dry_run=dry_run))
    _note(run, done, is_moving=move_active, is_refused=is_refused)
    if is_refused:
        raise InvalidDataError(
            f"{count_of(len(done.failures), 'message')} could not be written for leads under way;"
            " nothing was stored; mend the step or the lead"
        )


def diff_folder(run: Invocation, folder: Folder, json: Json = False) -> None:
    """Show what would change if a folder were applied."""
    campaign = _read(folder, is_json=json)
    with run.open() as drip:
        version, changes = drip.diff_campaign(campaign)
    if json:
        print_json(
            {
                "campaign": campaign.name,
                "version": version,
                "changes": [
                    {"part": change.part, "change": change.kind, "diff": list(change.diff)}
                    for change in changes
                ],
            }
        )
    elif not changes:
        print_line(f"{campaign.name} is version {version} already; nothing would change")
    else:
        for line in _diff_lines(changes):
            print_line(line)


def list_campaigns(run: Invocation, json: Json = False) -> None:
    """List campaigns with their newest versions."""
    with run.open() as drip:
        found = drip.list_campaigns()
    if json:
        print_json(
            [
                {
                    "campaign": one.name,
                    "version": one.version,
                    "steps": one.steps or None,
                    "paused": one.is_paused,
                    "leads": one.leads,
                    "underWay": one.under_way,
                    "onOlderVersions": one.on_older,
                    "createdAt": instant(one.created_at),
                }
                for one in found
            ]
        )
        return
    print_table(
        ("campaign", "version", "steps", "leads", "under way", "on older versions", "stored"),
        [
            (
                one.name,
                one.version,
                one.steps or "any",
                one.leads,
                one.under_way,
                one.on_older,
                short_instant(one.created_at) if one.steps else None,
            )
            for one in found
        ],
        empty="No campaigns",
    )


def show_campaign(
    run: Invocation, campaign: Name, version_number: Version = None, json: Json = False
) -> None:
    """Show a campaign: what its messages have in common, and each step."""
    with run.open() as drip:
        found = drip.require_campaign(campaign, version_number)
    if json:
        print_json(_campaign_json(found))
        return
    of = found.campaign
    facts = {
        "campaign": f"{of.name}, version {found.version}",
        "stored": short_instant(found.created_at),
        "from": of.mail_from,
        "reply-to": of.reply_to,
        "footer": of.footer,
        **{f"value {name}": value for name, value in sorted(of.values.items())},
    }
    width = max(12, *(len(name) + 1 for name in facts))
    for name, value in facts.items():
        if value is not None:
            print_line(f"{name + ':':<{width}} {value}")
    print_line("")
    print_table(
        ("step", "days after", "subject", "preheader"),
        [
            (
                f"{step.number} and on" if of.is_endless else step.number,
                step.delay_days if step.number > 1 else None,
                step.subject,
                step.preheader,
            )
            for step in of.steps
        ],
        empty="No steps",
    )


def preview_step(
    run: Invocation,
    step: Annotated[
        int, typer.Argument(parser=parse_number, metavar="STEP", help="1 for the first one.")
    ],
    campaign: Annotated[
        str,
        typer.Option(
            "--campaign", metavar="C", help="Which campaign.", autocompletion=complete_campaign
        ),
    ],
    lead: Annotated[
        str | None,
        typer.Option(
            "--lead",
            metavar="LEAD",
            help="Written to this lead; default: a made-up one.",
            autocompletion=complete_lead,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML part here.")
    ] = None,
    version_number: Version = None,
    json: Json = False,
) -> None:
    """Write out one step as its text part reads, for a lead or for a made-up one.

    A made-up lead is called Ada Marlowe, and a field such as company is shown as [company].
    """
    with run.open() as drip:
        found = drip.preview_step(campaign, step, lead=lead, version=version_number)
    rendered = found.rendered
    if html is not None:
        html.write_text(rendered.html, encoding="utf-8")
        run.note(f"The HTML part is in {str(html)!r}")
    if found.lead is not None and found.lead.campaign == campaign:
        is_other = found.lead.campaign_version != found.version
        if is_other and version_number is None:
            run.note(
                f"{found.lead.key} is on version {found.lead.campaign_version}, and this is version"
                f" {found.version}; --version-number {found.lead.campaign_version} shows that one"
            )
    if json:
        print_json(
            {
                "campaign": found.campaign,
                "version": found.version,
                "number": rendered.number,
                "lead": found.lead.key if found.lead else None,
                "subject": rendered.subject,
                "preheader": rendered.preheader,
                "text": rendered.text,
                "html": rendered.html,
            }
        )
        return
    print_line(f"Subject: {rendered.subject}")
    if rendered.preheader:
        print_line(f"Preheader: {rendered.preheader}")
    print_line("")
    print_line(rendered.text.rstrip("\n"))


def try_step(
    run: Invocation,
    step: Annotated[
        int, typer.Argument(parser=parse_number, metavar="STEP", help="1 for the first one.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS", help="Where it goes.")],
    campaign: Annotated[
        str,
        typer.Option(
            "--campaign", metavar="C", help="Which campaign.", autocompletion=complete_campaign
        ),
    ],
    lead: Annotated[
        str | None,
        typer.Option(
            "--lead",
            metavar="LEAD",
            help="With this lead's name and fields; default: a made-up one's.",
            autocompletion=complete_lead,
        ),
    ] = None,
    sender: SenderName = None,
    version_number: Version = None,
    json: Json = False,
) -> None:
    """Send one step for real, to an address of yours, marked with [test] in its subject.

    No lead has had a message by that: the ledger and the quota know nothing of it, and the link in
    it unsubscribes nobody. With the console sender the text is printed.
    """
    from hyperdrip.senders import Sent, Unknown

    with run.open({"SENDER": sender} if sender is not None else None) as drip:
        done = drip.try_step(campaign, step, to=to, lead=lead, version=version_number)
    outcome, rendered = done.outcome, done.rendered
    reason = None if isinstance(outcome, Sent) else outcome.reason
    what = f"step {rendered.number} of {done.campaign} version {done.version} to {done.to}"
    if json:
        print_json(
            {
                "campaign": done.campaign,
                "version": done.version,
                "number": rendered.number,
                "lead": done.lead.key if done.lead else None,
                "to": done.to,
                "sender": done.sender,
                "outcome": type(outcome).__name__.lower(),
                "reason": reason,
                "providerId": outcome.provider_id if isinstance(outcome, Sent) else None,
            }
        )
    elif done.sender == "console":
        print_line(f"Subject: {rendered.subject}\n\n{rendered.text.rstrip()}")
    if not isinstance(outcome, Sent):
        verb = "does not know about" if isinstance(outcome, Unknown) else "did not take"
        raise HyperdripError(f"the sender {done.sender} {verb} {what}: {reason}")
    if done.sender in {"console", "null"}:
        run.note(f"The {done.sender} sender delivers nothing; --sender S takes another one")
    elif not json:
        said = f" ({outcome.provider_id})" if outcome.provider_id else ""
        print_line(f"Sent {what} through {done.sender}{said}")


def show_stats(
    run: Invocation,
    campaign: Annotated[
        str | None,
        typer.Argument(
            metavar="[CAMPAIGN]", autocompletion=complete_campaign, help="Default: all of them."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show what became of each step's messages, over all versions and runs.

    A lead that unsubscribed counts at the last message that it had.
    """
    with run.open() as drip:
        found = drip.campaign_stats(campaign)
    if json:
        print_json(
            [
                {
                    "campaign": one.campaign,
                    "number": one.number,
                    "subject": one.subject,
                    "planned": one.planned,
                    "sent": one.sent,
                    "failed": one.failed,
                    "unknown": one.unknown,
                    "unsubscribed": one.unsubscribed,
                }
                for one in found
            ]
        )
        return
    print_table(
        ("campaign", "step", "subject", "planned", "sent", "failed", "unknown", "unsubscribed"),
        [
            (
                one.campaign,
                one.number,
                one.subject,
                one.planned,
                one.sent,
                one.failed,
                one.unknown,
                one.unsubscribed,
            )
            for one in found
        ],
        empty="No messages",
    )


def _read(folder: Path, *, is_json: bool) -> Campaign:
    """Read a folder; its mistakes are lines on stderr. Raises: InvalidDataError."""
    from hyperdrip.campaign_files import read_campaign

    try:
        return read_campaign(folder)
    except CampaignError as error:
        if is_json:
            print_json({"mistakes": error.mistakes})
        if len(error.mistakes) == 1:
            raise InvalidDataError(f"{error}; nothing was stored") from None
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)
        raise InvalidDataError(
            f"{count_of(len(error.mistakes), 'mistake')} in {str(folder)!r}; nothing was stored"
        ) from None


def _confirm_move(run: Invocation, done: "Applied", *, is_yes: bool) -> None:
    """Show what changes for how many leads, and ask.

    Raises: SettingsError where nobody can be asked; HyperdripError when the answer is no.
    """
    who = f"{count_of(len(done.moved), 'lead')} under way"
    messages = count_of(done.messages, "message")
    if is_yes:
        return
    for version, changes in done.differences.items():
        run.note(f"For leads on version {version}:")
        for line in _diff_lines(changes):
            run.note(line)
    run.note(f"{who} would move to version {done.version}, with {messages} to come")
    if not run.can_ask:
        raise SettingsError(
            f"this would move {who} to version {done.version} and there is no terminal to ask at;"
            " to go on: --yes (--dry-run says what would be done)"
        )
    run.confirm(f"Move {who} to version {done.version}?")


def _say(done: "Applied", *, dry_run: bool) -> str:
    if done.changes:
        verb = "Dry run: would store" if dry_run else "Stored"
        changed = ", ".join(f"{change.part} {change.kind}" for change in done.changes)
        if done.version == 1:
            changed = count_of(done.steps, "step")
        line = f"{verb} {done.campaign} version {done.version}: {changed}"
    else:
        line = f"{done.campaign} is version {done.version} already; nothing stored"
    if done.moved:
        verb = "would move" if dry_run else "moved"
        who = count_of(len(done.moved), "lead")
        line += f"; {verb} {who} with {count_of(done.messages, 'message')} to come"
    return line


def _note(run: Invocation, done: "Applied", *, is_moving: bool, is_refused: bool) -> None:
    """What else there is to know, on stderr."""
    if is_moving:
        lines = [f"lead_{lead_id} {why}" for lead_id, why in sorted(done.left_out.items())]
        _note_some(run, [f"{line}; it stays as it is" for line in lines])
    elif done.under_way:
        versions = " and ".join(str(version) for version in done.under_way)
        total = sum(done.under_way.values())
        movable = total - len(done.left_out)
        whom = "them" if movable == total else f"{movable} of them"
        run.note(
            f"{count_of(total, 'lead')} under way on version {versions}: unchanged; --move-active"
            f" moves {whom}"
        )
    start = "" if is_refused else "would be paused if moved: "
    _note_some(run, [f"{start}{failure}" for failure in done.failures])


def _note_some(run: Invocation, lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        run.note(line)
    if len(lines) > SHOWN:
        run.note(f"and {len(lines) - SHOWN} more")


def _diff_lines(changes: "tuple[Change, ...]") -> list[str]:
    lines = list[str]()
    for change in changes:
        lines += [f"{change.part}: {change.kind}", *change.diff]
    return lines


def _applied_json(done: "Applied", *, is_stored: bool, dry_run: bool) -> dict[str, Any]:
    return {
        "campaign": done.campaign,
        "version": done.version,
        "steps": done.steps,
        "dryRun": dry_run,
        "stored": is_stored,
        "changes": [{"part": change.part, "change": change.kind} for change in done.changes],
        "underWay": [
            {"version": version, "leads": count} for version, count in done.under_way.items()
        ],
        "moved": len(done.moved),
        "messages": done.messages,
        "leftOut": [
            {"lead": f"lead_{lead_id}", "reason": why}
            for lead_id, why in sorted(done.left_out.items())
        ],
        "failures": [
            {"lead": f"lead_{one.lead_id}", "number": one.number, "reason": one.reason}
            for one in done.failures
        ],
        "mistakes": [],
    }


def _campaign_json(found: CampaignVersion) -> dict[str, Any]:
    of = found.campaign
    return {
        "campaign": of.name,
        "version": found.version,
        "paused": found.is_paused,
        "createdAt": instant(found.created_at),
        "from": of.mail_from,
        "replyTo": of.reply_to,
        "footer": of.footer,
        "values": of.values,
        "endless": of.is_endless,
        "steps": [
            {
                "number": step.number,
                "delayDays": step.delay_days,
                "subject": step.subject,
                "preheader": step.preheader,
                "markdown": step.markdown,
                "text": step.plain_text,
            }
            for step in of.steps
        ],
    }
