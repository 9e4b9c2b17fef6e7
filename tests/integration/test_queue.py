"""Reading a queue: what points at a message, and what is somebody else's."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from hyperdrip import queue

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
        "leadId": "lead_123",
        "email": "user@example.com",
        "messageNumber": 1,
        "scheduledDate": "2024-01-15",
        **changes,
    }


def test_an_envelope_points_at_a_message_with_or_without_an_address(
    conn: psycopg.Connection,
) -> None:
    queue.create(conn, NAME)
    one = put(conn, own_body(), {"run": 2})
    two = put(conn, {"leadId": "lead_7", "messageNumber": 3}, {"run": 1})
    pointers, strangers = queue.read(conn, NAME, vt_seconds=30, quantity=10)
    assert pointers == [((123, 2, 1), one), ((7, 1, 3), two)]
    assert strangers == []
    assert queue.read(conn, NAME, vt_seconds=30, quantity=10) == ([], [])


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (own_body(leadId="123"), {"run": 1}),
        (own_body(leadId=123), {"run": 1}),
        (own_body(leadId="lead_"), {"run": 1}),
        (own_body(leadId="lead_1,lead_2"), {"run": 1}),
        (own_body(leadId="lead_1,lead_2", messageNumber="1,1"), {"run": "1,1"}),
        (own_body(leadId="lead_1234567890123456789"), {"run": 1}),
        (own_body(leadId="lead_12\n"), {"run": 1}),
        (own_body(leadId="lead_\u0663"), {"run": 1}),
        (own_body(leadId=None), {"run": 1}),
        (own_body(messageNumber=True), {"run": 1}),
        (own_body(messageNumber=1.5), {"run": 1}),
        (own_body(messageNumber=-1), {"run": 1}),
        (own_body(messageNumber=2**31), {"run": 1}),
        (own_body(messageNumber=[1]), {"run": 1}),
        (own_body(messageNumber=None), {"run": 1}),
        (own_body(), {}),
        (own_body(), None),
        (own_body(), {"run": 2**31}),
        (own_body(), {"run": True}),
        (own_body(), [1]),
        ([1, 2], {"run": 1}),
        ("text", {"run": 1}),
        (None, {"run": 1}),
    ],
)
def test_an_envelope_of_somebody_else_points_nowhere(
    conn: psycopg.Connection, body: Any, headers: Any
) -> None:
    queue.create(conn, NAME)
    envelope_id = put(conn, body, headers)
    assert queue.read(conn, NAME, vt_seconds=0, quantity=10) == ([], [envelope_id])
    ours = put(conn, own_body(), {"run": 1})
    found = queue.read(conn, NAME, vt_seconds=30, quantity=10)
    assert found == ([((123, 1, 1), ours)], [envelope_id])
