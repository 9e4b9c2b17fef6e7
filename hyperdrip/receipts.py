"""Receipts: whoever lost the reply to a COMMIT looks up whether it was done, and repeats nothing.

A receipt is a row that is written with the work. Once the planner lock can be had on another
connection, the transaction that held it is over, and its receipt is there or will never be.
"""

import time
import uuid
from collections.abc import Callable
from contextlib import closing

import psycopg
from psycopg import errors as pg

from hyperdrip import quota
from hyperdrip.db import SERVER_LOST, BorrowedConnection, OwnConnection, query
from hyperdrip.errors import DatabaseUnavailable

LOOK_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

Reopen = Callable[[], psycopg.Connection]


def write(conn: psycopg.Connection) -> str:
    """Leave a receipt of this transaction; returns what to look it up with.

    Nothing is written when nobody could look it up, or when the transaction has written nothing.
    """
    token = str(uuid.uuid4())
    if isinstance(conn, OwnConnection) and conn.reopen is not None:
        conn.execute(query("write_receipt"), {"token": token})
    return token


def require_committed(conn: psycopg.Connection, token: str, error: psycopg.Error) -> None:
    """Look up a COMMIT whose reply was lost; returns, with `conn` closed, if it was done.

    Raises: DatabaseUnavailable when nothing was done, or when nobody can know; `error` itself on a
    connection that was opened without a way to look.
    """
    given: object = conn
    if isinstance(given, BorrowedConnection):
        raise DatabaseUnavailable(
            "the connection was lost at the commit: this may have been done or not; look before"
            " you repeat it: hyperdrip leads list"
        ) from error
    if not isinstance(conn, OwnConnection) or conn.reopen is None:
        raise error
    found = _look_up(conn.reopen, token)
    if found is None:
        raise DatabaseUnavailable(
            "the database was lost at the commit, and it does not tell within"
            f" {LOOK_SECONDS:.0f} s whether this was done: it may have been; look before you"
            " repeat it: hyperdrip status, hyperdrip leads list"
        ) from error
    if not found:
        raise DatabaseUnavailable(
            "the database was lost at the commit and nothing was done; try again"
        ) from error
    conn.close()


def _look_up(reopen: Reopen, token: str) -> bool | None:
    """Was it committed? None when that cannot be known in time."""
    gives_up_at = time.monotonic() + LOOK_SECONDS
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            with closing(reopen()) as conn:
                return _find(conn, token, gives_up_at)
        except (*SERVER_LOST, DatabaseUnavailable):
            if time.monotonic() > gives_up_at:
                return None
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _find(conn: psycopg.Connection, token: str, gives_up_at: float) -> bool | None:
    if _has_receipt(conn, token):
        return True
    try:
        with conn.transaction():
            seconds = max(1, round(gives_up_at - time.monotonic()))
            conn.execute(query("set_lock_timeout"), {"seconds": seconds})
            quota.lock_planner(conn)
            return _has_receipt(conn, token)
    except pg.LockNotAvailable:  # by whoever plans now, or by the lost transaction itself
        return True if _has_receipt(conn, token) else None


def _has_receipt(conn: psycopg.Connection, token: str) -> bool:
    row = conn.execute(query("has_receipt"), {"token": token}).fetchone()
    assert row is not None
    return bool(row[0])
