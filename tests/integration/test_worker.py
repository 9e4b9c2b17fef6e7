"""The worker's loop: quota, outcomes, fences, spacing, stopping."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest

from hyperdrip import Hyperdrip, delivery, dispatch, leads, ledger, pacing, queue, standing
from hyperdrip import instance as instances
from hyperdrip.domain_limits import parse_domain_limits
from hyperdrip.errors import SettingsError
from hyperdrip.models import Claim, Lead, Message, WorkerSummary
from hyperdrip.queue import Address
from hyperdrip.senders import Failed, Later, Outcome, Refused, Retry, Sent, Unknown
from hyperdrip.senders.console import ConsoleSender
from hyperdrip.signals import Stop
from tests.factories import (
    MONDAY,
    AnsweringSender,
    SetClock,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    envelope_ids,
    make_worker,
    show_all,
    wait_until,
    work,
)

QUEUE = "test-drip-messages-2024-01-15"
TUESDAY = MONDAY + timedelta(days=1)


def require_lead(conn: psycopg.Connection, lead_id: int) -> Lead:
    return leads.require_lead(conn, str(lead_id))


def messages_of(conn: psycopg.Connection, lead_id: int) -> list[Message]:
    return ledger.list_lead_messages(conn, [lead_id])


def quota_of(conn: psycopg.Connection, day: date = MONDAY) -> tuple[int, int]:
    """What is reserved and what is sent."""
    query = "select reserved, sent from hyperdrip.quota_day where day = %s"
    found = conn.execute(query, [day]).fetchone()
    assert found is not None
    return found


def lease_seconds(conn: psycopg.Connection, envelope_id: int) -> float:
    """How long an envelope of Monday stays hidden."""
    found = conn.execute(
        "select extract(epoch from vt - clock_timestamp())::float8"
        f' from pgmq."q_{QUEUE}" where msg_id = %s',
        [envelope_id],
    ).fetchone()
    assert found is not None
    return found[0]


# Quota


def test_a_wave_of_500_against_a_quota_of_100_sends_exactly_100(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 200)
    add_leads(conn, 200, messages=1)
    instances.set_daily_max(conn, 100)
    sender = AnsweringSender(wave_size=500)
    summary = drain(dsn, sender)
    assert sender.waves == [100]
    assert len(set(sender.keys)) == 100
    assert (summary.sent, summary.waiting, summary.quota_reached) == (100, 100, True)
    assert quota_of(conn) == (100, 100)
    assert_audit_ok(conn)


def test_a_raised_limit_lets_more_go_today_and_a_lowered_one_none(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 200)
    add_leads(conn, 200, messages=1)
    sent = []
    for limit in (100, 150, 120, 1, 160):
        instances.set_daily_max(conn, limit)
        sent.append(work(dsn).sent)
        assert_audit_ok(conn)
    assert sent == [100, 50, 0, 0, 10]
    # What did not fit goes on the next day, and a limit lowered later does not condemn this one.
    instances.set_daily_max(conn, 30)
    assert drain(dsn, clock=SetClock("2024-01-16T00:00:00Z")).sent == 30
    assert count_states(conn, TUESDAY + timedelta(days=1)) == {"planned": 10}
    assert_audit_ok(conn)


def test_a_day_with_a_capacity_of_its_own_ignores_the_daily_maximum(
    conn: psycopg.Connection, dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    drip().set_capacity([MONDAY], 7)
    add_leads(conn, 10, messages=1)
    assert drain(dsn).sent == 7
    assert count_states(conn, TUESDAY) == {"planned": 3}
    assert_audit_ok(conn)


# Outcomes


def test_a_message_to_retry_waits_out_its_backoff_and_gives_its_quota_back(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    summary = drain(dsn, AnsweringSender(lambda _: Retry("451 later")))
    assert (summary.retried, summary.sent, summary.waiting) == (1, 0, 1)
    first = messages_of(conn, lead_id)[0]
    assert (first.state, first.attempts, first.error) == ("planned", 1, "451 later")
    assert quota_of(conn) == (1, 0)
    # A minute and a fifth more, on the server's clock; until then nobody reads it.
    (envelope_id,) = envelope_ids(conn, QUEUE)
    assert 60 < lease_seconds(conn, envelope_id) <= 72
    assert summary.next_attempt_at is not None
    assert first.not_before is not None
    assert abs(summary.next_attempt_at - first.not_before) < timedelta(seconds=2)
    assert drain(dsn).sent == 0
    assert_audit_ok(conn)

    show_all(conn, QUEUE)
    assert drain(dsn).sent == 1
    first = messages_of(conn, lead_id)[0]
    assert (first.state, first.attempts, first.error) == ("sent", 2, None)
    assert_audit_ok(conn)


def test_a_message_that_was_tried_often_enough_fails_and_ends_its_lead(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=3).lead_ids
    sender = AnsweringSender(lambda _: Retry("451 later"))
    for _ in range(3):
        drain(dsn, sender, max_attempts=3)
        assert_audit_ok(conn)
        show_all(conn, QUEUE)
    assert [claim.attempts for claim in sender.handed_over] == [1, 2, 3]
    found = messages_of(conn, lead_id)
    assert [message.state for message in found] == ["failed", "cancelled", "cancelled"]
    assert found[0].error == "given up after 3 attempts: 451 later"
    assert require_lead(conn, lead_id).status_reason == found[0].error


def test_a_failed_message_ends_its_lead_and_frees_its_days(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 2)
    bad, good = add_leads(conn, 2, messages=3).lead_ids

    def answer(claim: Claim) -> Outcome:
        return Failed("550 no such user") if claim.lead_id == bad else Sent("provider-1")

    summary = drain(dsn, AnsweringSender(answer))
    assert (summary.sent, summary.failed) == (1, 1)
    lead = require_lead(conn, bad)
    assert (lead.status, lead.status_reason) == ("FAILED", "550 no such user")
    assert (lead.message_count, lead.next_scheduled_for) == (0, None)
    states = [message.state for message in messages_of(conn, bad)]
    assert states == ["failed", "cancelled", "cancelled"]
    assert messages_of(conn, good)[0].provider_id == "provider-1"
    # One unit of today is given back, and so are the days to come.
    assert quota_of(conn) == (0, 1)
    assert quota_of(conn, TUESDAY) == (1, 0)
    assert len(envelope_ids(conn, "test-drip-messages-2024-01-16")) == 1
    assert_audit_ok(conn)


def test_what_is_unknown_is_held_counted_and_never_sent_again(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    sender = AnsweringSender(lambda _: Unknown("the connection died"))
    assert drain(dsn, sender).unknown == 1
    first = messages_of(conn, lead_id)[0]
    assert (first.state, first.error) == ("unknown", "the connection died")
    assert quota_of(conn) == (0, 1)
    assert envelope_ids(conn, QUEUE) == []
    assert require_lead(conn, lead_id).message_count == 1
    assert_audit_ok(conn)

    sender.answer = lambda _: Sent()
    assert drain(dsn, sender, clock=SetClock("2024-01-16T09:00:00Z")).sent == 1
    assert [claim.number for claim in sender.handed_over] == [1, 2]
    assert require_lead(conn, lead_id).status == "COMPLETED"
    assert_audit_ok(conn)


def test_what_is_unknown_is_sent_again_when_told_so_and_costs_another_unit(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 5)
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    answers = iter([Unknown("died"), Unknown("died again"), Sent()])
    sender = AnsweringSender(lambda _: next(answers))
    summary = drain(dsn, sender, on_unknown="resend")
    assert len(set(sender.keys)) == 1
    assert [claim.token for claim in sender.handed_over] == [1, 2, 3]
    assert summary.sent == 1
    assert quota_of(conn) == (0, 3)
    assert require_lead(conn, lead_id).status == "COMPLETED"
    assert_audit_ok(conn)


def test_a_message_that_stays_unknown_is_sent_again_no_more_than_allowed(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    sender = AnsweringSender(lambda _: Unknown("died"), name="null")
    drain(dsn, sender, max_attempts=4)
    assert [claim.attempts for claim in sender.handed_over] == [1, 2, 3, 4]
    assert messages_of(conn, lead_id)[0].state == "unknown"
    assert quota_of(conn) == (0, 4)
    assert_audit_ok(conn)


def test_a_resend_that_finds_the_quota_used_up_waits_for_the_next_day(
    conn: psycopg.Connection, dsn: str
) -> None:
    instances.set_daily_max(conn, 1)
    add_leads(conn, 1, messages=1)
    answers = iter([Unknown("died"), Sent()])
    sender = AnsweringSender(lambda _: next(answers), name="null")
    summary = drain(dsn, sender)
    assert (len(sender.keys), summary.waiting, summary.quota_reached) == (1, 1, True)
    assert_audit_ok(conn)
    assert drain(dsn, sender, clock=SetClock("2024-01-16T09:00:00Z")).sent == 1
    assert (quota_of(conn), quota_of(conn, TUESDAY)) == ((0, 1), (0, 1))
    assert_audit_ok(conn)


def test_a_sender_that_breaks_leaves_only_what_it_was_handed_unknown(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 5, messages=1)

    def answer(_: Claim) -> Outcome:
        if len(sender.handed_over) == 3:
            raise ValueError("a bug in a plug-in")
        return Sent()

    sender = AnsweringSender(answer)
    with closing(make_worker(dsn, sender)) as worker:
        assert worker.step()
        sender.answer = lambda _: Sent()
        assert worker.run().sent == 4
    assert count_states(conn) == {"sent": 4, "unknown": 1}
    assert len(sender.keys) == 5
    assert_audit_ok(conn)


def test_a_lead_completes_with_its_last_message_and_the_log_says_what_users_know(
    conn: psycopg.Connection,
    drip: Callable[..., Hyperdrip],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lead = drip().add_lead(name="Ada", email="user@example.com", max_messages=2)
    caplog.set_level(logging.INFO, logger="hyperdrip.worker")
    for day in ("2024-01-15", "2024-01-16"):
        drip(now=f"{day}T10:00:00Z").run_worker(is_drain=True)
    assert [line for line in caplog.messages if line.startswith(("Sending", "Lead"))] == [
        "Sending message #1 to user@example.com (scheduled for 2024-01-15)",
        "Sending message #2 to user@example.com (scheduled for 2024-01-16)",
        "Lead user@example.com completed drip campaign (2/2 messages)",
    ]
    found = require_lead(conn, lead.id)
    assert (found.status, found.message_count, found.next_scheduled_for) == ("COMPLETED", 2, None)
    assert found.last_sent_at is not None
    assert f"{found.last_sent_at:%Y-%m-%d %H:%M}" == "2024-01-16 10:00"


def test_addresses_stay_out_of_the_log_when_they_are_to(
    drip: Callable[..., Hyperdrip], caplog: pytest.LogCaptureFixture
) -> None:
    drip().add_lead(name="Ada", email="user@example.com", max_messages=1)
    caplog.set_level(logging.DEBUG)
    drip(LOG_ADDRESSES="false").run_worker(is_drain=True)
    assert "Sending message #1 to lead_1 (scheduled for 2024-01-15)" in caplog.messages
    assert "user@example.com" not in caplog.text


@pytest.mark.parametrize("status", ["PAUSED", "STOPPED", "FAILED", "COMPLETED"])
def test_only_active_leads_are_written_to_whoever_changed_the_status(
    conn: psycopg.Connection, dsn: str, status: str
) -> None:
    """Somebody's own SQL may change the status alone: that is enough to silence a lead."""
    silenced, active = add_leads(conn, 2, messages=1).lead_ids
    conn.execute("update hyperdrip.lead set status = %s where id = %s", [status, silenced])
    sender = AnsweringSender()
    assert work(dsn, sender).sent == 1
    assert [claim.lead_id for claim in sender.handed_over] == [active]


def test_what_was_to_go_again_and_never_did_says_what_came_of_it_the_first_time(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    outcomes: list[Outcome] = [Unknown("the line was lost"), Refused("421"), Later("a pace", 5)]
    for outcome in outcomes:
        sender = AnsweringSender(lambda _, outcome=outcome: outcome)
        with closing(make_worker(dsn, sender, on_unknown="resend")) as worker:
            worker.step()
            worker.stop.set()
            worker.run()
        (message,) = messages_of(conn, lead_id)
        assert (message.state, message.error) == ("planned", "the line was lost")
        show_all(conn, QUEUE)
    standing.stop_leads(conn, SetClock(), [lead_id], reason="enough")
    (message,) = messages_of(conn, lead_id)
    assert (message.state, message.error) == ("cancelled", "the line was lost")
    assert_audit_ok(conn)


def test_messages_that_stay_blocked_keep_no_drain_from_ending(
    conn: psycopg.Connection, dsn: str
) -> None:
    *silenced, active = add_leads(conn, 5, messages=1).lead_ids
    conn.execute("update hyperdrip.lead set status = 'PAUSED' where id = any(%s)", [silenced])
    sender = AnsweringSender(wave_size=1)
    with closing(make_worker(dsn, sender)) as worker:
        # Each is looked at once, and what stands behind them is sent.
        assert [worker.step() for _ in range(6)] == [True] * 5 + [False]
        for _ in range(2):
            show_all(conn, QUEUE)
            assert not worker.step()
        assert worker.summary().waiting == 4
    assert [claim.lead_id for claim in sender.handed_over] == [active]


def test_a_suppressed_address_is_not_written_to_and_its_lead_stops(
    conn: psycopg.Connection, dsn: str
) -> None:
    blocked, free = add_leads(conn, 2, messages=3).lead_ids
    email = require_lead(conn, blocked).email
    conn.execute("insert into hyperdrip.suppression values (%s, 'unsubscribed')", [email])
    sender = AnsweringSender()
    summary = drain(dsn, sender)
    assert (summary.sent, summary.skipped) == (1, 1)
    assert [claim.lead_id for claim in sender.handed_over] == [free]
    lead = require_lead(conn, blocked)
    assert (lead.status, lead.status_reason) == ("STOPPED", "suppressed")
    assert {message.state for message in messages_of(conn, blocked)} == {"cancelled"}
    assert_audit_ok(conn)


@pytest.mark.parametrize(("operation", "state"), [("pause", "planned"), ("stop", "cancelled")])
def test_a_message_to_retry_of_a_lead_paused_meanwhile_goes_back_without_a_day(
    conn: psycopg.Connection, dsn: str, operation: str, state: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    clock = SetClock()

    def answer(_: Claim) -> Outcome:
        if operation == "pause":
            standing.pause_leads(conn, clock, [lead_id], reason=None)
        else:
            standing.stop_leads(conn, clock, [lead_id], reason="replied")
        # What is being sent is not touched.
        assert messages_of(conn, lead_id)[0].state == "sending"
        return Retry("451 later")

    assert drain(dsn, AnsweringSender(answer), clock=clock).retried == 1
    found = [(message.state, message.day) for message in messages_of(conn, lead_id)]
    assert found == [(state, None)] * 2
    assert quota_of(conn) == (0, 0)
    assert envelope_ids(conn, QUEUE) == []
    assert_audit_ok(conn)


def test_envelopes_that_point_nowhere_are_archived_and_the_body_is_never_trusted(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    for body in ('{"leadId": "lead_999"}', '{"leadId": "lead_1", "messageNumber": "x"}', "7"):
        conn.execute("select pgmq.send(%s, %s::jsonb)", [QUEUE, body])
    # One more for a message that has its envelope, and an address that is not the lead's.
    conn.execute(
        "select pgmq.send(%s, %s::jsonb, headers => '{\"run\": 1}'::jsonb)",
        [QUEUE, f'{{"leadId": "lead_{lead_id}", "email": "x@example.com", "messageNumber": 1}}'],
    )
    conn.execute(
        f"""update pgmq."q_{QUEUE}" set message = message || '{{"email": "x@example.com"}}'
        where msg_id = 1"""
    )
    sender = AnsweringSender()
    assert work(dsn, sender).sent == 1
    assert [claim.email for claim in sender.handed_over] == [require_lead(conn, lead_id).email]
    assert envelope_ids(conn, QUEUE) == []
    assert_audit_ok(conn)


# Fences


def test_a_stale_worker_finishes_nothing_and_one_stale_row_costs_the_others_nothing(
    conn: psycopg.Connection, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_leads(conn, 3, messages=1)
    other = AnsweringSender(name="null")

    def lose_the_second(claim: Claim) -> None:
        if claim.number == 1 and len(sender.handed_over) == 2 and not other.keys:
            lost = sender.handed_over[1]
            query = "select pgmq.set_vt(%s::text, %s::bigint, -1)"
            conn.execute(query, [QUEUE, lost.envelope_id])
            assert work(dsn, other).sent == 1

    sender = AnsweringSender(name="null", before=lose_the_second)
    summary = drain(dsn, sender)
    assert (summary.sent, summary.skipped) == (2, 1)
    assert [claim.token for claim in other.handed_over] == [2]
    assert "Message #1 of lead_2 was settled elsewhere" in caplog.messages
    assert count_states(conn) == {"sent": 3}
    assert quota_of(conn) == (0, 4)
    assert_audit_ok(conn)


@pytest.mark.parametrize("outcome", [Sent(), Retry("451"), Failed("550"), Unknown("died")])
def test_a_stale_worker_leaves_alone_what_another_has_in_flight(
    conn: psycopg.Connection, dsn: str, outcome: Outcome
) -> None:
    ids = add_leads(conn, 3, messages=2).lead_ids
    stale_sender = AnsweringSender(lambda _: outcome, name="null")
    with closing(make_worker(dsn, stale_sender)) as stale:

        def let_the_stale_one_finish(_: Claim) -> None:
            if not stale.summary().skipped:
                stale.step()
            found = [messages_of(conn, lead_id)[0] for lead_id in ids]
            assert [(message.state, message.token) for message in found] == [("sending", 2)] * 3

        # It hands three messages over, and finishes them with its next step only.
        assert stale.step()
        show_all(conn, QUEUE)
        assert work(dsn, AnsweringSender(before=let_the_stale_one_finish)).sent == 3
        assert stale.summary().skipped == 3
    assert count_states(conn, MONDAY) == {"sent": 3}
    assert [require_lead(conn, lead_id).message_count for lead_id in ids] == [1, 1, 1]
    assert_audit_ok(conn)


def test_a_late_truth_wins_over_unknown_and_counts_once(conn: psycopg.Connection, dsn: str) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids

    def lose_the_lease(_: Claim) -> Outcome:
        show_all(conn, QUEUE)
        assert drain(dsn, AnsweringSender()).unknown == 1
        assert require_lead(conn, lead_id).status == "COMPLETED"
        return Sent("late")

    assert drain(dsn, AnsweringSender(lose_the_lease)).sent == 1
    first = messages_of(conn, lead_id)[0]
    assert (first.state, first.provider_id, first.token) == ("sent", "late", 1)
    assert require_lead(conn, lead_id).message_count == 1
    assert quota_of(conn) == (0, 1)
    assert_audit_ok(conn)


@pytest.mark.parametrize("outcome", [Retry("451"), Failed("550"), Unknown("died")])
def test_only_a_sent_message_overrules_unknown(
    conn: psycopg.Connection, dsn: str, outcome: Outcome
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids

    def lose_the_lease(_: Claim) -> Outcome:
        show_all(conn, QUEUE)
        drain(dsn, AnsweringSender())
        return outcome

    drain(dsn, AnsweringSender(lose_the_lease))
    assert messages_of(conn, lead_id)[0].state == "unknown"
    assert require_lead(conn, lead_id).status == "COMPLETED"
    assert_audit_ok(conn)


class BrokenClaim:
    """Makes the claim of a lead's message fail inside its transaction."""

    def __init__(self, conn: psycopg.Connection, lead_id: int, *, how: str) -> None:
        # A sequence does not roll back: the claim breaks once, and works when it is repeated.
        conn.execute("create sequence breaks")
        conn.execute(
            f"""
            create function break_claim() returns trigger language plpgsql security definer as $$
            begin
                if nextval('breaks') = 1 then {how}; end if;
                return new;
            end $$;
            create trigger break_claim before update on hyperdrip.message for each row
            when (new.state = 'sending' and new.lead_id = {lead_id})
            execute function break_claim();
            """
        )


def test_a_message_that_the_claim_left_as_it_was_is_not_sent(
    conn: psycopg.Connection, dsn: str
) -> None:
    ids = add_leads(conn, 3, messages=1).lead_ids
    conn.execute(
        f"""
        create function leave_it() returns trigger language plpgsql as 'begin return null; end';
        create trigger leave_it before update on hyperdrip.message for each row
        when (new.state = 'sending' and new.lead_id = {ids[1]}) execute function leave_it();
        """
    )
    sender = AnsweringSender()
    with closing(make_worker(dsn, sender)) as worker:
        worker.step()
    assert [claim.lead_id for claim in sender.handed_over] == [ids[0], ids[2]]
    conn.execute("drop trigger leave_it on hyperdrip.message")
    show_all(conn, QUEUE)
    drain(dsn, sender)
    assert sorted(claim.lead_id for claim in sender.handed_over) == list(ids)
    assert_audit_ok(conn)


def test_a_finish_is_repeated_alone_when_the_claim_beside_it_fails(
    conn: psycopg.Connection, dsn: str
) -> None:
    ids = add_leads(conn, 4, messages=1).lead_ids
    BrokenClaim(conn, ids[2], how="raise exception 'the claim is broken'")
    sender = AnsweringSender(wave_size=2)
    with closing(make_worker(dsn, sender)) as worker:
        with pytest.raises(psycopg.errors.RaiseException, match="the claim is broken"):
            worker.run()
        states = [messages_of(conn, lead_id)[0].state for lead_id in ids]
        assert states == ["sent", "sent", "planned", "planned"]
        assert worker.summary().sent == 2
    assert_audit_ok(conn)
    show_all(conn, QUEUE)
    assert drain(dsn, sender).sent == 2
    assert len(set(sender.keys)) == len(sender.keys) == 4


def test_a_backend_killed_between_finish_and_claim_loses_and_repeats_nothing(
    conn: psycopg.Connection, dsn: str
) -> None:
    ids = add_leads(conn, 4, messages=1).lead_ids
    BrokenClaim(conn, ids[2], how="perform pg_terminate_backend(pg_backend_pid())")
    sender = AnsweringSender(wave_size=2)
    # What the killed claim had read is visible again after a second.
    summary = drain(dsn, sender, vt_seconds=1)
    assert (summary.sent, summary.unknown, summary.skipped) == (4, 0, 0)
    assert len(set(sender.keys)) == len(sender.keys) == 4
    assert_audit_ok(conn)


class LossyConnection(psycopg.Connection):
    """Loses the server after the commit of one transaction: the reply never comes."""

    lost_transaction: int
    committed: ClassVar[int] = 0

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction
        type(self).committed += 1
        if self.committed == self.lost_transaction:
            self.close()
            raise psycopg.OperationalError("the reply to a commit was lost")


# Transactions of this worker: claim, finish and claim, finish and claim, finish.
@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_commit_whose_reply_is_lost_is_neither_repeated_nor_forgotten(
    conn: psycopg.Connection, dsn: str, lost: int
) -> None:
    add_leads(conn, 6, messages=1)

    class Lossy(LossyConnection):
        lost_transaction = lost

    def connect_lossily() -> psycopg.Connection:
        return Lossy.connect(dsn, autocommit=True, prepare_threshold=None)

    sender = AnsweringSender(name="smtp", wave_size=2)
    worker = make_worker(dsn, sender, connect=connect_lossily)
    with closing(worker):
        summary = worker.run()
    assert Lossy.committed > lost
    assert (summary.sent, summary.unknown, summary.skipped) == (6, 0, 0)
    assert len(set(sender.keys)) == len(sender.keys) == 6
    assert quota_of(conn) == (0, 6)
    assert_audit_ok(conn)


def test_a_lease_is_extended_only_for_messages_that_are_still_ours(
    conn: psycopg.Connection, dsn: str
) -> None:
    ids = add_leads(conn, 3, messages=1).lead_ids

    def extend(claim: Claim) -> None:
        if claim.lead_id != ids[0]:
            return
        conn.execute("update hyperdrip.message set token = token + 1 where lead_id = %s", [ids[1]])
        with psycopg.connect(dsn, autocommit=True) as other:
            claims = ledger.list_claimed(other, range(1, 4), day=MONDAY, worker=1)
            stale = [mine._replace(token=1) if mine.lead_id == ids[1] else mine for mine in claims]
            assert delivery.extend(other, "test", stale, vt_seconds=1000) == 2
        seconds = [lease_seconds(conn, mine.envelope_id) for mine in claims]
        assert [round(left, -3) for left in seconds] == [1000, 0, 1000]
        conn.execute("update hyperdrip.message set token = token - 1 where lead_id = %s", [ids[1]])

    assert drain(dsn, AnsweringSender(before=extend)).sent == 3
    assert_audit_ok(conn)


def test_a_long_wave_extends_the_lease_of_what_still_waits(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=1)
    leases: list[float] = []

    def take_time(claim: Claim) -> None:
        last = envelope_ids(conn, QUEUE)[-1]
        leases.append(lease_seconds(conn, last))
        if claim.lead_id == 1:
            wait_until(lambda: lease_seconds(conn, last) < 1.2)

    sender = AnsweringSender(before=take_time)
    assert drain(dsn, sender, vt_seconds=2).sent == 3
    assert leases[1] > 1.5
    assert count_states(conn) == {"sent": 3}


def test_nothing_is_handed_over_after_its_lease_has_run_out(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=1)

    def be_too_slow(claim: Claim) -> None:
        if claim.attempts == 1 and claim.lead_id == 2 and not other.keys:
            wait_until(lambda: lease_seconds(conn, claim.envelope_id) < 0)
            assert drain(dsn, other, vt_seconds=1).sent == 3

    other = AnsweringSender(name="null")
    sender = AnsweringSender(before=be_too_slow, name="null")
    # Another worker found all three without an owner, and could not know that one was sent.
    drain(dsn, sender, vt_seconds=1)
    assert sender.keys == ["lead_1-1-1"]
    assert other.keys == ["lead_1-1-1", "lead_2-1-1", "lead_3-1-1"]
    assert count_states(conn) == {"sent": 3}
    assert_audit_ok(conn)


def test_a_claim_waits_for_nobody_and_leaves_alone_what_somebody_else_has_locked(
    conn: psycopg.Connection, dsn: str
) -> None:
    ids = add_leads(conn, 3, messages=1).lead_ids
    sender = AnsweringSender()
    with closing(make_worker(dsn, sender)) as worker:
        worker.begin()
        with closing(psycopg.connect(dsn)) as other:
            ledger.lock_planned(other, [ids[1]])
            assert worker.step()
            assert [claim.lead_id for claim in sender.handed_over] == [ids[0], ids[2]]
            assert not worker.step()
            assert [lease_seconds(conn, e) > 0 for e in envelope_ids(conn, QUEUE)] == [True]
            other.rollback()  # a server notices by and by that a connection is closed
        # Not only when its lease is over, which may be long.
        assert worker.step()
        assert not worker.step()
    assert [claim.lead_id for claim in sender.handed_over] == [ids[0], ids[2], ids[1]]
    assert count_states(conn) == {"sent": 3}
    assert_audit_ok(conn)


def test_a_draining_worker_waits_for_another_no_longer_than_that_one_takes(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 1, messages=1)
    started = time.monotonic()
    summaries: list[WorkerSummary] = []
    # It finds nothing but what the other has in its hands, and may come due in 30 s.
    stop = WatchedStop(conn)
    waiting = threading.Thread(target=lambda: summaries.append(drain(dsn, stop=stop)))

    def let_another_wait(_: Claim) -> None:
        waiting.start()
        wait_until(lambda: bool(stop.seen))

    assert drain(dsn, AnsweringSender(before=let_another_wait)).sent == 1
    waiting.join()
    assert summaries[0].sent == 0
    assert time.monotonic() - started < 10


# Spacing and stopping


class WatchedStop(Stop):
    """Records what the ledger says whenever a worker waits."""

    def __init__(self, conn: psycopg.Connection) -> None:
        super().__init__()
        self._conn = conn
        self.seen: list[dict[str, int]] = []

    def wait(self, seconds: float) -> bool:
        self.seen.append(count_states(self._conn))
        return super().wait(seconds)


def test_the_pause_between_messages_comes_before_the_claim(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 3, messages=1)
    stop = WatchedStop(conn)
    times: list[float] = []
    sender = AnsweringSender(before=lambda _: times.append(time.monotonic()))
    assert drain(dsn, sender, message_delay_ms=100, stop=stop).sent == 3
    assert sender.waves == [1, 1, 1]
    assert min(later - sooner for sooner, later in pairwise(times)) >= 0.1
    # While it waits nothing is in flight, and what was sent is settled.
    assert {frozenset(seen.items()) for seen in stop.seen} == {
        frozenset({("sent", 1), ("planned", 2)}),
        frozenset({("sent", 2), ("planned", 1)}),
    }


class Restless(Stop):
    """Ends a worker that would wait."""

    def wait(self, seconds: float) -> bool:
        self.set()
        return super().wait(seconds)


def test_messages_that_wait_for_the_pace_of_their_domain_cost_no_pause(
    conn: psycopg.Connection, dsn: str
) -> None:
    *_, last = add_leads(conn, 6, messages=1).lead_ids
    conn.execute(
        "update hyperdrip.lead set email = 'l' || id || '@slow.example' where id <> %s", [last]
    )
    limits = parse_domain_limits("DOMAIN_LIMITS", "slow.example=1/h")
    assert pacing.reserve(conn, limits, ["first@slow.example"]).waits == [None]
    sender = AnsweringSender()
    options = {"message_delay_ms": 60_000, "is_drain": False}
    with closing(make_worker(dsn, sender, stop=Restless(), **options)) as worker:
        worker._dispatcher.domain_limits = limits
        worker.run()
    assert sender.keys == [f"lead_{last}-1-1"]
    assert count_states(conn) == {"sent": 1, "planned": 5}
    assert_audit_ok(conn)


def test_a_worker_told_to_stop_gives_back_what_it_has_not_handed_over(
    conn: psycopg.Connection, dsn: str
) -> None:
    add_leads(conn, 50, messages=1)
    stop = Stop()

    def stop_at_the_third(_: Claim) -> None:
        if len(sender.handed_over) == 3:
            stop.set()

    sender = AnsweringSender(before=stop_at_the_third)
    summary = drain(dsn, sender, stop=stop, is_drain=False)
    assert (summary.sent, summary.unknown, summary.retried, summary.waiting) == (3, 0, 0, 47)
    assert count_states(conn) == {"sent": 3, "planned": 47}
    assert quota_of(conn) == (47, 3)
    query = "select max(attempts) from hyperdrip.message where state = 'planned'"
    assert conn.execute(query).fetchone() == (0,)
    assert_audit_ok(conn)
    # The leases are given back: the next worker need not wait.
    other = AnsweringSender()
    assert drain(dsn, other).sent == 47
    assert not set(other.keys) & set(sender.keys)


def test_a_pause_of_the_whole_instance_takes_effect_before_the_next_hand_over(
    conn: psycopg.Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_CHECK_SECONDS", 0.0)
    add_leads(conn, 10, messages=1)

    def pause_at_the_fourth(_: Claim) -> None:
        if len(sender.handed_over) == 4:
            instances.set_paused(conn, is_paused=True)

    sender = AnsweringSender(before=pause_at_the_fourth)
    assert drain(dsn, sender).sent == 4
    assert drain(dsn, sender).sent == 0
    assert count_states(conn) == {"sent": 4, "planned": 6}
    assert_audit_ok(conn)
    instances.set_paused(conn, is_paused=False)
    sender.before = lambda _: None
    assert drain(dsn, sender).sent == 6
    assert len(set(sender.keys)) == len(sender.keys) == 10


def test_a_paused_campaign_sends_nothing_and_others_go_on(
    conn: psycopg.Connection, dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    conn.execute("insert into hyperdrip.campaign (name, version) values ('spring', 1)")
    one = drip()
    one.add_lead(name="Ada", email="ada@example.com", campaign="spring", max_messages=1)
    one.add_lead(name="Bob", email="bob@example.com", max_messages=1)
    conn.execute("update hyperdrip.campaign set is_paused = true where name = 'spring'")
    sender = AnsweringSender()
    with closing(make_worker(dsn, sender, is_drain=False)) as worker:
        assert worker.step()
        assert not worker.step()
    assert [claim.email for claim in sender.handed_over] == ["bob@example.com"]
    assert_audit_ok(conn)
    conn.execute("update hyperdrip.campaign set is_paused = false where name = 'spring'")
    show_all(conn, QUEUE)
    assert drain(dsn, sender).sent == 1


def test_a_message_waits_while_a_lower_number_of_its_run_is_open(
    conn: psycopg.Connection, dsn: str
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    conn.execute("select pgmq.set_vt(%s::text, 1::bigint, 100)", [QUEUE])
    # A hand-made contradiction: the second message is due today, too, and its envelope is visible.
    (envelope_id,) = queue.send_batch(conn, QUEUE, [Address(lead_id, 1, 2, "")])
    conn.execute(
        "update hyperdrip.message set day = %s, envelope_id = %s where number = 2",
        [MONDAY, envelope_id],
    )
    conn.execute("update hyperdrip.quota_day set reserved = 2 where day = %s", [MONDAY])
    sender = AnsweringSender()
    assert work(dsn, sender).sent == 0
    show_all(conn, QUEUE)
    assert work(dsn, sender).sent == 1
    show_all(conn, QUEUE)
    assert work(dsn, sender).sent == 1
    assert [claim.number for claim in sender.handed_over] == [1, 2]


def test_a_worker_whose_sender_nobody_chose_refuses_to_change_it(
    conn: psycopg.Connection, dsn: str, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 2, messages=1)
    drip(SENDER="null").run_worker(is_drain=True)
    assert instances.require_instance(conn).last_sender == "null"
    with pytest.raises(SettingsError, match="last sent with 'null'"):
        drip().run_worker(is_drain=True)
    drip(SENDER="console").run_worker(is_drain=True)
    assert instances.require_instance(conn).last_sender == "null", "nothing was sent by it yet"
    add_leads(conn, 1, messages=1)
    assert drain(dsn, ConsoleSender()).sent == 1
    assert instances.require_instance(conn).last_sender == "console"


def test_a_worker_stores_an_explicit_daily_maximum_and_says_so(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip], caplog: pytest.LogCaptureFixture
) -> None:
    add_leads(conn, 3, messages=1)
    assert drip(DAILY_MAX=2).run_worker(is_drain=True).sent == 2
    assert "Daily maximum changed from 100 to 2" in caplog.messages
    assert instances.require_instance(conn).daily_max == 2
    assert drip().run_worker(is_drain=True).sent == 0
    assert_audit_ok(conn)


def count_open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_worker_that_has_ended_leaves_no_file_open(
    conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    add_leads(conn, 1, messages=1)
    library = drip()
    gc.disable()  # it must not take a search for cycles, which comes late in a large process
    try:
        before = count_open_files()
        for _ in range(3):
            library.run_worker(is_drain=True)
        assert count_open_files() == before
    finally:
        gc.enable()
