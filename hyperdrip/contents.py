"""What is written to leads, as frozen values: campaigns, their steps, and messages written out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple


class Recipient(NamedTuple):
    """What the templates of a message can say of its lead, and all that a claim knows of it."""

    name: str
    email: str
    fields: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """The content of one message, as templates. `plain_text` replaces what `markdown` would give.

    `number`: from 1. `delay_days`: after the step before; without effect for the first.
    """

    number: int
    subject: str
    markdown: str
    delay_days: int = 1
    preheader: str | None = None
    plain_text: str | None = None


@dataclass(frozen=True)
class Campaign:
    """A sequence of messages, and what they have in common.

    `mail_from`, `reply_to`: mailboxes; None where the settings have them. `footer`: Markdown below
    every message. `values`: what templates can name, as JSON has it. `is_endless`: the last step is
    that of all later messages, too.
    """

    name: str
    steps: tuple[Step, ...]
    mail_from: str | None = None
    reply_to: str | None = None
    footer: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    is_endless: bool = False


@dataclass(frozen=True)
class CampaignVersion:
    """A campaign as it is stored: a version never changes, the next one has the next number."""

    version: int
    campaign: Campaign
    is_paused: bool
    created_at: datetime


@dataclass(frozen=True)
class CampaignSummary:
    """A campaign's newest version, and how it is used.

    `steps` 0: the built-in one, for any number of messages. `under_way`: leads ACTIVE or PAUSED in
    it, `on_older`: those of them that are on an older version.
    """

    name: str
    version: int
    steps: int
    is_paused: bool
    created_at: datetime
    leads: int
    under_way: int
    on_older: int


@dataclass(frozen=True)
class StepStats:
    """What became of one step's messages, in all versions and runs.

    `unsubscribed`: leads that unsubscribed after this message and before any later one.
    """

    campaign: str
    number: int
    subject: str | None
    planned: int
    sent: int
    failed: int
    unknown: int
    unsubscribed: int


@dataclass(frozen=True)
class LeadUnderWay:
    """A lead ACTIVE or PAUSED in a campaign, and the numbers of its planned messages in order."""

    lead_id: int
    version: int
    recipient: Recipient
    numbers: tuple[int, ...]


class Rendered(NamedTuple):
    """One step written out for one lead. Lines end with LF; `html` is a whole document."""

    number: int
    subject: str
    preheader: str
    html: str
    text: str


class Mail(NamedTuple):
    """A message ready for SMTP: the addresses of its envelope, and its bytes.

    `data`: its lines end with CRLF, and no other CR or LF is in it. `needs_smtputf8`: one of the
    addresses has a local part that is not ASCII (RFC 6531).
    """

    mail_from: str
    rcpt_to: str
    message_id: str
    data: bytes
    needs_smtputf8: bool
