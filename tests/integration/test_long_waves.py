"""Waves that take long, with several messages in flight: the lease, and a lost server."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg
import pytest

from hyperdrip import delivery, queue
from hyperdrip.dispatch import PAUSE_CHECK_SECONDS
from hyperdrip.models import Claim
from hyperdrip.senders import Outcome, Retry, Sent
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    make_worker,
    show_all,
    wait_until,
)

QUEUE = "test-drip-messages-2024-01-15"

Answers = Iterator[tuple[Claim, Outcome] | None]
Act = Callable[[Sequence[Claim], Callable[[Claim], bool]], Answers]


class ActingSender:
    """Does `act` with its first wave and sends what follows plainly. What is unknown is held."""

    name = "acting"
    wave_size = 500
    is_quiet = True

    def __init__(self, act: Act) -> None:
        self.act: Act | None = act
        self.handed_over: list[str] = []
        self.waves = 0

    def send_wave(self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        def noting(claim: Claim) -> bool:
            is_free = may_send(claim)
            self.handed_over += [claim.message_key] if is_free else []
            return is_free

        self.waves += 1
        act, self.act = self.act, None
        if act is not None:
            yield from act(claims, noting)
            return
        for claim in claims:
            if not noting(claim):
                return
            yield claim, Sent()


def pass_by(seconds: float) -> None:
    """Let time pass by the clock that leases go by."""
    ends = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > ends)


@pytest.fixture
def cut_lines(conn: psycopg.Connection[Any]) -> Callable[[], None]:
    """Cut the lines of everybody else who works on this database."""

    def cut() -> None:
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    return cut


def assert_all_sent_once(conn: psycopg.Connection[Any], sender: ActingSender) -> None:
    assert len(sender.handed_over) == len(set(sender.handed_over)) == 3
    assert count_states(conn) == {"sent": 3}
    assert_audit_ok(conn)


def test_a_sender_that_only_waits_keeps_its_lease(dsn: str, conn: psycopg.Connection[Any]) -> None:
    add_leads(conn, 3, messages=1)

    def act(claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        assert may_send(claims[0])
        for _ in range(5):  # longer than the lease, all in all
            pass_by(0.4)
            yield None
            assert (queue.seconds_to_next(conn, QUEUE) or 0) > 0
        yield claims[0], Sent()
        for claim in claims[1:]:
            assert may_send(claim)
            yield claim, Sent()

    sender = ActingSender(act)
    summary = drain(dsn, sender, vt_seconds=1)
    assert (summary.sent, sender.waves) == (3, 1)
    assert_all_sent_once(conn, sender)


def test_a_worker_that_waits_for_an_answer_is_seen_to_be_alive(
    dsn: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.worker.HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr("hyperdrip.dispatch.LOOK_SECONDS", 0.0)
    add_leads(conn, 1, messages=1)
    ages: list[float] = []

    def hang(claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        assert may_send(claims[0])
        conn.execute("update hyperdrip.worker set last_seen_at = last_seen_at - interval '1 hour'")
        yield None
        (age,) = conn.execute(
            "select extract(epoch from clock_timestamp() - last_seen_at)::float8"
            " from hyperdrip.worker"
        ).fetchall()
        ages.extend(age)
        yield claims[0], Sent()

    assert drain(dsn, ActingSender(hang)).sent == 1
    assert ages[0] < 60


def test_what_has_its_answer_keeps_its_lease_until_the_wave_is_finished(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 3, messages=1)

    def act(claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        for claim in claims:
            assert may_send(claim)
        yield claims[0], Retry("busy")
        yield claims[1], Sent()
        for _ in range(5):  # longer than the lease, all in all
            pass_by(0.4)
            yield None
            assert (queue.seconds_to_next(conn, QUEUE) or 0) > 0
        yield claims[2], Sent()

    summary = drain(dsn, ActingSender(act), vt_seconds=1)
    assert (summary.sent, summary.retried, summary.unknown) == (2, 1, 0)
    assert count_states(conn) == {"sent": 2, "planned": 1}
    assert_audit_ok(conn)


def test_who_has_lost_its_lease_settles_nothing_and_shows_nothing(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 1, messages=1)
    read, _ = queue.read(conn, QUEUE, vt_seconds=1, quantity=5)
    is_over = time.monotonic() - 1.0
    show_all(conn, QUEUE)

    def meddle(_claim: Claim) -> None:
        settled = delivery.settle_expired(
            conn,
            "test",
            read,
            day=MONDAY,
            on_unknown="resend",
            max_attempts=5,
            lease_ends=is_over,
        )
        assert settled.finished == ()

    sender = AnsweringSender(before=meddle)
    assert drain(dsn, sender).sent == 1
    assert len(sender.keys) == 1
    assert_audit_ok(conn)

    # Read by somebody else since, and not claimed yet.
    add_leads(conn, 1, messages=1)
    read, _ = queue.read(conn, QUEUE, vt_seconds=30, quantity=5)
    assert delivery.show_held(conn, "test", read, day=MONDAY, lease_ends=is_over) == ()
    assert (queue.seconds_to_next(conn, QUEUE) or 0) > 0


def test_a_second_envelope_of_a_lost_message_settles_it_once(
    dsn: str, conn: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 2, messages=2)
    with closing(make_worker(dsn)) as worker:
        worker.begin()
    request = delivery.Request(5, MONDAY, "null", 1, 30)
    delivery.finish_and_claim(conn, SetClock(), "test", batch=delivery.Batch(), request=request)
    assert count_states(conn) == {"sending": 2, "planned": 2}
    conn.execute(
        f'insert into pgmq."q_{QUEUE}" (vt, message, headers)'
        f' select now(), message, headers from pgmq."q_{QUEUE}" order by msg_id limit 1'
    )
    show_all(conn, QUEUE)
    summary = drain(dsn, on_unknown="hold")
    assert (summary.sent, summary.unknown) == (0, 2)
    assert_audit_ok(conn)


def test_a_server_lost_while_answers_are_awaited_leaves_nothing_unknown(
    dsn: str, conn: psycopg.Connection[Any], cut_lines: Callable[[], None]
) -> None:
    add_leads(conn, 3, messages=1)

    def act(claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        for claim in claims:
            assert may_send(claim)
        pass_by(0.7)
        cut_lines()
        for claim in claims:  # with the first, the lease would be extended
            yield claim, Sent()

    sender = ActingSender(act)
    assert drain(dsn, sender, vt_seconds=2).sent == 3
    assert_all_sent_once(conn, sender)


@pytest.mark.own_sessions
def test_a_server_lost_at_a_heartbeat_does_not_cut_the_wave_short(
    dsn: str,
    conn: psycopg.Connection[Any],
    cut_lines: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperdrip.dispatch.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("hyperdrip.worker.HEARTBEAT_SECONDS", 0.0)
    add_leads(conn, 3, messages=1)

    def act(claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        for claim in claims:
            assert may_send(claim)
        cut_lines()
        yield None
        for claim in claims:
            yield claim, Sent()

    sender = ActingSender(act)
    assert drain(dsn, sender).sent == 3
    assert_all_sent_once(conn, sender)


@pytest.mark.own_sessions
def test_a_server_lost_before_a_hand_over_stops_the_wave_and_not_its_answers(
    dsn: str, conn: psycopg.Connection[Any], cut_lines: Callable[[], None]
) -> None:
    add_leads(conn, 3, messages=1)

    def act(claims: Sequence[Claim], may_send: Callable[[Claim], bool]) -> Answers:
        assert may_send(claims[0])
        pass_by(PAUSE_CHECK_SECONDS * 1.5)
        cut_lines()
        assert not may_send(claims[1])
        yield claims[0], Sent()

    sender = ActingSender(act)
    assert drain(dsn, sender).sent == 3
    assert_all_sent_once(conn, sender)
