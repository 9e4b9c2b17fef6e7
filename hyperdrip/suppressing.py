"""Planner operations: whoever must not be written to any more gets nothing more.

An address is suppressed and its lead's planned messages are cancelled in one transaction. A message
that is being sent is never touched; every claim looks at what was committed before it.
"""

from collections.abc import Collection

import psycopg

from hyperdrip import leads, suppressions
from hyperdrip.clock import Clock
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import LeadStatus, MessageKey, MessageState, Suppressed, Unsubscribed
from hyperdrip.replanner import give_back
from hyperdrip.scheduler import Moment, in_planner_transaction

UNSUBSCRIBED = "unsubscribed"


def suppress(
    conn: psycopg.Connection,
    clock: Clock,
    emails: Collection[str],
    *,
    reason: str,
    is_dry_run: bool = False,
) -> Suppressed:
    """Suppress addresses, and stop leads that have them and are ACTIVE or PAUSED."""

    def work(moment: Moment) -> Suppressed:
        keys = {email.lower() for email in emails}
        at = suppressions.list_leads_at(conn, keys)
        leads.lock_leads(conn, at)
        added = suppressions.insert(conn, keys, reason=reason, now=moment.now)
        stopped = leads.set_status(
            conn,
            at,
            LeadStatus.STOPPED,
            from_statuses=[LeadStatus.ACTIVE, LeadStatus.PAUSED],
            reason=f"suppressed: {reason}",
        )
        environment = moment.instance.environment
        cancelled = give_back(conn, environment, stopped, MessageState.CANCELLED)
        return Suppressed(
            added=tuple(added),
            known=len(keys) - len(added),
            stopped=tuple(stopped),
            cancelled=cancelled,
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def unsubscribe(conn: psycopg.Connection, clock: Clock, key: MessageKey) -> Unsubscribed:
    """What an unsubscribe by any road comes to: `key` is the message that somebody had enough of.

    Its lead is STOPPED whatever its status, its planned messages are cancelled and their quota is
    freed, and its address is suppressed: the one that it has now. Once more changes nothing; an
    erased lead is left as it is, for its address is suppressed as a hash.

    Raises: InvalidDataError when there never was such a lead.
    """
    lead_id, _, number = key

    def work(moment: Moment) -> Unsubscribed:
        found = leads.lock_leads(conn, [lead_id]).get(lead_id)
        if found is None:
            raise InvalidDataError("this unsubscribe token is of no lead in this database")
        if leads.list_erased(conn, [lead_id]):
            return Unsubscribed(lead_id, is_new=False)
        suppressions.insert(conn, [found[0]], reason=UNSUBSCRIBED, now=moment.now)
        reason = f"{UNSUBSCRIBED} (message {number})" if number else UNSUBSCRIBED
        is_new = suppressions.stop_unsubscribed(conn, lead_id, reason=reason)
        cancelled = give_back(conn, moment.instance.environment, [lead_id], MessageState.CANCELLED)
        return Unsubscribed(lead_id, is_new=is_new, cancelled=cancelled)

    return in_planner_transaction(conn, clock, work)
