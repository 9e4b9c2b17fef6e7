"""The library door: everything that the commands do, as methods of one object.

>>> from hyperdrip import Hyperdrip
>>> with Hyperdrip.open() as drip:
...     lead = drip.add_lead(name="Ada", email="ada@example.com")
...     drip.audit()
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import psycopg

from hyperdrip import instance as instances
from hyperdrip import leads, ledger, maintenance, migrations, queue, quota, replanner
from hyperdrip.audit import run_audit
from hyperdrip.clock import Clock
from hyperdrip.db import connect, converted_errors, query
from hyperdrip.errors import NotFoundError
from hyperdrip.importing import import_csv
from hyperdrip.models import (
    AuditCheck,
    Envelope,
    ImportResult,
    Instance,
    Lead,
    Message,
    QueueMetrics,
    QuotaDay,
    WorkerSummary,
)
from hyperdrip.rollover import Policy, RolledOver, roll_over
from hyperdrip.scheduler import (
    Enrolment,
    Moment,
    enroll,
    in_planner_transaction,
    read_moment,
    refuse_taken,
    require_campaign_version,
)
from hyperdrip.senders import open_sender
from hyperdrip.settings import Settings, load
from hyperdrip.signals import Stop
from hyperdrip.worker import Options, Worker, check_sender

if TYPE_CHECKING:
    from hyperdrip.embedded import EmbeddedServer

COMING_DAYS = 14

log = logging.getLogger("hyperdrip.worker")


class Hyperdrip:
    """One connection to one database, with its settings. Not for several threads at once."""

    def __init__(
        self, dsn: str, settings: Settings, *, server: "EmbeddedServer | None" = None
    ) -> None:
        """Connect. `server`: the embedded one behind `dsn`, released on close.

        Raises: DatabaseError and its kin; SettingsError.
        """
        self.settings = settings
        self.clock = Clock(start=settings.hyperdrip_now)
        self.dsn = dsn
        self._server = server
        self._conn = connect(dsn)

    @classmethod
    def open(cls, settings: Settings | None = None, *, is_checked: bool = True) -> "Hyperdrip":
        """Open the database of the settings (None: read the environment).

        Starts and migrates the embedded server when there is no DATABASE_URL. With `is_checked`,
        a database that is not migrated, or belongs to another environment, is refused.

        Raises: SettingsError, DatabaseError and its kin.
        """
        settings = settings or load()
        server = None
        dsn = settings.database_url
        if not dsn:
            from hyperdrip import embedded

            server = embedded.acquire(settings.hyperdrip_home, settings.hyperdrip_env)
            dsn = server.dsn
        drip = None
        try:
            drip = cls(dsn, settings, server=server)
            with converted_errors():
                if server is not None and migrations.read_status(drip._conn).pending:
                    drip.migrate()
                if is_checked:
                    drip._check()
        except BaseException:
            if drip is not None:
                drip.close()
            elif server is not None:
                server.release()
            raise
        return drip

    def close(self) -> None:
        """Close the connection; the last user of an embedded server stops it."""
        self._conn.close()
        if self._server is not None:
            self._server.release()

    def __enter__(self) -> "Hyperdrip":
        """Use it as a context manager: it closes itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    # The database

    def migrate(self) -> list[str]:
        """Create or update the schema; returns what was applied.

        Raises: SettingsError when the database belongs to another environment.
        """
        with self._session() as conn:
            self._check_agreement()
            applied = migrations.migrate(
                conn,
                environment=self.settings.hyperdrip_env,
                time_zone=self.settings.timezone,
                daily_max=self.settings.daily_max,
            )
            self._check()
            return applied

    def migration_status(self) -> migrations.Status:
        """What is applied and what is pending."""
        with self._session() as conn:
            return migrations.read_status(conn)

    def database_name(self) -> str:
        """The name of the database."""
        with self._session() as conn:
            row = conn.execute(query("get_database_name")).fetchone()
            assert row is not None
            return str(row[0])

    def database_status(self) -> dict[str, Any]:
        """Where the database is, what it holds and what is applied; camelCase keys."""
        with self._session() as conn:
            return maintenance.describe(conn, self.dsn)

    def run_psql(self, arguments: Sequence[str]) -> int:
        """Run psql on the database, at the caller's terminal; returns its exit code."""
        folder = self._server.bin_folder if self._server is not None else None
        return maintenance.run_psql(self.dsn, arguments, bin_folder=folder)

    def reset(self) -> None:
        """Drop everything that Hyperdrip made, data and queues, and migrate anew.

        Raises: ConflictError while workers live; SettingsError when the data belongs to another
        environment.
        """
        with self._session() as conn:
            self._check_agreement()
            maintenance.drop_everything(conn)
        self.migrate()

    def instance(self) -> Instance:
        """What this database is: environment, time zone, daily maximum, paused or not."""
        with self._session() as conn:
            return instances.require_instance(conn)

    def moment(self) -> Moment:
        """The instance, the instant, and today."""
        with self._session() as conn:
            return read_moment(conn, self.clock)

    # Leads

    def add_lead(
        self,
        *,
        name: str,
        email: str,
        phone: str | None = None,
        notes: str | None = None,
        fields: Mapping[str, str] | None = None,
        max_messages: int | None = None,
        campaign: str = "default",
        start: date | None = None,
    ) -> Lead:
        """Add a lead and plan all its messages in one transaction.

        Raises: InvalidDataError, ConflictError (it exists), NotFoundError (campaign), NoRoomError.
        """
        new_lead = leads.check_new_lead(
            name=name, email=email, phone=phone, notes=notes, fields=fields
        )
        enrolment = replace(
            self._enrolment(campaign=campaign, max_messages=max_messages), start=start
        )
        with self._session() as conn:

            def work(moment: Moment) -> int:
                refuse_taken(conn, new_lead)
                return enroll(conn, moment, [new_lead], enrolment).lead_ids[0]

            lead_id = in_planner_transaction(conn, self.clock, work)
            return leads.require_lead(conn, str(lead_id))

    def import_csv(
        self, path: Path, *, max_messages: int | None = None, campaign: str = "default"
    ) -> ImportResult:
        """Add the leads of a CSV file in one transaction; rows that cannot be taken are left out.

        Raises: InvalidDataError when the file is no CSV with a name and an email column.
        """
        enrolment = self._enrolment(campaign=campaign, max_messages=max_messages)
        with self._session() as conn:
            return import_csv(conn, self.clock, path, enrolment)

    def list_leads(
        self, *, status: str | None = None, campaign: str | None = None, limit: int = 100
    ) -> list[Lead]:
        """Leads by id. Raises: NotFoundError for an unknown campaign."""
        with self._session() as conn:
            if campaign is not None:
                require_campaign_version(conn, campaign)
            return leads.list_leads(conn, status=status, campaign=campaign, limit=limit)

    def require_lead(self, key: str) -> Lead:
        """A lead by `lead_123`, `123` or its address. Raises: NotFoundError."""
        with self._session() as conn:
            return leads.require_lead(conn, key)

    def list_lead_messages(self, lead: Lead) -> list[Message]:
        """The messages of a lead's present run, by number."""
        with self._session() as conn:
            return ledger.list_lead_messages(conn, [lead.id])

    def pause_leads(self, keys: Sequence[str], *, reason: str | None = None) -> list[int]:
        """Pause ACTIVE leads: their days are freed; returns the ids that were paused."""
        with self._session() as conn:
            ids = [leads.require_lead(conn, key).id for key in keys]
            return replanner.pause_leads(conn, self.clock, ids, reason=reason)

    def resume_leads(self, keys: Sequence[str]) -> list[int]:
        """Resume PAUSED leads from today on; returns the ids that were resumed."""
        with self._session() as conn:
            ids = [leads.require_lead(conn, key).id for key in keys]
            return replanner.resume_leads(
                conn, self.clock, ids, with_email=self.settings.envelope_email
            )

    def stop_leads(self, keys: Sequence[str], *, reason: str = "by hand") -> list[int]:
        """Stop leads for good; returns the ids that were stopped."""
        with self._session() as conn:
            ids = [leads.require_lead(conn, key).id for key in keys]
            return replanner.stop_leads(conn, self.clock, ids, reason=reason)

    # Messages and queues

    def list_messages(
        self,
        *,
        state: str | None = None,
        day: date | None = None,
        lead: str | None = None,
        limit: int = 100,
    ) -> list[Message]:
        """Messages by day (those without one last), lead and number."""
        with self._session() as conn:
            lead_id = leads.require_lead(conn, lead).id if lead else None
            return ledger.list_messages(conn, state=state, day=day, lead_id=lead_id, limit=limit)

    def require_message(self, key: str, number: int) -> Message:
        """Message `number` of a lead's present run. Raises: NotFoundError."""
        lead = self.require_lead(key)
        for message in self.list_lead_messages(lead):
            if message.number == number:
                return message
        raise NotFoundError(f"{lead.key} has no message {number}; it has {lead.max_messages}")

    def list_queues(self, *, is_all: bool = False) -> list[QueueMetrics]:
        """What PGMQ says of the queues of open days and the coming 14 (or of all), by day."""
        with self._session() as conn:
            moment = read_moment(conn, self.clock)
            open_days = set(quota.list_open_days(conn, moment.today))
            last_day = moment.today + timedelta(days=COMING_DAYS)
            found = []
            for name in queue.list_names(conn):
                day = queue.day_of(name)
                assert day is not None
                if is_all or day in open_days or moment.today <= day <= last_day:
                    found.append(self._metrics(conn, moment, name, day))
            return found

    def peek(self, day: date, *, limit: int = 10) -> list[Envelope]:
        """The first envelopes of a day's queue, without hiding them. Raises: NotFoundError."""
        with self._session() as conn:
            name = queue.name_of(instances.require_instance(conn).environment, day)
            envelopes = queue.peek(conn, name, limit=limit)
            if envelopes is None:
                raise NotFoundError(f"no queue {name}; `hyperdrip queues show` lists what is there")
            return envelopes

    # Quota

    def quota_today(self) -> tuple[QuotaDay, Instance, date]:
        """Today's counters, the instance, and the next day with room."""
        with self._session() as conn:
            moment = read_moment(conn, self.clock)
            today = quota.list_every_day(
                conn, first_day=moment.today, last_day=moment.today, instance=moment.instance
            )[0]
            calendar = quota.read_calendar(
                conn, today=moment.today, daily_max=moment.instance.daily_max, freed={}
            )
            return today, moment.instance, calendar.next_with_room(moment.today)

    def quota_days(self, *, days: int | None = None) -> list[QuotaDay]:
        """The calendar from today on: `days` days, or up to the last one with something planned."""
        with self._session() as conn:
            moment = read_moment(conn, self.clock)
            last_day = moment.today + timedelta(days=(days or 1) - 1)
            if days is None:
                known = quota.list_days(
                    conn, first_day=moment.today, last_day=None, instance=moment.instance
                )
                last_day = max([last_day, *(day.day for day in known if day.scheduled)])
            return quota.list_every_day(
                conn, first_day=moment.today, last_day=last_day, instance=moment.instance
            )

    def set_daily_max(self, daily_max: int) -> int:
        """Change the daily maximum at once; returns how many messages a lowered one moved."""
        with self._session() as conn:
            return replanner.set_daily_max(
                conn, self.clock, daily_max, with_email=self.settings.envelope_email
            )

    def set_capacity(self, days: Sequence[date], capacity: int | None) -> int:
        """Give days a capacity of their own (None: the daily maximum); returns how many moved."""
        with self._session() as conn:
            return replanner.set_capacity(
                conn, self.clock, days, capacity, with_email=self.settings.envelope_email
            )

    # Running

    def pause(self) -> bool:
        """Stop the whole instance before the next hand-over; returns whether it was running."""
        with self._session() as conn:
            return instances.set_paused(conn, is_paused=True)

    def resume(self) -> bool:
        """Start the whole instance again; returns whether it was paused."""
        with self._session() as conn:
            return instances.set_paused(conn, is_paused=False)

    def roll_over(self) -> RolledOver:
        """Take care of the open days before today."""
        with self._session() as conn:
            return roll_over(conn, self.clock, self._policy())

    def audit(self) -> list[AuditCheck]:
        """Check every invariant against the tables."""
        with self._session() as conn:
            return run_audit(conn)

    def next_planned_day(self) -> tuple[date, int] | None:
        """The first day after today with something planned, and how many."""
        with self._session() as conn:
            return quota.get_next_planned_day(conn, read_moment(conn, self.clock).today)

    def run_worker(
        self,
        *,
        is_drain: bool = False,
        stop: Stop | None = None,
        on_start: Callable[[Worker], None] | None = None,
    ) -> WorkerSummary:
        """Send what is due until stopped, or with `is_drain` until nothing is left today.

        `on_start` is called once the worker has rolled over and is about to begin. An explicit
        DAILY_MAX that differs from the stored one is stored first.

        Raises: SettingsError when the sender is in doubt; DatabaseError and its kin.
        """
        settings = self.settings
        sender = open_sender(settings.sender)
        with converted_errors():
            check_sender(
                self.instance(), settings.sender, is_explicit=settings.is_explicit("SENDER")
            )
            log.info("Starting drip worker...")
            if sender.name == "console":
                log.info("The console sender delivers nothing and marks messages as sent")
            old = self.store_daily_max()
            if old is not None:
                log.warning("Daily maximum changed from %d to %d", old, settings.daily_max)
            worker = Worker(
                lambda: connect(self.dsn),
                sender,
                options=Options(
                    poll_interval_ms=settings.worker_poll_interval,
                    message_delay_ms=settings.worker_message_delay,
                    vt_seconds=settings.visibility_timeout,
                    is_drain=is_drain,
                    log_addresses=settings.log_addresses,
                    policy=self._policy(),
                ),
                clock=self.clock,
                stop=stop,
            )
            try:
                worker.roll_over()
                if on_start is not None:
                    on_start(worker)
                return worker.run()
            finally:
                worker.close()

    def store_daily_max(self) -> int | None:
        """Store an explicit DAILY_MAX that differs from the database's; the old one, or None."""
        stored = self.instance().daily_max
        if not self.settings.is_explicit("DAILY_MAX") or stored == self.settings.daily_max:
            return None
        self.set_daily_max(self.settings.daily_max)
        return stored

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection]:
        with converted_errors():
            yield self._conn

    def _check(self) -> None:
        migrations.require_current(self._conn)
        instances.require_instance(self._conn)
        self._check_agreement()

    def _check_agreement(self) -> None:
        """Compare with a database that was migrated to the end; an empty one is nobody's yet."""
        identity = migrations.get_identity(self._conn)
        if identity is None:
            return
        is_zone_set = self.settings.is_explicit("TIMEZONE")
        migrations.check_agreement(
            environment=self.settings.hyperdrip_env,
            time_zone=self.settings.timezone if is_zone_set else None,
            stored_environment=identity[0],
            stored_time_zone=identity[1],
        )

    def _enrolment(self, *, campaign: str, max_messages: int | None) -> Enrolment:
        settings = self.settings
        return Enrolment(
            max_messages=settings.max_messages if max_messages is None else max_messages,
            campaign=campaign,
            horizon_days=settings.schedule_horizon_days,
            with_email=settings.envelope_email,
        )

    def _policy(self) -> Policy:
        settings = self.settings
        return Policy(
            on_unknown=settings.on_unknown,
            max_attempts=settings.max_attempts,
            with_email=settings.envelope_email,
        )

    def _metrics(
        self, conn: psycopg.Connection, moment: Moment, name: str, day: date
    ) -> QueueMetrics:
        metrics: dict[str, Any] = queue.get_metrics(conn, name)
        zone = ZoneInfo(moment.instance.time_zone)
        ended = datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)
        late = int((moment.now - ended).total_seconds())
        length = int(metrics["queue_length"])
        return QueueMetrics(
            queue=name,
            day=day,
            length=length,
            visible=int(metrics.get("queue_visible_length") or 0),
            total=int(metrics["total_messages"]),
            archived=int(metrics["archived"]),
            late_seconds=late if late >= 0 and length else None,
        )
