"""The instance row, and the workers' heartbeats."""

from datetime import date

import psycopg

from hyperdrip.db import query
from hyperdrip.errors import ConflictError, NotMigratedError
from hyperdrip.models import Instance


def require_instance(conn: psycopg.Connection) -> Instance:
    """The instance row. Raises: NotMigratedError when there is none."""
    row = conn.execute(query("get_instance")).fetchone()
    if row is None:
        raise NotMigratedError("the database has no instance row; run: hyperdrip db migrate")
    return Instance(*row)


def set_daily_max(conn: psycopg.Connection, daily_max: int) -> None:
    """Store another daily maximum; every claim obeys it at once."""
    conn.execute(query("set_daily_max"), {"daily_max": daily_max})


def set_paused(conn: psycopg.Connection, *, is_paused: bool) -> bool:
    """Stop or start the whole instance; returns whether that changed anything."""
    row = conn.execute(query("set_paused"), {"is_paused": is_paused}).fetchone()
    return row is not None and bool(row[0]) != is_paused


def set_last_sender(conn: psycopg.Connection, sender: str) -> None:
    """Remember which sender sent last."""
    conn.execute(query("set_last_sender"), {"sender": sender})


def open_day(conn: psycopg.Connection, today: date) -> None:
    """Move the newest day ever opened forward to `today`, never back."""
    conn.execute(query("open_day"), {"today": today})


def insert_worker(conn: psycopg.Connection, *, host: str, pid: int, sender: str) -> int:
    """Register a worker; returns its id."""
    row = conn.execute(
        query("insert_worker"), {"host": host, "pid": pid, "sender": sender}
    ).fetchone()
    assert row is not None
    return int(row[0])


def touch_worker(conn: psycopg.Connection, worker_id: int, *, is_stopped: bool = False) -> None:
    """Write a worker's heartbeat, on the server's clock."""
    conn.execute(query("touch_worker"), {"worker_id": worker_id, "is_stopped": is_stopped})


def list_live_workers(conn: psycopg.Connection) -> list[tuple[int, str, int, str]]:
    """Workers seen within the last minute: id, host, pid, sender; by id."""
    return conn.execute(query("list_live_workers")).fetchall()


def refuse_live_workers(conn: psycopg.Connection) -> None:
    """Raises: ConflictError while workers live."""
    alive = list_live_workers(conn)
    if alive:
        _, host, pid, sender = alive[0]
        raise ConflictError(
            f"{len(alive)} worker(s) live, first {sender} on {host} with pid {pid};"
            " stop them first (a killed one counts for a minute)"
        )
