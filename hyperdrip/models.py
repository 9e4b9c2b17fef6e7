"""The things that Hyperdrip speaks of, as frozen values. Days are dates, instants are UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any

MessageKey = tuple[int, int, int]  # lead id, run, number
Pointer = tuple[MessageKey, int]  # a message, and the envelope that points at it


class LeadStatus(StrEnum):
    """Where a lead stands in its drip."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


class MessageState(StrEnum):
    """Where a message stands: planned -> sending -> sent, failed or unknown; or cancelled."""

    PLANNED = "planned"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Instance:
    """What every process that works on this database has to agree on."""

    environment: str
    time_zone: str
    daily_max: int
    is_paused: bool
    newest_day: date | None
    last_sender: str | None


@dataclass(frozen=True)
class NewLead:
    """A lead before it is in the database, its values checked and normalised."""

    name: str
    email: str
    phone: str | None = None
    notes: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lead:
    """A person, and where it stands in its drip."""

    id: int
    name: str
    email: str
    phone: str | None
    notes: str | None
    fields: Mapping[str, Any]
    campaign: str
    campaign_version: int
    run: int
    max_messages: int
    message_count: int
    last_sent_at: datetime | None
    next_scheduled_for: date | None
    status: LeadStatus
    status_reason: str | None
    created_at: datetime

    @property
    def key(self) -> str:
        """The lead as commands and envelopes write it: `lead_123`."""
        return f"lead_{self.id}"


@dataclass(frozen=True)
class Selection:
    """Which leads a command is about: all for which everything that is given holds.

    `keys`: LEADs as people write them, each of which has to exist; `lead_ids`: no others than
    these; `where`: further fields and the values that they have.
    """

    keys: tuple[str, ...] | None = None
    lead_ids: tuple[int, ...] | None = None
    status: LeadStatus | None = None
    campaign: str | None = None
    import_id: int | None = None
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Changed:
    """What a command did to leads, or in a dry run would do.

    `lead_ids`: those that changed, by id. `messages`: how many of their messages got a day or lost
    it; `planned`: those that got one, by day. `displaced`: messages of others that had to make
    room. `left_out`: leads that it is not for, `refused`: those that it is not for right now, with
    the reason.
    """

    lead_ids: tuple[int, ...] = ()
    messages: int = 0
    planned: Mapping[date, int] = field(default_factory=dict)
    displaced: int = 0
    left_out: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One ledger row: one step for one lead in one run."""

    lead_id: int
    email: str
    campaign: str
    run: int
    number: int
    day: date | None
    state: MessageState
    attempts: int
    sender: str | None
    sent_at: datetime | None
    error: str | None
    claimed_at: datetime | None
    not_before: datetime | None
    provider_id: str | None
    token: int


@dataclass(frozen=True)
class Claim:
    """A message that this worker has claimed and may hand over while its lease holds.

    `token` is the fence: a finish with another token changes nothing.
    """

    lead_id: int
    run: int
    number: int
    envelope_id: int
    token: int
    attempts: int
    day: date
    email: str
    name: str
    fields: Mapping[str, Any]
    campaign: str
    campaign_version: int
    message_count: int
    max_messages: int
    first_claimed_at: datetime

    @property
    def message_key(self) -> str:
        """One word for this message, the same at every attempt: the idempotency key."""
        return f"lead_{self.lead_id}-{self.run}-{self.number}"

    @property
    def recipient(self) -> "Recipient":
        """What the templates of this message can say of its lead."""
        return Recipient(self.name, self.email, self.fields)


@dataclass(frozen=True)
class TrialClaim(Claim):
    """A message that nobody claimed: one to try out a step with, under a key of its own.

    Neither its Message-ID nor its unsubscribe link is ever those of a message in the ledger.
    """

    trial: str = ""

    @property
    def message_key(self) -> str:
        """The word that names this trial alone."""
        return f"test-{self.trial}"


@dataclass(frozen=True)
class QuotaDay:
    """A day of the calendar: its capacity and what is taken of it."""

    day: date
    capacity: int
    scheduled: int
    sent: int

    @property
    def free(self) -> int:
        """Messages that still fit on this day; never below 0."""
        return max(0, self.capacity - self.scheduled - self.sent)


@dataclass(frozen=True)
class QueueMetrics:
    """What `pgmq.metrics` and the calendar say of one day's queue."""

    queue: str
    day: date
    length: int
    visible: int
    total: int
    archived: int
    late_seconds: int | None


@dataclass(frozen=True)
class Envelope:
    """A PGMQ row: it points at one message. The body is never trusted."""

    envelope_id: int
    read_count: int
    visible_at: datetime
    body: Mapping[str, Any]
    headers: Mapping[str, Any]


@dataclass(frozen=True)
class ImportResult:
    """What came of one file; a dry run has no `import_id`.

    `planned`: messages by day. `notes`: what was detected of the file. `left_out`: the first rows
    that were not taken, each with the reason.
    """

    import_id: int | None
    read: int
    added: int
    updated: int
    duplicates: int
    rejected: int
    suppressed: int
    enrolled: int
    first_day: date | None
    last_day: date | None
    planned: Mapping[date, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class UndoneImport:
    """What was taken back of an import: leads removed, and stopped because they had a message."""

    import_id: int
    removed: int
    stopped: int


@dataclass(frozen=True)
class WorkerSummary:
    """What a worker did until it stopped. `refusal`: why its sender took nothing at the end."""

    sent: int
    failed: int
    retried: int
    unknown: int
    skipped: int
    rolled_over: int
    waiting: int
    next_attempt_at: datetime | None
    quota_reached: bool
    refusal: str | None = None


@dataclass(frozen=True)
class AuditCheck:
    """One invariant, and what contradicts it."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Recipient:
    """What the templates of a message can say of its lead, and all that a claim knows of it."""

    name: str
    email: str
    fields: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Rendered:
    """One step written out for one lead. Lines end with LF; `html` is a whole document."""

    number: int
    subject: str
    preheader: str
    html: str
    text: str


@dataclass(frozen=True)
class Mail:
    """A message ready for SMTP: the addresses of its envelope, and its bytes.

    `needs_smtputf8`: one of the addresses has a local part that is not ASCII (RFC 6531).
    """

    mail_from: str
    rcpt_to: str
    message_id: str
    data: bytes
    needs_smtputf8: bool
