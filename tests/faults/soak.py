"""Minutes or hours of damage: workers and planners at work, and something breaks every second.

`make soak` runs it for SECONDS from SEED and prints what came of it. Days pass quickly; who is
killed is replaced. In the end the faults stop, what is unknown is reconciled with the sink, what is
left is sent, and the same check as everywhere says what is wrong. Exit code 1 if anything is.
"""

import argparse
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from hyperdrip import ledger, migrations, queue, reconciling, standing
from hyperdrip.db import connect
from hyperdrip.errors import HyperdripError
from hyperdrip.reconciling import Which
from tests import roles
from tests.cluster import Cluster, many
from tests.factories import SetClock, add_leads, make_worker, show_all
from tests.faults.check import Allowed, find_broken_tables, find_violations, read_ledger
from tests.faults.fleet import Job, Pace, PacedClock, Worker
from tests.faults.planners import plan_at_random
from tests.faults.proxy import Fate, Proxy, Step
from tests.faults.sink import Arrival, Conduct, Sink, SinkSender

DATABASE = "hyperdrip"
ZONE = "Europe/Berlin"
START = "2024-03-30T06:00:00Z"  # the clocks go forward in the second night
DISK_MB = 3000
MESSAGES = 5
REFUSED = 0.002
LOST = (psycopg.Error, HyperdripError, OSError)


@dataclass(frozen=True)
class Plan:
    """What a soak does."""

    seconds: float = 600.0
    days: int = 0  # ends before that once something has arrived on so many days
    seed: int = 1
    policy: str = "hold"
    workers: int = 10
    planners: int = 2
    wave_size: int = 20
    vt_seconds: int = 8
    day_seconds: float = 50.0
    daily_max: int = 12_000
    leads: int = 26_000
    fault_seconds: float = 1.0
    is_faulty: bool = True
    with_servers: bool = True  # also faults of whole servers: crash, failover, full disk
    only: str = ""  # one kind of fault alone, by the name of its method: kill, end, stop, cut, ...
    start: str = START


@dataclass
class Soak:
    """One run: the servers, the sink, who works, and what was done to them."""

    plan: Plan
    folder: Path
    chance: random.Random = field(init=False)
    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    unknown: Counter[int] = field(default_factory=Counter)
    history: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    recovery_seconds: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    days: int = 0
    deadlocks: int = 0
    told: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.plan.seed)
        self.pace = Pace(self.plan.start, speed=86_400 / self.plan.day_seconds)
        self.primary = Cluster.make(self.folder / "c0", small_disk_mb=DISK_MB)
        self.clusters = [self.primary]
        self.standby: Cluster | None = None
        with self.primary.connect() as conn:
            conn.execute(f"create database {DATABASE}")
        with connect(self.primary.dsn(DATABASE)) as conn:
            migrations.migrate(
                conn, environment="test", time_zone=ZONE, daily_max=self.plan.daily_max
            )
            roles.make(conn, DATABASE)
        if self.has_servers:
            self._follow()
        self.sink = Sink(self.folder, self.answer)
        self.proxy = Proxy(self.primary.dsn(DATABASE), self.fate)
        self.guard = threading.Lock()
        self.began = time.monotonic()
        self.pending: list[Conduct] = []
        self.swallowing = 0
        self.workers: list[Worker] = []
        self.is_over = threading.Event()

    # The world

    @property
    def has_servers(self) -> bool:
        """Do whole servers break, too?"""
        return self.plan.is_faulty and self.plan.with_servers and not self.plan.only

    def dsn(self) -> str:
        """The address of whatever is the primary."""
        pair = [self.primary, *([self.standby] if self.standby else [])]
        return many(pair, DATABASE)

    def connect(self) -> psycopg.Connection[Any]:
        return connect(self.primary.dsn(DATABASE))

    def connect_as_planner(self) -> psycopg.Connection[Any]:
        return connect(_as_user(self.primary.dsn(DATABASE), "planner"))

    def answer(self, arrival: Arrival) -> Conduct:
        """What the sink does with a message: nearly always it takes it."""
        with self.guard:
            if self.pending:
                conduct = self.pending.pop()
                self.unknown[arrival.pid] += 1
                self.hits[conduct.name.lower()] += 1
                self.tell(arrival.pid, conduct.name.lower())
                return conduct
            if self.plan.is_faulty and not self.plan.only and self.chance.random() < REFUSED:
                return Conduct.REFUSE
        return Conduct.ACCEPT

    def fate(self, step: Step) -> Fate:
        """What the network does to a round trip: nearly always it passes."""
        with self.guard:
            if self.swallowing and step.pid and step.is_commit:
                self.swallowing -= 1
                self.hits["reply to COMMIT lost"] += 1
                self.tell(step.pid, "reply to COMMIT lost")
                return Fate.SWALLOW
        return Fate.PASS

    def start_worker(self, place: int) -> Worker:
        """Every second worker works through the proxy."""
        through = self.proxy.dsn() if place % 2 else self.dsn()
        settings = {
            "ON_UNKNOWN": self.plan.policy,
            "VISIBILITY_TIMEOUT": self.plan.vt_seconds,
            "WORKER_POLL_INTERVAL": 500,
        }
        return Worker(
            Job(
                _as_user(through, "worker"),
                self.sink.path,
                pace=self.pace,
                wave_size=self.plan.wave_size,
                is_drain=False,
                settings=settings,
            )
        )

    def replace_the_dead(self) -> None:
        for place, worker in enumerate(self.workers):
            if not worker.is_alive:
                self.workers[place] = self.start_worker(place)

    def in_flight(self, pid: int | None = None) -> int:
        """Messages being sent right now, by one process or by all."""
        with suppress(*LOST), self.connect() as conn:
            row = conn.execute(
                "select count(*) from hyperdrip.message join hyperdrip.worker"
                " on message.worker = worker.id where state = 'sending'"
                " and (%(pid)s::integer is null or pid = %(pid)s)",
                {"pid": pid},
            ).fetchone()
            return int(row[0]) if row else 0
        return 0

    # The damage

    def damage(self) -> None:
        """Something breaks."""
        if self.plan.only:
            getattr(self, self.plan.only)()
            return
        small = [self.kill] * 8 + [self.end] * 2 + [self.stop] * 2 + [self.cut, self.storm]
        small += [self.swallow] * 4 + [self.drop] * 3
        self.chance.choice(small)()

    def damage_server(self, number: int) -> None:
        """A whole server breaks."""
        kinds = [self.crash, self.fail_over, self.fill_disk]
        kinds[number % len(kinds)]()

    def note(self, what: str, hit: int, *workers: Worker) -> None:
        """Count a fault, and those that it hit; and write down which workers it was done to."""
        with self.guard:
            self.faults[what] += 1
            self.hits[what] += 1 if hit else 0
        for worker in workers:
            self.tell(worker.pid, what)

    def tell(self, pid: int, what: str) -> None:
        self.history[pid].append(f"{time.monotonic() - self.began:.1f} s {what}")

    def excuse(self, worker: Worker) -> None:
        with self.guard:
            self.unknown[worker.pid] += self.plan.wave_size

    def kill(self) -> None:
        worker = self.chance.choice(self.workers)
        worker.signal(signal.SIGKILL)
        worker.process.join(10)
        self.excuse(worker)
        hit = self.in_flight(worker.pid)
        self.note("SIGKILL", hit, worker)
        if hit:
            threading.Thread(target=self._time_recovery, args=(worker.pid,), daemon=True).start()

    def _time_recovery(self, pid: int) -> None:
        began = time.monotonic()
        while self.in_flight(pid) and time.monotonic() < began + 60:
            time.sleep(0.2)
        self.recovery_seconds.append(time.monotonic() - began)

    def end(self) -> None:
        """SIGTERM: nothing may be unknown."""
        worker = self.chance.choice(self.workers)
        hit = self.in_flight(worker.pid)
        self.tell_to_end(worker)
        self.note("SIGTERM", hit, worker)

    def tell_to_end(self, worker: Worker) -> None:
        """SIGTERM, once: a second one ends a worker at once, like a kill."""
        if worker.pid not in self.told:
            self.told.add(worker.pid)
            worker.signal(signal.SIGTERM)

    def stop(self) -> None:
        worker = self.chance.choice(self.workers)
        worker.signal(signal.SIGSTOP)
        self.excuse(worker)
        self.note("SIGSTOP past the visibility timeout", self.in_flight(worker.pid), worker)
        late = self.plan.vt_seconds + 2.0
        threading.Timer(late, lambda: worker.signal(signal.SIGCONT)).start()

    def cut(self) -> None:
        worker = self.chance.choice(self.workers)
        hit = self.in_flight(worker.pid)
        self._terminate(f"worker-{worker.pid}")
        self.note("pg_terminate_backend", hit, worker)

    def storm(self) -> None:
        hit = self.in_flight()
        self._terminate("worker-%")
        self.note("pg_terminate_backend of all", hit, *self.workers)

    def _terminate(self, name: str) -> None:
        with suppress(*LOST), self.connect() as conn:
            conn.execute(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                " where application_name like %s",
                [name],
            )

    def swallow(self) -> None:
        with self.guard:
            self.swallowing += 1
            self.faults["reply to COMMIT lost"] += 1

    def drop(self) -> None:
        conduct = self.chance.choice([Conduct.DROP_SEEN, Conduct.DROP_UNSEEN])
        with self.guard:
            self.pending.append(conduct)
            self.faults[conduct.name.lower()] += 1

    def crash(self) -> None:
        self._break_server("pg_ctl -m immediate", lambda: self.primary.stop("immediate"))
        self._start_again()

    def fill_disk(self) -> None:
        if not self.primary.is_small:
            self.crash()
            return
        self._break_server("disk full", self.primary.fill_disk)
        time.sleep(1.5)
        self.primary.free_disk()
        self._start_again()

    def _break_server(self, what: str, do: Callable[[], None]) -> None:
        hit = self.in_flight()
        for worker in self.workers:
            self.excuse(worker)
        do()
        self.note(what, hit, *self.workers)

    def _start_again(self) -> None:
        while True:
            with suppress(psycopg.Error), self.primary.connect(DATABASE):
                return
            self.primary.start()
            time.sleep(0.2)

    def fail_over(self) -> None:
        """The primary crashes for good; its synchronous standby takes over, and gets one, too."""
        if self.standby is None:
            self.crash()
            return
        self._break_server("failover", lambda: self.primary.stop("immediate"))
        gone, self.primary, self.standby = self.primary, self.standby, None
        self.primary.promote()
        self.proxy.target = self.primary.dsn(DATABASE)
        self.clusters.remove(gone)
        self._count_deadlocks(gone)
        gone.remove()
        self._follow()
        for place, worker in enumerate(self.workers):
            if not place % 2:  # its address names a server that is gone for good
                self.tell_to_end(worker)

    def _follow(self) -> None:
        name = f"c{time.monotonic_ns()}"
        self.standby = self.primary.make_standby(self.folder / name, small_disk_mb=DISK_MB)
        self.clusters = [self.primary, self.standby]

    # The run

    def run(self) -> None:
        """Work, break, and stop when the time is over."""
        with self.connect() as conn:
            add_leads(conn, self.plan.leads, messages=MESSAGES, clock=PacedClock(self.pace))
        planners = [
            threading.Thread(
                target=plan_at_random,
                args=(
                    self.connect_as_planner,
                    self.pace,
                    random.Random(f"{self.plan.seed}/{number}"),
                ),
                kwargs={"is_over": self.is_over},
                daemon=True,
            )
            for number in range(self.plan.planners)
        ]
        self.workers = [self.start_worker(place) for place in range(self.plan.workers)]
        for planner in planners:
            planner.start()
        began, servers = time.monotonic(), 0
        while (
            passed := time.monotonic() - began
        ) < self.plan.seconds and not self._has_seen_days():
            self.is_over.wait(self.chance.uniform(0.3, 1.7) * self.plan.fault_seconds)
            if self.plan.is_faulty:
                self.damage()
                if self.has_servers and passed > (servers + 0.5) * self.plan.seconds / 12:
                    self.damage_server(servers)
                    servers += 1
            self.replace_the_dead()
        self.days = self._count_days()
        self.is_over.set()
        for planner in planners:
            planner.join(60)
        self._end_workers()

    def _count_days(self) -> int:
        return len({arrival.day for arrival in self.sink.arrivals()})

    def _has_seen_days(self) -> bool:
        return bool(self.plan.days) and self._count_days() >= self.plan.days

    def _end_workers(self) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
            self.tell_to_end(worker)
        for worker in self.workers:
            worker.process.join(60)
            worker.signal(signal.SIGKILL)

    def settle(self) -> tuple[list[str], Counter[str]]:
        """Check, reconcile with the sink, send the rest, check again; what is wrong, and states."""
        self.sink.rule = lambda _: Conduct.ACCEPT
        clock = SetClock(self.pace.now() + timedelta(days=1))
        with self.connect() as conn:
            self.broken += find_broken_tables(conn)
            paused = conn.execute(
                "select id from hyperdrip.lead where status = 'PAUSED'"
            ).fetchall()
            standing.resume_leads(conn, clock, [i for (i,) in paused], with_email=True)
            self._drain(conn, clock)
            states = Counter(row.state for row in read_ledger(conn))
            # Sent again is at most what was in flight when a fault hit.
            repeats = sum(self.unknown.values()) if self.plan.policy == "resend" else 0
            allowed = Allowed(
                unknown=dict(self.unknown), most_a_day=self.plan.daily_max, repeats=repeats
            )
            self.broken += find_violations(conn, self.sink.arrivals(), allowed)
            self._reconcile(conn, clock)
            self._drain(conn, clock)
            none = Allowed(most_a_day=self.plan.daily_max, repeats=repeats)
            # What never arrived and is sent again now comes after the messages behind it.
            self.broken += find_violations(conn, self.sink.arrivals(), none, is_ordered=False)
            for cluster in self.clusters:
                self._count_deadlocks(cluster)
            if self.deadlocks:
                self.broken.append(f"deadlocks in the servers' logs: {self.deadlocks}")
        return list(dict.fromkeys(self.broken)), states

    def _count_deadlocks(self, cluster: Cluster) -> None:
        self.deadlocks += cluster.log.count("deadlock detected")

    def explain(self, broken: list[str]) -> list[str]:
        """The same, with what was done to the workers that it names."""
        told = []
        for words in broken:
            pids = re.findall(r"of worker ([0-9]+)", words)
            done = [f"done to {pid}: {'; '.join(self.history[int(pid)])}" for pid in pids]
            told.append("\n  ".join([words, *done]))
        return told

    def _drain(self, conn: psycopg.Connection[Any], clock: SetClock) -> None:
        """Day after day, until nothing is planned any more."""
        with closing(SinkSender(self.sink.path, wave_size=200)) as sender:
            while self._is_left(conn):
                for name in queue.list_names(conn):
                    if (queue.seconds_to_next(conn, name) or 0) > 0:
                        show_all(conn, name)
                dsn = self.primary.dsn(DATABASE)
                with closing(
                    make_worker(dsn, sender, clock=clock, on_unknown=self.plan.policy)
                ) as worker:
                    worker.roll_over()
                    while worker.step():
                        pass
                if self._is_left(conn):
                    clock.now += timedelta(days=1)

    def _is_left(self, conn: psycopg.Connection[Any]) -> bool:
        row = conn.execute(
            "select exists (select from hyperdrip.message"
            " where state in ('planned', 'sending') and day is not null)"
        ).fetchone()
        return bool(row and row[0])

    def _reconcile(self, conn: psycopg.Connection[Any], clock: SetClock) -> None:
        """Tell the ledger of each unknown message what the sink knows of it."""
        seen = {arrival.key for arrival in self.sink.arrivals()}
        unknown = ledger.list_reconcilable(
            conn, with_console=False, lead_id=None, number=None, sender=None, before=None, keys=None
        )
        arrived = [key for key, _, _ in unknown if f"lead_{key[0]}-{key[1]}-{key[2]}" in seen]
        reconciling.mark_sent(conn, clock, Which(keys=tuple(arrived)))
        others = Which(keys=tuple({key for key, _, _ in unknown} - set(arrived)))
        reconciling.send_again(conn, clock, others, with_email=True)
        reconciling.cancel(conn, clock, others)


def _as_user(dsn: str, kind: str) -> str:
    """Workers and planners hold the rights of their roles alone."""
    return make_conninfo(dsn, user=roles.user_of(DATABASE, kind), password=DATABASE)


def report(soak: Soak, states: Counter[str], seconds: float) -> list[tuple[str, object]]:
    """The table: what was broken, and what came of the messages."""
    arrivals = soak.sink.arrivals()
    seen = Counter(arrival.key for arrival in arrivals)
    planned = sum(states.values())
    due = planned - states["cancelled"]
    lines: list[tuple[str, object]] = [
        ("seconds", round(seconds)),
        ("seed", soak.plan.seed),
        ("days that passed under faults", soak.days),
        ("recoveries of killed workers that were timed", len(soak.recovery_seconds)),
        ("longest recovery of a killed worker, s", round(max(soak.recovery_seconds, default=0), 1)),
        *(
            (f"fault: {name}", f"{soak.faults[name]}, in flight {soak.hits[name]}")
            for name in sorted(soak.faults)
        ),
        ("faults that hit a message in flight", sum(soak.hits.values())),
        ("messages planned", planned),
        ("sent", states["sent"]),
        ("sent of what was not cancelled", f"{100 * states['sent'] / max(due, 1):.2f} %"),
        ("failed", states["failed"]),
        ("cancelled", states["cancelled"]),
        ("unknown before reconciling", states["unknown"]),
        ("lost", sum(words.startswith("lost") for words in soak.broken)),
        ("repeated", sum(count - 1 for count in seen.values())),
        ("deadlocks", soak.deadlocks),
        ("promises broken", len(set(soak.broken))),
    ]
    return lines


def soak(plan: Plan) -> tuple[list[str], list[tuple[str, object]]]:
    """Run a soak on servers of its own; what was broken, and the table."""
    folder = Path(tempfile.mkdtemp(prefix="hyperdrip-soak-", dir="/tmp"))
    folder.chmod(0o711)
    began = time.monotonic()
    one = Soak(plan, folder)
    try:
        one.run()
        broken, states = one.settle()
        return one.explain(broken), report(one, states, time.monotonic() - began)
    finally:
        one._end_workers()
        one.sink.close()
        one.proxy.close()
        for cluster in one.clusters:
            cluster.remove()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run a soak from the command line; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in vars(Plan()).items():
        kind = (lambda text: text != "no") if isinstance(default, bool) else type(default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    broken, lines = soak(Plan(**vars(parser.parse_args())))
    for name, value in lines:
        print(f"{name:<45} {value}")
    for words in broken:
        print(f"BROKEN {words}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
