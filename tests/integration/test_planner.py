"""Planning on a real database: days, queues, envelopes, all of it or nothing."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import psycopg
import pytest

from hyperdrip import Hyperdrip, limits, queue, standing
from hyperdrip import instance as instances
from hyperdrip.errors import ConflictError, InvalidDataError, NoRoomError
from hyperdrip.scheduler import Enrolment, enroll, in_planner_transaction
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    envelope_ids,
    new_leads,
    noon,
)


def days_from(first: str, count: int = 5) -> list[date]:
    start = date.fromisoformat(first)
    return [start + timedelta(days=n) for n in range(count)]


# Adding


def test_the_fourth_lead_begins_when_three_a_day_are_taken(drip: Callable[..., Hyperdrip]) -> None:
    one = drip(DAILY_MAX=3)
    one.set_daily_max(3)
    leads = [one.add_lead(name=f"L{n}", email=f"l{n}@example.com") for n in range(4)]
    planned = [[message.day for message in one.list_lead_messages(lead)] for lead in leads]
    assert planned[:3] == [days_from("2024-01-15")] * 3
    assert planned[3] == days_from("2024-01-20")
    assert [lead.next_scheduled_for for lead in leads] == [days[0] for days in planned]

    sent = []
    for day in days_from("2024-01-15", 10):
        later = drip(now=f"{day}T09:00:00Z")
        sent.append(later.run_worker(is_drain=True).sent)
        assert all(check.ok for check in later.audit())
    assert sent == [3, 3, 3, 3, 3, 1, 1, 1, 1, 1]
    assert [lead.status for lead in one.list_leads()] == ["COMPLETED"] * 4
    assert [lead.message_count for lead in one.list_leads()] == [5] * 4


def test_a_full_day_moves_the_message_to_the_next_day_with_room(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    instances.set_daily_max(conn, 2)
    one = drip()
    one.set_capacity([MONDAY + timedelta(days=2)], 0)
    lead = one.add_lead(name="Ada", email="ada@example.com", max_messages=3)
    assert [message.day for message in one.list_lead_messages(lead)] == [
        date(2024, 1, 15),
        date(2024, 1, 16),
        date(2024, 1, 18),
    ]


def test_a_plan_past_the_horizon_writes_nothing_and_names_the_limit_that_fits(
    conn: psycopg.Connection,
) -> None:
    instances.set_daily_max(conn, 10)
    add_leads(conn, 100)
    before = snapshot(conn)
    with pytest.raises(NoRoomError, match=r"first day with room is 2024-03-05.*maximum of 15 "):
        add_leads(conn, 50, horizon_days=52)
    assert snapshot(conn) == before

    # What the message says is true: 14 would be too little, 15 is enough.
    for daily_max, fits in ((14, False), (15, True)):
        instances.set_daily_max(conn, daily_max)
        if fits:
            add_leads(conn, 50, horizon_days=52)
        else:
            with pytest.raises(NoRoomError):
                add_leads(conn, 50, horizon_days=52)
    assert_audit_ok(conn)


def test_an_error_after_planning_leaves_no_trace_but_empty_queues(conn: psycopg.Connection) -> None:
    before = snapshot(conn)

    def work(moment: object) -> None:
        enroll(conn, moment, new_leads(3), Enrolment())
        raise RuntimeError("the caller failed")

    with pytest.raises(RuntimeError, match="the caller failed"):
        in_planner_transaction(conn, SetClock(), work)
    assert snapshot(conn) == before
    assert len(queue.list_names(conn)) == 5
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"email": "ADA@example.com"}, ConflictError),
        ({"email": "new@example.com", "phone": "0012025550143"}, ConflictError),
        ({"email": "gone@example.com"}, InvalidDataError),
        ({"email": "new@example.com", "start": date(2024, 1, 14)}, InvalidDataError),
        ({"email": "new@example.com", "max_messages": 0}, InvalidDataError),
    ],
)
def test_a_lead_that_cannot_be_taken_changes_nothing(
    conn: psycopg.Connection,
    drip: Callable[..., Hyperdrip],
    arguments: dict[str, object],
    error: type[Exception],
) -> None:
    one = drip()
    one.add_lead(name="Ada", email="ada@example.com", phone="+1 202 555-0143")
    conn.execute("insert into hyperdrip.suppression values ('gone@example.com', 'unsubscribed')")
    before = snapshot(conn)
    with pytest.raises(error):
        one.add_lead(name="Second", **arguments)
    assert snapshot(conn) == before


def snapshot(conn: psycopg.Connection) -> list[object]:
    """Everything that planning writes."""
    tables = ("lead", "message", "lead_import", "quota_day")
    rows: list[object] = [
        conn.execute(f"select * from hyperdrip.{table} order by 1, 2").fetchall()
        for table in tables
    ]
    rows += [envelope_ids(conn, name) for name in queue.list_names(conn)]
    return [found for found in rows if found]


# Letter for letter


@pytest.mark.parametrize(
    ("environment", "name"),
    [("test", "test-drip-messages-2024-01-15"), ("production", "drip-messages-2024-01-15")],
)
def test_queues_are_named_letter_for_letter(
    new_database: Callable[..., str], environment: str, name: str
) -> None:
    with psycopg.connect(new_database(environment=environment), autocommit=True) as conn:
        add_leads(conn, 1, messages=1)
        assert conn.execute("select queue_name from pgmq.list_queues()").fetchall() == [(name,)]
        found = conn.execute("select * from pgmq.read(%s, 0, 10)", [name]).fetchall()
        assert len(found) == 1


@pytest.mark.parametrize("with_email", [True, False])
def test_an_envelope_holds_exactly_what_is_promised(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip], with_email: bool
) -> None:
    conn.execute("alter table hyperdrip.lead alter column id restart with 123")
    one = drip(ENVELOPE_EMAIL=with_email)
    one.add_lead(name="Ada", email="user@example.com", max_messages=2)
    for number, day in enumerate(days_from("2024-01-15", 2), start=1):
        expected = {
            "leadId": "lead_123",
            "email": "user@example.com",
            "messageNumber": number,
            "scheduledDate": day.isoformat(),
        }
        if not with_email:
            del expected["email"]
        rows = conn.execute(
            "select message, headers, vt <= clock_timestamp()"
            f' from pgmq."q_test-drip-messages-{day}"'
        ).fetchall()
        assert rows == [(expected, {"run": 1}, True)]


def test_a_moved_message_gets_an_envelope_with_its_new_day(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 1, messages=1)
    drip(now="2024-01-18T00:00:01Z").roll_over()
    rows = conn.execute('select message from pgmq."q_test-drip-messages-2024-01-18"').fetchall()
    assert [row[0]["scheduledDate"] for row in rows] == ["2024-01-18"]
    assert envelope_ids(conn, "test-drip-messages-2024-01-15") == []
    assert_audit_ok(conn)


# Giving days back, and taking them again


def test_a_paused_lead_frees_its_days_and_resumes_from_today(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    instances.set_daily_max(conn, 1)
    one = drip()
    first = one.add_lead(name="Ada", email="ada@example.com", max_messages=3)
    second = one.add_lead(name="Bob", email="bob@example.com", max_messages=3)
    assert one.pause_leads([first.key], reason="on holiday").lead_ids == (first.id,)
    assert [message.day for message in one.list_lead_messages(first)] == [None] * 3
    assert one.require_lead(first.key).next_scheduled_for is None
    assert_audit_ok(conn)

    third = one.add_lead(name="Cyd", email="cyd@example.com", max_messages=3)
    assert [message.day for message in one.list_lead_messages(third)] == days_from("2024-01-15", 3)
    assert one.resume_leads([first.key]).lead_ids == (first.id,)
    assert [message.day for message in one.list_lead_messages(first)] == days_from("2024-01-21", 3)
    assert [message.day for message in one.list_lead_messages(second)] == days_from("2024-01-18", 3)
    assert_audit_ok(conn)


def test_a_lead_that_resumes_under_way_comes_before_those_that_have_not_begun(
    conn: psycopg.Connection, dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    instances.set_daily_max(conn, 1)
    clock = SetClock()
    (first,) = add_leads(conn, 1, messages=3, clock=clock).lead_ids
    drain(dsn, clock=clock)
    standing.pause_leads(conn, clock, [first], reason=None)
    add_leads(conn, 3, messages=3, clock=clock)
    standing.resume_leads(conn, clock, [first], with_email=True)
    one = drip()
    days = [message.day for message in one.list_lead_messages(one.require_lead(str(first)))]
    assert days == days_from("2024-01-15", 3)
    assert_audit_ok(conn)


def test_a_stopped_lead_leaves_its_days_to_others(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    instances.set_daily_max(conn, 1)
    one = drip()
    lead = one.add_lead(name="Ada", email="ada@example.com")
    assert one.stop_leads([lead.key], reason="replied").lead_ids == (lead.id,)
    assert count_states(conn) == {"cancelled": 5}
    assert one.quota_today()[0].free == 1
    assert one.resume_leads([lead.key]).lead_ids == ()
    assert_audit_ok(conn)


def test_a_lowered_limit_moves_what_no_longer_fits_at_once(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 100, messages=2)
    moved = drip().set_daily_max(60)
    # 60 leads keep both days, and 40 begin two days later.
    assert moved == 80
    assert count_states(conn, MONDAY) == {"planned": 60}
    assert count_states(conn, MONDAY + timedelta(days=2)) == {"planned": 40}
    assert_audit_ok(conn)


# A calendar of 50 full days


@dataclass
class Drive:
    """50 days at 100 a day, driven day by day to the end."""

    conn: psycopg.Connection
    dsn: str
    limit: int = 100
    clock: SetClock = field(default_factory=SetClock)
    sender: AnsweringSender = field(default_factory=lambda: AnsweringSender(name="null"))
    sent: list[int] = field(default_factory=list)
    promised: dict[int, date] = field(default_factory=dict)

    def run(self, *, lost: int | None, lowered: int | None) -> None:
        day = MONDAY
        while self._is_unfinished():
            number = len(self.sent) + 1
            self.clock.now = noon(day)
            if number == lowered:
                self.limit = 80
                limits.apply_change(
                    self.conn, self.clock, limits.Change(daily_max=80), with_email=True
                )
            if number == lost:
                self.sent.append(0)
            else:
                self._work()
            assert_audit_ok(self.conn)
            day += timedelta(days=1)

    def _work(self) -> None:
        before = len(self.sender.handed_over)
        self.sent.append(drain(self.dsn, self.sender, clock=self.clock).sent)
        begun = [claim.lead_id for claim in self.sender.handed_over[before:] if claim.number == 1]
        self.promised.update(
            self.conn.execute(
                "select lead_id, max(day) from hyperdrip.message"
                " where lead_id = any(%s) group by lead_id",
                [begun],
            ).fetchall()
        )

    def _is_unfinished(self) -> bool:
        states = count_states(self.conn)
        return "planned" in states or "sending" in states

    def days_sent(self) -> dict[int, list[date]]:
        found: dict[int, list[date]] = defaultdict(list)
        for lead_id, day in self.conn.execute(
            "select lead_id, day from hyperdrip.message where state = 'sent' order by 1, number"
        ):
            found[lead_id].append(day)
        return found


# How many of the leads under way may end how late. An outage of a day costs each of them that day.
# The limit: in one import 100 leads have 4 messages left when it is lowered, 400 in all; 4 days of
# 80 take 320 of them, so 80 leads have their last one a day later. At 20 new leads a day at most 80
# messages of leads under way fall on a day: the limit costs them nothing; the 20 that were to
# begin on day 12 gave way, so that 60 are under way on the day of the outage.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_one_import", "lost", "lowered", "late"),
    [
        pytest.param(True, 13, None, {0: 900, 1: 100}, id="outage", marks=pytest.mark.long),
        pytest.param(True, None, 12, {0: 920, 1: 80}, id="lowered", marks=pytest.mark.long),
        pytest.param(True, 13, 12, {0: 900, 1: 20, 2: 80}, id="outage and lowered"),
        pytest.param(False, 13, 12, {0: 940, 1: 60}, id="both, 20 a day", marks=pytest.mark.long),
    ],
)
def test_a_lead_under_way_ends_no_later_than_the_days_that_were_lost(
    conn: psycopg.Connection,
    dsn: str,
    *,
    is_one_import: bool,
    lost: int | None,
    lowered: int | None,
    late: dict[int, int],
) -> None:
    if is_one_import:
        add_leads(conn, 1000)
    else:
        for number in range(50):
            add_leads(conn, 20, start=MONDAY + timedelta(days=number))
    drive = Drive(conn, dsn)
    drive.run(lost=lost, lowered=lowered)

    # Nothing lost, nothing twice.
    assert len(drive.sender.keys) == 5000
    assert len(set(drive.sender.keys)) == 5000
    statuses = "select status, message_count, count(*) from hyperdrip.lead group by 1, 2"
    assert conn.execute(statuses).fetchall() == [("COMPLETED", 5, 1000)]
    # Nobody who was under way ends later than the days that were lost, nor is torn apart.
    days = drive.days_sent()
    delays = Counter((days[lead_id][-1] - drive.promised[lead_id]).days for lead_id in days)
    assert delays == late
    for found in days.values():
        gaps = [(after - before).days for before, after in pairwise(found)]
        assert min(gaps) >= 1
        assert max(gaps) <= 1 + max(late)
    # No day over its quota, and none below it that need not be.
    limits = [80 if lowered and number >= lowered else 100 for number in range(1, 99)]
    assert all(sent <= limit for sent, limit in zip(drive.sent, limits, strict=False))
    if is_one_import:
        full = [number for number in range(1, len(drive.sent) - 4) if number != lost]
        assert all(drive.sent[number - 1] == limits[number - 1] for number in full)
    # Old queues end empty.
    assert all(envelope_ids(conn, name) == [] for name in queue.list_names(conn))
    still_open = "select count(*) from hyperdrip.quota_day where not is_closed and day < %s"
    assert conn.execute(still_open, [drive.clock.now.date()]).fetchone() == (0,)
