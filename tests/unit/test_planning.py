"""Planning against a slow and obvious oracle: one lead at a time, one day at a time."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdrip.planning import (
    Block,
    Calendar,
    PastHorizon,
    Remaining,
    Schedule,
    ideal_days,
    plan,
    replan,
    smallest_daily_max,
)

START = date(2024, 1, 15)
FAR = START + timedelta(days=5000)
ONE_DAY = timedelta(days=1)


def day(number: int) -> date:
    return START + timedelta(days=number)


# The oracle


class Rooms:
    """Free room per day, found by walking."""

    def __init__(self, free: Mapping[date, int], daily_max: int) -> None:
        self.left = dict(free)
        self.daily_max = daily_max

    def on(self, day: date) -> int:
        return max(0, self.left.get(day, self.daily_max))

    def take(self, day: date) -> None:
        self.left[day] = self.on(day) - 1

    def first_from(self, day: date) -> date:
        while not self.on(day):
            day += ONE_DAY
        return day


def fit_one_lead(rooms: Rooms, bounds: Sequence[date], delays: Sequence[int]) -> Schedule:
    days: list[date] = []
    for bound, delay in zip(bounds, delays, strict=True):
        wanted = max(bound, days[-1] + timedelta(days=delay)) if days else bound
        days.append(rooms.first_from(wanted))
        rooms.take(days[-1])
    return tuple(days)


def fit_each_lead(
    rooms: Rooms, *, leads: int, delays: Sequence[int], start: date
) -> list[Schedule]:
    return [fit_one_lead(rooms, [start] * len(delays), delays) for _ in range(leads)]


def serve_by_due_day(
    remaining: Sequence[Remaining], rooms: Rooms, from_day: date
) -> dict[int, Schedule]:
    """Each day the messages that could go, earliest due first; then the leads not yet started."""
    days: dict[int, list[date]] = {lead.lead_id: [] for lead in remaining}
    under_way = [lead for lead in remaining if lead.previous_day is not None]
    today = from_day
    while any(len(days[lead.lead_id]) < len(lead.numbers) for lead in under_way):
        waiting = []
        for lead in under_way:
            done = len(days[lead.lead_id])
            if done < len(lead.numbers):
                previous = days[lead.lead_id][-1] if done else lead.previous_day
                assert previous is not None
                earliest = max(from_day, previous + timedelta(days=lead.delays[done]))
                due = lead.due[done] or earliest
                if max(due, earliest) <= today:
                    waiting.append((due, lead.lead_id))
        for _, lead_id in sorted(waiting)[: rooms.on(today)]:
            rooms.take(today)
            days[lead_id].append(today)
        today += ONE_DAY
    not_started = [lead for lead in remaining if lead.previous_day is None]
    for lead in sorted(not_started, key=lambda lead: (lead.due[0] or date.max, lead.lead_id)):
        bounds = [max(due or from_day, from_day) for due in lead.due]
        days[lead.lead_id] = list(fit_one_lead(rooms, bounds, lead.delays))
    return {lead_id: tuple(found) for lead_id, found in days.items()}


def flatten(blocks: Sequence[Block]) -> list[Schedule]:
    return [block.days for block in blocks for _ in range(block.leads)]


# What is planned


@dataclass(frozen=True)
class Case:
    """Leads to plan into a calendar with holes."""

    free: dict[date, int]
    daily_max: int
    leads: int
    delays: tuple[int, ...]

    @property
    def calendar(self) -> Calendar:
        return Calendar(self.free, daily_max=self.daily_max)

    @property
    def rooms(self) -> Rooms:
        return Rooms(self.free, self.daily_max)


nearby_days = st.integers(0, 25).map(day)
delays_of_steps = st.lists(st.sampled_from([1, 1, 1, 2, 3, 7]), min_size=1, max_size=6).map(tuple)
calendars = st.dictionaries(nearby_days, st.sampled_from([-2, 0, 0, 1, 2, 3, 8]), max_size=20)
cases = st.builds(
    Case,
    free=calendars,
    daily_max=st.integers(1, 6),
    leads=st.integers(0, 30),
    delays=delays_of_steps,
)


@given(cases, nearby_days)
def test_blocks_say_what_leads_get_one_by_one(case: Case, start: date) -> None:
    blocks = plan(case.calendar, leads=case.leads, delays=case.delays, start=start, last_day=FAR)
    assert not isinstance(blocks, PastHorizon)
    assert flatten(blocks) == fit_each_lead(
        case.rooms, leads=case.leads, delays=case.delays, start=start
    )


@given(cases)
def test_a_plan_fills_no_day_over_its_room_and_keeps_the_delays(case: Case) -> None:
    calendar = case.calendar
    blocks = plan(calendar, leads=case.leads, delays=case.delays, start=START, last_day=FAR)
    assert not isinstance(blocks, PastHorizon)
    taken = Counter(day for days in flatten(blocks) for day in days)
    assert all(count <= case.rooms.on(day) for day, count in taken.items())
    for block in blocks:
        assert all(
            later - earlier >= timedelta(days=delay)
            for (earlier, later), delay in zip(pairwise(block.days), case.delays[1:], strict=True)
        )
    # Planning looks, and takes nothing.
    assert all(calendar.free(day) == case.rooms.on(day) for day in {*case.free, *taken})


@given(cases, st.integers(-3, 40))
def test_a_plan_past_the_horizon_is_refused_whole_with_the_first_day_that_has_room(
    case: Case, horizon: int
) -> None:
    last_day = day(horizon)
    found = plan(
        case.calendar, leads=case.leads, delays=case.delays, start=START, last_day=last_day
    )
    wanted = fit_each_lead(case.rooms, leads=case.leads, delays=case.delays, start=START)
    if last_day >= START and all(days[-1] <= last_day for days in wanted):
        assert not isinstance(found, PastHorizon)
        assert flatten(found) == wanted
    else:
        assert found == PastHorizon(first_free_day=case.rooms.first_from(START))


def test_a_start_on_the_last_day_there_is_is_refused_like_any_other() -> None:
    calendar = Calendar({}, daily_max=1)
    found = plan(calendar, leads=1, delays=(1, 1), start=date.max, last_day=day(365))
    assert found == PastHorizon(first_free_day=date.max)


# The daily maximum that would fit


@dataclass(frozen=True)
class Full:
    """A calendar as it would be with another daily maximum; `own` days do not follow it."""

    reserved: dict[date, int]
    own: dict[date, int]
    leads: int
    delays: tuple[int, ...]
    last_day: date
    above: int

    def at(self, daily_max: int) -> Calendar:
        return Calendar(
            {
                day: self.own.get(day, daily_max) - self.reserved.get(day, 0)
                for day in {*self.reserved, *self.own}
            },
            daily_max=daily_max,
        )

    def fits(self, daily_max: int) -> bool:
        found = plan(
            self.at(daily_max),
            leads=self.leads,
            delays=self.delays,
            start=START,
            last_day=self.last_day,
        )
        return not isinstance(found, PastHorizon)

    def smallest(self) -> int | None:
        return smallest_daily_max(
            self.at,
            leads=self.leads,
            delays=self.delays,
            start=START,
            last_day=self.last_day,
            above=self.above,
        )


fulls = st.builds(
    Full,
    reserved=st.dictionaries(nearby_days, st.integers(0, 4), max_size=25),
    own=st.just({}),
    leads=st.integers(1, 12),
    delays=delays_of_steps,
    last_day=st.integers(0, 25).map(day),
    above=st.integers(0, 3),
)


@given(fulls)
def test_the_daily_maximum_that_is_named_is_the_smallest_that_fits(full: Full) -> None:
    shortest = START + timedelta(days=sum(full.delays[1:]))
    if shortest > full.last_day:
        assert full.smallest() is None
    else:
        one_by_one = next(n for n in range(full.above + 1, 1000) if full.fits(n))
        assert full.smallest() == one_by_one


@given(fulls, st.dictionaries(nearby_days, st.integers(0, 3), max_size=15))
def test_beside_days_of_their_own_capacity_the_maximum_that_is_named_fits_and_one_less_does_not(
    full: Full, own: dict[date, int]
) -> None:
    full = replace(full, own=own)
    found = full.smallest()
    if found is not None:
        assert full.fits(found)
        assert found == full.above + 1 or not full.fits(found - 1)


def test_a_daily_maximum_is_found_far_above_a_day_that_was_overfilled() -> None:
    # A limit lowered after most of the day had gone out: nothing up to 900 leaves any room.
    full = Full({day(0): 900}, {}, 3, (1,), day(0), above=1)
    assert full.smallest() == 903


# Costs, counted in steps


@contextmanager
def counted_steps() -> Iterator[Callable[[], int]]:
    """Count the calls of functions and methods, built-in ones too."""
    steps = 0

    def on_event(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        yield lambda: steps
    finally:
        sys.setprofile(before)


CALLS_PER_MESSAGE = 20


@given(
    calendars,
    st.integers(1, 1_000_000),
    st.integers(1, 1_000_000),
    delays_of_steps,
)
def test_a_plan_has_no_more_blocks_than_days(
    free: dict[date, int], daily_max: int, leads: int, delays: tuple[int, ...]
) -> None:
    leads = min(leads, 300 * daily_max // len(delays) + 1)
    calendar = Calendar(free, daily_max=daily_max)
    blocks = plan(calendar, leads=leads, delays=delays, start=START, last_day=FAR)
    assert not isinstance(blocks, PastHorizon)
    assert sum(block.leads for block in blocks) == leads
    # Each block but the last one fills up some day.
    assert len(blocks) <= len({day for block in blocks for day in block.days}) + 1


def test_a_million_leads_cost_as_much_as_the_days_that_they_fill() -> None:
    # 500 days, some full, some half full, so that blocks do not just follow one another.
    free = {day(n): (n * 7919) % 20_000 for n in range(0, 500, 3)}
    calendar = Calendar(free, daily_max=20_000)
    with counted_steps() as steps:
        blocks = plan(calendar, leads=1_000_000, delays=(1, 1, 2, 3, 5), start=START, last_day=FAR)
        spent = steps()
    assert not isinstance(blocks, PastHorizon)
    assert sum(block.leads for block in blocks) == 1_000_000
    days = {day for block in blocks for day in block.days}
    assert 250 < len(days) < 500
    assert len(blocks) <= len(days) + 1
    assert spent <= CALLS_PER_MESSAGE * 5 * len(blocks)


def test_a_million_leads_at_one_a_day_are_refused_after_a_year_and_not_after_ten_thousand() -> None:
    calendar = Calendar({}, daily_max=1)
    with counted_steps() as steps:
        found = plan(calendar, leads=1_000_000, delays=(1,) * 5, start=START, last_day=day(365))
        spent = steps()
    assert found == PastHorizon(first_free_day=START)
    assert spent <= CALLS_PER_MESSAGE * 366


# The calendar


takings = st.lists(st.tuples(nearby_days, st.integers(1, 4)), max_size=40)


@given(calendars, st.integers(1, 3), takings)
def test_a_calendar_finds_the_first_day_with_room_after_any_takings(
    free: dict[date, int], daily_max: int, takings: list[tuple[date, int]]
) -> None:
    calendar, rooms = Calendar(free, daily_max=daily_max), Rooms(free, daily_max)
    for wanted, count in takings:
        if count > rooms.on(wanted):
            with pytest.raises(ValueError, match=f"{wanted} has no room for {count} more"):
                calendar.take(wanted, count)
        else:
            calendar.take(wanted, count)
            for _ in range(count):
                rooms.take(wanted)
        assert calendar.free(wanted) == rooms.on(wanted)
        assert calendar.next_with_room(wanted) == rooms.first_from(wanted)
        assert calendar.next_with_room(START) == rooms.first_from(START)


def test_a_copy_of_a_calendar_has_room_of_its_own() -> None:
    calendar = Calendar({day(0): 0, day(1): 1}, daily_max=5)
    twin = calendar.copy()
    twin.take(day(1))
    twin.take(day(2), 5)
    assert twin.next_with_room(day(0)) == day(3)
    assert (calendar.free(day(1)), calendar.free(day(2))) == (1, 5)
    assert calendar.next_with_room(day(0)) == day(1)


# Replanning


@st.composite
def anybody(draw: st.DrawFn) -> list[Remaining]:
    """Leads in any state: under way or not, due early, late or on no day at all."""
    leads = []
    for lead_id in draw(st.permutations(range(1, draw(st.integers(0, 12)) + 1))):
        delays = draw(delays_of_steps)
        due: list[date | None] = [draw(st.one_of(st.none(), nearby_days))]
        for delay in delays[1:]:
            before = due[-1]
            later = draw(st.integers(delay, delay + 4))
            due.append(None if before is None else before + timedelta(days=later))
        previous_day = draw(st.one_of(st.none(), st.integers(-9, 20).map(day)))
        number = draw(st.integers(1, 3))
        numbers = tuple(range(number, number + len(delays)))
        leads.append(Remaining(lead_id, numbers, tuple(due), delays, previous_day))
    return leads


@given(anybody(), calendars, st.integers(1, 3), nearby_days)
def test_the_earliest_due_goes_first_each_day_and_who_has_not_started_goes_behind(
    leads: list[Remaining], free: dict[date, int], daily_max: int, from_day: date
) -> None:
    found = replan(leads, calendar=Calendar(free, daily_max=daily_max), from_day=from_day)
    assert found == serve_by_due_day(leads, Rooms(free, daily_max), from_day)


@given(anybody(), calendars, st.integers(1, 3), nearby_days)
def test_nobody_is_pulled_forward_or_out_of_order_and_no_day_is_filled_over_its_room(
    leads: list[Remaining], free: dict[date, int], daily_max: int, from_day: date
) -> None:
    found = replan(leads, calendar=Calendar(free, daily_max=daily_max), from_day=from_day)
    assert set(found) == {lead.lead_id for lead in leads}
    for lead in leads:
        days = found[lead.lead_id]
        assert len(days) == len(lead.numbers)
        assert all(day >= (due or from_day) for day, due in zip(days, lead.due, strict=True))
        assert all(day >= from_day for day in days)
        assert all(
            later - earlier >= timedelta(days=delay)
            for (earlier, later), delay in zip(pairwise(days), lead.delays[1:], strict=True)
        )
        if lead.previous_day is not None:
            assert days[0] - lead.previous_day >= timedelta(days=lead.delays[0])
        # No calendar is better than an empty one.
        ideal = ideal_days(lead, from_day=from_day)
        assert all(day >= best for day, best in zip(days, ideal, strict=True))
    taken = Counter(day for days in found.values() for day in days)
    assert all(count <= Rooms(free, daily_max).on(day) for day, count in taken.items())


@given(anybody(), st.integers(12, 20), nearby_days)
def test_with_room_for_everybody_each_lead_gets_its_ideal_days(
    leads: list[Remaining], daily_max: int, from_day: date
) -> None:
    found = replan(leads, calendar=Calendar({}, daily_max=daily_max), from_day=from_day)
    assert found == {lead.lead_id: ideal_days(lead, from_day=from_day) for lead in leads}


@given(anybody(), calendars, st.integers(1, 3), nearby_days)
def test_leads_not_started_take_nothing_from_leads_under_way(
    leads: list[Remaining], free: dict[date, int], daily_max: int, from_day: date
) -> None:
    def replanned(chosen: list[Remaining]) -> dict[int, Schedule]:
        return replan(chosen, calendar=Calendar(free, daily_max=daily_max), from_day=from_day)

    together = replanned(leads)
    alone = replanned([lead for lead in leads if lead.previous_day is not None])
    assert {lead_id: together[lead_id] for lead_id in alone} == alone


# A world in which days pass and days are lost


class World:
    """Leads planned at an equal limit every day, and a worker that runs on some days only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.today = START
        self.delays: dict[int, tuple[int, ...]] = {}
        self.days: dict[int, Schedule] = {}  # of all messages, sent or planned
        self.sent: Counter[int] = Counter()
        self.sent_on: Counter[date] = Counter()

    def add(self, leads: int, delays: tuple[int, ...]) -> None:
        blocks = plan(
            self.calendar(self.days), leads=leads, delays=delays, start=self.today, last_day=FAR
        )
        assert not isinstance(blocks, PastHorizon)
        for schedule in flatten(blocks):
            lead_id = len(self.days) + 1
            self.days[lead_id], self.delays[lead_id] = schedule, delays

    def calendar(self, planned_of: Mapping[int, Schedule]) -> Calendar:
        """Room from today on, beside what is planned of these leads."""
        free: dict[date, int] = defaultdict(lambda: self.limit)
        for lead_id, schedule in planned_of.items():
            for day in schedule[self.sent[lead_id] :]:
                free[day] -= 1
        free[self.today] -= self.sent_on[self.today]
        return Calendar(free, daily_max=self.limit)

    def send(self, at_most: int) -> None:
        """Send what is due today, by lead."""
        due = [
            lead_id
            for lead_id, days in self.days.items()
            if self.sent[lead_id] < len(days) and days[self.sent[lead_id]] == self.today
        ]
        for lead_id in due[:at_most]:
            self.sent[lead_id] += 1
            self.sent_on[self.today] += 1

    def remaining(self) -> list[Remaining]:
        return [
            Remaining(
                lead_id,
                tuple(range(sent + 1, len(days) + 1)),
                days[sent:],
                self.delays[lead_id][sent:],
                days[sent - 1] if sent else None,
            )
            for lead_id, days in self.days.items()
            if (sent := self.sent[lead_id]) < len(days)
        ]

    def roll_over(self, *, is_gentle: bool = False) -> None:
        """Replan from today on: gently, who is late alone if nobody has to make room; or all."""
        remaining = self.remaining()
        if is_gentle:
            late = [lead for lead in remaining if lead.due[0] and lead.due[0] < self.today]
            late_ids = {lead.lead_id for lead in late}
            others = {id_: days for id_, days in self.days.items() if id_ not in late_ids}
            found = replan(late, calendar=self.calendar(others), from_day=self.today)
            ideal = {lead.lead_id: ideal_days(lead, from_day=self.today) for lead in late}
            if found == ideal:
                self.move(found)
                return
        self.move(replan(remaining, calendar=self.calendar({}), from_day=self.today))

    def move(self, found: Mapping[int, Schedule]) -> None:
        for lead_id, days in found.items():
            self.days[lead_id] = self.days[lead_id][: self.sent[lead_id]] + days
        left = Counter(day for lead in self.remaining() for day in lead.due if day)
        left[self.today] += self.sent_on[self.today]
        assert all(count <= self.limit for count in left.values())


batches = st.lists(st.tuples(st.integers(1, 12), delays_of_steps), min_size=1, max_size=4)


@given(
    limit=st.integers(1, 4),
    batches=batches,
    passed=st.integers(0, 12),
    partly=st.integers(0, 3),
    lost=st.integers(1, 5),
    is_gentle=st.booleans(),
)
def test_a_lead_under_way_is_late_by_at_most_the_days_that_were_lost(
    *,
    limit: int,
    batches: list[tuple[int, tuple[int, ...]]],
    passed: int,
    partly: int,
    lost: int,
    is_gentle: bool,
) -> None:
    world = World(limit)
    for leads, delays in batches:
        world.add(leads, delays)
    for _ in range(passed):
        world.send(at_most=limit)
        world.today += ONE_DAY
    world.send(at_most=min(partly, limit - 1))  # the worker dies in the middle of its day
    world.today += timedelta(days=lost)
    before, under_way = dict(world.days), [lead_id for lead_id, sent in world.sent.items() if sent]
    world.roll_over(is_gentle=is_gentle)
    for lead_id in under_way:
        for was, now in zip(before[lead_id], world.days[lead_id], strict=True):
            assert was <= now <= was + timedelta(days=lost)
    # Who had no message yet keeps its place among the others.
    queue = sorted(
        (days[0], lead_id) for lead_id, days in before.items() if not world.sent[lead_id]
    )
    firsts = [world.days[lead_id][0] for _, lead_id in queue]
    assert firsts == sorted(firsts)


events = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 6)),
        st.tuples(st.just("lose"), st.integers(1, 3)),
        st.tuples(st.just("add"), st.tuples(st.integers(1, 6), delays_of_steps)),
    ),
    min_size=3,
    max_size=15,
)


@given(limit=st.integers(1, 3), events=events, is_gentle=st.booleans())
@settings(max_examples=200)
def test_outages_add_up_and_never_tear_a_lead_apart(
    limit: int, events: list[tuple[str, Any]], *, is_gentle: bool
) -> None:
    world = World(limit)
    promised: dict[
        int, tuple[Schedule, int]
    ] = {}  # when a lead set out: its days, days lost so far
    lost = 0

    def remember_who_sets_out() -> None:
        for lead_id, sent in world.sent.items():
            if sent:
                promised.setdefault(lead_id, (world.days[lead_id], lost))

    for what, value in events:
        if what == "add":
            world.add(*value)
        elif what == "lose":
            world.today += timedelta(days=value)
            lost += value
            world.roll_over(is_gentle=is_gentle)
        else:
            for _ in range(value):
                world.send(at_most=limit)
                remember_who_sets_out()
                world.today += ONE_DAY
    assert all(count <= limit for count in world.sent_on.values())
    for lead_id, (schedule, lost_before) in promised.items():
        allowed = timedelta(days=lost - lost_before)
        for was, now in zip(schedule, world.days[lead_id], strict=True):
            assert was <= now <= was + allowed


FIFTY_DAYS = [day(n) for n in range(50)]


@pytest.mark.parametrize("passed", range(1, 11))
def test_fifty_full_days_and_one_missed_make_nobody_under_way_more_than_a_day_late(
    passed: int,
) -> None:
    world = fifty_full_days(passed)
    before = dict(world.days)
    world.today += ONE_DAY
    world.roll_over()
    assert_nobody_is_torn_apart(world, before)


@pytest.mark.parametrize("passed", range(1, 11))
def test_a_lowered_limit_and_then_a_missed_day_make_nobody_more_than_a_day_late_each(
    passed: int,
) -> None:
    world = fifty_full_days(passed)
    before = dict(world.days)
    world.limit = 80
    world.roll_over()
    assert_nobody_is_torn_apart(world, before)
    before = dict(world.days)
    world.today += ONE_DAY
    world.roll_over()
    assert_nobody_is_torn_apart(world, before)


def fifty_full_days(passed: int) -> World:
    """1,000 leads at 100 a day; so many days have passed, and all that was due has been sent."""
    world = World(100)
    world.add(1000, (1, 1, 1, 1, 1))
    planned = Counter(day for days in world.days.values() for day in days)
    assert planned == dict.fromkeys(FIFTY_DAYS, 100)
    for _ in range(passed):
        world.send(at_most=100)
        world.today += ONE_DAY
    return world


def assert_nobody_is_torn_apart(world: World, before: Mapping[int, Schedule]) -> None:
    under_way = {lead_id for lead_id, sent in world.sent.items() if 0 < sent < 5}
    assert len(under_way) == (100 if sum(world.sent.values()) % 500 else 0)
    for lead_id, days in world.days.items():
        if lead_id in under_way:
            late = [now - was for was, now in zip(before[lead_id], days, strict=True)]
            assert min(late) >= timedelta(0)
            assert max(late) <= ONE_DAY
        assert all(later - earlier <= 3 * ONE_DAY for earlier, later in pairwise(days))
    left = Counter(day for lead in world.remaining() for day in lead.due)
    assert sum(left.values()) == 5000 - sum(world.sent.values())
    assert min(day for day in left if day) == world.today
    assert all(count <= world.limit for count in left.values())


def test_a_lead_whose_last_message_is_far_off_is_still_due_soon() -> None:
    lead = Remaining(1, (2, 3, 4), (day(0), day(60), None), (1, 1, 2), day(-1))
    assert ideal_days(lead, from_day=day(1)) == (day(1), day(60), day(62))
