"""Methods of the library door: sending, rolling over, pausing, proving."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from hyperdrip import campaigns, leads, quota
from hyperdrip import instance as instances
from hyperdrip.audit import run_audit
from hyperdrip.client.calendar import CalendarMethods
from hyperdrip.db import connect, converted_errors
from hyperdrip.errors import DatabaseUnavailable
from hyperdrip.explaining import Explanation, explain
from hyperdrip.fence import connect_to_send, read_fence, require_open
from hyperdrip.lanes import run_lanes
from hyperdrip.models import AuditCheck, Campaign, MessageKey, WorkerSummary
from hyperdrip.overview import Overview, read_overview
from hyperdrip.reconciling import Reconciled, Which, cancel, mark_sent, send_again
from hyperdrip.rollover import Policy, RolledOver, roll_over
from hyperdrip.scheduler import read_moment
from hyperdrip.senders import Sender, close_sender, open_sender
from hyperdrip.signals import Stop
from hyperdrip.worker import Options, Worker, check_sender

if TYPE_CHECKING:
    from hyperdrip.senders.kit import Kit

log = logging.getLogger("hyperdrip.worker")

# Senders that waves can be handed to side by side, so that one is on its way while the last one is
# written down and the next one is read.
TWO_LANES = frozenset({"null"})


class RunningMethods(CalendarMethods):
    """What happens as time goes on."""

    def pause(self) -> bool:
        """Stop the whole instance before the next hand-over; returns whether it was running."""
        with self._session() as conn:
            return instances.set_paused(conn, is_paused=True)

    def resume(self) -> bool:
        """Start the whole instance again; returns whether it was paused."""
        with self._session() as conn:
            return instances.set_paused(conn, is_paused=False)

    def roll_over(self) -> RolledOver:
        """Take care of the open days before today. Not on a caller's connection."""
        self._refuse_borrowed("roll_over")
        with self._session() as conn:
            return roll_over(conn, self.clock, self._policy())

    def reconcile(
        self,
        *,
        action: Literal["sent", "resend", "cancel"],
        lead: str | None = None,
        number: int | None = None,
        before: datetime | None = None,
        sender: str | None = None,
        keys: Sequence[MessageKey] | None = None,
        is_dry_run: bool = False,
    ) -> Reconciled:
        """Mark unknown messages as sent, plan them again, or cancel them.

        Those that meet all that is given; with nothing given, all. `before`: when they were
        claimed. Raises: NotFoundError for an unknown lead.
        """
        with self._session() as conn:
            which = Which(
                lead_id=leads.require_lead(conn, lead).id if lead else None,
                number=number,
                before=before,
                sender=sender,
                keys=None if keys is None else tuple(keys),
            )
            if action == "sent":
                return mark_sent(conn, self.clock, which, is_dry_run=is_dry_run)
            if action == "cancel":
                return cancel(conn, self.clock, which, is_dry_run=is_dry_run)
            return send_again(
                conn,
                self.clock,
                which,
                with_email=self.settings.envelope_email,
                is_dry_run=is_dry_run,
            )

    def audit(self) -> list[AuditCheck]:
        """Check every invariant against the tables."""
        with self._session() as conn:
            return run_audit(conn)

    def next_planned_day(self) -> tuple[date, int] | None:
        """The first day after today with something planned, and how many."""
        with self._session() as conn:
            return quota.get_next_planned_day(conn, read_moment(conn, self.clock).today)

    def explain(self, key: str) -> Explanation:
        """The one rule that decides what happens to a lead today. Raises: NotFoundError."""
        with self._session() as conn:
            return explain(conn, self.clock, key)

    def overview(self) -> Overview:
        """How today stands, who works, and what is wrong."""
        with self._session() as conn:
            return read_overview(
                conn, self.clock, message_delay_ms=self.settings.worker_message_delay
            )

    def run_worker(
        self,
        *,
        is_drain: bool = False,
        sender: Sender | None = None,
        stop: Stop | None = None,
        on_start: Callable[[Worker], None] | None = None,
    ) -> WorkerSummary:
        """Send what is due until stopped, or with `is_drain` until nothing is left today.

        `sender`: one of your own; None opens the one that the settings name. `on_start` is called
        once the worker has rolled over and is about to begin. An explicit DAILY_MAX that differs
        from the stored one is stored first. Not on a caller's connection.

        Raises: SettingsError when the sender is in doubt; FencedError when the database is a copy;
        DatabaseError and its kin.
        """
        self._refuse_borrowed("run_worker")
        settings = self.settings
        is_chosen = sender is not None or settings.is_explicit("SENDER")
        given = sender
        sender = sender or open_sender(settings.sender, self.make_kit())
        with converted_errors():
            require_open(self._conn, self.dsn)
            check_sender(self.instance(), sender.name, is_explicit=is_chosen)
            log.info("Starting drip worker...")
            if sender.name == "console":
                log.info("The console sender delivers nothing and marks messages as sent")
            old = self.store_daily_max()
            if old is not None:
                log.warning("Daily maximum changed from %d to %d", old, settings.daily_max)
            stop = stop or Stop()
            make = partial(
                Worker,
                lambda: connect_to_send(self.dsn),
                options=self._worker_options(is_drain=is_drain),
                clock=self.clock,
                stop=stop,
            )
            with ExitStack() as stack:
                if sender is not given:
                    stack.callback(close_sender, sender)
                lanes = [stack.enter_context(closing(make(sender)))]
                lanes[0].begin()
                if on_start is not None:
                    on_start(lanes[0])
                is_own = sender is not given and sender.name in TWO_LANES
                if is_own and not settings.worker_message_delay and lanes[0].is_alone():
                    with suppress(DatabaseUnavailable):  # no slot for a second: one does
                        lanes.append(make(sender, beside=lanes[0]))
                return run_lanes(lanes, stop)

    def _worker_options(self, *, is_drain: bool) -> Options:
        settings = self.settings
        return Options(
            poll_interval_ms=settings.worker_poll_interval,
            message_delay_ms=settings.worker_message_delay,
            vt_seconds=settings.visibility_timeout,
            is_drain=is_drain,
            log_addresses=settings.log_addresses,
            policy=self._policy(),
            domain_limits=settings.domain_limits,
        )

    def make_kit(self) -> "Kit":
        """What a sender is made of. Each version of a campaign is read when it is first needed.

        That is done on a connection of its own: by whichever thread writes the message, and
        whatever the worker's connection is doing.
        """
        from hyperdrip.senders.kit import make_kit

        with self._session() as conn:
            fingerprint = read_fence(conn).stored
        return make_kit(self.settings, self._load_campaign, instance=fingerprint)

    def _load_campaign(self, name: str, version: int) -> Campaign:
        # Leases of the wave run meanwhile: it is not waited for a slot for long.
        patience = self.settings.visibility_timeout / 6
        with converted_errors(), closing(connect(self.dsn, patience_seconds=patience)) as conn:
            return campaigns.require_campaign(conn, name, version).campaign

    def store_daily_max(self) -> int | None:
        """Store an explicit DAILY_MAX that differs from the database's; the old one, or None."""
        stored = self.instance().daily_max
        if not self.settings.is_explicit("DAILY_MAX") or stored == self.settings.daily_max:
            return None
        self.set_daily_max(self.settings.daily_max)
        return stored

    def _policy(self) -> Policy:
        settings = self.settings
        return Policy(
            on_unknown=settings.on_unknown,
            max_attempts=settings.max_attempts,
            with_email=settings.envelope_email,
        )
