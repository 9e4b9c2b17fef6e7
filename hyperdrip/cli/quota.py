"""`quota` and `plan`: how many messages may leave, and when."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated

import typer

from hyperdrip.cli.invocation import Invocation, Json, command, group, parse_day
from hyperdrip.cli.output import print_json, print_line, print_table, quota_day_json
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import QuotaDay

BAR_WIDTH = 24
LONGEST_RANGE_DAYS = 730
LARGEST_LIMIT = 1_000_000_000


def register(app: typer.Typer) -> None:
    """Add these commands."""
    quota = group(
        app,
        "quota",
        "How many messages may leave on a day, over all leads.",
        example="hyperdrip quota today",
    )
    command(quota, "today", example="hyperdrip quota today --json")(show_today)
    command(quota, "show", example="hyperdrip quota show --days 7")(show_days)
    command(quota, "set", example="hyperdrip quota set 2024-12-24 0")(set_quota)
    command(app, "plan", example="hyperdrip plan")(show_plan)


def show_today(run: Invocation, json: Json = False) -> None:
    """Show today's quota: sent, scheduled, remaining."""
    with run.open_planner() as drip:
        today, instance, next_day = drip.quota_today()
    if json:
        print_json(
            {
                "day": today.day,
                "timeZone": instance.time_zone,
                "dailyMax": instance.daily_max,
                "capacity": today.capacity,
                "sent": today.sent,
                "scheduled": today.scheduled,
                "remaining": today.free,
                "nextAvailableDay": next_day,
            }
        )
        return
    print_line(f"day:                {today.day} ({instance.time_zone})")
    print_line(f"capacity:           {today.capacity} (daily maximum {instance.daily_max})")
    print_line(f"sent:               {today.sent}")
    print_line(f"scheduled:          {today.scheduled}")
    print_line(f"remaining:          {today.free}")
    print_line(f"next available day: {next_day}")


def show_days(
    run: Invocation,
    days: Annotated[
        int, typer.Option("--days", help="How many days, from today on.", metavar="N")
    ] = 14,
    json: Json = False,
) -> None:
    """Show the quota of the coming days."""
    if not 1 <= days <= LONGEST_RANGE_DAYS:
        raise InvalidDataError(f"days={days} is not a number from 1 to {LONGEST_RANGE_DAYS}")
    with run.open_planner() as drip:
        found = drip.quota_days(days=days)
    _print_days(found, is_json=json)


def show_plan(run: Invocation, json: Json = False) -> None:
    """Show the days ahead, up to the last one with something planned."""
    with run.open_planner() as drip:
        days = drip.quota_days()
        is_empty = not any(day.scheduled for day in days)
    _print_days(days, is_json=json)
    if not json:
        total = sum(day.scheduled for day in days)
        print_line(
            "Nothing is planned" if is_empty else f"{total} messages planned, until {days[-1].day}"
        )


def set_quota(
    run: Invocation,
    day: Annotated[str, typer.Argument(metavar="DAY[..DAY]|default", help="Which day or days.")],
    limit: Annotated[
        str, typer.Argument(metavar="N|default", help="Messages a day; default: as other days.")
    ],
    json: Json = False,
) -> None:
    """Change how many messages may leave on a day, or on all days that have no limit of their own.

    What no longer fits moves to later days, leads under way first. Nothing is pulled forward.
    """
    days = [] if day == "default" else _parse_days(day)
    number = None if limit == "default" else _parse_limit(limit)
    if not days and number is None:
        raise typer.BadParameter("give a number: hyperdrip quota set default 100")
    with run.open() as drip:
        today = drip.moment().today
        if days and days[0] < today:
            raise InvalidDataError(f"day={days[0]} is in the past; today is {today}")
        if days:
            moved = drip.set_capacity(days, number)
        else:
            assert number is not None
            moved = drip.set_daily_max(number)
    if json:
        print_json({"days": days or None, "limit": number, "moved": moved})
        return
    what = f"{day}: at most {limit}" if number is not None else f"{day}: the daily maximum again"
    print_line(f"{what}; {moved} messages moved")


def _print_days(days: Sequence[QuotaDay], *, is_json: bool) -> None:
    if is_json:
        print_json([quota_day_json(day) for day in days])
        return
    print_table(
        ("day", "", "capacity", "scheduled", "sent", "free", ""),
        [
            (day.day, f"{day.day:%a}", day.capacity, day.scheduled, day.sent, day.free, _bar(day))
            for day in days
        ],
        empty="No days",
    )


def _bar(day: QuotaDay) -> str:
    """Sent as full blocks, scheduled as light ones, out of the day's capacity."""
    whole = max(day.capacity, day.sent + day.scheduled, 1)
    sent = round(BAR_WIDTH * day.sent / whole)
    used = round(BAR_WIDTH * (day.sent + day.scheduled) / whole)
    return "█" * sent + "▒" * (used - sent)


def _parse_days(text: str) -> list[date]:
    first_text, dots, last_text = text.partition("..")
    first = parse_day(first_text)
    last = parse_day(last_text) if dots else first
    if not 0 <= (last - first).days < LONGEST_RANGE_DAYS:
        raise InvalidDataError(
            f"{text!r} is no range of 1 to {LONGEST_RANGE_DAYS} days, the first one first"
        )
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _parse_limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > LARGEST_LIMIT:
        raise InvalidDataError(f"limit={text!r} is not a number from 0 to {LARGEST_LIMIT}")
    return int(text)
