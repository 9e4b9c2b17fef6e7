"""Where the tests' PostgreSQL comes from, and fresh databases on it.

In this order: HYPERDRIP_TEST_DATABASE_URL (a server on which databases may be made), a container
when a Docker engine answers, the embedded server in a throw-away home. One server for a whole run,
also with `pytest -n`: the controlling process makes a `Place`, and every worker connects to it.

With HYPERDRIP_TEST_PGBOUNCER (its program, or the name of it) a PgBouncer in transaction mode
stands before that server: databases are made and dropped on the server itself, and tests get
their addresses through the pooler.
"""

import os
import secrets
import shutil
import sys
import tempfile
import warnings
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hyperdrip import embedded, fence, migrations
from tests import roles
from tests.pooler import MISSING, Pooler, find_pgbouncer, pooled

if TYPE_CHECKING:
    from testcontainers.postgres import PostgresContainer

IMAGE = "postgres:17"
DOCKER_SECONDS = 3
ENVIRONMENT = "test"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 * 1024**3


@dataclass
class Place:
    """What the processes of one run share. `dsn` empty: the embedded server in `home`.

    `pooler`: the folder of the pooler before it; empty: there is none.
    """

    dsn: str
    home: Path
    word: str
    _container: "PostgresContainer | None" = None
    pooler: str = ""
    _pooler: Pooler | None = None

    def shared(self) -> dict[str, str]:
        """What another process has to be told."""
        return {
            "dsn": self.dsn,
            "home": str(self.home),
            "word": self.word,
            "pooler": self.pooler,
        }

    @classmethod
    def of(cls, shared: dict[str, str]) -> "Place":
        """The place that another process made."""
        return cls(shared["dsn"], Path(shared["home"]), shared["word"], pooler=shared["pooler"])

    def start_pooler(self, program: str) -> None:
        """Put a pooler before the server."""
        server = Server.at(self)
        try:
            self._pooler = Pooler(program, server.dsn)
        finally:
            server.release()
        self.pooler = str(self._pooler.folder)

    def remove(self) -> None:
        """Drop the databases of this run, stop what was started, leave no file behind."""
        if self._pooler is not None:
            self._pooler.stop()
        if self._container is not None:
            self._container.stop()
        elif self.dsn:
            with closing(psycopg.connect(self.dsn, autocommit=True)) as conn:
                for name in _list_databases(conn, self.word):
                    _drop(conn, name)
                roles.drop(conn, self.word)
        else:
            embedded.stop(self.home, ENVIRONMENT)
        shutil.rmtree(self.home)


def make_folder(prefix: str) -> Path:
    """Make a folder for a server or a socket, with a short path: in memory where there is room.

    A database is hundreds of files, and hundreds of databases keep a disk busy.
    """
    has_room = (
        sys.platform == "linux"
        and os.access(MEMORY, os.W_OK | os.X_OK)
        and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    )
    return Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if has_room else "/tmp"))


def make_place() -> Place:
    """Choose the server of this run; starts a container, and a pooler, if that is the choice."""
    wanted = os.environ.get("HYPERDRIP_TEST_PGBOUNCER", "").strip()
    program = find_pgbouncer(wanted) if wanted else None
    if wanted and program is None:
        raise pytest.UsageError(f"HYPERDRIP_TEST_PGBOUNCER={wanted!r} is no program; {MISSING}")
    place = _choose_place()
    if program is not None:
        try:
            place.start_pooler(program)
        except BaseException:
            place.remove()
            raise
    return place


def _choose_place() -> Place:
    home = make_folder("hyperdrip-tests-")
    word = f"hyperdrip_{secrets.token_hex(4)}"
    dsn = os.environ.get("HYPERDRIP_TEST_DATABASE_URL", "").strip()
    if dsn:
        return Place(dsn, home, word)
    container = _start_container()
    if container is not None:
        dsn = container.get_connection_url(driver=None)
        _forgo_safety(dsn)
        return Place(dsn, home, word, container)
    return Place("", home, word)


@dataclass
class Server:
    """This process's hold on the server. Databases are copies of a migrated template.

    `dsn` goes to the server itself, whether or not there is a pooler.
    """

    dsn: str
    word: str
    pooler: str = ""
    _held: embedded.EmbeddedServer | None = None
    _templates: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def at(cls, place: Place) -> "Server":
        """Connect to the server of a run; the embedded one is started at the first call."""
        if place.dsn:
            return cls(place.dsn, place.word, place.pooler)
        held = embedded.acquire(place.home, ENVIRONMENT)
        _forgo_safety(held.dsn)
        return cls(held.dsn, place.word, place.pooler, held)

    def release(self) -> None:
        """Let go of the server."""
        if self._held is not None:
            self._held.release()

    def connect(self) -> psycopg.Connection[Any]:
        """An administrator's autocommit connection, on no database of the tests."""
        return psycopg.connect(self.dsn, autocommit=True)

    def create(
        self, *, environment: str = ENVIRONMENT, time_zone: str = "UTC", is_migrated: bool = True
    ) -> str:
        """Make a database, migrated with a daily maximum of 100 or empty; returns its DSN.

        Through the pooler if there is one. One that is migrated is granted to the run's roles.
        """
        template = self._template(environment, time_zone) if is_migrated else "template0"
        dsn = self._copy(template, word="" if is_migrated else "empty_")
        if is_migrated:  # a copy of the template would send nothing
            with closing(psycopg.connect(dsn, autocommit=True)) as made:
                fence.unlock(made, fence.read_fence(made))
                roles.note(made, self.word)
        return pooled(dsn, self.pooler) if self.pooler else dsn

    def direct(self, dsn: str) -> str:
        """The address of a database of ours on the server itself."""
        return make_conninfo(self.dsn, dbname=conninfo_to_dict(dsn)["dbname"])

    def _copy(self, template: str, *, word: str = "") -> str:
        """Make a database from another; returns its DSN on the server itself."""
        name = f"{self.word}_{word}{secrets.token_hex(6)}"
        # Of an embedded server the version is known, and nothing on it has to be safe.
        how = sql.SQL("strategy file_copy" if self._held else "")
        with closing(self.connect()) as conn:
            conn.execute(
                sql.SQL("create database {} template {} {}").format(
                    sql.Identifier(name), sql.Identifier(template), how
                )
            )
        return make_conninfo(self.dsn, dbname=name)

    def drop(self, dsn: str) -> None:
        """Drop a database, whoever is still connected to it."""
        name = conninfo_to_dict(dsn)["dbname"]
        with closing(self.connect()) as conn:
            _drop(conn, str(name))

    def _template(self, environment: str, time_zone: str) -> str:
        key = environment, time_zone
        if key not in self._templates:
            self._templates[key] = self._ensure_template(environment, time_zone)
        return self._templates[key]

    def _ensure_template(self, environment: str, time_zone: str) -> str:
        """Make a template unless another process of this run did; it gets its name when whole."""
        name = f"{self.word}_template_{environment}_{time_zone}"
        with closing(self.connect()) as conn, conn.transaction():
            conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [self.word])
            if name in _list_databases(conn, self.word):
                return name
            fresh = self._copy("template0")
            with closing(psycopg.connect(fresh, autocommit=True)) as made:
                migrations.migrate(
                    made, environment=environment, time_zone=time_zone, daily_max=100
                )
                roles.make(made, self.word)
            with closing(self.connect()) as other:
                other.execute(
                    sql.SQL("alter database {} rename to {}").format(
                        sql.Identifier(str(conninfo_to_dict(fresh)["dbname"])),
                        sql.Identifier(name),
                    )
                )
        return name


def _list_databases(conn: psycopg.Connection[Any], word: str) -> list[str]:
    rows = conn.execute(
        "select datname from pg_database where starts_with(datname, %s) order by datname",
        [f"{word}_"],
    ).fetchall()
    return [name for (name,) in rows]


def _drop(conn: psycopg.Connection[Any], name: str) -> None:
    conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _forgo_safety(dsn: str) -> None:
    """Make a server that lives for one run quick: nothing on it has to survive a power cut."""
    with closing(psycopg.connect(dsn, autocommit=True)) as conn:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            conn.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(name)))
        conn.execute("alter system set max_wal_size = '256MB'")  # it may lie in memory
        conn.execute("select pg_reload_conf()")


def _start_container() -> "PostgresContainer | None":
    sockets = (Path("/var/run/docker.sock"), Path.home() / ".docker/run/docker.sock")
    if not os.environ.get("DOCKER_HOST") and not any(path.exists() for path in sockets):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import docker
        from docker.errors import DockerException
        from testcontainers.postgres import PostgresContainer

        try:
            with closing(docker.from_env(timeout=DOCKER_SECONDS)) as client:
                client.ping()
        except (DockerException, OSError):
            return None
        container = PostgresContainer(IMAGE).with_command("postgres -c max_connections=300")
        return container.start()
