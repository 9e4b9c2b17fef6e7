"""The transactions of the worker's loop: claim, finish, extend, and settling expired leases.

Read -> claim -> send -> finish are separate statements, each with its own snapshot. Finishing
wave k and claiming wave k+1 share a transaction.

Lock order: leads by id, messages, envelopes, quota.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import psycopg

from hyperdrip import leads, ledger, queue, quota
from hyperdrip.clock import Clock
from hyperdrip.ledger import Expired, Finish
from hyperdrip.models import Claim, LeadStatus, MessageKey, MessageState, Pointer
from hyperdrip.replanner import give_back
from hyperdrip.retry import is_sent_again


@dataclass(frozen=True)
class Completed:
    """A lead that has had its last message."""

    lead_id: int
    email: str
    message_count: int
    max_messages: int


@dataclass(frozen=True)
class Batch:
    """Messages to settle; `resends` are those whose unknown hand-over costs one more unit."""

    finishes: tuple[Finish, ...] = ()
    resends: frozenset[MessageKey] = frozenset()


@dataclass(frozen=True)
class Settled:
    """What a finish changed: those whose token still matched, and leads that completed."""

    finished: tuple[Finish, ...] = ()
    completed: tuple[Completed, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a worker asks to claim: up to `quantity` messages of one day's queue, and who asks.

    `on_read` is told what was read before any of it can be claimed.
    """

    quantity: int
    day: date
    sender: str
    worker: int
    vt_seconds: int
    on_read: Callable[[Sequence[Pointer]], None] = lambda _pointers: None


@dataclass(frozen=True)
class Claimed:
    """What came of a request. The messages of `held` were locked by somebody else.

    `has_read`: there was anything to read.
    """

    has_read: bool = False
    claims: tuple[Claim, ...] = ()
    expired: tuple[Pointer, ...] = ()
    held: tuple[Pointer, ...] = ()
    orphans: int = 0
    blocked: tuple[MessageKey, ...] = ()
    is_gate_closed: bool = False


def finish_and_claim(
    conn: psycopg.Connection,
    clock: Clock,
    environment: str,
    *,
    batch: Batch,
    request: Request | None,
) -> tuple[Settled, Claimed]:
    """Settle one wave, read and claim the next, in one transaction.

    The day's quota is locked last, so that workers wait for each other's COMMIT and no longer. Only
    if what was claimed without it does not hold any more, all of it is done again with it.
    """
    is_quota_first = False
    while True:
        try:
            return _finish_and_claim(
                conn, clock, environment, batch, request, is_quota_first=is_quota_first
            )
        except _OutdatedError:
            is_quota_first = True


class _OutdatedError(Exception):
    """What was claimed goes by what is true no longer; the transaction was rolled back."""


def _finish_and_claim(
    conn: psycopg.Connection,
    clock: Clock,
    environment: str,
    batch: Batch,
    request: Request | None,
    *,
    is_quota_first: bool,
) -> tuple[Settled, Claimed]:
    with conn.transaction():
        changes: dict[date, quota.Change] = defaultdict(quota.Change)
        settled = _finish(conn, environment, batch, changes) if batch.finishes else Settled()
        if request is None:
            quota.apply(conn, changes)
            return settled, Claimed()
        name = queue.name_of(environment, request.day)
        pointers, strangers = queue.read(
            conn, name, vt_seconds=request.vt_seconds, quantity=request.quantity
        )
        request.on_read(pointers)
        queue.archive(conn, name, strangers)
        quota.apply(conn, {d: c for d, c in changes.items() if d <= request.day})
        if is_quota_first:
            quota.lock_days(conn, [request.day])
        claimed = _claim(conn, clock, name, request, pointers) if pointers else Claimed()
        quota.apply(conn, {d: c for d, c in changes.items() if d > request.day})
        return settled, replace(
            claimed,
            has_read=bool(pointers or strangers),
            orphans=claimed.orphans + len(strangers),
        )


def extend(
    conn: psycopg.Connection, environment: str, claims: Sequence[Claim], *, vt_seconds: int
) -> int:
    """Hide the envelopes of `claims` for another `vt_seconds`; returns how many are still ours.

    Visibility goes by id alone, so only those whose locked ledger row carries our token.
    """
    with conn.transaction():
        ours = ledger.lock_lease(conn, claims)
        if ours:
            name = queue.name_of(environment, claims[0].day)
            queue.set_visible(conn, name, ours, in_seconds=vt_seconds)
    return len(ours)


def show_held(
    conn: psycopg.Connection,
    environment: str,
    held: Sequence[Pointer],
    *,
    day: date,
    lease_ends: float,
) -> tuple[Pointer, ...]:
    """Show envelopes again that were read while somebody else had locked their messages.

    Returns those that are locked still. The others are visible at once if they can be claimed; what
    is being sent, or was settled, is left as it is. `lease_ends` (monotonic): until when nobody
    else can have read them; after that they are none of ours, and visible by themselves.
    """
    with conn.transaction():
        left_out = ledger.lock_wave(conn, held, day=day)
        others = [envelope_id for _, envelope_id in (*left_out.expired, *left_out.held)]
        unclaimable = {*left_out.orphans, *others}
        shown = [envelope_id for _, envelope_id in held if envelope_id not in unclaimable]
        if shown and time.monotonic() < lease_ends:
            queue.set_visible(conn, queue.name_of(environment, day), shown, in_seconds=0)
    return left_out.held


def settle_expired(
    conn: psycopg.Connection,
    environment: str,
    expired: Sequence[Pointer],
    *,
    day: date,
    on_unknown: str,
    max_attempts: int,
    lease_ends: float | None,
) -> Settled:
    """Settle messages whose lease ran out while they were being sent: unknown, or sent again.

    `lease_ends` (monotonic): the caller has read their envelopes, so the lease of whoever sends
    them was over, and until then nobody else can have claimed them; later nothing is done. None: it
    has not read them, and those that are hidden are left alone.
    """
    if not expired:
        return Settled()
    with conn.transaction():
        leads.lock_finishing(conn, {key[0] for key, _ in expired})
        items = ledger.lock_expired(conn, expired, day=day)
        if lease_ends is not None and time.monotonic() >= lease_ends:
            return Settled()
        if lease_ends is None:
            name = queue.name_of(environment, day)
            visible = queue.list_visible(conn, name, [item.envelope_id for item in items])
            items = [item for item in items if item.envelope_id in visible]
        found = [
            unknown(item, "its worker was lost", on_unknown=on_unknown, max_attempts=max_attempts)
            for item in items
        ]
        if not found:
            return Settled()
        changes: dict[date, quota.Change] = defaultdict(quota.Change)
        resends = frozenset(finish.key for finish, is_resend in found if is_resend)
        batch = Batch(tuple(finish for finish, _ in found), resends)
        settled = _finish(conn, environment, batch, changes)
        quota.apply(conn, changes)
    return settled


def unknown(
    item: Expired, reason: str, *, on_unknown: str, max_attempts: int
) -> tuple[Finish, bool]:
    """What becomes of a message of unknown fate; and whether it is sent again."""
    is_resend = is_sent_again(
        on_unknown=on_unknown,
        sender=item.sender,
        attempts=item.attempts,
        max_attempts=max_attempts,
    )
    finish = Finish(
        key=(item.lead_id, item.run, item.number),
        token=item.token,
        day=item.day,
        envelope_id=item.envelope_id,
        state=MessageState.PLANNED if is_resend else MessageState.UNKNOWN,
        error=reason,
    )
    return finish, is_resend


def _finish(
    conn: psycopg.Connection,
    environment: str,
    batch: Batch,
    changes: dict[date, quota.Change],
) -> Settled:
    statuses = leads.lock_finishing(conn, {finish.key[0] for finish in batch.finishes})
    sent = [finish for finish in batch.finishes if finish.state is MessageState.SENT]
    missed, rows = ledger.finish_sent(conn, sent)
    others = [f for f in batch.finishes if f.state is not MessageState.SENT or f.key in missed]
    deviating = ledger.finish_messages(conn, others)
    finished = [f for f in batch.finishes if deviating.get(f.key, MessageState.SENDING)]
    returned = [f for f in finished if f.state is MessageState.PLANNED]
    settled = [f for f in finished if f.state is not MessageState.PLANNED]
    left = [f for f in settled if f.state is not MessageState.SENT or f.key in missed]
    completed = [*(Completed(*row) for row in rows), *_advance(conn, left, deviating)]
    failed = [f for f in settled if f.state is MessageState.FAILED]
    for finish in failed:
        changes[finish.day].sent -= 1
        leads.set_status(
            conn,
            [finish.key[0]],
            LeadStatus.FAILED,
            from_statuses=[LeadStatus.ACTIVE, LeadStatus.PAUSED],
            reason=finish.error,
        )
    if dead := {f.key[0]: f"bounced: {f.error}" for f in failed if f.is_address_dead}:
        leads.suppress(conn, dead)
    taken_back = {MessageState.CANCELLED: {finish.key[0] for finish in failed}}
    statuses = {**statuses, **_pause(conn, [f for f in returned if f.pauses])}
    shown = _give_back(returned, batch.resends, statuses, taken_back, changes)
    for state, lead_ids in taken_back.items():
        give_back(conn, environment, lead_ids, state, changes)
    to_archive: dict[date, list[int]] = defaultdict(list)
    for finish in settled:
        to_archive[finish.day].append(finish.envelope_id)
    for day, ids in sorted(to_archive.items()):
        queue.archive(conn, queue.name_of(environment, day), ids)
    for (day, seconds), ids in sorted(shown.items()):
        queue.set_visible(conn, queue.name_of(environment, day), ids, in_seconds=seconds)
    return Settled(tuple(finished), tuple(completed))


def _pause(conn: psycopg.Connection, unwritten: Sequence[Finish]) -> dict[int, LeadStatus]:
    """Pause the locked leads of messages that cannot be written, each with its reason."""
    by_reason: dict[str | None, list[int]] = defaultdict(list)
    for finish in unwritten:
        by_reason[finish.error].append(finish.key[0])
    paused: list[int] = []
    for reason, lead_ids in by_reason.items():
        paused += leads.set_status(
            conn, lead_ids, LeadStatus.PAUSED, from_statuses=[LeadStatus.ACTIVE], reason=reason
        )
    return dict.fromkeys(paused, LeadStatus.PAUSED)


def _advance(
    conn: psycopg.Connection,
    settled: Sequence[Finish],
    deviating: Mapping[MessageKey, MessageState | None],
) -> list[Completed]:
    """Move the leads of settled messages on. What was unknown before has been counted already."""
    rows = [
        (
            *finish.key,
            int(finish.state is not MessageState.FAILED and finish.key not in deviating),
            finish.sent_at,
        )
        for finish in settled
    ]
    return [Completed(*row) for row in leads.advance(conn, rows)] if rows else []


def _give_back(
    returned: Sequence[Finish],
    resends: frozenset[MessageKey],
    statuses: Mapping[int, LeadStatus],
    taken_back: dict[MessageState, set[int]],
    changes: dict[date, quota.Change],
) -> dict[tuple[date, int], list[int]]:
    """Count messages that are planned again; (day, seconds) -> envelopes to show.

    Those of leads that were paused or ended meanwhile go to `taken_back` instead.
    """
    shown: dict[tuple[date, int], list[int]] = defaultdict(list)
    for finish in returned:
        change = changes[finish.day]
        change.reserved += 1
        if finish.key in resends:
            change.resent += 1
        else:
            change.sent -= 1
        status = statuses.get(finish.key[0], LeadStatus.ACTIVE)
        if status is LeadStatus.ACTIVE:
            shown[finish.day, finish.backoff_seconds].append(finish.envelope_id)
        else:
            is_paused = status is LeadStatus.PAUSED
            state = MessageState.PLANNED if is_paused else MessageState.CANCELLED
            taken_back.setdefault(state, set()).add(finish.key[0])
    return shown


def _claim(
    conn: psycopg.Connection,
    clock: Clock,
    name: str,
    request: Request,
    pointers: Sequence[Pointer],
) -> Claimed:
    """Claim what today's quota has room for. The envelopes, read just now, are locked.

    Raises: _OutdatedError.
    """
    now = clock.read(conn)

    def claim(pointers: Sequence[Pointer]) -> list[Claim]:
        claims = ledger.claim_wave(
            conn,
            pointers,
            day=request.day,
            sender=request.sender,
            worker=request.worker,
            now=now,
        )
        if claims:
            _count(conn, claims, day=request.day, now=now)
        return claims

    claims = claim(pointers)
    if len(claims) == len(pointers):
        return Claimed(claims=tuple(claims))
    left = _without(pointers, [claim.envelope_id for claim in claims])
    left_out = ledger.lock_wave(conn, left, day=request.day)
    queue.archive(conn, name, left_out.orphans)
    others = [envelope_id for _, envelope_id in (*left_out.expired, *left_out.held)]
    candidates = _without(left, [*left_out.orphans, *others])
    # Locked now: what somebody else had locked a moment ago is claimed, and the others are blocked.
    more = claim(candidates) if candidates else []
    left = _without(candidates, [claim.envelope_id for claim in more])
    gate = quota.read_gate(conn, request.day)
    is_gate_closed = gate.room <= 0 or gate.is_paused
    # Blocked messages are hidden for a while: whatever holds them up is settled by then.
    seconds = 0 if is_gate_closed else request.vt_seconds
    queue.set_visible(conn, name, [envelope for _, envelope in left], in_seconds=seconds)
    return Claimed(
        claims=(*claims, *more),
        expired=left_out.expired,
        held=left_out.held,
        orphans=len(left_out.orphans),
        blocked=() if is_gate_closed else tuple(key for key, _ in left),
        is_gate_closed=is_gate_closed,
    )


def _count(conn: psycopg.Connection, claims: Sequence[Claim], *, day: date, now: datetime) -> None:
    """Count claims against the quota of their day, whose row is locked then.

    Whatever was committed while somebody else had it locked counts, too: what was claimed before
    goes by an older snapshot. Raises: _OutdatedError.
    """
    if not quota.try_lock_day(conn, day):
        quota.lock_days(conn, [day])
        if leads.has_suppressed(conn, [claim.lead_id for claim in claims]):
            raise _OutdatedError
    if not quota.count_claimed(conn, day, len(claims), now=now):
        raise _OutdatedError


def _without(pointers: Sequence[Pointer], envelope_ids: Collection[int]) -> list[Pointer]:
    gone = set(envelope_ids)
    return [(key, envelope_id) for key, envelope_id in pointers if envelope_id not in gone]
