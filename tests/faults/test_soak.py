"""The soak in its short form; `make soak` runs it for as long as told."""

from dataclasses import replace

import pytest

from tests.faults.soak import Plan, soak

SHORT = Plan(
    seconds=60.0,
    days=3,
    workers=4,
    planners=1,
    vt_seconds=3,
    day_seconds=3.0,
    daily_max=400,
    leads=200,
    fault_seconds=0.3,
    with_servers=False,
)


@pytest.mark.slow
def test_a_short_soak_breaks_no_promise() -> None:
    broken, lines = soak(SHORT)
    assert broken == []
    assert dict(lines)["faults that hit a message in flight"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        pytest.param("2024-03-30T12:00:00Z", id="spring"),
        pytest.param("2024-10-26T12:00:00Z", id="autumn", marks=pytest.mark.long),
    ],
)
def test_sixteen_workers_cross_the_night_of_a_clock_change(start: str) -> None:
    plan = replace(SHORT, days=4, start=start, workers=16, is_faulty=False)
    broken, lines = soak(plan)
    assert broken == []
    assert dict(lines)["days that passed under faults"] >= 3
    assert dict(lines)["unknown before reconciling"] == 0
