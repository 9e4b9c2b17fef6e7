"""What a sender says besides: it takes nothing, it keeps a pace, nobody has this address."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from hyperdrip import Hyperdrip, leads, ledger, queue, reconciling, standing
from hyperdrip.errors import DatabaseUnavailable
from hyperdrip.models import Claim
from hyperdrip.reconciling import Which
from hyperdrip.senders import Failed, Later, Outcome, Refused, Retry, Sent, Unknown, Unwritten
from hyperdrip.signals import Stop
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
)

QUEUE = "test-drip-messages-2024-01-15"
# Makes the pauses after refusals fifty times as short.
HURRY = -1.95


class WatchedStop(Stop):
    """Calls `look` whenever a worker waits."""

    def __init__(self, look: Callable[[], object]) -> None:
        super().__init__()
        self.look = look
        self.seen: list[object] = []

    def wait(self, seconds: float) -> bool:
        self.seen.append(self.look())
        return super().wait(min(seconds, 0.05))


class Together(AnsweringSender):
    """Hands all that it may over before it looks at any answer, as one with many connections."""

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome]]:
        out = [claim for claim in claims if may_send(claim)]
        self.handed_over += out
        for claim in out:
            yield claim, self.answer(claim)


def standing_of(conn: psycopg.Connection) -> dict[str, object]:
    """What must be as if nothing had been claimed."""
    (quota,) = conn.execute(
        "select reserved, sent from hyperdrip.quota_day where day = %s", [MONDAY]
    ).fetchall()
    (ledgers,) = conn.execute(
        "select max(attempts), count(not_before), count(first_claimed_at), count(error),"
        " count(*) filter (where state = 'sending') from hyperdrip.message"
        " where state in ('planned', 'sending')"
    ).fetchall()
    (hidden,) = conn.execute(
        f'select count(*) from pgmq."q_{QUEUE}" where vt > clock_timestamp()'
    ).fetchall()
    return {"quota": quota, "ledger": ledgers, "hidden": hidden[0]}


def refusing(times: int) -> AnsweringSender:
    """Refuses the first waves, and then takes everything."""

    def answer(_: Claim) -> Outcome:
        return Refused("421 too busy") if len(sender.waves) <= times else Sent()

    sender = AnsweringSender(answer)
    return sender


def test_a_refused_wave_goes_back_as_if_it_had_never_been_claimed(
    conn: psycopg.Connection, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_leads(conn, 20, messages=2)
    before = standing_of(conn)
    assert before == {"quota": (20, 0), "ledger": (0, 0, 0, 0, 0), "hidden": 0}
    stop = WatchedStop(lambda: standing_of(conn))
    sender = refusing(2)
    with caplog.at_level(logging.INFO, logger="hyperdrip.worker"):
        summary = drain(dsn, sender, stop=stop, chance=-1.5)
    # Only the first of each wave was tried, and while the worker waited it held nothing.
    assert sender.keys[:3] == ["lead_1-1-1", "lead_1-1-1", "lead_1-1-1"]
    assert len(stop.seen) >= 2
    assert all(seen == before for seen in stop.seen)
    assert (summary.sent, summary.retried, summary.refusal) == (20, 0, None)
    assert count_states(conn, MONDAY) == {"sent": 20}
    assert {claim.attempts for claim in sender.handed_over} == {1}
    assert [line for line in caplog.messages if "takes" in line] == [
        "The sender answering takes nothing now: 421 too busy; next try in 0 s",
        "The sender answering takes nothing now: 421 too busy; next try in 0 s",
        "The sender answering takes messages again",
    ]
    assert_audit_ok(conn)


def test_what_was_handed_over_before_a_refusal_counts_and_only_the_rest_goes_back(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 10, messages=1)

    def answer(claim: Claim) -> Outcome:
        return Sent() if claim.lead_id in {1, 2, 4} else Refused("421")

    for sender in (AnsweringSender(answer), Together(answer)):
        with closing(make_worker(dsn, sender)) as worker:
            assert worker.step()
            worker.stop.set()
            worker.run()
        assert_audit_ok(conn)
    # One by one nothing follows the first refusal; what was under way together is all answered.
    assert count_states(conn) == {"sent": 3, "planned": 7}
    assert standing_of(conn) == {"quota": (7, 3), "ledger": (0, 0, 0, 0, 0), "hidden": 0}


def test_a_refused_message_stays_behind_the_others_for_as_long_as_the_sender_says(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 5, messages=1)
    sender = AnsweringSender(
        lambda claim: Refused("550 5.7.1", 1800.4) if claim.lead_id == 1 else Sent()
    )
    summary = drain(dsn, sender, chance=HURRY)
    assert sender.keys == [f"lead_{lead_id}-1-1" for lead_id in range(1, 6)]
    assert (summary.sent, summary.retried, summary.waiting) == (4, 0, 1)
    (row,) = conn.execute(
        "select attempts, error, extract(epoch from not_before - clock_timestamp())::float8"
        " from hyperdrip.message where state = 'planned'"
    ).fetchall()
    assert row[:2] == (0, None)
    assert 1790 < row[2] <= 1801
    assert standing_of(conn)["quota"] == (1, 4)
    assert_audit_ok(conn)


def test_a_drain_gives_up_after_three_refusals_and_a_signal_ends_any_wait(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=1)
    sender = refusing(99)
    summary = drain(dsn, sender, chance=HURRY)
    assert (summary.refusal, summary.waiting, len(sender.waves)) == ("421 too busy", 3, 3)

    stop = WatchedStop(lambda: None)
    stop.look = stop.set
    # It would have waited an hour, and sees the signal within.
    assert drain(dsn, sender, stop=stop, chance=9000.0, is_drain=False).waiting == 3
    assert (len(sender.waves), len(stop.seen)) == (4, 1)
    assert standing_of(conn) == {"quota": (3, 0), "ledger": (0, 0, 0, 0, 0), "hidden": 0}
    assert_audit_ok(conn)


def test_days_roll_over_and_the_heart_beats_while_a_sender_takes_nothing(
    conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdrip.worker.HEARTBEAT_SECONDS", 0.0)
    add_leads(conn, 2, messages=1)
    clock = SetClock("2024-01-15T23:59:59Z")
    beats: set[object] = set()

    def look() -> None:
        beats.add(conn.execute("select last_seen_at from hyperdrip.worker").fetchone())
        if len(beats) == 3:
            clock.now += timedelta(seconds=2)
        if count_states(conn, MONDAY + timedelta(days=1)):
            stop.set()

    stop = WatchedStop(look)
    drain(dsn, refusing(99), clock=clock, stop=stop, chance=9000.0, is_drain=False)
    assert len(beats) >= 3
    assert count_states(conn, MONDAY + timedelta(days=1)) == {"planned": 2}
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DatabaseUnavailable("the database was lost"), "the database was lost"),
        (psycopg.OperationalError("server closed"), "server closed"),
        (ValueError("a bug in a plug-in"), "it broke (ValueError)"),
    ],
)
def test_a_sender_that_breaks_before_it_hands_anything_over_loses_nothing_and_waits(
    conn: psycopg.Connection, dsn: str, error: Exception, reason: str
) -> None:
    add_leads(conn, 5, messages=1)

    def break_down(_: Claim) -> None:
        raise error

    sender = AnsweringSender(before=break_down)
    summary = drain(dsn, sender, chance=HURRY)
    assert (summary.refusal, len(sender.waves), summary.unknown) == (reason, 3, 0)
    assert standing_of(conn) == {"quota": (5, 0), "ledger": (0, 0, 0, 0, 0), "hidden": 0}
    sender.before = lambda _: None
    assert drain(dsn, sender).sent == 5
    assert_audit_ok(conn)


@pytest.mark.own_sessions
def test_a_campaign_that_cannot_be_read_costs_nothing_and_is_read_again(
    conn: psycopg.Connection, dsn: str, admin: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 3, messages=1)
    kit = drip(
        MAIL_FROM="a@example.com", SECRET_KEY="k" * 16, PUBLIC_URL="https://example.com"
    ).make_kit()
    written: list[str] = []
    sender = AnsweringSender(before=lambda claim: written.append(kit.compose(claim).rcpt_to))
    name = sql.Identifier(conn.info.dbname)
    with closing(make_worker(dsn, sender, chance=HURRY)) as worker:
        worker.begin()
        admin.execute(sql.SQL("alter database {} allow_connections false").format(name))
        try:
            summary = worker.run()
        finally:
            admin.execute(sql.SQL("alter database {} allow_connections true").format(name))
    assert "cannot be reached" in str(summary.refusal)
    assert (len(sender.waves), written, sender.handed_over) == (3, [], [])
    assert standing_of(conn) == {"quota": (3, 0), "ledger": (0, 0, 0, 0, 0), "hidden": 0}
    assert drain(dsn, sender).sent == len(written) == 3
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    "answer",
    [
        "250 ok",
        Sent(provider_id=250),  # type: ignore[arg-type]
        Retry(ValueError("451")),  # type: ignore[arg-type]
        Later("a pace", "5"),  # type: ignore[arg-type]
        Failed("550", is_address_dead="no"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_none_leaves_only_that_message_unknown(
    conn: psycopg.Connection, dsn: str, answer: Outcome
) -> None:
    add_leads(conn, 3, messages=1)
    sender = AnsweringSender(lambda claim: answer if claim.lead_id == 2 else Sent())
    assert drain(dsn, sender, chance=HURRY).sent == 2
    assert count_states(conn) == {"sent": 2, "unknown": 1}
    assert_audit_ok(conn)


def test_a_sender_that_wants_to_end_the_process_only_breaks(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=1)

    def exit_at_the_second(claim: Claim) -> Outcome:
        if claim.lead_id == 2:
            raise SystemExit(3)
        return Sent()

    summary = drain(dsn, AnsweringSender(exit_at_the_second), chance=HURRY)
    assert summary.sent == 2
    assert count_states(conn) == {"sent": 2, "unknown": 1}
    assert_audit_ok(conn)


class Forward(AnsweringSender):
    """Never asks whether it may."""

    def send_wave(
        self, claims: Sequence[Claim], _may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome]]:
        for claim in claims:
            self.handed_over.append(claim)
            yield claim, self.answer(claim)


def test_what_a_sender_hands_over_without_asking_counts_once_and_is_said(
    conn: psycopg.Connection, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_leads(conn, 3, messages=1)
    sender = Forward()
    assert drain(dsn, sender, chance=HURRY).sent == len(sender.handed_over) == 3
    assert count_states(conn) == {"sent": 3}
    assert "it broke (TypeError)" in caplog.text
    assert "may_send was not asked for" in caplog.text
    assert_audit_ok(conn)


# A pace


def test_a_message_for_later_waits_so_long_without_an_attempt_or_quota(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=2)

    def answer(claim: Claim) -> Outcome:
        is_late = claim.lead_id == 2 and len(sender.waves) == 1
        return Later("10 a minute to example.com", 600.4) if is_late else Sent()

    sender = AnsweringSender(answer)
    summary = drain(dsn, sender)
    assert (summary.sent, summary.retried, summary.waiting) == (2, 0, 1)
    assert standing_of(conn)["quota"] == (1, 2)
    (row,) = conn.execute(
        "select attempts, extract(epoch from not_before - clock_timestamp())::float8,"
        f" extract(epoch from vt - clock_timestamp())::float8, error from hyperdrip.message"
        f' join pgmq."q_{QUEUE}" on msg_id = envelope_id'
        " where lead_id = 2 and number = 1"
    ).fetchall()
    attempts, wait, hidden, error = row
    assert (attempts, error) == (0, None)
    assert 590 < wait <= 601
    assert abs(wait - hidden) < 5
    assert_audit_ok(conn)
    # The second message never overtakes the first.
    for day in ("2024-01-16", "2024-01-17", "2024-01-18"):
        clock = SetClock(f"{day}T09:00:00Z")
        drain(dsn, sender, clock=clock)
        for name in queue.list_names(conn):
            show_all(conn, name)
        drain(dsn, sender, clock=clock)
    of_two = [claim.number for claim in sender.handed_over if claim.lead_id == 2]
    assert of_two == [1, 1, 2]
    assert_audit_ok(conn)


@pytest.mark.parametrize("seconds", [-5.0, 0.0, float("nan"), float("inf"), 1e300])
def test_a_pace_that_makes_no_sense_is_a_second_or_a_day(
    conn: psycopg.Connection, dsn: str, seconds: float
) -> None:
    add_leads(conn, 1, messages=1)
    with closing(make_worker(dsn, AnsweringSender(lambda _: Later("", seconds)))) as worker:
        assert worker.step()
        worker.stop.set()
        worker.run()
    (row,) = conn.execute(
        "select extract(epoch from not_before - clock_timestamp())::float8 from hyperdrip.message"
    ).fetchall()
    assert 0 < row[0] <= 86_400
    assert (row[0] > 1) is (seconds > 1)
    assert_audit_ok(conn)


# An address that nobody has


def suppressed(conn: psycopg.Connection) -> dict[str, str]:
    return dict(conn.execute("select email_key, reason from hyperdrip.suppression").fetchall())


def test_a_dead_address_is_suppressed_with_the_reason_and_its_lead_fails(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 4, messages=3)
    conn.execute("update hyperdrip.lead set email = 'L' || id || '@Example.com'")

    def suppress_meanwhile(claim: Claim) -> None:
        if claim.lead_id == 2:
            conn.execute("insert into hyperdrip.suppression values ('l2@example.com', 'by hand')")

    def answer(claim: Claim) -> Outcome:
        if claim.lead_id == 4:
            return Sent()
        return Failed("550 5.1.1\r\nnobody\0 here", is_address_dead=claim.lead_id != 3)

    sender = AnsweringSender(answer, before=suppress_meanwhile)
    assert drain(dsn, sender).failed == 3
    # Those that were suppressed already keep their reason; a refused message alone says nothing.
    said = "550 5.1.1 nobody here"
    assert suppressed(conn) == {"l1@example.com": f"bounced: {said}", "l2@example.com": "by hand"}
    found = [leads.require_lead(conn, str(lead_id)) for lead_id in (1, 2, 3, 4)]
    assert [(lead.status, lead.status_reason) for lead in found] == [
        ("FAILED", said),
        ("FAILED", said),
        ("FAILED", said),
        ("ACTIVE", None),
    ]
    assert count_states(conn) == {"failed": 3, "cancelled": 6, "sent": 1, "planned": 2}
    assert standing_of(conn)["quota"] == (0, 1)
    assert_audit_ok(conn)


def test_a_finish_that_comes_too_late_suppresses_nobody(conn: psycopg.Connection, dsn: str) -> None:
    add_leads(conn, 1, messages=1)

    def let_another_send(_: Claim) -> None:
        show_all(conn, QUEUE)
        assert drain(dsn, AnsweringSender(name="null"), on_unknown="resend").sent == 1

    late = AnsweringSender(
        lambda claim: let_another_send(claim) or Failed("550 5.1.1", is_address_dead=True)
    )
    drain(dsn, late)
    assert suppressed(conn) == {}
    assert count_states(conn) == {"sent": 1}
    assert leads.require_lead(conn, "1").status == "COMPLETED"
    assert_audit_ok(conn)


# The date of a message


def test_a_message_has_the_date_of_its_first_attempt_at_every_attempt(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 1, messages=1)
    clock = SetClock()
    began = clock.now
    outcomes: list[Outcome] = [
        Refused("421"), Later("", 1), Unwritten("no company"), Retry("451"), Refused("421"),
        Retry("451"), Unknown("died"), Refused("421"), Sent(),
    ]  # fmt: skip
    for minute, outcome in enumerate(outcomes, start=1):
        clock.now += timedelta(minutes=1)
        sender = AnsweringSender(lambda _, outcome=outcome: outcome)
        with closing(make_worker(dsn, sender, clock=clock)) as worker:
            worker.step()
            worker.stop.set()
            worker.run()
        (claim,) = sender.handed_over
        # As long as nothing was an attempt, each claim is the first one.
        assert claim.first_claimed_at == began + timedelta(minutes=min(minute, 4))
        standing.resume_leads(conn, clock, [1], with_email=True)
        reconciling.send_again(conn, clock, Which(), with_email=True)
        for name in queue.list_names(conn):
            show_all(conn, name)
    assert count_states(conn) == {"sent": 1}
    assert_audit_ok(conn)


def test_a_claim_whose_reply_was_lost_has_the_same_date(conn: psycopg.Connection, dsn: str) -> None:
    add_leads(conn, 1, messages=1)
    found: list[Claim] = []

    def look_up(claim: Claim) -> Outcome:
        found.append(claim)
        (row,) = conn.execute("select worker, envelope_id from hyperdrip.message").fetchall()
        worker, envelope_id = row
        found.extend(ledger.list_claimed(conn, [envelope_id], day=claim.day, worker=worker))
        return Retry("451")

    clock = SetClock()
    for _ in range(2):
        drain(dsn, AnsweringSender(look_up), clock=clock)
        clock.now += timedelta(minutes=1)
        show_all(conn, QUEUE)
    assert found[0::2] == found[1::2]
    assert len({claim.first_claimed_at for claim in found}) == 1
