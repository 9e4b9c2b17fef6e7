"""Queue names and envelopes, letter for letter."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.models import Envelope
from hyperdrip.queue import Address, address_of, day_of, name_of

LONGEST_QUEUE_NAME = 47  # PGMQ's own limit


def envelope(body: dict[str, Any], headers: dict[str, Any]) -> Envelope:
    return Envelope(1, 0, datetime(2024, 1, 15, tzinfo=UTC), body, headers)


def body(**changes: Any) -> dict[str, Any]:
    return {
        "leadId": "lead_123",
        "email": "user@example.com",
        "messageNumber": 1,
        "scheduledDate": "2024-01-15",
        **changes,
    }


def test_queue_names_are_the_documented_ones() -> None:
    assert name_of("production", date(2024, 1, 15)) == "drip-messages-2024-01-15"
    assert name_of("test", date(2024, 1, 15)) == "test-drip-messages-2024-01-15"
    assert name_of("staging", date(2024, 1, 15)) == "drip-messages-2024-01-15"


@given(st.sampled_from(["production", "test", "staging"]), st.dates())
def test_a_queue_name_says_its_day(environment: str, day: date) -> None:
    name = name_of(environment, day)
    assert day_of(name) == day
    assert len(name) <= LONGEST_QUEUE_NAME


@given(st.dates(), st.dates())
def test_queues_in_order_of_their_names_are_in_order_of_their_days(one: date, two: date) -> None:
    names = sorted([name_of("production", one), name_of("production", two)])
    assert [day_of(name) for name in names] == sorted([one, two])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "drip-messages",
        "drip-messages-2024-1-15",
        "drip-messages-2024-01-15-x",
        "drip-messages-2024-01-15\n",
        "Drip-messages-2024-01-15",
        "live-drip-messages-2024-01-15",
        "test-test-drip-messages-2024-01-15",
        "drip-messages-2024-02-30",
        "drip-messages-0000-01-01",
        "drip-messages-٢٠٢٤-01-15",
    ],
)
def test_a_queue_of_somebody_else_has_no_day(name: str) -> None:
    assert day_of(name) is None


@given(st.from_regex(r"(test-)?drip-messages-[0-9]{4}-[01][0-9]-[0-3][0-9]", fullmatch=True))
def test_a_name_without_a_day_that_exists_is_somebody_else_s(name: str) -> None:
    found = day_of(name)
    environment = "test" if name.startswith("test-") else "production"
    assert found is None or name_of(environment, found) == name
    try:
        date.fromisoformat(name[-10:])
    except ValueError:
        assert found is None
    else:
        assert found is not None


def test_an_envelope_points_at_a_message() -> None:
    found = address_of(envelope(body(), {"run": 2}))
    assert found == Address(lead_id=123, run=2, number=1, email="user@example.com")


def test_an_envelope_may_leave_the_address_out() -> None:
    without = {key: value for key, value in body().items() if key != "email"}
    found = address_of(envelope(without, {"run": 1}))
    assert found == Address(lead_id=123, run=1, number=1, email="")


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"leadId": "123"}, {"run": 1}),
        ({"leadId": 123}, {"run": 1}),
        ({"leadId": "lead_"}, {"run": 1}),
        ({"leadId": "lead_1234567890123456789"}, {"run": 1}),
        ({"leadId": "lead_12\n"}, {"run": 1}),
        ({"leadId": "lead_٣"}, {"run": 1}),
        ({"leadId": None}, {"run": 1}),
        ({"messageNumber": "1"}, {"run": 1}),
        ({"messageNumber": 1.0}, {"run": 1}),
        ({"messageNumber": True}, {"run": 1}),
        ({"messageNumber": 0}, {"run": 1}),
        ({"messageNumber": 2**31}, {"run": 1}),
        ({"messageNumber": None}, {"run": 1}),
        ({}, {}),
        ({}, {"run": 0}),
        ({}, {"run": 2**31}),
        ({}, {"run": True}),
        ({}, {"run": "1"}),
    ],
)
def test_an_envelope_of_somebody_else_points_nowhere(
    changes: dict[str, Any], headers: dict[str, Any]
) -> None:
    assert address_of(envelope(body(**changes), headers)) is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
keys = st.sampled_from(["leadId", "email", "messageNumber", "scheduledDate", "run", "x"])
anything = st.dictionaries(keys, values, max_size=5)


@given(anything, anything)
def test_whatever_an_envelope_holds_it_is_read_or_left(
    body: dict[str, Any], headers: dict[str, Any]
) -> None:
    found = address_of(envelope(body, headers))
    assert found is None or (found.number == body["messageNumber"] and found.run == headers["run"])
