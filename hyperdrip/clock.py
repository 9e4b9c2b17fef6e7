"""The database's clock, which every host shares; movable for tests."""

import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg

from hyperdrip.db import query


class Clock:
    """Tells the time of the database, moved so that this process began at `start`.

    Days and stored times follow this clock; leases and backoff stay on the server's own.
    """

    def __init__(self, *, start: datetime | None = None) -> None:
        """`start`: the instant at which counting begins (HYPERDRIP_NOW); None = the real time."""
        self._start = start
        self._shift: timedelta | None = None if start else timedelta()
        self._last_reading: tuple[datetime, float] | None = None

    def read(self, conn: psycopg.Connection) -> datetime:
        """Ask the server, and return the instant in UTC."""
        row = conn.execute(query("read_clock")).fetchone()
        assert row is not None
        return self.take(row[0])

    def take(self, server: datetime) -> datetime:
        """The instant in UTC by a reading of the server's clock that came with another answer."""
        server = server.astimezone(UTC)
        if self._shift is None:
            assert self._start is not None
            self._shift = self._start.astimezone(UTC) - server
        now = server + self._shift
        self._last_reading = (now, time.monotonic())
        return now

    def recent(self, conn: psycopg.Connection) -> datetime:
        """The instant in UTC, from a reading that is no older than a second."""
        is_new = self._last_reading and time.monotonic() - self._last_reading[1] < 1.0
        return self.estimate() if is_new else self.read(conn)

    def estimate(self) -> datetime:
        """The instant in UTC, reckoned from the last reading without asking the server."""
        if self._last_reading is None:
            raise RuntimeError("the clock has to be read once before it can estimate")
        now, read_at = self._last_reading
        return now + timedelta(seconds=time.monotonic() - read_at)


def day_of(instant: datetime, time_zone: str) -> date:
    """The calendar day of an instant in a time zone."""
    return instant.astimezone(ZoneInfo(time_zone)).date()
