"""The connection behind the library door, and what all its methods share."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import psycopg

from hyperdrip import instance as instances
from hyperdrip import migrations
from hyperdrip.clock import Clock
from hyperdrip.db import (
    BorrowedConnection,
    OwnConnection,
    connect,
    converted_errors,
    is_in_transaction,
    require_read_committed,
)
from hyperdrip.errors import SettingsError
from hyperdrip.models import Instance
from hyperdrip.scheduler import Enrolment, Moment, read_moment
from hyperdrip.settings import Settings, load

if TYPE_CHECKING:
    from hyperdrip.embedded import EmbeddedServer


class Base:
    """One connection to one database, with its settings. Not for several threads at once."""

    def __init__(
        self,
        dsn: str = "",
        settings: Settings | None = None,
        *,
        server: "EmbeddedServer | None" = None,
        conn: psycopg.Connection[Any] | None = None,
    ) -> None:
        """Connect to `dsn`, or use `conn`, a connection of the caller's.

        With `conn` every method runs inside the transaction that the caller has open, if any, and
        is undone when the caller rolls back; with autocommit off it opens one, as any statement
        does. The connection stays open and as it is. Planner operations hold the planner lock, and
        the days that they take, until that transaction ends: let it end soon. Change leads that
        exist before adding others, or a worker may wait for you while you wait for it.

        `server`: the embedded one behind `dsn`, released on close. `settings`: None reads the
        environment.

        Raises: DatabaseError and its kin; SettingsError, also for a transaction that is not read
        committed.
        """
        self.settings = settings or load()
        self.clock = Clock(start=self.settings.hyperdrip_now)
        self.dsn = dsn
        self._server = server
        self._is_borrowed = conn is not None
        self._is_closed = False
        if conn is not None:
            self.dsn = conn.info.dsn
            borrowed = BorrowedConnection(conn)
            self._conn = cast("psycopg.Connection", borrowed)
            with converted_errors(), self._conn.transaction():
                borrowed.allow_prepared(require_read_committed(self._conn))
                self._check()
        else:
            self._conn = self._connect()

    @classmethod
    def open(cls, settings: Settings | None = None, *, is_checked: bool = True) -> Self:
        """Open the database of the settings (None: read the environment).

        Starts and migrates the embedded server when there is no DATABASE_URL. With `is_checked`,
        a database that is not migrated, or belongs to another environment, is refused.

        Raises: SettingsError, DatabaseError and its kin.
        """
        settings = settings or load()
        server = None
        dsn = settings.database_url
        if not dsn:
            from hyperdrip import embedded

            server = embedded.acquire(settings.hyperdrip_home, settings.hyperdrip_env)
            dsn = server.dsn
        drip = None
        try:
            drip = cls(dsn, settings, server=server)
            with converted_errors():
                if server is not None and migrations.read_status(drip._conn).pending:
                    drip.migrate()
                if is_checked:
                    drip._check()
        except BaseException:
            if drip is not None:
                drip.close()
            elif server is not None:
                server.release()
            raise
        return drip

    def __enter__(self) -> Self:
        """Use it as a context manager: it closes itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _connect(self) -> psycopg.Connection:
        conn = connect(self.dsn)
        if isinstance(conn, OwnConnection):
            conn.reopen = lambda: connect(self.dsn)
        return conn

    def close(self) -> None:
        """Close the connection; the last user of an embedded server stops it."""
        self._is_closed = True
        if not self._is_borrowed:
            self._conn.close()
        if self._server is not None:
            self._server.release()

    def instance(self) -> Instance:
        """What this database is: environment, time zone, daily maximum, paused or not."""
        with self._session() as conn:
            return instances.require_instance(conn)

    def moment(self) -> Moment:
        """The instance, the instant, and today."""
        with self._session() as conn:
            return read_moment(conn, self.clock)

    def migrate(self) -> list[str]:
        """Create or update the schema; returns what was applied. Not on a caller's connection.

        Raises: SettingsError when the database belongs to another environment; ConflictError while
        workers live who know the database only as it was.
        """
        self._refuse_borrowed("migrate")
        with self._session() as conn:
            self._check_identity(conn)
            if migrations.is_migrated(conn) and migrations.read_status(conn).pending:
                instances.refuse_live_workers(conn)
            applied = migrations.migrate(
                conn,
                environment=self.settings.hyperdrip_env,
                time_zone=self.settings.timezone,
                daily_max=self.settings.daily_max,
            )
            if applied:
                from hyperdrip import roles

                roles.apply_again(conn, roles.read_roles(conn))
            self._check()
            return applied

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection]:
        """The connection to work on; one of our own that was lost is opened again.

        In a caller's transaction an error undoes this work alone.
        """
        if self._conn.closed and not (self._is_borrowed or self._is_closed):
            self._conn = self._connect()
        conn = self._conn
        with converted_errors():
            if self._is_borrowed and not conn.autocommit:
                # Opens the caller's transaction: one that we open ourselves we would commit, too.
                require_read_committed(conn)
            if not self._is_borrowed or not is_in_transaction(conn):
                yield conn
                return
            with conn.transaction():
                yield conn

    def _refuse_borrowed(self, method: str) -> None:
        """Raises: SettingsError when the connection is a caller's, for what commits as it goes."""
        if self._is_borrowed:
            raise SettingsError(
                f"{method}() commits as it goes and needs a connection of its own;"
                " use Hyperdrip.open() in place of Hyperdrip(conn=...)"
            )

    def _check(self) -> None:
        migrations.require_current(self._conn)
        instance = instances.require_instance(self._conn)
        self._check_agreement(instance.environment, instance.time_zone)

    def _check_identity(self, conn: psycopg.Connection) -> None:
        """As `_check`, at any version; an empty database is nobody's yet."""
        identity = migrations.get_identity(conn)
        if identity is not None:
            self._check_agreement(*identity)

    def _check_agreement(self, stored_environment: str, stored_time_zone: str) -> None:
        is_zone_set = self.settings.is_explicit("TIMEZONE")
        migrations.check_agreement(
            environment=self.settings.hyperdrip_env,
            time_zone=self.settings.timezone if is_zone_set else None,
            stored_environment=stored_environment,
            stored_time_zone=stored_time_zone,
        )

    def _enrolment(self, *, campaign: str, max_messages: int | None) -> Enrolment:
        settings = self.settings
        return Enrolment(
            max_messages=settings.max_messages if max_messages is None else max_messages,
            is_max_given=max_messages is not None,
            campaign=campaign,
            horizon_days=settings.schedule_horizon_days,
            with_email=settings.envelope_email,
        )
