"""`hyperdrip worker` and what starts and stops it: announcements, pause, days gone by."""

import re
import signal
from datetime import date, timedelta

import psycopg

from tests.acceptance.commands import Commands
from tests.factories import add_leads, count_states

AT_ONCE = ("worker", "--drain", "--message-delay", "0")
MONDAY = date(2024, 1, 15)


def test_a_drain_says_first_how_many_are_due_and_how_long_it_takes(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 12)
    with commands.start("worker", "--drain", "--json") as worker:
        worker.wait_for_line("12 due, 2 s apart: about 24 s; --message-delay 0 sends at once")
        worker.send(signal.SIGTERM)
        ended = worker.wait()
    assert (ended.code, ended.json["unknown"]) == (0, 0)
    assert ended.json["sent"] + ended.json["waiting"] == 12
    rest = ended.json["waiting"]
    with commands.start("worker", "--drain", WORKER_MESSAGE_DELAY=3_600_000) as worker:
        worker.wait_for_line(rf"{rest} due, 3600 s apart: about {rest}\.0 h; --message-delay 0 .*")
        worker.send(signal.SIGTERM)
        rest -= worker.wait().out.startswith("1 sent")
    assert f"\n{rest} due\n" in commands.within.run(*AT_ONCE).err


def test_a_drain_with_nothing_due_says_what_comes_next(
    commands: Commands, conn: psycopg.Connection
) -> None:
    assert commands.within.run(*AT_ONCE).err.splitlines()[-1] == "Nothing due"
    add_leads(conn, 3, messages=1, start=date(2024, 1, 16))
    add_leads(conn, 2, messages=1, start=date(2024, 1, 17))
    drained = commands.within.run(*AT_ONCE)
    assert drained.err.splitlines()[-1] == "Nothing due; next: 3 on 2024-01-16"
    assert drained.out == "0 sent\n"


def test_a_drain_that_leaves_messages_to_their_pace_says_from_when_on_the_next_may_go(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 3, messages=1)
    conn.execute("update hyperdrip.lead set email = id || '@slow.example'")
    drained = commands.within.run(*AT_ONCE, DOMAIN_LIMITS="slow.example=1/h")
    assert re.fullmatch(
        r"1 sent, 2 waiting, the next from \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ on\n", drained.out
    )


def test_the_console_sender_says_that_it_delivers_nothing_and_the_null_sender_keeps_quiet(
    commands: Commands, conn: psycopg.Connection
) -> None:
    with commands.start("worker") as worker:
        worker.wait_for_line("The console sender delivers nothing and marks messages as sent")
        worker.wait_for_line("Drip worker started - polling every 5000ms")
        worker.send(signal.SIGTERM)
        assert worker.wait().out == "0 sent\n"
    add_leads(conn, 2, messages=1)
    said = commands.within.run(*AT_ONCE, "--sender", "null").err.splitlines()
    assert said == [
        "Starting drip worker...",
        "Drip worker started - polling every 5000ms",
        "2 due",
    ]


def test_a_paused_instance_sends_nothing_until_it_is_resumed(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 3, messages=1)
    assert commands.within.run("pause").out == "Paused\n"
    drained = commands.within.run(*AT_ONCE)
    assert drained.err.splitlines()[-1] == "Paused, 3 waiting; to go on: hyperdrip resume"
    assert drained.out == "0 sent, 3 waiting\n"
    assert commands.within.json("db", "status")["paused"] is True

    with commands.start("worker", "--poll-interval", "50", "--message-delay", "0") as worker:
        worker.wait_for_line("Drip worker started .*")
        assert commands.within.run("resume").out == "Resumed\n"
        worker.wait_for_line("Lead .* completed .*")
    assert count_states(conn) == {"sent": 3}


def test_a_worker_that_waits_sends_what_is_added_meanwhile(
    commands: Commands, conn: psycopg.Connection
) -> None:
    with commands.start("worker", "--poll-interval", "50", "--message-delay", "0") as worker:
        worker.wait_for_line("Drip worker started .*")
        one = ("--max-messages", "1")
        commands.within.run("add-lead", "--name", "A", "--email", "a@example.com", *one)
        worker.wait_for_line(r"Sending message #1 to a@example\.com .*")
        worker.wait_for_line(r"Lead a@example\.com completed drip campaign \(1/1 messages\)")
        worker.send(signal.SIGTERM)
        ended = worker.wait()
    assert (ended.code, ended.out) == (0, "1 sent\n")
    assert count_states(conn) == {"sent": 1}


def test_a_missed_day_is_rolled_over_by_the_next_worker_or_by_hand(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 3, messages=2)
    assert commands.within.json("worker", "--drain", WORKER_MESSAGE_DELAY=0)["sent"] == 3
    two_days_on = {"HYPERDRIP_NOW": "2024-01-17T09:00:00Z"}
    by_hand = commands.within.json("rollover", **two_days_on)
    assert (by_hand["day"], by_hand["rolledOver"], by_hand["closed"]) == (
        *("2024-01-17", 3),
        ["2024-01-15", "2024-01-16"],
    )
    commands.assert_audit_ok(**two_days_on)
    assert commands.within.json(*AT_ONCE, **two_days_on)["sent"] == 3
    assert {lead["status"] for lead in commands.within.json("leads", "list")} == {"COMPLETED"}


def test_a_clock_that_goes_back_sends_nothing_and_rolls_nothing_over(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 3)
    tomorrow = {"HYPERDRIP_NOW": "2024-01-16T09:00:00Z"}
    assert commands.within.json(*AT_ONCE, **tomorrow)["sent"] == 3
    back = commands.within.run(*AT_ONCE)
    assert "The clock stands before a day already opened; nothing is claimed\n" in back.err
    assert back.out.startswith("0 sent")
    assert "nothing was done" in commands.within.run("rollover").out
    commands.assert_audit_ok()


def test_fifty_full_days_and_one_missed_delay_nobody_by_more_than_a_day(
    commands: Commands, conn: psycopg.Connection
) -> None:
    commands.within.run("quota", "set", "default", "20")
    planned = add_leads(conn, 200, messages=5).schedules  # 50 full days
    last_day = {n: days[-1] for n, days in enumerate(planned, start=1)}
    for day in (0, 1, 3):  # the third day is missed
        now = f"{MONDAY + timedelta(days=day)}T09:00:00Z"
        assert commands.within.json(*AT_ONCE, "--sender", "null", HYPERDRIP_NOW=now)["sent"] == 20
    commands.assert_audit_ok(HYPERDRIP_NOW="2024-01-18T10:00:00Z")

    under_way = [
        (lead_id, last)
        for lead_id, last in conn.execute(
            "select lead_id, max(day) from hyperdrip.message where lead_id in"
            " (select lead_id from hyperdrip.message where state = 'sent') group by lead_id"
        )
    ]
    assert len(under_way) >= 20
    assert all(last <= last_day[lead_id] + timedelta(days=1) for lead_id, last in under_way)
    days = commands.within.json("plan", HYPERDRIP_NOW="2024-01-18T10:00:00Z")
    assert max(day["scheduled"] + day["sent"] for day in days) == 20
    assert sum(day["scheduled"] for day in days) == 1000 - 60
