"""What lies in a queue: envelopes that the ledger knows, and what somebody else put there."""

from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from hyperdrip import queue
from tests.factories import (
    AnsweringSender,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    make_worker,
)

NAME = "test-drip-messages-2024-01-15"


def put(conn: psycopg.Connection, body: Any, headers: Any) -> int:
    row = conn.execute(
        "select pgmq.send(queue_name => %s, msg => %s, headers => %s)",
        [NAME, Jsonb(body), None if headers is None else Jsonb(headers)],
    ).fetchone()
    assert row is not None
    return int(row[0])


def own_body(**changes: Any) -> dict[str, Any]:
    return {
        "leadId": "lead_1",
        "email": "user@example.com",
        "messageNumber": 1,
        "scheduledDate": "2024-01-15",
        **changes,
    }


def test_what_was_read_is_hidden_and_comes_in_the_order_of_its_ids(
    conn: psycopg.Connection,
) -> None:
    queue.create(conn, NAME)
    ids = [put(conn, own_body(), {"run": 1}) for _ in range(3)]

    def read(name: str = NAME, *, quantity: int = 10) -> list[int]:
        found, server_now = queue.read(conn, name, vt_seconds=30, quantity=quantity)
        assert server_now.tzinfo is not None
        return found

    assert read(quantity=2) == ids[:2]
    assert read() == ids[2:]
    assert read() == []
    assert read("test-drip-messages-2024-01-16") == []


# The ledger says which envelope is whose, so that what an envelope says of itself moves nothing.
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (own_body(), {"run": 1}),  # a copy of the one that the ledger knows
        (own_body(leadId="lead_2", messageNumber=3), {"run": 1}),
        (own_body(leadId=None), {"run": 2**31}),
        (own_body(messageNumber=[1]), None),
        ([1, 2], [1]),
        ("text", {}),
        (None, {"run": True}),
    ],
)
def test_an_envelope_that_the_ledger_does_not_know_is_archived_and_sends_nothing(
    conn: psycopg.Connection, dsn: str, body: Any, headers: Any
) -> None:
    add_leads(conn, 2, messages=1)
    stranger = put(conn, body, headers)
    sender = AnsweringSender()
    summary = drain(dsn, sender)
    assert (summary.sent, summary.skipped) == (2, 1)
    assert sorted(sender.keys) == ["lead_1-1-1", "lead_2-1-1"]
    archived = conn.execute(f'select msg_id from pgmq."a_{NAME}"').fetchall()
    assert (stranger,) in archived
    assert_audit_ok(conn)


def test_ids_of_a_queue_that_is_made_again_begin_after_those_that_the_ledger_knows(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=1)
    conn.execute("select pgmq.drop_queue(%s)", [NAME])
    add_leads(conn, 2, messages=1)
    sender = AnsweringSender()
    assert drain(dsn, sender).sent == 2
    assert sorted(sender.keys) == ["lead_4-1-1", "lead_5-1-1"]
    rows = conn.execute("select envelope_id from hyperdrip.message order by lead_id").fetchall()
    assert rows == [(number,) for number in range(1, 6)]


def test_two_messages_of_one_envelope_are_both_settled(conn: psycopg.Connection, dsn: str) -> None:
    add_leads(conn, 1, messages=1)
    conn.execute("select pgmq.drop_queue(%s)", [NAME])
    conn.execute("select pgmq.create(%s)", [NAME])  # by hand, so its ids begin again
    for table in (f"q_{NAME}", f"a_{NAME}"):
        conn.execute(f'grant select, insert, update, delete on pgmq."{table}" to public')
    add_leads(conn, 1, messages=1)
    sender = AnsweringSender()
    drain(dsn, sender)
    assert sorted(sender.keys) == ["lead_1-1-1", "lead_2-1-1"]
    assert count_states(conn) == {"sent": 2}


def test_a_wave_with_gaps_takes_nothing_of_what_lies_between(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 6, messages=1)
    for hidden in (2, 4, 5):  # as if others had read them
        conn.execute("select pgmq.set_vt(%s, %s, 100)", [NAME, hidden])
    sender = AnsweringSender()
    with closing(make_worker(dsn, sender)) as worker:
        worker.step()
        worker.step()
    assert sender.keys == ["lead_1-1-1", "lead_3-1-1", "lead_6-1-1"]
    assert count_states(conn) == {"planned": 3, "sent": 3}
    assert_audit_ok(conn)
