"""The fence against copies: a copied database sends nothing until somebody says that it may.

Its original may still be sending, and both would write to the same people. `db migrate` stores
which database it made, and whoever sends compares that with where it is connected to. A copy of
the data directory carries its system identifier along, and a promoted standby does so rightly:
neither can be told from the original.
"""

from dataclasses import dataclass

import psycopg

from hyperdrip.db import address, connect, query
from hyperdrip.errors import ConflictError, DatabaseUnavailable, FencedError, NotMigratedError


@dataclass(frozen=True)
class Fence:
    """System identifier and database oid, `7301/16384`: as stored, and of this very database."""

    stored: str
    own: str

    @property
    def is_closed(self) -> bool:
        """Is this another database than the one that was migrated: may nothing be sent?"""
        return self.stored != self.own

    @property
    def difference(self) -> str:
        """What differs, for people."""
        (server, database), (own_server, own_database) = (
            text.partition("/")[::2] for text in (self.stored, self.own)
        )
        if server != own_server:
            return (
                f"it was made on the server with system identifier {server},"
                f" and this is server {own_server}"
            )
        return f"it was made as database {database} of this server, and this is {own_database}"


def read_fence(conn: psycopg.Connection) -> Fence:
    """Compare what is stored with where we are. Raises: NotMigratedError."""
    row = conn.execute(query("get_fence")).fetchone()
    if row is None:
        raise NotMigratedError("the database has no instance row; run: hyperdrip db migrate")
    return Fence(*row)


def require_open(conn: psycopg.Connection, dsn: str) -> None:
    """Raises: FencedError when this database is a copy."""
    fence = read_fence(conn)
    if fence.is_closed:
        raise FencedError(
            f"database {address(dsn)} is a copy and sends nothing: {fence.difference};"
            " if the original sends no more: hyperdrip db unlock"
        )


def connect_to_send(dsn: str) -> psycopg.Connection:
    """Connect, for somebody who sends; also again, after a server was lost.

    Raises: FencedError when the database is a copy; DatabaseUnavailable when it takes no writes;
    what `connect` raises.
    """
    conn = connect(dsn)
    if conn.prepare_threshold is not None:  # it is not behind a pooler
        conn.prepare_threshold = 0  # whoever sends asks the same again and again
    try:
        row = conn.execute(query("is_read_only")).fetchone()
        if row is not None and row[0]:  # or a worker would connect again and again, without a pause
            raise DatabaseUnavailable(
                f"database {address(dsn)} takes no writes (default_transaction_read_only is on);"
                " nothing can be sent until it does"
            )
        require_open(conn, dsn)
    except BaseException:
        conn.close()
        raise
    return conn


def unlock(conn: psycopg.Connection, fence: Fence) -> None:
    """Let this database send from now on, if it is still as `fence` saw it.

    Raises: ConflictError when somebody changed that meanwhile.
    """
    changed = conn.execute(
        query("set_fingerprint"), {"stored": fence.stored, "fingerprint": fence.own}
    ).fetchone()
    if changed is None:
        raise ConflictError("somebody else unlocked this database meanwhile; look again")
