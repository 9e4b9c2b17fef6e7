"""PURE planning: leads and free capacity in, blocks of schedules out. No clock, no database.

Two questions are answered here:

`plan`    where do the messages of new leads go? Leads are served in order; message 1 goes to the
          first day with room, message k to the first day with room on or after day(k-1) + delay(k).
          Neighbours share a schedule until some day fills up, so the answer comes in blocks and
          a million leads cost as much as the number of distinct days.

`replan`  where do promised messages go after days were lost or a limit was lowered? Messages of
          leads under way are served day by day, earliest due first, which delays none of them by
          more than the days that were lost. Leads that have had no message yet give way: they are
          planned behind them, each as a whole, in the order in which they were due.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

Schedule = tuple[date, ...]

LARGEST_DAILY_MAX = 1_000_000_000


@dataclass(frozen=True)
class Block:
    """`leads` neighbours that share one schedule: a day for each of their messages."""

    leads: int
    days: Schedule


@dataclass(frozen=True)
class PastHorizon:
    """A plan that does not fit before its last day; `first_free_day` has room for one message."""

    first_free_day: date


@dataclass(frozen=True)
class Remaining:
    """What is left of one lead's run: its planned messages, lowest number first.

    `due` holds the day that each has now (None: it has none, its lead was paused); `delays` the
    days that must lie between each and the one before; `previous_day` the day of the last message
    that was handed over, None when there is none yet; `start_on` the day that somebody asked for:
    the next message is not pulled before it.
    """

    lead_id: int
    numbers: tuple[int, ...]
    due: tuple[date | None, ...]
    delays: tuple[int, ...]
    previous_day: date | None
    start_on: date | None = None

    @property
    def is_under_way(self) -> bool:
        """Has this lead had a message in this run?"""
        return self.previous_day is not None


class Calendar:
    """Free capacity per day. Days that are not listed have the daily maximum free."""

    def __init__(self, free: Mapping[date, int], *, daily_max: int) -> None:
        """`free`: messages that still fit, by day; below 0: so many too many are there."""
        self._free = {day.toordinal(): room for day, room in free.items()}
        self._daily_max = daily_max
        self._skip: dict[int, int] = {}

    def copy(self) -> "Calendar":
        """A calendar of its own with the same room."""
        twin = Calendar({}, daily_max=self._daily_max)
        twin._free = dict(self._free)
        twin._skip = dict(self._skip)
        return twin

    def free(self, day: date) -> int:
        """Messages that still fit on `day`."""
        return max(0, self._free.get(day.toordinal(), self._daily_max))

    def take(self, day: date, count: int = 1) -> None:
        """Use room for `count` messages on `day`; there must be that much."""
        number = day.toordinal()
        left = self._free.get(number, self._daily_max) - count
        if left < 0:
            raise ValueError(f"{day} has no room for {count} more")
        self._free[number] = left

    def give(self, day: date) -> None:
        """Take a message off `day`. Only before `next_with_room` has passed it."""
        number = day.toordinal()
        self._free[number] = self._free.get(number, self._daily_max) + 1

    def next_with_room(self, day: date, *, stop: date | None = None) -> date:
        """The first day on or after `day` with room for one message, or `stop` before it."""
        start = number = day.toordinal()
        end = math.inf if stop is None else stop.toordinal()
        passed = []
        while number < end and self._free.get(number, self._daily_max) <= 0:
            passed.append(number)
            number = self._skip.get(number, number + 1)
        for full in passed:
            self._skip[full] = number
        if stop is not None and number >= end:
            return stop
        return day + timedelta(days=number - start)


def plan(
    calendar: Calendar,
    *,
    leads: int,
    delays: Sequence[int],
    start: date,
    last_day: date,
) -> list[Block] | PastHorizon:
    """Plan `leads` new leads of `len(delays)` messages each, none later than `last_day`.

    `delays[0]` is ignored: message 1 may go on `start`. `calendar` is not changed. The blocks come
    in the order of the leads.
    """
    refusal = PastHorizon(first_free_day=calendar.next_with_room(start))
    if start > last_day:
        return refusal
    blocks: list[Block] = []
    for block in _first_fit(calendar.copy(), leads, (start,) * len(delays), delays):
        if block.days[-1] > last_day:
            return refusal
        blocks.append(block)
    return blocks


def smallest_daily_max(
    calendar_at: Callable[[int], Calendar],
    *,
    leads: int,
    delays: Sequence[int],
    start: date,
    last_day: date,
    above: int,
) -> int | None:
    """The smallest daily maximum greater than `above` with which the plan ends by `last_day`.

    `calendar_at(n)` is the calendar as it would be with a daily maximum of n. None when no daily
    maximum is enough. Where some days have a capacity of their own, more room on the others can
    make a plan end later; then the answer fits and one less does not, but a number well below it
    may.
    """

    def fits(daily_max: int) -> bool:
        found = plan(
            calendar_at(daily_max), leads=leads, delays=delays, start=start, last_day=last_day
        )
        return not isinstance(found, PastHorizon)

    low, high = above, above + 1
    while not fits(high):
        low, high = high, above + 2 * (high - above)
        if high > LARGEST_DAILY_MAX:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def replan(
    remaining: Iterable[Remaining], *, calendar: Calendar, from_day: date
) -> dict[int, Schedule]:
    """Give every remaining message a day on or after `from_day`; returns lead id -> days.

    In `calendar` the room of the messages given here counts as free; it is used up. No message is
    pulled forward. The horizon does not count: what is promised is promised.
    """
    under_way: list[Remaining] = []
    not_started: list[Remaining] = []
    for lead in remaining:
        (under_way if lead.is_under_way else not_started).append(lead)
    schedules = _earliest_due_first(under_way, calendar, from_day)
    schedules.update(_behind(not_started, calendar, from_day))
    return schedules


def pull_forward(
    remaining: Iterable[Remaining], *, calendar: Calendar, from_day: date
) -> dict[int, Schedule]:
    """Give every remaining message the first day with room from `from_day` on; lead id -> days.

    In the order in which they are due now, so nobody overtakes where both could go; no message
    comes later than before, before its delay has passed, or before the day its lead asked for.
    `calendar`: the room beside the days that they have now; it is used up.
    """
    leads = [lead for lead in remaining if None not in lead.due]
    found: dict[int, list[date]] = {lead.lead_id: [] for lead in leads}
    queue = sorted(
        (due, lead.lead_id, place, position)
        for position, lead in enumerate(leads)
        for place, due in enumerate(lead.due)
        if due is not None
    )
    for due, lead_id, place, position in queue:
        lead, days = leads[position], found[lead_id]
        previous = days[-1] if days else lead.previous_day
        earliest = _not_before(None, previous, lead.delays[place], from_day)
        if place == 0:
            earliest = max(earliest, lead.start_on or earliest)
        day = calendar.next_with_room(earliest, stop=due) if earliest < due else due
        if day != due:
            calendar.take(day)
            calendar.give(due)
        days.append(day)
    return {lead_id: tuple(days) for lead_id, days in found.items()}


def move(
    remaining: Iterable[Remaining],
    *,
    calendar: Calendar,
    from_day: date,
    to: date | None = None,
    by_days: int = 0,
) -> dict[int, Schedule]:
    """Give leads' messages other days, and nobody else's; returns lead id -> days.

    With `to`, the next message goes to the first day with room from then on, and the others follow
    it; else each goes `by_days` further, or nearer when below 0. None comes before `from_day` or
    before its delay has passed. In `calendar` the room of the messages given here counts as free;
    it is used up, in the order in which leads are due.
    """
    schedules: dict[int, Schedule] = {}
    for lead in sorted(remaining, key=lambda lead: (lead.due[0] or from_day, lead.lead_id)):
        days: list[date] = []
        previous = lead.previous_day
        for place, delay in enumerate(lead.delays):
            asked = asked_day(lead, place, to=to, by_days=by_days)
            wanted = _not_before(asked, previous, delay, from_day)
            previous = calendar.next_with_room(wanted)
            calendar.take(previous)
            days.append(previous)
        schedules[lead.lead_id] = tuple(days)
    return schedules


def asked_day(lead: Remaining, place: int, *, to: date | None, by_days: int) -> date | None:
    """Where a move is to bring a message, were there room; None: right behind the one before."""
    if to is not None:
        return to if place == 0 else None
    due = lead.due[place]
    return None if due is None else due + timedelta(days=by_days)


def ideal_days(lead: Remaining, *, from_day: date) -> Schedule:
    """The days that this lead's messages would have if every day had room for them."""
    days: list[date] = []
    previous = lead.previous_day
    for due, delay in zip(lead.due, lead.delays, strict=True):
        previous = _not_before(due, previous, delay, from_day)
        days.append(previous)
    return tuple(days)


def _first_fit(
    calendar: Calendar, leads: int, earliest: Schedule, delays: Sequence[int]
) -> Iterator[Block]:
    """Serve `leads` equal leads in order, block by block; each uses up the calendar."""
    while leads > 0:
        days: list[date] = []
        for bound, delay in zip(earliest, delays, strict=True):
            wanted = max(bound, days[-1] + timedelta(days=delay)) if days else bound
            days.append(calendar.next_with_room(wanted))
        count = min(leads, *(calendar.free(day) for day in days))
        for day in days:
            calendar.take(day, count)
        yield Block(count, tuple(days))
        leads -= count


def _not_before(due: date | None, previous: date | None, delay: int, from_day: date) -> date:
    day = from_day if due is None else max(due, from_day)
    return day if previous is None else max(day, previous + timedelta(days=delay))


def _earliest_due_first(
    leads: Sequence[Remaining], calendar: Calendar, from_day: date
) -> dict[int, Schedule]:
    """Day by day, the messages that were due first go first; ties in the order of the leads.

    Each lead has one message waiting at a time. With an equal limit every day this delays no
    message by more than the days that were lost, whatever else was promised.
    """
    days: list[list[date]] = [[] for _ in leads]
    coming: list[tuple[date, date, int, int]] = []  # (ready day, due day, lead id, position)

    def await_next(position: int) -> None:
        lead, done = leads[position], len(days[position])
        if done == len(lead.numbers):
            return
        previous = days[position][-1] if done else lead.previous_day
        ready = _not_before(lead.due[done], previous, lead.delays[done], from_day)
        heapq.heappush(coming, (ready, lead.due[done] or ready, lead.lead_id, position))

    for position in range(len(leads)):
        await_next(position)
    ready_now: list[tuple[date, int, int]] = []  # (due day, lead id, position)
    day = from_day
    while coming or ready_now:
        if not ready_now:
            day = max(day, coming[0][0])
        day = calendar.next_with_room(day)
        while coming and coming[0][0] <= day:
            _, due, lead_id, position = heapq.heappop(coming)
            heapq.heappush(ready_now, (due, lead_id, position))
        for _ in range(min(len(ready_now), calendar.free(day))):
            _, _, position = heapq.heappop(ready_now)
            calendar.take(day)
            days[position].append(day)
            await_next(position)
        day += timedelta(days=1)
    return {lead.lead_id: tuple(found) for lead, found in zip(leads, days, strict=True)}


def _behind(leads: Sequence[Remaining], calendar: Calendar, from_day: date) -> dict[int, Schedule]:
    """Plan leads that have had no message yet, in the order in which they were due."""

    def order(lead: Remaining) -> tuple[bool, date, int]:
        first = lead.due[0]
        return first is None, first or from_day, lead.lead_id

    schedules: dict[int, Schedule] = {}
    group: list[Remaining] = []

    def place_group() -> None:
        if not group:
            return
        first_day = max(from_day, group[0].start_on or from_day)
        earliest = tuple(_not_before(due, None, 0, first_day) for due in group[0].due)
        ids = iter(lead.lead_id for lead in group)
        for block in _first_fit(calendar, len(group), earliest, group[0].delays):
            schedules.update((next(ids), block.days) for _ in range(block.leads))
        group.clear()

    for lead in sorted(leads, key=order):
        if group and _kind(lead) != _kind(group[0]):
            place_group()
        group.append(lead)
    place_group()
    return schedules


def _kind(lead: Remaining) -> tuple[object, ...]:
    """Leads of one kind that follow each other can be planned as a block."""
    return lead.due, lead.delays, lead.start_on
