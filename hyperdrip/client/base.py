"""The connection behind the library door, and what all its methods share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

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
from hyperdrip.rollover import Policy
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
        instances.require_instance(self._conn)
        self._check_agreement()

    def _check_agreement(self) -> None:
        """Compare with a database that was migrated to the end; an empty one is nobody's yet."""
        identity = migrations.get_identity(self._conn)
        if identity is None:
            return
        is_zone_set = self.settings.is_explicit("TIMEZONE")
        migrations.check_agreement(
            environment=self.settings.hyperdrip_env,
            time_zone=self.settings.timezone if is_zone_set else None,
            stored_environment=identity[0],
            stored_time_zone=identity[1],
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

    def _policy(self) -> Policy:
        settings = self.settings
        return Policy(
            on_unknown=settings.on_unknown,
            max_attempts=settings.max_attempts,
            with_email=settings.envelope_email,
        )
