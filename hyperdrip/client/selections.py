"""Methods of the library door: what is done to leads, one or many at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

import psycopg

from hyperdrip import enrolling, erasing, moving, selections, standing
from hyperdrip.client.base import Base
from hyperdrip.db import snapshot
from hyperdrip.lead_values import check_reason
from hyperdrip.models import Changed, Lead, Selection
from hyperdrip.moving import Move
from hyperdrip.scheduler import require_campaign_version

# Which leads: a selection, or LEADs as commands take them, each of which has to exist.
Which = Selection | Sequence[str]
EVERYBODY = Selection()


@dataclass(frozen=True)
class Export:
    """Leads by id, how many they are, and the names of all the further fields that they have."""

    count: int
    field_names: tuple[str, ...]
    leads: Iterator[Lead]


class SelectionMethods(Base):
    """Pausing, resuming, stopping, enrolling again, moving, erasing and exporting leads.

    Each is one transaction. With `is_dry_run` it says what it would do, and writes nothing. Raises:
    NotFoundError for a LEAD, a campaign or an import that is not there; then nothing is done.
    """

    def select_leads(self, which: Which) -> list[int]:
        """The ids of the leads of a selection, in order."""
        with self._session() as conn:
            return self._select(conn, which)

    def pause_leads(
        self, which: Which, *, reason: str | None = None, is_dry_run: bool = False
    ) -> Changed:
        """Pause ACTIVE leads: their days are freed."""
        reason = None if reason is None else check_reason(reason)
        with self._session() as conn:
            ids = self._select(conn, which)
            return standing.pause_leads(conn, self.clock, ids, reason=reason, is_dry_run=is_dry_run)

    def resume_leads(self, which: Which, *, is_dry_run: bool = False) -> Changed:
        """Resume PAUSED leads: what is left of their runs is planned from today on."""
        with self._session() as conn:
            return standing.resume_leads(
                conn,
                self.clock,
                self._select(conn, which),
                with_email=self.settings.envelope_email,
                is_dry_run=is_dry_run,
            )

    def stop_leads(
        self, which: Which, *, reason: str = standing.BY_HAND, is_dry_run: bool = False
    ) -> Changed:
        """Stop leads for good: what is planned is cancelled.

        With a reason other than `by hand`, or `by hand: ...`, they can never be enrolled again.
        """
        reason = check_reason(reason)
        with self._session() as conn:
            ids = self._select(conn, which)
            return standing.stop_leads(conn, self.clock, ids, reason=reason, is_dry_run=is_dry_run)

    def enroll_leads(
        self,
        which: Which,
        *,
        campaign: str = "default",
        max_messages: int | None = None,
        start: date | None = None,
        is_dry_run: bool = False,
    ) -> Changed:
        """Begin a new run for leads that have ended, planned like new leads.

        Raises: InvalidDataError for a start in the past; NoRoomError.
        """
        enrolment = replace(
            self._enrolment(campaign=campaign, max_messages=max_messages), start=start
        )
        with self._session() as conn:
            ids = self._select(conn, which)
            return enrolling.enroll_again(conn, self.clock, ids, enrolment, is_dry_run=is_dry_run)

    def move_leads(
        self,
        which: Which,
        *,
        to: date | None = None,
        by_days: int = 0,
        is_dry_run: bool = False,
    ) -> Changed:
        """Move what is planned: the next message to a day and the others behind it, or all by days.

        Raises: InvalidDataError for a day in the past; NoRoomError past the horizon.
        """
        with self._session() as conn:
            return moving.move_leads(
                conn,
                self.clock,
                self._select(conn, which),
                Move(to=to, by_days=by_days),
                horizon_days=self.settings.schedule_horizon_days,
                with_email=self.settings.envelope_email,
                is_dry_run=is_dry_run,
            )

    def erase_leads(self, which: Which, *, is_dry_run: bool = False) -> Changed:
        """Erase leads for good; those with a message that is being sent are refused."""
        with self._session() as conn:
            ids = self._select(conn, which)
            return erasing.erase_leads(conn, self.clock, ids, is_dry_run=is_dry_run)

    def search_leads(self, text: str, *, limit: int = 100) -> list[Lead]:
        """Leads with a text in their name, address, notes or fields, or its digits in their phone.

        In any letter case; by id.
        """
        with self._session() as conn:
            return selections.search(conn, text, limit=limit)

    @contextmanager
    def export_leads(self, which: Which = EVERYBODY) -> Iterator[Export]:
        """Leads to be read one by one, all from one snapshot, which ends with the context."""
        with self._session() as conn:
            selection = self._check_selection(conn, which)
            with snapshot(conn):
                count, names = 0, set[str]()
                for ids in selections.stream_ids(conn, selection):
                    count += len(ids)
                    names.update(selections.list_field_names(conn, ids))
                found = selections.stream_leads(conn, selection)
                yield Export(count, tuple(sorted(names)), found)

    def _select(self, conn: psycopg.Connection, which: Which) -> list[int]:
        return selections.select_ids(conn, self._check_selection(conn, which))

    def _check_selection(self, conn: psycopg.Connection, which: Which) -> Selection:
        selection = which if isinstance(which, Selection) else Selection(keys=tuple(which))
        if selection.campaign is not None:
            require_campaign_version(conn, selection.campaign)
        return selection
