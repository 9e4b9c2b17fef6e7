"""Days of instants."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.clock import Clock, day_of

zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati"]
)


@pytest.mark.parametrize(
    ("instant", "time_zone", "expected"),
    [
        ("2024-01-15T23:59:59Z", "UTC", "2024-01-15"),
        ("2024-01-16T00:00:00Z", "UTC", "2024-01-16"),
        ("2024-01-15T23:00:00Z", "Europe/Berlin", "2024-01-16"),
        ("2024-07-15T21:59:59Z", "Europe/Berlin", "2024-07-15"),
        ("2024-07-15T22:00:00Z", "Europe/Berlin", "2024-07-16"),
        ("2024-01-15T04:59:59Z", "America/New_York", "2024-01-14"),
        ("2024-01-15T12:00:00+14:00", "UTC", "2024-01-14"),
        # The day on which Samoa crossed the date line does not exist there.
        ("2011-12-30T09:59:59Z", "Pacific/Apia", "2011-12-29"),
        ("2011-12-30T10:00:00Z", "Pacific/Apia", "2011-12-31"),
    ],
)
def test_a_day_begins_at_midnight_in_its_time_zone(
    instant: str, time_zone: str, expected: str
) -> None:
    assert day_of(datetime.fromisoformat(instant), time_zone) == date.fromisoformat(expected)


@given(st.integers(0, 120 * 366 * 24 * 60), zones)
def test_the_day_does_not_go_back_as_time_goes_on(minutes: int, time_zone: str) -> None:
    instant = datetime(1980, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    days = [day_of(instant + timedelta(minutes=30 * n), time_zone) for n in range(60)]
    assert days == sorted(days)
    assert days[0] < days[-1]
    offset = instant.astimezone(ZoneInfo(time_zone)).utcoffset()
    assert offset is not None
    assert days[0] == (instant + offset).date()


def test_a_clock_that_was_never_read_does_not_guess() -> None:
    with pytest.raises(RuntimeError, match="read once"):
        Clock().estimate()
