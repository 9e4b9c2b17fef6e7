"""A copied database sends nothing until somebody says that it may."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hyperdrip import Hyperdrip, db, fence
from hyperdrip.errors import ConflictError, FencedError
from hyperdrip.models import Claim
from hyperdrip.senders import Outcome, Sent
from tests.acceptance.commands import HYPERDRIP, Commands, _path, commands_on
from tests.factories import AnsweringSender, add_leads, assert_audit_ok, count_states, make_settings
from tests.tables import everything

# To copy a database nobody may be connected to it, and a pooler stays connected.
pytestmark = pytest.mark.own_sessions

REFUSED = r"error: database \S+ on \S+ is a copy and sends nothing: it was made {}; .* db unlock\n"
BESIDE = r"as database \d+ of this server, and this is \d+"


def run_tool(name: str, dsn: str, *arguments: str | Path) -> None:
    """Run one of PostgreSQL's own programs on a database; the address goes through PG*."""
    newest_first = os.pathsep.join(reversed(_path().split(os.pathsep)))
    program = shutil.which(name, path=newest_first)
    if program is None:
        pytest.skip(f"{name} is not installed")
    own = {
        option.envvar.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.parse(dsn.encode())
        if option.envvar and option.val
    }
    subprocess.run([program, *arguments], env={"PATH": _path(), **own}, check=True)


def createdb(dsn: str, name: str) -> None:
    run_tool("createdb", make_conninfo(dsn, dbname="postgres"), "-T", name_of(dsn), name)


def dump_and_restore(dsn: str, name: str) -> None:
    dump = Path.cwd() / "dump"
    run_tool("pg_dump", dsn, "-Fc", "-f", dump)
    run_tool("createdb", make_conninfo(dsn, dbname="postgres"), "-T", "template0", name)
    run_tool("pg_restore", make_conninfo(dsn, dbname=name), "-d", name, dump)


def name_of(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])


@pytest.fixture
def original(dsn: str, tmp_path: Path) -> Commands:
    """A database with four leads, to which nobody is connected."""
    with closing(db.connect(dsn)) as conn:
        add_leads(conn, 4, messages=2)
    return commands_on(dsn, tmp_path, SENDER="null", WORKER_MESSAGE_DELAY=0)


@pytest.fixture
def copy(
    request: pytest.FixtureRequest,
    original: Commands,
    admin: psycopg.Connection[Any],
) -> Iterator[str]:
    """The DSN of its copy: made with createdb -T, or as the test says."""
    dsn = str(original.settings["DATABASE_URL"])
    name = f"{name_of(dsn)}_copy"
    getattr(request, "param", createdb)(dsn, name)
    yield make_conninfo(dsn, dbname=name)
    admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def on(commands: Commands, dsn: str) -> Commands:
    return Commands(commands.folder, **{**commands.settings, "DATABASE_URL": dsn})


@pytest.mark.parametrize("copy", [createdb, dump_and_restore], indirect=True)
def test_a_copy_plans_and_sends_nothing_until_it_is_unlocked(original: Commands, copy: str) -> None:
    copied = on(original, copy)
    with closing(psycopg.connect(copy, autocommit=True)) as conn:
        before = everything(conn)
        refused = copied.run("worker", "--drain", code=6, DAILY_MAX=7)
        assert refused.out == ""
        assert re.fullmatch(REFUSED.format(BESIDE), refused.err)
        assert everything(conn) == before
        assert copied.within.json("quota", "today")["dailyMax"] == 100

        assert copied.within.json("status")["fenced"] is True
        assert (
            "WARNING: this database is a copy and sends nothing" in copied.within.run("status").out
        )
        assert copied.within.json("db", "status")["fenced"] is True
        assert "WARNING: this database is a copy" in copied.within.run("db", "status").out
        assert copied.within.json("explain", "1")["rule"] == "fenced"

        copied.within.run("add-lead", "--name", "A", "--email", "a@example.com")
        copied.within.run("rollover")
        copied.within.run("db", "migrate")
        copied.assert_audit_ok()
        assert set(count_states(conn)) == {"planned"}
        assert_stays_locked(copied)

        unlocked = copied.within.json("db", "unlock", "--yes")
        assert unlocked["unlocked"] is True
        assert unlocked["was"] != unlocked["is"]
        assert copied.within.json("status")["fenced"] is False
        assert copied.within.json("db", "status")["fenced"] is False
        assert copied.within.json("worker", "--drain")["sent"] == 5
        assert copied.within.run("db", "unlock").out == "It was not locked: this is no copy\n"
    assert original.within.json("worker", "--drain")["sent"] == 4


def assert_stays_locked(copied: Commands) -> None:
    asked = copied.within.run("db", "unlock", code=2)
    assert "it was made as database" in asked.err
    assert "the same people get every message twice" in asked.err
    assert asked.err.endswith("once the original sends no more: --yes\n")
    assert copied.within.run("db", "unlock", "--no-input", code=2).out == ""
    copied.within.run("worker", "--drain", code=6)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 1)])
def test_unlock_asks_at_a_terminal(original: Commands, copy: str, answer: str, code: int) -> None:
    copied = on(original, copy)
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            [HYPERDRIP, "db", "unlock"],
            env=copied.environment(TERM="dumb"),
            cwd=copied.folder,
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
        ) as process:
            os.write(ours, answer.encode())
            out = process.communicate(timeout=60)[0].decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert (process.returncode, out) == (code, "" if code else "Unlocked\n")
    copied.within.run("worker", "--drain", code=6 if code else 0)


def test_a_database_with_another_name_is_the_same(
    original: Commands, dsn: str, admin: psycopg.Connection[Any]
) -> None:
    rename = sql.SQL("alter database {} rename to {}")
    there, back = sql.Identifier(name_of(dsn)), sql.Identifier(f"{name_of(dsn)}_renamed")
    admin.execute(rename.format(there, back))
    try:
        renamed = on(original, make_conninfo(dsn, dbname=f"{name_of(dsn)}_renamed"))
        assert renamed.within.json("worker", "--drain")["sent"] == 4
    finally:
        admin.execute(rename.format(back, there))


def test_a_worker_that_comes_back_to_a_copy_writes_nothing_there(
    dsn: str, copy: str, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored dump may take the place of the database behind the same address."""

    def lose(_: Claim) -> Outcome:
        drip.dsn = copy
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
            [name_of(dsn)],
        )
        return Sent()

    sender = AnsweringSender(lose)
    monkeypatch.setattr("hyperdrip.client.running.open_sender", lambda *_: sender)
    settings = make_settings(dsn, HYPERDRIP_NOW="2024-01-15T09:00:00Z")
    with (
        Hyperdrip(dsn, settings) as drip,
        pytest.raises(FencedError, match="is a copy and sends nothing"),
    ):
        drip.run_worker(is_drain=True)
    assert sender.handed_over
    with closing(psycopg.connect(copy, autocommit=True)) as conn:
        assert count_states(conn) == {"planned": 8}
        assert_audit_ok(conn)


def test_only_what_was_seen_is_unlocked(copy: str) -> None:
    with closing(psycopg.connect(copy, autocommit=True)) as conn:
        seen = fence.read_fence(conn)
        fence.unlock(conn, seen)
        with pytest.raises(ConflictError, match="look again"):
            fence.unlock(conn, seen)
        assert not fence.read_fence(conn).is_closed


@pytest.mark.parametrize(
    ("stored", "own", "said"),
    [
        (
            "71/5",
            "72/5",
            "it was made on the server with system identifier 71, and this is server 72",
        ),
        ("71/5", "71/6", "it was made as database 5 of this server, and this is 6"),
    ],
)
def test_what_differs_is_said(stored: str, own: str, said: str) -> None:
    assert fence.Fence(stored, own).difference == said
