"""`quota` and `plan`: how many messages may leave, and when."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyperdrip.cli.completion import complete_campaign
from hyperdrip.cli.invocation import Invocation, Json, command, group, parse_day, parse_number
from hyperdrip.cli.output import print_json, print_line, print_table, quota_day_json
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import QuotaDay

if TYPE_CHECKING:
    from hyperdrip.forecast import Forecast

BAR_WIDTH = 24
MOST_ROWS = 62  # days; what is longer is shown by month
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
    command(app, "plan", example="hyperdrip plan --add 500 --daily-max 200")(show_plan)
    command(app, "replan", example="hyperdrip replan --dry-run")(replan)


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
        int,
        typer.Option(
            "--days",
            parser=parse_number,
            help="How many days, from today on.",
            metavar="N",
        ),
    ] = 14,
    json: Json = False,
) -> None:
    """Show the quota of the coming days."""
    if not 1 <= days <= LONGEST_RANGE_DAYS:
        raise InvalidDataError(f"days={days} is not a number from 1 to {LONGEST_RANGE_DAYS}")
    with run.open_planner() as drip:
        found = drip.quota_days(days=days)
    _print_days(found, is_json=json)


def show_plan(
    run: Invocation,
    add: Annotated[
        int | None,
        typer.Option(
            "--add",
            parser=parse_number,
            help="What if this many leads came in?",
            metavar="N",
        ),
    ] = None,
    max_messages: Annotated[
        int | None,
        typer.Option(
            "--max-messages",
            parser=parse_number,
            help="Messages for each of them.",
            metavar="M",
        ),
    ] = None,
    daily_max: Annotated[
        int | None,
        typer.Option(
            "--daily-max",
            parser=parse_number,
            help="What if the daily maximum were this?",
            metavar="D",
        ),
    ] = None,
    start: Annotated[
        date | None,
        typer.Option("--from", parser=parse_day, help="They start on this day.", metavar="DAY"),
    ] = None,
    campaign: Annotated[
        str,
        typer.Option(
            "--campaign",
            help="The campaign they would be in.",
            metavar="C",
            autocompletion=complete_campaign,
        ),
    ] = "default",
    json: Json = False,
) -> None:
    """Show the days ahead, up to the last one with something planned.

    With --add or --daily-max it answers what if, and writes nothing.
    """
    is_question = add is not None or daily_max is not None
    if add is None and (max_messages is not None or start is not None):
        raise typer.BadParameter("--max-messages and --from go with --add N")
    with run.open_planner() as drip:
        found = drip.forecast(
            add=add or 0,
            max_messages=max_messages,
            daily_max=daily_max,
            start=start,
            campaign=campaign,
        )
    if json:
        days = [quota_day_json(day) for day in found.days]
        print_json(_forecast_json(found, days) if is_question else days)
        return
    _print_days(found.days, is_json=False)
    total = sum(day.scheduled for day in found.days)
    print_line(
        f"{total} messages planned, until {found.days[-1].day}" if total else "Nothing is planned"
    )
    if add:
        print_line(_answer(found))


def set_quota(
    run: Invocation,
    day: Annotated[str, typer.Argument(metavar="DAY[..DAY]|default", help="Which day or days.")],
    limit: Annotated[
        str, typer.Argument(metavar="N|default", help="Messages a day; default: as other days.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would move; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask when something moves.")] = False,
    json: Json = False,
) -> None:
    """Change how many messages may leave on a day, or on all days that have no limit of their own.

    What no longer fits moves to later days, leads under way first; that is shown before. Nothing is
    pulled forward: `hyperdrip replan` does that.
    """
    from hyperdrip.limits import Change

    days = [] if day == "default" else _parse_days(day)
    number = None if limit == "default" else _parse_limit(limit)
    if not days and number is None:
        raise typer.BadParameter("give a number: hyperdrip quota set default 100")
    change = Change(capacities=dict.fromkeys(days, number)) if days else Change(daily_max=number)
    with run.open() as drip:
        before = drip.instance().daily_max
        preview = drip.preview_limits(change)
        if preview.messages:
            run.note(
                f"{preview.messages} messages of {preview.leads} leads"
                f" {'would move' if dry_run else 'move'}; the last one goes on {preview.last_day}"
            )
            if not (dry_run or yes) and run.can_ask:
                run.confirm("Go on?")
        moved = preview.messages if dry_run else drip.set_limits(change)
        pull = drip.preview_replan() if not dry_run and _is_raised(number, before, days) else None
    if json:
        print_json({"days": days or None, "limit": number, "moved": moved})
    else:
        what = f"at most {number}" if number is not None else "the daily maximum again"
        print_line(f"{day}: {what}; {moved} messages {'would move' if dry_run else 'moved'}")
    if pull is not None and pull.messages:
        run.note(
            f"{pull.messages} messages of {pull.leads} leads could go earlier: hyperdrip replan"
        )


def replan(
    run: Invocation,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would move; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Pull messages forward to earlier days with room, in their order and with their spacing.

    No message comes later than before, or before the day that its lead was given with --start.
    """
    with run.open_planner() as drip:
        preview = drip.preview_replan()
        moved = preview.messages if dry_run else drip.replan()
    if json:
        print_json({"moved": moved, "lastDay": preview.last_day})
    elif not moved:
        print_line("Nothing can go earlier")
    else:
        print_line(
            f"{moved} messages {'would move' if dry_run else 'moved'} to earlier days;"
            f" the last one goes on {preview.last_day}"
        )


def _is_raised(number: int | None, before: int, days: Sequence[date]) -> bool:
    return number is None or bool(days) or number > before


def _forecast_json(found: "Forecast", days: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "leads": found.leads,
        "messages": found.messages,
        "dailyMax": found.daily_max,
        "firstDay": found.first_day,
        "lastDay": found.last_day,
        "horizon": found.horizon,
        "fits": found.fits,
        "dailyMaxThatFits": found.daily_max_that_fits,
        "days": days,
    }


def _answer(found: "Forecast") -> str:
    """One line that answers when they will all have been written to."""
    who = f"{found.leads} more leads with {found.messages} messages"
    if found.last_day is None:
        answer = f"{who} would not be done within 100 years"
    else:
        answer = f"{who}: from {found.first_day} to {found.last_day}"
    if found.fits:
        return answer
    return f"{answer}, past the horizon {found.horizon}: refused; " + (
        f"a daily maximum of {found.daily_max_that_fits} would fit"
        if found.daily_max_that_fits
        else "no daily maximum would fit"
    )


def _print_days(days: Sequence[QuotaDay], *, is_json: bool) -> None:
    if is_json:
        print_json([quota_day_json(day) for day in days])
        return
    if len(days) > MOST_ROWS:
        _print_months(days)
        return
    print_table(
        ("day", "", "capacity", "scheduled", "sent", "free", ""),
        [
            (day.day, f"{day.day:%a}", day.capacity, day.scheduled, day.sent, day.free, _bar(day))
            for day in days
        ],
        empty="No days",
    )


def _print_months(days: Sequence[QuotaDay]) -> None:
    """A long calendar, a row for each month."""
    months: dict[str, list[QuotaDay]] = {}
    for day in days:
        months.setdefault(f"{day.day:%Y-%m}", []).append(day)
    sums = [
        (
            name,
            QuotaDay(
                found[0].day,
                sum(day.capacity for day in found),
                sum(day.scheduled for day in found),
                sum(day.sent for day in found),
            ),
        )
        for name, found in months.items()
    ]
    print_table(
        ("month", "capacity", "scheduled", "sent", "free", ""),
        [
            (name, month.capacity, month.scheduled, month.sent, month.free, _bar(month))
            for name, month in sums
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
