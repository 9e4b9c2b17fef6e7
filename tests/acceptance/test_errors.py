"""Every exit code, and that every error is one line that says what to do and keeps secrets."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.commands import Commands, Ended, commands_on, is_waiting, wait_until
from tests.factories import add_leads

PASSWORD = "pa55-never-shown"
LEAD = ("add-lead", "--name", "Ada", "--email")

# (words of the command, exit code, what the line says)
REFUSED = [
    # 2: wrong usage
    (["nope"], 2, r"no such command 'nope'; see: hyperdrip --help"),
    (["leads", "nope"], 2, r"no such command 'nope'; see: hyperdrip leads --help"),
    (
        ["leads", "list", "--nope"],
        2,
        r"no such option: --nope.*[;?] see: hyperdrip leads list --help",
    ),
    (["add-lead"], 2, r"missing option '--name'; see: hyperdrip add-lead --help"),
    (["leads", "show"], 2, r"missing argument 'LEAD'; see: .*"),
    (["worker", "now"], 2, r"got unexpected extra argument\(s\) \(now\); see: .*"),
    ([*LEAD, "a@example.com", "--field", "x"], 2, r".*--field 'x' is not of the form NAME=VALUE.*"),
    ([*LEAD, "a@example.com", "--start", "tomorrow"], 2, r".*'tomorrow' is no day such as .*"),
    ([*LEAD, "a@example.com", "--start", "2024-02-30"], 2, r".*'2024-02-30' is no day such as .*"),
    (
        [*LEAD, "a@example.com", "--max-messages", "two"],
        2,
        r"invalid value for '--max-messages': 'two' is no whole number; .*",
    ),
    (["messages", "list", "--day", "20240115"], 2, r".*'20240115' is no day such as 2024-01-15.*"),
    (["messages", "list", "--state", "x"], 2, r".*'x' is not one of: planned, sending, sent, .*"),
    (["leads", "list", "--status", "x"], 2, r".*'x' is not one of: ACTIVE, COMPLETED, FAILED, .*"),
    (["quota", "set", "default", "default"], 2, r".*give a number: hyperdrip quota set default.*"),
    (["--env-file", "gone.env", "plan"], 2, r"--env-file 'gone.env' is no file that can be read"),
    (["worker", "--sender", "pigeon"], 2, r"SENDER='pigeon' is not one of: console, null, smtp"),
    (["worker", "--poll-interval", "x"], 2, r"WORKER_POLL_INTERVAL='x' is not a whole number .*"),
    (["worker", "--message-delay", "-1"], 2, r"WORKER_MESSAGE_DELAY='-1' is not a whole number.*"),
    (["worker", "--concurrency", "0"], 2, r"CONCURRENCY='0' is not a whole number from 1 to 1000"),
    (["db", "reset"], 2, r".*no terminal to ask at; to say it: --confirm \w+"),
    (["--no-input", "db", "reset"], 2, r".*no terminal to ask at; to say it: --confirm \w+"),
    (["db", "reset", "--confirm", "x"], 2, r"'x' is not the database's name; nothing was dropped"),
    (["db", "stop"], 2, r"DATABASE_URL is set, so there is no embedded server to stop"),
    # 3: not there
    (["leads", "show", "7"], 3, r"no lead '7'; .*"),
    (["leads", "show", "lead_7"], 3, r"no lead 'lead_7'; .*"),
    (["leads", "show", "n@example.com"], 3, r"no lead 'n@example.com'; .*"),
    (["leads", "list", "--campaign", "x"], 3, r"no campaign 'x'; .*"),
    (["messages", "show", "7", "1"], 3, r"no lead '7'; .*"),
    (["messages", "show", "1", "3"], 3, r"lead_1 has no message 3; it has 2"),
    (["messages", "list", "--lead", "7"], 3, r"no lead '7'; .*"),
    (["queues", "peek", "2030-01-01"], 3, r"no queue test-drip-messages-2030-01-01; .*"),
    ([*LEAD, "a@example.com", "--campaign", "x"], 3, r"no campaign 'x'; .*"),
    # 4: conflict
    ([*LEAD, "There@example.com"], 4, r"address There@example.com belongs to lead_1 already; .*"),
    # 5: invalid data
    ([*LEAD, "nobody"], 5, r"email='nobody' is no e-mail address: .*"),
    ([*LEAD, "a@example.com", "--phone", "call me"], 5, r"phone='call me' is no phone number; .*"),
    (
        [*LEAD, "a@example.com", "--max-messages", "0"],
        5,
        r"max-messages=0 is not a number from 1.*",
    ),
    ([*LEAD, "a@example.com", "--start", "2024-01-14"], 5, r"start=2024-01-14 is in the past; .*"),
    ([*LEAD, "a@example.com", "--start", "2026-01-01"], 5, r"no room before 2025-01-14 for 1 x .*"),
    (["add-lead", "--name", " ", "--email", "a@example.com"], 5, r"name is empty; .*"),
    (["add-lead", "--name", "a\nb", "--email", "a@example.com"], 5, r"name='a\\nb' has .*"),
    (["leads", "list", "--limit", "0"], 5, r"limit=0 is not a number from 1 to .*"),
    (["quota", "show", "--days", "731"], 5, r"days=731 is not a number from 1 to 730"),
    (["quota", "set", "default", "0"], 5, r"daily maximum 0 is below 1; to stop: hyperdrip pause"),
    (["quota", "set", "2024-01-14", "3"], 5, r"day 2024-01-14 is in the past; .*"),
    (["quota", "set", "2024-01-17..2024-01-16", "3"], 5, r".*no range of 1 to 730 days.*"),
    (["import", "gone.csv"], 5, r"'gone.csv' cannot be read: No such file or directory"),
    (["import", "."], 5, r"'.' is a folder; name a CSV file"),
    (["import", "nul.csv"], 5, r"'nul.csv' line 2 has a NUL: it is binary or damaged; .*"),
    (["import", "columns.csv"], 5, r"'columns.csv' has no column 'email'; it has: name, mail; .*"),
    (["import", "quote.csv"], 5, r"'quote.csv' line 2: a quotation mark is never closed; .*"),
]

WRONG_SETTINGS = [
    ({"DAILY_MAX": "0"}, r"DAILY_MAX='0' is not a whole number from 1 to \d+"),
    ({"DAILY_MAX": "many"}, r"DAILY_MAX='many' is not a whole number from 1 to \d+"),
    ({"MAX_MESSAGES": "366"}, r"MAX_MESSAGES='366' is not a whole number from 1 to 365"),
    ({"TIMEZONE": "Mars/Base"}, r"TIMEZONE='Mars/Base' is no time zone name; .*"),
    ({"VISIBILITY_TIMEOUT": "1.5"}, r"VISIBILITY_TIMEOUT='1.5' is not a whole number from 1 to .*"),
    ({"ON_UNKNOWN": "maybe"}, r"ON_UNKNOWN='maybe' is not one of: empty, hold, resend"),
    ({"LOG_ADDRESSES": "perhaps"}, r"LOG_ADDRESSES='perhaps' is not true or false"),
    ({"LOG_FORMAT": "xml"}, r"LOG_FORMAT='xml' is not one of: text, json"),
    ({"SCHEDULE_HORIZON_DAYS": "731"}, r"SCHEDULE_HORIZON_DAYS='731' is not a whole number .*"),
    ({"HYPERDRIP_ENV": "Test!", "HYPERDRIP_NOW": None}, r"HYPERDRIP_ENV='Test!' is not a short .*"),
    ({"HYPERDRIP_NOW": "2024-01-15 09:00"}, r"HYPERDRIP_NOW='2024-01-15 09:00' is no instant .*"),
    (
        {"HYPERDRIP_ENV": "production"},
        r"HYPERDRIP_NOW moves the clock and works only with HYPERDRIP_ENV=test; .* is production",
    ),
    ({"DATABASE_URL": f"mysql://u:{PASSWORD}@h/d"}, r"DATABASE_URL is no PostgreSQL address; .*"),
    (
        {"DATABASE_URL": f"postgresql://u:{PASSWORD}@[::1/d"},
        r"DATABASE_URL is malformed; write postgresql://user:password@host:5432/database",
    ),
]


def assert_one_line(ended: Ended, pattern: str) -> None:
    [line] = ended.err.splitlines()
    assert re.fullmatch(f"error: {pattern}", line), line
    assert PASSWORD not in ended.err + ended.out


@pytest.fixture
def guarded(dsn: str, conn: psycopg.Connection, tmp_path: Path) -> Commands:
    """Commands on a database with one lead, at an address with a password."""
    given = conninfo_to_dict(dsn).get("password")
    commands = commands_on(make_conninfo(dsn, password=given or PASSWORD), tmp_path)
    add_leads(conn, 1, messages=2)
    conn.execute("update hyperdrip.lead set email = 'there@example.com'")
    (tmp_path / "nul.csv").write_bytes(b"name,email\nA,a@example.com\0\n")
    (tmp_path / "columns.csv").write_text("name,mail\nA,a@example.com\n")
    (tmp_path / "quote.csv").write_text('name,email\n"A,a@example.com\n')
    return commands


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_what_is_refused_is_refused_in_one_line(guarded: Commands, code: int) -> None:
    rows = [(arguments, pattern) for arguments, its_code, pattern in REFUSED if its_code == code]
    assert rows
    for arguments, pattern in rows:
        ended = guarded.within.run(*arguments, code=code)
        assert ended.out == ""
        assert_one_line(ended, pattern)
    assert len(guarded.within.json("leads", "list")) == 1


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["leads", "show", "7"], [*LEAD, "there@example.com"], [*LEAD, "nobody"]],
    ids=["2", "3", "4", "5"],
)
def test_a_process_ends_with_the_same_code_and_line(
    guarded: Commands, arguments: list[str]
) -> None:
    ended = guarded.run(*arguments, code=None)
    assert ended == guarded.within.run(*arguments, code=None)
    assert ended.code != 0


@pytest.mark.parametrize(
    ("settings", "pattern"), WRONG_SETTINGS, ids=[" ".join(row[0]) for row in WRONG_SETTINGS]
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(
    tmp_path: Path, settings: dict[str, str | None], pattern: str
) -> None:
    nowhere = f"postgresql://u:{PASSWORD}@127.0.0.1:1/d"
    commands = commands_on(nowhere, tmp_path, **settings)
    assert_one_line(commands.within.run("plan", code=2), pattern)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/d",
        f"postgresql://u:{PASSWORD}@host.invalid/d",
        f"postgresql://u:{PASSWORD}@host.invalid,127.0.0.1:1/d",
        f"host=127.0.0.1 port=1 user=u password={PASSWORD} dbname=d",
    ],
)
@pytest.mark.parametrize("arguments", [["leads", "list"], ["worker", "--drain"], ["db", "status"]])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    tmp_path: Path, url: str, arguments: list[str]
) -> None:
    ended = commands_on(url, tmp_path).within.run(*arguments, code=6)
    assert_one_line(ended, r"database d on .+ cannot be reached: .*; check DATABASE_URL and .*")


def test_a_database_that_is_not_there_or_not_migrated(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    empty = new_database(is_migrated=False)
    commands = commands_on(empty, tmp_path).within
    for arguments in (["leads", "list"], ["worker", "--drain"], ["audit"], ["rollover"]):
        ended = commands.run(*arguments, code=6)
        assert_one_line(ended, "the database is not migrated yet; run: hyperdrip db migrate")
    commands.run("db", "status")

    gone = make_conninfo(empty, dbname="not_there")
    ended = commands_on(gone, tmp_path).run("plan", code=6)
    assert_one_line(ended, r'database not_there on .*"not_there" does not exist; check .*')


def test_a_test_database_refuses_production_and_the_other_way_round(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    never = "they never share a database"
    everything = (
        ["leads", "list"],
        ["add-lead", "--name", "A", "--email", "a@example.com"],
        ["worker", "--drain"],
        ["db", "migrate"],
    )
    production = {"HYPERDRIP_ENV": None, "HYPERDRIP_NOW": None}
    on_test = commands_on(new_database(), tmp_path, **production).within
    on_production = commands_on(new_database(environment="production"), tmp_path).within
    for arguments in everything:
        assert_one_line(
            on_test.run(*arguments, code=2),
            f"this database holds test data and HYPERDRIP_ENV is production; {never}",
        )
        assert_one_line(
            on_production.run(*arguments, code=2),
            f"this database holds production data and HYPERDRIP_ENV is test; {never}",
        )
    name = on_test.run("db", "status").out.split()[1]
    assert_one_line(on_test.run("db", "reset", "--confirm", name, code=2), f".*; {never}")
    assert on_production.json("leads", "list", **production) == []


def test_another_time_zone_is_refused_and_none_takes_the_database_s_own(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    dsn = new_database(time_zone="America/Los_Angeles")
    commands = commands_on(dsn, tmp_path).within  # 09:00 UTC is 01:00 there
    assert commands.json("quota", "today")["timeZone"] == "America/Los_Angeles"
    early = {"HYPERDRIP_NOW": "2024-01-15T07:59:59Z"}
    assert commands.json("quota", "today", **early)["day"] == "2024-01-14"
    commands.run("quota", "today", TIMEZONE="America/Los_Angeles")
    assert_one_line(
        commands.run("quota", "today", TIMEZONE="UTC", code=2),
        "this database counts its days in America/Los_Angeles and TIMEZONE is UTC;"
        " set TIMEZONE=America/Los_Angeles or leave it out",
    )


def test_ctrl_c_outside_the_worker_ends_with_130_and_writes_nothing(
    guarded: Commands, conn: psycopg.Connection
) -> None:
    with conn.transaction(), guarded.start(*LEAD, "late@example.com") as running:
        conn.execute("lock table hyperdrip.lead in exclusive mode")
        wait_until(lambda: is_waiting(conn), "add-lead waits for the table")
        running.send(signal.SIGINT)
        ended = running.wait(seconds=10)
    assert ended.code == 130
    assert ended.err in ("", "error: stopped\n")
    assert len(guarded.json("leads", "list")) == 1
    guarded.assert_audit_ok()
