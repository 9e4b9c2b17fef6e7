"""Handing a claimed wave over to the sender, and turning what comes back into a batch to finish."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, assert_never

import psycopg

from hyperdrip import delivery, pacing
from hyperdrip import instance as instances
from hyperdrip.clock import Clock, day_of
from hyperdrip.db import SERVER_LOST
from hyperdrip.delivery import Batch
from hyperdrip.domain_limits import DomainLimits, domain_of
from hyperdrip.errors import HyperdripError
from hyperdrip.ledger import Expired, Finish
from hyperdrip.models import Claim, Instance, MessageKey, MessageState
from hyperdrip.retry import backoff_seconds, is_given_up
from hyperdrip.rollover import Policy
from hyperdrip.senders import (
    Failed,
    Later,
    Outcome,
    Refused,
    Retry,
    Sender,
    Sent,
    Unknown,
    Unwritten,
)
from hyperdrip.signals import Stop

log = logging.getLogger("hyperdrip.worker")

NEVER = datetime.max.replace(tzinfo=UTC)

PAUSE_CHECK_SECONDS = 0.1
LOOK_SECONDS = 0.1
SAME_INSTANT_SECONDS = 0.001
LONGEST_LATER_SECONDS = 86_400.0
# Outcomes of messages that need not have been handed over.
NEVER_LEFT = (Unwritten, Refused, Later)
NO_ANSWER = Unknown("the sender gave no answer")


@dataclass
class Wave:
    """What is in flight: claims of one day, and until when (monotonic) their lease holds.

    `outcomes` and `handed_over` (when) are by envelope. `refusal`: why the sender takes nothing at
    all, once it said so, or broke. `sure_until` (monotonic): until when a hand-over is allowed, as
    far as the lease, the day and a pause go.
    """

    claims: Sequence[Claim]
    day: date
    lease_ends: float
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    handed_over: dict[int, datetime] = field(default_factory=dict)
    sure_until: float = 0.0
    places: pacing.Reserved | None = None
    refusal: str | None = None

    @property
    def is_answered(self) -> bool:
        """Did the other side deal with any message of it?"""
        return any(not isinstance(o, NEVER_LEFT) for o in self.outcomes.values())


@dataclass
class Dispatcher:
    """Sends waves with one sender, and says what is to become of each message."""

    sender: Sender
    instance: Instance
    policy: Policy
    clock: Clock
    stop: Stop
    chance: Callable[[], float]
    vt_seconds: int
    log_addresses: bool = True
    domain_limits: DomainLimits = field(default_factory=DomainLimits)
    _paused_at: float = 0.0
    _is_paused: bool = False

    def send(
        self, conn: psycopg.Connection, wave: Wave, beat: Callable[[], None] = lambda: None
    ) -> Batch:
        """Hand the wave over; returns what has to be finished, also when the sender breaks.

        `beat` is called now and then in between.
        """
        looked_at = time.monotonic()
        extended_at = wave.lease_ends - self.vt_seconds
        instant, instant_ends = NEVER, 0.0
        outcomes, handed_over, is_quiet = wave.outcomes, wave.handed_over, self.sender.is_quiet
        day = str(wave.day)
        known: Outcome | None = None

        def may_send(claim: Claim) -> bool:
            nonlocal instant, instant_ends
            moment = time.monotonic()
            if self.stop.is_set() or wave.refusal:
                return False
            if moment >= wave.sure_until and not self._may_hand_over(conn, wave, moment):
                return False
            if moment >= instant_ends:
                instant, instant_ends = self.clock.estimate(), moment + SAME_INSTANT_SECONDS
            handed_over[claim.envelope_id] = instant
            if not is_quiet:
                log.info(
                    "Sending message #%d to %s (scheduled for %s)",
                    claim.number,
                    claim.email if self.log_addresses else f"lead_{claim.lead_id}",
                    day,
                )
            return True

        try:
            claims = self._keep_pace(conn, wave)
            for answer in self.sender.send_wave(claims, may_send) if claims else ():
                if answer is not None:
                    claim, outcome = answer
                    if outcome is not known:  # many may be answered with one and the same
                        _check(outcome)
                    outcomes[claim.envelope_id] = outcome
                    if claim.envelope_id not in handed_over and not isinstance(outcome, NEVER_LEFT):
                        handed_over[claim.envelope_id] = self.clock.estimate()  # so it says
                        raise TypeError("a message was handed over that may_send was not asked for")
                    if outcome is not known and isinstance(outcome, Refused):
                        wave.refusal = wave.refusal or _storable(outcome.reason) or "no reason"
                    known = outcome
                elif self.stop.is_set() and handed_over.keys() <= outcomes.keys():
                    break  # nothing is in flight, and nothing more goes out
                now = time.monotonic()
                if now - looked_at > LOOK_SECONDS:
                    looked_at = now
                    with suppress(*SERVER_LOST):  # whoever reads next finds out
                        beat()
                    if now - extended_at > self.vt_seconds / 3:
                        extended_at = now
                        self._extend(conn, wave)
        except (HyperdripError, *SERVER_LOST) as error:  # such as a campaign that cannot be read
            wave.refusal = _storable(str(error))
        except (Exception, SystemExit) as error:  # whatever breaks, the wave has to be settled
            log.exception("A wave of the sender %s was cut short", self.sender.name)
            wave.refusal = f"it broke ({type(error).__name__})"
        self._return_places(conn, wave)
        return self._settle(wave)

    def _keep_pace(self, conn: psycopg.Connection, wave: Wave) -> list[Claim]:
        """Those of the wave that their domains' paces let through; the others are Later."""
        if not self.domain_limits:
            return list(wave.claims)
        try:
            wave.places = pacing.reserve(
                conn, self.domain_limits, [item.email for item in wave.claims]
            )
        except SERVER_LOST:
            return []  # whoever reads next finds out; the whole wave goes back
        claims: list[Claim] = []
        for claim, seconds in zip(wave.claims, wave.places.waits, strict=True):
            if seconds is None:
                claims.append(claim)
            else:
                reason = f"the limit of {domain_of(claim.email)} (DOMAIN_LIMITS)"
                wave.outcomes[claim.envelope_id] = Later(reason, seconds)
        return claims

    def _return_places(self, conn: psycopg.Connection, wave: Wave) -> None:
        """Give the places back of what did not leave; if that fails, they have been taken."""
        if wave.places is None:
            return
        stayed = [
            claim.email
            for claim, wait in zip(wave.claims, wave.places.waits, strict=True)
            if wait is None
            and (
                claim.envelope_id not in wave.handed_over
                or isinstance(wave.outcomes.get(claim.envelope_id), NEVER_LEFT)
            )
        ]
        with suppress(*SERVER_LOST):
            pacing.give_back(conn, self.domain_limits, wave.places, stayed)

    def _may_hand_over(self, conn: psycopg.Connection, wave: Wave, moment: float) -> bool:
        """Right before a hand-over: still that day, lease not over, not paused; and until when."""
        if moment >= wave.lease_ends:
            return False
        if moment - self._paused_at > PAUSE_CHECK_SECONDS:
            try:
                self._is_paused = instances.require_instance(conn).is_paused
            except SERVER_LOST:
                # Whoever reads next finds out and connects again; no more of this wave goes out,
                # and what is in flight is still answered.
                wave.lease_ends = 0.0
                return False
            self._paused_at = time.monotonic()
        # Asking may have taken a while.
        moment, now = time.monotonic(), self.clock.estimate()
        if moment >= wave.lease_ends or day_of(now, self.instance.time_zone) != wave.day:
            return False
        if self._is_paused:
            return False
        # No day ends within a second of the clock.
        second_ends = moment + 1 - now.microsecond / 1e6
        wave.sure_until = min(wave.lease_ends, self._paused_at + PAUSE_CHECK_SECONDS, second_ends)
        return True

    def _extend(self, conn: psycopg.Connection, wave: Wave) -> None:
        """Hide the whole wave for longer. If that fails, the lease just ends earlier.

        Also what has an outcome: until the wave is finished, others would take it for a lost one.
        """
        started = time.monotonic()
        try:
            ours = delivery.extend(
                conn, self.instance.environment, wave.claims, vt_seconds=self.vt_seconds
            )
        except SERVER_LOST as error:
            log.warning(
                "The lease of %d messages could not be extended: %s", len(wave.claims), error
            )
            return
        if ours == len(wave.claims):
            wave.lease_ends = started + self.vt_seconds

    def _settle(self, wave: Wave) -> Batch:
        finishes: list[Finish] = []
        resends: set[MessageKey] = set()
        outcome_of, handed_over, sent = wave.outcomes.get, wave.handed_over.get, MessageState.SENT
        for claim in wave.claims:
            envelope_id = claim.envelope_id
            outcome, sent_at = outcome_of(envelope_id, NO_ANSWER), handed_over(envelope_id)
            if type(outcome) is Sent and sent_at is not None:  # as most are
                said = outcome.provider_id and _storable(outcome.provider_id)
                finishes.append(
                    Finish(claim.key, claim.token, wave.day, envelope_id, sent, sent_at, None, said)
                )
                continue
            if sent_at is None and not isinstance(outcome, NEVER_LEFT):
                finishes.append(_finish(claim, MessageState.PLANNED, is_attempt=False))
                continue
            finish, is_resend = self._finish_of(claim, outcome, sent_at)
            finishes.append(finish)
            if is_resend:
                resends.add(finish.key)
        return Batch(tuple(finishes), frozenset(resends))

    def _finish_of(
        self, claim: Claim, outcome: Outcome, sent_at: datetime | None
    ) -> tuple[Finish, bool]:
        """What becomes of a message that has an outcome; and whether it is sent again."""
        most = self.policy.max_attempts
        match outcome:
            case Sent(name):
                said = None if name is None else _storable(name)
                sent = MessageState.SENT
                return _finish(claim, sent, sent_at=sent_at, provider_id=said), False
            case Retry(reason):
                if is_given_up(claim.attempts, max_attempts=most):
                    why = f"given up after {claim.attempts} attempts: {reason}"
                    return _finish(claim, MessageState.FAILED, error=why), False
                seconds = backoff_seconds(claim.attempts, chance=self.chance())
                again = MessageState.PLANNED
                return _finish(claim, again, error=reason, backoff_seconds=seconds), False
            case Failed(reason, is_dead):
                failed = MessageState.FAILED
                return _finish(claim, failed, error=reason, is_address_dead=is_dead), False
            case Unknown(reason):
                held = Expired(
                    *claim.key,
                    claim.token,
                    claim.attempts,
                    self.sender.name,
                    claim.day,
                    claim.envelope_id,
                )
                return delivery.unknown(
                    held, _storable(reason), on_unknown=self.policy.on_unknown, max_attempts=most
                )
            case Unwritten(reason):
                again = MessageState.PLANNED
                return _finish(claim, again, error=reason, is_attempt=False, pauses=True), False
            case Refused(_, seconds):
                wait = math.ceil(min(max(0.0, seconds), LONGEST_LATER_SECONDS))
                again = MessageState.PLANNED
                return _finish(claim, again, is_attempt=False, backoff_seconds=wait), False
            case Later(_, seconds):
                wait = math.ceil(min(max(1.0, seconds), LONGEST_LATER_SECONDS))
                again = MessageState.PLANNED
                return _finish(claim, again, is_attempt=False, backoff_seconds=wait), False
            case _:
                assert_never(outcome)


def _check(outcome: object) -> None:
    """Raises: TypeError for what no sender may answer."""
    if type(outcome) is Sent and (outcome.provider_id is None or type(outcome.provider_id) is str):
        return  # the most common, at once
    if not isinstance(outcome, Outcome):
        raise TypeError(f"{type(outcome).__name__} is no outcome")
    kinds: dict[str, Any] = {
        "reason": str,
        "provider_id": str | None,
        "seconds": int | float,
        "is_address_dead": bool,
    }
    for name, value in vars(outcome).items():
        if not isinstance(value, kinds.get(name, object)):
            raise TypeError(f"{name} of {type(outcome).__name__} is {type(value).__name__}")


def _storable(text: str) -> str:
    """What the other side said, as a database takes it: one line of what can be written."""
    return " ".join(text.encode("utf-8", "replace").decode().replace("\0", "").split())


def _finish(
    claim: Claim,
    state: MessageState,
    *,
    error: str | None = None,
    **what: Any,
) -> Finish:
    return Finish(
        claim.key,
        claim.token,
        claim.day,
        claim.envelope_id,
        state,
        error=None if error is None else _storable(error),
        **what,
    )
