"""The transactions of the worker's loop: claim, finish, extend, and settling expired leases.

Read -> claim -> send -> finish are separate statements, each with its own snapshot. Finishing
wave k and claiming wave k+1 share a transaction.

Lock order: leads by id, messages, envelopes, quota.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

import psycopg

from hyperdrip import leads, ledger, queue, quota
from hyperdrip.clock import Clock
from hyperdrip.ledger import Expired, Finish
from hyperdrip.models import Claim, LeadStatus, MessageKey, MessageState
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

    `on_read` is told what is to be claimed, and what is not yet, before any of it can be. `ahead`:
    what was read before and is not claimed yet, of which this is taken; without it `waves` times
    `quantity` are read.
    """

    quantity: int
    day: date
    sender: str
    worker: int
    vt_seconds: int
    on_read: Callable[[Sequence[int], Sequence[int]], None] = lambda _envelope_ids, _ahead: None
    ahead: Sequence[int] = ()
    waves: int = 1


@dataclass(frozen=True)
class Read:
    """How many envelopes a read brought, whether as many as asked for, and how long it took."""

    count: int
    is_full: bool
    seconds: float


@dataclass(frozen=True)
class Claimed:
    """What came of a request.

    Envelopes of messages that are being sent (`expired`) or were locked by somebody else (`held`);
    and envelope -> lead of those that nothing can be claimed of now. `has_read`: there was anything
    to read. `ahead`: what was read and is not claimed yet. `read`: how a read went, if there was
    one.
    """

    has_read: bool = False
    ahead: tuple[int, ...] = ()
    read: Read | None = None
    claims: tuple[Claim, ...] = ()
    expired: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    orphans: int = 0
    blocked: Mapping[int, int] = field(default_factory=dict)
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
        settled = Settled()
        if batch.finishes:
            settled = _finish(conn, environment, batch, changes)
        if request is None:
            quota.apply(conn, changes)
            return settled, Claimed()
        name = queue.name_of(environment, request.day)
        if request.ahead:
            taken, ahead = request.ahead[: request.quantity], request.ahead[request.quantity :]
            now, read = clock.read(conn), None
            envelope_ids: Sequence[int] = queue.list_hidden(conn, name, taken)
        else:
            envelope_ids, ahead, now, read = _read(conn, clock, name, request)
        request.on_read(envelope_ids, ahead)
        quota.apply(conn, {d: c for d, c in changes.items() if d <= request.day})
        if is_quota_first:
            quota.lock_days(conn, [request.day])
        claimed = Claimed()
        if envelope_ids:
            claimed = _claim(conn, name, request, envelope_ids, now=now)
        if request.ahead:
            # What is being sent was claimed since it was read: nobody's lease has run out.
            claimed = replace(claimed, has_read=True, expired=(), orphans=0)
        claimed = replace(claimed, ahead=tuple(ahead), read=read)
        quota.apply(conn, {d: c for d, c in changes.items() if d > request.day})
        return settled, claimed


def _read(
    conn: psycopg.Connection, clock: Clock, name: str, request: Request
) -> tuple[Sequence[int], Sequence[int], datetime, Read]:
    """Read what is to be claimed now, and what may be later; and the clock, and how it went.

    Only what is planned can wait: all else is seen to now, while its envelope is locked.
    """
    asked, started = request.quantity * request.waves, time.monotonic()
    found, server_now = queue.read(conn, name, vt_seconds=request.vt_seconds, quantity=asked)
    read = Read(len(found), len(found) == asked, time.monotonic() - started)
    wave, ahead = found[: request.quantity], found[request.quantity :]
    if ahead:
        planned = set(ledger.list_planned(conn, ahead, day=request.day))
        wave += [envelope_id for envelope_id in ahead if envelope_id not in planned]
        ahead = sorted(planned)
    return wave, ahead, clock.take(server_now), read


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
    held: Sequence[int],
    *,
    day: date,
    lease_ends: float,
) -> tuple[int, ...]:
    """Show envelopes again that were read while somebody else had locked their messages.

    Returns those that are locked still. The others are visible at once if they can be claimed; what
    is being sent, or was settled, is left as it is. `lease_ends` (monotonic): until when nobody
    else can have read them; after that they are none of ours, and visible by themselves.
    """
    with conn.transaction():
        found = ledger.lock_wave(conn, held, day=day)
        if found.planned and time.monotonic() < lease_ends:
            name = queue.name_of(environment, day)
            queue.set_visible(conn, name, list(found.planned), in_seconds=0)
    return found.held


def settle_expired(
    conn: psycopg.Connection,
    environment: str,
    expired: Sequence[int],
    *,
    day: date,
    on_unknown: str,
    max_attempts: int,
    lease_ends: float | None,
) -> Settled:
    """Settle messages whose lease ran out while they were being sent: unknown, or sent again.

    `expired`: their envelopes.
    `lease_ends` (monotonic): the caller has read their envelopes, so the lease of whoever sends
    them was over, and until then nobody else can have claimed them; later nothing is done. None: it
    has not read them, and those that are hidden are left alone.
    """
    if not expired:
        return Settled()
    with conn.transaction():
        leads.lock_finishing(conn, ledger.list_leads_of(conn, expired, day=day))
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
    sent = [finish for finish in batch.finishes if finish.state is MessageState.SENT]
    statuses = {}
    if len(sent) < len(batch.finishes) or len({finish.day for finish in sent}) > 1:
        # Otherwise finishing those that were sent locks all leads.
        statuses = leads.lock_finishing(conn, [finish.key[0] for finish in batch.finishes])
    missed, completed = _finish_sent(conn, sent)
    if len(sent) == len(batch.finishes) and not missed:  # as most waves are
        _archive(conn, environment, sent)
        return Settled(batch.finishes, tuple(completed))
    others = [f for f in batch.finishes if f.state is not MessageState.SENT or f in missed]
    deviating = ledger.finish_messages(conn, others)
    finished = [f for f in batch.finishes if deviating.get(f.key, MessageState.SENDING)]
    returned = [f for f in finished if f.state is MessageState.PLANNED]
    settled = [f for f in finished if f.state is not MessageState.PLANNED]
    left = [f for f in settled if f.state is not MessageState.SENT or f in missed]
    completed += _advance(conn, left, deviating)
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
    _archive(conn, environment, settled)
    for (day, seconds), ids in sorted(shown.items()):
        queue.set_visible(conn, queue.name_of(environment, day), ids, in_seconds=seconds)
    return Settled(tuple(finished), tuple(completed))


def _finish_sent(
    conn: psycopg.Connection, sent: Sequence[Finish]
) -> tuple[set[Finish], list[Completed]]:
    """Settle what was sent and is still ours; the others, and the leads that completed."""
    missed, completed = set[Finish](), list[Completed]()
    for day, items in _by_day(sent):
        others, rows = ledger.finish_sent(conn, items, day=day)
        missed.update(item for item in items if item.key[0] in others)
        completed += [Completed(*row) for row in rows]
    return missed, completed


def _archive(conn: psycopg.Connection, environment: str, settled: Sequence[Finish]) -> None:
    for day, items in _by_day(settled):
        name = queue.name_of(environment, day)
        queue.archive(conn, name, [item.envelope_id for item in items])


def _by_day(finishes: Sequence[Finish]) -> list[tuple[date, Sequence[Finish]]]:
    """Those of each day, by day; most often they are all of one."""
    days = {finish.day for finish in finishes}
    if len(days) == 1:
        return [(days.pop(), finishes)]
    return [(day, [finish for finish in finishes if finish.day == day]) for day in sorted(days)]


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
    name: str,
    request: Request,
    envelope_ids: Sequence[int],
    *,
    now: datetime,
) -> Claimed:
    """Claim what today's quota has room for. The envelopes, read just now, are locked.

    Raises: _OutdatedError.
    """

    def claim(envelope_ids: Sequence[int]) -> list[Claim]:
        claims = ledger.claim_wave(
            conn,
            envelope_ids,
            day=request.day,
            sender=request.sender,
            worker=request.worker,
            now=now,
        )
        if claims:
            _count(conn, claims, day=request.day, now=now)
        return claims

    claims = claim(envelope_ids)
    if len(claims) == len(envelope_ids):
        return Claimed(has_read=True, claims=tuple(claims))
    left = set(envelope_ids).difference(claim.envelope_id for claim in claims)
    found = ledger.lock_wave(conn, sorted(left), day=request.day)
    queue.archive(conn, name, found.orphans)
    # Locked now: what somebody else had locked a moment ago is claimed, and the others are blocked.
    more = claim(list(found.planned)) if found.planned else []
    claimed_now = {claim.envelope_id for claim in more}
    blocked = {e: lead_id for e, lead_id in found.planned.items() if e not in claimed_now}
    gate = quota.read_gate(conn, request.day)
    is_gate_closed = gate.room <= 0 or gate.is_paused
    # Blocked messages are hidden for a while: whatever holds them up is settled by then.
    seconds = 0 if is_gate_closed else request.vt_seconds
    queue.set_visible(conn, name, list(blocked), in_seconds=seconds)
    return Claimed(
        has_read=True,
        claims=(*claims, *more),
        expired=found.expired,
        held=found.held,
        orphans=len(found.orphans),
        blocked={} if is_gate_closed else blocked,
        is_gate_closed=is_gate_closed,
    )


def _count(conn: psycopg.Connection, claims: Sequence[Claim], *, day: date, now: datetime) -> None:
    """Count claims against the quota of their day, whose row is locked then.

    Whatever was committed while somebody else had it locked counts, too: what was claimed before
    goes by an older snapshot. Raises: _OutdatedError.
    """
    is_locked, is_counted = quota.count_claimed(conn, day, len(claims), now=now)
    if not is_locked:
        quota.lock_days(conn, [day])
        if leads.has_suppressed(conn, claims):
            raise _OutdatedError
        _, is_counted = quota.count_claimed(conn, day, len(claims), now=now)
    if not is_counted:
        raise _OutdatedError
