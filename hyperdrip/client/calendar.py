"""Methods of the library door: messages, queues and quota."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hyperdrip import instance as instances
from hyperdrip import leads, ledger, limits, queue, quota
from hyperdrip.client.base import Base
from hyperdrip.errors import NotFoundError
from hyperdrip.forecast import Forecast, forecast
from hyperdrip.limits import Change, Preview
from hyperdrip.models import Envelope, Instance, Message, QueueMetrics, QuotaDay
from hyperdrip.pruning import Progress, Pruned, prune
from hyperdrip.scheduler import Moment, read_moment

COMING_DAYS = 14


class CalendarMethods(Base):
    """What is planned for when, and how much may leave."""

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
        with self._session() as conn:
            lead = leads.require_lead(conn, key)
            for message in ledger.list_lead_messages(conn, [lead.id]):
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
                    metrics = queue.get_metrics(conn, name)
                    if metrics is not None:
                        found.append(self._metrics(metrics, moment, name, day))
            return found

    def prune_queues(
        self,
        *,
        older_than_days: int,
        is_dry_run: bool = False,
        on_progress: Progress = lambda _what, _part: None,
    ) -> Pruned:
        """Drop queues of closed days more than so many days ago, and shrink other archives.

        Not on a caller's connection. Raises: InvalidDataError for a number that cannot be.
        """
        self._refuse_borrowed("prune_queues")
        with self._session() as conn:
            return prune(
                conn,
                self.clock,
                older_than_days=older_than_days,
                is_dry_run=is_dry_run,
                on_progress=on_progress,
            )

    def peek(self, day: date, *, limit: int = 10) -> list[Envelope]:
        """The first envelopes of a day's queue, without hiding them. Raises: NotFoundError."""
        with self._session() as conn:
            name = queue.name_of(instances.require_instance(conn).environment, day)
            envelopes = queue.peek(conn, name, limit=limit)
            if envelopes is None:
                raise NotFoundError(f"no queue {name}; `hyperdrip queues show` lists what is there")
            return envelopes

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

    def forecast(
        self,
        *,
        add: int = 0,
        max_messages: int | None = None,
        daily_max: int | None = None,
        start: date | None = None,
        campaign: str = "default",
    ) -> Forecast:
        """What if: `add` more leads, another daily maximum; nothing is written.

        Raises: InvalidDataError; NotFoundError for an unknown campaign.
        """
        enrolment = replace(
            self._enrolment(campaign=campaign, max_messages=max_messages), start=start
        )
        with self._session() as conn:
            return forecast(conn, self.clock, enrolment, add=add, daily_max=daily_max)

    def preview_limits(self, change: Change) -> Preview:
        """What other limits would move; nothing is written."""
        with self._session() as conn:
            return limits.preview_change(conn, self.clock, change)

    def set_limits(self, change: Change) -> int:
        """Change limits at once; returns how many messages moved to later days.

        Raises: InvalidDataError for a limit that cannot be, or a day in the past.
        """
        with self._session() as conn:
            return limits.apply_change(
                conn, self.clock, change, with_email=self.settings.envelope_email
            )

    def set_daily_max(self, daily_max: int) -> int:
        """Change the daily maximum; as set_limits."""
        return self.set_limits(Change(daily_max=daily_max))

    def set_capacity(self, days: Sequence[date], capacity: int | None) -> int:
        """Give days a capacity of their own (None: the daily maximum); as set_limits."""
        return self.set_limits(Change(capacities=dict.fromkeys(days, capacity)))

    def preview_replan(self) -> Preview:
        """What `replan` would move; nothing is written."""
        with self._session() as conn:
            return limits.preview_pull(conn, self.clock)

    def replan(self) -> int:
        """Pull messages forward to earlier days with room; returns how many moved."""
        with self._session() as conn:
            return limits.pull_everybody(conn, self.clock, with_email=self.settings.envelope_email)

    def _metrics(
        self, metrics: dict[str, Any], moment: Moment, name: str, day: date
    ) -> QueueMetrics:
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
