"""Whole imports on a real database: what is taken, what is left out, all of it or nothing."""

import csv
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import psycopg
import pytest

from hyperdrip import Hyperdrip, quota
from hyperdrip.db import query
from hyperdrip.errors import (
    ConflictError,
    DatabaseUnavailable,
    HyperdripError,
    InvalidDataError,
    NoRoomError,
    NotFoundError,
    SettingsError,
)
from hyperdrip.importing import ImportOptions
from hyperdrip.models import Claim, ImportResult
from tests.factories import (
    MONDAY,
    AnsweringSender,
    add_leads,
    assert_audit_ok,
    count_states,
    drain,
    wait_until,
)
from tests.tables import assert_nothing_new, count_waiting, everything

Open = Callable[..., Hyperdrip]


def write(path: str, *lines: str) -> str:
    Path(path).write_text("".join(f"{line}\n" for line in lines))
    return path


def write_many(path: str, numbers: Iterable[int], *, tail: str = "") -> str:
    rows = (f"Lead {n},many{n}@example.com\n" for n in numbers)
    Path(path).write_text("name,email\n" + "".join(rows) + tail)
    return path


def read_back(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def staged(conn: psycopg.Connection) -> tuple[int, int]:
    """Rows and batches that imports have left."""
    row = conn.execute(
        "select (select count(*) from hyperdrip.import_row),"
        " (select count(*) from hyperdrip.import_batch)"
    ).fetchone()
    assert row is not None
    return row


def counts_of(result: ImportResult) -> dict[str, int]:
    names = ("read", "added", "updated", "enrolled", "duplicates", "suppressed", "rejected")
    return {name: count for name in names if (count := getattr(result, name))}


def import_in_place(
    one: Hyperdrip, path: str, *, errors: str | None = None, **options: Any
) -> ImportResult:
    how = {key: options.pop(key) for key in ("max_messages", "start") if key in options}
    given = ImportOptions(errors=Path(errors) if errors else None, **options)
    return one.import_file(path, given, **how)


# Which rows are taken

LIST = (
    "Name,EMAIL,Phone,City",  # 1
    '"Grace Hopper\u00a0",grace@example.com,+1 202 555-0001,Arlington',
    "Grace again,GRACE@Example.com,,",  # 3: the address of line 2
    '"Linus ""L"" T",linus@example.com,0049\u202f30/7777,"Two',  # 4, 5
    'lines"',
    "Lisa,lisa@example.com,+49 (30) 77-77,",  # 6: the phone of line 4
    "Ada once more,aDa@example.com,,",  # 7: an address that is there
    "The desk,desk@example.com,0012025550143,",  # 8: a phone that is there
    "Gone,GONE@example.com,,",  # 9: suppressed
    "Nobody,nobody,,",  # 10
    "Letters,letters@example.com,call me,",  # 11
    ",unnamed@example.com,,",  # 12
    '"Two',  # 13, 14
    'lines",two@example.com,,',
    "Hopper, Grace,hopper@example.com,,Arlington",  # 15: a comma without quotes
    "Bell,bell@example.com,,\x07",  # 16
    "Zed,zed@example.com,12,Zagreb",  # 17: no phone
    "Yve,yve@example.com",  # 18
)


def prepare(conn: psycopg.Connection, drip: Open) -> Hyperdrip:
    """A database in which somebody is, and where somebody must never be written to."""
    one = drip()
    one.add_lead(name="Ada", email="ada@example.com", phone="+1 202 555-0143")
    conn.execute("insert into hyperdrip.suppression values ('gone@example.com', 'unsubscribed')")
    return one


def test_each_row_is_taken_or_left_out_with_its_line_and_the_reason(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = prepare(conn, drip)
    result = import_in_place(one, write("list.csv", *LIST), errors="bad.csv")
    assert counts_of(result) == {
        "read": 15,
        "added": 3,
        "duplicates": 4,
        "suppressed": 1,
        "rejected": 7,
    }
    found = [
        (row["line"], row["column"], row["value"], row["reason"]) for row in read_back("bad.csv")
    ]
    assert found[:7] == [
        (
            "10",
            "EMAIL",
            "nobody",
            "email='nobody' is no e-mail address: An email address must have an @-sign",
        ),
        (
            "11",
            "Phone",
            "call me",
            "phone='call me' is no phone number; write digits, such as +1 202 555 0143",
        ),
        ("12", "Name", "", "name is empty; every lead needs one"),
        ("13", "Name", "Two\nlines", r"name='Two\nlines' has control characters or a line break"),
        (
            "15",
            "",
            "Hopper, Grace,hopper@example.com,,Arlington",
            "5 cells where the header has 4",
        ),
        (
            "16",
            "City",
            "\x07",
            "field 'City' has control characters; only line breaks and tabs are fine",
        ),
        (
            "17",
            "Phone",
            "12",
            "phone='12' is no phone number; write digits, such as +1 202 555 0143",
        ),
    ]
    assert found[7:] == [
        ("3", "EMAIL", "GRACE@example.com", "the same address as line 2"),
        ("6", "Phone", "+49 (30) 77-77", "the same phone as line 4"),
        ("7", "EMAIL", "aDa@example.com", "the same address as lead_1"),
        ("8", "Phone", "0012025550143", "the same phone as lead_1"),
        ("9", "EMAIL", "GONE@example.com", "suppressed: unsubscribed"),
    ]
    assert [line.isprintable() for line in result.left_out] == [True] * 12
    assert "line 6: +49 (30) 77-77: the same phone as line 4" in result.left_out

    leads = one.list_leads()[1:]
    assert [(lead.name, lead.email, lead.phone, lead.fields) for lead in leads] == [
        ("Grace Hopper", "grace@example.com", "+1 202 555-0001", {"City": "Arlington"}),
        ('Linus "L" T', "linus@example.com", "0049 30/7777", {"City": "Two\nlines"}),
        ("Yve", "yve@example.com", None, {}),
    ]
    assert [message.day for message in one.list_lead_messages(leads[2])] == [
        MONDAY + timedelta(days=n) for n in range(5)
    ]
    assert staged(conn) == (0, 0)
    assert_audit_ok(conn)


def test_mended_rows_come_in_and_the_same_file_adds_nothing(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = prepare(conn, drip)
    import_in_place(one, write("list.csv", *LIST), errors="bad.csv")
    before = everything(conn)
    again = import_in_place(one, "list.csv", errors="again.csv")
    assert counts_of(again) == {"read": 15, "duplicates": 7, "suppressed": 1, "rejected": 7}
    assert again.first_day is None
    assert everything(conn) == {
        **before,
        "hyperdrip.lead_import": 2,
        "hyperdrip.lead_import_id_seq": 2,
        "hyperdrip.receipt": before["hyperdrip.receipt"] + 1,
    }

    # What a person mends: an address, phones, a name, and the phone of a desk that several share.
    with Path("bad.csv").open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    for row in rows:
        line = row[header.index("line")]
        if line == "10":
            row[1] = "nobody@example.com"
        if line in ("11", "17", "6", "8"):
            row[2] = ""
        if line == "13":
            row[0] = "Two lines"
    with Path("mended.csv").open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";")  # as a spreadsheet saves it elsewhere
        writer.writerows([header, *rows])
    mended = import_in_place(one, "mended.csv", errors="worse.csv")
    assert counts_of(mended) == {
        "read": 12,
        "added": 6,
        "duplicates": 2,
        "suppressed": 1,
        "rejected": 3,
    }
    names = [lead.name for lead in one.list_leads()[4:]]
    assert names == ["Nobody", "Letters", "Two lines", "Zed", "Lisa", "The desk"]
    assert one.require_lead("zed@example.com").fields == {"City": "Zagreb"}
    # The next error file has the same columns again, not those of the one before as well.
    assert list(read_back("worse.csv")[0]) == header
    assert [row["line"] for row in read_back("worse.csv")] == ["4", "7", "8", "10", "12", "14"]
    assert_audit_ok(conn)


def test_an_error_file_can_be_fed_back_whatever_the_columns_are_called(drip: Open) -> None:
    one = drip()
    header = "name,email,value,Line,reason"
    import_in_place(one, write("deals.csv", header, "Ada,ada,100,7,"), errors="bad.csv")
    text = Path("bad.csv").read_text(encoding="utf-8-sig")
    assert text.startswith(f"{header},line,column,value,reason\nAda,ada,100,7,,2,email,ada,")
    Path("bad.csv").write_text(text.replace("Ada,ada,", "Ada,ada@example.com,"))
    assert counts_of(import_in_place(one, "bad.csv")) == {"read": 1, "added": 1}
    assert one.require_lead("1").fields == {"value": "100", "Line": "7"}


def test_a_workbook_is_imported_and_its_rows_are_named_as_excel_numbers_them(drip: Open) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (
        [],
        ["Customer", "E-Mail", "Tel", "Since"],
        ["Ada", "ada@example.com", 491701234567, date(2024, 1, 2)],
        [],
        ["Ben", "ben@example", None, None],
    ):
        book.active.append(row)
    book.save("leads.xlsx")
    mapping = {"name": "customer", "email": "e-mail", "phone": "TEL"}
    result = import_in_place(drip(), "leads.xlsx", mapping=mapping, errors="bad.csv")
    assert counts_of(result) == {"read": 2, "added": 1, "rejected": 1}
    assert [row["line"] for row in read_back("bad.csv")] == ["5"]
    lead = drip().require_lead("ada@example.com")
    assert (lead.phone, lead.fields) == ("491701234567", {"Since": "2024-01-02"})


def test_a_row_in_which_the_file_was_cut_off_is_left_out(drip: Open) -> None:
    Path("cut.csv").write_text("name,email,city\nAda,ada@example.com,Rome\nBen,ben@example.co")
    result = import_in_place(drip(), "cut.csv")
    assert counts_of(result) == {"read": 2, "added": 1, "rejected": 1}
    assert result.left_out == (
        "line 3: 2 cells where the header has 3, and the file ends: it seems cut off",
    )


# Leads that are there


def test_update_changes_what_the_file_says_and_keeps_what_it_leaves_empty(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = drip()
    one.add_lead(name="Ada", email="ada@example.com", phone="+1 202 555-0143", fields={"a": "1"})
    one.add_lead(name="Ben", email="ben@example.com", notes="kept", fields={"a": "1", "b": "2"})
    one.add_lead(name="Cleo", email="cleo@example.com")
    messages = conn.execute("select * from hyperdrip.message order by 1, 2, 3").fetchall()
    path = write(
        "new.csv",
        "name,email,phone,notes,b,c",
        "Ben Okafor,BEN@example.com,0049301234,,3,4",  # 2
        "Cleo,cleo@example.com,+49 30 1234,,,",  # 3: the phone that line 2 takes
        "Ada,ada@example.com,,new,,",  # 4
        "Cleo,cleo@example.com,,,,",  # 5: the address of line 3
        "Dan,dan@example.com,+12025550143,,,",  # 6: Ada's phone
        "Eve,eve@example.com,,,,",  # 7
    )
    result = import_in_place(one, path, existing="update", errors="bad.csv")
    assert counts_of(result) == {
        "read": 6,
        "added": 1,
        "updated": 2,
        "duplicates": 2,
        "rejected": 1,
    }
    assert [(row["line"], row["column"], row["reason"]) for row in read_back("bad.csv")] == [
        ("3", "phone", "the same phone as line 2"),
        ("5", "email", "the same address as line 3"),
        ("6", "phone", "the same phone as lead_1"),
    ]
    ada, ben, cleo, eve = one.list_leads()
    assert (ada.name, ada.phone, ada.notes, ada.fields) == (
        "Ada",
        "+1 202 555-0143",
        "new",
        {"a": "1"},
    )
    assert (ben.name, ben.email, ben.phone, ben.notes, ben.fields) == (
        "Ben Okafor",
        "ben@example.com",
        "0049301234",
        "kept",
        {"a": "1", "b": "3", "c": "4"},
    )
    assert (cleo.phone, eve.email) == (None, "eve@example.com")
    # Nothing of the calendar of those who were there has changed.
    assert (
        conn.execute(
            "select * from hyperdrip.message where lead_id < 4 order by 1, 2, 3"
        ).fetchall()
        == messages
    )
    assert_audit_ok(conn)


def test_enroll_begins_again_for_those_who_have_ended(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    one = drip()
    for name in ("done", "failed", "byhand", "optout", "active", "gone"):
        one.add_lead(name=name, email=f"{name}@example.com", max_messages=1)
    drain(dsn)
    change = "update hyperdrip.lead set status = %s, status_reason = %s where name = %s"
    for name, status, reason in (
        ("failed", "FAILED", "550"),
        ("byhand", "STOPPED", "by hand: moved"),
        ("optout", "STOPPED", "unsubscribed"),
    ):
        conn.execute(change, [status, reason, name])
    one.add_lead(name="late", email="late@example.com", max_messages=2)
    conn.execute("insert into hyperdrip.suppression values ('gone@example.com', 'bounced')")
    names = ("new", "failed", "done", "byhand", "optout", "late", "gone")
    path = write("l.csv", "name,email", *(f"{name} again,{name}@EXAMPLE.com" for name in names))
    result = import_in_place(one, path, existing="enroll", max_messages=3, errors="bad.csv")
    assert counts_of(result) == {
        "read": 7,
        "added": 1,
        "enrolled": 3,
        "duplicates": 2,
        "suppressed": 1,
    }
    assert [row["reason"] for row in read_back("bad.csv")] == [
        "lead_4 is STOPPED",
        "lead_7 is ACTIVE",
        "suppressed: bounced",
    ]
    for name in ("new", "failed", "done", "byhand"):
        lead = one.require_lead(f"{name}@example.com")
        assert (lead.status, lead.run, lead.message_count) == ("ACTIVE", 1 + (name != "new"), 0)
        assert len(one.list_lead_messages(lead)) == 3
    assert one.require_lead("1").name == "done"  # enrolled, not updated
    assert_audit_ok(conn)
    assert drain(dsn).sent == 5
    assert_audit_ok(conn)


# Nothing or all


def test_a_dry_run_reports_the_same_and_moves_not_even_a_sequence(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = prepare(conn, drip)
    write("list.csv", *LIST)
    for existing in ("skip", "update", "enroll"):
        before = everything(conn)
        dry = import_in_place(one, "list.csv", existing=existing, is_dry_run=True, errors="dry.csv")
        assert everything(conn) == before
        assert dry.import_id is None
    real = import_in_place(one, "list.csv", existing=existing, errors="real.csv")
    assert counts_of(dry) == counts_of(real)
    assert (dry.first_day, dry.last_day, dry.planned) == (
        real.first_day,
        real.last_day,
        real.planned,
    )
    assert dict(
        conn.execute(
            "select day, reserved - (reserved > 3)::int from hyperdrip.quota_day"
        ).fetchall()
    ) == dict(real.planned)
    assert dry.left_out == real.left_out
    assert Path("dry.csv").read_text() == Path("real.csv").read_text()


def test_no_room_refuses_all_and_names_the_daily_maximum_that_fits(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = drip(SCHEDULE_HORIZON_DAYS=9)
    one.set_daily_max(10)
    add_leads(conn, 10, messages=2)
    Path("bad.csv").write_text("of an earlier import")
    path = write_many("many.csv", range(100), tail="Ada,ada\n")
    before = everything(conn)
    with pytest.raises(NoRoomError, match=r"quota set default (\d+)$") as refusal:
        import_in_place(one, path, errors="bad.csv")
    fitting = int(str(refusal.value).rsplit(" ", 1)[1])
    assert_nothing_new(conn, before)
    assert staged(conn) == (0, 0)
    assert Path("bad.csv").read_text() == "of an earlier import"
    assert [path.name for path in sorted(Path().iterdir())] == ["bad.csv", "many.csv"]

    one.set_daily_max(fitting - 1)
    with pytest.raises(NoRoomError):
        import_in_place(one, path)
    one.set_daily_max(fitting)
    result = import_in_place(one, path, errors="bad.csv")
    assert counts_of(result) == {"read": 101, "added": 100, "rejected": 1}
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    "tail",
    ["A\0da,ada@example.com\n", '"Ada,ada@example.com\n'],
    ids=["NUL", "quote"],
)
def test_a_failure_in_row_90000_leaves_nothing(
    conn: psycopg.Connection, drip: Open, tail: str
) -> None:
    rows = "".join(f"L,l{n}@example.com\n" for n in range(90_000))
    more = "".join(f"M,m{n}@example.com\n" for n in range(10_000))
    content = b"name,email\n" + rows.encode() + tail.encode("latin-1") + more.encode()
    Path("many.csv").write_bytes(content)
    before = everything(conn)
    with pytest.raises(InvalidDataError, match=r"'many.csv' line 90002"):
        import_in_place(drip(), "many.csv", encoding="utf-8", errors="bad.csv")
    assert everything(conn) == before
    assert not Path("bad.csv").exists()


@pytest.mark.parametrize("stage", ["Reading", "Deciding", "Writing leads", "Planning"])
@pytest.mark.own_sessions
def test_a_connection_that_is_lost_in_the_middle_leaves_nothing(
    conn: psycopg.Connection, drip: Open, stage: str
) -> None:
    one = drip()
    path = write_many("many.csv", range(1500))
    write_many("bad.csv", [])
    before = everything(conn)

    def cut(what: str, _part: float) -> None:
        if what == stage:
            conn.execute("select pg_terminate_backend(%s)", [one._conn.info.backend_pid])

    with pytest.raises(DatabaseUnavailable):
        one.import_file(path, ImportOptions(errors=Path("bad.csv")), on_progress=cut)
    assert_nothing_new(conn, before)
    assert read_back("bad.csv") == []
    assert_audit_ok(conn)
    # Its staged rows are personal data, and no use to anybody: a later import removes them.
    assert staged(conn)[1] == 1
    conn.execute("update hyperdrip.import_batch set started_at = now() - interval '25 hours'")
    assert counts_of(import_in_place(drip(), path)) == {"read": 1500, "added": 1500}
    assert staged(conn) == (0, 0)


def test_rows_of_a_killed_import_stay_until_they_are_old(
    conn: psycopg.Connection, subprocess_environment: dict[str, str], drip: Open
) -> None:
    path = write_many("many.csv", range(100))
    with conn.transaction():
        quota.lock_planner(conn)
        running = subprocess.Popen(
            [sys.executable, "-m", "hyperdrip", "import", path],
            env=subprocess_environment,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: count_waiting(conn) == 1)
        running.kill()
        running.wait()
    wait_until(lambda: count_waiting(conn) == 0)
    assert staged(conn) == (100, 1)
    assert counts_of(import_in_place(drip(), path))["added"] == 100
    assert staged(conn) == (100, 1)
    conn.execute("update hyperdrip.import_batch set started_at = now() - interval '25 hours'")
    assert counts_of(import_in_place(drip(), path)) == {"read": 100, "duplicates": 100}
    assert staged(conn) == (0, 0)
    assert_audit_ok(conn)


def test_ctrl_c_leaves_nothing_not_even_staged_rows(
    conn: psycopg.Connection, subprocess_environment: dict[str, str]
) -> None:
    path = write_many("many.csv", range(100), tail="Ada,ada\n")
    before = everything(conn)
    with conn.transaction():
        quota.lock_planner(conn)
        running = subprocess.Popen(
            [sys.executable, "-m", "hyperdrip", "import", path, "--errors", "bad.csv"],
            env=subprocess_environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: count_waiting(conn) == 1)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (130, "error: stopped\n")
    assert_nothing_new(conn, before)
    assert staged(conn) == (0, 0)
    assert [found.name for found in Path().iterdir()] == ["many.csv"]


def test_an_import_in_a_transaction_of_the_caller_s_is_undone_with_it(
    conn: psycopg.Connection, drip: Open
) -> None:
    one = Hyperdrip(settings=drip().settings, conn=conn)
    path = write_many("many.csv", range(10), tail="Ada,ada\n")
    before = everything(conn)
    with conn.transaction(force_rollback=True):
        assert counts_of(import_in_place(one, path)) == {"read": 11, "added": 10, "rejected": 1}
        with pytest.raises(InvalidDataError):
            import_in_place(one, write("bad.csv", "name,email", '"Ada" M,x'))
        assert staged(conn) == (0, 0)
        assert len(one.list_leads()) == 10
    assert_nothing_new(conn, before)
    assert counts_of(import_in_place(one, path))["added"] == 10
    assert_audit_ok(conn)


def test_a_start_or_campaign_that_cannot_be_is_said_before_anything_is_read(drip: Open) -> None:
    with pytest.raises(NotFoundError, match="no campaign 'x'"):
        drip().import_file("gone.csv", campaign="x")
    with pytest.raises(InvalidDataError, match="is in the past"):
        import_in_place(drip(), "gone.csv", start=MONDAY - timedelta(days=1))
    with pytest.raises(InvalidDataError, match="max-messages=0"):
        import_in_place(drip(), "gone.csv", max_messages=0)


# The error file


def test_an_error_file_that_cannot_be_written_takes_nothing(
    conn: psycopg.Connection, drip: Open
) -> None:
    path = write("list.csv", "name,email", *(f"L{n},x" for n in range(5000)), "A,a@example.com")
    Path("folder").mkdir()
    before = everything(conn)
    for errors, reason in {
        "/dev/full": "No space left on device",
        "folder": "Is a directory",
        "gone/bad.csv": "No such file or directory",
    }.items():
        with pytest.raises(HyperdripError) as refusal:
            import_in_place(drip(), path, errors=errors)
        assert str(refusal.value) == (
            f"--errors '{errors}' cannot be written: {reason}; nothing was taken"
        )
        assert refusal.value.exit_code == 1
        assert everything(conn) == before
    write("one.csv", "name,email", "A,a", "B,b@example.com")  # so short that it is buffered
    with pytest.raises(HyperdripError, match="No space left on device; nothing was taken"):
        import_in_place(drip(), "one.csv", errors="/dev/full")
    assert_nothing_new(conn, before)
    assert staged(conn) == (0, 0)


def test_the_file_that_is_read_is_never_written_over(
    conn: psycopg.Connection, drip: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("list.csv", "name,email", "A,a")
    Path("link.csv").symlink_to(path)
    with Path(path).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        for source, errors in ((path, "list.csv"), (path, "link.csv"), ("-", "./list.csv")):
            with pytest.raises(SettingsError, match="is the file that is read; name another"):
                import_in_place(drip(), source, errors=errors)
    assert Path(path).read_text() == "name,email\nA,a\n"
    assert staged(conn) == (0, 0)


def test_an_error_file_takes_the_place_of_an_older_one_where_that_is(drip: Open) -> None:
    Path("real.csv").write_text("old")
    Path("link.csv").symlink_to("real.csv")
    import_in_place(drip(), write("list.csv", "name,email", "A,a"), errors="link.csv")
    assert Path("link.csv").is_symlink()
    assert [row["line"] for row in read_back("real.csv")] == ["2"]
    # Refused before a row is read: what somebody mends by now is still there.
    write("columns.csv", "name,mail", "A,a")
    with pytest.raises(InvalidDataError, match="no column 'email'"):
        import_in_place(drip(), "columns.csv", errors="real.csv")
    assert [row["line"] for row in read_back("real.csv")] == ["2"]


def test_a_file_name_that_is_no_text_is_imported(conn: psycopg.Connection, drip: Open) -> None:
    path = b"l\xe9ads.csv".decode("utf-8", "surrogateescape")
    write(path, "name,email", "Ada,ada@example.com")
    assert import_in_place(drip(), path).added == 1
    assert conn.execute("select source from hyperdrip.lead_import").fetchone() == (
        "l\\udce9ads.csv",
    )


# Taking back


def test_undo_takes_back_what_was_not_sent_and_frees_its_days(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    one = drip()
    one.set_daily_max(10)
    add_leads(conn, 5, messages=3)
    first = import_in_place(one, write_many("first.csv", range(10)), max_messages=3)
    days = conn.execute("select day, reserved from hyperdrip.quota_day order by day").fetchall()
    second = import_in_place(one, write_many("second.csv", range(5, 30)), max_messages=3)
    assert (second.added, second.duplicates) == (20, 5)
    assert second.import_id is not None
    undone = one.undo_import(second.import_id)
    assert (undone.removed, undone.stopped) == (20, 0)
    assert (
        conn.execute(
            "select day, reserved from hyperdrip.quota_day where reserved > 0 order by day"
        ).fetchall()
        == days
    )
    assert_audit_ok(conn)
    with pytest.raises(ConflictError, match="import 2 was undone already"):
        one.undo_import(second.import_id)
    with pytest.raises(NotFoundError, match="no import 3"):
        one.undo_import(3)

    assert drain(dsn).sent == 10  # five of the first import's leads are under way
    assert first.import_id is not None
    undone = one.undo_import(first.import_id)
    assert (undone.removed, undone.stopped) == (5, 5)
    assert count_states(conn) == {"sent": 10, "planned": 10, "cancelled": 10}
    assert_audit_ok(conn)
    again = import_in_place(one, "first.csv", existing="enroll", max_messages=3)
    assert counts_of(again) == {"read": 10, "added": 5, "enrolled": 5}
    assert_audit_ok(conn)


# At the same time


def test_two_imports_of_overlapping_files_at_once_add_everybody_once(
    conn: psycopg.Connection, drip: Open
) -> None:
    files = [write_many("a.csv", range(300)), write_many("b.csv", reversed(range(200, 500)))]
    ones = [drip(), drip()]
    results: dict[str, ImportResult] = {}

    def run(one: Hyperdrip, path: str) -> None:
        results[path] = import_in_place(one, path, errors=f"{path}.bad")

    threads = [threading.Thread(target=run, args=args) for args in zip(ones, files, strict=True)]
    with conn.transaction():
        quota.lock_planner(conn)
        for thread in threads:
            thread.start()
        wait_until(lambda: count_waiting(conn) == 2)
    for thread in threads:
        thread.join()
    assert sorted(result.added for result in results.values()) == [200, 300]
    assert sorted(result.duplicates for result in results.values()) == [0, 100]
    (later,) = (path for path, result in results.items() if result.duplicates)
    assert all("the same address as lead_" in row["reason"] for row in read_back(f"{later}.bad"))
    assert len(one_list(conn)) == 500
    assert staged(conn) == (0, 0)
    assert_audit_ok(conn)


def one_list(conn: psycopg.Connection) -> Sequence[tuple[str]]:
    return conn.execute("select distinct lower(email) from hyperdrip.lead").fetchall()


def test_an_import_under_way_does_not_keep_a_worker_from_sending(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    add_leads(conn, 50)
    sent: list[int] = []

    def work(what: str, part: float) -> None:
        if what in ("Deciding", "Writing leads") or part == 1.0:
            sent.append(drain(dsn, AnsweringSender(wave_size=7)).sent)

    result = drip().import_file(
        write_many("many.csv", range(200)), ImportOptions(), on_progress=work
    )
    assert result.added == 200
    assert sum(sent) == 50
    assert drain(dsn).sent == 50
    assert count_states(conn, MONDAY) == {"sent": 100}
    assert_audit_ok(conn)


def test_a_send_under_way_does_not_keep_an_import_from_committing(
    conn: psycopg.Connection, dsn: str, drip: Open
) -> None:
    add_leads(conn, 40, messages=1)
    one = drip()
    path = write_many("many.csv", range(200))

    def begin(claim: Claim) -> None:
        if claim.lead_id == 20:
            assert import_in_place(one, path, max_messages=2).added == 200

    sender = AnsweringSender(wave_size=30, before=begin)
    assert drain(dsn, sender).sent == 100
    assert len(set(sender.keys)) == 100
    assert_audit_ok(conn)


# Size


def test_statistics_that_know_another_batch_do_not_make_deciding_slow(
    conn: psycopg.Connection, drip: Open
) -> None:
    """Rows of a batch that statistics have never seen: each must not be compared with all."""
    conn.execute("alter table hyperdrip.import_row set (autovacuum_enabled = off)")
    plans: list[str] = []

    def look(what: str, _part: float) -> None:
        if what != "Deciding":
            return
        (batch,) = conn.execute("select id from hyperdrip.import_batch").fetchone() or (0,)
        values = {
            "batch": batch,
            "existing": "skip",
            "has_suppressions": False,
            "is_dry_run": True,
        }
        rows = conn.execute(b"explain " + query("decide_import"), values).fetchall()
        plans.append("\n".join(line for (line,) in rows))
        conn.execute("analyze hyperdrip.import_row")

    for first in (0, 3000):
        path = write_many("many.csv", range(first, first + 3000))
        drip().import_file(path, ImportOptions(), max_messages=1, on_progress=look)
    assert "rows=1 " in plans[1]
    assert "Tid Scan on import_row" in plans[1]
    assert "Join Filter: (numbered" not in plans[1]


MEASURE = """
import re, resource, sys
from hyperdrip import Hyperdrip
from hyperdrip.importing import ImportOptions
from pathlib import Path
with Hyperdrip.open() as drip:
    result = drip.import_file(
        sys.argv[1], ImportOptions(errors=Path("bad.csv")), max_messages=1
    )
# getrusage knows what the parent used, too: a process inherits that over fork and exec.
status = Path("/proc/self/status")
peak = (
    int(re.search(r"VmHWM:\\s+([0-9]+) kB", status.read_text())[1])
    if status.exists()
    else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
)
print(result.added, result.rejected, peak // 1024)
"""


@pytest.mark.slow
@pytest.mark.long
def test_memory_does_not_grow_with_the_rows(
    conn: psycopg.Connection, drip: Open, subprocess_environment: dict[str, str]
) -> None:
    drip().set_daily_max(1_000_000)
    used = []
    for first, count in ((0, 10_000), (10_000, 100_000)):
        out = io.StringIO()
        for number in range(first, first + count):
            out.write(f"Lead {number},many{number}{'' if number % 10 else '@'}@example.com\n")
        path = write("many.csv", "name,email")
        with Path(path).open("a") as file:
            file.write(out.getvalue())
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, path],
            env=subprocess_environment,
            capture_output=True,
            text=True,
            check=True,
        )
        added, rejected, megabytes = map(int, done.stdout.split())
        assert (added, rejected) == (count * 9 // 10, count // 10)
        used.append(megabytes)
    assert used[1] - used[0] < 8, used
    assert staged(conn) == (0, 0)
