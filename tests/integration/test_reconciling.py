"""Reconciling: what is unknown is settled by somebody who found out, in step with all the rest."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg

from hyperdrip import reconciling, standing
from hyperdrip.enrolling import enroll_again
from hyperdrip.models import Claim
from hyperdrip.reconciling import Reconciled, Which
from hyperdrip.scheduler import Enrolment
from hyperdrip.senders import Outcome, Sent, Unknown
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    make_worker,
    noon,
    work,
)

TUESDAY = MONDAY + timedelta(days=1)
Connection = psycopg.Connection[Any]


def leave_unknown(dsn: str, *, lead_ids: set[int], name: str = "smtp", day: int = 0) -> None:
    """Send what is due on a day; nobody knows what came of those to `lead_ids`."""

    def answer(claim: Claim) -> Outcome:
        return Unknown("the line was cut") if claim.lead_id in lead_ids else Sent()

    clock = SetClock(noon(MONDAY + timedelta(days=day)))
    work(dsn, AnsweringSender(answer, name=name), clock=clock)


def send_again(conn: Connection, which: Which, day: int = 0) -> Reconciled:
    clock = SetClock(noon(MONDAY + timedelta(days=day)))
    found = reconciling.send_again(conn, clock, which, with_email=True)
    assert_audit_ok(conn)
    return found


def lead(conn: Connection, lead_id: int) -> tuple[str, int]:
    row = conn.execute(
        "select status, message_count from hyperdrip.lead where id = %s", [lead_id]
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_marked_as_sent_a_message_is_settled_and_its_lead_stays_as_it_is(
    dsn: str, conn: Connection
) -> None:
    one, other = add_leads(conn, 2, messages=1).lead_ids
    leave_unknown(dsn, lead_ids={one})
    assert lead(conn, one) == ("COMPLETED", 1)

    found = reconciling.mark_sent(conn, SetClock(), Which(lead_id=one))

    assert (found.messages, found.leads) == (1, 1)
    assert count_states(conn) == {"sent": 2}
    assert lead(conn, one) == lead(conn, other) == ("COMPLETED", 1)
    assert_audit_ok(conn)
    assert reconciling.mark_sent(conn, SetClock(), Which()).messages == 0


def test_sent_again_a_message_costs_another_unit_and_its_lead_goes_on(
    dsn: str, conn: Connection
) -> None:
    [one] = add_leads(conn, 1, messages=1).lead_ids
    leave_unknown(dsn, lead_ids={one})

    found = send_again(conn, Which(), day=1)

    assert dict(found.planned) == {TUESDAY: 1}
    assert lead(conn, one) == ("ACTIVE", 0)
    sender = AnsweringSender(name="smtp")
    work(dsn, sender, clock=SetClock(noon(TUESDAY)))
    assert sender.keys == [f"lead_{one}-1-1"]
    assert lead(conn, one) == ("COMPLETED", 1)
    days = conn.execute("select day, sent from hyperdrip.quota_day order by day").fetchall()
    assert days == [(MONDAY, 1), (TUESDAY, 1)]
    assert_audit_ok(conn)


def test_what_is_left_of_a_drip_moves_behind_the_message_that_is_sent_again(
    dsn: str, conn: Connection
) -> None:
    [one] = add_leads(conn, 1, messages=4).lead_ids
    leave_unknown(dsn, lead_ids={one})
    leave_unknown(dsn, lead_ids=set(), day=1)

    send_again(conn, Which(lead_id=one, number=1), day=1)

    sent: list[str] = []
    for day in range(2, 6):
        sender = AnsweringSender(name="smtp")
        work(dsn, sender, clock=SetClock(noon(MONDAY + timedelta(days=day))))
        sent += sender.keys
    assert sent == [f"lead_{one}-1-{number}" for number in (1, 3, 4)]
    assert lead(conn, one) == ("COMPLETED", 4)


def test_messages_of_leads_that_have_ended_or_must_not_be_written_to_are_left_out(
    dsn: str, conn: Connection
) -> None:
    going, stopped, suppressed, paused = add_leads(conn, 4, messages=2).lead_ids
    leave_unknown(dsn, lead_ids={going, stopped, suppressed, paused})
    standing.stop_leads(conn, SetClock(), [stopped], reason="replied")
    standing.pause_leads(conn, SetClock(), [paused], reason=None)
    conn.execute(
        "insert into hyperdrip.suppression select lower(email), 'bounced'"
        " from hyperdrip.lead where id = %s",
        [suppressed],
    )

    found = send_again(conn, Which())

    assert found.messages == 2
    assert dict(found.left_out) == {
        (stopped, 1, 1): "its lead is STOPPED",
        (suppressed, 1, 1): "its address is suppressed",
    }
    assert lead(conn, paused) == ("PAUSED", 0)
    assert reconciling.mark_sent(conn, SetClock(), Which()).messages == 2
    assert_audit_ok(conn)


def test_what_never_left_and_never_will_is_cancelled_and_its_unit_of_quota_stays_used(
    dsn: str, conn: Connection
) -> None:
    going, stopped, again = add_leads(conn, 3, messages=2).lead_ids
    leave_unknown(dsn, lead_ids={going, stopped, again})
    standing.stop_leads(conn, SetClock(), [stopped, again], reason="by hand")
    enroll_again(conn, SetClock(), [again], Enrolment(max_messages=2))

    found = reconciling.cancel(conn, SetClock(), Which())

    assert (found.messages, found.leads) == (2, 2)
    assert dict(found.left_out) == {(going, 1, 1): "its lead goes on: --resend"}
    assert (lead(conn, stopped), lead(conn, again)) == (("STOPPED", 0), ("ACTIVE", 0))
    rows = conn.execute(
        "select lead_id, error from hyperdrip.message where state = 'cancelled' and number = 1"
    ).fetchall()
    assert sorted(rows) == [(stopped, "the line was cut"), (again, "the line was cut")]
    used = conn.execute("select sent from hyperdrip.quota_day where day = %s", [MONDAY]).fetchone()
    assert used == (3,)
    assert_audit_ok(conn)
    assert reconciling.cancel(conn, SetClock(), Which()).messages == 0


def test_a_console_run_can_be_taken_back_as_a_whole(dsn: str, conn: Connection) -> None:
    lead_ids = add_leads(conn, 3, messages=2).lead_ids
    for day in (0, 1):
        leave_unknown(dsn, lead_ids=set(), name="console", day=day)
    assert count_states(conn) == {"sent": 6}

    assert send_again(conn, Which(), day=1).messages == 0
    assert send_again(conn, Which(sender="console"), day=1).messages == 6

    real = AnsweringSender(name="smtp")
    for day in (1, 2):
        work(dsn, real, clock=SetClock(noon(MONDAY + timedelta(days=day))))
    assert real.keys == [f"lead_{i}-1-{number}" for number in (1, 2) for i in lead_ids]
    assert_audit_ok(conn)


def test_a_dry_run_changes_nothing(dsn: str, conn: Connection) -> None:
    [one] = add_leads(conn, 1, messages=1).lead_ids
    leave_unknown(dsn, lead_ids={one})
    found = reconciling.send_again(conn, SetClock(), Which(), with_email=True, is_dry_run=True)
    assert found.messages == 1
    assert count_states(conn) == {"unknown": 1}


def test_a_late_answer_changes_nothing_of_a_message_that_was_sent_again_meanwhile(
    dsn: str, conn: Connection, new_conn: Callable[[], Connection]
) -> None:
    [one] = add_leads(conn, 1, messages=1).lead_ids
    other = new_conn()

    def answer(_claim: Claim) -> Outcome:
        other.execute("update hyperdrip.message set state = 'unknown'")
        other.execute("update hyperdrip.lead set message_count = 1, status = 'COMPLETED'")
        other.execute(
            "select pgmq.archive('test-drip-messages-2024-01-15', envelope_id)"
            " from hyperdrip.message"
        )
        send_again(other, Which())
        return Sent()

    worker = make_worker(dsn, AnsweringSender(answer, name="smtp"))
    worker.step()
    worker._finish_alone()
    worker.close()

    assert count_states(conn) == {"planned": 1}
    assert lead(conn, one) == ("ACTIVE", 0)
    assert_audit_ok(conn)
