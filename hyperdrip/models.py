"""The things that Hyperdrip speaks of, as frozen values. Days are dates, instants are UTC.

What is written to leads is in `contents`, what operations answer in `results`; both can be imported
from here, too. They are files of their own because making so many classes takes longer than adding
a lead, which needs none of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from json import JSONDecoder

    from hyperdrip.contents import *  # noqa: F403
    from hyperdrip.contents import Recipient
    from hyperdrip.results import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        for file in () if name.startswith("_") else ("contents", "results"):
            module = import_module(f"hyperdrip.{file}")
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module 'hyperdrip.models' has no attribute {name!r}")


@cache
def _json_decoder() -> "JSONDecoder":
    from json import JSONDecoder

    return JSONDecoder()


@cache
def _recipient() -> "type[Recipient]":
    from hyperdrip.contents import Recipient

    return Recipient


MessageKey = tuple[int, int, int]  # lead id, run, number


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


class Claim(NamedTuple):
    """A message that this worker has claimed and may hand over while its lease holds.

    `token` is the fence: a finish with another token changes nothing. `lead_fields` is JSON.
    `trial`: nobody claimed it, it is there to try out a step with.
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
    lead_fields: str
    campaign: str
    campaign_version: int
    message_count: int
    max_messages: int
    first_claimed_at: datetime
    trial: str | None = None

    @property
    def key(self) -> MessageKey:
        """The message in the ledger."""
        return self[:3]

    @property
    def message_key(self) -> str:
        """One word for this message, the same at every attempt: the idempotency key.

        Neither the Message-ID nor the unsubscribe link of a trial is ever those of a message in the
        ledger: its word is its own.
        """
        if self.trial is not None:
            return f"test-{self.trial}"
        return f"lead_{self.lead_id}-{self.run}-{self.number}"

    @property
    def fields(self) -> Mapping[str, Any]:
        """The lead's own fields, by name; decoded anew each time."""
        return cast("Mapping[str, Any]", _json_decoder().raw_decode(self.lead_fields)[0])

    @property
    def recipient(self) -> "Recipient":
        """What the templates of this message can say of its lead."""
        return _recipient()(self.name, self.email, self.fields)


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
class Envelope:
    """A PGMQ row: it points at one message. The body is never trusted."""

    envelope_id: int
    read_count: int
    visible_at: datetime
    body: Mapping[str, Any]
    headers: Mapping[str, Any]
