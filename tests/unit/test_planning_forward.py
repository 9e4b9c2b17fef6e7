"""Pulling promised messages forward: never later, in order, spaced, within what each day holds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hyperdrip.planning import Calendar, Remaining, Schedule, pull_forward

TODAY = date(2024, 1, 15)


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


@dataclass(frozen=True)
class Book:
    """Leads that have their days, and how many messages each day holds."""

    leads: tuple[Remaining, ...]
    capacity: dict[date, int]
    daily_max: int

    def capacity_of(self, day: date) -> int:
        return self.capacity.get(day, self.daily_max)

    def calendar(self, days_of: Sequence[Schedule]) -> Calendar:
        """The room beside the days that the leads have."""
        taken = Counter(day for days in days_of for day in days)
        days = {*taken, *self.capacity}
        free = {day: self.capacity_of(day) - taken[day] for day in days}
        return Calendar(free, daily_max=self.daily_max)

    def pull(self, leads: Sequence[Remaining] | None = None) -> dict[int, Schedule]:
        leads = self.leads if leads is None else leads
        calendar = self.calendar([days_of(lead) for lead in leads])
        return pull_forward(leads, calendar=calendar, from_day=TODAY)


def days_of(lead: Remaining) -> Schedule:
    return tuple(day for day in lead.due if day is not None)


@st.composite
def runs(draw: st.DrawFn, lead_id: int) -> Remaining:
    """What is left of a run: due from before today on, spaced by its delays or wider."""
    delays = draw(st.lists(st.sampled_from([1, 1, 2, 5]), min_size=1, max_size=4))
    due = [day(draw(st.integers(-2, 12)))]
    for delay in delays[1:]:
        due.append(due[-1] + timedelta(days=delay + draw(st.integers(0, 6))))
    gap = draw(st.none() | st.integers(0, 9))
    return Remaining(
        lead_id=lead_id,
        numbers=tuple(range(1, len(due) + 1)),
        due=tuple(due),
        delays=tuple(delays),
        previous_day=None if gap is None else due[0] - timedelta(days=delays[0] + gap),
        start_on=draw(st.none() | st.integers(-5, 12).map(lambda n: min(day(n), due[0]))),
    )


@st.composite
def books(draw: st.DrawFn) -> Book:
    """A calendar with holes, some of it fuller than it may be by now."""
    count = draw(st.integers(0, 12))
    return Book(
        leads=tuple(draw(runs(lead_id)) for lead_id in range(1, count + 1)),
        capacity=draw(st.dictionaries(st.integers(0, 15).map(day), st.integers(0, 4), max_size=12)),
        daily_max=draw(st.integers(1, 4)),
    )


def earliest_of(lead: Remaining, place: int, previous: date | None) -> date:
    bounds = [TODAY]
    if previous is not None:
        bounds.append(previous + timedelta(days=lead.delays[place]))
    if place == 0 and lead.start_on is not None:
        bounds.append(lead.start_on)
    return max(bounds)


def one_by_one(book: Book) -> dict[int, Schedule]:
    """The slow and obvious way: in the order of their days, each to the first day with room."""
    days = {lead.lead_id: list(days_of(lead)) for lead in book.leads}
    messages = [
        (due, lead.lead_id, place) for lead in book.leads for place, due in enumerate(days_of(lead))
    ]
    lead_of = {lead.lead_id: lead for lead in book.leads}
    for due, lead_id, place in sorted(messages):
        lead = lead_of[lead_id]
        previous = days[lead_id][place - 1] if place else lead.previous_day
        candidate = earliest_of(lead, place, previous)
        while candidate < due:
            taken = sum(found.count(candidate) for found in days.values())
            if taken < book.capacity_of(candidate):
                days[lead_id][place] = candidate
                break
            candidate += timedelta(days=1)
    return {lead_id: tuple(found) for lead_id, found in days.items()}


@given(books())
def test_each_message_goes_to_the_first_day_with_room_in_the_order_of_their_days(
    book: Book,
) -> None:
    assert book.pull() == one_by_one(book)


@given(books())
def test_no_message_comes_later_too_early_or_too_close_to_the_one_before(book: Book) -> None:
    for lead in book.leads:
        found = book.pull()[lead.lead_id]
        assert len(found) == len(lead.due)
        previous = lead.previous_day
        for place, (due, new) in enumerate(zip(days_of(lead), found, strict=True)):
            assert new <= due
            assert new == due or new >= earliest_of(lead, place, previous)
            previous = new
        for delay, (first, second) in zip(lead.delays[1:], pairwise(found), strict=True):
            assert (second - first).days >= delay


@given(books())
def test_no_day_gets_more_than_it_holds_or_more_than_it_had(book: Book) -> None:
    before = Counter(day for lead in book.leads for day in days_of(lead))
    after = Counter(day for days in book.pull().values() for day in days)
    assert after.total() == before.total()
    for found, count in after.items():
        assert count <= max(book.capacity_of(found), before[found])


@given(books())
def test_what_was_pulled_forward_stays_where_it_is(book: Book) -> None:
    once = book.pull()
    again = [
        Remaining(lead.lead_id, lead.numbers, once[lead.lead_id], lead.delays, lead.previous_day)
        for lead in book.leads
        if lead.start_on is None
    ]
    if len(again) == len(book.leads):
        assert book.pull(again) == once


@given(books(), st.integers(1, 4))
def test_nobody_overtakes_whom_it_was_behind(book: Book, length: int) -> None:
    """Among leads of one kind: whose days were no later for each message, has no later ones."""
    alike = [
        Remaining(
            lead.lead_id,
            tuple(range(1, length + 1)),
            tuple(days_of(lead)[0] + timedelta(days=n * 2) for n in range(length)),
            (1,) * length,
            None,
        )
        for lead in book.leads
    ]
    found = book.pull(alike)
    ordered = sorted(alike, key=lambda lead: (lead.due, lead.lead_id))
    for first, second in pairwise(ordered):
        pairs = zip(found[first.lead_id], found[second.lead_id], strict=True)
        assert all(earlier <= later for earlier, later in pairs)


def test_a_raised_limit_closes_the_ranks() -> None:
    """Ten leads, one a day, of three messages each; then two a day."""
    leads = [
        Remaining(n, (1, 2, 3), (day(3 * n), day(3 * n + 1), day(3 * n + 2)), (1, 1, 1), None)
        for n in range(10)
    ]
    found = Book(tuple(leads), {}, daily_max=2).pull()
    assert found[0] == found[1] == (day(0), day(1), day(2))
    assert found[8] == found[9] == (day(12), day(13), day(14))


def test_a_lead_that_has_no_days_is_left_alone() -> None:
    paused = Remaining(1, (2, 3), (None, None), (1, 1), TODAY)
    assert Book((), {}, daily_max=2).pull([paused]) == {}
