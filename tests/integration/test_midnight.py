"""When the day changes: nothing is dropped, sent twice, or left where nobody reads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, datetime, timedelta

import psycopg
import pytest

from hyperdrip import Hyperdrip, leads, ledger, queue, quota, rollover
from hyperdrip import instance as instances
from hyperdrip.models import Claim
from hyperdrip.rollover import Policy
from hyperdrip.scheduler import Enrolment, enroll, read_moment
from hyperdrip.senders import Outcome, Retry, Sent
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    envelope_ids,
    instant,
    make_worker,
    new_leads,
    show_all,
    wait_until,
    work,
)
from tests.integration.test_long_waves import pass_by

BEFORE = "2024-01-15T23:59:50Z"
AFTER = "2024-01-16T00:00:05Z"
MONDAY_QUEUE = "test-drip-messages-2024-01-15"
TUESDAY_QUEUE = "test-drip-messages-2024-01-16"
TUESDAY = MONDAY + timedelta(days=1)


class Killed(BaseException):
    """The worker's process is gone; nothing behind this point runs."""


def die_with_one_in_flight(dsn: str, *, name: str) -> AnsweringSender:
    """A worker hands one message over at 23:59:50 and is killed before the answer comes."""

    def be_killed(_: Claim) -> Outcome:
        raise Killed

    sender = AnsweringSender(be_killed, name=name, wave_size=1)
    with (
        closing(make_worker(dsn, sender, clock=SetClock(BEFORE))) as worker,
        pytest.raises(Killed),
    ):
        worker.run()
    return sender


def open_days(conn: psycopg.Connection) -> list[date]:
    return quota.list_open_days(conn, date(2030, 1, 1))


def days_of(conn: psycopg.Connection, lead_id: int) -> list[tuple[str, date | None]]:
    found = ledger.list_lead_messages(conn, [lead_id])
    return [(message.state.value, message.day) for message in found]


@pytest.mark.parametrize("name", ["null", "smtp"])
def test_what_a_dead_worker_had_in_flight_is_settled_after_its_lease(
    conn: psycopg.Connection, dsn: str, name: str
) -> None:
    flying, late = add_leads(conn, 2, messages=2).lead_ids
    dead = die_with_one_in_flight(dsn, name=name)
    assert [claim.lead_id for claim in dead.handed_over] == [flying]

    # Its lease holds still: the message is left alone, and so is the next one of that lead.
    sender = AnsweringSender(name=name)
    summary = work(dsn, sender, clock=SetClock(AFTER))
    assert summary.rolled_over == 1
    assert sender.keys == [f"lead_{late}-1-1"]
    assert days_of(conn, flying) == [("sending", MONDAY), ("planned", TUESDAY)]
    assert days_of(conn, late) == [("sent", TUESDAY), ("planned", TUESDAY + timedelta(days=1))]
    assert MONDAY in open_days(conn)
    assert_audit_ok(conn)

    show_all(conn, MONDAY_QUEUE)
    show_all(conn, TUESDAY_QUEUE)
    summary = work(dsn, sender, clock=SetClock(AFTER))
    if name == "null":
        # Sending it again does no harm: today, and the one behind it a day later.
        assert (summary.sent, summary.unknown, summary.rolled_over) == (1, 0, 1)
        assert days_of(conn, flying) == [
            ("sent", TUESDAY),
            ("planned", TUESDAY + timedelta(days=1)),
        ]
        assert sender.keys[1:] == dead.keys
    else:
        # Nobody can know: it is held, and the drip goes on.
        assert (summary.sent, summary.unknown, summary.rolled_over) == (1, 1, 0)
        assert days_of(conn, flying) == [("unknown", MONDAY), ("sent", TUESDAY)]
        assert leads.require_lead(conn, str(flying)).status == "COMPLETED"
    assert MONDAY not in open_days(conn)
    assert envelope_ids(conn, MONDAY_QUEUE) == []
    assert_audit_ok(conn)


def test_an_idle_worker_settles_what_a_dead_one_left_as_soon_as_its_lease_is_over(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    die_with_one_in_flight(dsn, name="smtp")
    with closing(make_worker(dsn, AnsweringSender(), clock=SetClock(AFTER))) as worker:
        assert not worker.step()
        assert days_of(conn, lead_id) == [("sending", MONDAY)]
        show_all(conn, MONDAY_QUEUE)
        # `run` finds nothing due, and looks at the open days before it believes that.
        assert worker.run().unknown == 1
    assert open_days(conn) == []
    assert_audit_ok(conn)


@pytest.mark.parametrize("name", ["null", "smtp"])
def test_what_a_dead_worker_left_is_found_on_a_day_whose_quota_is_used_up(
    conn: psycopg.Connection, dsn: str, name: str
) -> None:
    instances.set_daily_max(conn, 1)
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    die_with_one_in_flight(dsn, name=name)
    same_day = SetClock(BEFORE)
    assert drain(dsn, AnsweringSender(name=name), clock=same_day).unknown == 0
    assert days_of(conn, lead_id) == [("sending", MONDAY)]
    show_all(conn, MONDAY_QUEUE)
    summary = drain(dsn, AnsweringSender(name=name), clock=same_day)
    state, unknown = ("planned", 0) if name == "null" else ("unknown", 1)
    assert (days_of(conn, lead_id), summary.sent) == ([(state, MONDAY)], 0)
    assert summary.unknown == unknown
    assert_audit_ok(conn)


def test_a_rollover_moves_messages_without_reading_their_queue(
    conn: psycopg.Connection, dsn: str
) -> None:
    # To read is to hide for a while: on a large day the first ones would be back before the last.
    add_leads(conn, 30, messages=1)
    with closing(make_worker(dsn, clock=SetClock(AFTER))) as worker:
        assert worker.roll_over().late == 30
    read_counts = f'select distinct read_ct from pgmq."a_{MONDAY_QUEUE}"'
    assert conn.execute(read_counts).fetchall() == [(0,)]
    assert MONDAY not in open_days(conn)
    assert_audit_ok(conn)


def test_a_wave_that_reaches_midnight_gives_back_what_is_not_handed_over(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 5, messages=1)
    clock = SetClock(BEFORE)

    def pass_midnight(_: Claim) -> None:
        if len(sender.handed_over) == 2:
            clock.now = instant(AFTER)
            pass_by(0.2)  # so does the clock that leases go by

    sender = AnsweringSender(before=pass_midnight)
    summary = drain(dsn, sender, clock=clock)
    assert (summary.sent, summary.rolled_over, summary.unknown) == (5, 3, 0)
    assert len(set(sender.keys)) == len(sender.keys) == 5
    assert count_states(conn, MONDAY) == {"sent": 2}
    assert count_states(conn, TUESDAY) == {"sent": 3}
    times = "select max(sent_at) from hyperdrip.message where day = %s"
    assert conn.execute(times, [MONDAY]).fetchone() == (instant(BEFORE),)
    assert_audit_ok(conn)


def test_a_message_in_backoff_over_midnight_keeps_its_backoff(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    drain(dsn, AnsweringSender(lambda _: Retry("451")), clock=SetClock(BEFORE))
    backoff = ledger.list_lead_messages(conn, [lead_id])[0].not_before
    assert backoff is not None

    sender = AnsweringSender()
    assert work(dsn, sender, clock=SetClock(AFTER)).rolled_over == 1
    assert sender.keys == []
    row = conn.execute(f'select vt from pgmq."q_{TUESDAY_QUEUE}"').fetchone()
    assert row == (backoff,)
    first = ledger.list_lead_messages(conn, [lead_id])[0]
    assert (first.day, first.not_before, first.attempts) == (TUESDAY, backoff, 1)
    assert_audit_ok(conn)

    show_all(conn, TUESDAY_QUEUE)
    assert work(dsn, sender, clock=SetClock(AFTER)).sent == 1
    assert_audit_ok(conn)


@pytest.mark.parametrize("is_day_known", [False, True], ids=["no day yet", "a day to be closed"])
def test_an_import_that_commits_just_after_midnight_strands_nothing(
    conn: psycopg.Connection, dsn: str, is_day_known: bool
) -> None:
    prepare_monday(conn, dsn, is_day_known=is_day_known)
    sender = AnsweringSender()
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(dsn, autocommit=True) as importing,
        importing.transaction(),
    ):
        import_on_monday(importing)
        other = pool.submit(work, dsn, sender, clock=SetClock(AFTER))
        # Tuesday is opened while the import still is; closing Monday has to wait for it.
        wait_until(lambda: instances.require_instance(conn).newest_day == TUESDAY)
        wait_until(lambda: is_anybody_waiting(conn) if is_day_known else other.done())
    other.result()
    assert_nothing_stranded(conn, dsn, sender)


def test_an_import_for_a_day_that_is_closed_before_it_is_written_strands_nothing(
    conn: psycopg.Connection, dsn: str
) -> None:
    prepare_monday(conn, dsn, is_day_known=True)
    sender = AnsweringSender()
    with psycopg.connect(dsn, autocommit=True) as importing, importing.transaction():
        quota.lock_planner(importing)
        moment = read_moment(importing, SetClock(BEFORE))
        work(dsn, sender, clock=SetClock(AFTER))
        assert open_days(conn) == []
        enroll(importing, moment, new_leads(10), Enrolment(max_messages=2))
    assert_nothing_stranded(conn, dsn, sender)


def prepare_monday(conn: psycopg.Connection, dsn: str, *, is_day_known: bool) -> None:
    for offset in range(3):
        queue.create(conn, queue.name_of("test", MONDAY + timedelta(days=offset)))
    if is_day_known:
        add_leads(conn, 1, messages=1)
        drain(dsn, clock=SetClock(BEFORE))


def import_on_monday(conn: psycopg.Connection) -> None:
    quota.lock_planner(conn)
    moment = read_moment(conn, SetClock(BEFORE))
    enroll(conn, moment, new_leads(10), Enrolment(max_messages=2))


def assert_nothing_stranded(conn: psycopg.Connection, dsn: str, sender: AnsweringSender) -> None:
    """The ten leads have their first message on Tuesday and the second a day later."""
    work(dsn, sender, clock=SetClock(AFTER))
    assert len(set(sender.keys)) == len(sender.keys) == 10
    assert count_states(conn, TUESDAY) == {"sent": 10}
    assert count_states(conn, TUESDAY + timedelta(days=1)) == {"planned": 10}
    assert open_days(conn) == [TUESDAY, TUESDAY + timedelta(days=1)]
    assert_audit_ok(conn)


def is_anybody_waiting(conn: psycopg.Connection) -> bool:
    found = conn.execute(
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    ).fetchone()
    assert found is not None
    return bool(found[0])


def test_an_idle_worker_finds_what_was_planned_for_a_day_that_is_over(
    conn: psycopg.Connection, dsn: str
) -> None:
    with closing(make_worker(dsn, clock=SetClock(AFTER))) as worker:
        assert worker.run().sent == 0
        # A planner whose clock is behind plans for the day that was opened, not for its own.
        add_leads(conn, 1, messages=1, clock=SetClock(BEFORE))
        assert count_states(conn, TUESDAY) == {"planned": 1}
        assert worker.run().sent == 1
    assert_audit_ok(conn)


def test_a_clock_that_goes_back_claims_nothing_and_rolls_nothing_over(
    conn: psycopg.Connection, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_leads(conn, 3, messages=2)
    instances.set_daily_max(conn, 2)
    assert drain(dsn, clock=SetClock("2024-01-17T09:00:00Z")).sent == 2
    before = days_of(conn, 3), open_days(conn), envelope_ids(conn, MONDAY_QUEUE)
    for earlier in (BEFORE, AFTER):
        summary = drain(dsn, clock=SetClock(earlier))
        assert (summary.sent, summary.rolled_over) == (0, 0)
        result = rollover.roll_over(conn, SetClock(earlier), Policy())
        assert result.is_clock_back
        assert (days_of(conn, 3), open_days(conn), envelope_ids(conn, MONDAY_QUEUE)) == before
    assert "The clock stands before a day already opened; nothing is claimed" in caplog.messages
    assert instances.require_instance(conn).newest_day == date(2024, 1, 17)
    assert_audit_ok(conn)


def test_a_day_opened_by_another_host_ends_the_claims_of_one_whose_clock_is_behind(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 5, messages=1)

    def open_tuesday(_: Claim) -> None:
        instances.open_day(conn, TUESDAY)

    sender = AnsweringSender(before=open_tuesday, wave_size=2)
    summary = work(dsn, sender, clock=SetClock(BEFORE))
    # The wave that was claimed before is Monday's; nothing is claimed after.
    assert (summary.sent, sender.waves) == (2, [2])
    assert count_states(conn, MONDAY) == {"sent": 2, "planned": 3}
    assert work(dsn, AnsweringSender(), clock=SetClock(AFTER)).sent == 3
    assert_audit_ok(conn)


def test_days_without_a_worker_are_rolled_over_in_the_order_in_which_they_were_due(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 2)
    add_leads(conn, 6, messages=1)
    sender = AnsweringSender()
    clock = SetClock("2024-01-20T09:00:00Z")
    for day in range(20, 23):
        clock.now = datetime.fromisoformat(f"2024-01-{day}T09:00:00Z")
        assert work(dsn, sender, clock=clock).sent == 2
        assert_audit_ok(conn)
    assert [claim.lead_id for claim in sender.handed_over] == [1, 2, 3, 4, 5, 6]
    assert open_days(conn) == [date(2024, 1, 22)]


def test_a_rollover_without_late_messages_closes_the_day_and_moves_nothing(
    conn: psycopg.Connection, dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 3, messages=2)
    drain(dsn)
    before = conn.execute("select * from hyperdrip.message order by 1, 3").fetchall()
    result = drip(now=AFTER).roll_over()
    assert (result.late, result.moved, result.closed) == (0, 0, (MONDAY,))
    assert conn.execute("select * from hyperdrip.message order by 1, 3").fetchall() == before
    assert drip(now=AFTER).roll_over().closed == ()


# Berlin: the day has 23 hours on 2024-03-31 and 25 on 2024-10-27.
@pytest.mark.parametrize(
    ("first", "last_instant", "next_instant"),
    [
        ("2024-03-31", "2024-03-31T21:59:59.999Z", "2024-03-31T22:00:00Z"),
        ("2024-10-27", "2024-10-27T22:59:59.999Z", "2024-10-27T23:00:00Z"),
        ("2024-01-15", "2024-01-15T22:59:59.999Z", "2024-01-15T23:00:00Z"),
    ],
    ids=["23 hours", "25 hours", "24 hours"],
)
def test_a_day_begins_and_ends_at_midnight_of_its_time_zone(
    new_database: Callable[..., str], first: str, last_instant: str, next_instant: str
) -> None:
    dsn = new_database(time_zone="Europe/Berlin")
    day = date.fromisoformat(first)
    offset = "+01:00" if first != "2024-10-27" else "+02:00"
    midnight = instant(f"{first}T00:00:00{offset}")
    with psycopg.connect(dsn, autocommit=True) as conn:
        instances.set_daily_max(conn, 2)
        before = SetClock(midnight - timedelta(milliseconds=1))
        add_leads(conn, 6, messages=1, clock=before, start=day)
        sent = [
            drain(dsn, clock=SetClock(moment)).sent
            for moment in (before.now, midnight, instant(last_instant), instant(next_instant))
        ]
        assert sent == [0, 2, 0, 2]
        assert count_states(conn, day) == {"sent": 2}
        assert count_states(conn, day + timedelta(days=1)) == {"sent": 2}
        assert_audit_ok(conn)


def test_a_message_sent_at_the_last_moment_belongs_to_the_day_that_ends(
    conn: psycopg.Connection, dsn: str
) -> None:
    """The answer may come after midnight: what was handed over before it counts for that day."""
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    clock = SetClock(BEFORE)

    def answer_after_midnight(_: Claim) -> Outcome:
        clock.now = instant(AFTER)
        return Sent()

    sender = AnsweringSender(answer_after_midnight)
    assert drain(dsn, sender, clock=clock).sent == 2
    assert days_of(conn, lead_id) == [("sent", MONDAY), ("sent", TUESDAY)]
    assert_audit_ok(conn)
