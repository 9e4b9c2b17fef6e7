"""Connections and query files. SQL lives in `sql/queries`, one query a file."""

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.abc import Params
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import RowFactory, TupleRow, tuple_row
from psycopg.types.json import set_json_loads

from hyperdrip.errors import (
    ConflictError,
    DatabaseError,
    DatabaseUnavailable,
    HyperdripError,
    InvalidDataError,
    NotMigratedError,
    SettingsError,
)

OLDEST_SERVER = 140000
CONNECT_TIMEOUT_SECONDS = 10
CROWDED_SECONDS = 60
# The server's own words, and those of PgBouncer.
CROWDED_WORDS = ("too many clients", "remaining connection slots", "no more connections allowed")

# The server was lost, or this is no primary any more: connect again, and look before repeating.
SERVER_LOST = (psycopg.OperationalError, psycopg.InterfaceError, pg.ReadOnlySqlTransaction)
# Connection exceptions, shutdown, start-up, an idle session ended, and a primary that is none.
_LOST_STATES = re.compile("08...|57P0[1-5]|25006")

Row = TypeVar("Row")


@cache
def sql_folder() -> Path:
    """The folder with `migrations` and `queries`: inside the wheel, or in the checkout."""
    package = Path(__file__).parent
    for folder in (package / "sql", package.parent / "sql"):
        if folder.is_dir():
            return folder
    raise HyperdripError(f"the sql folder is missing beside {package}; install Hyperdrip again")


@cache
def query(name: str) -> bytes:
    """The text of `sql/queries/<name>.sql`, as bytes: psycopg takes them as they are."""
    return (sql_folder() / "queries" / f"{name}.sql").read_bytes()


def array(values: Iterable[object]) -> str:
    """A PostgreSQL array of numbers or days, as text: many times faster than the driver's own way.

    For values without quotes, commas or nulls; the query casts it (`%(ids)s::bigint[]`).
    """
    return f"{{{','.join(map(str, values))}}}"


def nullable_array(values: Iterable[object | None]) -> str:
    """As `array` for any text, quoted; None becomes null."""
    return array(["null" if value is None else _quoted(str(value)) for value in values])


def instant_array(values: Iterable[datetime | None]) -> str:
    """As `array` for instants; None becomes null. Quick where many are one and the same."""
    texts, last, text = [], None, "null"
    for value in values:
        if value is not last:
            last, text = value, "null" if value is None else value.isoformat()
        texts.append(text)
    return array(texts)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def connect(
    dsn: str, *, is_writer: bool = True, patience_seconds: float = CROWDED_SECONDS
) -> psycopg.Connection:
    """Open an autocommit connection.

    A server with no free slot is asked again for `patience_seconds`. Behind a pooler no statement
    is prepared: the next one may run in another server process.

    Raises: SettingsError for a malformed address, or an option that a pooler refuses;
    DatabaseUnavailable when the server cannot be reached or is a standby (with `is_writer`);
    DatabaseError when it is too old.
    """
    give_up_at = time.monotonic() + patience_seconds
    while True:
        try:
            conn = OwnConnection.connect(
                _complete(dsn, is_writer=is_writer), autocommit=True, cursor_factory=_BinaryCursor
            )
            conn.server_cursor_factory = _BinaryServerCursor
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            break
        except psycopg.ProgrammingError:
            raise SettingsError(
                "DATABASE_URL is malformed; write postgresql://user:password@host:5432/database"
            ) from None
        except psycopg.OperationalError as error:
            if _is_crowded(error) and time.monotonic() < give_up_at:
                time.sleep(random.uniform(0.05, 0.5))
                continue
            _refuse_startup_option(error)
            raise DatabaseUnavailable(
                f"database {address(dsn)} cannot be reached: {_why(error)};"
                " check DATABASE_URL and that the server runs"
            ) from None
    try:
        _check_server(conn, dsn, is_writer=is_writer)
    except BaseException:
        conn.close()
        raise
    set_json_loads(_read_json, conn)
    return conn


_decode_json = json.JSONDecoder().raw_decode


def _read_json(data: str | bytes) -> Any:
    """As `json.loads` for what the server writes, which is JSON in UTF-8 without a space before."""
    return _decode_json(data if isinstance(data, str) else data.decode())[0]


def run_script(conn: psycopg.Connection, text: bytes) -> None:
    """Execute several commands at once, which only a cursor with text results can."""
    with psycopg.Cursor(conn) as cursor:
        cursor.execute(text)


class OwnConnection(psycopg.Connection[Row]):
    """A connection that we opened. `reopen` opens another one, to look up a lost COMMIT with."""

    reopen: Callable[[], psycopg.Connection] | None = None


class _BinaryCursor(psycopg.Cursor[Row]):
    """A cursor that reads binary results: read as text, days would depend on the DateStyle."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self.format = psycopg.pq.Format.BINARY


class _BinaryServerCursor(psycopg.ServerCursor[Row]):
    """The same, on the server."""

    def __init__(self, connection: psycopg.Connection[Any], name: str, **options: Any) -> None:
        super().__init__(connection, name, **options)
        self.format = psycopg.pq.Format.BINARY


class _Cursor(psycopg.Cursor[Row]):
    """A cursor that goes by psycopg's own conversions, whatever its connection goes by."""

    def __init__(
        self, connection: psycopg.Connection[Any], *, prepare: bool | None, **options: Any
    ) -> None:
        super().__init__(connection, **options)
        self._prepare = prepare

    @property
    def adapters(self) -> AdaptersMap:
        return psycopg.adapters

    def execute(
        self,
        query: Any,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Self:
        prepare = self._prepare if prepare is None else prepare
        return super().execute(query, params, prepare=prepare, binary=binary)


class _NamedCursor(psycopg.ServerCursor[Row]):
    """The same, on the server."""

    @property
    def adapters(self) -> AdaptersMap:
        return psycopg.adapters


class BorrowedConnection:
    """A connection of somebody else's, with cursors of our own.

    Rows are tuples and values are converted as psycopg does it, whatever row factory, cursors and
    conversions its owner has set; none of them is changed. It does what our modules ask of a
    connection, and nothing else.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        """`conn`: stays open, and stays in the transaction that it is in."""
        self._conn = conn
        self.transaction = conn.transaction
        # False: nothing is prepared. None: as its owner has it.
        self._prepare: bool | None = False

    def allow_prepared(self, server_pid: int) -> None:
        """Prepare statements as its owner does, unless a pooler stands before the server.

        `server_pid`: the process that has answered on this connection.
        """
        self._prepare = None if _is_direct(self._conn, server_pid) else False

    @property
    def info(self) -> psycopg.ConnectionInfo:
        """What libpq knows of the connection."""
        return self._conn.info

    @property
    def autocommit(self) -> bool:
        """Does its owner commit each statement?"""
        return self._conn.autocommit

    @property
    def closed(self) -> bool:
        """Is it closed?"""
        return self._conn.closed

    @property
    def broken(self) -> bool:
        """Was it lost?"""
        return self._conn.broken

    def cursor(
        self, name: str = "", *, row_factory: RowFactory[Row] | None = None
    ) -> psycopg.Cursor[Any]:
        """A cursor whose rows are tuples unless told otherwise; on the server with a `name`."""
        factory: RowFactory[Any] = row_factory or tuple_row
        cursor: psycopg.Cursor[Any] = (
            _NamedCursor(self._conn, name, row_factory=factory)
            if name
            else _Cursor(self._conn, prepare=self._prepare, row_factory=factory)
        )
        # Read as text, dates and times would depend on the owner's DateStyle.
        cursor.format = psycopg.pq.Format.BINARY
        return cursor

    def execute(
        self, statement: str | bytes | sql.SQL | sql.Composed, params: Params | None = None
    ) -> psycopg.Cursor[TupleRow]:
        """Execute a statement; the cursor gives its rows as tuples."""
        return self.cursor().execute(statement, params)


def is_in_transaction(conn: psycopg.Connection) -> bool:
    """Is a transaction open, so that what is done now may still be undone by whoever opened it?"""
    return conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE


@contextmanager
def snapshot(conn: psycopg.Connection) -> Iterator[None]:
    """One snapshot for all that is read; in a caller's transaction, whatever that one sees.

    The one place with REPEATABLE READ: only for what only reads, and never through `pgmq.read`.
    """
    is_ours = conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with conn.transaction():
        if is_ours:
            conn.execute("set transaction isolation level repeatable read read only")
        yield


def require_read_committed(conn: psycopg.Connection) -> int:
    """Refuse a transaction that keeps one snapshot for long; returns the server process's pid.

    Planning reads after taking its lock, so each statement needs a snapshot of its own.

    Raises: SettingsError.
    """
    row = conn.execute(query("get_isolation")).fetchone()
    assert row is not None
    level, server_pid = row
    if level != "read committed":
        raise SettingsError(
            f"this transaction is {level} and Hyperdrip plans only under read committed;"
            " set transaction isolation level read committed"
        )
    return int(server_pid)


def is_server_lost(error: BaseException) -> bool:
    """Does an error say that the connection is of no use any more: connect again?

    Others among SERVER_LOST (a deadlock, a cancelled query, a full disk) leave it as it is.
    """
    if not isinstance(error, SERVER_LOST):
        return False
    return error.sqlstate is None or _LOST_STATES.fullmatch(error.sqlstate) is not None


def address(dsn: str) -> str:
    """Where a DSN points, for people: hosts, ports and database, never a password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "(malformed address)"
    name = parts.get("dbname") or parts.get("user") or "default"
    return f"{name} on {', '.join(_hosts(parts))}"


def _hosts(parts: dict[str, Any]) -> list[str]:
    """Each host with its port, if one is given; one port alone counts for all hosts."""
    hosts = str(parts.get("host") or parts.get("hostaddr") or "").split(",")
    ports = str(parts.get("port") or "").split(",")
    if len(ports) != len(hosts):
        ports = ports[:1] * len(hosts)
    return [
        f"{host or 'the local socket'}{f':{port}' if port else ''}"
        for host, port in zip(hosts, ports, strict=True)
    ]


def first_line(error: BaseException) -> str:
    """The one line of a driver's error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.rsplit("FATAL:", 1)[-1].strip()


@contextmanager
def converted_errors() -> Iterator[None]:
    """Turn the driver's errors into Hyperdrip's, once, at the edge."""
    try:
        yield
    except (pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedColumn, pg.UndefinedFunction) as e:
        raise NotMigratedError(
            f"the database is not migrated to this version ({first_line(e)});"
            " run: hyperdrip db migrate"
        ) from e
    except (pg.ReadOnlySqlTransaction, pg.InsufficientPrivilege) as e:
        raise DatabaseError(f"the database does not allow this: {first_line(e)}") from e
    except pg.UniqueViolation as e:
        raise ConflictError(f"it exists already: {e.diag.message_detail or first_line(e)}") from e
    except (
        pg.DeadlockDetected,
        pg.LockNotAvailable,
        pg.QueryCanceled,
        pg.SerializationFailure,
    ) as e:
        raise DatabaseError(f"the database gave up: {first_line(e)}; try again") from e
    except pg.InsufficientResources as e:
        raise DatabaseError(
            f"the database has not enough room for this: {first_line(e)}; free some, or raise"
            " max_locks_per_transaction if it is about shared memory"
        ) from e
    except psycopg.OperationalError as e:
        if "statement pooling" in str(e):
            raise SettingsError(
                "the pooler that DATABASE_URL names works in statement mode, which allows no"
                " transaction; let it work in transaction or session mode"
            ) from e
        raise DatabaseUnavailable(
            f"the database was lost: {first_line(e)}; try again once it is back"
        ) from e
    except UnicodeEncodeError as e:
        raise InvalidDataError(
            "a text is not UTF-8 and no database takes it; check what was typed or pasted"
        ) from e
    except psycopg.Error as e:
        raise DatabaseError(f"the database refused: {first_line(e)}") from e


def _complete(dsn: str, *, is_writer: bool) -> str:
    parts = conninfo_to_dict(dsn)
    given = {
        "connect_timeout": parts.get("connect_timeout", CONNECT_TIMEOUT_SECONDS),
        "application_name": parts.get("application_name", "hyperdrip"),
    }
    # Among several hosts the primary is meant, unless somebody says otherwise.
    defaults = {
        option.keyword.decode(): (option.val or b"").decode()
        for option in psycopg.pq.Conninfo.get_defaults()
    }
    hosts = str(parts.get("host") or parts.get("hostaddr") or defaults["host"])
    is_said = "target_session_attrs" in parts or defaults["target_session_attrs"] not in ("", "any")
    if is_writer and "," in hosts and not is_said:
        given["target_session_attrs"] = "read-write"
    return make_conninfo(dsn, client_encoding="utf8", **given)


_ATTEMPT = re.compile(r"^- host: (\S+), port: (\S+), hostaddr: \S+: (.*)$", re.MULTILINE)
_NO_PRIMARY = ("session is read-only", "hot standby mode")


def _why(error: psycopg.OperationalError) -> str:
    """Why no connection came about; with several hosts, what each of them said."""
    said = {
        (host.strip("'"), port.strip("'")): reason.rsplit("failed: ", 1)[-1].split("FATAL:")[-1]
        for host, port, reason in _ATTEMPT.findall(str(error))
    }
    if any(words in str(error) for words in _NO_PRIMARY):
        start = "it is no primary" if len(said) < 2 else "none of these is a primary"
    elif len(said) < 2:
        return first_line(error)
    else:
        start = "none of these answers"
    each = "; ".join(f"{host}:{port} {reason.strip()}" for (host, port), reason in said.items())
    return f"{start}: {each or first_line(error)}"


def _is_crowded(error: psycopg.OperationalError) -> bool:
    text = str(error)
    return any(words in text for words in CROWDED_WORDS)


def _refuse_startup_option(error: psycopg.OperationalError) -> None:
    """Raises: SettingsError when a pooler has refused an option of the address."""
    text = first_line(error)
    if "unsupported startup parameter" in text:
        raise SettingsError(
            f"the pooler that DATABASE_URL names refuses to connect: {text};"
            " take it out of DATABASE_URL and the environment, or set it on the database"
        ) from None


def _is_direct(conn: psycopg.Connection[Any], server_pid: int) -> bool:
    """Is it one server process from start to end? A pooler tells its clients a made-up pid."""
    return conn.info.backend_pid == server_pid


def _check_server(conn: psycopg.Connection, dsn: str, *, is_writer: bool) -> None:
    if conn.info.server_version < OLDEST_SERVER:
        raise DatabaseError(
            f"database {address(dsn)} is PostgreSQL {conn.info.server_version // 10000};"
            " Hyperdrip needs 14 or later"
        )
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseError(
            f"database {address(dsn)} is in {encoding}, and names and texts need UTF8; make one"
            " with: create database ... encoding 'UTF8' template template0"
        )
    row = conn.execute(query("is_standby")).fetchone()
    assert row is not None
    is_standby, server_pid = row
    if not _is_direct(conn, server_pid):
        conn.prepare_threshold = None
    if is_writer and is_standby:
        raise DatabaseUnavailable(
            f"database {address(dsn)} is a standby; point DATABASE_URL at the primary server"
        )
