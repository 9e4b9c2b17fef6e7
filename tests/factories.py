"""What tests are made of: leads by the hundred, a clock that stands still, senders that answer."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from hyperdrip.audit import run_audit
from hyperdrip.clock import Clock
from hyperdrip.fence import connect_to_send
from hyperdrip.models import Claim, NewLead, WorkerSummary
from hyperdrip.rollover import Policy
from hyperdrip.scheduler import Enrolled, Enrolment, enroll, in_planner_transaction
from hyperdrip.senders import Outcome, Sender, Sent
from hyperdrip.senders.null import NullSender
from hyperdrip.settings import Settings, parse
from hyperdrip.signals import Stop
from hyperdrip.worker import Options, Worker
from tests.roles import under

MORNING = "2024-01-15T09:00:00Z"
MONDAY = date(2024, 1, 15)
# What the fixture `no_deadlock` gives.
Watch = Callable[[], AbstractContextManager[None]]
DEADLINE_SECONDS = 20.0
MOST_STEPS = 1000

T = TypeVar("T")

_numbers = itertools.count(1)


def instant(text: str) -> datetime:
    """`2024-01-15T09:00:00Z` as an instant; without an offset it is UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def noon(day: date) -> datetime:
    """Noon of a day in UTC."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def make_settings(dsn: str, **values: object) -> Settings:
    """Settings of a test process on `dsn`: no pause between messages unless asked for."""
    given = {"DATABASE_URL": dsn, "HYPERDRIP_ENV": "test", "WORKER_MESSAGE_DELAY": "0"}
    given.update({name: str(value) for name, value in values.items()})
    return parse(given, default_home=Path("/nowhere"))


class SetClock(Clock):
    """A clock that stands still until `now` is set."""

    def __init__(self, now: str | datetime = MORNING) -> None:
        super().__init__()
        self.now = instant(now) if isinstance(now, str) else now

    def take(self, server: datetime) -> datetime:
        super().take(server)
        return self.now.astimezone(UTC)

    def estimate(self) -> datetime:
        return self.now.astimezone(UTC)


class HookFailed(BaseException):
    """An assertion in a sender's hook: the worker must not take it for a sender that breaks."""


class AnsweringSender:
    """Records what it is handed, and answers with what `answer` says of it.

    Its name is none of the idempotent senders', so what is unknown is held unless told otherwise.
    `before` is called right before each hand-over is asked for.
    """

    is_quiet = True

    def __init__(
        self,
        answer: Callable[[Claim], Outcome] = lambda _: Sent(),
        *,
        name: str = "answering",
        wave_size: int = 500,
        before: Callable[[Claim], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.wave_size = wave_size
        self.answer = answer
        self.before = before
        self.handed_over: list[Claim] = []
        self.waves: list[int] = []

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome]]:
        self.waves.append(len(claims))
        if len(self.waves) > MOST_STEPS:
            raise HookFailed("the worker never stops asking")
        for claim in claims:
            self._asserting(self.before, claim)
            if not may_send(claim):
                return
            self.handed_over.append(claim)
            yield claim, self._asserting(self.answer, claim)

    @staticmethod
    def _asserting(hook: Callable[[Claim], T], claim: Claim) -> T:
        try:
            return hook(claim)
        except AssertionError as error:
            raise HookFailed from error

    @property
    def keys(self) -> list[str]:
        """The message keys handed over, in order."""
        return [claim.message_key for claim in self.handed_over]


def new_leads(count: int) -> list[NewLead]:
    """Leads with addresses that no other call gives out."""
    numbers = list(itertools.islice(_numbers, count))
    return [NewLead(name=f"Lead {n}", email=f"lead{n}@example.com") for n in numbers]


def add_leads(
    conn: psycopg.Connection[Any],
    count: int,
    *,
    clock: Clock | None = None,
    messages: int = 5,
    start: date | None = None,
    horizon_days: int = 365,
) -> Enrolled:
    """Enrol leads the way `add-lead` and `import` do; ids and schedules in order."""
    enrolment = Enrolment(max_messages=messages, start=start, horizon_days=horizon_days)
    found = new_leads(count)
    return in_planner_transaction(
        conn, clock or SetClock(), lambda moment: enroll(conn, moment, found, enrolment)
    )


def make_worker(
    dsn: str,
    sender: Sender | None = None,
    *,
    clock: Clock | None = None,
    stop: Stop | None = None,
    connect: Callable[[], psycopg.Connection[Any]] | None = None,
    chance: float = 1.0,
    message_delay_ms: int = 0,
    vt_seconds: int = 30,
    is_drain: bool = True,
    on_unknown: str = "",
    max_attempts: int = 5,
) -> Worker:
    """A worker on a connection of its own, with its role's rights alone.

    With chance 1 a backoff is longer than a lease.
    """
    return Worker(
        connect or (lambda: connect_to_send(under(dsn, "worker"))),
        sender or NullSender(),
        options=Options(
            poll_interval_ms=50,
            message_delay_ms=message_delay_ms,
            vt_seconds=vt_seconds,
            is_drain=is_drain,
            policy=Policy(on_unknown=on_unknown, max_attempts=max_attempts),
        ),
        clock=clock or SetClock(),
        stop=stop,
        chance=lambda: chance,
    )


def drain(dsn: str, sender: Sender | None = None, **options: Any) -> WorkerSummary:
    """Run a worker until nothing is left to do at its clock's instant; arguments: make_worker."""
    with closing(make_worker(dsn, sender, **options)) as worker:
        return worker.run()


def work(dsn: str, sender: Sender | None = None, **options: Any) -> WorkerSummary:
    """As drain, and without waiting for what comes due within a visibility timeout."""
    with closing(make_worker(dsn, sender, **options)) as worker:
        for _ in range(MOST_STEPS):
            if not worker.step():
                return worker.summary()
    raise AssertionError("the worker never comes to rest")


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait for a condition; fails when it does not come true in time."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while not is_true():
        assert time.monotonic() < ends, "the condition did not come true in time"
        time.sleep(0.005)


def show_all(conn: psycopg.Connection[Any], queue_name: str) -> None:
    """End every lease and backoff of a queue at once: back-date what it hides."""
    conn.execute(
        "select pgmq.set_vt(%(queue)s::text, id, -1) from unnest(%(ids)s::bigint[]) as item (id)",
        {"queue": queue_name, "ids": envelope_ids(conn, queue_name)},
    )


def envelope_ids(conn: psycopg.Connection[Any], queue_name: str) -> list[int]:
    """The envelopes in a queue, hidden or not, by id."""
    table = psycopg.sql.Identifier("pgmq", f"q_{queue_name}")
    rows = conn.execute(
        psycopg.sql.SQL("select msg_id from {} order by msg_id").format(table)
    ).fetchall()
    return [envelope_id for (envelope_id,) in rows]


def count_states(conn: psycopg.Connection[Any], day: date | None = None) -> dict[str, int]:
    """How many messages are in each state, of one day or of all."""
    rows = conn.execute(
        "select state, count(*) from hyperdrip.message"
        " where %(day)s::date is null or day = %(day)s group by state",
        {"day": day},
    ).fetchall()
    return dict(rows)


def assert_audit_ok(conn: psycopg.Connection[Any]) -> None:
    """Every invariant holds in the tables."""
    assert [(check.name, check.detail) for check in run_audit(conn) if not check.ok] == []
