"""Methods of the library door: leads."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from hyperdrip import leads, ledger
from hyperdrip.client.base import Base
from hyperdrip.lead_values import check_new_lead
from hyperdrip.models import Lead, Message
from hyperdrip.scheduler import (
    Moment,
    enroll,
    in_planner_transaction,
    refuse_taken,
    require_campaign_version,
)


class LeadMethods(Base):
    """Adding leads, finding them, and changing where they stand."""

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
        new_lead = check_new_lead(name=name, email=email, phone=phone, notes=notes, fields=fields)
        enrolment = replace(
            self._enrolment(campaign=campaign, max_messages=max_messages), start=start
        )
        with self._session() as conn:

            def work(moment: Moment) -> int:
                refuse_taken(conn, new_lead)
                return enroll(conn, moment, [new_lead], enrolment).lead_ids[0]

            lead_id = in_planner_transaction(conn, self.clock, work)
        # Another session: the connection may have been lost at the very end.
        with self._session() as conn:
            return leads.require_lead(conn, str(lead_id))

    def list_leads(
        self, *, status: str | None = None, campaign: str | None = None, limit: int = 100
    ) -> list[Lead]:
        """Leads by id. Raises: NotFoundError for an unknown campaign."""
        with self._session() as conn:
            if campaign is not None:
                require_campaign_version(conn, campaign)
            return leads.list_leads(conn, status=status, campaign=campaign, limit=limit)

    def list_leads_like(self, start: str, *, limit: int = 50) -> list[tuple[int, str]]:
        """Leads whose address or `lead_123` begins with `start`: id, address; by address."""
        with self._session() as conn:
            return leads.list_leads_like(conn, start, limit=limit)

    def require_lead(self, key: str) -> Lead:
        """A lead by `lead_123`, `123` or its address. Raises: NotFoundError."""
        with self._session() as conn:
            return leads.require_lead(conn, key)

    def list_lead_messages(self, lead: Lead) -> list[Message]:
        """The messages of a lead's present run, by number."""
        with self._session() as conn:
            return ledger.list_lead_messages(conn, [lead.id])
