"""What is done to many leads at once: who is meant, what it changes, and what a dry run says."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from hyperdrip import Hyperdrip
from hyperdrip import instance as instances
from hyperdrip.errors import InvalidDataError, NoRoomError, NotFoundError
from hyperdrip.models import Changed, Lead, LeadStatus, Selection
from hyperdrip.senders import Failed, Retry, Sent
from tests.factories import (
    MONDAY,
    AnsweringSender,
    assert_audit_ok,
    drain,
)

Drip = Callable[..., Hyperdrip]


def day(offset: int) -> date:
    return MONDAY + timedelta(days=offset)


def add(one: Hyperdrip, name: str, **options: Any) -> Lead:
    return one.add_lead(name=name, email=f"{name.lower()}@example.com", **options)


def days_of(one: Hyperdrip, lead: Lead) -> list[int | None]:
    """The days of a lead's messages, counted from Monday."""
    found = one.list_lead_messages(one.require_lead(lead.key))
    return [None if message.day is None else (message.day - MONDAY).days for message in found]


def everything(conn: psycopg.Connection[Any]) -> list[tuple[str, list[str]]]:
    """Every row of every table of ours and of PGMQ, as text."""
    tables = conn.execute(
        "select schemaname, tablename from pg_tables where schemaname in ('hyperdrip', 'pgmq')"
        " order by 1, 2"
    ).fetchall()
    found = []
    for table in tables:
        statement = sql.SQL("select t::text from {} as t order by 1").format(sql.Identifier(*table))
        found.append((".".join(table), [row for (row,) in conn.execute(statement)]))
    return found


# Who is meant


@pytest.fixture
def mixed(drip: Drip) -> Hyperdrip:
    one = drip()
    add(one, "Ada", fields={"company": "Northwind", "size": "10"}, phone="+49 30 1234567")
    add(one, "Ben", fields={"company": "Northwind", "size": "20"}, notes="met at the FAIR")
    add(one, "Cyd", fields={"company": "Contoso"}, phone="(0)89 76543")
    one.pause_leads(["lead_2", "3"])
    return one


SELECTIONS = [
    (Selection(), [1, 2, 3]),
    (Selection(keys=()), []),
    (Selection(keys=("lead_3", "ADA@Example.com ", "1")), [1, 3]),
    (Selection(status=LeadStatus.PAUSED), [2, 3]),
    (Selection(keys=("1", "2"), status=LeadStatus.PAUSED), [2]),
    (Selection(keys=("1", "2"), lead_ids=(2, 3)), [2]),
    (Selection(campaign="default"), [1, 2, 3]),
    (Selection(where=(("company", "Northwind"),)), [1, 2]),
    (Selection(where=(("company", "Northwind"), ("size", "20"))), [2]),
    (Selection(where=(("company", "Northwind"), ("company", "Contoso"))), []),
    (Selection(where=(("company", "northwind"),)), []),
    (Selection(where=(("city", "Berlin"),)), []),
]
NOBODY = [
    (Selection(keys=("1", "lead_9", "nobody@example.com", "8", "7")), "'8' and 1 more"),
    (Selection(keys=("a\0b", "\udcff", "")), r"no lead 'a\\x00b', '\\udcff', ''"),
    (Selection(import_id=7), "no import 7"),
    (Selection(campaign="spring"), "no campaign 'spring'"),
]


def test_a_selection_is_whoever_everything_given_is_true_of(mixed: Hyperdrip) -> None:
    assert [mixed.select_leads(selection) for selection, _ in SELECTIONS] == [
        ids for _, ids in SELECTIONS
    ]


def test_who_or_what_is_not_there_is_named_before_anything_is_done(
    conn: psycopg.Connection[Any], mixed: Hyperdrip
) -> None:
    before = everything(conn)
    for selection, words in NOBODY:
        with pytest.raises(NotFoundError, match=words):
            mixed.stop_leads(selection)
    assert everything(conn) == before


def test_leads_of_an_import_are_found(drip: Drip, tmp_path: Any) -> None:
    one = drip()
    add(one, "Ada")
    (tmp_path / "new.csv").write_text("name,email\nBen,ben@example.com\n")
    imported = one.import_file("new.csv")
    assert one.select_leads(Selection(import_id=imported.import_id)) == [2]


SEARCHES = {
    "aD": [1],
    "EXAMPLE.COM": [1, 2, 3],
    "northwind": [1, 2],
    "fair": [2],
    "+49 (30) 12-34": [1],
    "0049 30": [1],
    "030-12 34": [],
    "76543": [3],
    "company": [],
    "%": [],
    "_": [],
}


def test_a_search_finds_a_piece_of_anything_in_any_letter_case(mixed: Hyperdrip) -> None:
    assert {text: [lead.id for lead in mixed.search_leads(text)] for text in SEARCHES} == SEARCHES
    assert [lead.id for lead in mixed.search_leads("example", limit=2)] == [1, 2]


# Pausing, resuming, stopping


def test_pausing_many_frees_their_days_and_leaves_the_others(
    conn: psycopg.Connection[Any], drip: Drip
) -> None:
    instances.set_daily_max(conn, 2)
    one = drip()
    leads = [add(one, name, max_messages=2) for name in ("Ada", "Ben", "Cyd", "Dmitri")]
    one.stop_leads(["lead_4"])
    done = one.pause_leads(Selection(campaign="default"), reason="holiday")
    assert done == Changed((1, 2, 3), messages=6, left_out={4: "is STOPPED"})
    assert one.require_lead("lead_2").status_reason == "holiday"
    assert [days_of(one, lead) for lead in leads[:3]] == [[None, None]] * 3
    assert one.quota_today()[0].free == 2
    assert_audit_ok(conn)

    back = one.resume_leads(Selection())
    assert back.lead_ids == (1, 2, 3)
    assert back.planned == {day(0): 2, day(1): 2, day(2): 1, day(3): 1}
    assert back.left_out == {4: "is STOPPED"}
    assert one.require_lead("lead_2").status_reason is None
    assert [days_of(one, lead) for lead in leads[:3]] == [[0, 1], [0, 1], [2, 3]]
    assert_audit_ok(conn)


def test_resuming_leads_under_way_says_how_many_messages_of_others_make_room(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    instances.set_daily_max(conn, 1)
    one = drip()
    first = add(one, "Ada", max_messages=3)
    drain(dsn)
    one.pause_leads([first.key])
    other = add(one, "Ben", max_messages=2)
    assert days_of(one, other) == [1, 2]
    done = one.resume_leads([first.key])
    assert (done.messages, done.displaced) == (2, 2)
    assert done.planned == {day(1): 1, day(2): 1}
    assert (days_of(one, first), days_of(one, other)) == ([0, 1, 2], [3, 4])
    assert_audit_ok(conn)


def test_a_message_that_is_being_sent_is_never_touched(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    """In the middle of a wave: each command takes what it can, and the message goes out."""
    one = drip()
    seen: list[Changed] = []

    def interfere(claim: Any) -> None:
        key = f"lead_{claim.lead_id}"
        seen.append(one.move_leads([key], to=day(9)))
        seen.append(one.pause_leads([key]))
        seen.append(one.resume_leads([key]))
        seen.append(one.stop_leads([key]))
        seen.append(one.enroll_leads([key]))
        seen.append(one.erase_leads([key]))
        assert_audit_ok(conn)

    add(one, "Ada", max_messages=3)
    sender = AnsweringSender(before=interfere)
    assert drain(dsn, sender).sent == 1
    assert [len(done.lead_ids) for done in seen] == [1, 1, 1, 1, 0, 0]
    assert [done.messages for done in seen] == [2, 2, 2, 2, 0, 0]
    assert seen[0].planned == {day(9): 1, day(10): 1}
    assert seen[4].left_out == {1: "has a message that is being sent"}
    assert seen[5].refused == {1: "has a message that is being sent"}
    lead = one.require_lead("lead_1")
    assert (lead.status, lead.message_count, lead.email) == ("STOPPED", 1, "ada@example.com")
    assert_audit_ok(conn)


# Enrolling again


def ended(conn: psycopg.Connection[Any], dsn: str, one: Hyperdrip) -> None:
    """Leads 1 to 9, each of which has ended, or not, in another way."""
    for name in ("Done", "Failed", "Byhand", "Because", "Replied", "Active", "Paused", "Gone"):
        add(one, name, max_messages=1 if name in ("Done", "Failed") else 3)
    one.pause_leads(["7"])
    one.stop_leads(["3", "8"])
    one.stop_leads(["4"], reason="by hand: asked by phone")
    one.stop_leads(["5"], reason="replied")

    def answer(claim: Any) -> Sent | Failed:
        return Failed("no such mailbox") if claim.lead_id == 2 else Sent()

    drain(dsn, AnsweringSender(answer))
    conn.execute("insert into hyperdrip.suppression values ('gone@example.com', 'unsubscribed')")


def test_only_leads_that_have_ended_and_may_be_written_to_are_enrolled_again(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    one = drip()
    ended(conn, dsn, one)
    one.erase_leads([str(add(one, "Erased").id)])
    done = one.enroll_leads(Selection(), max_messages=2, start=day(3))
    assert done.lead_ids == (1, 2, 3, 4)
    assert done.planned == {day(3): 4, day(4): 4}
    assert done.left_out == {
        5: "is STOPPED: replied",
        6: "is ACTIVE",
        7: "is PAUSED",
        8: "is suppressed: unsubscribed",
        9: "is STOPPED: erased",
    }
    lead = one.require_lead("lead_2")
    assert (lead.run, lead.status, lead.status_reason) == (2, "ACTIVE", None)
    assert (lead.message_count, lead.max_messages, lead.next_scheduled_for) == (0, 2, day(3))
    assert_audit_ok(conn)
    # The new run is sent like any other, and pulling forward keeps the day that was asked for.
    assert one.replan() == 0
    later = drip(now="2024-01-18T09:00:00Z", SENDER="null")
    assert later.run_worker(is_drain=True).sent == 5
    assert later.require_lead("lead_1").message_count == 1
    assert_audit_ok(conn)


def test_a_lead_of_an_undone_import_can_be_enrolled_again(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip, tmp_path: Any
) -> None:
    one = drip()
    (tmp_path / "new.csv").write_text("name,email\nBen,ben@example.com\n")
    imported = one.import_file("new.csv")
    drain(dsn)
    assert imported.import_id is not None
    one.undo_import(imported.import_id)
    assert one.enroll_leads(["ben@example.com"]).lead_ids == (1,)
    assert_audit_ok(conn)


def test_new_runs_are_planned_behind_each_other_and_within_the_horizon(
    conn: psycopg.Connection[Any], drip: Drip
) -> None:
    instances.set_daily_max(conn, 1)
    one = drip(SCHEDULE_HORIZON_DAYS=8)
    leads = [add(one, name, max_messages=1) for name in ("Ada", "Ben", "Cyd")]
    one.stop_leads(Selection())
    with pytest.raises(NoRoomError, match="daily maximum of 3 would fit"):
        one.enroll_leads(Selection(), max_messages=9)
    with pytest.raises(InvalidDataError, match="in the past"):
        one.enroll_leads(Selection(), start=day(-1))
    with pytest.raises(InvalidDataError, match="max-messages=0"):
        one.enroll_leads(["1"], max_messages=0)
    assert {lead.run for lead in one.list_leads()} == {1}
    one.enroll_leads(Selection(), max_messages=2)
    assert [days_of(one, lead) for lead in leads] == [[0, 1], [2, 3], [4, 5]]
    assert_audit_ok(conn)


# Moving


def test_a_moved_lead_finds_room_and_disturbs_nobody(
    conn: psycopg.Connection[Any], drip: Drip
) -> None:
    instances.set_daily_max(conn, 1)
    one = drip()
    first, second = add(one, "Ada", max_messages=2), add(one, "Ben", max_messages=2)
    done = one.move_leads([first.key], to=day(2))
    assert done == Changed((1,), messages=2, planned={day(4): 1, day(5): 1})
    assert (days_of(one, first), days_of(one, second)) == ([4, 5], [2, 3])
    assert one.require_lead(first.key).next_scheduled_for == day(4)
    assert_audit_ok(conn)
    # It does not come back by itself, but it does when told to.
    one.replan()
    assert (days_of(one, first), days_of(one, second)) == ([2, 3], [0, 1])
    # Nor does it take a day that is somebody else's.
    assert one.move_leads([first.key], by_days=-99).left_out == {1: "has these days already"}
    assert_audit_ok(conn)


def test_leads_without_days_are_not_moved(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    one = drip()
    ended(conn, dsn, one)
    done = one.move_leads(Selection(), by_days=4)
    assert done.lead_ids == (6,)
    assert set(done.left_out.values()) == {"is COMPLETED", "is FAILED", "is STOPPED", "is PAUSED"}
    assert one.move_leads(["6"], by_days=0).left_out == {6: "has these days already"}
    assert_audit_ok(conn)


UNMOVABLE: list[tuple[dict[str, Any], str]] = [
    ({"to": day(-1)}, "to=2024-01-14 is in the past; today is 2024-01-15"),
    ({"by_days": 731}, "by=731 is not a number from -730 to 730"),
    ({"to": day(30)}, "lead_1 would end on 2024-02-15, past the horizon 2024-02-14"),
    ({"by_days": 30}, "past the horizon"),
]


def test_a_move_to_where_nothing_may_be_planned_moves_nothing(
    conn: psycopg.Connection[Any], drip: Drip
) -> None:
    one = drip(SCHEDULE_HORIZON_DAYS=30)
    add(one, "Ada", max_messages=2)
    before = everything(conn)
    for options, words in UNMOVABLE:
        with pytest.raises(InvalidDataError, match=words):
            one.move_leads(Selection(), **options)
    assert everything(conn) == before
    assert_audit_ok(conn)


def test_a_message_in_backoff_keeps_it_when_it_is_moved(
    conn: psycopg.Connection[Any], dsn: str, drip: Drip
) -> None:
    one = drip()
    add(one, "Ada", max_messages=1)
    drain(dsn, AnsweringSender(lambda _: Retry("busy")))
    one.move_leads(["1"], to=day(1))
    rows = conn.execute(
        'select vt > clock_timestamp() from pgmq."q_test-drip-messages-2024-01-16"'
    ).fetchall()
    assert rows == [(True,)]
    assert_audit_ok(conn)


# Dry runs


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("pause_leads", {"reason": "holiday"}),
        ("resume_leads", {}),
        ("stop_leads", {}),
        ("enroll_leads", {"max_messages": 4, "start": day(40)}),
        ("move_leads", {"to": day(50)}),
        ("move_leads", {"by_days": 60}),
        ("erase_leads", {}),
    ],
)
def test_a_dry_run_says_what_happens_then_and_writes_nothing(
    conn: psycopg.Connection[Any],
    dsn: str,
    drip: Drip,
    command: str,
    options: dict[str, Any],
) -> None:
    instances.set_daily_max(conn, 2)
    one = drip()
    ended(conn, dsn, one)
    add(one, "Late", max_messages=2)
    before = everything(conn)
    said = getattr(one, command)(Selection(), **options, is_dry_run=True)
    assert everything(conn) == before
    done = getattr(one, command)(Selection(), **options)
    assert done.lead_ids
    assert said == done
    assert_audit_ok(conn)


def test_a_dry_run_in_a_transaction_of_the_callers_leaves_it_usable(
    conn: psycopg.Connection[Any], drip: Drip
) -> None:
    add(drip(), "Ada")
    with conn.transaction():
        borrowed = Hyperdrip(conn=conn, settings=drip().settings)
        assert borrowed.stop_leads(["1"], is_dry_run=True).lead_ids == (1,)
        assert borrowed.pause_leads(["1"]).lead_ids == (1,)
    assert drip().require_lead("1").status == "PAUSED"
    assert_audit_ok(conn)


def test_a_reason_is_one_short_line(drip: Drip) -> None:
    one = drip()
    add(one, "Ada")
    for reason in ("", "two\nlines", "x" * 201, "bell\a"):
        with pytest.raises(InvalidDataError, match="reason"):
            one.stop_leads(["1"], reason=reason)
    assert one.require_lead("1").status == "ACTIVE"
