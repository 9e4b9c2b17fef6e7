"""Erasing: nothing is left that says who somebody was, and the address stays out."""

from datetime import date
from typing import Any

import psycopg
import pytest

from hyperdrip import Hyperdrip, queue
from hyperdrip.errors import InvalidDataError
from hyperdrip.models import Changed, Lead, Selection
from hyperdrip.senders import Failed, Retry, Sent
from tests.factories import AnsweringSender, add_leads, assert_audit_ok, drain, make_worker
from tests.integration.test_selections import Drip, everything

# Everything by which this person could be known, wherever it ends up.
PERSON = {
    "name": "Zenobia Quillfeather",
    "email": "Zenobia.Q@Example.com",
    "phone": "+49 30 5550199",
    "notes": "collects thimbles",
    "fields": {"company": "Thimblerigg Ltd", "zenobiafield": "velvet"},
}
TRACES = [
    "zenobia",
    "quillfeather",
    "5550199",
    "thimble",
    "velvet",
    "asked by her sister",
    "smtp; 550",
    "provider-id",
]


def traces(conn: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """What is left of the person, by table."""
    return {
        name: found
        for name, rows in everything(conn)
        if (found := [word for word in TRACES if word in "\n".join(rows).lower()])
    }


def add_zenobia(one: Hyperdrip, conn: psycopg.Connection[Any], **options: Any) -> Lead:
    lead = one.add_lead(**PERSON, **options)
    conn.execute(
        "update hyperdrip.lead set consent_source = 'thimble fair', consent_at = now()"
        " where id = %s",
        [lead.id],
    )
    return lead


def test_an_erased_lead_leaves_no_trace_in_any_table(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    """After a life with everything: sent, moved, paused, stopped, a second run, failed for now."""
    one = drip()
    lead = add_zenobia(one, conn, max_messages=2)
    drain(dsn, AnsweringSender(lambda _: Sent("provider-id zenobia.q@example.com")))
    later = drip(now="2024-01-16T09:00:00Z")
    bounce = Retry("smtp; 550 <Zenobia.Q@Example.com> is busy")
    later.roll_over()
    queue.read(conn, "test-drip-messages-2024-01-16", vt_seconds=0, quantity=1)
    later.move_leads([lead.key], to=date(2024, 1, 20))
    later.pause_leads([lead.key], reason="asked by her sister")
    later.resume_leads([lead.key])
    later.move_leads([lead.key], by_days=2)
    later.stop_leads([lead.key], reason="by hand: asked by her sister")
    later.enroll_leads([lead.key], max_messages=3)
    drain_at = drip(now="2024-01-16T10:00:00Z", SENDER="null")
    sender = AnsweringSender(lambda _: bounce)
    drain(dsn, sender, clock=drain_at.clock)
    assert len(sender.handed_over) == 1
    # An envelope that points nowhere any more, in a queue that is still read.
    address = queue.Address(lead.id, 1, 2, "Zenobia.Q@Example.com")
    queue.send_batch(conn, "test-drip-messages-2024-01-20", [address])
    conn.execute("insert into hyperdrip.suppression values ('zenobia.q@example.com', 'velvet')")
    # What an import left that was killed.
    conn.execute(
        "insert into hyperdrip.import_row (batch, line, name, email, fields, cells)"
        """ values (7, 2, 'Zenobia', 'zenobia.Q@example.com', '{}', '["velvet"]')"""
    )
    bystander = one.add_lead(name="Ben", email="ben@example.com")
    assert {"hyperdrip.lead", "hyperdrip.message", "hyperdrip.suppression"} <= set(traces(conn))
    assert sum(name.startswith("pgmq.a_") for name in traces(conn)) >= 3
    before = {name: len(rows) for name, rows in everything(conn)}

    done = later.erase_leads(["zenobia.q@EXAMPLE.com"])
    assert done == Changed((lead.id,), messages=3)
    assert traces(conn) == {}
    # Nothing else went: the ledger is as long as it was, and envelopes moved to their archives.
    after = {name: len(rows) for name, rows in everything(conn)}
    assert after["hyperdrip.message"] == before["hyperdrip.message"]
    added = after.pop("hyperdrip.receipt") - before.pop("hyperdrip.receipt")
    assert added == 1
    assert sum(after.values()) == sum(before.values()) - 1
    erased = one.require_lead(lead.key)
    assert (erased.name, erased.email) == ("erased", f"erased-{lead.id}@invalid")
    assert (erased.status, erased.status_reason, erased.fields) == ("STOPPED", "erased", {})
    assert (erased.phone, erased.notes, erased.next_scheduled_for) == (None, None, None)
    assert [message.number for message in one.list_lead_messages(erased)] == [1, 2, 3]
    body = queue.peek(conn, "test-drip-messages-2024-01-20", limit=9)
    assert body is not None
    assert [envelope.body["leadId"] for envelope in body if "email" not in envelope.body] == [
        lead.key
    ]
    # The stray envelope was put there by this test; a worker clears it away.
    drain(dsn, clock=drip(now="2024-01-20T09:00:00Z").clock)
    assert one.require_lead(bystander.key).email == "ben@example.com"
    assert_audit_ok(conn)


def test_an_erased_address_is_never_added_or_imported_again(
    conn: psycopg.Connection[Any], drip: Drip, tmp_path: Any
) -> None:
    one = drip()
    lead = add_zenobia(one, conn)
    one.erase_leads([lead.key])
    with pytest.raises(InvalidDataError, match=r"is suppressed \(erased\)"):
        one.add_lead(name="Zenobia", email="zenobia.q@example.com")
    (tmp_path / "again.csv").write_text(
        "name,email\nZ,ZENOBIA.Q@EXAMPLE.COM\nBen,ben@example.com\n"
    )
    result = one.import_file("again.csv")
    assert (result.added, result.suppressed) == (1, 1)
    assert "zenobia" not in str(everything(conn)).lower()
    # The hash alone gives nothing away: it is another one in each database.
    keys = conn.execute("select email_key, reason from hyperdrip.suppression").fetchall()
    assert [(key.startswith("sha256:"), len(key), reason) for key, reason in keys] == [
        (True, 71, "erased")
    ]
    # The phone is free again, and the name of an erased address cannot be taken.
    assert one.add_lead(name="Cyd", email="cyd@example.com", phone="0049305550199").id > lead.id
    with pytest.raises(InvalidDataError, match="no e-mail address"):
        one.add_lead(name="Erased", email=f"erased-{lead.id + 1}@invalid")
    assert_audit_ok(conn)


def test_an_erased_address_that_came_back_by_a_road_that_does_not_look_is_never_written_to(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    one = drip()
    one.erase_leads([add_zenobia(one, conn).key])
    again, other = add_leads(conn, 2, messages=1).lead_ids
    conn.execute("update hyperdrip.lead set email = 'zenobia.q@EXAMPLE.com' where id = %s", [again])
    sender = AnsweringSender()

    summary = drain(dsn, sender)

    assert [claim.lead_id for claim in sender.handed_over] == [other]
    assert (summary.sent, summary.skipped) == (1, 1)
    lead = one.require_lead(str(again))
    assert (lead.status, lead.status_reason) == ("STOPPED", "suppressed")
    assert_audit_ok(conn)


def test_erasing_twice_or_what_has_ended_is_fine(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    one = drip()
    for name in ("Done", "Failed", "Paused"):
        one.add_lead(name=name, email=f"{name}@example.com", max_messages=1)
    one.pause_leads(["3"])
    drain(
        dsn, AnsweringSender(lambda c: Failed("Failed@example.com") if c.lead_id == 2 else Sent())
    )
    assert one.erase_leads(Selection()).lead_ids == (1, 2, 3)
    assert one.erase_leads(Selection()) == Changed(
        left_out=dict.fromkeys((1, 2, 3), "is erased already")
    )
    assert "@example.com" not in str(everything(conn)).lower()
    assert one.resume_leads(Selection()).lead_ids == ()
    assert one.enroll_leads(Selection()).lead_ids == ()
    assert_audit_ok(conn)


def test_who_is_being_sent_to_is_refused_and_the_others_are_erased(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    """Also when the worker is dead: until somebody settles it, nobody knows."""
    one = drip()
    add_zenobia(one, conn)
    one.add_lead(name="Ben", email="ben@example.com")
    seen: list[Changed] = []

    def kill(_: Any) -> None:
        seen.append(one.erase_leads(Selection()))
        raise KeyboardInterrupt

    worker = make_worker(dsn, AnsweringSender(before=kill, wave_size=1))
    with pytest.raises(KeyboardInterrupt):
        worker.step()
    worker.close()
    assert seen == [Changed((2,), messages=5, refused={1: "has a message that is being sent"})]
    assert one.require_lead("1").name == PERSON["name"]
    assert_audit_ok(conn)
    queue.set_visible(conn, "test-drip-messages-2024-01-15", [1], in_seconds=-1)
    assert drain(dsn).unknown == 1
    assert one.erase_leads(["1"]).lead_ids == (1,)
    assert traces(conn) == {}
    assert_audit_ok(conn)
