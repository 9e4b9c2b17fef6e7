"""What commands print on stdout: JSON values with camelCase keys, and tables for people."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from hyperdrip.models import Envelope, Lead, Message, QuotaDay
    from hyperdrip.pruning import Pruned
    from hyperdrip.results import AuditCheck, ImportResult, QueueMetrics, WorkerSummary

WIDTH_WITHOUT_TERMINAL = 1000  # nothing is cut where a program reads along


def print_json(value: Any) -> None:
    """Print one JSON value."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def json_line(value: Any) -> str:
    """A JSON value on one line, without the line break."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def print_line(text: str) -> None:
    """Print one line of data."""
    print(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Print a table; numbers to the right. `empty` is said when there are no rows."""
    if not rows:
        print(empty)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        is_number = all(isinstance(row[position], int | None) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row))
    page = console()
    with page.capture() as printed:
        page.print(table)
    for line in printed.get().splitlines():
        print(line.rstrip())


def console() -> "Console":
    """A console on stdout. Colours obey NO_COLOR; without a terminal lines are never broken."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def coloured(text: str, colour: str) -> Any:
    """A piece of text in a colour."""
    from rich.text import Text

    return Text(text, style=colour)


def instant(moment: datetime | None) -> str | None:
    """An instant in UTC with Z: 2024-01-15T09:00:00.000000Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def short_instant(moment: datetime | None) -> str:
    """An instant for people: 2024-01-15 09:00:00Z."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def count_of(number: int, noun: str, nouns: str = "") -> str:
    """`1 lead`, `2 leads`; with `nouns`, `2 addresses`."""
    return f"{number} {noun}" if number == 1 else f"{number} {nouns or noun + 's'}"


# The shapes that others build on


def lead_json(lead: "Lead", messages: "Sequence[Message] | None" = None) -> dict[str, Any]:
    """A lead, with its messages when given."""
    value: dict[str, Any] = {
        "id": lead.key,
        "name": lead.name,
        "email": lead.email,
        "phone": lead.phone,
        "notes": lead.notes,
        "fields": lead.fields,
        "campaign": lead.campaign,
        "maxMessages": lead.max_messages,
        "messageCount": lead.message_count,
        "lastSentAt": instant(lead.last_sent_at),
        "nextScheduledFor": lead.next_scheduled_for,
        "status": lead.status.value,
        "statusReason": lead.status_reason,
        "createdAt": instant(lead.created_at),
    }
    if messages is not None:
        value["messages"] = [
            {
                "number": message.number,
                "scheduledDate": message.day,
                "state": message.state.value,
                "sentAt": instant(message.sent_at),
            }
            for message in messages
        ]
    return value


def message_json(message: "Message") -> dict[str, Any]:
    """A ledger row."""
    return {
        "lead": f"lead_{message.lead_id}",
        "email": message.email,
        "campaign": message.campaign,
        "run": message.run,
        "number": message.number,
        "scheduledDate": message.day,
        "state": message.state.value,
        "attempts": message.attempts,
        "sender": message.sender,
        "sentAt": instant(message.sent_at),
        "error": message.error,
    }


def message_details_json(message: "Message") -> dict[str, Any]:
    """A ledger row with what `messages show` adds."""
    return {
        **message_json(message),
        "claimedAt": instant(message.claimed_at),
        "notBefore": instant(message.not_before),
        "providerId": message.provider_id,
        "token": message.token,
    }


def quota_day_json(day: "QuotaDay") -> dict[str, Any]:
    """A day of the calendar."""
    return {
        "day": day.day,
        "capacity": day.capacity,
        "scheduled": day.scheduled,
        "sent": day.sent,
        "free": day.free,
    }


def queue_json(queue: "QueueMetrics") -> dict[str, Any]:
    """A queue."""
    return {
        "queue": queue.queue,
        "day": queue.day,
        "length": queue.length,
        "visible": queue.visible,
        "total": queue.total,
        "archived": queue.archived,
        "lateSeconds": queue.late_seconds,
    }


def pruned_json(found: "Pruned") -> dict[str, Any]:
    """What pruning did."""
    return {
        "dropped": [
            {"queue": one.queue, "day": one.day, "archived": one.archived} for one in found.dropped
        ],
        "kept": [{"queue": one.queue, "day": one.day, "reason": one.reason} for one in found.kept],
        "deleted": found.deleted,
    }


def envelope_json(envelope: "Envelope") -> dict[str, Any]:
    """An envelope as it lies in its queue."""
    return {
        "envelopeId": envelope.envelope_id,
        "readCount": envelope.read_count,
        "visibleAt": instant(envelope.visible_at),
        "message": envelope.body,
        "headers": envelope.headers,
    }


def import_json(result: "ImportResult") -> dict[str, Any]:
    """What came of an import."""
    return {
        "importId": result.import_id,
        "read": result.read,
        "added": result.added,
        "updated": result.updated,
        "duplicates": result.duplicates,
        "rejected": result.rejected,
        "firstDay": result.first_day,
        "lastDay": result.last_day,
        "suppressed": result.suppressed,
        "enrolled": result.enrolled,
    }


def worker_json(summary: "WorkerSummary") -> dict[str, Any]:
    """What a worker did."""
    return {
        "sent": summary.sent,
        "failed": summary.failed,
        "retried": summary.retried,
        "unknown": summary.unknown,
        "skipped": summary.skipped,
        "rolledOver": summary.rolled_over,
        "waiting": summary.waiting,
        "nextAttemptAt": instant(summary.next_attempt_at),
        "quotaReached": summary.quota_reached,
    }


def audit_json(checks: "Sequence[AuditCheck]") -> dict[str, Any]:
    """What the audit found."""
    return {
        "ok": all(check.ok for check in checks),
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
