"""The worker: read -> claim -> send -> finish, in waves, until it is told to stop.

`Worker.step` does the work and is what tests call; `Worker.run` only loops, waits, connects again
and logs. A claim is fenced by the token in the ledger; the visibility timeout only says when
others may look.
"""

import logging
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import psycopg

from hyperdrip import delivery, leads, ledger, queue, quota
from hyperdrip import instance as instances
from hyperdrip.breaker import Breaker
from hyperdrip.clock import Clock, day_of
from hyperdrip.db import SERVER_LOST
from hyperdrip.delivery import Batch, Claimed, Request, Settled
from hyperdrip.dispatch import Dispatcher, Wave
from hyperdrip.domain_limits import DomainLimits
from hyperdrip.errors import DatabaseUnavailable, SettingsError
from hyperdrip.models import Instance, MessageState, WorkerSummary
from hyperdrip.reading import ReadAhead
from hyperdrip.rollover import Policy, RolledOver, roll_over, settle_lost
from hyperdrip.senders import Sender
from hyperdrip.signals import Stop
from hyperdrip.standing import stop_leads

log = logging.getLogger("hyperdrip.worker")

HEARTBEAT_SECONDS = 10.0
LONGEST_NAP_SECONDS = 1.0
SHORTEST_NAP_SECONDS = 0.02
FIRST_RECONNECT_SECONDS = 0.1
LONGEST_RECONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
FRUITLESS_WAITS = 3

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How a worker works. Delays in ms, visibility in seconds."""

    poll_interval_ms: int = 5000
    message_delay_ms: int = 2000
    vt_seconds: int = 30
    is_drain: bool = False
    log_addresses: bool = True
    policy: Policy = field(default_factory=Policy)
    domain_limits: DomainLimits = field(default_factory=DomainLimits)


class Worker:
    """One worker on one connection. Setting `stop` stops it."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        sender: Sender,
        *,
        options: Options,
        clock: Clock,
        stop: Stop | None = None,
        chance: Callable[[], float] = random.random,
        beside: "Worker | None" = None,
    ) -> None:
        """Connect and register. `connect` is called again when a connection is lost.

        `chance` gives random numbers from 0 to 1. `beside`: a worker of the same process that has
        begun, to go on from where it stands; this one ends once there are others than these.
        Raises: DatabaseError and its kin.
        """
        self.stop = stop or Stop()
        self._connect = connect
        self._conn = connect()
        self._options = options
        self._clock = clock
        self._chance = chance
        try:
            self._instance = instances.require_instance(self._conn)
            self._id = instances.insert_worker(
                self._conn, host=socket.gethostname(), pid=os.getpid(), sender=sender.name
            )
        except BaseException:
            self._conn.close()
            raise
        self._dispatcher = Dispatcher(
            sender=sender,
            instance=self._instance,
            policy=options.policy,
            clock=clock,
            stop=self.stop,
            chance=chance,
            vt_seconds=options.vt_seconds,
            log_addresses=options.log_addresses,
            domain_limits=options.domain_limits,
        )
        self._counts: Counter[str] = Counter()
        self._unfinished = Batch()
        self._claimed = Claimed()
        self._asked: tuple[Sequence[int], Sequence[int], date, float] | None = None
        self._today: date | None = beside._today if beside else None
        self._is_beside, self._is_relieved = beside is not None, False
        self._own_ids: set[int] = {self._id} | (beside._own_ids if beside else set())
        # When the lease of what was read last ends, and what of each read was locked by others.
        self._read_ends = 0.0
        self._held: list[tuple[float, tuple[int, ...]]] = []
        self._ahead = ReadAhead()
        self._blocked: set[int] = set()
        self._next_claim_at = 0.0
        self._next_heartbeat_at = 0.0
        self._is_gate_known_open = False
        self._breaker = Breaker(sender.name, is_drain=options.is_drain, chance=chance)

    def close(self) -> None:
        """Say goodbye, if the database still listens."""
        try:
            instances.touch_worker(self._conn, self._id, is_stopped=True)
            self._conn.close()
        except psycopg.Error:
            log.debug("the last heartbeat could not be written")

    def is_alone(self) -> bool:
        """Has nobody else a worker on this database? Connects again if that was lost."""
        return self._while_connected(self._sees_no_other)

    def _sees_no_other(self) -> bool:
        return self._own_ids.issuperset(
            worker_id for worker_id, *_ in instances.list_live_workers(self._conn)
        )

    def begin(self) -> None:
        """Roll over before anything else, also if the database is lost meanwhile."""
        self._while_connected(self.roll_over)

    def run(self) -> WorkerSummary:
        """Work until stopped, or with `is_drain` until nothing is left to do today."""
        fruitless = 0
        failing_since: float | None = None
        while not (self.stop.is_set() or self._is_relieved):
            try:
                has_worked = self.step()
                failing_since = None
                if self._breaker.is_given_up:
                    break
                if has_worked:
                    fruitless = 0
                elif self._options.is_drain:
                    wait = self._drain_wait()
                    if wait is None or fruitless == FRUITLESS_WAITS:
                        break
                    fruitless += 1
                    self._await_due(wait)
                else:
                    self._idle()
            except SERVER_LOST as error:
                failing_since = failing_since or time.monotonic()
                if self._options.is_drain and time.monotonic() - failing_since > PATIENCE_SECONDS:
                    raise
                self._reconnect(error)
            except Exception:
                # Whatever broke, what was sent has to be written down before anything else.
                self._while_connected(self._finish_alone)
                raise
        self._while_connected(self._finish_alone)
        self._while_connected(self._return_ahead)
        return self._while_connected(self.summary)

    def step(self) -> bool:
        """Finish what was sent, claim the next wave and send it; False when nothing was to do."""
        self._beat()
        today = day_of(self._clock.recent(self._conn), self._instance.time_zone)
        if today != self._today:
            self._finish_alone()
            self.roll_over()
        if self._options.message_delay_ms or self._breaker.is_open:
            self._finish_alone()  # before a pause
        wave = self._claim_next()
        if wave is None:
            self._finish_alone()
            return False
        self._send(wave)
        return self._follow_up(self._claimed, wave.day)

    def roll_over(self) -> RolledOver:
        """Open today and take care of the open days before it."""
        result = roll_over(self._conn, self._clock, self._options.policy)
        if result.today != self._today and result.is_clock_back:
            log.warning("The clock stands before a day already opened; nothing is claimed")
        if result.today != self._today:
            self._held = []  # a rollover starts from the ledger
            self._ahead = ReadAhead()
            self._blocked = set()
        self._today = result.today
        self._is_gate_known_open = False
        self._counts["rolled_over"] += result.late
        self._counts["unknown"] += result.unknown
        for settled in result.settled:
            self._log_completed(settled)
        if result.late:
            log.info(
                "Rolled over %d late messages; with those that make room %d have another day",
                result.late,
                result.moved,
            )
        return result

    def read_gate(self) -> quota.Gate:
        """Room and waiting messages of today."""
        return quota.read_gate(self._conn, self._open_day())

    def summary(self) -> WorkerSummary:
        """What this worker has done so far, and what waits today."""
        if self._today is None:
            self.roll_over()
        gate = self.read_gate()
        seconds = queue.seconds_to_next(self._conn, self._queue_name())
        next_at = None
        if seconds is not None and gate.waiting and gate.room > 0:
            next_at = datetime.now(UTC) + timedelta(seconds=max(0.0, seconds))
        return WorkerSummary(
            sent=self._counts["sent"],
            failed=self._counts["failed"],
            retried=self._counts["retried"],
            unknown=self._counts["unknown"],
            skipped=self._counts["skipped"],
            rolled_over=self._counts["rolled_over"],
            waiting=gate.waiting,
            next_attempt_at=next_at,
            quota_reached=gate.room <= 0 and gate.waiting > 0,
            refusal=self._breaker.refusal,
        )

    # Claiming

    def _claim_next(self) -> Wave | None:
        """Read and claim the next wave, finishing the last one on the way; None when idle."""
        if self.stop.is_set() or not self._is_gate_open() or not self._await_spacing():
            self._return_ahead()
            return None
        self._show_held()
        day, vt_seconds = self._open_day(), self._options.vt_seconds
        ahead = self._ahead
        if not ahead.is_fresh(vt_seconds):
            self._return_ahead()
        if not ahead.envelope_ids:
            ahead.lease_ends = time.monotonic() + vt_seconds
        lease_ends = self._read_ends = ahead.lease_ends

        def note_asked(envelope_ids: Sequence[int], behind: Sequence[int]) -> None:
            self._asked = envelope_ids, behind, day, lease_ends

        settled, claimed = delivery.finish_and_claim(
            self._conn,
            self._clock,
            self._instance.environment,
            batch=self._unfinished,
            request=Request(
                self._wave_size(),
                day,
                self._dispatcher.sender.name,
                self._id,
                vt_seconds,
                on_read=note_asked,
                ahead=ahead.envelope_ids,
                waves=ahead.waves,
            ),
        )
        self._note_settled(settled)
        self._asked = None
        ahead.note(claimed)
        if not claimed.has_read:
            self._is_gate_known_open = False
            return None
        self._is_gate_known_open = bool(claimed.claims) and not claimed.is_gate_closed
        self._claimed = claimed
        return Wave(claimed.claims, day, lease_ends)

    def _follow_up(self, claimed: Claimed, day: date) -> bool:
        """What a claim brought to light, seen to once the wave is out: it may take a while.

        Returns whether anything came of it: nothing came of messages that are blocked once more.
        """
        self._counts["skipped"] += claimed.orphans
        if claimed.held:
            self._held.append((self._read_ends, claimed.held))
        sender_name = self._dispatcher.sender.name
        if claimed.claims and self._instance.last_sender != sender_name:
            instances.set_last_sender(self._conn, sender_name)
            self._instance = instances.require_instance(self._conn)
        if claimed.expired:
            policy = self._options.policy
            settled = delivery.settle_expired(
                self._conn,
                self._instance.environment,
                claimed.expired,
                day=day,
                on_unknown=policy.on_unknown,
                max_attempts=policy.max_attempts,
                lease_ends=self._read_ends,
            )
            self._note_lost(settled)
        if claimed.blocked:
            self._stop_suppressed(set(claimed.blocked.values()))
        is_only_blocked = not (
            claimed.claims
            or claimed.expired
            or claimed.held
            or claimed.orphans
            or claimed.is_gate_closed
        )
        is_old = is_only_blocked and self._blocked.issuperset(claimed.blocked)
        self._blocked.update(claimed.blocked)
        # Only a read that leaves nothing to claim says that there is nothing.
        return not is_old or claimed.read is None or bool(claimed.ahead)

    def _show_held(self) -> None:
        """Show what somebody else had locked when it was read; a lease would hide it for long."""
        environment, day, still_held = self._instance.environment, self._open_day(), []
        for lease_ends, held in self._held:
            if time.monotonic() < lease_ends and (
                left := delivery.show_held(
                    self._conn, environment, held, day=day, lease_ends=lease_ends
                )
            ):
                still_held.append((lease_ends, left))
        self._held = still_held

    def _return_ahead(self) -> None:
        """Show what was read and is not going to be claimed; a lease would hide it for long."""
        ahead = self._ahead
        if not ahead.envelope_ids:
            return
        held = delivery.show_held(
            self._conn,
            self._instance.environment,
            ahead.envelope_ids,
            day=self._open_day(),
            lease_ends=ahead.lease_ends,
        )
        ahead.clear()
        if held:
            self._held.append((ahead.lease_ends, held))

    def _stop_suppressed(self, lead_ids: set[int]) -> None:
        """Messages to suppressed addresses would wait for ever: stop their leads."""
        email_of = leads.list_emails(self._conn, lead_ids)
        suppressed = leads.list_suppressed(self._conn, list(email_of.values()))
        found = [lead_id for lead_id, email in email_of.items() if email in suppressed]
        if found:
            stop_leads(self._conn, self._clock, found, reason="suppressed")
            self._counts["skipped"] += len(found)

    def _is_gate_open(self) -> bool:
        if self._is_gate_known_open:
            return True
        gate = self.read_gate()
        return gate.room > 0 and not gate.is_paused and gate.newest_day == self._today

    def _await_spacing(self) -> bool:
        """Pause before the claim: a worker killed while it waits leaves nothing unknown."""
        if self._next_claim_at <= time.monotonic():
            return True
        self._return_ahead()
        if not self.read_gate().waiting:
            return False
        while not self.stop.is_set() and (left := self._next_claim_at - time.monotonic()) > 0:
            self._nap(min(left, LONGEST_NAP_SECONDS))
            if day_of(self._clock.estimate(), self._instance.time_zone) != self._today:
                return False
        return not self.stop.is_set()

    def _wave_size(self) -> int:
        return 1 if self._options.message_delay_ms else self._dispatcher.sender.wave_size

    def _send(self, wave: Wave) -> None:
        """Hand a wave over; what came of it waits for the next finish."""
        if wave.claims:
            self._unfinished = self._dispatcher.send(self._conn, wave, self._beat)
            delay = self._options.message_delay_ms / 1000 if wave.handed_over else 0.0
            pause = max(delay, self._breaker.note(wave))
            self._next_claim_at = max(self._next_claim_at, time.monotonic() + pause)

    # Finishing

    def _finish_alone(self) -> None:
        """Settle what was sent, without claiming anything."""
        if self._unfinished.finishes:
            settled, _ = delivery.finish_and_claim(
                self._conn,
                self._clock,
                self._instance.environment,
                batch=self._unfinished,
                request=None,
            )
            self._note_settled(settled)

    def _note_settled(self, settled: Settled) -> None:
        """Count a batch that was committed, and forget it."""
        batch, self._unfinished = self._unfinished, Batch()
        self._log_completed(settled)
        sent = sum(finish.state is MessageState.SENT for finish in settled.finished)
        if sent == len(batch.finishes):  # as most are, and nothing else is to be said of them
            self._counts["sent"] += sent
            return
        done = {finish.key for finish in settled.finished}
        missing = [finish for finish in batch.finishes if finish.key not in done]
        # A repeated finish finds its own work done when only the reply to the first was lost.
        states = ledger.list_settled(self._conn, missing) if missing else {}
        for finish in batch.finishes:
            lead_id, _, number = finish.key
            if finish.key not in done and states.get(finish.key) is not finish.state:
                self._counts["skipped"] += 1
                log.warning("Message #%d of lead_%d was settled elsewhere", number, lead_id)
            elif finish.state is not MessageState.PLANNED:
                self._counts[finish.state.value] += 1
            elif finish.is_attempt:
                self._counts["retried"] += 1
            elif finish.pauses:
                self._counts["skipped"] += 1
            if finish.error:
                log.warning("Message #%d of lead_%d: %s", number, lead_id, finish.error)

    def _log_completed(self, settled: Settled) -> None:
        if self._dispatcher.sender.is_quiet:
            return
        for lead in settled.completed:
            log.info(
                "Lead %s completed drip campaign (%d/%d messages)",
                lead.email if self._options.log_addresses else f"lead_{lead.lead_id}",
                lead.message_count,
                lead.max_messages,
            )

    # Waiting

    def _idle(self) -> None:
        """Wait for the next envelope, for one poll interval at most."""
        self._look_after_open_days()
        ends = time.monotonic() + self._options.poll_interval_ms / 1000
        while not self.stop.is_set() and (left := ends - time.monotonic()) > 0:
            self._beat()
            seconds = queue.seconds_to_next(self._conn, self._queue_name())
            if seconds is not None and seconds <= 0 and self._is_gate_open():
                return
            self.stop.wait(min(left, LONGEST_NAP_SECONDS))

    def _drain_wait(self) -> float | None:
        """Seconds until something may be left to do within one visibility timeout, or None."""
        self._show_held()
        self._settle_unread()
        gate = self.read_gate()
        if gate.is_paused or gate.newest_day != self._today:
            return None
        days = quota.list_open_days(self._conn, self._open_day())
        names = [queue.name_of(self._instance.environment, day) for day in days]
        if gate.room > 0:
            names.append(self._queue_name())
        waits = [queue.seconds_to_next(self._conn, name) for name in names]
        soon = [wait for wait in waits if wait is not None and wait <= self._options.vt_seconds]
        return max(SHORTEST_NAP_SECONDS, min(soon)) if soon else None

    def _await_due(self, seconds: float) -> None:
        """Wait for what comes due in `seconds`: no longer than it is there, and not yet due.

        It may be in another worker's hands, who finishes it or gives it back at any moment.
        """
        ends = time.monotonic() + seconds
        wait: float | None = seconds
        while wait is not None and not self.stop.is_set():
            self._nap(min(wait, LONGEST_NAP_SECONDS))
            if wait <= LONGEST_NAP_SECONDS or time.monotonic() >= ends:
                return
            wait = self._drain_wait()

    def _nap(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while not self.stop.is_set() and (left := ends - time.monotonic()) > 0:
            self._beat()
            self.stop.wait(min(left, LONGEST_NAP_SECONDS))
        self._look_after_open_days()

    def _look_after_open_days(self) -> None:
        if quota.list_open_days(self._conn, self._open_day()):
            self.roll_over()
        self._settle_unread()

    def _settle_unread(self) -> None:
        """Settle what a dead worker left of today, while nobody reads the queue to find it."""
        gate = self.read_gate()
        if gate.room <= 0 or gate.is_paused:
            environment, policy = self._instance.environment, self._options.policy
            self._note_lost(settle_lost(self._conn, environment, self._open_day(), policy))

    def _note_lost(self, settled: Settled) -> None:
        self._counts["unknown"] += sum(
            finish.state is MessageState.UNKNOWN for finish in settled.finished
        )
        self._log_completed(settled)

    def _beat(self) -> None:
        if time.monotonic() >= self._next_heartbeat_at:
            instances.touch_worker(self._conn, self._id)
            self._next_heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
            self._is_relieved = self._is_beside and not self._sees_no_other()

    # Losing the database

    def _while_connected(self, work: Callable[[], T]) -> T:
        while True:
            try:
                return work()
            except SERVER_LOST as error:
                self._reconnect(error)

    def _reconnect(self, error: psycopg.Error) -> None:
        """Connect again, finish what was sent, and look up a claim whose reply was lost.

        A worker that is to stop gives up after a while; the others never do.
        """
        log.warning("Lost the database (%s); connecting again", str(error).strip().split("\n")[0])
        gives_up_at = time.monotonic() + PATIENCE_SECONDS
        pause = FIRST_RECONNECT_SECONDS
        while True:
            try:
                self._conn.close()
                self._conn = self._connect()
                self._finish_alone()
                self._recover_claims()
            except (*SERVER_LOST, DatabaseUnavailable) as again:
                is_hurried = self._options.is_drain or self.stop.is_set()
                if is_hurried and time.monotonic() > gives_up_at:
                    raise DatabaseUnavailable(
                        f"the database was lost and not back within {PATIENCE_SECONDS:.0f} s"
                    ) from again
                pause = min(pause * 2, LONGEST_RECONNECT_SECONDS)
                time.sleep(pause * (0.5 + self._chance() / 2))
            else:
                log.warning("Connected again")
                return

    def _recover_claims(self) -> None:
        """A claim may have been committed although its reply was lost: look it up and send it."""
        if self._asked is None:
            return
        envelope_ids, behind, day, lease_ends = self._asked
        claims = ledger.list_claimed(self._conn, envelope_ids, day=day, worker=self._id)
        self._asked = None
        if day == self._today:
            claimed = {claim.envelope_id for claim in claims}
            left = [envelope_id for envelope_id in envelope_ids if envelope_id not in claimed]
            self._ahead = ReadAhead(envelope_ids=(*left, *behind), lease_ends=lease_ends)
        self._send(Wave(claims, day, lease_ends))
        self._return_ahead()

    def _open_day(self) -> date:
        if self._today is None:
            self.roll_over()
        assert self._today is not None
        return self._today

    def _queue_name(self) -> str:
        return queue.name_of(self._instance.environment, self._open_day())


def check_sender(instance: Instance, sender: str, *, is_explicit: bool) -> None:
    """Raises: SettingsError when nobody chose a sender and the database last sent with another."""
    if not is_explicit and instance.last_sender not in (None, sender):
        raise SettingsError(
            f"this database last sent with {instance.last_sender!r} and no sender is chosen now;"
            f" say --sender {instance.last_sender} or --sender {sender}"
        )
