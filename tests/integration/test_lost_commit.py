"""The reply to a COMMIT is lost: it is looked up, and nothing is done twice or said to be lost."""

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hyperdrip import Hyperdrip, receipts
from hyperdrip.errors import DatabaseUnavailable
from tests.factories import MORNING, add_leads, assert_audit_ok, make_settings, wait_until
from tests.tables import assert_nothing_new, count_waiting, everything

DROP, CUT, HOLD = "drop", "cut", "hold"


class Proxy:
    """Stands before the server. Once armed, it strikes at the COMMIT behind the next receipt.

    `drop`: the server gets it, and the client no reply; `cut`: nobody gets anything any more;
    `hold`: the client is cut off, and the server waits until `deliver` lets the COMMIT through.
    """

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._host, self._port = str(parts.get("host") or "127.0.0.1"), parts.get("port") or "5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_conninfo(
            dsn,
            host="127.0.0.1",
            hostaddr="",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )
        self.mode: str | None = None
        self.is_closed = False
        self.struck = 0
        self.deliver = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Refuse everybody from now on, and let what is held go through."""
        self.is_closed = True
        self.deliver.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(20)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            server = socket.create_connection((self._host, int(self._port)))
        with client, server, selectors.DefaultSelector() as ready, suppress(OSError):
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            has_receipt = False
            while not self.is_closed:
                for key, _ in ready.select(0.05):
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not data:
                        return
                    if key.fileobj is server:
                        client.sendall(data)
                        continue
                    has_receipt |= self.mode is not None and b"hyperdrip.receipt" in data
                    if has_receipt and b"COMMIT" in data:
                        self._strike(client, server, data)
                        return
                    server.sendall(data)

    def _strike(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        mode, self.mode = self.mode, None
        self.struck += 1
        if mode == CUT:
            return
        if mode == HOLD:
            client.close()
            self.deliver.wait(20)
        server.sendall(data)
        server.recv(1 << 16)


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    proxy = Proxy(dsn)
    yield proxy
    proxy.close()


@pytest.fixture
def drip(proxy: Proxy) -> Iterator[Hyperdrip]:
    """The library, through the proxy, with five leads."""
    settings = make_settings(proxy.dsn, HYPERDRIP_NOW=MORNING)
    with Hyperdrip(proxy.dsn, settings) as drip:
        for number in range(5):
            drip.add_lead(name="L", email=f"l{number}@example.com", max_messages=3)
        yield drip


def add(drip: Hyperdrip) -> object:
    return drip.add_lead(name="Ada", email="ada@example.com", max_messages=2).email


def import_two(drip: Hyperdrip) -> object:
    Path("two.csv").write_text("name,email\nA,a@example.com\nB,b@example.com\n")
    result = drip.import_file("two.csv", max_messages=2)
    return result.added, result.duplicates


OPERATIONS: dict[str, tuple[Callable[[Hyperdrip], object], object]] = {
    "add-lead": (add, "ada@example.com"),
    "import": (import_two, (2, 0)),
    "pause": (lambda drip: drip.pause_leads(["1", "2"]).lead_ids, (1, 2)),
    "stop": (lambda drip: drip.stop_leads(["1"]).lead_ids, (1,)),
    "move": (lambda drip: drip.move_leads(["3"], to=date(2024, 2, 1)).lead_ids, (3,)),
    "erase": (lambda drip: drip.erase_leads(["4"]).lead_ids, (4,)),
    "limit": (lambda drip: drip.set_daily_max(3) and None, None),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS)


@each_operation
def test_what_was_committed_goes_on_as_if_the_reply_had_come(
    conn: psycopg.Connection[Any], proxy: Proxy, drip: Hyperdrip, operation: str
) -> None:
    work, expected = OPERATIONS[operation]
    proxy.mode = DROP
    assert work(drip) == expected
    assert proxy.struck == 1
    assert_audit_ok(conn)
    assert drip.add_lead(name="Next", email="next@example.com").email == "next@example.com"
    assert_audit_ok(conn)


@each_operation
def test_what_was_not_committed_is_said_and_can_be_repeated(
    conn: psycopg.Connection[Any], proxy: Proxy, drip: Hyperdrip, operation: str
) -> None:
    work, expected = OPERATIONS[operation]
    before = everything(conn)
    proxy.mode = CUT
    with pytest.raises(DatabaseUnavailable, match="nothing was done; try again") as raised:
        work(drip)
    assert raised.value.exit_code == 6
    assert proxy.struck == 1
    assert_nothing_new(conn, before)
    assert work(drip) == expected
    assert_audit_ok(conn)


def test_a_commit_that_is_still_under_way_is_waited_for(
    conn: psycopg.Connection[Any], proxy: Proxy, drip: Hyperdrip
) -> None:
    def deliver_late() -> None:
        wait_until(lambda: count_waiting(conn) == 1)  # the look-up, for the planner lock
        proxy.deliver.set()

    proxy.mode = HOLD
    late = threading.Thread(target=deliver_late)
    late.start()
    assert add(drip) == "ada@example.com"
    late.join()
    assert proxy.struck == 1
    assert_audit_ok(conn)


@pytest.mark.parametrize("is_back", [True, False])
def test_what_nobody_can_know_is_said_plainly(
    proxy: Proxy, drip: Hyperdrip, monkeypatch: pytest.MonkeyPatch, is_back: bool
) -> None:
    """The transaction is open still, or no server answers: either may become of it."""
    monkeypatch.setattr(receipts, "LOOK_SECONDS", 1.0)
    proxy.mode = HOLD
    if not is_back:
        monkeypatch.setattr(proxy, "_strike", lambda *_: proxy._listener.close())
    with pytest.raises(DatabaseUnavailable, match="it may have been; look before you repeat it"):
        add(drip)


def test_a_callers_connection_gets_the_honest_error(
    conn: psycopg.Connection[Any], proxy: Proxy
) -> None:
    add_leads(conn, 1)
    with closing(psycopg.connect(proxy.dsn, autocommit=True)) as mine:
        one = Hyperdrip(settings=make_settings(proxy.dsn, HYPERDRIP_NOW=MORNING), conn=mine)
        proxy.mode = DROP
        mine.execute("select 'hyperdrip.receipt'")  # none is left on a caller's connection
        with pytest.raises(DatabaseUnavailable, match="this may have been done or not"):
            one.stop_leads(["1"])
    assert proxy.struck == 1


def test_receipts_do_not_pile_up_and_reading_leaves_none(
    conn: psycopg.Connection[Any], drip: Hyperdrip
) -> None:
    count = "select count(*) from hyperdrip.receipt"
    assert conn.execute(count).fetchone() == (5,)
    conn.execute("update hyperdrip.receipt set written_at = now() - interval '11 minutes'")
    drip.pause_leads(["1"], is_dry_run=True)
    drip.list_leads()
    assert conn.execute(count).fetchone() == (5,)
    drip.pause_leads(["1"])
    assert conn.execute(count).fetchone() == (1,)
