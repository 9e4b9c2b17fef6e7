"""Faults, each as a function that does the damage for real and says which promises were broken.

All of them return what `find_violations` found: nothing for the real code, something for the broken
variant that each was made to catch.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg

from hyperdrip import delivery, queue
from hyperdrip import instance as instances
from hyperdrip.db import connect
from tests.database import Server
from tests.factories import MONDAY, add_leads, make_worker, show_all, wait_until
from tests.faults.check import Allowed, find_broken_tables, find_violations
from tests.faults.fleet import Job, Pace, PacedClock, Worker, fleet
from tests.faults.proxy import Fate, Proxy, Step
from tests.faults.sink import Arrival, Conduct, Sink, SinkSender

TUESDAY = MONDAY + timedelta(days=1)
QUEUE = "test-drip-messages-2024-01-15"
LATER_DAYS = 3


@dataclass
class Stage:
    """A fresh database, a sink, and what the faults that were done excuse.

    `is_owner`: who drains has all rights, and not a worker's alone.
    """

    dsn: str
    folder: Path
    sink: Sink
    conn: psycopg.Connection[Any]
    policy: str = "hold"
    is_owner: bool = False
    allowed: Allowed = field(default_factory=Allowed)
    broken: list[str] = field(default_factory=list)

    def job(self, *, dsn: str = "", start: str = "2024-01-15T09:00:00Z", **options: Any) -> Job:
        settings = {"ON_UNKNOWN": self.policy, **options.pop("settings", {})}
        return Job(dsn or self.dsn, self.sink.path, pace=Pace(start), settings=settings, **options)

    def excuse(self, worker: Worker, unknown: int) -> None:
        """A fault hit this worker: so many of its messages may be unknown."""
        had = self.allowed.unknown
        self.allowed = replace(
            self.allowed, unknown={**had, worker.pid: had.get(worker.pid, 0) + unknown}
        )

    def note_audit(self) -> None:
        """The tables have to agree at any time."""
        self.broken += find_broken_tables(self.conn)

    def end_leases(self) -> None:
        """Do not wait until what a killed worker holds is visible: make it so."""
        for name in queue.list_names(self.conn):
            show_all(self.conn, name)

    def drain(self, day: date) -> None:
        """Send what is due on a day, with a worker in this process, and wait for nothing."""
        clock = PacedClock(Pace(f"{day}T10:00:00Z"))
        sender = SinkSender(self.sink.path, wave_size=10)
        worker = make_worker(
            self.dsn,
            sender,
            clock=clock,
            connect=(lambda: connect(self.dsn)) if self.is_owner else None,
            on_unknown=self.policy,
        )
        try:
            worker.roll_over()
            while worker.step():
                pass
        except Exception as error:  # noqa: BLE001 - a broken variant may break in any way
            self.broken.append(f"a worker broke: {type(error).__name__}: {error}")
        finally:
            worker.close()
            sender.close()

    def recover(self, *, first_day: date = MONDAY) -> list[str]:
        """End the faults, send all that is left, and say what is wrong."""
        self.sink.rule = lambda _: Conduct.ACCEPT
        self.note_audit()
        for later in range(LATER_DAYS):
            self.end_leases()
            self.drain(first_day + timedelta(days=later))
            self.note_audit()
        return list(
            dict.fromkeys(
                [*self.broken, *find_violations(self.conn, self.sink.arrivals(), self.allowed)]
            )
        )


@dataclass
class Fresh:
    """Gives each stage a database and a folder of its own."""

    server: Server
    folder: Path
    _made: list[str] = field(default_factory=list)

    def database(self) -> str:
        self._made.append(self.server.create())
        return self._made[-1]

    def subfolder(self) -> Path:
        """A new folder, with a path short enough for a socket."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def drop(self) -> None:
        for dsn in self._made:
            self.server.drop(dsn)


@contextmanager
def stage(fresh: Fresh, *, policy: str = "hold", daily_max: int = 100) -> Iterator[Stage]:
    dsn, folder = fresh.database(), fresh.subfolder()
    with connect(dsn) as conn:
        instances.set_daily_max(conn, daily_max)
        sink = Sink(folder, is_synced=False)
        try:
            yield Stage(dsn, folder, sink, conn, policy, allowed=Allowed(most_a_day=daily_max))
        finally:
            sink.close()


@contextmanager
def faulty_network(dsn: str, rule: Callable[[Step], Fate]) -> Iterator[Proxy]:
    proxy = Proxy(dsn, rule)
    try:
        yield proxy
    finally:
        proxy.close()


def nth(number: int, conduct: Conduct) -> Callable[[Arrival], Conduct]:
    """A rule that accepts all but one message."""
    count = 0

    def rule(_arrival: Arrival) -> Conduct:
        nonlocal count
        count += 1
        return conduct if count == number else Conduct.ACCEPT

    return rule


# The network and the process, at every step of the loop

WAVE = 2


def count_steps(fresh: Fresh) -> int:
    """How many round trips the run of `damaged_step` has when nothing is damaged."""
    with _undamaged(fresh) as net:
        return len(net.steps)


def damaged_step(fresh: Fresh, number: int, fate: Fate) -> list[str]:
    """A worker rolls a missed day over and sends; its round trip `number` meets with `fate`."""

    def rule(step: Step) -> Fate:
        return fate if step.number == number else Fate.PASS

    with stage(fresh, daily_max=4) as here, faulty_network(here.dsn, rule) as net:
        worker = _run_through(here, net)
        here.note_audit()
        if fate in (Fate.KILL, Fate.KILL_AFTER):
            here.excuse(worker, WAVE)
        return here.recover(first_day=TUESDAY)


@contextmanager
def _undamaged(fresh: Fresh) -> Iterator[Proxy]:
    with (
        stage(fresh, daily_max=4) as here,
        faulty_network(here.dsn, lambda _: Fate.PASS) as net,
    ):
        _run_through(here, net)
        yield net


def _run_through(here: Stage, net: Proxy) -> Worker:
    add_leads(here.conn, 4, messages=1)
    add_leads(here.conn, 1, messages=2, start=TUESDAY)
    # What was read and not claimed when the line was cut comes back after this time.
    settings = {"VISIBILITY_TIMEOUT": 1}
    start = "2024-01-16T09:00:00Z"
    job = here.job(dsn=net.dsn(), start=start, wave_size=WAVE, settings=settings)
    with fleet(job) as [worker]:
        worker.wait()
    return worker


def damaged_hand_over(fresh: Fresh, number: int, conduct: Conduct) -> list[str]:
    """The sink does `conduct` to the message that arrives as `number`."""
    with stage(fresh) as here:
        add_leads(here.conn, 5, messages=1)
        here.sink.rule = nth(number, conduct)
        # Drains wait for what comes due within this time: no backoff is so short.
        job = here.job(wave_size=WAVE, settings={"VISIBILITY_TIMEOUT": 5})
        with fleet(job) as [worker]:
            worker.wait()
        here.excuse(worker, WAVE if "KILL" in conduct.name else 1)
        here.note_audit()
        here.end_leases()
        here.drain(MONDAY)
        return here.recover()


# Standing still


def stalled_worker(fresh: Fresh) -> list[str]:
    """A worker stands still past its lease; another has its wave in flight when it wakes up."""
    with stage(fresh, policy="resend") as here:
        add_leads(here.conn, 5, messages=1)
        here.allowed = replace(here.allowed, repeats=1)
        stopped: list[int] = []

        def stop_first_of_each(arrival: Arrival) -> Conduct:
            if arrival.pid not in stopped:
                stopped.append(arrival.pid)
                os.kill(arrival.pid, signal.SIGSTOP)
            return Conduct.ACCEPT

        here.sink.rule = stop_first_of_each
        first = here.job(wave_size=5, settings={"VISIBILITY_TIMEOUT": 1})
        with fleet(first) as [one]:
            wait_until(lambda: len(stopped) == 1)
            wait_until(lambda: (queue.seconds_to_next(here.conn, QUEUE) or 1) <= 0)
            with fleet(here.job(wave_size=5)) as [other]:
                wait_until(lambda: len(stopped) == 2)
                one.signal(signal.SIGCONT)
                one.wait()
                here.note_audit()
                other.signal(signal.SIGCONT)
                other.wait()
        return here.recover()


def stale_row(fresh: Fresh) -> list[str]:
    """One message of a wave is settled by somebody else while the wave is in flight."""
    with stage(fresh, policy="resend") as here:
        add_leads(here.conn, 5, messages=1)
        here.allowed = replace(here.allowed, repeats=1)
        seen: list[str] = []

        def settle_first(arrival: Arrival) -> Conduct:
            seen.append(arrival.key)
            if len(seen) == 3:
                with connect(here.dsn) as conn:
                    _settle(conn, seen[0])
            return Conduct.ACCEPT

        here.sink.rule = settle_first
        with fleet(here.job(wave_size=5)) as [worker]:
            worker.wait()
        here.sink.rule = lambda _: Conduct.ACCEPT
        return here.recover()


def _settle(conn: psycopg.Connection[Any], key: str) -> None:
    lead_id = int(key.removeprefix("lead_").partition("-")[0])
    row = conn.execute(
        "select envelope_id from hyperdrip.message where lead_id = %s", [lead_id]
    ).fetchone()
    assert row is not None
    delivery.settle_expired(
        conn,
        "test",
        [row[0]],
        day=MONDAY,
        on_unknown="resend",
        max_attempts=5,
        lease_ends=time.monotonic() + 60,
    )


# Races


def race_for_the_quota(fresh: Fresh) -> list[str]:
    """Eight workers claim at the same instant, and the quota has room for half of it."""
    workers, wave = 8, 5
    with stage(fresh) as here:
        add_leads(here.conn, workers * wave, messages=1)
        cap = workers * wave // 2
        instances.set_daily_max(here.conn, cap)
        here.allowed = replace(here.allowed, most_a_day=cap)
        with connect(here.dsn) as holder:
            with holder.transaction():
                holder.execute("select from hyperdrip.quota_day for update")
                started = [Worker(here.job(wave_size=wave)) for _ in range(workers)]
                wait_until(lambda: _count_waiting(here.conn) == workers)
            for worker in started:
                worker.wait()
        return here.recover()


def plan_while_reading(fresh: Fresh) -> list[str]:
    """A lead is enrolled while a worker is in the middle of reading today's queue."""
    with stage(fresh) as here:
        add_leads(here.conn, 2, messages=1)
        with connect(here.dsn) as holder:
            with holder.transaction():
                holder.execute(f'lock table pgmq."q_{QUEUE}" in access exclusive mode')
                worker = Worker(here.job())
                wait_until(lambda: _count_waiting(here.conn) == 1)
                add_leads(holder, 2, messages=1)
            worker.wait()
        return here.recover()


def suppress_while_claiming(fresh: Fresh) -> list[str]:
    """An address is suppressed while a worker waits to claim a message to it."""
    with stage(fresh) as here:
        stopped, _ = add_leads(here.conn, 2, messages=1).lead_ids
        here.allowed = replace(here.allowed, silent=frozenset([f"lead_{stopped}-1-1"]))
        with connect(here.dsn) as holder:
            with holder.transaction():
                holder.execute("select from hyperdrip.quota_day for update")
                worker = Worker(here.job())
                wait_until(lambda: _count_waiting(here.conn) == 1)
                holder.execute(
                    "insert into hyperdrip.suppression (email_key, reason)"
                    " select lower(email), 'unsubscribed' from hyperdrip.lead where id = %s",
                    [stopped],
                )
            worker.wait()
        return here.recover()


def midnight_in_flight(fresh: Fresh) -> list[str]:
    """A worker has a wave in flight while another one opens the next day."""
    with stage(fresh) as here:
        here.is_owner = True  # a worker's role may drop no queue, and the check has to see one gone
        add_leads(here.conn, 8, messages=2)

        def open_tuesday(_arrival: Arrival) -> Conduct:
            here.sink.rule = lambda _: Conduct.ACCEPT
            here.drain(TUESDAY)
            here.note_audit()
            here.drain(TUESDAY)  # looks again at the day that is still open
            return Conduct.ACCEPT

        here.sink.rule = open_tuesday
        with fleet(here.job(wave_size=4)) as [worker]:
            worker.wait()
        return here.recover()


def _count_waiting(conn: psycopg.Connection[Any]) -> int:
    """How many connections to this database wait for a lock."""
    row = conn.execute(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def killed_after_each_commit(fresh: Fresh) -> list[str]:
    """A worker dies right after one of its commits; a run for each of them."""
    with _undamaged(fresh) as net:
        commits = [step.number for step in net.steps if step.is_commit]
    for number in commits:
        if found := damaged_step(fresh, number, Fate.KILL_AFTER):
            return found
    return []


def killed_before_it_arrived(fresh: Fresh) -> list[str]:
    """A worker dies while it hands a message over that nobody has seen yet."""
    return damaged_hand_over(fresh, 2, Conduct.KILL_UNSEEN)


def no_answer(fresh: Fresh) -> list[str]:
    """The sink takes a message and the line is cut before its answer."""
    return damaged_hand_over(fresh, 2, Conduct.DROP_SEEN)


# Each broken variant in `variants/`, and the scenario that finds it out.
CAUGHT_BY: dict[str, Callable[[Fresh], list[str]]] = {
    "all_or_nothing_finish": stale_row,
    "archive_on_its_own": killed_after_each_commit,
    "check_then_write_quota": race_for_the_quota,
    "claim_in_one_statement": suppress_while_claiming,
    "drop_queue_at_midnight": midnight_in_flight,
    "finish_before_send": killed_before_it_arrived,
    "no_fence": stalled_worker,
    "retry_on_unknown": no_answer,
}


def main() -> None:
    """Print what the scenario of a variant finds, line by line: `VARIANT DSN WORD FOLDER`."""
    variant, dsn, word, folder = sys.argv[1:]
    fresh = Fresh(Server(dsn, word), Path(folder))
    try:
        for violation in CAUGHT_BY[variant](fresh):
            print(violation.splitlines()[0])
    finally:
        fresh.drop()


if __name__ == "__main__":
    main()
