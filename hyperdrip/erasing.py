"""A planner operation: erasing leads for good, so that nothing is left that says who they were."""

from collections.abc import Collection
from datetime import date

import psycopg

from hyperdrip import leads, ledger, queue, quota, staging
from hyperdrip.clock import Clock
from hyperdrip.models import Changed, MessageState
from hyperdrip.replanner import give_back
from hyperdrip.scheduler import Moment, in_planner_transaction

BUSY = "has a message that is being sent"


def erase_leads(
    conn: psycopg.Connection,
    clock: Clock,
    lead_ids: Collection[int],
    *,
    is_dry_run: bool = False,
) -> Changed:
    """Erase leads: what is planned is cancelled, and everything personal goes.

    That is the lead's own columns, what senders said in the ledger, and the address in envelopes,
    archived or not. The row keeps its id for the ledger; a keyed hash of the address stays behind,
    so that it is never added again. Leads with a message that is being sent are refused.
    """

    def work(moment: Moment) -> Changed:
        locked = leads.lock_leads(conn, lead_ids)
        # From here on nothing of theirs can be claimed: a claim locks the message.
        busy = ledger.lock_messages(conn, lead_ids)
        erased = leads.list_erased(conn, lead_ids)
        chosen = {
            lead_id: email
            for lead_id, (email, _, _) in locked.items()
            if lead_id not in busy and lead_id not in erased
        }
        cancelled = _erase(conn, moment, chosen) if chosen else 0
        return Changed(
            tuple(chosen),
            messages=cancelled,
            left_out=dict.fromkeys(erased, "is erased already"),
            refused=dict.fromkeys(sorted(busy), BUSY),
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def _erase(conn: psycopg.Connection, moment: Moment, email_of: dict[int, str]) -> int:
    """Erase locked leads; returns how many messages were cancelled."""
    changes: dict[date, quota.Change] = {}
    environment = moment.instance.environment
    cancelled = give_back(conn, environment, email_of, MessageState.CANCELLED, changes)
    leads.suppress_hashed(conn, email_of.values(), reason="erased")
    leads.erase(conn, email_of)
    ledger.scrub_messages(conn, email_of)
    staging.forget_addresses(conn, email_of.values())
    queue.scrub(conn, email_of)
    quota.apply(conn, changes)
    return cancelled
