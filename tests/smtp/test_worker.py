"""The real worker on a real database, sending over SMTP: outcomes, quota, kills."""

import email
import email.policy
import os
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from hyperdrip import Hyperdrip
from hyperdrip import instance as instances
from hyperdrip.domain_limits import parse_domain_limits
from hyperdrip.senders.smtp import SmtpSender
from tests.acceptance.commands import Commands, commands_on, wait_until
from tests.factories import (
    MONDAY,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    make_worker,
    noon,
    work,
)
from tests.smtp.conftest import QUICK, Certificates, address
from tests.smtp.scripted import PASSWORD, USER, Act, Event, Rule, ScriptedServer
from tests.smtp.test_outcomes import at, first

MAIL: dict[str, object] = {
    "SENDER": "smtp",
    "MAIL_FROM": "Drip <drip@example.org>",
    "POSTAL_ADDRESS": "1 Main Street, Springfield",
    "SECRET_KEY": "0123456789abcdef",
    "PUBLIC_URL": "https://mail.example.org",
    "WORKER_MESSAGE_DELAY": 0,
}


@pytest.fixture
def new_sender(drip: Callable[..., Hyperdrip]) -> Iterator[Callable[..., SmtpSender]]:
    """Senders that write the database's own messages, with short timeouts."""
    made: list[SmtpSender] = []

    def make(server: ScriptedServer, *, concurrency: int = 4) -> SmtpSender:
        kit = drip(**MAIL).make_kit()
        made.append(
            SmtpSender(address(server), kit.compose, concurrency=concurrency, timeouts=QUICK)
        )
        return made[-1]

    yield make
    for sender in made:
        sender.close()


def quota_of(conn: psycopg.Connection) -> tuple[int, int]:
    """What of Monday is reserved, and what is sent."""
    row = conn.execute(
        "select reserved, sent from hyperdrip.quota_day where day = %s", [MONDAY]
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def attempts_of(conn: psycopg.Connection) -> list[int]:
    rows = conn.execute("select attempts from hyperdrip.message order by lead_id, number")
    return [attempts for (attempts,) in rows]


# What the server does, to the one message there is; its state, what of the day is reserved and
# sent, its attempts, and how often it arrived.
ACTS: dict[str, tuple[Rule, str, tuple[int, int], int, int]] = {
    "takes it": (lambda _: None, "sent", (0, 1), 1, 1),
    "busy at the greeting": (at("GREETING", b"421 busy\r\n"), "planned", (1, 0), 0, 0),
    "sender not allowed": (at("MAIL", b"550 5.7.1 not you\r\n"), "planned", (1, 0), 0, 0),
    "lost before a recipient is named": (at("MAIL", Act.HANG_UP), "planned", (1, 0), 0, 0),
    "closed relay": (at("RCPT", b"550 5.1.2 Relay not allowed\r\n"), "planned", (1, 0), 1, 0),
    "greylisted": (at("RCPT", b"450 4.2.0 later\r\n"), "planned", (1, 0), 1, 0),
    "no such user": (at("RCPT", b"550 5.1.1 unknown\r\n"), "failed", (0, 0), 1, 0),
    "no to the data": (at("DATA", b"554 5.6.0 no\r\n"), "failed", (0, 0), 1, 0),
    "not now after the dot": (at("DOT", b"451 4.3.0 later\r\n"), "planned", (1, 0), 1, 0),
    "spam after the dot": (at("DOT", b"550 5.6.0 spam\r\n"), "failed", (0, 0), 1, 0),
    "drops before the dot": (at("DATA", Act.HANG_UP), "planned", (1, 0), 1, 0),
    "drops once before the dot": (first("DATA", Act.HANG_UP), "sent", (0, 1), 1, 1),
    "421 in between": (first("RCPT", b"421 4.3.2 closing\r\n"), "sent", (0, 1), 1, 1),
    "drops after the dot": (at("DOT", Act.HANG_UP), "unknown", (0, 1), 1, 0),
    "takes it and drops": (at("DOT", Act.TAKE_AND_HANG_UP), "unknown", (0, 1), 1, 1),
    "takes it, says so and drops": (
        *(at("DOT", Act.TAKE_ANSWER_AND_HANG_UP), "sent", (0, 1), 1, 1),
    ),
    "says nothing after the dot": (at("DOT", Act.SILENCE), "unknown", (0, 1), 1, 0),
    "errs at QUIT": (at("QUIT", b"500 what\r\n"), "sent", (0, 1), 1, 1),
    "drops at QUIT": (at("QUIT", Act.HANG_UP), "sent", (0, 1), 1, 1),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_the_server_does_decides_state_quota_and_attempts(
    conn: psycopg.Connection, dsn: str, new_sender: Callable[..., SmtpSender], act: str
) -> None:
    rule, state, quota, attempts, arrived = ACTS[act]
    add_leads(conn, 1, messages=1)
    with (
        ScriptedServer(rule) as server,
        closing(make_worker(dsn, new_sender(server), is_drain=False)) as worker,
    ):
        worker.begin()
        worker.step()
        worker._finish_alone()
        assert count_states(conn) == {state: 1}
        assert quota_of(conn) == quota
        assert attempts_of(conn) == [attempts]
        assert len(server.accepted) == arrived
    is_dead = act == "no such user"
    assert conn.execute("select count(*) from hyperdrip.suppression").fetchone() == (is_dead,)
    assert_audit_ok(conn)


def test_what_is_unknown_is_held_and_its_drip_goes_on(
    conn: psycopg.Connection, dsn: str, new_sender: Callable[..., SmtpSender]
) -> None:
    add_leads(conn, 3, messages=2)
    with ScriptedServer(first("DOT", Act.TAKE_AND_HANG_UP)) as server:
        sender = new_sender(server, concurrency=1)
        for days in range(3):
            work(dsn, sender, clock=SetClock(noon(MONDAY + timedelta(days=days))))
        assert len(server.accepted) == len(set(server.accepted)) == 6
    assert count_states(conn) == {"sent": 5, "unknown": 1}
    assert_audit_ok(conn)


@pytest.mark.parametrize(("has_taken", "failed"), [(True, 2), (False, 0)])
def test_recipients_with_a_policy_of_their_own_do_not_stop_all_behind_them(
    conn: psycopg.Connection,
    dsn: str,
    new_sender: Callable[..., SmtpSender],
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_taken: bool,
    failed: int,
) -> None:
    monkeypatch.setattr("hyperdrip.retry.LONGEST_REFUSAL_SECONDS", 0.01)
    ids = add_leads(conn, 12, messages=1).lead_ids
    members = ids[has_taken : 4 + has_taken]
    conn.execute(
        "update hyperdrip.lead set email = 'l' || id || '@members.example' where id = any(%s)",
        [list(members)],
    )

    def rule(event: Event) -> bytes | None:
        is_closed = event.verb == "RCPT" and "@members.example" in event.argument
        return b"550 5.7.1 this list is for members\r\n" if is_closed else None

    with (
        ScriptedServer(rule) as server,
        closing(make_worker(dsn, new_sender(server, concurrency=1), is_drain=False)) as worker,
    ):
        worker.begin()
        for _ in range(20):
            worker.step()
        assert len(server.accepted) == 8
    states = {"sent": 8, "planned": 4 - failed} | ({"failed": failed} if failed else {})
    assert count_states(conn) == states
    # The first two were tried; those behind them were not, and come again when others have gone.
    waits = conn.execute(
        "select attempts, extract(epoch from not_before - clock_timestamp())::float8"
        " from hyperdrip.message where state = 'planned' order by lead_id"
    ).fetchall()
    assert [attempts for attempts, _ in waits] == [1, 1, 0, 0][failed:]
    assert all(1700 < seconds <= 1800 for attempts, seconds in waits if not attempts)
    assert_audit_ok(conn)


def test_a_provider_id_and_a_reason_are_kept(
    conn: psycopg.Connection, dsn: str, new_sender: Callable[..., SmtpSender]
) -> None:
    def rule(event: Event) -> bytes | None:
        return b"550 5.1.1 unknown\r\n" if event.verb == "RCPT" and event.times else None

    add_leads(conn, 2, messages=1)
    with ScriptedServer(rule) as server:
        work(dsn, new_sender(server, concurrency=1))
    rows = conn.execute(
        "select provider_id, error from hyperdrip.message order by lead_id"
    ).fetchall()
    assert rows == [("Q1", None), (None, "550 5.1.1 unknown (to RCPT TO)")]
    # Nobody has that address: it is suppressed.
    assert conn.execute("select count(*) from hyperdrip.suppression").fetchone() == (1,)


# The whole way, with a polite server


class Inbox:
    """Takes mail after AUTH over TLS; messages in order."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.recipients: list[str] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.messages.append(envelope.content)
        self.recipients += envelope.rcpt_tos
        return "250 2.0.0 Ok: queued as X"


def _is_ada(
    _server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any
) -> AuthResult:
    good = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=given == good)


@contextmanager
def serving(certificates: Certificates) -> Iterator[tuple[Inbox, str]]:
    """aiosmtpd on a free port, with STARTTLS and AUTH required; and the SMTP_URL for it."""
    inbox = Inbox()
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=0,
        tls_context=certificates.context,
        require_starttls=True,
        authenticator=_is_ada,
        auth_required=True,
        ready_timeout=10,
    )
    controller.port = _free_port()
    controller.start()
    try:
        user = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
        url = f"smtp://{user}@127.0.0.1:{controller.port}?cafile={certificates.cafile}"
        yield inbox, url
    finally:
        controller.stop()


def _free_port() -> int:
    with ScriptedServer() as server:
        return server.port


@pytest.mark.slow
def test_five_steps_to_200_leads_over_five_days_arrive_complete_once_each_and_in_order(
    conn: psycopg.Connection, dsn: str, tmp_path: Path, certificates: Certificates
) -> None:
    instances.set_daily_max(conn, 200)
    add_leads(conn, 200, messages=5)
    with serving(certificates) as (inbox, url):
        commands = commands_on(dsn, tmp_path, **MAIL, SMTP_URL=url)
        for day in range(15, 20):
            said = commands.within.json(
                "worker", "--drain", HYPERDRIP_NOW=f"2024-01-{day}T09:00:00Z"
            )
            assert (said["sent"], said["waiting"]) == (200, 0)
    assert count_states(conn) == {"sent": 1000}
    assert_audit_ok(conn)
    numbers = defaultdict[str, list[int]](list)
    ids = Counter[str]()
    for octets, recipient in zip(inbox.messages, inbox.recipients, strict=True):
        message = email.message_from_bytes(octets, policy=email.policy.default)
        assert message.defects == []
        assert message["To"].addresses[0].addr_spec == recipient
        ids[message["Message-ID"]] += 1
        match = re.match(r"<lead_\d+-1-(\d+)\.", message["Message-ID"])
        assert match
        numbers[recipient].append(int(match[1]))
        plain, html = message.get_body(["plain"]), message.get_body(["html"])
        assert plain is not None
        assert html is not None
        for part in (plain, html):
            text = part.get_content()
            assert "https://mail.example.org/unsubscribe/lead_" in text
            assert "1 Main Street" in text
            assert part.defects == []
        assert "<html" in html.get_content()
        assert "<" not in plain.get_content().split("https://")[0]
    assert set(ids.values()) == {1}
    assert len(ids) == 1000
    assert all(found == [1, 2, 3, 4, 5] for found in numbers.values())


def test_a_server_that_is_quick_gets_waves_of_several_messages_for_each_connection(
    conn: psycopg.Connection,
    dsn: str,
    new_sender: Callable[..., SmtpSender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperdrip.senders.smtp.WAVE_SECONDS", 1000)
    monkeypatch.setattr("hyperdrip.senders.smtp.LONGEST_WAVE", 51)
    add_leads(conn, 60, messages=1)
    with (
        ScriptedServer() as server,
        closing(make_worker(dsn, new_sender(server, concurrency=2), is_drain=False)) as worker,
    ):
        worker.begin()
        arrived = [0]
        while worker.step():
            arrived.append(len(server.accepted))
        assert arrived == [0, 2, 52, 60]
        assert server.connections == 2
    assert_audit_ok(conn)


# Processes that are told to stop, and killed


def smtp_commands(dsn: str, folder: Path, server: ScriptedServer, **more: object) -> Commands:
    url = f"smtp://127.0.0.1:{server.port}?starttls=never"
    return commands_on(dsn, folder, **{**MAIL, "SMTP_URL": url, **more})


@pytest.mark.parametrize("dies_at", ["RCPT", "DOT"])
def test_a_kill_in_the_middle_of_a_wave_leaves_one_wave_unknown_and_repeats_nothing(
    conn: psycopg.Connection, dsn: str, tmp_path: Path, dies_at: str
) -> None:
    concurrency = 5
    pids: list[int] = []

    def rule(event: Event) -> None:
        if event.verb == dies_at and event.times == 17:
            os.kill(pids[0], signal.SIGKILL)

    instances.set_daily_max(conn, 300)
    add_leads(conn, 200, messages=1)
    with ScriptedServer(rule) as server:
        commands = smtp_commands(
            dsn, tmp_path, server, CONCURRENCY=concurrency, VISIBILITY_TIMEOUT=1
        )

        def on_greeting(event: Event) -> None:
            wait_until(lambda: pids, "the worker's process")
            rule(event)

        server.rule = on_greeting
        with commands.start("worker", "--drain") as worker:
            pids.append(worker.pid)
            assert worker.wait().code == -signal.SIGKILL
        wave = count_states(conn)["sending"]
        server.rule = lambda _event: None
        commands.run("worker", "--drain")
        assert len(server.accepted) == len(set(server.accepted))
        states = count_states(conn)
        assert states == {"sent": 200 - wave, "unknown": wave}
        assert 200 - wave <= len(server.accepted) <= 200
    assert_audit_ok(conn)


def test_a_worker_told_to_stop_finishes_what_is_in_flight_and_leaves_nothing_unknown(
    conn: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    workers: list[Any] = []

    def rule(event: Event) -> None:
        if event.verb == "DOT" and event.times == 12:
            wait_until(lambda: workers, "the worker's process")
            workers[0].send(signal.SIGTERM)

    instances.set_daily_max(conn, 100)
    add_leads(conn, 60, messages=1)
    with ScriptedServer(rule) as server:
        commands = smtp_commands(dsn, tmp_path, server, CONCURRENCY=5)
        with commands.start("worker", "--json") as worker:
            workers.append(worker)
            ended = worker.wait()
        assert (ended.code, ended.json["unknown"]) == (0, 0)
        assert ended.json["sent"] == len(server.accepted) < 60
        assert server.verbs().count("QUIT") == server.connections
    assert count_states(conn).keys() == {"sent", "planned"}
    assert_audit_ok(conn)


def test_a_worker_told_to_stop_does_not_wait_for_a_server_that_does_not_greet(
    conn: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    add_leads(conn, 3, messages=1)
    with ScriptedServer(at("GREETING", Act.SILENCE)) as server:
        with smtp_commands(dsn, tmp_path, server).start("worker", "--json") as worker:
            wait_until(lambda: server.events, "a connection")
            worker.send(signal.SIGTERM)
            ended = worker.wait(seconds=15)
        assert (ended.code, ended.json["unknown"], ended.json["sent"]) == (0, 0, 0)
    assert count_states(conn) == {"planned": 3}
    assert quota_of(conn) == (3, 0)
    assert attempts_of(conn) == [0, 0, 0]


def test_no_password_is_shown_anywhere(
    conn: psycopg.Connection, dsn: str, tmp_path: Path, certificates: Certificates
) -> None:
    add_leads(conn, 1, messages=1)
    with ScriptedServer(
        at("AUTH", f"535 5.7.8 {PASSWORD}\r\n".encode()),
        context=certificates.context,
        has_auth=True,
    ) as server:
        user = f"{USER}:{quote(PASSWORD, safe='')}"
        url = f"smtp://{user}@127.0.0.1:{server.port}?cafile={certificates.cafile}"
        commands = commands_on(dsn, tmp_path, **MAIL, SMTP_URL=url, LOG_LEVEL="debug")
        ended = commands.run("worker", "--drain", "--json", code=1)
    assert "535 5.7.8 ***" in ended.err
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in ended.out + ended.err


# The pace per domain


def test_a_slow_domain_waits_and_stops_nobody_else(
    conn: psycopg.Connection,
    dsn: str,
    new_sender: Callable[..., SmtpSender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperdrip.senders.smtp.LONGEST_WAVE", 1)
    add_leads(conn, 60, messages=1)
    conn.execute("update hyperdrip.lead set email = 'l' || id || '@Slow.example' where id <= 30")
    with (
        ScriptedServer() as server,
        closing(make_worker(dsn, new_sender(server, concurrency=10), is_drain=False)) as worker,
    ):
        worker._dispatcher.domain_limits = parse_domain_limits("x", "slow.example=1/m")
        worker.begin()
        steps = 0
        while worker.step():
            steps += 1
        to_slow = [e for e in server.events if e.verb == "RCPT" and "@Slow" in e.argument]
        assert len(to_slow) == 1
        assert len(server.accepted) == 31
        assert steps == 6  # none of them was read twice
    assert count_states(conn) == {"sent": 31, "planned": 29}
    assert sorted(attempts_of(conn)) == [0] * 29 + [1] * 31
    assert quota_of(conn) == (29, 31)
    waits = conn.execute(
        "select extract(epoch from not_before - clock_timestamp())::float8 from hyperdrip.message"
        " where state = 'planned' order by not_before"
    ).fetchall()
    assert 50 < waits[0][0] <= 61
    assert waits[-1][0] > 590
    assert len({round(seconds / 60) for (seconds,) in waits}) >= 9  # spread, not all at once
    assert_audit_ok(conn)


def test_a_pace_is_in_force_whatever_the_sender(
    conn: psycopg.Connection, dsn: str, tmp_path: Path
) -> None:
    add_leads(conn, 20, messages=1)
    commands = commands_on(dsn, tmp_path, WORKER_MESSAGE_DELAY=0, DOMAIN_LIMITS="*=1/d")
    said = commands.within.json("worker", "--drain", SENDER="null")
    assert (said["sent"], said["waiting"]) == (1, 19)
