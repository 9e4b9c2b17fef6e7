"""PURE: what a campaign's messages have in common, as its column keeps it, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

from hyperdrip.models import Campaign, Step


def to_settings(campaign: Campaign) -> dict[str, Any]:
    """What the column `settings` of hyperdrip.campaign keeps, with the names of the file."""
    kept = {
        "from": campaign.mail_from,
        "reply-to": campaign.reply_to,
        "footer": campaign.footer,
        "values": dict(campaign.values),
    }
    return {name: value for name, value in kept.items() if value}


def from_settings(name: str, settings: Mapping[str, Any], steps: Iterable[Step]) -> Campaign:
    """The campaign of its row, whose column is `settings`, and of its steps in order."""
    return Campaign(
        name=name,
        steps=tuple(steps),
        mail_from=settings.get("from"),
        reply_to=settings.get("reply-to"),
        footer=settings.get("footer"),
        values=settings.get("values", {}),
    )
