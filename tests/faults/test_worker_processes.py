"""Signals and kills of the real `hyperdrip worker`, with messages truly in flight.

A message is held in flight in one of two ways. Either its lead's row is locked: the worker has
handed the message over, and its finish waits for the lock. Or nobody reads the worker's stderr:
the console sender's line is its hand-over, and stands still once the pipe is full. What the worker
wrote to stderr is the receiving side's own log.
"""

import os
import re
import select
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

import psycopg
import pytest

from tests.acceptance.commands import Commands, Running, is_waiting, wait_until
from tests.factories import add_leads, assert_audit_ok, count_states, show_all

MONDAY = date(2024, 1, 15)
QUEUE = "test-drip-messages-2024-01-15"
AT_ONCE = ("worker", "--drain", "--message-delay", "0")
LINE = re.compile(r"^Sending message #(\d+) to (\S+) \(scheduled for \d{4}-\d\d-\d\d\)$", re.M)

Connect = Callable[[], psycopg.Connection]


def handed_over(err: str) -> list[tuple[str, int]]:
    """What the receiving side saw: address and number, in order."""
    return [(email, int(number)) for number, email in LINE.findall(err)]


@contextmanager
def held_in_flight(new_conn: Connect) -> Iterator[psycopg.Connection]:
    """Let nobody finish a message inside the block."""
    holder = new_conn()
    with holder.transaction():
        holder.execute("select from hyperdrip.lead for update")
        yield holder


@contextmanager
def stuck_worker(commands: Commands, *arguments: str, **settings: object) -> Iterator["Stuck"]:
    """Start a worker whose stderr nobody reads, and wait until it stands still."""
    reading, writing = os.pipe()
    stuck = Stuck(reading)
    try:
        with commands.start(*arguments, stderr=writing, **settings) as stuck.running:
            wait_until(lambda: not select.select([], [writing], [], 0)[1], "the pipe is full")
            os.close(writing)
            yield stuck
    finally:
        os.close(reading)


class Stuck:
    """A worker that stands still in the middle of a wave."""

    running: Running

    def __init__(self, reading: int) -> None:
        self._reading = reading

    def read_on(self) -> str:
        """Read all that it writes, up to its end."""
        said = b""
        while piece := os.read(self._reading, 65536):
            said += piece
        return said.decode()


def add_wave(commands: Commands, conn: psycopg.Connection) -> None:
    """500 leads for today, with addresses so long that their lines fill a pipe."""
    commands.within.run("quota", "set", "default", "1500")
    add_leads(conn, 500, messages=1)
    conn.execute(
        "update hyperdrip.lead set email = 'n' || id || '@' || repeat('word.', 40) || 'example.com'"
    )


@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_a_worker_killed_ten_seconds_before_midnight_leaves_nothing_stranded(
    commands: Commands, conn: psycopg.Connection, new_conn: Connect, policy: str
) -> None:
    add_leads(conn, 3, messages=2)
    commands.settings |= {"ON_UNKNOWN": policy, "WORKER_MESSAGE_DELAY": 1}
    with (
        held_in_flight(new_conn),
        commands.start("worker", HYPERDRIP_NOW="2024-01-15T23:59:50Z") as worker,
    ):
        worker.wait_for_line(r"Sending message #1 .*")
        worker.send(signal.SIGKILL)
        worker.wait()
        assert count_states(conn) == {"sending": 1, "planned": 5}
        lines = handed_over(worker.err)
    [(killed_with, _)] = lines
    show_all(conn, QUEUE)

    for day in (16, 17, 18):
        now = {"HYPERDRIP_NOW": f"2024-01-{day}T00:00:05Z"}
        lines += handed_over(commands.within.run("worker", "--drain", **now).err)
        commands.assert_audit_ok(**now)

    again = 1 if policy == "resend" else 0
    assert Counter(lines)[killed_with, 1] == 1 + again
    assert len(set(lines)) == 6
    assert len(lines) == 6 + again
    unknown = commands.within.json("messages", "list", "--state", "unknown")
    assert [(row["email"], row["number"]) for row in unknown] == [(killed_with, 1)][again:]
    leads = commands.within.json("leads", "list")
    assert {(lead["status"], lead["messageCount"]) for lead in leads} == {("COMPLETED", 2)}
    assert {queue["length"] for queue in commands.within.json("queues", "show", "--all")} == {0}


def test_a_wave_killed_in_flight_is_unknown_as_a_whole_and_never_sent_again_with_hold(
    commands: Commands, conn: psycopg.Connection, new_conn: Connect
) -> None:
    commands.within.run("quota", "set", "default", "600")
    add_leads(conn, 600, messages=1)
    with held_in_flight(new_conn), commands.start(*AT_ONCE) as worker:
        wait_until(lambda: len(handed_over(worker.err)) == 500, "a wave is out")
        worker.send(signal.SIGKILL)
        worker.wait()
        lines = handed_over(worker.err)
    show_all(conn, QUEUE)

    drained = commands.within.run(*AT_ONCE, ON_UNKNOWN="hold")

    lines += handed_over(drained.err)
    assert drained.out == "100 sent, 500 unknown\n"
    assert len(lines) == len(set(lines)) == 600
    assert count_states(conn) == {"sent": 100, "unknown": 500}
    assert_audit_ok(conn)


def test_a_worker_killed_while_it_waits_leaves_nothing_unknown(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_leads(conn, 3, messages=1)
    with commands.start("worker", "--message-delay", "3600000") as worker:
        wait_until(lambda: count_states(conn) == {"sent": 1, "planned": 2}, "the first has left")
        worker.send(signal.SIGKILL)
        worker.wait()
        lines = handed_over(worker.err)
    lines += handed_over(commands.within.run(*AT_ONCE, ON_UNKNOWN="hold").err)
    assert len(lines) == len(set(lines)) == 3
    assert count_states(conn) == {"sent": 3}


@pytest.mark.slow
@pytest.mark.long
def test_kills_at_any_moment_lose_nothing_repeat_nothing_and_leave_one_unknown_each_at_most(
    commands: Commands, conn: psycopg.Connection
) -> None:
    # Far more than is sent before the kills, however unevenly the two of them get to work.
    commands.within.run("quota", "set", "default", "1500")
    add_leads(conn, 1500, messages=1)
    commands.settings |= {"ON_UNKNOWN": "hold", "WORKER_MESSAGE_DELAY": 1}
    lines: list[tuple[str, int]] = []
    kills = 0
    for round_number in range(5):
        with commands.start("worker") as one, commands.start("worker") as other:
            most = 7 + 10 * round_number
            wait_until(lambda: len(LINE.findall(one.err + other.err)) > most, "they are at work")  # noqa: B023
            for worker in (one, other):
                worker.send(signal.SIGKILL)
                worker.wait()
                kills += 1
                lines += handed_over(worker.err)
        show_all(conn, QUEUE)
    lines += handed_over(commands.within.run(*AT_ONCE).err)

    states = count_states(conn)
    assert set(states) <= {"sent", "unknown"}
    assert sum(states.values()) == 1500
    assert states.get("unknown", 0) <= kills
    assert len(lines) == len(set(lines))
    rows = conn.execute(
        "select email, state from hyperdrip.message join hyperdrip.lead on id = lead_id"
    )
    unseen = {state for email, state in rows if (email, 1) not in set(lines)}
    assert unseen <= {"unknown"}
    assert_audit_ok(conn)


def test_the_first_sigterm_finishes_what_left_and_gives_the_rest_of_the_wave_back(
    commands: Commands, conn: psycopg.Connection
) -> None:
    add_wave(commands, conn)
    with stuck_worker(commands, "worker", "--json", "--message-delay", "0") as stuck:
        assert count_states(conn) == {"sending": 500}
        stuck.running.send(signal.SIGTERM)
        lines = handed_over(stuck.read_on())
        ended = stuck.running.wait()

    assert ended.code == 0
    assert 0 < len(lines) < 500
    assert (ended.json["sent"], ended.json["unknown"]) == (len(lines), 0)
    assert count_states(conn) == {"sent": len(lines), "planned": 500 - len(lines)}
    [queue] = commands.within.json("queues", "show")
    assert queue["visible"] == queue["length"] == 500 - len(lines)
    assert_audit_ok(conn)
    lines += handed_over(commands.within.run(*AT_ONCE).err)
    assert len(lines) == len(set(lines)) == 500


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_waits_for_the_finish_of_what_left(
    commands: Commands, conn: psycopg.Connection, new_conn: Connect, number: signal.Signals
) -> None:
    add_leads(conn, 3, messages=2)
    with commands.start("worker", "--message-delay", "0", "--json") as worker:
        with held_in_flight(new_conn):
            wait_until(lambda: len(handed_over(worker.err)) == 3, "a wave is out")
            worker.send(number)
            assert count_states(conn, MONDAY) == {"sending": 3}
        ended = worker.wait()
    assert (ended.code, ended.json["sent"], ended.json["unknown"]) == (0, 3, 0)
    assert count_states(conn, MONDAY) == {"sent": 3}
    assert commands.within.json("db", "status")["liveWorkers"] == 0
    assert_audit_ok(conn)


def test_the_second_signal_stops_at_once_and_the_next_worker_picks_up_the_pieces(
    commands: Commands, conn: psycopg.Connection, new_conn: Connect
) -> None:
    add_leads(conn, 3, messages=1)
    with held_in_flight(new_conn), commands.start("worker", "--message-delay", "0") as worker:
        wait_until(lambda: len(handed_over(worker.err)) == 3, "a wave is out")
        worker.send(signal.SIGTERM)
        worker.send(signal.SIGINT)
        ended = worker.wait(seconds=10)
        assert count_states(conn) == {"sending": 3}
    assert ended.code == 1
    assert "Traceback" not in ended.err
    show_all(conn, QUEUE)
    assert commands.within.run(*AT_ONCE, ON_UNKNOWN="hold").out == "0 sent, 3 unknown\n"
    assert_audit_ok(conn)


@pytest.mark.parametrize("delay", ["0", "3600000"])
def test_a_worker_that_waits_stops_at_the_first_signal(
    commands: Commands, conn: psycopg.Connection, delay: str
) -> None:
    add_leads(conn, 2, messages=1)
    arguments = ("worker", "--poll-interval", "3600000", "--message-delay", delay)
    with commands.start(*arguments) as worker:
        left = {"sent": 2} if delay == "0" else {"sent": 1, "planned": 1}
        wait_until(lambda: count_states(conn) == left, "it waits")
        worker.send(signal.SIGTERM)
        ended = worker.wait(seconds=10)
    assert ended.code == 0
    assert count_states(conn) == left
    assert_audit_ok(conn)


@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_a_worker_that_stood_still_past_its_lease_changes_nothing_that_another_one_settled(
    commands: Commands, conn: psycopg.Connection, policy: str
) -> None:
    add_wave(commands, conn)
    commands.settings |= {"ON_UNKNOWN": policy, "VISIBILITY_TIMEOUT": 1}
    with stuck_worker(commands, *AT_ONCE) as stuck:
        show_all(conn, QUEUE)
        others = handed_over(commands.within.run(*AT_ONCE).err)
        settled = count_states(conn)
        assert settled == ({"unknown": 500} if policy == "hold" else {"sent": 500})
        lines = handed_over(stuck.read_on())
        assert stuck.running.wait().code == 0

    assert_audit_ok(conn)
    lines += handed_over(commands.within.run(*AT_ONCE).err)
    assert_audit_ok(conn)
    if policy == "hold":  # what had left is known to have left now
        assert others == []
        assert len(lines) == len(set(lines))
        assert count_states(conn)["sent"] == len(lines)
    else:
        assert len(others) == len(set(others)) == 500
        assert count_states(conn) == {"sent": 500}


def test_an_import_that_commits_just_after_midnight_is_sent_on_the_new_day(
    commands: Commands, conn: psycopg.Connection, new_conn: Connect
) -> None:
    add_leads(conn, 1, messages=3)
    assert commands.within.json(*AT_ONCE)["sent"] == 1
    (commands.folder / "late.csv").write_text("name,email\nLate,late@example.com\n")
    arguments = ("import", "late.csv", "--max-messages", "3", "--json")
    new_day = {"HYPERDRIP_NOW": "2024-01-16T00:00:05Z"}
    with commands.start(*arguments, HYPERDRIP_NOW="2024-01-15T23:59:55Z") as importing:
        holder = new_conn()
        with holder.transaction():
            # The import has written its first days and waits for the last one's queue.
            holder.execute('lock table pgmq."q_test-drip-messages-2024-01-17" in share mode')
            wait_until(lambda: is_waiting(conn), "the import waits")
            opened = commands.within.json(*AT_ONCE, **new_day)
            assert (opened["sent"], opened["rolledOver"]) == (1, 0)
        ended = importing.wait()
    assert ended.code == 0
    assert ended.json["firstDay"] == "2024-01-15"

    drained = commands.within.run(*AT_ONCE, **new_day)
    assert handed_over(drained.err) == [("late@example.com", 1)]
    for day in (17, 18):
        now = {"HYPERDRIP_NOW": f"2024-01-{day}T09:00:00Z"}
        commands.within.run(*AT_ONCE, **now)
        commands.assert_audit_ok(**now)
    assert count_states(conn) == {"sent": 6}
    assert {queue["length"] for queue in commands.within.json("queues", "show", "--all")} == {0}
