"""`explain` names the rule that decides for a lead, and `status` is loud about what is wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from hyperdrip import Hyperdrip
from hyperdrip import instance as instances
from hyperdrip.errors import NotFoundError
from hyperdrip.explaining import Explanation
from hyperdrip.models import Claim
from hyperdrip.senders import Failed, Later, Retry, Unknown
from tests.factories import MONDAY, AnsweringSender, SetClock, add_leads, drain, noon, work

Open = Callable[..., Hyperdrip]

TUESDAY = MONDAY + timedelta(days=1)
NEXT_MORNING = "2024-01-16T09:00:00Z"


def begin_worker(conn: psycopg.Connection) -> None:
    """A worker that lives, and does nothing."""
    instances.insert_worker(conn, host="mill", pid=4711, sender="null")


def said(found: Explanation) -> tuple[str, str]:
    return found.rule, found.text


def test_a_lead_that_has_ended_or_is_held_says_why(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    one = drip()
    for name in ("done", "failed", "stopped", "paused"):
        one.add_lead(name=name, email=f"{name}@example.com", max_messages=1 + (name == "paused"))
    one.pause_leads(["paused@example.com"], reason="on holiday")
    one.stop_leads(["stopped@example.com"], reason="by hand: moved away")

    def answer(claim: Claim) -> Failed | Unknown:
        return Failed("550 no such user") if claim.name == "failed" else Unknown("no answer")

    drain(dsn, AnsweringSender(answer))
    one.add_lead(name="gone", email="gone@example.com")
    conn.execute("insert into hyperdrip.suppression values ('gone@example.com', 'bounced')")
    expected = {
        "done": ("completed", "it has had all its messages (1/1)"),
        "failed": ("failed", "a message could not be delivered: 550 no such user"),
        "stopped": ("stopped", "it was stopped: by hand: moved away"),
        "paused": (
            "paused",
            "it is paused: on holiday; to go on: hyperdrip leads resume lead_4",
        ),
        "gone": ("suppressed", "its address is suppressed: bounced"),
    }
    for name, words in expected.items():
        found = one.explain(f"{name}@example.com")
        assert said(found) == words
        if name == "done":
            assert found.numbers == {"messageCount": 1, "maxMessages": 1}
    with pytest.raises(NotFoundError, match="no lead 'x'"):
        one.explain("x")


def test_what_holds_up_everybody_is_said_of_each(conn: psycopg.Connection, drip: Open) -> None:
    add_leads(conn, 1)
    one = drip()
    conn.execute("update hyperdrip.campaign set is_paused = true")
    assert said(one.explain("1")) == ("campaign-paused", "the campaign default is paused")
    one.pause()
    assert said(one.explain("1")) == (
        "instance-paused",
        "everything is paused; to go on: hyperdrip resume",
    )
    one.resume()
    conn.execute("update hyperdrip.campaign set is_paused = false")
    instances.open_day(conn, TUESDAY)
    found = one.explain("1")
    assert found.rule == "clock-back"
    assert found.text.startswith("the clock says 2024-01-15, and 2024-01-16 was open already")
    assert found.numbers == {"clock": MONDAY, "newestDay": TUESDAY}


def test_what_is_not_due_says_from_when_on(conn: psycopg.Connection, dsn: str, drip: Open) -> None:
    one = drip()
    one.add_lead(name="Ada", email="ada@example.com", start=date(2024, 2, 1))
    found = one.explain("ada@example.com")
    assert said(found) == ("not-due", "message 1 is not due until 2024-02-01")
    assert found.numbers == {"number": 1, "scheduledDate": date(2024, 2, 1)}
    add_leads(conn, 1)
    drain(dsn)
    found = one.explain("2")
    assert said(found) == (
        "sent-today",
        "message 1 was handed over today (sent); message 2 is due on 2024-01-16",
    )
    assert found.numbers == {"number": 2, "scheduledDate": TUESDAY}
    one.stop_leads(["2"])
    conn.execute("update hyperdrip.lead set status = 'ACTIVE'")  # which no command does
    assert said(one.explain("2")) == ("nothing-planned", "nothing is planned for it")


def test_what_is_due_says_what_keeps_it(conn: psycopg.Connection, dsn: str, drip: Open) -> None:
    one = drip()
    one.set_daily_max(5)
    add_leads(conn, 5, messages=2)
    numbers = {
        "number": 1,
        "scheduledDate": MONDAY,
        "capacity": 5,
        "sent": 0,
        "waiting": 5,
        "liveWorkers": 0,
    }
    found = one.explain("1")
    assert said(found) == ("no-worker", "message 1 is due and no worker is alive: hyperdrip worker")
    assert found.numbers == numbers

    begin_worker(conn)
    found = one.explain("4")
    assert said(found) == (
        "queued",
        "message 1 waits in test-drip-messages-2024-01-15 behind 3 others",
    )
    assert found.numbers == {**numbers, "liveWorkers": 1, "ahead": 3}

    late = drip(now=NEXT_MORNING).explain("1")
    assert said(late) == (
        "overdue",
        "message 1 was due on 2024-01-15 and gets another day when a worker rolls over",
    )

    conn.execute("update hyperdrip.quota_day set capacity = 2 where day = %s", [MONDAY])
    assert drain(dsn).sent == 2
    found = one.explain("5")
    assert said(found) == (
        "quota-used-up",
        "message 1 is due, and today's quota is used up (2 of 2)",
    )
    assert found.numbers == {**numbers, "capacity": 2, "sent": 2, "waiting": 3, "liveWorkers": 1}


def test_a_backoff_says_until_when(conn: psycopg.Connection, dsn: str, drip: Open) -> None:
    add_leads(conn, 1)
    work(dsn, AnsweringSender(lambda _: Retry("451 later")))
    (until,) = conn.execute(
        "select not_before from hyperdrip.message where number = 1"
    ).fetchone() or (None,)
    found = drip().explain("1")
    assert said(found) == (
        "backoff",
        "message 1 could not be delivered (attempt 1) and is tried again at"
        f" {until.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z",
    )
    assert found.numbers["notBefore"] == until
    assert found.numbers["attempts"] == 1


def test_what_its_domains_pace_put_off_was_no_failure(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    add_leads(conn, 1)
    work(dsn, AnsweringSender(lambda _: Later("the limit of example.com", 100)))
    code, words = said(drip().explain("1"))
    assert code == "backoff"
    assert words.startswith("message 1 was put off, such as by its domain's pace (DOMAIN_LIMITS)")


def test_what_is_being_sent_says_by_whom_and_what_waits_behind_it(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    add_leads(conn, 1)
    found: list[Explanation] = []

    def look(_claim: Claim) -> None:
        found.extend([drip().explain("1"), drip(now=NEXT_MORNING).explain("1")])

    drain(dsn, AnsweringSender(before=look))
    (host, pid) = conn.execute("select host, pid from hyperdrip.worker").fetchone() or ("", 0)
    sending, waiting = found
    assert sending.rule == "sending"
    assert sending.text.startswith(f"message 1 is being sent by pid {pid} on {host} since 20")
    assert sending.numbers["number"] == 1
    assert waiting.rule == "waiting-for-message"
    assert waiting.text.startswith("message 2 waits for message 1, which is being sent by pid")
    assert waiting.numbers["waiting"] == 2


# status


@contextmanager
def alive(conn: psycopg.Connection) -> Iterator[None]:
    begin_worker(conn)
    yield
    conn.execute("update hyperdrip.worker set stopped_at = now()")


def warnings_of(one: Hyperdrip) -> list[str]:
    return list(one.overview().warnings)


def test_the_screen_shows_how_things_stand(conn: psycopg.Connection, dsn: str, drip: Open) -> None:
    one = drip()
    one.set_daily_max(5)
    add_leads(conn, 7, messages=2)
    drain(dsn)
    one.pause_leads(["7"])
    begin_worker(conn)
    found = one.overview()
    assert (found.today.sent, found.today.scheduled, found.today.capacity) == (5, 0, 5)
    assert (found.next_day, found.last_day) == (TUESDAY, date(2024, 1, 18))
    assert found.leads == {"ACTIVE": 6, "PAUSED": 1}
    assert found.messages == {"planned": 9, "sent": 5}
    assert [(worker.host, worker.pid) for worker in found.workers] == [("mill", 4711)]
    assert found.warnings == ()


def test_nothing_planned_and_nobody_there_is_no_mistake(drip: Open) -> None:
    found = drip().overview()
    assert (found.next_day, found.last_day, found.leads) == (None, None, {})
    assert found.warnings == ("no worker is alive; to start one: hyperdrip worker",)


def test_each_cause_of_standing_still_is_loud(conn: psycopg.Connection, drip: Open) -> None:
    add_leads(conn, 3)
    one = drip()
    no_worker = "no worker is alive and 3 messages are due today; to start one: hyperdrip worker"
    assert warnings_of(one) == [no_worker]
    one.pause()
    assert warnings_of(one) == ["everything is paused; to go on: hyperdrip resume", no_worker]
    one.resume()
    with alive(conn):
        assert warnings_of(one) == []
        conn.execute("update hyperdrip.worker set last_seen_at = now() - interval '61 s'")
        assert warnings_of(one) == [no_worker]
    instances.open_day(conn, TUESDAY)
    begin_worker(conn)
    assert warnings_of(one)[0] == (
        "the clock says 2024-01-15, and 2024-01-16 was open already: nothing is sent"
    )


def test_a_day_that_will_not_be_met_is_loud(conn: psycopg.Connection, drip: Open) -> None:
    begin_worker(conn)
    add_leads(conn, 90, messages=2)
    slow = "messages 2 s apart take longer than there is time; lower WORKER_MESSAGE_DELAY or start"
    assert warnings_of(drip(WORKER_MESSAGE_DELAY=2000)) == []
    late = {"now": "2024-01-15T23:57:30Z", "WORKER_MESSAGE_DELAY": 2000}
    (warning,) = warnings_of(drip(**late))
    assert warning == f"today will not be met: 90 {slow} more workers"
    begin_worker(conn)  # two of them make it
    assert warnings_of(drip(**late)) == []

    hour_each = drip(WORKER_MESSAGE_DELAY=3_600_000)
    (warning,) = warnings_of(hour_each)
    assert warning.startswith("today will not be met, nor will 1 more day: 90 messages 3600 s")
    drain_day(conn)
    (warning,) = warnings_of(hour_each)
    assert warning.startswith("2024-01-16 will not be met: 90 messages 3600 s apart take longer")
    assert len(warnings_of(drip(WORKER_MESSAGE_DELAY=86_400_000))) == 1

    conn.execute("update hyperdrip.quota_day set capacity = 50 where day = %s", [TUESDAY])
    assert warnings_of(drip()) == [
        "2024-01-16 will not be met: 90 messages are due and the quota has room for 50"
    ]


def drain_day(conn: psycopg.Connection) -> None:
    conn.execute("update hyperdrip.quota_day set reserved = 0 where day = %s", [MONDAY])


def test_what_was_left_behind_is_loud(conn: psycopg.Connection, dsn: str, drip: Open) -> None:
    add_leads(conn, 3, messages=2)
    drain(dsn, AnsweringSender(lambda _: Unknown("no answer")))
    begin_worker(conn)
    assert warnings_of(drip()) == [
        "3 messages are unknown: hyperdrip messages list --state unknown"
    ]
    drain(dsn, clock=SetClock(noon(date(2024, 1, 18))))
    add_leads(conn, 1, messages=1, clock=SetClock(datetime(2024, 1, 18, 12, tzinfo=UTC)))
    begin_worker(conn)
    assert warnings_of(drip(now="2024-01-20T09:00:00Z"))[0] == (
        "1 day before today still open, first 2024-01-18;"
        " a worker or hyperdrip rollover sees to them"
    )
