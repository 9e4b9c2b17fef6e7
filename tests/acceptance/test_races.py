"""Many processes at once: adding leads to a nearly full day, and sending one day's queue."""

import re
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date

import psycopg
import pytest

from tests.acceptance.commands import Commands, Running, wait_until
from tests.factories import add_leads, assert_audit_ok, count_states

MONDAY = date(2024, 1, 15)

# Forks processes that add a lead each, `width` at a time, all of a batch let go at once.
ADD_AT_ONCE = """
import os, sys
from hyperdrip.client import Hyperdrip

count, width = int(sys.argv[1]), int(sys.argv[2])
statuses = []
for first in range(0, count, width):
    gate, keeper = os.pipe()
    children = []
    for number in range(first, min(first + width, count)):
        child = os.fork()
        if child == 0:
            os.close(keeper)
            with Hyperdrip.open() as drip:
                os.read(gate, 1)
                drip.add_lead(name=f"Racer {number}", email=f"racer{number}@example.com")
            os._exit(0)
        children.append(child)
    os.close(keeper)
    statuses += [os.waitpid(child, 0)[1] for child in children]
print(statuses.count(0))
"""


def _assert_all_planned(conn: psycopg.Connection, *, leads: int, messages: int) -> None:
    """Each lead has all its messages, and no day holds more than its limit of 100."""
    assert conn.execute("select count(*) from hyperdrip.lead").fetchone() == (leads,)
    assert count_states(conn) == {"planned": messages}
    by_day = conn.execute(
        "select day, count(*) from hyperdrip.message group by day order by day"
    ).fetchall()
    assert max(count for _, count in by_day) == 100
    assert by_day[0] == (MONDAY, 100)
    assert_audit_ok(conn)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("racers", "first_days"),
    [(60, [100, 50]), pytest.param(200, [100, 100, 90], marks=pytest.mark.long)],
)
def test_processes_racing_for_a_nearly_full_day_lose_no_lead_and_overfill_no_day(
    commands: Commands, conn: psycopg.Connection, racers: int, first_days: list[int]
) -> None:
    add_leads(conn, 90, messages=5)
    done = commands.run(str(racers), "50", program=(sys.executable, "-c", ADD_AT_ONCE))
    assert (done.out, done.err) == (f"{racers}\n", "")
    _assert_all_planned(conn, leads=90 + racers, messages=(90 + racers) * 5)
    found = conn.execute(
        "select day, count(*) from hyperdrip.message where number = 1 group by day order by day"
    ).fetchall()
    assert [count for _, count in found] == first_days


@pytest.mark.slow
@pytest.mark.long
def test_commands_racing_for_a_nearly_full_day_lose_no_lead_and_overfill_no_day(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 95, messages=5)
    rows = "".join(f"Row {n},row{n}@example.com\n" for n in range(30))
    (commands.folder / "leads.csv").write_text(f"name,email\n{rows}")
    work = [["add-lead", "--name", f"N{n}", "--email", f"n{n}@example.com"] for n in range(23)]
    work.insert(10, ["import", "leads.csv"])
    with ThreadPoolExecutor(len(work)) as pool:
        ended = list(pool.map(lambda arguments: commands.run(*arguments), work))
    assert {done.err for done in ended} == {""}
    _assert_all_planned(conn, leads=95 + 23 + 30, messages=(95 + 23 + 30) * 5)


def test_the_same_lead_added_many_times_at_once_is_added_once(
    commands: Commands, conn: psycopg.Connection
) -> None:
    def add(_: int) -> int:
        arguments = ("add-lead", "--name", "Twin", "--email", "twin@example.com")
        return commands.run(*arguments, code=None).code

    with ThreadPoolExecutor(6) as pool:
        assert Counter(pool.map(add, range(6))) == {0: 1, 4: 5}
    assert count_states(conn) == {"planned": 5}
    assert_audit_ok(conn)


@pytest.mark.slow
def test_8_workers_send_each_message_of_a_queue_of_2000_once_and_exactly_the_quota(
    commands: Commands, conn: psycopg.Connection
) -> None:
    commands.within.run("quota", "set", "default", "2000")
    add_leads(conn, 2000, messages=1)
    # A limit that was lowered at this very moment: the claim is all that stands before it.
    conn.execute("update hyperdrip.instance set daily_max = 300")
    commands.within.run("pause")

    with ExitStack() as stack:
        # Half of them send in waves of 500, half one by one.
        workers = [
            stack.enter_context(
                commands.start(
                    "worker",
                    "--json",
                    "--poll-interval",
                    "20",
                    "--message-delay",
                    str(min(1, number % 4)),
                )
            )
            for number in range(8)
        ]
        wait_until(lambda: commands.within.json("db", "status")["liveWorkers"] == 8, "all 8 live")
        commands.within.run("resume")
        wait_until(lambda: count_states(conn) == {"sent": 300, "planned": 1700}, "the quota left")
        assert _sent_today(conn) == 300
        commands.within.run("quota", "set", "2024-01-15", "2000")
        wait_until(lambda: count_states(conn) == {"sent": 2000}, "the rest left")
        summaries = [_stop(worker) for worker in workers]
        handed_over = [email for worker in workers for email in _handed_over(worker)]

    assert sum(summary["sent"] for summary in summaries) == 2000
    assert {summary["unknown"] + summary["retried"] for summary in summaries} == {0}
    assert len(handed_over) == len(set(handed_over)) == 2000
    assert _sent_today(conn) == 2000
    assert conn.execute(
        "select min(attempts), max(attempts), max(token) from hyperdrip.message"
    ).fetchone() == (1, 1, 1)
    assert_audit_ok(conn)


def _sent_today(conn: psycopg.Connection) -> int:
    row = conn.execute("select sent from hyperdrip.quota_day where day = %s", [MONDAY]).fetchone()
    assert row is not None
    return int(row[0])


def _stop(worker: Running) -> dict[str, int]:
    worker.send(signal.SIGTERM)
    ended = worker.wait()
    assert ended.code == 0
    found: dict[str, int] = ended.json
    return found


def _handed_over(worker: Running) -> list[str]:
    """What the receiving side saw: the console sender's lines."""
    return re.findall(
        r"^Sending message #1 to (\S+) \(scheduled for 2024-01-15\)$", worker.err, re.M
    )
