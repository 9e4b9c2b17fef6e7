"""Queue names and envelopes, letter for letter."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.queue import day_of, name_of

LONGEST_QUEUE_NAME = 47  # PGMQ's own limit


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
