"""Three roles: each does its own work, and is refused whatever else there is."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from hyperdrip import roles
from hyperdrip.roles import Roles
from tests import roles as users
from tests.acceptance.commands import Commands
from tests.factories import MONDAY, add_leads, assert_audit_ok, count_states
from tests.roles import KINDS, under

TODAYS = f"drip-messages-{MONDAY}"


@pytest.fixture(autouse=True)
def _with_users(dsn: str) -> None:
    if under(dsn, "worker") == dsn:
        pytest.skip("the user of HYPERDRIP_TEST_DATABASE_URL may not create roles")


@pytest.fixture
def as_user(dsn: str) -> Iterator[Callable[[str], psycopg.Connection[Any]]]:
    """Connections with the rights of one role alone."""
    opened: list[psycopg.Connection[Any]] = []

    def connect(kind: str) -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(under(dsn, kind), autocommit=True, prepare_threshold=None))
        return opened[-1]

    yield connect
    for conn in opened:
        conn.close()


@pytest.fixture
def own_roles(admin: psycopg.Connection[Any], conn: psycopg.Connection[Any]) -> Iterator[str]:
    """A prefix whose roles are dropped after the test."""
    prefix = str(conn.execute("select current_database() || '_own'").fetchone()[0])  # type: ignore[index]
    yield prefix
    for role in vars(Roles.of_prefix(prefix)).values():
        if admin.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
            conn.execute(psycopg.sql.SQL("drop owned by {}").format(psycopg.sql.Identifier(role)))
            admin.execute(psycopg.sql.SQL("drop role {}").format(psycopg.sql.Identifier(role)))


def test_roles_are_printed_as_sql_that_makes_them(
    commands: Commands, conn: psycopg.Connection[Any], own_roles: str
) -> None:
    script = commands.within.run("db", "roles", "--prefix", own_roles).out
    assert f'grant select on pgmq.meta to "{own_roles}_planner"'.replace('"', "") in script.replace(
        '"', ""
    )
    assert roles.read_roles(conn) != Roles.of_prefix(own_roles)
    conn.execute(script.encode())
    assert roles.read_roles(conn) == Roles.of_prefix(own_roles)
    told = commands.within.json("db", "roles", "--prefix", own_roles, "--apply")
    assert {kind: told[kind] for kind in KINDS} == vars(Roles.of_prefix(own_roles))
    assert told["applied"] is True
    assert told["script"] + "\n" == script


@pytest.mark.parametrize("prefix", ["", "pg_mine", "a\nb", "x" * 56, "ä" * 30])
def test_a_prefix_that_cannot_be_is_refused_with_one_line(commands: Commands, prefix: str) -> None:
    refused = commands.within.run("db", "roles", "--apply", f"--prefix={prefix}", code=5)
    assert re.fullmatch(r"error: prefix=.*\n", refused.err)


def test_a_name_with_quotes_is_a_name_and_nothing_else(
    commands: Commands, conn: psycopg.Connection[Any], own_roles: str
) -> None:
    prefix = f"""{own_roles}'"; %(x)s"""[:50]
    try:
        commands.within.run("db", "roles", "--apply", "--prefix", prefix)
        assert roles.read_roles(conn) == Roles.of_prefix(prefix)
    finally:
        for role in vars(Roles.of_prefix(prefix)).values():
            name = psycopg.sql.Identifier(role)
            conn.execute(psycopg.sql.SQL("drop owned by {}").format(name))
            conn.execute(psycopg.sql.SQL("drop role {}").format(name))


def test_who_may_not_grant_is_told_who_can(commands: Commands, dsn: str) -> None:
    planner = replace_url(commands, under(dsn, "planner"))
    refused = planner.run("db", "roles", "--apply", code=6)
    assert re.fullmatch(r"error: this user may not make or grant roles .* db roles\n", refused.err)
    assert planner.within.run("db", "roles").out.startswith("-- ")


def replace_url(commands: Commands, dsn: str) -> Commands:
    return Commands(commands.folder, **{**commands.settings, "DATABASE_URL": dsn})


def test_a_campaign_runs_with_each_command_under_its_own_role(
    commands: Commands, conn: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """Whoever plans, sends and looks here holds the rights of one role alone."""
    plans = {("add-lead",), ("leads", "pause"), ("quota", "set")}
    assert {users.kind_of(words) for words in plans} == {"planner"}
    assert users.kind_of(("worker", "--drain")) == "worker"
    assert users.kind_of(("--json", "audit")) == "reader"
    settings: dict[str, object] = {"SENDER": "null", "WORKER_MESSAGE_DELAY": 0}
    for day in range(15, 21):
        now = {"HYPERDRIP_NOW": f"2024-01-{day}T09:00:00Z", **settings}
        if day != 16:  # the 16th is missed: its messages roll over
            sent = commands.json("worker", "--drain", **now)["sent"]
            assert sent == 0 or day > 15
        if day == 15:
            file = tmp_path / "leads.csv"
            file.write_text("name,email\n" + "".join(f"L{n},l{n}@example.com\n" for n in range(9)))
            assert commands.within.json("import", str(file), **now)["added"] == 9
            commands.within.run("leads", "pause", "1", "2", "--yes", **now)
            commands.within.run("leads", "resume", "1", "--yes", **now)
            commands.within.run("leads", "move", "3", "--by", "1", "--yes", **now)
            commands.within.run("leads", "stop", "4", "--yes", **now)
            commands.within.run("leads", "enroll", "4", "--yes", **now)
            commands.within.run("leads", "erase", "5", "--yes", **now)
            commands.within.run("suppressions", "add", "gone@example.com", **now)
            commands.within.run("suppressions", "remove", "gone@example.com", **now)
            commands.within.run("unsubscribe", "7", **now)
            commands.within.run("quota", "set", "default", "20", "--yes", **now)
            commands.within.run("pause", **now)
            commands.within.run("resume", **now)
    for words in (
        ["audit"],
        ["explain", "1"],
        ["leads", "export"],
        ["leads", "list"],
        ["leads", "show", "1"],
        ["messages", "list"],
        ["plan"],
        ["queues", "peek", "2024-01-20"],
        ["queues", "show", "--all"],
        ["quota", "show"],
        ["quota", "today"],
        ["status"],
        ["suppressions", "list"],
    ):
        commands.within.run(*words, **now)
    pruned = commands.within.json("queues", "prune", "--older-than", "2", **now)
    assert pruned["dropped"]
    assert count_states(conn)["sent"] > 15
    commands.assert_audit_ok(**now)


REFUSED_TO = {
    "reader": [
        "insert into hyperdrip.lead (name, email, campaign, campaign_version, max_messages)"
        " values ('A', 'a@example.com', 'default', 1, 1)",
        "update hyperdrip.message set state = 'sent'",
        "update hyperdrip.quota_day set sent = 0",
        "update hyperdrip.instance set is_paused = false",
        "select hash_key from hyperdrip.instance",
        "select email from hyperdrip.import_row",
        "insert into hyperdrip.suppression (email_key, reason) values ('a@example.com', 'x')",
        "delete from hyperdrip.suppression",
        f"select pgmq.read('test-{TODAYS}', 30, 1)",
        f"select pgmq.archive('test-{TODAYS}', 1)",
        f"select pgmq.send('test-{TODAYS}', '{{}}')",
        f"select hyperdrip.create_queue('test-{TODAYS}')",
        f"select hyperdrip.drop_queue('test-{TODAYS}')",
        f"select hyperdrip.grant_queue('test-{TODAYS}')",
        "select hyperdrip.add_lead('A', 'a@example.com')",
    ],
    "worker": [
        "insert into hyperdrip.lead (name, email, campaign, campaign_version, max_messages)"
        " values ('A', 'a@example.com', 'default', 1, 1)",
        "delete from hyperdrip.lead",
        "update hyperdrip.lead set email = 'thief@example.com'",
        "update hyperdrip.lead set max_messages = 99",
        "select phone from hyperdrip.lead",
        "select notes from hyperdrip.lead",
        "insert into hyperdrip.message (lead_id, run, number, campaign, campaign_version)"
        " values (1, 2, 1, 'default', 1)",
        "delete from hyperdrip.message",
        "update hyperdrip.message set number = 9",
        "update hyperdrip.quota_day set capacity = 1000",
        "delete from hyperdrip.quota_day",
        "update hyperdrip.instance set is_paused = false",
        "update hyperdrip.instance set environment = 'production'",
        "update hyperdrip.instance set fingerprint = 'mine'",
        "select hash_key from hyperdrip.instance",
        "delete from hyperdrip.suppression",
        "update hyperdrip.suppression set reason = 'x'",
        "update hyperdrip.lead set unsubscribed_number = 1",
        "update hyperdrip.campaign_step set markdown = 'spam'",
        "select email from hyperdrip.import_row",
        f'delete from pgmq."a_test-{TODAYS}"',
        f'update pgmq."a_test-{TODAYS}" set message = null',
        f"select hyperdrip.drop_queue('test-{TODAYS}')",
        f"select pgmq.drop_queue('test-{TODAYS}')",
        f"select hyperdrip.grant_queue('test-{TODAYS}')",
        "select pgmq.create('other')",
        "select hyperdrip.add_lead('A', 'a@example.com')",
        "insert into hyperdrip.role (kind, name) values ('worker', 'other')",
    ],
    "planner": [
        "update hyperdrip.instance set fingerprint = 'mine'",
        "update hyperdrip.instance set environment = 'production'",
        "update hyperdrip.instance set hash_key = 'mine'",
        "insert into hyperdrip.schema_migration (name, checksum) values ('9', '')",
        "insert into hyperdrip.worker (host, pid, sender) values ('h', 1, 's')",
        "truncate hyperdrip.lead cascade",
        "alter table hyperdrip.lead add column mine text",
        "create table hyperdrip.mine ()",
        "create table pgmq.mine ()",
        f"select pgmq.drop_queue('test-{TODAYS}')",
        "select pgmq.create('other')",
        f"select hyperdrip.grant_queue('test-{TODAYS}')",
        "update hyperdrip.role set name = 'other'",
    ],
}


@pytest.mark.parametrize(
    ("kind", "statement"), [(kind, words) for kind in KINDS for words in REFUSED_TO[kind]]
)
def test_a_role_is_refused_what_is_not_its_own(
    conn: psycopg.Connection[Any],
    as_user: Callable[[str], psycopg.Connection[Any]],
    kind: str,
    statement: str,
) -> None:
    add_leads(conn, 1)
    with pytest.raises(pg.InsufficientPrivilege):
        as_user(kind).execute(statement.encode())


def test_a_command_that_is_refused_says_so_in_one_line_and_writes_nothing(
    commands: Commands, conn: psycopg.Connection[Any], dsn: str
) -> None:
    for kind in ("reader", "worker"):
        low = replace_url(commands, under(dsn, kind)).within
        refused = low.run("add-lead", "--name", "A", "--email", "a@example.com", code=6)
        assert re.fullmatch(
            r"error: the database does not allow this: permission denied .*\n", refused.err
        )
    assert conn.execute("select count(*) from hyperdrip.lead").fetchone() == (0,)


def test_queues_that_are_made_later_are_granted_as_they_are_made(
    as_user: Callable[[str], psycopg.Connection[Any]],
) -> None:
    as_user("planner").execute("select hyperdrip.create_queue('test-drip-messages-2031-05-05')")
    name = "test-drip-messages-2031-05-05"
    sent = as_user("planner").execute("select pgmq.send(%s, '{}')", [name]).fetchone()
    assert sent == (1,)
    assert as_user("reader").execute("select (pgmq.metrics(%s)).queue_length", [name]).fetchone()
    read = as_user("worker").execute("select msg_id from pgmq.read(%s, 0, 1)", [name]).fetchone()
    assert read == (1,)
    assert as_user("worker").execute("select pgmq.archive(%s, 1)", [name]).fetchone() == (True,)


@pytest.mark.parametrize("function", ["create_queue", "drop_queue"])
@pytest.mark.parametrize(
    "name",
    ["other", "", "drip-messages-2024-01-15; drop table x", "Drip-Messages-2024-01-15", 'a"b'],
)
def test_functions_of_the_owner_take_only_queues_of_ours(
    as_user: Callable[[str], psycopg.Connection[Any]], function: str, name: str
) -> None:
    with pytest.raises(pg.InvalidParameterValue, match="not the name of a queue"):
        as_user("planner").execute(f"select hyperdrip.{function}(%s)".encode(), [name])


def test_a_queue_with_open_messages_is_dropped_by_no_role(
    conn: psycopg.Connection[Any], as_user: Callable[[str], psycopg.Connection[Any]]
) -> None:
    add_leads(conn, 1)
    with pytest.raises(pg.ObjectInUse, match="planned or being sent"):
        as_user("planner").execute(f"select hyperdrip.drop_queue('test-{TODAYS}')".encode())
    assert_audit_ok(conn)


def test_every_function_of_the_owner_has_its_own_path_and_is_nobody_elses(
    conn: psycopg.Connection[Any],
) -> None:
    rows = conn.execute(
        "select proname, proconfig, has_function_privilege('public', oid, 'execute')"
        " from pg_proc where pronamespace = 'hyperdrip'::regnamespace and prosecdef"
    ).fetchall()
    assert {name for name, _, _ in rows} >= {"create_queue", "drop_queue", "grant_queue"}
    for name, settings, is_public in rows:
        assert settings == ["search_path=pg_catalog, pg_temp"], name
        assert not is_public, name


def test_granting_again_ends_what_was_granted_by_hand_and_a_reset_grants_again(
    commands: Commands, conn: psycopg.Connection[Any], own_roles: str
) -> None:
    role = psycopg.sql.Identifier(f"{own_roles}_worker")
    commands.within.run("db", "roles", "--apply", "--prefix", own_roles)
    conn.execute(psycopg.sql.SQL("grant delete on hyperdrip.lead to {}").format(role))
    commands.within.run("db", "roles", "--apply", "--prefix", own_roles)
    assert not may(conn, own_roles, "hyperdrip.lead", "delete")
    assert may(conn, own_roles, "hyperdrip.worker", "insert")

    name = str(conn.info.dbname)
    commands.within.run("db", "reset", "--confirm", name)
    assert roles.read_roles(conn) == Roles.of_prefix(own_roles)
    assert may(conn, own_roles, "hyperdrip.worker", "insert")


def may(conn: psycopg.Connection[Any], prefix: str, table: str, what: str) -> bool:
    row = conn.execute(
        "select has_table_privilege(%s, %s, %s)", [f"{prefix}_worker", table, what]
    ).fetchone()
    return bool(row and row[0])
