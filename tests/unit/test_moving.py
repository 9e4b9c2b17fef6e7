"""Moving some leads' messages: where they may go, and that nobody else notices."""

from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.planning import Calendar, Remaining, move, pull_forward

TODAY = date(2024, 1, 15)


def day(offset: int) -> date:
    return TODAY + timedelta(days=offset)


def lead(lead_id: int, *due: int, previous: int | None = None, delay: int = 1) -> Remaining:
    return Remaining(
        lead_id,
        tuple(range(1, len(due) + 1)),
        tuple(day(offset) for offset in due),
        (delay,) * len(due),
        None if previous is None else day(previous),
    )


def offsets(schedule: tuple[date, ...]) -> list[int]:
    return [(found - TODAY).days for found in schedule]


def test_the_next_message_goes_to_the_first_day_with_room_and_the_others_follow_it() -> None:
    calendar = Calendar({day(10): 0, day(12): 0}, daily_max=5)
    found = move([lead(1, 0, 1, 2)], calendar=calendar, from_day=TODAY, to=day(10))
    assert offsets(found[1]) == [11, 13, 14]


def test_a_gap_between_messages_stays_when_all_go_some_days_further() -> None:
    calendar = Calendar({}, daily_max=5)
    found = move([lead(1, 0, 4, 5)], calendar=calendar, from_day=TODAY, by_days=3)
    assert offsets(found[1]) == [3, 7, 8]


def test_nothing_goes_before_today_or_too_close_to_the_message_before() -> None:
    calendar = Calendar({}, daily_max=5)
    leads = [lead(1, 4, 6, 7), lead(2, 4, 8, previous=0, delay=3)]
    found = move(leads, calendar=calendar, from_day=TODAY, by_days=-20)
    assert offsets(found[1]) == [0, 1, 2]
    assert offsets(found[2]) == [3, 6]


def test_a_moved_lead_is_not_pulled_back_before_the_day_that_was_asked_for() -> None:
    moved = Remaining(1, (2, 3), (day(9), day(10)), (1, 1), day(0), start_on=day(8))
    calendar = Calendar({day(9): 4, day(10): 4}, daily_max=5)
    found = pull_forward([moved], calendar=calendar, from_day=TODAY)
    assert offsets(found[1]) == [8, 9]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Remaining], dict[date, int], int]:
    """Leads that are moved, the room beside everybody else, and the daily maximum."""
    daily_max = draw(st.integers(1, 4))
    leads: list[Remaining] = []
    used: Counter[date] = Counter()
    for lead_id in range(1, draw(st.integers(1, 6)) + 1):
        delay = draw(st.integers(1, 3))
        at = previous = draw(st.one_of(st.none(), st.integers(-3, 0)))
        due = []
        at = draw(st.integers(0, 8)) if at is None else at + delay + draw(st.integers(0, 5))
        for _ in range(draw(st.integers(1, 4))):
            at = max(at, 0)
            while used[day(at)] >= daily_max:
                at += 1
            used[day(at)] += 1
            due.append(at)
            at += delay + draw(st.integers(0, 3))
        leads.append(lead(lead_id, *due, previous=previous, delay=delay))
    others = draw(st.dictionaries(st.integers(0, 30).map(day), st.integers(0, daily_max)))
    free = {
        found: daily_max - min(others.get(found, 0), daily_max - used[found])
        for found in {*used, *others}
    }
    return leads, free, daily_max


targets = st.one_of(
    st.integers(-25, 25).map(lambda days: {"by_days": days}),
    st.integers(0, 25).map(lambda days: {"to": day(days)}),
)


@given(worlds(), targets)
def test_a_move_keeps_order_spacing_and_room_whoever_else_is_there(
    world: tuple[list[Remaining], dict[date, int], int], target: dict[str, Any]
) -> None:
    leads, free, daily_max = world
    found = move(leads, calendar=Calendar(free, daily_max=daily_max), from_day=TODAY, **target)
    taken = Counter(used for schedule in found.values() for used in schedule)
    assert all(count <= free.get(used, daily_max) for used, count in taken.items())
    for one in leads:
        days = found[one.lead_id]
        assert len(days) == len(one.numbers)
        assert days[0] >= max(TODAY, target.get("to", TODAY))
        chain = [*([one.previous_day] if one.previous_day else []), *days]
        assert all((b - a).days >= one.delays[0] for a, b in pairwise(chain))
        # As near to what was asked for as there is room.
        for place, got in enumerate(days):
            before = days[place - 1] if place else one.previous_day
            earliest = TODAY if before is None else max(TODAY, before + timedelta(one.delays[0]))
            if "to" in target:
                earliest = max(earliest, target["to"]) if place == 0 else earliest
            else:
                due = one.due[place]
                assert due is not None
                earliest = max(earliest, due + timedelta(target["by_days"]))
            between = range((got - earliest).days)
            assert all(
                taken[skipped] == free.get(skipped, daily_max)
                for skipped in (earliest + timedelta(n) for n in between)
            )


@given(worlds())
def test_a_move_by_no_days_moves_nothing(
    world: tuple[list[Remaining], dict[date, int], int],
) -> None:
    leads, free, daily_max = world
    found = move(leads, calendar=Calendar(free, daily_max=daily_max), from_day=TODAY)
    assert found == {one.lead_id: one.due for one in leads}
