"""Pruning drops what is over, and nothing that anybody still needs."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from hyperdrip import Hyperdrip, moving, pruning, queue, quota, rollover
from hyperdrip.db import connect
from hyperdrip.errors import InvalidDataError, SettingsError
from hyperdrip.models import Claim
from hyperdrip.pruning import Pruned
from hyperdrip.rollover import Policy
from hyperdrip.senders import Outcome, Sent
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    Watch,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    envelope_ids,
    make_settings,
    noon,
    show_all,
    wait_until,
)
from tests.integration.test_races import all_at_once
from tests.tables import count_waiting, everything

NEW_CONN = Callable[[], psycopg.Connection[Any]]


def day(number: int) -> date:
    """Monday is day 0."""
    return MONDAY + timedelta(days=number)


def name(number: int) -> str:
    return queue.name_of("test", day(number))


def send_days(conn: psycopg.Connection[Any], dsn: str, count: int, *, leads: int = 3) -> SetClock:
    """Send on each of `count` days what is due; the clock of the day after, all days closed."""
    clock = SetClock()
    add_leads(conn, leads, clock=clock, messages=count + 1)
    for number in range(count):
        clock.now = noon(day(number))
        drain(dsn, clock=clock)
    clock.now = noon(day(count))
    rollover.roll_over(conn, clock, Policy())
    return clock


def prune(conn: psycopg.Connection[Any], clock: SetClock, days: int = 0, **options: Any) -> Pruned:
    return pruning.prune(conn, clock, older_than_days=days, **options)


def test_queues_of_closed_days_go_and_everything_goes_on(
    conn: psycopg.Connection[Any], dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    clock = send_days(conn, dsn, 3)
    before = everything(conn)
    would = prune(conn, clock, 1, is_dry_run=True)
    assert everything(conn) == before

    found = prune(conn, clock, 1)
    assert would == found
    # Two days ago and longer, not yesterday.
    assert [(one.queue, one.day, one.archived) for one in found.dropped] == [
        (name(number), day(number), 3) for number in (0, 1)
    ]
    assert queue.list_names(conn) == [name(2), name(3)]
    assert [one.queue for one in prune(conn, clock).dropped] == [name(2)]
    assert prune(conn, clock) == Pruned((), (), 0)
    assert_audit_ok(conn)

    with drip(now=f"{day(3)}T12:00:00Z") as one:
        assert [found.queue for found in one.list_queues(is_all=True)] == [name(3)]
        assert len(one.list_messages(day=MONDAY)) == 3
        assert len(one.list_lead_messages(one.require_lead("1"))) == 4
        one.roll_over()
        one.erase_leads(["1"])
        one.add_lead(name="Ada", email="ada@example.com", max_messages=2)
    assert drain(dsn, clock=clock).sent == 3
    assert queue.list_names(conn) == [name(3), name(4)]
    assert count_states(conn)["sent"] == 12
    assert_audit_ok(conn)


def test_what_is_not_over_or_not_ours_stays(conn: psycopg.Connection[Any], dsn: str) -> None:
    clock = send_days(conn, dsn, 4)
    theirs = ["drip-messages-2024-01-10", "test-drip-messages-2024-01-10-b", "theirs"]
    for stranger in [*theirs, queue.name_of("test", date(2023, 12, 24))]:
        conn.execute("select pgmq.create(%s)", [stranger])
    # Day 0 is open without a message, day 1 has one being sent, a stray lies in the queue of day 2.
    conn.execute("update hyperdrip.quota_day set is_closed = false where day = %s", [day(0)])
    conn.execute(
        "update hyperdrip.message set state = 'sending' where day = %s and lead_id = 1", [day(1)]
    )
    conn.execute("select pgmq.send(%s, '{}', 3600)", [name(2)])

    found = prune(conn, clock)
    assert [one.queue for one in found.dropped] == ["test-drip-messages-2023-12-24", name(3)]
    assert [(one.queue, one.reason.split(";")[0]) for one in found.kept] == [
        (name(0), "its day is still open"),
        (name(1), "its day is still open"),
        (name(2), "its day is closed, and envelopes lie in it that nobody planned"),
    ]
    rows = conn.execute("select queue_name from pgmq.meta order by queue_name").fetchall()
    left = sorted([*theirs, *(name(number) for number in (0, 1, 2, 4))])
    assert [queue_name for (queue_name,) in rows] == left


@pytest.mark.parametrize(
    "spoil",
    [
        "update hyperdrip.quota_day set is_closed = false where day = '2024-01-15'",
        "update hyperdrip.message set state = 'planned' where day = '2024-01-15'",
        "update hyperdrip.message set state = 'sending' where day = '2024-01-15'",
        "select pgmq.send('test-drip-messages-2024-01-15', '{}')",
        "select pgmq.drop_queue('test-drip-messages-2024-01-15')",
    ],
)
def test_only_what_is_found_under_the_planner_lock_counts(
    conn: psycopg.Connection[Any], dsn: str, new_conn: NEW_CONN, spoil: str
) -> None:
    clock = send_days(conn, dsn, 1)
    with ThreadPoolExecutor(1) as pool:
        with conn.transaction():
            quota.lock_planner(conn)
            pruned = pool.submit(prune, new_conn(), clock)
            wait_until(lambda: count_waiting(conn) == 1)
            conn.execute(spoil)
        found = pruned.result()
    assert found.dropped == ()
    assert len(found.kept) == ("drop_queue" not in spoil)


def test_a_queue_in_use_stays_and_holds_up_nobody(
    conn: psycopg.Connection[Any],
    dsn: str,
    new_conn: NEW_CONN,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = send_days(conn, dsn, 2)
    monkeypatch.setattr(pruning, "LOCK_SECONDS", 1)
    dump = new_conn()
    with dump.transaction():
        dump.execute(f'lock table pgmq."a_{name(0)}" in access share mode')
        found = prune(conn, clock)
        assert [one.queue for one in found.dropped] == [name(1)]
        assert [(one.queue, one.is_busy) for one in found.kept] == [(name(0), True)]
        assert conn.execute("show lock_timeout").fetchone() == ("0",)
    assert [one.queue for one in prune(conn, clock).dropped] == [name(0)]


def test_who_finishes_after_the_day_was_pruned_still_tells_the_truth(
    conn: psycopg.Connection[Any], dsn: str, new_conn: NEW_CONN
) -> None:
    add_leads(conn, 1, messages=1)
    tomorrow = SetClock(noon(day(1)))

    def outlive_the_day(_: Claim) -> Outcome:
        other = new_conn()
        show_all(other, name(0))
        assert rollover.roll_over(other, tomorrow, Policy(on_unknown="hold")).closed == (MONDAY,)
        assert count_states(other) == {"unknown": 1}
        assert [one.archived for one in prune(other, tomorrow).dropped] == [1]
        return Sent()

    drain(dsn, AnsweringSender(outlive_the_day))
    assert count_states(conn) == {"sent": 1}
    assert queue.list_names(conn) == []
    assert_audit_ok(conn)


def test_archives_of_queues_that_stay_lose_what_no_settled_message_needs(
    conn: psycopg.Connection[Any], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "BATCH", 4)
    clock = SetClock()
    ids = add_leads(conn, 25, clock=clock, messages=1).lead_ids
    add_leads(conn, 11, clock=clock, messages=1, start=day(7))
    moving.move_leads(
        conn, clock, list(ids[5:]), moving.Move(to=day(9)), with_email=True, horizon_days=365
    )
    assert drain(dsn, clock=clock).sent == 5
    archive = f'pgmq."a_{name(0)}"'
    conn.execute(f"update {archive} set archived_at = now() - interval '31 days'")
    conn.execute(
        f"update {archive} set archived_at = now() - interval '29 days'"
        f" where msg_id = (select max(msg_id) from {archive})"
    )
    held = f"select count(*) from {archive}"
    assert conn.execute(held).fetchone() == (25,)
    before = everything(conn)
    assert prune(conn, clock, 30, is_dry_run=True) == Pruned((), (), 19)
    assert everything(conn) == before
    assert prune(conn, clock, 30) == Pruned((), (), 19)
    assert conn.execute(held).fetchone() == (6,)
    assert len(envelope_ids(conn, name(7))) == 11
    assert_audit_ok(conn)
    assert prune(conn, clock, 0).deleted == 1
    assert_audit_ok(conn)


# Leads that come in, four workers, planners that move and look, and a pruner that never rests.
def test_pruning_races_with_workers_and_planners_without_a_deadlock(
    conn: psycopg.Connection[Any], dsn: str, no_deadlock: Watch
) -> None:
    clock = send_days(conn, dsn, 12, leads=2)
    ids = add_leads(conn, 40, clock=clock, messages=2).lead_ids
    over = threading.Event()
    pruned: list[str] = []

    def prune_on() -> None:
        with closing(connect(dsn)) as own:
            while not over.is_set():
                pruned.extend(one.queue for one in prune(own, clock).dropped)

    def plan_on() -> None:
        with closing(connect(dsn)) as own:
            for number in range(15):
                add_leads(own, 3, clock=clock, messages=2)
                moving.move_leads(
                    own,
                    clock,
                    [ids[-1 - number]],
                    moving.Move(to=day(20 + number)),
                    with_email=True,
                    horizon_days=365,
                )
                rollover.roll_over(own, clock, Policy())

    def look_on() -> None:
        with closing(connect(dsn)) as own:
            for _ in range(15):
                assert_audit_ok(own)
                # A queue of a past day that somebody made too late.
                queue.create(own, name(-30))

    def work_and_plan(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException:
            over.set()
            raise

    senders = [AnsweringSender(wave_size=size) for size in (1, 3, 5, 50)]
    jobs: list[Callable[[], object]] = [
        *(lambda sender=sender: drain(dsn, sender, clock=clock) for sender in senders),  # type: ignore[misc]
        plan_on,
        look_on,
    ]
    with no_deadlock():
        with ThreadPoolExecutor(1) as pool:
            pruner = pool.submit(prune_on)
            try:
                all_at_once([lambda job=job: work_and_plan(job) for job in jobs])  # type: ignore[misc]
            finally:
                over.set()
            pruner.result()
        with closing(connect(dsn)) as own:
            drain(dsn, senders[0], clock=clock)
            prune(own, clock)
    assert pruned[:12] == [name(number) for number in range(12)]
    assert queue.list_names(conn)[0] == name(12)
    keys = [key for sender in senders for key in sender.keys]
    assert len(keys) == len(set(keys)) >= 40
    assert_audit_ok(conn)


@pytest.mark.parametrize("days", [-1, 36_501, 10**12])
def test_a_number_of_days_that_cannot_be_is_refused(
    conn: psycopg.Connection[Any], days: int
) -> None:
    with pytest.raises(InvalidDataError, match=f"older-than={days} is not a number of days"):
        prune(conn, SetClock(), days)


def test_pruning_needs_a_connection_of_its_own(dsn: str) -> None:
    with closing(psycopg.connect(dsn)) as mine:
        one = Hyperdrip(settings=make_settings(dsn), conn=mine)
        with pytest.raises(SettingsError, match="needs a connection of its own"):
            one.prune_queues(older_than_days=1)
