"""The connection behind the library door, and what all its methods share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from hyperdrip import instance as instances
from hyperdrip import migrations
from hyperdrip.clock import Clock
from hyperdrip.db import connect, converted_errors, require_read_committed
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
        conn: psycopg.Connection | None = None,
    ) -> None:
        """Connect to `dsn`, or use `conn`, a connection of the caller's.

        With `conn` every method runs inside the transaction that the caller has open, if any, and
        is undone when the caller rolls back; the connection stays open. `server`: the embedded one
        behind `dsn`, released on close. `settings`: None reads the environment.

        Raises: DatabaseError and its kin; SettingsError.
        """
        self.settings = settings or load()
        self.clock = Clock(start=self.settings.hyperdrip_now)
        self.dsn = dsn
        self._server = server
        self._is_borrowed = conn is not None
        if conn is not None:
            require_read_committed(conn)
            self._conn = conn
            with converted_errors():
                self._check()
        else:
            self._conn = connect(dsn)

    def close(self) -> None:
        """Close the connection; the last user of an embedded server stops it."""
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
        with converted_errors():
            yield self._conn

    def _check(self) -> None:
        migrations.require_current(self._conn)
        self._check_agreement()

    def _check_agreement(self) -> None:
        instance = instances.require_instance(self._conn)
        is_zone_set = self.settings.is_explicit("TIMEZONE")
        migrations.check_agreement(
            environment=self.settings.hyperdrip_env,
            time_zone=self.settings.timezone if is_zone_set else None,
            stored_environment=instance.environment,
            stored_time_zone=instance.time_zone,
        )

    def _enrolment(self, *, campaign: str, max_messages: int | None) -> Enrolment:
        settings = self.settings
        return Enrolment(
            max_messages=settings.max_messages if max_messages is None else max_messages,
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
