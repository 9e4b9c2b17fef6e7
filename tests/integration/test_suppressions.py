"""Who must not be written to gets nothing more: suppressions, and unsubscribing by any road."""

import re
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hyperdrip import (
    Hyperdrip,
    erasing,
    leads,
    ledger,
    queue,
    standing,
    suppressing,
    suppressions,
)
from hyperdrip.db import connect
from hyperdrip.errors import InvalidDataError, NotFoundError, SettingsError
from hyperdrip.models import Claim, Mail, Suppressed
from hyperdrip.senders import Failed, Outcome, Retry, Sent, Unknown
from hyperdrip.suppression_files import read_addresses
from hyperdrip.unsubscribing import sign
from tests.factories import (
    AnsweringSender,
    SetClock,
    Watch,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    make_settings,
    make_worker,
    wait_until,
)

Open = Callable[..., Hyperdrip]
KEY = "first-key-0123456789"
OLD = "older-key-0123456789"


def status_of(conn: psycopg.Connection, lead_id: int) -> tuple[str, str | None]:
    row = conn.execute(
        "select status, status_reason from hyperdrip.lead where id = %s", [lead_id]
    ).fetchone()
    assert row is not None
    return row


def suppressed(conn: psycopg.Connection) -> dict[str, str]:
    return dict(conn.execute("select email_key, reason from hyperdrip.suppression").fetchall())


def reserved(conn: psycopg.Connection) -> int:
    row = conn.execute("select coalesce(sum(reserved), 0) from hyperdrip.quota_day").fetchone()
    assert row is not None
    return int(row[0])


def test_a_suppressed_address_loses_what_was_planned_at_once(
    conn: psycopg.Connection, drip: Open
) -> None:
    first, second = add_leads(conn, 2, messages=3).lead_ids
    email = drip().require_lead(str(first)).email
    done = drip().suppress([email.upper(), "Stranger@Example.com"], reason="asked by phone")
    assert (done.added, done.known) == ((email.lower(), "stranger@example.com"), 0)
    assert (done.stopped, done.cancelled) == ((first,), 3)
    assert status_of(conn, first) == ("STOPPED", "suppressed: asked by phone")
    assert status_of(conn, second) == ("ACTIVE", None)
    assert suppressed(conn) == dict.fromkeys([email, "stranger@example.com"], "asked by phone")
    assert reserved(conn) == 3
    assert len([1 for name in queue.list_names(conn) for _ in envelopes(conn, name)]) == 3
    again = drip().suppress([email], reason="once more")
    assert (again.added, again.known, again.stopped) == ((), 1, ())
    assert suppressed(conn)[email] == "asked by phone"
    assert_audit_ok(conn)


def envelopes(conn: psycopg.Connection, name: str) -> list[tuple[int]]:
    return conn.execute(f'select msg_id from pgmq."q_{name}"').fetchall()


def test_a_dry_run_says_the_same_and_writes_nothing(conn: psycopg.Connection, drip: Open) -> None:
    (lead_id,) = add_leads(conn, 1, messages=3).lead_ids
    email = drip().require_lead(str(lead_id)).email
    done = drip().suppress([email], is_dry_run=True)
    assert (done.added, done.stopped, done.cancelled) == ((email,), (lead_id,), 3)
    assert suppressed(conn) == {}
    assert count_states(conn) == {"planned": 3}


@pytest.mark.parametrize("is_dry_run", [False, True])
def test_a_long_list_leaves_room_for_others_and_comes_to_the_same(
    conn: psycopg.Connection, drip: Open, monkeypatch: pytest.MonkeyPatch, is_dry_run: bool
) -> None:
    monkeypatch.setattr("hyperdrip.client.suppressions.BATCH", 2)
    *ids, other = add_leads(conn, 6, messages=2).lead_ids
    emails = [drip().require_lead(str(lead_id)).email for lead_id in ids]
    between: list[int] = []
    suppress = suppressing.suppress

    def plan_in_between(*arguments: Any, **options: Any) -> Suppressed:
        standing.pause_leads(conn, SetClock(), [other], reason=None)
        between.append(len(suppressed(conn)))
        return suppress(*arguments, **options)

    monkeypatch.setattr(suppressing, "suppress", plan_in_between)
    done = drip().suppress(emails, is_dry_run=is_dry_run)
    assert (done.stopped, done.cancelled, sorted(done.added)) == (tuple(ids), 10, sorted(emails))
    assert done.known == 0
    assert between == ([0, 0, 0] if is_dry_run else [0, 2, 4])
    assert len(suppressed(conn)) == (0 if is_dry_run else 5)
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    ("held", "given"),
    [
        ("Ada@Example.com", "aDA@eXAMPLE.COM"),
        ("ipek@example.com", "\u00a0ipek@example.com "),
        # Their lower case is not the same to Python and to a database.
        ("İpek@example.com", "İpek@example.com"),
        ("ΟΔΟΣ@example.com", "ΟΔΟΣ@example.com"),
        ("zoë@bücher.example", "zoe\u0308@xn--bcher-kva.example"),
        ("ada@bücher.example", "ada@BÜCHER.example"),
        ("ada@例え.テスト", "ada@xn--r8jz45g.xn--zckzah"),
        ("ada@example.com", "ada@\uff25\uff38ample.com"),
    ],
)
def test_an_address_is_the_same_however_it_is_written(
    conn: psycopg.Connection, dsn: str, drip: Open, held: str, given: str
) -> None:
    lead = drip().add_lead(name="A", email=held)
    tried = drip().suppress([given], is_dry_run=True)
    done = drip().suppress([given])
    assert tried == done
    assert (len(done.added), done.stopped, done.cancelled) == (1, (lead.id,), 5)
    # What is stored is what a claim looks for, also if somebody else wrote it there.
    assert drip().remove_suppression(given)
    assert drip().enroll_leads([str(lead.id)]).messages == 5
    conn.execute(
        "insert into hyperdrip.suppression (email_key, reason) values (%s, 'x')", done.added
    )
    assert drain(dsn).sent == 0
    assert status_of(conn, lead.id)[0] == "STOPPED"
    assert drip().remove_suppression(given)
    assert suppressed(conn) == {}
    assert_audit_ok(conn)


def test_one_address_that_is_none_leaves_all_as_they_are(
    conn: psycopg.Connection, drip: Open
) -> None:
    with pytest.raises(InvalidDataError, match="nobody at"):
        drip().suppress(["ada@example.com", "nobody at example.com"])
    assert suppressed(conn) == {}


def test_a_suppression_that_is_removed_lets_an_address_be_added_and_resumes_nobody(
    conn: psycopg.Connection, drip: Open
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    email = drip().require_lead(str(lead_id)).email
    drip().suppress([email])
    assert drip().remove_suppression(email.upper()) == ["by hand"]
    assert status_of(conn, lead_id)[0] == "STOPPED"
    with pytest.raises(NotFoundError, match="is not suppressed"):
        drip().remove_suppression(email)
    assert drip().enroll_leads([email]).lead_ids == (lead_id,)
    assert status_of(conn, lead_id)[0] == "ACTIVE"
    assert_audit_ok(conn)


def test_who_has_unsubscribed_is_not_enrolled_again_whatever_is_removed(
    conn: psycopg.Connection, drip: Open
) -> None:
    first, second = add_leads(conn, 2, messages=2).lead_ids
    drip().unsubscribe_lead(str(first))
    assert drip().stop_leads([str(second)], reason="unsubscribed").messages == 2
    assert {*suppressed(conn).values()} == {"unsubscribed"}
    for email in suppressed(conn):
        drip().remove_suppression(email)
    assert drip().enroll_leads([str(first), str(second)]).left_out == {
        first: "is STOPPED: unsubscribed",
        second: "is STOPPED: unsubscribed",
    }


def test_a_lead_that_is_stopped_because_it_unsubscribed_is_suppressed_whatever_its_status(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    done, erased = add_leads(conn, 2, messages=1).lead_ids
    drain(dsn)
    email = drip().require_lead(str(done)).email
    erasing.erase_leads(conn, SetClock(), [erased])
    before = set(suppressed(conn))
    drip().stop_leads([str(done), str(erased)], reason="unsubscribed")
    assert {*suppressed(conn)} - before == {email}


def test_an_erased_address_stays_suppressed_until_it_is_removed_by_its_own_words(
    conn: psycopg.Connection, drip: Open
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    email = drip().require_lead(str(lead_id)).email
    erasing.erase_leads(conn, SetClock(), [lead_id])
    (key,) = suppressed(conn)
    assert email not in key
    # Once more in plain would tell who it was.
    assert drip().suppress([email]).known == 1
    assert [*suppressed(conn)] == [key]
    assert drip().remove_suppression(email) == ["erased"]
    assert suppressed(conn) == {}


@pytest.mark.parametrize("status", ["ACTIVE", "PAUSED", "COMPLETED", "FAILED", "STOPPED"])
def test_an_unsubscribe_stops_a_lead_whatever_its_status(
    conn: psycopg.Connection, drip: Open, status: str
) -> None:
    lead_id, other = add_leads(conn, 2, messages=3).lead_ids
    if status == "PAUSED":
        standing.pause_leads(conn, SetClock(), [lead_id], reason=None)
    elif status != "ACTIVE":
        standing.stop_leads(conn, SetClock(), [lead_id], reason="by hand")
        conn.execute("update hyperdrip.lead set status = %s where id = %s", [status, lead_id])
    email = drip().require_lead(str(lead_id)).email
    one = drip(SECRET_KEY=KEY)
    token = sign(KEY, f"lead_{lead_id}-1-2")
    done = one.unsubscribe(token)
    assert (done.lead_id, done.is_new) == (lead_id, True)
    assert status_of(conn, lead_id) == ("STOPPED", "unsubscribed (message 2)")
    assert suppressed(conn) == {email: "unsubscribed"}
    planned = "select count(*) from hyperdrip.message where lead_id = %s and state = 'planned'"
    assert conn.execute(planned, [lead_id]).fetchone() == (0,)
    assert conn.execute(planned, [other]).fetchone() == (3,)
    # A second click, a robot's, or another road changes nothing.
    assert not one.unsubscribe(token).is_new
    assert not one.unsubscribe_lead(email).is_new
    assert status_of(conn, lead_id) == ("STOPPED", "unsubscribed (message 2)")
    assert_audit_ok(conn)


def test_a_lead_that_was_erased_may_still_click(conn: psycopg.Connection, drip: Open) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    erasing.erase_leads(conn, SetClock(), [lead_id])
    before = suppressed(conn)
    assert not drip(SECRET_KEY=KEY).unsubscribe(sign(KEY, f"lead_{lead_id}-1-1")).is_new
    assert suppressed(conn) == before
    assert status_of(conn, lead_id)[0] != "ACTIVE"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "lead_1-1-1",
        sign(KEY, "lead_1-1-1")[:-1],
        sign(KEY, "lead_1-1-1") + "x",
        sign("foreign-key-0123456789", "lead_1-1-1"),
        sign(KEY, "lead_1-1-1").replace("lead_1", "lead_2"),
        sign(KEY, "preview"),
        "ä.ö",
        "x" * 5000,
    ],
)
def test_a_token_that_nobody_signed_unsubscribes_nobody_and_says_nothing_of_anybody(
    conn: psycopg.Connection, drip: Open, token: str
) -> None:
    add_leads(conn, 2, messages=1)
    with pytest.raises(InvalidDataError) as refusal:
        drip(SECRET_KEY=KEY).unsubscribe(token)
    assert "lead" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert suppressed(conn) == {}
    assert count_states(conn) == {"planned": 2}


def test_keys_are_rotated_and_one_that_is_taken_out_ends_its_tokens(
    conn: psycopg.Connection, drip: Open
) -> None:
    first, second = add_leads(conn, 2, messages=1).lead_ids
    old_token = sign(OLD, f"lead_{first}-1-1")
    assert drip(SECRET_KEY=f"{KEY},{OLD}").unsubscribe(old_token).is_new
    with pytest.raises(InvalidDataError):
        drip(SECRET_KEY=KEY).unsubscribe(sign(OLD, f"lead_{second}-1-1"))
    with pytest.raises(SettingsError, match="SECRET_KEY is empty"):
        drip().unsubscribe(old_token)


def test_the_link_in_a_mail_unsubscribes_whoever_got_it(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    _, second = add_leads(conn, 2, messages=2).lead_ids
    one = drip(
        SECRET_KEY=f"{KEY},{OLD}",
        MAIL_FROM="Ada <ada@example.com>",
        POSTAL_ADDRESS="1 Road",
        PUBLIC_URL="https://u.example.com",
    )
    kit, mails = one.make_kit(), dict[int, Mail]()

    def write(claim: Claim) -> None:
        mails[claim.lead_id] = kit.compose(claim)

    drain(dsn, AnsweringSender(before=write))
    parsed = message_from_bytes(mails[second].data, policy=SMTP)
    link = re.search("<https://u.example.com/unsubscribe/(.*)>", parsed["List-Unsubscribe"])
    assert link
    assert one.unsubscribe(link[1]).lead_id == second
    assert status_of(conn, second) == ("STOPPED", "unsubscribed (message 1)")
    assert count_states(conn) == {"sent": 2, "planned": 1, "cancelled": 1}


def test_a_token_of_a_lead_that_never_was_is_refused(drip: Open) -> None:
    with pytest.raises(InvalidDataError, match="of nobody"):
        drip(SECRET_KEY=KEY).unsubscribe(sign(KEY, "lead_999-1-1"))


def test_stats_count_an_unsubscribe_at_the_message_that_led_to_it(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    leads = add_leads(conn, 5, messages=3).lead_ids
    for day in (0, 1):
        drain(dsn, clock=SetClock(SetClock().now + timedelta(days=day)))
    one = drip(SECRET_KEY=KEY)
    one.unsubscribe(sign(KEY, f"lead_{leads[0]}-1-1"))
    one.unsubscribe_lead(str(leads[1]))
    one.stop_leads([str(leads[2])], reason="unsubscribed")
    # A message that this database does not know of, as after a restore: the last one counts.
    one.unsubscribe(sign(KEY, f"lead_{leads[3]}-7-9"))
    assert status_of(conn, leads[3]) == ("STOPPED", "unsubscribed (message 9 of run 7)")
    found = {one.number: one.unsubscribed for one in drip().campaign_stats("default")}
    assert found == {1: 1, 2: 3, 3: 0}
    erasing.erase_leads(conn, SetClock(), [leads[0]])
    assert {one.number: one.unsubscribed for one in drip().campaign_stats("default")} == found


def test_a_link_of_an_earlier_run_counts_for_the_campaign_of_that_run(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=1).lead_ids
    drain(dsn)
    conn.execute("insert into hyperdrip.campaign (name, version) values ('next', 1)")
    assert drip().enroll_leads([str(lead_id)], campaign="next", max_messages=2).messages == 2
    assert drip(SECRET_KEY=KEY).unsubscribe(sign(KEY, f"lead_{lead_id}-1-1")).cancelled == 2
    assert status_of(conn, lead_id) == ("STOPPED", "unsubscribed (message 1 of run 1)")
    assert [(one.number, one.unsubscribed) for one in drip().campaign_stats("default")] == [(1, 1)]
    assert [one.unsubscribed for one in drip().campaign_stats("next")] == [0, 0]
    assert_audit_ok(conn)


# Right before the claim


@pytest.mark.parametrize("road", ["suppress", "unsubscribe"])
def test_one_that_begins_between_the_read_and_the_claim_wins(
    conn: psycopg.Connection,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    no_deadlock: Watch,
    road: str,
) -> None:
    first, second = add_leads(conn, 2, messages=1).lead_ids
    email = leads.require_lead(conn, str(first)).email
    read, clock = queue.read, SetClock()
    sender = AnsweringSender()

    def leave() -> None:
        with closing(connect(dsn)) as other:
            if road == "suppress":
                suppressing.suppress(other, clock, [email], reason="x")
            else:
                suppressing.unsubscribe(other, clock, (first, 1, 1))

    def read_and_let_somebody_leave(*arguments: object, **options: object) -> object:
        found = read(*arguments, **options)  # type: ignore[arg-type]
        thread.start()
        wait_until(lambda: somebody_waits(conn))  # for the envelope, with the message in its hands
        return found

    thread = threading.Thread(target=leave)
    with no_deadlock(), closing(make_worker(dsn, sender, clock=clock)) as worker:
        worker.begin()
        monkeypatch.setattr(queue, "read", read_and_let_somebody_leave)
        worker.step()
        monkeypatch.undo()
        thread.join()
        while worker.step():
            pass
    assert [claim.lead_id for claim in sender.handed_over] == [second]
    assert_audit_ok(conn)


def somebody_waits(conn: psycopg.Connection) -> bool:
    """Does somebody wait for a row that somebody else has locked?"""
    row = conn.execute(
        "select count(*) > 0 from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    ).fetchone()
    return row is not None and bool(row[0])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_claim_that_waits_for_a_suppression_goes_by_how_it_ends(
    conn: psycopg.Connection, dsn: str, drip: Open, end: str
) -> None:
    first, second = add_leads(conn, 2, messages=1).lead_ids
    email = drip().require_lead(str(first)).email
    with psycopg.connect(dsn) as other:
        # All of it is done, down to the day's quota, and not yet committed.
        one = Hyperdrip(conn=other, settings=make_settings(dsn))
        one.clock = SetClock()
        assert one.suppress([email]).stopped == (first,)
        sender = AnsweringSender()
        thread = threading.Thread(target=lambda: drain(dsn, sender), daemon=True)
        thread.start()
        wait_until(lambda: somebody_waits(conn))
        assert sender.handed_over == []
        getattr(other, end)()
        thread.join()
    expected = {second} if end == "commit" else {first, second}
    assert {claim.lead_id for claim in sender.handed_over} == expected
    assert_audit_ok(conn)


def test_a_suppression_waits_for_a_claim_that_locked_its_message_and_stops_what_follows(
    conn: psycopg.Connection,
    dsn: str,
    drip: Open,
    monkeypatch: pytest.MonkeyPatch,
    no_deadlock: Watch,
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    email = drip().require_lead(str(lead_id)).email
    claim_wave, done, threads = ledger.claim_wave, list[Suppressed](), list[threading.Thread]()

    def suppress() -> None:
        with closing(connect(dsn)) as other:
            done.append(suppressing.suppress(other, SetClock(), [email], reason="x"))

    def claim_and_let_somebody_wait(*arguments: object, **options: object) -> object:
        claims = claim_wave(*arguments, **options)  # type: ignore[arg-type]
        if not threads:
            threads.append(threading.Thread(target=suppress))
            threads[0].start()
            wait_until(lambda: somebody_waits(conn))
        return claims

    with no_deadlock(), closing(make_worker(dsn, sender := AnsweringSender())) as worker:
        worker.begin()
        monkeypatch.setattr(ledger, "claim_wave", claim_and_let_somebody_wait)
        worker.step()
        monkeypatch.undo()
        threads[0].join()
        while worker.step():
            pass
    assert [claim.number for claim in sender.handed_over] == [1]
    assert (done[0].stopped, done[0].cancelled) == ((lead_id,), 1)
    assert count_states(conn) == {"sent": 1, "cancelled": 1}
    assert_audit_ok(conn)


def test_one_that_is_committed_when_the_claim_has_all_its_locks_still_wins(
    conn: psycopg.Connection, dsn: str, drip: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add_leads(conn, 2, messages=1).lead_ids
    email = drip().require_lead(str(first)).email
    claim_wave = ledger.claim_wave

    def claim_at_last(*arguments: object, **options: object) -> object:
        # As a claim that has no message of the lead locked would see it done: the address alone.
        with closing(connect(dsn)) as other:
            suppressions.insert(other, [email], reason="x", now=SetClock().now)
        return claim_wave(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "claim_wave", claim_at_last)
    drain(dsn, sender := AnsweringSender())
    assert [claim.lead_id for claim in sender.handed_over] == [second]
    assert status_of(conn, first) == ("STOPPED", "suppressed")
    assert_audit_ok(conn)


@pytest.mark.parametrize("road", ["suppress", "unsubscribe", "import"])
def test_a_race_with_the_claim_is_won_by_whoever_commits_first(
    conn: psycopg.Connection, dsn: str, no_deadlock: Watch, road: str
) -> None:
    ids = add_leads(conn, 90, messages=2).lead_ids
    emails = dict(conn.execute("select id, email from hyperdrip.lead").fetchall())
    clock = SetClock()
    has_begun = threading.Event()
    sender = AnsweringSender(wave_size=3, before=lambda _: has_begun.set())
    in_time: set[int] = set()

    def leave() -> None:
        with closing(connect(dsn)) as other:
            assert has_begun.wait(30)
            step = 30 if road == "import" else 1
            for place in range(len(ids) - step, -1, -step):
                chosen = ids[place : place + step]
                if road == "unsubscribe":
                    suppressing.unsubscribe(other, clock, (chosen[0], 1, 1))
                else:
                    suppressing.suppress(
                        other, clock, [emails[lead_id] for lead_id in chosen], reason="x"
                    )
                # The moment it is committed, a message was claimed already or never will be.
                rows = other.execute(
                    "select lead_id from hyperdrip.message"
                    " where lead_id = any(%s) and number = 1 and state = 'cancelled'",
                    [list(chosen)],
                ).fetchall()
                in_time.update(lead_id for (lead_id,) in rows)

    with no_deadlock():
        thread = threading.Thread(target=leave)
        thread.start()
        drain(dsn, sender, clock=clock)
        thread.join()
    sent = {claim.lead_id for claim in sender.handed_over}
    assert in_time, "nobody was ever in time"
    assert sent, "nothing was ever claimed"
    assert not in_time & sent
    assert in_time | sent == set(ids)
    # What comes next goes to nobody: all have left.
    assert count_states(conn).get("planned", 0) == 0
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    ("answer", "states"),
    [
        (Sent(), {"sent": 1, "cancelled": 1}),
        (Retry("busy"), {"cancelled": 2}),
        (Failed("no such user"), {"failed": 1, "cancelled": 1}),
        (Unknown("cut"), {"unknown": 1, "cancelled": 1}),
    ],
)
def test_a_message_that_is_being_sent_is_not_touched_and_what_follows_is(
    conn: psycopg.Connection, dsn: str, answer: Outcome, states: dict[str, int]
) -> None:
    (lead_id,) = add_leads(conn, 1, messages=2).lead_ids
    clock = SetClock()

    def leave(_claim: Claim) -> None:
        with closing(connect(dsn)) as other:
            done = suppressing.unsubscribe(other, clock, (lead_id, 1, 1))
            assert done.cancelled == 1

    drain(dsn, AnsweringSender(lambda _: answer, before=leave), clock=clock)
    assert count_states(conn) == states
    assert reserved(conn) == 0
    assert status_of(conn, lead_id) == ("STOPPED", "unsubscribed (message 1)")
    assert_audit_ok(conn)


# Files


@pytest.mark.parametrize(
    ("text", "found", "faults"),
    [
        ("ada@example.com\nben@example.com\n", ["ada@example.com", "ben@example.com"], 0),
        ("Email Address,Why\nada@example.com,x\n", ["ada@example.com"], 0),
        ("why;E-Mail\nx;ada@example.com\ny;nobody\nz;\n", ["ada@example.com"], 2),
        ("ada@example.com\n\nnot one\n", ["ada@example.com"], 1),
        ("ada@example.com\nben@example.com, eve@example.com\n", ["ada@example.com"], 1),
        ("ada@example.com, ben@example.com\n", [], 1),
        ("a@example.com,b@example.com\nc@example.com,d@example.com\n", [], 2),
        ("email,told by\nada@example.com,ben@example.com\n", ["ada@example.com"], 0),
        ("ada@example.com,\nben@example.com,Ben\n", ["ada@example.com", "ben@example.com"], 0),
        ("email,id\nada@example.com,1\nben@example.co", ["ada@example.com"], 1),
        ("email\n\u202fada@example.com\u00a0\n", ["ada@example.com"], 0),
        ("ada@EXAMPLE.com\nada@example.com\n", ["ada@example.com"], 0),
        (
            "\ufeffx,ada@example.com\r\ny,ben@example.com\r\n",
            ["ada@example.com", "ben@example.com"],
            0,
        ),
    ],
)
def test_addresses_are_found_in_lists_and_tables(
    tmp_path: Path, text: str, found: list[str], faults: int
) -> None:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8", newline="")
    addresses = read_addresses(str(tmp_path / "list.csv"))
    assert [*addresses.found] == found
    assert len(addresses.faults) == faults
    assert addresses.read >= len(found) + faults


def test_a_table_without_addresses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("name,phone\nAda,1\n")
    with pytest.raises(InvalidDataError, match="name a column email"):
        read_addresses(str(tmp_path / "list.csv"))
