"""Looking at the database from outside, opening psql on it, and dropping what Hyperdrip made."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from hyperdrip import instance as instances
from hyperdrip import migrations, queue
from hyperdrip.db import address, query
from hyperdrip.errors import SettingsError
from hyperdrip.fence import read_fence


def describe(conn: psycopg.Connection, dsn: str) -> dict[str, Any]:
    """Where the database is, what it holds and what is applied; nothing needs to be migrated."""
    status = migrations.read_status(conn)
    version = conn.info.server_version
    found: dict[str, Any] = {
        "database": address(dsn),
        "server": f"PostgreSQL {version // 10000}.{version % 10000}",
        "pgmq": queue.get_version(conn),
        "environment": None,
        "timeZone": None,
        "dailyMax": None,
        "paused": None,
        "fenced": None,
        "liveWorkers": 0,
        "applied": list(status.applied),
        "pending": list(status.pending),
    }
    if migrations.is_migrated(conn):
        instance = instances.require_instance(conn)
        found["environment"] = instance.environment
        found["timeZone"] = instance.time_zone
        found["dailyMax"] = instance.daily_max
        found["paused"] = instance.is_paused
        found["fenced"] = read_fence(conn).is_closed
        found["liveWorkers"] = len(instances.list_live_workers(conn))
    return found


def run_psql(dsn: str, arguments: Sequence[str], *, bin_folder: Path | None) -> int:
    """Run psql at the caller's terminal; returns its exit code.

    The address goes through the environment, so that no password shows in a process list.
    """
    beside = bin_folder / "psql" if bin_folder is not None else None
    program = str(beside) if beside is not None and beside.exists() else shutil.which("psql")
    if program is None:
        raise SettingsError(
            "psql is not installed; on Debian and Ubuntu: apt install postgresql-client"
        )
    parts = {
        option.envvar.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.parse(dsn.encode())
        if option.envvar and option.val
    }
    outer = dict(os.environ)
    if bin_folder is not None:  # the embedded server's address is whole as it is
        outer = {name: value for name, value in outer.items() if not name.startswith("PG")}
    # Ctrl-C goes to both of us, and psql takes it: it cancels a query there.
    old = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        return subprocess.call([program, *arguments], env={**outer, **parts})
    finally:
        signal.signal(signal.SIGINT, old)


def drop_everything(conn: psycopg.Connection) -> None:
    """Drop the queues with their archives, and the schema.

    Raises: ConflictError while workers live.
    """
    if migrations.is_migrated(conn):
        instances.refuse_live_workers(conn)
    if queue.is_installed(conn):
        for name in queue.list_names(conn):
            queue.drop(conn, name)
    conn.execute(query("drop_schema"))
