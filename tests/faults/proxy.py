"""A proxy in front of PostgreSQL that knows where round trips begin and end.

Each round trip is a step. A rule decides what happens to it: it may be cut before it reaches the
server, its reply may be swallowed, and the client's process may be killed in between.
"""

import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.sink import kill

_STARTUP_CODES = {80877103, 80877104}  # SSLRequest, GSSENCRequest: answered by the server with N


class Fate(Enum):
    """What becomes of a round trip."""

    PASS = auto()
    CUT = auto()  # both lines are cut before the server sees it
    SWALLOW = auto()  # the server does it; the reply is lost and both lines are cut
    KILL = auto()  # the client is killed before the server sees it
    KILL_AFTER = auto()  # the server does it, then the client is killed


@dataclass(frozen=True)
class Step:
    """A round trip: its number over all connections, its text, and the client's process."""

    number: int
    text: bytes
    pid: int

    @property
    def is_commit(self) -> bool:
        return b"COMMIT" in self.text


StepRule = Callable[[Step], Fate]


def pass_all(_step: Step) -> Fate:
    """The rule of a network that works."""
    return Fate.PASS


class Proxy:
    """Listens on a free port of the loopback interface for a server given by `dsn`."""

    def __init__(self, dsn: str, rule: StepRule = pass_all) -> None:
        self.rule = rule
        self.steps: list[Step] = []
        self.target = dsn
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def dsn(self) -> str:
        """The address of the same database through this proxy."""
        parts = conninfo_to_dict(self.target)
        return make_conninfo(
            "",
            host="127.0.0.1",
            port=self.port,
            user=parts.get("user"),
            password=parts.get("password"),
            dbname=parts.get("dbname"),
            sslmode="disable",
            gssencmode="disable",
        )

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        server = _connect(self.target)
        if server is None:
            client.close()
            return
        with client, server:
            try:
                _Line(self, client, server).run()
            except OSError:
                return

    def note(self, text: bytes, pid: int) -> tuple[Step, Fate]:
        """Number a step, and ask the rule about it."""
        with self._lock:
            step = Step(len(self.steps) + 1, text, pid)
            self.steps.append(step)
        return step, self.rule(step)


class _Line:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self._pid = 0
        self._is_started = False
        self._unread = b""  # from the client, not yet a whole message
        self._batch = b""  # whole messages that wait for their Sync

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for end in (self._client, self._server):
                selector.register(end, selectors.EVENT_READ)
            while True:
                for ready, _ in selector.select():
                    is_from_server = ready.fileobj is self._server
                    data = (self._server if is_from_server else self._client).recv(65536)
                    if not data:
                        return
                    if is_from_server:
                        self._client.sendall(data)
                    elif not self._take(data):
                        return

    def _take(self, data: bytes) -> bool:
        """Forward what the client says; False to hang up."""
        self._unread += data
        if not self._is_started:
            return self._start()
        while (message := self._next_message()) is not None:
            self._batch += message
            if message[:1] in b"QS":
                batch, self._batch = self._batch, b""
                if not self._forward(batch):
                    return False
            elif message[:1] == b"X":
                self._server.sendall(self._batch)
        return True

    def _start(self) -> bool:
        if len(self._unread) < 8 or len(self._unread) < int.from_bytes(self._unread[:4], "big"):
            return True
        self._is_started = int.from_bytes(self._unread[4:8], "big") not in _STARTUP_CODES
        if self._is_started:
            # A worker says who it is in its application_name: `worker-PID`.
            name = self._unread.partition(b"application_name\0")[2].partition(b"\0")[0]
            self._pid = int(name.rpartition(b"-")[2]) if b"worker-" in name else 0
        self._server.sendall(self._unread)
        self._unread = b""
        return True

    def _next_message(self) -> bytes | None:
        if len(self._unread) < 5:
            return None
        length = 1 + int.from_bytes(self._unread[1:5], "big")
        if len(self._unread) < length:
            return None
        message, self._unread = self._unread[:length], self._unread[length:]
        return message

    def _forward(self, batch: bytes) -> bool:
        _, fate = self._proxy.note(batch, self._pid)
        if fate is Fate.CUT:
            return False
        if fate is Fate.KILL:
            kill(self._pid)
            return False
        self._server.sendall(batch)
        if fate is Fate.PASS:
            return True
        self._await_ready()
        if fate is Fate.KILL_AFTER:
            kill(self._pid)
        return False

    def _await_ready(self) -> None:
        """Read the whole reply, which ends with ReadyForQuery."""
        reply = b""
        while reply[-6:-1] != b"Z\0\0\0\5":
            data = self._server.recv(65536)
            if not data:
                return
            reply += data


def _connect(dsn: str) -> socket.socket | None:
    """A bare socket to the first server of a DSN that answers."""
    parts = conninfo_to_dict(dsn)
    hosts = str(parts.get("host") or "127.0.0.1").split(",")
    ports = str(parts.get("port") or "5432").split(",")
    for number, host in enumerate(hosts):
        port = ports[number] if number < len(ports) else ports[0]
        try:
            if host.startswith("/"):
                found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                found.connect(f"{host}/.s.PGSQL.{port}")
                return found
            return socket.create_connection((host, int(port)))
        except OSError:
            continue
    return None
