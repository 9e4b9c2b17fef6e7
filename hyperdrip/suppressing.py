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
from hyperdrip.standing import UNSUBSCRIBED


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
        at = suppressions.list_leads_at(conn, emails)
        leads.lock_leads(conn, at)
        added, known = suppressions.insert(conn, emails, reason=reason, now=moment.now)
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
            known=known,
            stopped=tuple(stopped),
            cancelled=cancelled,
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


def unsubscribe(conn: psycopg.Connection, clock: Clock, key: MessageKey) -> Unsubscribed:
    """What an unsubscribe by any road comes to.

    `key`: the message that somebody had enough of, of any run; run and number are 0 when nobody
    knows. Its lead is STOPPED whatever its status, its planned messages are cancelled, their quota
    is freed, and its address is suppressed: the one that it has now, which is the one that the mail
    went to, because nothing changes the address of a lead but erasing it. Once more changes
    nothing. An erased lead is left as it is: its address is suppressed as a hash.

    Raises: InvalidDataError when there never was such a lead.
    """
    lead_id, run, number = key

    def work(moment: Moment) -> Unsubscribed:
        found = leads.lock_leads(conn, [lead_id]).get(lead_id)
        if found is None:
            raise InvalidDataError("this unsubscribe token is of nobody in this database")
        if leads.list_erased(conn, [lead_id]):
            return Unsubscribed(lead_id, is_new=False)
        email, _, present_run = found
        suppressions.insert(conn, [email], reason=UNSUBSCRIBED, now=moment.now)
        reason = UNSUBSCRIBED
        if number:
            of_run = "" if run == present_run else f" of run {run}"
            reason = f"{UNSUBSCRIBED} (message {number}{of_run})"
        is_new = suppressions.stop_unsubscribed(conn, key, reason=reason)
        cancelled = give_back(conn, moment.instance.environment, [lead_id], MessageState.CANCELLED)
        return Unsubscribed(lead_id, is_new=is_new, cancelled=cancelled)

    return in_planner_transaction(conn, clock, work)
