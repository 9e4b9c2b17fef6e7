"""Migrations, PGMQ's installation, and who may use which database."""

import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from hyperdrip import Hyperdrip, db, migrations, queue
from hyperdrip import instance as instances
from hyperdrip.db import connect
from hyperdrip.errors import (
    ConflictError,
    DatabaseError,
    HyperdripError,
    NotMigratedError,
    SettingsError,
)
from tests.factories import add_leads, assert_audit_ok, make_settings, make_worker

SCHEMA = "0001_schema"
SHIPPED = sorted(path.stem for path in (db.sql_folder() / "migrations").glob("*.sql"))


@pytest.fixture
def empty_dsn(new_database: Callable[..., str]) -> str:
    return new_database(is_migrated=False)


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A version of Hyperdrip that ships one more migration."""
    folder = tmp_path / "sql"
    shutil.copytree(db.sql_folder(), folder)
    (folder / "migrations" / "9999_more.sql").write_text("create table hyperdrip.more (id bigint);")
    monkeypatch.setattr(migrations, "sql_folder", lambda: folder)
    return "9999_more"


def migrate(dsn: str) -> list[str]:
    with closing(connect(dsn)) as conn:
        return migrations.migrate(conn, environment="test", time_zone="UTC", daily_max=7)


def test_an_empty_database_is_migrated_once_and_works(empty_dsn: str) -> None:
    first = migrate(empty_dsn)
    assert first[1:] == SHIPPED
    assert first[0].startswith("pgmq ")
    with closing(connect(empty_dsn)) as conn:
        assert instances.require_instance(conn).daily_max == 7
        add_leads(conn, 3)
        before = conn.execute("select xmin, * from hyperdrip.schema_migration").fetchall()
        assert migrate(empty_dsn) == []
        assert conn.execute("select xmin, * from hyperdrip.schema_migration").fetchall() == before
        assert migrations.read_status(conn).pending == ()
        assert_audit_ok(conn)


def test_several_at_once_migrate_it_exactly_once(empty_dsn: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        applied = [name for names in pool.map(migrate, [empty_dsn] * 6) for name in names]
    assert len(applied) == 1 + len(SHIPPED)
    assert set(SHIPPED) < set(applied)
    with closing(connect(empty_dsn)) as conn:
        add_leads(conn, 1)
        assert_audit_ok(conn)


def test_nothing_is_migrated_under_a_worker_that_knows_the_old_schema(
    dsn: str, conn: psycopg.Connection, next_version: str
) -> None:
    worker = instances.insert_worker(conn, host="elsewhere", pid=7, sender="null")
    with Hyperdrip(dsn, make_settings(dsn)) as drip:
        with pytest.raises(ConflictError, match=r"1 worker\(s\) live, first null on elsewhere"):
            drip.migrate()
        assert migrations.read_status(conn).pending == (next_version,)
        instances.touch_worker(conn, worker, is_stopped=True)
        assert drip.migrate() == [next_version]


def test_a_migration_that_fails_leaves_nothing_of_itself(
    dsn: str, conn: psycopg.Connection, next_version: str
) -> None:
    folder = migrations.sql_folder() / "migrations"
    (folder / f"{next_version}.sql").write_text("create table hyperdrip.more (); select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(dsn)
    assert conn.execute("select to_regclass('hyperdrip.more')").fetchone() == (None,)
    assert migrations.read_status(conn).pending == (next_version,)
    (folder / f"{next_version}.sql").write_text("create table hyperdrip.more ();")
    assert migrate(dsn) == [next_version]


def test_a_migration_that_was_applied_with_another_text_is_refused(
    dsn: str, conn: psycopg.Connection
) -> None:
    shipped = (db.sql_folder() / "migrations" / f"{SCHEMA}.sql").read_bytes()
    query = "select checksum from hyperdrip.schema_migration where name = %s"
    assert conn.execute(query, [SCHEMA]).fetchone() == (hashlib.sha256(shipped).hexdigest(),)
    conn.execute(
        "update hyperdrip.schema_migration set checksum = 'other' where name = %s", [SCHEMA]
    )
    for look in (lambda: migrate(dsn), lambda: migrations.read_status(conn)):
        with pytest.raises(
            DatabaseError, match=f"migration {SCHEMA} was applied with another text"
        ):
            look()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("insert into hyperdrip.schema_migration values ('9999_later', '')", "newer Hyperdrip"),
        ("delete from hyperdrip.schema_migration", "hyperdrip db migrate"),
        ("drop schema hyperdrip cascade", "hyperdrip db migrate"),
    ],
    ids=["newer", "no record", "no schema"],
)
def test_a_schema_of_another_version_is_refused(
    dsn: str, conn: psycopg.Connection, statement: str, message: str
) -> None:
    conn.execute(statement)
    with pytest.raises(NotMigratedError, match=message) as raised:
        Hyperdrip.open(make_settings(dsn))
    assert raised.value.exit_code == 6


def test_a_database_behind_this_version_is_refused_until_it_is_migrated(
    dsn: str, next_version: str
) -> None:
    with pytest.raises(NotMigratedError, match=f"this version needs {next_version}"):
        Hyperdrip.open(make_settings(dsn))
    with Hyperdrip.open(make_settings(dsn), is_checked=False) as drip:
        assert drip.migrate() == [next_version]
    with Hyperdrip.open(make_settings(dsn)):
        pass


# Who may use it


@pytest.mark.parametrize(
    ("stored", "given", "message"),
    [
        ({"environment": "test"}, {"HYPERDRIP_ENV": "production"}, "holds test data"),
        ({"environment": "production"}, {"HYPERDRIP_ENV": "test"}, "holds production data"),
        ({"time_zone": "UTC"}, {"TIMEZONE": "Europe/Berlin"}, "set TIMEZONE=UTC"),
        ({"time_zone": "Europe/Berlin"}, {"TIMEZONE": "UTC"}, "set TIMEZONE=Europe/Berlin"),
    ],
    ids=["production on test", "test on production", "Berlin on UTC", "UTC on Berlin"],
)
def test_a_process_that_disagrees_with_the_database_is_refused(
    new_database: Callable[..., str], stored: dict[str, str], given: dict[str, str], message: str
) -> None:
    dsn = new_database(**stored)
    settings = make_settings(dsn, **given)
    with pytest.raises(SettingsError, match=message) as raised:
        Hyperdrip.open(settings)
    assert raised.value.exit_code == 2
    with Hyperdrip.open(settings, is_checked=False) as drip:
        with pytest.raises(SettingsError, match=message):
            drip.migrate()
        with pytest.raises(SettingsError, match=message):
            drip.reset()


def test_a_process_that_disagrees_migrates_nothing(
    dsn: str, conn: psycopg.Connection, next_version: str
) -> None:
    settings = make_settings(dsn, HYPERDRIP_ENV="production")
    with (
        Hyperdrip.open(settings, is_checked=False) as drip,
        pytest.raises(SettingsError, match="holds test data"),
    ):
        drip.migrate()
    assert migrations.read_status(conn).pending == (next_version,)


def test_a_time_zone_that_nobody_set_is_the_databases_own(new_database: Callable[..., str]) -> None:
    settings = make_settings(new_database(time_zone="Europe/Berlin"))
    with Hyperdrip.open(settings) as drip:
        assert drip.instance().time_zone == "Europe/Berlin"


# Reset


def test_reset_is_refused_while_workers_live(dsn: str, conn: psycopg.Connection) -> None:
    add_leads(conn, 2)
    with Hyperdrip.open(make_settings(dsn)) as drip:
        with closing(make_worker(dsn)):
            said = (
                rf"1 worker\(s\) live, first null on {socket.gethostname()} with pid {os.getpid()}"
            )
            with pytest.raises(ConflictError, match=said):
                drip.reset()
            assert len(drip.list_leads()) == 2
        drip.reset()
        assert drip.list_leads() == []
        assert queue.list_names(conn) == []
        assert drip.migration_status().pending == ()
        drip.add_lead(name="Ada", email="ada@example.com")
    assert_audit_ok(conn)


def test_a_killed_worker_counts_as_alive_for_a_minute(dsn: str, conn: psycopg.Connection) -> None:
    worker_id = instances.insert_worker(conn, host="gone", pid=1, sender="null")
    assert [found[0] for found in instances.list_live_workers(conn)] == [worker_id]
    conn.execute("update hyperdrip.worker set last_seen_at = now() - interval '61 seconds'")
    assert instances.list_live_workers(conn) == []
    with Hyperdrip.open(make_settings(dsn)) as drip:
        drip.reset()


def test_reset_leaves_what_is_not_hyperdrips(dsn: str, conn: psycopg.Connection) -> None:
    add_leads(conn, 1)
    conn.execute("create table public.mine as select 1")
    conn.execute("select pgmq.create('another-queue')")
    with Hyperdrip.open(make_settings(dsn)) as drip:
        drip.reset()
    assert conn.execute("select count(*) from public.mine").fetchone() == (1,)
    names = conn.execute("select queue_name from pgmq.list_queues()").fetchall()
    assert names == [("another-queue",)]


# PGMQ


def test_pgmq_comes_as_an_extension_where_there_is_one_and_else_as_sql(
    conn: psycopg.Connection,
) -> None:
    available = "select count(*) from pg_available_extensions where name = 'pgmq'"
    installed = "select count(*) from pg_extension where extname = 'pgmq'"
    assert conn.execute(available).fetchone() == conn.execute(installed).fetchone()
    applied = migrations.read_status(conn).applied
    (name,) = [name for name in applied if name.startswith("pgmq ")]
    if conn.execute(installed).fetchone() == (0,):
        assert name == "pgmq sql 1.13.0"
        assert queue.get_version(conn) == "sql"


def test_pgmq_is_never_installed_over_one_that_is_there(dsn: str, conn: psycopg.Connection) -> None:
    """Hyperdrip's own schema may be dropped and made anew; PGMQ's stays as it is."""
    conn.execute("select pgmq.create('another-queue')")
    conn.execute("select pgmq.send('another-queue', '{}'::jsonb)")
    query = "select oid, xmin, proname from pg_proc where pronamespace = 'pgmq'::regnamespace"
    before = conn.execute(f"{query} order by oid").fetchall()
    conn.execute("drop schema hyperdrip cascade")
    assert migrate(dsn) == SHIPPED
    assert conn.execute(f"{query} order by oid").fetchall() == before
    found = conn.execute("select count(*) from pgmq.read('another-queue', 0, 10)").fetchone()
    assert found == (1,)


def test_a_schema_of_that_name_that_is_not_pgmqs_is_left_alone(
    empty_dsn: str,
) -> None:
    with closing(connect(empty_dsn)) as conn:
        found = conn.execute("select count(*) from pg_available_extensions where name = 'pgmq'")
        if found.fetchone() != (0,):
            pytest.skip("this server has the extension, which looks after itself")
        conn.execute("create schema pgmq")
        conn.execute("create table pgmq.somebody_elses (id bigint)")
        with pytest.raises(HyperdripError, match="schema pgmq"):
            migrate(empty_dsn)
        tables = conn.execute(
            "select tablename from pg_tables where schemaname = 'pgmq'"
        ).fetchall()
        assert tables == [("somebody_elses",)]
