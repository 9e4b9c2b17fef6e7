"""`leads pause|resume|stop|enroll|move|erase|export|search` as they are typed."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hyperdrip import Hyperdrip
from hyperdrip.models import Lead
from tests.acceptance.commands import HYPERDRIP, Commands, wait_until
from tests.factories import AnsweringSender, add_leads, assert_audit_ok, make_worker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def typed(commands: Commands) -> Commands:
    """Commands within this process."""
    return commands.within


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Give bytes to whatever reads standard input next."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def statuses(conn: psycopg.Connection[Any]) -> list[str]:
    return [status for (status,) in conn.execute("select status from hyperdrip.lead order by id")]


# What is printed


def test_a_command_says_what_it_did_and_what_it_left(
    conn: psycopg.Connection[Any], typed: Commands
) -> None:
    add_leads(conn, 3, messages=2)
    one = typed.run("leads", "pause", "lead_1", "--reason", "on holiday")
    assert one.out == "Paused 1 lead; 2 messages taken off the calendar\n"
    many = typed.run("leads", "pause", "--status", "active", "--yes")
    assert many.out == "Paused 2 leads; 4 messages taken off the calendar\n"
    again = typed.run("leads", "pause", "1", "2", "3", "--yes")
    assert again.out == "Paused 0 leads; 3 left as they are\n"
    assert again.err.splitlines() == ["lead_1 is PAUSED", "lead_2 is PAUSED", "lead_3 is PAUSED"]
    dry = typed.run("leads", "resume", "--status", "PAUSED", "--dry-run")
    assert dry.out.startswith(
        "Dry run: would resume 3 leads; 6 messages planned, from 2024-01-15 to 2024-01-16\n"
    )
    assert [line.split() for line in dry.out.splitlines()[-2:]] == [
        ["2024-01-15", "3"],
        ["2024-01-16", "3"],
    ]
    assert statuses(conn) == ["PAUSED"] * 3
    typed.run("leads", "stop", "lead_2", "--reason", "asked by phone")
    typed.run("leads", "stop", "lead_3", "--reason", "Unsubscribed")
    shown = typed.json("leads", "list")
    assert [lead["statusReason"] for lead in shown] == [
        "on holiday",
        "by hand: asked by phone",
        "unsubscribed",
    ]
    assert typed.json("leads", "enroll", "2", "3", "--max-messages", "1", "--yes") == {
        "dryRun": False,
        "selected": 2,
        "changed": 1,
        "leads": ["lead_2"],
        "messages": 1,
        "displaced": 0,
        "firstDay": "2024-01-15",
        "lastDay": "2024-01-15",
        "planned": [{"day": "2024-01-15", "messages": 1}],
        "leftOut": [{"lead": "lead_3", "reason": "is suppressed: unsubscribed"}],
        "refused": [],
    }
    moved = typed.run("leads", "move", "lead_2", "--by", "3")
    assert moved.out == "Moved 1 lead; 1 message moved on 2024-01-18\n"
    back = typed.run("leads", "move", "lead_2", "--by", "-1")
    assert back.out == "Moved 1 lead; 1 message moved on 2024-01-17\n"
    assert_audit_ok(conn)


def test_a_selection_that_matches_nobody_says_so(
    conn: psycopg.Connection[Any], typed: Commands, stdin: Callable[[bytes], None]
) -> None:
    add_leads(conn, 2)
    for command in (["pause"], ["resume"], ["stop"], ["enroll"], ["move", "--by", "1"], ["erase"]):
        assert typed.run("leads", *command, "--where", "a=b").out == "No lead matches\n"
    # Nothing on standard input is nobody, and not everybody.
    stdin(b"# nobody\n\n")
    assert typed.run("leads", "stop", "-", "--yes").out == "No lead matches\n"
    assert typed.json("leads", "erase", "--status", "FAILED")["selected"] == 0
    assert typed.run("leads", "search", "nobody").out == "No lead matches\n"
    assert statuses(conn) == ["ACTIVE"] * 2


def test_leads_are_read_from_standard_input(
    conn: psycopg.Connection[Any], typed: Commands, stdin: Callable[[bytes], None]
) -> None:
    add_leads(conn, 4)
    email = conn.execute("select upper(email) from hyperdrip.lead where id = 2").fetchone()
    assert email is not None
    stdin(f"\ufeff# these\r\nlead_1\r\n\r\n  {email[0]}  \r\n1\r\n".encode())
    done = typed.json("leads", "pause", "-", "4", "--yes")
    assert done["leads"] == ["lead_1", "lead_2", "lead_4"]
    stdin(b"lead_1\nlead_9\n")
    assert "no lead 'lead_9'" in typed.run("leads", "stop", "-", "--yes", code=3).err
    stdin(b"lead_1\n\xff\xfe\n")
    assert "standard input is not UTF-8" in typed.run("leads", "stop", "-", "--yes", code=5).err
    assert statuses(conn) == ["PAUSED", "PAUSED", "ACTIVE", "PAUSED"]


# Who has to be asked


def test_more_than_one_lead_needs_a_yes_where_nobody_can_be_asked(
    conn: psycopg.Connection[Any], typed: Commands, stdin: Callable[[bytes], None]
) -> None:
    add_leads(conn, 2)
    for command in (["pause"], ["resume"], ["stop"], ["enroll"], ["move", "--by", "1"], ["erase"]):
        ended = typed.run("leads", *command, "--status", "ACTIVE", code=2)
        assert f"this would {command[0]} 2 leads" in ended.err
        assert "--yes" in ended.err
        assert ended.err.count("\n") == 1
    # What has no way back is asked about for one lead as well.
    assert "erase 1 lead" in typed.run("leads", "erase", "lead_1", code=2).err
    stdin(b"lead_1\nlead_2\n")
    assert "pause 2 leads" in typed.run("leads", "pause", "-", code=2).err
    assert statuses(conn) == ["ACTIVE"] * 2
    assert typed.run("leads", "erase", "lead_1", "--yes").out.startswith("Erased 1 lead; 5 mess")


def test_who_is_being_sent_to_is_named_and_not_erased(
    conn: psycopg.Connection[Any], dsn: str, typed: Commands
) -> None:
    add_leads(conn, 2)
    # Sent, and the worker has not written it down yet.
    with closing(make_worker(dsn, AnsweringSender(wave_size=1))) as worker:
        assert worker.step()
        ended = typed.run("leads", "erase", "1", "2", "--yes", code=4)
        dry = typed.run("leads", "erase", "1", "--dry-run")
    assert ended.out == "Erased 1 lead; 5 messages cancelled; 1 lead left as it is\n"
    assert ended.err.splitlines() == [
        "lead_1 has a message that is being sent",
        "error: lead_1 has a message that is being sent; not erased, try again once it is settled",
    ]
    assert dry.out == "Dry run: would erase 0 leads; 1 lead left as it is\n"
    assert statuses(conn) == ["ACTIVE", "STOPPED"]
    assert_audit_ok(conn)


@pytest.mark.parametrize(
    ("arguments", "answer", "found"),
    [
        (("pause", "1", "2"), "YES", ["PAUSED", "PAUSED"]),
        (("pause", "1", "2"), "", None),
        (("erase", "1"), "n", None),
        (("erase", "1"), "y", ["STOPPED", "ACTIVE"]),
        (("pause", "1"), None, ["PAUSED", "ACTIVE"]),
    ],
)
def test_at_a_terminal_a_person_is_asked(
    conn: psycopg.Connection[Any],
    commands: Commands,
    arguments: tuple[str, ...],
    answer: str | None,
    found: list[str] | None,
) -> None:
    add_leads(conn, 2)
    master, slave = os.openpty()
    process = subprocess.Popen(
        [HYPERDRIP, "leads", *arguments, "--json"],
        env=commands.environment(PYTHONPATH=ROOT),
        cwd=commands.folder,
        stdin=slave,
        stderr=slave,
        stdout=subprocess.PIPE,
    )
    os.close(slave)
    said = ""
    try:
        if answer is not None:

            def read_question() -> bool:
                nonlocal said
                said += os.read(master, 1000).decode()
                return "[y/N] " in said

            wait_until(read_question, "a question")
            assert ("for good? [y/N]" in said) == (arguments[0] == "erase")
            os.write(master, f"{answer}\n".encode())
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(master)
    assert process.returncode == (0 if found else 1), said
    # Only data on standard output, whatever was asked.
    assert (json.loads(out)["changed"] > 0) if found else (out == b"")
    assert statuses(conn) == (found or ["ACTIVE", "ACTIVE"])


REFUSED: list[tuple[list[str], int, str]] = [
    (["pause"], 2, "say which leads: LEAD, - for standard input, --campaign, --status"),
    (["enroll", "--campaign", "default"], 2, "say which leads: LEAD, - for standard"),
    (["move", "1"], 2, "either --to DAY or --by N"),
    (["move", "1", "--by", "1", "--to", "2024-02-01"], 2, "either --to DAY or --by N"),
    (["move", "1", "--by", "x"], 2, "'x' is no whole number"),
    (["move", "1", "--to", "2024-02-31"], 2, "'2024-02-31' is no day"),
    (["move", "1", "--to", "2024-01-14"], 5, "to=2024-01-14 is in the past"),
    (["enroll", "1", "--start", "2024-01-14"], 5, "start=2024-01-14 is in the past"),
    (["enroll", "1", "--campaign", "spring"], 3, "no campaign 'spring'"),
    (["pause", "--campaign", "spring"], 3, "no campaign 'spring'"),
    (["pause", "--status", "PAUSD"], 2, "did you mean PAUSED"),
    (["pause", "--where", "company"], 2, "--where 'company' is not of the form FIELD=VALUE"),
    (["pause", "--import", "7"], 3, "no import 7"),
    (["pause", "lead_1", "lead_7", "x@y.z"], 3, "no lead 'lead_7', 'x@y.z'"),
    (["stop", "1", "--reason", "two\nlines"], 5, "control characters or a line break"),
    (["search", " "], 2, "the text to look for is empty"),
    (["search", "\udcff"], 5, "not UTF-8"),
    (["export", "--format", "xlsx"], 2, "--format 'xlsx' is not one of: csv, jsonl"),
    (["export", "lead_7"], 3, "no lead 'lead_7'"),
    (["export", "--output", "."], 1, "--output '.' cannot be written"),
    (["export", "--output", "no/such/folder.csv"], 1, "cannot be written"),
]


def test_what_cannot_be_done_is_one_line_with_its_exit_code(
    conn: psycopg.Connection[Any], typed: Commands
) -> None:
    add_leads(conn, 1)
    for arguments, code, words in REFUSED:
        ended = typed.run("leads", *arguments, code=code)
        assert words in ended.err
        assert (ended.out, ended.err.count("\n"), ended.err[:7]) == ("", 1, "error: ")
        assert statuses(conn) == ["ACTIVE"]


# Exporting


STRANGE = [
    {"name": "=1+1", "phone": "+1 202 555 0143", "notes": '-a\nb,"c";d\te'},
    {"name": "'=x", "notes": "''@x", "fields": {"company": "@Northwind", "=1": "+2"}},
    {"name": "Zoë 'Q'", "fields": {"Company": "A", "email": "b", "a;b": 'say "no"'}},
    {"name": "plain", "fields": {"company": "-", "status": "x", "field 2: y": "z"}},
]


def known(leads: list[Lead]) -> list[tuple[Any, ...]]:
    return [(lead.name, lead.email, lead.phone, lead.notes, lead.fields) for lead in leads]


def test_an_exported_file_can_be_imported_again(
    new_database: Callable[..., str], typed: Commands, drip: Callable[..., Hyperdrip]
) -> None:
    one = drip()
    for number, values in enumerate(STRANGE):
        one.add_lead(email=f"strange{number}@example.com", **values)
    ended = typed.run("leads", "export", "--output", "out.csv")
    assert (ended.out, ended.err) == ("", "Exported 4 leads to 'out.csv'\n")
    file = typed.folder / "out.csv"
    assert file.read_bytes().startswith(b"\xef\xbb\xbfname,email,phone,notes,'=1,")
    rows = list(csv.reader(io.StringIO(file.read_text("utf-8-sig"), newline="")))
    assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r") and cell]
    assert [path.name for path in typed.folder.iterdir()] == ["out.csv"]

    other = new_database()
    again = Commands(typed.folder, **{**typed.settings, "DATABASE_URL": other}).within
    assert again.json("import", "out.csv")["added"] == 4
    with Hyperdrip(other, one.settings) as copy:
        assert known(copy.list_leads()) == known(one.list_leads())
    # An error file of it can be mended and fed back like any other.
    file.write_text(
        file.read_text("utf-8-sig").replace("strange0@example.com", "strange0"), "utf-8"
    )
    third = Commands(typed.folder, **{**typed.settings, "DATABASE_URL": new_database()}).within
    third.run("import", "out.csv", "--errors", "errors.csv", code=5)
    mended = typed.folder / "errors.csv"
    text = mended.read_text("utf-8-sig").replace("strange0,", "strange0@example.com,")
    mended.write_text(text, "utf-8")
    assert third.json("import", "errors.csv")["added"] == 1
    with Hyperdrip(str(third.settings["DATABASE_URL"]), one.settings) as copy:
        found = sorted(copy.list_leads(), key=lambda lead: lead.email)
        assert known(found) == known(one.list_leads())


def test_json_lines_are_the_leads_as_they_are(
    typed: Commands, drip: Callable[..., Hyperdrip]
) -> None:
    for number, values in enumerate(STRANGE):
        drip().add_lead(email=f"strange{number}@example.com", **values)
    listed = typed.json("leads", "list")
    lines = typed.run("leads", "export", "--format", "jsonl").out
    assert [json.loads(line) for line in lines.splitlines()] == listed
    assert typed.json("leads", "export") == listed
    assert typed.json("leads", "export", "--status", "PAUSED") == []
    assert typed.json("leads", "export", "3", "1") == [listed[0], listed[2]]
    # What was erased is there, with nothing that is anybody's.
    typed.run("leads", "erase", "lead_1", "--yes")
    first = typed.json("leads", "export")[0]
    assert (first["name"], first["email"], first["status"]) == (
        "erased",
        "erased-1@invalid",
        "STOPPED",
    )
    _, row = typed.run("leads", "export", "1").out.splitlines()
    assert row.split(",")[:4] == ["erased", "erased-1@invalid", "", ""]


def test_a_search_prints_what_a_list_does(conn: psycopg.Connection[Any], typed: Commands) -> None:
    add_leads(conn, 3)
    assert typed.run("leads", "search", "EXAMPLE").out == typed.run("leads", "list").out
    found = typed.json("leads", "search", "example", "--limit", "2")
    assert found == typed.json("leads", "list", "--limit", "2")


def test_an_export_into_a_pipe_that_closes_ends_quietly(
    conn: psycopg.Connection[Any], commands: Commands
) -> None:
    add_leads(conn, 2000, messages=1)
    environment = commands.environment(PYTHONPATH=ROOT)
    done = subprocess.run(
        f"'{HYPERDRIP}' leads export | head -n 1",
        shell=True,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("name,email,phone,notes,hyperdrip id,")
    assert (done.returncode, done.stderr) == (0, "")
