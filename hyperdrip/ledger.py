"""The ledger of messages: a function per query. It is the truth; queues only point at it."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import args_row, class_row, kwargs_row

from hyperdrip.db import array, instant_array, nullable_array, query
from hyperdrip.models import Claim, Message, MessageKey, MessageState
from hyperdrip.planning import Remaining
from hyperdrip.queue import Address

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Planned:
    """A planned message as it stands in the ledger, locked."""

    lead_id: int
    run: int
    number: int
    day: date | None
    envelope_id: int | None
    not_before: datetime | None


@dataclass(frozen=True)
class Expired:
    """A message whose lease ran out while it was being sent: nobody knows what came of it."""

    lead_id: int
    run: int
    number: int
    token: int
    attempts: int
    sender: str
    day: date
    envelope_id: int


class Finish(NamedTuple):
    """What becomes of a claimed message. `is_attempt` false: it was never handed over.

    `pauses`: its lead is paused with the error as its reason, if it is still ACTIVE.
    `is_address_dead`: its lead's address is suppressed.
    """

    key: MessageKey
    token: int
    day: date
    envelope_id: int
    state: MessageState
    sent_at: datetime | None = None
    error: str | None = None
    provider_id: str | None = None
    backoff_seconds: int = 0
    is_attempt: bool = True
    pauses: bool = False
    is_address_dead: bool = False


@dataclass(frozen=True)
class Leftovers:
    """Envelopes that were read and not claimed.

    `planned`: envelope -> lead of those that can be claimed, whose messages are locked now;
    `orphans` have no open message; the messages of `expired` are being sent; those of `held` are
    locked by somebody else at this moment.
    """

    planned: Mapping[int, int]
    orphans: tuple[int, ...]
    expired: tuple[int, ...]
    held: tuple[int, ...]


def insert_messages(
    conn: psycopg.Connection,
    placed: Mapping[Address, tuple[date, int]],
    *,
    campaign: str,
    campaign_version: int,
) -> None:
    """Write planned messages that have their envelopes already: (day, envelope id) of each."""
    conn.execute(
        query("insert_messages"),
        {
            **_keys([(item.lead_id, item.run, item.number) for item in placed]),
            "days": array(day for day, _ in placed.values()),
            "envelope_ids": array(envelope_id for _, envelope_id in placed.values()),
            "campaign": campaign,
            "campaign_version": campaign_version,
        },
    )


def list_messages(
    conn: psycopg.Connection,
    *,
    state: str | None = None,
    day: date | None = None,
    lead_id: int | None = None,
    limit: int,
) -> list[Message]:
    """Messages by day (those without one last), lead and number."""
    with conn.cursor(row_factory=kwargs_row(_message)) as cursor:
        return cursor.execute(
            query("list_messages"),
            {"state": state, "day": day, "lead_id": lead_id, "limit": limit},
        ).fetchall()


def list_lead_messages(conn: psycopg.Connection, lead_ids: Collection[int]) -> list[Message]:
    """The messages of leads in their present runs, by lead and number."""
    with conn.cursor(row_factory=kwargs_row(_message)) as cursor:
        return cursor.execute(query("list_lead_messages"), {"lead_ids": list(lead_ids)}).fetchall()


def lock_planned(conn: psycopg.Connection, lead_ids: Collection[int]) -> list[Planned]:
    """Lock the planned messages of leads, by lead, run and number."""
    with conn.cursor(row_factory=class_row(Planned)) as cursor:
        return cursor.execute(query("lock_planned"), {"lead_ids": list(lead_ids)}).fetchall()


def list_remaining(
    conn: psycopg.Connection, lead_ids: Collection[int]
) -> dict[int, tuple[int, Remaining]]:
    """What is left of leads' runs: lead id -> (run, remaining)."""
    rows = conn.execute(query("list_remaining"), {"lead_ids": list(lead_ids)}).fetchall()
    return {
        lead_id: (
            run,
            Remaining(lead_id, tuple(numbers), tuple(due), tuple(delays), previous_day, start_on),
        )
        for lead_id, run, numbers, due, delays, previous_day, start_on in rows
    }


def move_messages(conn: psycopg.Connection, moves: Sequence[tuple[MessageKey, date, int]]) -> int:
    """Give planned messages another (day, envelope); returns how many rows changed."""
    row = conn.execute(
        query("move_messages"),
        {
            **_keys([key for key, _, _ in moves]),
            "days": array(day for _, day, _ in moves),
            "envelope_ids": array(envelope_id for _, _, envelope_id in moves),
        },
    ).fetchone()
    assert row is not None
    return int(row[0])


def take_back(
    conn: psycopg.Connection, lead_ids: Collection[int], state: MessageState
) -> list[tuple[int, date | None, int | None]]:
    """Take leads' planned messages out of the calendar, to `planned` without a day or `cancelled`.

    Returns (lead, day, envelope) as they were, for whoever archives and frees the quota.
    """
    return conn.execute(
        query("take_back_messages"), {"lead_ids": sorted(set(lead_ids)), "state": state.value}
    ).fetchall()


def lock_messages(conn: psycopg.Connection, lead_ids: Collection[int]) -> set[int]:
    """Lock all messages of leads, of every run; the leads one of which is being sent."""
    rows = conn.execute(query("lock_messages"), {"lead_ids": sorted(lead_ids)}).fetchall()
    return {lead_id for (lead_id,) in rows}


def scrub_messages(conn: psycopg.Connection, lead_ids: Collection[int]) -> None:
    """Take what was said of messages out of the ledger: errors and the provider's words."""
    conn.execute(query("scrub_messages"), {"lead_ids": sorted(lead_ids)})


def list_leads_with_late_messages(conn: psycopg.Connection, today: date) -> list[int]:
    """Leads with a message planned for an open day before `today`."""
    rows = conn.execute(query("list_leads_with_late_messages"), {"today": today}).fetchall()
    return [lead_id for (lead_id,) in rows]


def list_leads_with_planned_days(conn: psycopg.Connection, from_day: date) -> list[int]:
    """All leads with a message planned on or after `from_day`."""
    rows = conn.execute(query("list_leads_with_planned_days"), {"from_day": from_day}).fetchall()
    return [lead_id for (lead_id,) in rows]


def lock_wave(conn: psycopg.Connection, envelope_ids: Sequence[int], *, day: date) -> Leftovers:
    """Lock the messages of envelopes of `day`, without waiting for anybody."""
    rows = conn.execute(query("lock_wave"), {**_spans(envelope_ids), "day": day}).fetchall()
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for envelope_id, lead_id, what in rows:
        found[what][envelope_id] = lead_id
    have_message = {envelope_id for envelope_id, _, _ in rows}
    return Leftovers(
        planned=found["planned"],
        orphans=tuple(e for e in envelope_ids if e not in have_message),
        expired=tuple(found["sending"]),
        held=tuple(found["held"]),
    )


def claim_wave(
    conn: psycopg.Connection,
    envelope_ids: Sequence[int],
    *,
    day: date,
    sender: str,
    worker: int,
    now: datetime,
) -> list[Claim]:
    """Claim the messages of as many envelopes as `day` has room for, by envelope.

    Those that somebody else has locked are left out. The day has to count the claims next.
    """
    with conn.cursor(row_factory=args_row(Claim)) as cursor:
        return cursor.execute(
            query("claim_wave"),
            {**_spans(envelope_ids), "day": day, "sender": sender, "worker": worker, "now": now},
        ).fetchall()


def list_claimed(
    conn: psycopg.Connection, envelope_ids: Sequence[int], *, day: date, worker: int
) -> list[Claim]:
    """What a worker holds right now of the messages of these envelopes, by envelope."""
    with conn.cursor(row_factory=args_row(Claim)) as cursor:
        return cursor.execute(
            query("list_claimed"), {**_spans(envelope_ids), "day": day, "worker": worker}
        ).fetchall()


def list_sending(conn: psycopg.Connection, day: date) -> list[int]:
    """Envelopes of a day whose messages are being sent, or whose worker died; in order."""
    rows = conn.execute(query("list_sending"), {"day": day}).fetchall()
    return [envelope_id for (envelope_id,) in rows]


def lock_expired(
    conn: psycopg.Connection, envelope_ids: Sequence[int], *, day: date
) -> list[Expired]:
    """Lock the messages of these envelopes that are being sent. Their leads are locked already."""
    with conn.cursor(row_factory=class_row(Expired)) as cursor:
        return cursor.execute(
            query("lock_expired"), {**_spans(envelope_ids), "day": day}
        ).fetchall()


def list_leads_of(conn: psycopg.Connection, envelope_ids: Sequence[int], *, day: date) -> list[int]:
    """The leads whose messages these envelopes of a day are or were, in any state; by id."""
    rows = conn.execute(
        query("list_leads_of_envelopes"), {**_spans(envelope_ids), "day": day}
    ).fetchall()
    return [lead_id for (lead_id,) in rows]


def list_planned(conn: psycopg.Connection, envelope_ids: Sequence[int], *, day: date) -> list[int]:
    """Those of these envelopes of a day whose messages are planned; by id."""
    rows = conn.execute(
        query("list_planned_envelopes"), {**_spans(envelope_ids), "day": day}
    ).fetchall()
    return [envelope_id for (envelope_id,) in rows]


def finish_sent(
    conn: psycopg.Connection, sent: Sequence[Finish], *, day: date
) -> tuple[set[int], list[tuple[int, str, int, int]]]:
    """Settle messages of `day` that were sent, and move their locked leads on: one of each at most.

    Returns the leads of those that were not being sent under their token, which are left as they
    are; and the leads that completed: id, address, message count, maximum.
    """
    by_lead = sorted(sent)
    sent = sorted(sent, key=attrgetter("envelope_id"))
    since = sent[0].sent_at
    assert since is not None
    envelope_ids = [item.envelope_id for item in sent]
    provider_ids = [item.provider_id for item in sent]
    rows = conn.execute(
        query("finish_sent"),
        {
            **_spans(envelope_ids),
            "day": day,
            "envelope_ids": array(envelope_ids),
            "tokens": array([item.token for item in sent]),
            "leads": array([item.key[0] for item in sent]),
            "since": since,
            "sent_after": array(_microseconds(since, sent)),
            "provider_ids": nullable_array(
                provider_ids if provider_ids.count(None) < len(provider_ids) else ()
            ),
            "lead_ids": array([item.key[0] for item in by_lead]),
            "runs": array([item.key[1] for item in by_lead]),
            "leads_sent_after": array(_microseconds(since, by_lead)),
        },
    ).fetchall()
    missed = {lead_id for lead_id, email, _, _ in rows if email is None}
    return missed, [row for row in rows if row[1] is not None]


def finish_messages(
    conn: psycopg.Connection, finishes: Sequence[Finish]
) -> dict[MessageKey, MessageState | None]:
    """Settle exactly the messages whose token still matches; their leads are left as they are.

    Returns those that were not being sent: what they were (unknown), or None when they were left as
    they are.
    """
    if not finishes:
        return {}
    rows = conn.execute(
        query("finish_messages"),
        {
            **_keys([item.key for item in finishes]),
            "tokens": array(item.token for item in finishes),
            "states": array(item.state.value for item in finishes),
            "sent_ats": instant_array(item.sent_at for item in finishes),
            "errors": nullable_array(item.error for item in finishes),
            "provider_ids": nullable_array(item.provider_id for item in finishes),
            "backoffs": array(item.backoff_seconds for item in finishes),
            "are_attempts": array(item.is_attempt for item in finishes),
        },
    ).fetchall()
    return {
        (lead_id, run, number): MessageState(state) if state else None
        for lead_id, run, number, state in rows
    }


def list_settled(
    conn: psycopg.Connection, finishes: Sequence[Finish]
) -> dict[MessageKey, MessageState]:
    """The states of those messages that still carry the token they were claimed with."""
    rows = conn.execute(
        query("list_settled"),
        {
            **_keys([item.key for item in finishes]),
            "tokens": array(item.token for item in finishes),
        },
    ).fetchall()
    return {(lead_id, run, number): MessageState(state) for lead_id, run, number, state in rows}


def list_reconcilable(
    conn: psycopg.Connection,
    *,
    with_console: bool,
    lead_id: int | None,
    number: int | None,
    sender: str | None,
    before: datetime | None,
    keys: Sequence[MessageKey] | None,
) -> list[tuple[MessageKey, str | None, bool]]:
    """Unknown messages by lead, run and number.

    Each with why it cannot be sent again, or None, and whether its lead gets nothing more in that
    run. `with_console`: also those that the console sender marked as sent.
    """
    rows = conn.execute(
        query("list_reconcilable"),
        {
            "with_console": with_console,
            "lead_id": lead_id,
            "number": number,
            "sender": sender,
            "before": before,
            "has_keys": keys is not None,
            **_keys(keys or ()),
        },
    ).fetchall()
    return [((lead_id, run, number), *rest) for lead_id, run, number, *rest in rows]


def mark_sent(conn: psycopg.Connection, keys: Sequence[MessageKey]) -> int:
    """Mark unknown messages of locked leads as sent; returns how many were."""
    row = conn.execute(query("mark_sent"), _keys(keys)).fetchone()
    assert row is not None
    return int(row[0])


def take_back_settled(
    conn: psycopg.Connection, keys: Sequence[MessageKey], state: MessageState
) -> list[tuple[date, int]]:
    """Make settled messages of locked leads `planned` without a day, or `cancelled`.

    Returns how many had which day, by day.
    """
    return conn.execute(
        query("take_back_settled"), {**_keys(keys), "state": state.value}
    ).fetchall()


def lock_lease(conn: psycopg.Connection, claims: Sequence[Claim]) -> list[int]:
    """Lock the messages of `claims` that still carry our token; returns their envelopes.

    Waits for nobody: what somebody else has locked is left out.
    """
    rows = conn.execute(
        query("lock_lease"),
        {
            **_keys([(claim.lead_id, claim.run, claim.number) for claim in claims]),
            "tokens": array(claim.token for claim in claims),
        },
    ).fetchall()
    return [envelope_id for (envelope_id,) in rows]


def _microseconds(since: datetime, sent: Sequence[Finish]) -> list[int]:
    """How long after `since` each was sent. Quick where many share one instant."""
    last, after, found = since, 0, []
    for item in sent:
        if item.sent_at is not last:
            assert item.sent_at is not None
            last, after = item.sent_at, (item.sent_at - since) // MICROSECOND
        found.append(after)
    return found


def _spans(envelope_ids: Sequence[int]) -> dict[str, str]:
    """Ids in ascending order as spans without a gap: the envelopes of a wave lie side by side."""
    firsts, lasts = list(envelope_ids[:1]), list(envelope_ids[-1:])
    if envelope_ids and lasts[0] - firsts[0] != len(envelope_ids) - 1:
        gaps = [(a, b) for a, b in pairwise(envelope_ids) if b - a > 1]
        firsts += [after for _, after in gaps]
        lasts = [before for before, _ in gaps] + lasts
    return {"firsts": array(firsts), "lasts": array(lasts)}


def _keys(keys: Sequence[MessageKey]) -> dict[str, Any]:
    lead_ids, runs, numbers = zip(*keys, strict=True) if keys else ((), (), ())
    return {"lead_ids": array(lead_ids), "runs": array(runs), "numbers": array(numbers)}


def _message(**columns: Any) -> Message:
    return Message(**{**columns, "state": MessageState(columns["state"])})
