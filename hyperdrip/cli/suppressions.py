"""`suppressions` and `unsubscribe`: who must not be written to any more."""

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdrip.cli.completion import complete_lead, complete_suppressed
from hyperdrip.cli.invocation import Invocation, Json, Limit, check_limit, command, group
from hyperdrip.cli.output import (
    count_of,
    instant,
    print_json,
    print_line,
    print_table,
    short_instant,
)
from hyperdrip.errors import InvalidDataError
from hyperdrip.lead_values import check_email, parse_key

if TYPE_CHECKING:
    from hyperdrip.models import Suppressed

SHOWN = 20
Reason = Annotated[
    str, typer.Option("--reason", metavar="R", help="Why; it is shown wherever it holds one up.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    suppressions = group(
        app,
        "suppressions",
        "Addresses that must never be written to.",
        example="hyperdrip suppressions add ada@example.com --reason bounced",
    )
    add = command
    add(suppressions, "add", example="hyperdrip suppressions add ada@example.com")(add_addresses)
    add(suppressions, "remove", example="hyperdrip suppressions remove ada@example.com")(
        remove_address
    )
    add(suppressions, "list", example="hyperdrip suppressions list --search example.com")(
        list_addresses
    )
    add(suppressions, "import", example="hyperdrip suppressions import unsubscribed.csv")(
        import_addresses
    )
    add(app, "unsubscribe", example="hyperdrip unsubscribe ada@example.com")(unsubscribe)


def add_addresses(
    run: Invocation,
    addresses: Annotated[
        list[str],
        typer.Argument(metavar="ADDRESS...", help="Which.", autocompletion=complete_lead),
    ],
    reason: Reason = "by hand",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Suppress addresses; leads that have them are stopped, and what was planned is cancelled."""
    with run.open_planner() as drip:
        done = drip.suppress(addresses, reason=reason, is_dry_run=dry_run)
    _print(done, read=len(addresses), rejected=0, dry_run=dry_run, json=json)


def remove_address(
    run: Invocation,
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="Which.", autocompletion=complete_suppressed),
    ],
    json: Json = False,
) -> None:
    """Suppress an address no more, also one that was erased and is kept as a hash.

    Nobody is resumed by that: `leads enroll` begins again with a lead that the suppression stopped.
    """
    address = check_email(address)
    with run.open_planner() as drip:
        reasons = drip.remove_suppression(address)
    if json:
        print_json({"removed": address, "reasons": reasons})
    else:
        print_line(f"{address} is not suppressed any more (it was: {', '.join(reasons)})")
        sys.stdout.flush()
        run.note("This resumes nobody; to begin again with its lead: hyperdrip leads enroll LEAD")


def list_addresses(
    run: Invocation,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Only those that contain this.")
    ] = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List suppressed addresses, the newest first; erased ones are there as a hash."""
    check_limit(limit)
    with run.open() as drip:
        found = drip.list_suppressions(part=search, limit=limit)
    if json:
        print_json(
            [
                {
                    "address": one.email,
                    "hash": None if one.email else one.email_key,
                    "reason": one.reason,
                    "createdAt": instant(one.created_at),
                }
                for one in found
            ]
        )
        return
    print_table(
        ("address", "reason", "since"),
        [(one.email_key, one.reason, short_instant(one.created_at)) for one in found],
        empty="No suppressions",
    )


def import_addresses(
    run: Invocation,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-", help="An address a line, or CSV or Excel with a column email."
        ),
    ],
    reason: Reason = "imported",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Suppress all addresses of a file.

    Lines without an address are named and left out (exit 5); all others are suppressed.
    """
    from hyperdrip.suppression_files import read_addresses

    with run.open_planner() as drip, run.busy("suppress"):
        addresses = read_addresses(file)
        done = drip.suppress(addresses.found, reason=reason, is_dry_run=dry_run)
    for note in addresses.notes:
        run.note(note)
    rejected = len(addresses.faults)
    _print(done, read=addresses.read, rejected=rejected, dry_run=dry_run, json=json)
    sys.stdout.flush()
    for fault in addresses.faults[:SHOWN]:
        run.note(fault)
    if rejected:
        more = f" (the first {SHOWN} are named)" if rejected > SHOWN else ""
        raise InvalidDataError(
            f"{count_of(rejected, 'line')} of {file!r} could not be taken{more}; mend and import"
            " again: what is there stays as it is"
        )


def unsubscribe(
    run: Invocation,
    who: Annotated[
        str,
        typer.Argument(
            metavar="TOKEN|LEAD",
            help="What an unsubscribe link ends with, lead_123, 123, or the address.",
            autocompletion=complete_lead,
        ),
    ],
    json: Json = False,
) -> None:
    """Stop a lead for good and suppress its address, as the link in its mail does.

    Once more changes nothing, and is no error. A token is checked with SECRET_KEY.
    """
    # A whole link, or the subject that a mail program has filled in.
    who = re.split(r"[/\s]", who.strip())[-1] if "unsubscribe" in who else who
    is_token = parse_key(who)[0] is None and "@" not in who
    with run.open_planner() as drip:
        done = drip.unsubscribe(who) if is_token else drip.unsubscribe_lead(who)
    if json:
        print_json(
            {"lead": f"lead_{done.lead_id}", "new": done.is_new, "cancelled": done.cancelled}
        )
    elif done.is_new:
        print_line(
            f"lead_{done.lead_id} unsubscribed: {count_of(done.cancelled, 'message')} cancelled"
        )
    else:
        print_line(f"lead_{done.lead_id} had unsubscribed already")


def _print(done: "Suppressed", *, read: int, rejected: int, dry_run: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "read": read,
                "added": len(done.added),
                "known": done.known,
                "rejected": rejected,
                "stopped": [f"lead_{lead_id}" for lead_id in done.stopped],
                "cancelled": done.cancelled,
                "dryRun": dry_run,
            }
        )
        return
    parts = [f"{count_of(len(done.added), 'address', 'addresses')} suppressed"]
    if done.known:
        parts.append(f"{done.known} known already")
    if done.stopped:
        stopped = count_of(len(done.stopped), "lead")
        parts.append(f"{stopped} stopped, {count_of(done.cancelled, 'message')} cancelled")
    print_line(f"{'Dry run: ' if dry_run else ''}{'; '.join(parts)}")
