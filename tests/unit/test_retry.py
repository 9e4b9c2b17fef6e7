"""Backoff, giving up, and what becomes of a message of unknown fate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.retry import backoff_seconds, is_given_up, is_sent_again, refusal_seconds

chances = st.floats(0, 1)


def test_the_backoff_grows_from_a_minute_to_an_hour() -> None:
    found = [backoff_seconds(attempts, chance=0.5) for attempts in range(1, 10)]
    assert found == [60, 240, 960, *[3600] * 6]


@given(st.integers(1, 10**9), chances)
def test_chance_moves_the_backoff_by_a_fifth_either_way(attempts: int, chance: float) -> None:
    plain = backoff_seconds(attempts, chance=0.5)
    assert backoff_seconds(attempts, chance=0) == round(plain * 0.8)
    assert backoff_seconds(attempts, chance=1) == round(plain * 1.2)
    assert round(plain * 0.8) <= backoff_seconds(attempts, chance=chance) <= round(plain * 1.2)


@given(st.integers(1, 100), chances)
def test_no_attempt_waits_less_than_the_one_before_with_the_same_chance(
    attempts: int, chance: float
) -> None:
    before = backoff_seconds(attempts, chance=chance)
    assert isinstance(before, int)
    assert backoff_seconds(attempts + 1, chance=chance) >= before


def test_the_pause_after_refusals_doubles_from_a_second_to_a_minute() -> None:
    found = [refusal_seconds(refusals, chance=0.5) for refusals in range(1, 10)]
    assert found == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert refusal_seconds(10**9, chance=0.5) == 60


@given(st.integers(1, 10**9), chances)
def test_chance_moves_the_pause_by_a_fifth_either_way(refusals: int, chance: float) -> None:
    plain = refusal_seconds(refusals, chance=0.5)
    assert plain * 0.79 < refusal_seconds(refusals, chance=chance) < plain * 1.21


@pytest.mark.parametrize(("attempts", "expected"), [(1, False), (4, False), (5, True), (6, True)])
def test_a_message_is_given_up_after_the_last_attempt(attempts: int, *, expected: bool) -> None:
    assert is_given_up(attempts, max_attempts=5) is expected


@pytest.mark.parametrize(
    ("on_unknown", "sender", "expected"),
    [
        ("hold", "smtp", False),
        ("hold", "console", False),
        ("resend", "smtp", True),
        ("resend", "console", True),
        ("", "smtp", False),
        ("", "a plug-in", False),
        ("", "console", True),
        ("", "null", True),
        ("", "webhook", True),
    ],
)
def test_an_unknown_is_sent_again_as_told_or_as_suits_its_sender(
    on_unknown: str, sender: str, *, expected: bool
) -> None:
    found = is_sent_again(on_unknown=on_unknown, sender=sender, attempts=1, max_attempts=5)
    assert found is expected


@pytest.mark.parametrize(("attempts", "expected"), [(4, True), (5, False), (6, False)])
def test_an_unknown_is_not_sent_again_after_the_last_attempt(
    attempts: int, *, expected: bool
) -> None:
    found = is_sent_again(on_unknown="resend", sender="smtp", attempts=attempts, max_attempts=5)
    assert found is expected
