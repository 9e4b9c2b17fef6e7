"""Every command that changes leads, on 1,000 of them, while 4 workers send what is due."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from hyperdrip import instance as instances
from hyperdrip import queue
from hyperdrip.db import connect
from hyperdrip.delivery import Batch, Request, finish_and_claim
from hyperdrip.models import Changed, Claim, Selection
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    Watch,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    make_worker,
    show_all,
)
from tests.integration.test_selections import Drip, everything

LEADS = 1000
WORKERS = 4


@dataclass
class Crew:
    """Workers that send in small waves until they are told to go home; each on its connection."""

    dsn: str
    clock: SetClock
    is_over: threading.Event = field(default_factory=threading.Event)
    senders: list[AnsweringSender] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(WORKERS) as pool:
            futures: list[Future[None]] = []
            for number in range(WORKERS):
                self.senders.append(AnsweringSender(name="null", wave_size=2 + 3 * number))
                futures.append(pool.submit(self._work, self.senders[-1]))
            try:
                yield
            finally:
                self.is_over.set()
            for future in futures:
                future.result()

    def _work(self, sender: AnsweringSender) -> None:
        with closing(make_worker(self.dsn, sender, clock=self.clock)) as worker:
            while not self.is_over.is_set():
                if not worker.step():
                    self.is_over.wait(0.01)

    def handed_over(self) -> list[Claim]:
        return [claim for sender in self.senders for claim in sender.handed_over]


@pytest.mark.slow
@pytest.mark.long
def test_every_command_on_a_thousand_leads_while_four_workers_send(
    conn: psycopg.Connection[Any],
    dsn: str,
    drip: Drip,
    no_deadlock: Watch,
) -> None:
    instances.set_daily_max(conn, LEADS)
    clock = SetClock()
    one = drip(SENDER="null")
    one.clock = clock
    ids = add_leads(conn, LEADS, messages=4, clock=clock).lead_ids
    everybody = Selection()
    half = Selection(lead_ids=ids[::2])
    some = Selection(lead_ids=ids[5:400:3])
    email_of = dict(conn.execute("select id, email from hyperdrip.lead").fetchall())
    exported: list[str] = []

    def export() -> Changed:
        with one.export_leads() as found:
            exported.extend(lead.email for lead in found.leads)
        return Changed(tuple(ids))

    commands: list[Callable[[], Changed]] = [
        lambda: one.pause_leads(half, is_dry_run=True),
        lambda: one.pause_leads(half),
        lambda: one.resume_leads(half),
        lambda: one.move_leads(everybody, by_days=1),
        lambda: one.stop_leads(some),
        lambda: one.enroll_leads(everybody, max_messages=3),
        export,
        lambda: one.move_leads(half, to=clock.now.date() + timedelta(days=3)),
        lambda: one.pause_leads(everybody),
        lambda: one.resume_leads(everybody),
        lambda: one.move_leads(everybody, by_days=-2),
        lambda: one.erase_leads(some),
        lambda: one.enroll_leads(everybody),
    ]
    crew = Crew(dsn, clock)
    sent_meanwhile = []
    with no_deadlock(), crew.at_work():
        for command in commands:
            before = len(crew.handed_over())
            # Work enough for all of them while the command runs: a day begins.
            clock.now += timedelta(days=1)
            done = command()
            assert done.lead_ids
            assert_audit_ok(conn)
            sent_meanwhile.append(len(crew.handed_over()) - before)
        while one.erase_leads(some).refused:
            pass
    assert sum(count > 0 for count in sent_meanwhile) > len(commands) / 2, "it was no race"
    assert len(exported) == LEADS
    assert_audit_ok(conn)

    # No message went out twice, and of whoever was erased nothing is left.
    keys = [claim.message_key for claim in crew.handed_over()]
    assert len(keys) == len(set(keys))
    erased = {email_of[lead_id] for lead_id in some.lead_ids or ()}
    assert not erased & set(re.findall(r"\w+@example\.com", str(everything(conn))))
    # Nothing is stuck: what is left goes out in the days to come.
    while "planned" in count_states(conn):
        clock.now += timedelta(days=1)
        for name in queue.list_names(conn):
            show_all(conn, name)
        drain(dsn, clock=clock)
        assert clock.now.date() < MONDAY + timedelta(days=60), "something is stuck"
    assert set(count_states(conn)) == {"sent", "cancelled"}
    assert_audit_ok(conn)


# The worker comes from one end, the planner takes all at once: whoever was in time is never sent.
@pytest.mark.parametrize("command", ["pause_leads", "stop_leads", "erase_leads"])
def test_many_paused_stopped_or_erased_before_the_claim_are_never_sent(
    conn: psycopg.Connection[Any],
    dsn: str,
    drip: Drip,
    command: str,
    no_deadlock: Watch,
) -> None:
    clock = SetClock()
    one = drip()
    ids = add_leads(conn, 60, messages=1, clock=clock).lead_ids
    crew = Crew(dsn, clock)
    in_time: set[int] = set()
    with no_deadlock(), crew.at_work():
        for first in range(0, 60, 12):
            chosen = Selection(lead_ids=ids[first : first + 12][::-1])
            getattr(one, command)(chosen)
            # The moment it is committed, a message was claimed already or never will be.
            rows = conn.execute(
                "select lead_id from hyperdrip.message"
                " where lead_id = any(%s) and state in ('planned', 'cancelled') and day is null",
                [list(chosen.lead_ids or ())],
            ).fetchall()
            in_time.update(lead_id for (lead_id,) in rows)
    sent = {claim.lead_id for claim in crew.handed_over()}
    assert not in_time & sent
    assert_audit_ok(conn)


def test_a_resumed_lead_and_those_who_make_room_are_locked_in_one_go_by_id(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    """A worker that finishes messages of leads 1 and 2 locks 1, then 2: nobody may hold 2 alone."""
    instances.set_daily_max(conn, 1)
    one = drip()
    for name in ("First", "Second"):
        one.add_lead(name=name, email=f"{name}@example.com", max_messages=3)
    one.move_leads(["1"], to=MONDAY + timedelta(days=9))
    one.move_leads(["2"], to=MONDAY)
    drain(dsn)
    # Lead 2 is under way and paused; lead 1 has not begun and has its days now.
    one.pause_leads(["2"])
    one.move_leads(["1"], to=MONDAY + timedelta(days=1))
    lock = "select from hyperdrip.lead where id = %s for no key update nowait"
    with closing(connect(dsn)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute(lock, [1])
            resuming = pool.submit(one.resume_leads, ["2"])
            wait_for_a_waiter(conn)
            other.execute(lock, [2])
        assert resuming.result().displaced == 3
    assert_audit_ok(conn)


def test_a_lead_claimed_while_it_was_about_to_be_erased_is_refused(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    """The claim is not committed yet when the erasing looks, and is when it goes on."""
    clock = SetClock()
    one = drip()
    add_leads(conn, 2, messages=2, clock=clock)
    instances.open_day(conn, MONDAY)
    with closing(connect(dsn)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            request = Request(1, MONDAY, "null", 1, 30)
            _, claimed = finish_and_claim(other, clock, "test", batch=Batch(), request=request)
            assert [claim.lead_id for claim in claimed.claims] == [1]
            erasing = pool.submit(one.erase_leads, Selection())
            wait_for_a_waiter(conn)
        done = erasing.result()
    assert (done.lead_ids, set(done.refused)) == ((2,), {1})
    assert count_states(conn) == {"sending": 1, "planned": 1, "cancelled": 2}
    assert one.require_lead("1").status == "ACTIVE"
    assert_audit_ok(conn)


def wait_for_a_waiter(conn: psycopg.Connection[Any]) -> None:
    """Until somebody in this database waits for a lock."""
    ends = time.monotonic() + 20
    query = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    while conn.execute(query).fetchone() == (0,):
        assert time.monotonic() < ends, "nobody waits"
