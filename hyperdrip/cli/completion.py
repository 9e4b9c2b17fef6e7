"""What the shell completes: campaigns, senders, states, leads, suppressions. Silent on errors."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdrip.errors import HyperdripError

if TYPE_CHECKING:
    from hyperdrip.client import Hyperdrip

MOST = 50


def complete_status(incomplete: str) -> list[str]:
    """Statuses of leads."""
    from hyperdrip.models import LeadStatus

    return [status for status in LeadStatus if status.startswith(incomplete.upper())]


def complete_state(incomplete: str) -> list[str]:
    """States of messages."""
    from hyperdrip.models import MessageState

    return [state for state in MessageState if state.startswith(incomplete.lower())]


def complete_sender(incomplete: str) -> list[str]:
    """Senders, built in and of plug-ins."""
    from hyperdrip.senders import list_senders

    return [name for name in list_senders() if name.startswith(incomplete.lower())]


def sender_help() -> str:
    """What the help says of --sender. Packages are searched only when help is asked for."""
    if not {"-h", "--help"} & set(sys.argv):
        return ""
    from hyperdrip.senders import list_senders

    return f"How messages leave: {', '.join(list_senders())}."


def complete_campaign(incomplete: str) -> list[str]:
    """Campaigns of the database."""
    return _ask(
        lambda drip: [name for name in drip.list_campaign_names() if name.startswith(incomplete)]
    )


def complete_lead(incomplete: str) -> list[str]:
    """Leads by address, or by `lead_123`."""

    def find(drip: "Hyperdrip") -> list[str]:
        found = drip.list_leads_like(incomplete, limit=MOST)
        if incomplete.startswith("lead_"):
            return [f"lead_{lead_id}" for lead_id, _ in found]
        return [email for _, email in found]

    return _ask(find)


def complete_suppressed(incomplete: str) -> list[str]:
    """Suppressed addresses that are known in plain."""

    def find(drip: "Hyperdrip") -> list[str]:
        found = drip.list_suppressions(part=incomplete or None, limit=MOST)
        return sorted(one.email for one in found if one.email and one.email.startswith(incomplete))

    return _ask(find)


SenderName = Annotated[
    str | None,
    typer.Option("--sender", metavar="S", help=sender_help(), autocompletion=complete_sender),
]


def _ask(find: "Callable[[Hyperdrip], list[str]]") -> list[str]:
    try:
        with _open() as drip:
            return find(drip) if drip is not None else []
    except (HyperdripError, OSError):
        return []


@contextmanager
def _open() -> "Iterator[Hyperdrip | None]":
    """The database of the settings; a key press makes no embedded one."""
    from hyperdrip.settings import load

    settings = load()
    has_home = (settings.hyperdrip_home / settings.hyperdrip_env / "data").exists()
    if not settings.database_url and not has_home:
        yield None
        return
    from hyperdrip.client import Hyperdrip

    with Hyperdrip.open(settings) as drip:
        yield drip
