"""The audit sees: each check fails on tables broken by hand, and on nothing else."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from hyperdrip import Hyperdrip, standing
from hyperdrip import instance as instances
from hyperdrip.audit import run_audit
from hyperdrip.db import connect
from hyperdrip.models import Claim
from hyperdrip.senders import Failed, Outcome, Sent, Unknown
from tests.database import Server
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    drain,
    make_worker,
)

QUOTA = "quota counters equal the ledger"
LIMIT = "no day exceeds its quota"
CLOSED = "a closed day holds nothing open"
MISSING = "every planned message has its envelope"
STRAY = "every envelope points at an open message"
ARCHIVED = "archived envelopes are settled"
LEADS = "leads agree with the ledger"
ORDER = "messages of a lead come in order"

MONDAY_QUEUE = "test-drip-messages-2024-01-15"
TUESDAY_QUEUE = "test-drip-messages-2024-01-16"
ADDRESS = """'{"leadId": "lead_3", "messageNumber": 2}'::jsonb, '{"run": 1}'::jsonb"""


@pytest.fixture(scope="module")
def middle_of_work(server: Server) -> Iterator[psycopg.Connection]:
    """A database in the middle of its work: every state and every status is there.

    Leads 1 and 2 have had their only message, 3 to 6 the first of three, 7 failed, 8 is unknown,
    9 is paused, 10 stopped, 11 is being sent.
    """
    dsn = server.create()
    with connect(dsn) as conn:
        conn.cursor_factory = psycopg.Cursor
        _live(conn, dsn)
        yield conn
    server.drop(dsn)


@pytest.fixture
def lived_in(middle_of_work: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """That database, in a transaction that is rolled back after the test."""
    with middle_of_work.transaction(force_rollback=True):
        yield middle_of_work
    assert_audit_ok(middle_of_work)


def _live(conn: psycopg.Connection, dsn: str) -> None:
    clock = SetClock()
    add_leads(conn, 2, messages=1, clock=clock)
    add_leads(conn, 9, messages=3, clock=clock)
    standing.pause_leads(conn, clock, [9], reason=None)
    standing.stop_leads(conn, clock, [10], reason="replied")

    class Killed(BaseException):
        pass

    def answer(claim: Claim) -> Outcome:
        if claim.lead_id == 11:
            raise Killed
        return {7: Failed("550"), 8: Unknown("died")}.get(claim.lead_id, Sent())

    worker = make_worker(dsn, AnsweringSender(answer, wave_size=8), clock=clock)
    with pytest.raises(Killed):
        worker.run()
    worker.close()
    found = conn.execute("select distinct state from hyperdrip.message order by 1").fetchall()
    states = ["cancelled", "failed", "planned", "sending", "sent", "unknown"]
    assert [state for (state,) in found] == states
    found = conn.execute("select distinct status from hyperdrip.lead order by 1").fetchall()
    statuses = ["ACTIVE", "COMPLETED", "FAILED", "PAUSED", "STOPPED"]
    assert [status for (status,) in found] == statuses
    assert_audit_ok(conn)


# (what is broken, the checks that have to see it, a word of what they say)
BREAKS: list[tuple[str, set[str], str]] = [
    # Counters.
    (
        "update hyperdrip.quota_day set reserved = reserved + 1 where day = '2024-01-16'",
        {QUOTA},
        "",
    ),
    ("update hyperdrip.quota_day set sent = sent - 1 where day = '2024-01-15'", {QUOTA}, ""),
    ("update hyperdrip.quota_day set resent = 1 where day = '2024-01-15'", {QUOTA}, ""),
    ("delete from hyperdrip.quota_day where day = '2024-01-17'", {QUOTA}, "2024-01-17: 0 reserved"),
    (
        "insert into hyperdrip.quota_day (day, reserved) values ('2024-02-01', 4)",
        {QUOTA},
        "2024-02-01: 4 reserved and 0 planned",
    ),
    # The limit.
    (
        "update hyperdrip.quota_day set highest_cap = sent - 1 where day = '2024-01-15'",
        {LIMIT},
        "2024-01-15: 8 sent, the limit was 7",
    ),
    # Days that nobody looks after any more.
    (
        "update hyperdrip.quota_day set is_closed = true where day = '2024-01-15'",
        {CLOSED},
        "2024-01-15: 0 reserved, 0 planned and 1 being sent",
    ),
    (
        "update hyperdrip.quota_day set is_closed = true where day = '2024-01-16'",
        {CLOSED},
        "2024-01-16: 6 reserved, 6 planned and 0 being sent; 2024-01-16: envelope",
    ),
    (
        "insert into hyperdrip.quota_day (day, is_closed) values ('2024-02-02', true);"
        "select pgmq.create('test-drip-messages-2024-02-02');"
        f"select pgmq.send('test-drip-messages-2024-02-02', {ADDRESS})",
        {STRAY, CLOSED},
        "2024-02-02: envelope 1 is in its queue",
    ),
    (
        "insert into hyperdrip.quota_day (day, reserved, is_closed) values ('2024-02-01', 4, true)",
        {QUOTA, CLOSED},
        "2024-02-01: 4 reserved, 0 planned and 0 being sent",
    ),
    # Envelopes.
    (
        f"""delete from pgmq."q_{TUESDAY_QUEUE}" where message->>'leadId' = 'lead_3'""",
        {MISSING},
        "lead_3 #2 on 2024-01-16",
    ),
    (f"""delete from pgmq."q_{MONDAY_QUEUE}" """, {MISSING}, "lead_11 #1 on 2024-01-15"),
    (
        f"select pgmq.drop_queue('{TUESDAY_QUEUE}')",
        {MISSING},
        "2024-01-16 has no queue for 6 messages",
    ),
    (
        f"""update pgmq."q_{TUESDAY_QUEUE}" set message = message || '{{"leadId": "lead_99"}}'
        where message->>'leadId' = 'lead_3'""",
        {MISSING},
        "lead_3 #2 on 2024-01-16",
    ),
    (
        f"""update pgmq."q_{TUESDAY_QUEUE}" set headers = '{{"run": 2}}'
        where message->>'leadId' = 'lead_4'""",
        {MISSING},
        "lead_4 #2",
    ),
    (
        f"""update pgmq."q_{TUESDAY_QUEUE}" set message = message || '{{"messageNumber": "two"}}'
        where message->>'leadId' = 'lead_5'""",
        {MISSING},
        "lead_5 #2",
    ),
    (
        "update hyperdrip.message set envelope_id = 1000 where lead_id = 3 and number = 2",
        {MISSING, STRAY},
        "lead_3 #2",
    ),
    (f"select pgmq.send('{TUESDAY_QUEUE}', {ADDRESS})", {STRAY}, "of 2024-01-16"),
    (f"select pgmq.send('{MONDAY_QUEUE}', '7')", {STRAY}, "of 2024-01-15"),
    # Archives.
    (
        f"""select pgmq.archive('{TUESDAY_QUEUE}', msg_id) from pgmq."q_{TUESDAY_QUEUE}"
        where message->>'leadId' = 'lead_3'""",
        {MISSING, ARCHIVED},
        "is planned",
    ),
    (
        f"""delete from pgmq."a_{MONDAY_QUEUE}" where message->>'leadId' = 'lead_3'""",
        {ARCHIVED},
        "lead_3 #1 of 2024-01-15 is sent and not archived",
    ),
    (
        f"""delete from pgmq."a_{MONDAY_QUEUE}" where message->>'leadId' = 'lead_8'""",
        {ARCHIVED},
        "lead_8 #1 of 2024-01-15 is unknown and not archived",
    ),
    # Leads.
    ("update hyperdrip.lead set message_count = 2 where id = 3", {LEADS}, "count 2 and 1 settled"),
    ("update hyperdrip.lead set max_messages = 4 where id = 3", {LEADS}, "3 ledger rows for 4"),
    ("update hyperdrip.lead set run = 2 where id = 3", {LEADS}, "lead_3: has no messages"),
    ("update hyperdrip.lead set status = 'STOPPED' where id = 3", {LEADS}, "STOPPED with 2"),
    ("update hyperdrip.lead set status = 'COMPLETED' where id = 3", {LEADS}, "with 1 of 3"),
    ("update hyperdrip.lead set status = 'ACTIVE' where id = 1", {LEADS}, "nothing left to send"),
    ("update hyperdrip.lead set status = 'ACTIVE' where id = 9", {LEADS}, "without a day"),
    (
        "delete from hyperdrip.message where lead_id = 10 and number = 3",
        {LEADS},
        "2 ledger rows for 3 messages",
    ),
    # The ledger against everything: a message that went back, and two that changed places.
    (
        "update hyperdrip.message set state = 'sent' where lead_id = 3 and number = 2",
        {QUOTA, STRAY, ARCHIVED, LEADS},
        "",
    ),
    (
        "update hyperdrip.message set state = 'cancelled' where lead_id = 3 and number = 3",
        {QUOTA, STRAY},
        "",
    ),
    (
        "update hyperdrip.message set number = 9 where lead_id = 3 and number = 2;"
        "update hyperdrip.message set number = 2 where lead_id = 3 and number = 3;"
        "update hyperdrip.message set number = 3 where lead_id = 3 and number = 9",
        {MISSING, ORDER},
        "lead_3 #3 on 2024-01-16",
    ),
]


@pytest.mark.parametrize(
    ("statement", "seen", "said"), BREAKS, ids=[f"break {n}" for n in range(len(BREAKS))]
)
def test_a_broken_table_is_seen_by_the_check_that_is_for_it(
    lived_in: psycopg.Connection, statement: str, seen: set[str], said: str
) -> None:
    lived_in.execute(statement)
    failed = {check.name: check.detail for check in run_audit(lived_in) if not check.ok}
    assert set(failed) == seen
    assert any(said in detail for detail in failed.values())


def test_every_check_is_shown_to_fail(conn: psycopg.Connection) -> None:
    names = [check.name for check in run_audit(conn)]
    assert set(names) == set().union(*(seen for _, seen, _ in BREAKS))
    assert names == [QUOTA, LIMIT, CLOSED, MISSING, STRAY, ARCHIVED, LEADS, ORDER]


def test_a_long_list_of_faults_is_cut_short(lived_in: psycopg.Connection) -> None:
    lived_in.execute("update hyperdrip.lead set message_count = max_messages, run = 99")
    (check,) = [check for check in run_audit(lived_in) if not check.ok]
    assert check.detail.startswith("lead_1: has no messages; lead_2: ")
    assert check.detail.endswith(" and 8 more")


def test_a_limit_lowered_below_what_was_sent_is_no_fault(
    conn: psycopg.Connection, dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 50, messages=1)
    drain(dsn)
    drip().set_daily_max(10)
    drip().set_capacity([MONDAY], 0)
    assert_audit_ok(conn)


def test_a_pruned_queue_proves_nothing_and_breaks_nothing(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 5, messages=1)
    drain(dsn)
    drain(dsn, clock=SetClock("2024-01-16T09:00:00Z"))
    conn.execute(f"select pgmq.drop_queue('{MONDAY_QUEUE}')")
    assert_audit_ok(conn)


def test_queues_of_others_are_none_of_the_audits_business(conn: psycopg.Connection) -> None:
    instances.set_daily_max(conn, 3)
    for name in ("another-queue", "drip-messages-2024-01-15", "test-drip-messages-x"):
        conn.execute("select pgmq.create(%s)", [name])
        conn.execute("select pgmq.send(%s, '{}'::jsonb)", [name])
    assert_audit_ok(conn)
