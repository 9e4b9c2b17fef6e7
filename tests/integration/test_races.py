"""Many at once, each on a connection of its own."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest

from hyperdrip import Hyperdrip, ledger, limits, queue, rollover, standing
from hyperdrip import instance as instances
from hyperdrip.db import connect
from hyperdrip.models import WorkerSummary
from hyperdrip.rollover import Policy
from hyperdrip.signals import Stop
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
    make_worker,
    show_all,
    wait_until,
)

QUEUE = "test-drip-messages-2024-01-15"


def all_at_once(jobs: list[Callable[[], object]]) -> list[object]:
    """Run jobs in threads that start together; the first error of any is raised."""
    together = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> object:
        together.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


@pytest.mark.parametrize("limit", [2000, 1234], ids=["all fit", "1234 fit"])
def test_eight_workers_send_every_message_once_and_exactly_the_quota(
    conn: psycopg.Connection,
    dsn: str,
    limit: int,
    no_deadlock: Watch,
) -> None:
    instances.set_daily_max(conn, 2000)
    add_leads(conn, 2000, messages=1)
    instances.set_daily_max(conn, limit)
    senders = [AnsweringSender(wave_size=size) for size in (1, 7, 20, 50, 50, 100, 100, 500)]
    with no_deadlock():
        summaries = all_at_once([lambda sender=sender: drain(dsn, sender) for sender in senders])
    keys = [key for sender in senders for key in sender.keys]
    assert len(keys) == limit
    assert len(set(keys)) == limit
    found = [summary for summary in summaries if isinstance(summary, WorkerSummary)]
    assert sum(summary.sent for summary in found) == limit
    assert sum(summary.skipped + summary.retried + summary.unknown for summary in found) == 0
    assert sum(1 for sender in senders if sender.keys) > 1, "it was no race"
    assert_audit_ok(conn)


# 100 races each: the worker comes from one end, the planner from the other, and they meet.
@pytest.mark.parametrize("operation", ["pause", "stop"])
def test_a_pause_or_stop_committed_before_the_claim_always_wins(
    conn: psycopg.Connection,
    dsn: str,
    operation: str,
    no_deadlock: Watch,
) -> None:
    clock = SetClock()
    ids = add_leads(conn, 100, messages=2).lead_ids
    sender = AnsweringSender(wave_size=3)
    seen: dict[int, str] = {}

    def take_back_all() -> None:
        with closing(connect(dsn)) as other:
            for lead_id in reversed(ids):
                if operation == "pause":
                    standing.pause_leads(other, clock, [lead_id], reason=None)
                else:
                    standing.stop_leads(other, clock, [lead_id], reason="replied")
                # The moment it is committed, the message was claimed already or never will be.
                seen[lead_id] = ledger.list_lead_messages(other, [lead_id])[0].state.value

    with no_deadlock():
        all_at_once([take_back_all, lambda: drain(dsn, sender, clock=clock)])
    in_time = {lead_id for lead_id, state in seen.items() if state in ("planned", "cancelled")}
    sent = {claim.lead_id for claim in sender.handed_over}
    assert in_time, "nobody was ever in time"
    assert sent, "nothing was ever claimed"
    assert not in_time & sent
    assert in_time | sent == set(ids)
    assert_audit_ok(conn)


def test_an_instance_paused_before_the_claim_sends_nothing_more(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 1000)
    add_leads(conn, 300, messages=1)
    sender = AnsweringSender(wave_size=1)
    stop = Stop()
    worker = threading.Thread(
        target=lambda: drain(dsn, sender, stop=stop, is_drain=False), daemon=True
    )
    worker.start()
    counts = []
    for _ in range(15):
        instances.set_paused(conn, is_paused=True)
        # What was claimed before is finished soon; from then on nothing moves.
        wait_until(lambda: "sending" not in count_states(conn))
        counts.append(before := len(sender.handed_over))
        for _ in range(5):
            assert "sending" not in count_states(conn)
        assert len(sender.handed_over) == before
        instances.set_paused(conn, is_paused=False)
        wait_until(lambda: len(sender.handed_over) > before)
    stop.set()
    worker.join()
    assert counts[0] < counts[-1]
    assert len(set(sender.keys)) == len(sender.keys)
    assert_audit_ok(conn)


def test_planners_racing_for_a_nearly_full_day_lose_no_lead_and_overfill_no_day(
    conn: psycopg.Connection, dsn: str, no_deadlock: Watch
) -> None:
    instances.set_daily_max(conn, 20)
    add_leads(conn, 15, messages=3)
    settings = make_settings(dsn, MAX_MESSAGES=3)
    numbers = itertools.count()

    def add_ten() -> None:
        with Hyperdrip(dsn, settings) as drip:
            drip.clock = SetClock()
            for _ in range(10):
                drip.add_lead(name="Lead", email=f"racer{next(numbers)}@example.com")

    with no_deadlock():
        all_at_once([add_ten] * 8)
    query = "select day, reserved from hyperdrip.quota_day order by day"
    days = conn.execute(query).fetchall()
    assert all(reserved <= 20 for _, reserved in days)
    assert sum(reserved for _, reserved in days) == 95 * 3
    # Nothing is wasted either: 95 leads fill four days and most of a fifth, three times.
    assert count_states(conn, MONDAY) == {"planned": 20}
    assert conn.execute("select count(*) from hyperdrip.lead").fetchone() == (95,)
    assert_audit_ok(conn)


@dataclass
class Storm:
    """Everybody at once: add, pause, resume, stop, limits, rollovers, lost leases, workers."""

    dsn: str
    clock: SetClock
    senders: list[AnsweringSender]
    is_over: threading.Event = field(default_factory=threading.Event)

    def rage(self) -> None:
        """Until the planners are through."""
        self.is_over.clear()
        planners = [
            lambda own: self.pause_and_resume(own, 1),
            lambda own: self.pause_and_resume(own, 4),
            self.stop_some,
            self.change_the_limit,
            self.add_more,
        ]
        with ThreadPoolExecutor(len(self.senders) + 1) as pool:
            others = [pool.submit(self.work_until_over, sender) for sender in self.senders]
            others.append(pool.submit(self.connected, self.lose_leases))
            try:
                all_at_once([lambda job=job: self.connected(job) for job in planners])
            finally:
                self.is_over.set()
            for other in others:
                other.result()

    def connected(self, job: Callable[[psycopg.Connection], None]) -> None:
        with closing(connect(self.dsn)) as own:
            job(own)

    def pause_and_resume(self, own: psycopg.Connection, first: int) -> None:
        for number in range(12):
            chosen = range(first + number, 150, 17)
            standing.pause_leads(own, self.clock, chosen, reason=None)
            standing.resume_leads(own, self.clock, chosen, with_email=True)

    def stop_some(self, own: psycopg.Connection) -> None:
        for lead_id in range(5, 150, 12):
            standing.stop_leads(own, self.clock, [lead_id], reason="replied")

    def change_the_limit(self, own: psycopg.Connection) -> None:
        for limit in (50, 70, 40, 60, 55, 60):
            limits.apply_change(own, self.clock, limits.Change(daily_max=limit), with_email=True)

    def add_more(self, own: psycopg.Connection) -> None:
        for _ in range(12):
            add_leads(own, 3, messages=2, clock=self.clock)

    def lose_leases(self, own: psycopg.Connection) -> None:
        while not self.is_over.is_set():
            for name in queue.list_names(own):
                for envelope_id in envelope_ids(own, name):
                    queue.set_visible(own, name, [envelope_id], in_seconds=-1)

    def work_until_over(self, sender: AnsweringSender) -> None:
        with (
            closing(make_worker(self.dsn, sender, clock=self.clock)) as worker,
            closing(connect(self.dsn)) as own,
        ):
            while not self.is_over.is_set():
                worker.step()
                rollover.roll_over(own, self.clock, Policy())
            while worker.step():
                pass


@pytest.mark.slow
def test_a_storm_of_planners_and_workers_has_no_deadlock_and_breaks_no_promise(
    conn: psycopg.Connection, dsn: str, no_deadlock: Watch
) -> None:
    clock = SetClock()
    instances.set_daily_max(conn, 60)
    add_leads(conn, 150, messages=3)
    senders = [AnsweringSender(name="null", wave_size=size) for size in (1, 10, 40)]
    storm = Storm(dsn, clock, senders)
    with no_deadlock():
        for _ in range(2):
            storm.rage()
            assert_audit_ok(conn)
            clock.now += timedelta(days=1)
    for name in queue.list_names(conn):
        show_all(conn, name)
    drain(dsn, clock=clock)
    assert count_states(conn).get("sending", 0) == 0
    assert_audit_ok(conn)
    # A message that was handed over twice had lost its lease in between: no token was used twice.
    fences = [
        (claim.message_key, claim.token) for sender in senders for claim in sender.handed_over
    ]
    assert fences
    assert len(set(fences)) == len(fences)
    tokens = {
        f"lead_{lead_id}-{run}-{number}": token
        for lead_id, run, number, token in conn.execute(
            "select lead_id, run, number, token from hyperdrip.message"
        )
    }
    assert all(token <= tokens[key] for key, token in fences)
