"""What operations answer, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime


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
class Suppression:
    """An address that must never be written to, in lower case, or the keyed hash of an erased one.

    `email_key`: either of them.
    """

    email_key: str
    reason: str
    created_at: datetime

    @property
    def email(self) -> str | None:
        """The address; None when it is known by its hash alone."""
        return self.email_key if "@" in self.email_key else None


@dataclass(frozen=True)
class Suppressed:
    """What came of suppressing addresses, or in a dry run would come of it.

    `added`: those that were not suppressed yet, in lower case; `known`: how many were. `stopped`:
    leads that were under way, by id; `cancelled`: how many of their messages.
    """

    added: tuple[str, ...] = ()
    known: int = 0
    stopped: tuple[int, ...] = ()
    cancelled: int = 0


@dataclass(frozen=True)
class Unsubscribed:
    """What came of an unsubscribe. `is_new` false: the lead had unsubscribed, or was erased."""

    lead_id: int
    is_new: bool
    cancelled: int = 0


@dataclass(frozen=True)
class AuditCheck:
    """One invariant, and what contradicts it."""

    name: str
    ok: bool
    detail: str
