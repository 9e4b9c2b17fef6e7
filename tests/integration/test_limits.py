"""What is foretold is what happens: limits, what-if and pulling forward on a real calendar."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest

from hyperdrip import Hyperdrip
from hyperdrip.errors import InvalidDataError, NoRoomError, NotFoundError
from hyperdrip.limits import Change
from hyperdrip.models import QuotaDay
from hyperdrip.planning import Calendar
from tests.factories import MONDAY, add_leads, assert_audit_ok, drain, new_leads

Open = Callable[..., Hyperdrip]


def day(number: int) -> date:
    return MONDAY + timedelta(days=number)


def calendar_of(one: Hyperdrip) -> list[QuotaDay]:
    return one.quota_days()


def days_of_leads(conn: psycopg.Connection) -> list[tuple[int, int, date | None]]:
    return conn.execute(
        "select lead_id, number, day from hyperdrip.message where state = 'planned' order by 1, 2"
    ).fetchall()


def busy(days: list[QuotaDay] | tuple[QuotaDay, ...]) -> dict[date, tuple[int, int]]:
    """What stands on each day that anything stands on."""
    return {found.day: (found.scheduled, found.sent) for found in days if found.scheduled}


def make_calendar(conn: psycopg.Connection, dsn: str, drip: Open, dice: random.Random) -> Hyperdrip:
    """Leads of several lengths and starts, some under way, some paused; days with own limits."""
    one = drip()
    one.set_daily_max(dice.randint(3, 8))
    for _ in range(dice.randint(2, 6)):
        start = day(dice.randint(0, 10)) if dice.random() < 0.5 else None
        add_leads(conn, dice.randint(1, 6), messages=dice.randint(1, 5), start=start)
        if dice.random() < 0.5:
            one.set_capacity([day(dice.randint(0, 15))], dice.randint(0, 4))
    if dice.random() < 0.7:
        drain(dsn)
    paused = dice.sample([lead.key for lead in one.list_leads(status="ACTIVE")], k=2)
    one.pause_leads(paused)
    if dice.random() < 0.7:  # the next day has begun, and everything of the first was sent
        one = drip(now="2024-01-16T09:00:00Z")
        one.roll_over()
    return one


def random_change(one: Hyperdrip, dice: random.Random) -> Change:
    today = one.moment().today
    if dice.random() < 0.5:
        return Change(daily_max=dice.randint(1, 9))
    first = dice.randint(0, 8)
    days = [today + timedelta(days=n) for n in range(first, first + dice.randint(1, 4))]
    return Change(capacities=dict.fromkeys(days, dice.choice([None, 0, 1, 2, 5])))


# What is foretold is what happens


@pytest.mark.parametrize("seed", range(4))
def test_a_change_of_limits_moves_what_its_preview_says(
    conn: psycopg.Connection, dsn: str, drip: Open, seed: int
) -> None:
    dice = random.Random(seed)
    one = make_calendar(conn, dsn, drip, dice)
    for _ in range(4):
        change = random_change(one, dice)
        before = days_of_leads(conn)
        preview = one.preview_limits(change)
        assert days_of_leads(conn) == before
        moved = one.set_limits(change)
        after = days_of_leads(conn)
        pairs = list(zip(before, after, strict=True))
        assert preview.messages == moved == sum(old != new for old, new in pairs)
        assert preview.leads == len({old[0] for old, new in pairs if old != new})
        if moved:
            assert preview.last_day == max(found for *_, found in after if found)
        assert_fits(one)
        assert_audit_ok(conn)


def assert_fits(one: Hyperdrip) -> None:
    for found in calendar_of(one):
        assert not found.scheduled or found.scheduled + found.sent <= found.capacity


@pytest.mark.parametrize("seed", range(4))
def test_the_calendar_with_another_daily_maximum_is_the_one_that_comes(
    conn: psycopg.Connection, dsn: str, drip: Open, seed: int
) -> None:
    dice = random.Random(100 + seed)
    one = make_calendar(conn, dsn, drip, dice)
    for daily_max in dice.sample(range(1, 12), k=3):
        foretold = one.forecast(daily_max=daily_max)
        one.set_daily_max(daily_max)
        assert list(foretold.days) == calendar_of(one)
        planned = busy(foretold.days)
        assert (foretold.first_day, foretold.last_day) == (min(planned), max(planned))
        assert foretold.daily_max == daily_max
        assert foretold.fits


@pytest.mark.parametrize("seed", range(4))
def test_leads_that_are_added_get_the_days_that_were_foretold(
    conn: psycopg.Connection, dsn: str, drip: Open, seed: int
) -> None:
    dice = random.Random(200 + seed)
    one = make_calendar(conn, dsn, drip, dice)
    today = one.moment().today
    for _ in range(3):
        count, messages = dice.randint(1, 40), dice.randint(1, 4)
        start = dice.choice([None, today + timedelta(days=dice.randint(0, 20))])
        daily_max = dice.choice([None, dice.randint(1, 10)])
        before = {key[:2] for key in days_of_leads(conn)}
        foretold = one.forecast(add=count, max_messages=messages, start=start, daily_max=daily_max)
        assert {key[:2] for key in days_of_leads(conn)} == before
        if daily_max is not None:
            one.set_daily_max(daily_max)
        one.import_file(write(count), max_messages=messages, start=start)
        assert list(foretold.days) == calendar_of(one)
        added = [found for *key, found in days_of_leads(conn) if tuple(key) not in before]
        assert len(added) == foretold.messages == count * messages
        assert (foretold.first_day, foretold.last_day) == (min(added), max(added))
        assert foretold.fits
    assert_audit_ok(conn)


def write(count: int) -> str:
    with Path("leads.csv").open("w") as file:
        file.write("name,email\n")
        file.writelines(f"{lead.name},{lead.email}\n" for lead in new_leads(count))
    return "leads.csv"


@pytest.mark.parametrize("daily_max", [None, 2, 5])
def test_the_daily_maximum_that_would_fit_fits_and_one_less_does_not(
    conn: psycopg.Connection, drip: Open, daily_max: int | None
) -> None:
    one = drip(SCHEDULE_HORIZON_DAYS=9)
    one.set_daily_max(4)
    add_leads(conn, 6, messages=3)
    one.set_capacity([day(4)], 1)
    foretold = one.forecast(add=30, max_messages=2, daily_max=daily_max)
    assert not foretold.fits
    assert foretold.last_day is not None
    assert foretold.last_day > foretold.horizon == day(9)
    fitting = foretold.daily_max_that_fits
    assert fitting is not None
    for limit, fits in ((fitting - 1, False), (fitting, True)):
        assert one.forecast(add=30, max_messages=2, daily_max=limit).fits is fits
        one.set_daily_max(limit)
        if fits:
            assert one.import_file(write(30), max_messages=2).added == 30
        else:
            with pytest.raises(NoRoomError):
                one.import_file(write(30), max_messages=2)
    assert_audit_ok(conn)


def test_the_calendar_is_shown_as_it_is_also_where_a_day_is_too_full(
    conn: psycopg.Connection, drip: Open
) -> None:
    """A message that is given out again costs a second unit; nothing moves because one looks."""
    one = drip()
    one.set_daily_max(3)
    add_leads(conn, 3, messages=2)
    conn.execute("update hyperdrip.quota_day set capacity = 2 where day = %s", [MONDAY])
    assert busy(one.forecast().days) == {day(0): (3, 0), day(1): (3, 0)}
    foretold = one.forecast(add=1, max_messages=1)
    assert (foretold.first_day, busy(foretold.days)[day(2)]) == (day(2), (1, 0))
    add_leads(conn, 1, messages=1)
    assert list(foretold.days) == calendar_of(one)


def test_a_million_leads_cost_no_more_steps_than_their_days(
    conn: psycopg.Connection, drip: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = drip()
    add_leads(conn, 250, messages=5)
    taken: list[date] = []
    take = Calendar.take

    def counted(calendar: Calendar, day: date, count: int = 1) -> None:
        taken.append(day)
        take(calendar, day, count)

    monkeypatch.setattr(Calendar, "take", counted)
    foretold = one.forecast(add=1_000_000, daily_max=5000)
    assert foretold.messages == 5_000_000
    days = busy(foretold.days)
    assert sum(scheduled for scheduled, _ in days.values()) == 5_001_250
    probes = 40  # of a daily maximum that would fit
    assert len(taken) <= 5 * len(days) + probes * 5 * 366
    assert foretold.daily_max_that_fits is not None
    assert one.forecast(add=1_000_000, daily_max=foretold.daily_max_that_fits).fits
    # Not within a hundred years: said, and not worked out to the end.
    assert one.forecast(add=1_000_000, daily_max=10).last_day is None


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        ({"add": -1}, InvalidDataError, "add=-1 is not a number from 0 to"),
        ({"add": 10**10}, InvalidDataError, "is not a number from 0 to 1000000000"),
        ({"add": 1, "max_messages": 0}, InvalidDataError, "max-messages=0 is not a number"),
        ({"add": 1, "daily_max": 0}, InvalidDataError, "daily maximum 0 is below 1; to stop:"),
        ({"add": 1, "start": day(-1)}, InvalidDataError, "start=2024-01-14 is in the past"),
        ({"add": 1, "campaign": "x"}, NotFoundError, "no campaign 'x'"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    drip: Open, question: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        drip().forecast(**question)


def test_a_question_about_the_end_of_time_is_answered(drip: Open) -> None:
    foretold = drip().forecast(add=1, start=date.max)
    assert (foretold.first_day, foretold.fits, foretold.daily_max_that_fits) == (None, False, None)


# Pulling forward


def test_a_raised_limit_lets_replan_pull_forward_what_its_preview_says(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    one = drip()
    one.set_daily_max(2)
    add_leads(conn, 6, messages=3)  # 2 a day: to day 8
    late = one.add_lead(name="Late", email="late@example.com", start=day(20), max_messages=2)
    drain(dsn)
    one.set_daily_max(5)
    before = days_of_leads(conn)
    preview = one.preview_replan()
    assert days_of_leads(conn) == before
    moved = one.replan()
    after = days_of_leads(conn)
    assert preview.messages == moved > 0
    assert preview.leads == len({o[0] for o, n in zip(before, after, strict=True) if o != n})
    assert all(new[2] <= old[2] for old, new in zip(before, after, strict=True) if old[2])
    # Three begin today beside the two that were sent, and each message goes in its turn.
    days = {lead: [d for key, _, d in after if key == lead] for lead, *_ in after}
    assert days[1] == days[2] == [day(1), day(2)]
    assert days[3] == days[4] == [day(0), day(1), day(2)]
    assert days[5] == [day(0), day(2), day(3)]
    assert days[6] == [day(1), day(3), day(4)]
    assert [message.day for message in one.list_lead_messages(late)] == [day(20), day(21)]
    assert_fits(one)
    assert_audit_ok(conn)
    assert one.replan() == 0
    assert drain(dsn).sent == 3
    assert_audit_ok(conn)


@pytest.mark.parametrize("seed", range(4))
def test_replan_on_any_calendar_does_what_its_preview_says(
    conn: psycopg.Connection, dsn: str, drip: Open, seed: int
) -> None:
    dice = random.Random(300 + seed)
    one = make_calendar(conn, dsn, drip, dice)
    one.set_daily_max(dice.randint(1, 3))
    one.set_limits(Change(daily_max=9, capacities=dict.fromkeys([day(2)], None)))
    before = days_of_leads(conn)
    preview = one.preview_replan()
    assert one.replan() == preview.messages
    after = days_of_leads(conn)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert preview.messages == len(changed)
    assert all(new[2] < old[2] for old, new in changed if old[2] and new[2])
    assert preview.last_day == max((d for *_, d in after if d), default=None)
    assert_fits(one)
    assert_audit_ok(conn)


# Limits that cannot be


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(daily_max=0), "daily maximum 0 is below 1; to stop: hyperdrip pause"),
        (Change(capacities={MONDAY: -1}), "capacity -1 of 2024-01-15 is below 0"),
        (Change(capacities={day(-1): 5}), "day 2024-01-14 is in the past; today is 2024-01-15"),
    ],
)
def test_a_limit_that_cannot_be_changes_nothing(
    conn: psycopg.Connection, drip: Open, change: Change, words: str
) -> None:
    one = drip()
    add_leads(conn, 3)
    before = (one.instance(), calendar_of(one), days_of_leads(conn))
    for refuse in (one.preview_limits, one.set_limits):
        with pytest.raises(InvalidDataError, match=words):
            refuse(change)
    assert (one.instance(), calendar_of(one), days_of_leads(conn)) == before


def test_days_and_the_daily_maximum_are_changed_in_one_transaction(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = drip()
    add_leads(conn, 10, messages=2)
    one.set_limits(Change(daily_max=4, capacities={day(0): 0, day(1): 2, day(5): None}))
    assert busy(calendar_of(one)) == {
        day(1): (2, 0),
        day(2): (4, 0),
        day(3): (4, 0),
        day(4): (4, 0),
        day(5): (4, 0),
        day(6): (2, 0),
    }
    assert_audit_ok(conn)
