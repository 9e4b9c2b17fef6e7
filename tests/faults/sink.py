"""The receiving side: takes message ids over a socket and syncs each to disk before it answers.

What it wrote down is the truth about what left. It can be told to misbehave, message by message,
and to kill the worker that it is talking to at a chosen moment.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto
from pathlib import Path

from hyperdrip.models import Claim
from hyperdrip.senders import Failed, Outcome, Retry, Sent, Unknown

ANSWER_SECONDS = 60.0


class Conduct(Enum):
    """What the sink does with a message."""

    ACCEPT = auto()
    REFUSE = auto()  # not now
    REJECT = auto()  # never
    DROP_UNSEEN = auto()  # the line is cut before it was written down
    DROP_SEEN = auto()  # ... and after it was
    KILL_UNSEEN = auto()  # the worker is killed before it was written down
    KILL_SEEN = auto()  # ... after it was, with no answer
    KILL_ANSWERED = auto()  # ... after the answer


@dataclass(frozen=True)
class Arrival:
    """A message as it arrives: its key, the day it was claimed for, and who sends it."""

    key: str
    day: date
    pid: int


Rule = Callable[[Arrival], Conduct]


def accept_all(_arrival: Arrival) -> Conduct:
    """The rule of a sink that works."""
    return Conduct.ACCEPT


def kill(pid: int) -> None:
    """End a process at once, unless it has ended already."""
    assert pid > 0, "0 would be all of our own processes"
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Sink:
    """A sink that listens on a unix socket in `folder`; `rule` may be replaced at any time."""

    def __init__(self, folder: Path, rule: Rule = accept_all, *, is_synced: bool = True) -> None:
        self.path = folder / "sink.sock"
        self.rule = rule
        self._is_synced = is_synced
        self._log_path = folder / "sink.log"
        self._log = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._written, self._synced = 0, 0
        self._guard = threading.Condition()
        self._is_syncing = False
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self.path))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._server.close()
        os.close(self._log)

    def arrivals(self) -> list[Arrival]:
        """All that was written down, in order."""
        found = []
        for line in self._log_path.read_text().splitlines():
            key, day, pid = line.split()
            found.append(Arrival(key, date.fromisoformat(day), int(pid)))
        return found

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with suppress(OSError), conn, conn.makefile("rb") as lines:  # a killed worker hangs up
            for line in lines:
                key, day, pid = line.decode().split()
                answer = self._take(Arrival(key, date.fromisoformat(day), int(pid)))
                if answer is None:
                    return
                conn.sendall(answer)

    def _take(self, arrival: Arrival) -> bytes | None:
        """Answer a message, or None to hang up."""
        conduct = self.rule(arrival)
        match conduct:
            case Conduct.REFUSE:
                return b"later\n"
            case Conduct.REJECT:
                return b"never\n"
            case Conduct.DROP_UNSEEN:
                return None
            case Conduct.KILL_UNSEEN:
                kill(arrival.pid)
                return None
        self._write(arrival)
        match conduct:
            case Conduct.DROP_SEEN:
                return None
            case Conduct.KILL_SEEN:
                kill(arrival.pid)
                return None
            case Conduct.KILL_ANSWERED:
                threading.Timer(0.01, kill, (arrival.pid,)).start()
        return b"ok\n"

    def _write(self, arrival: Arrival) -> None:
        """Write a line and wait until it is on disk; those that come meanwhile share a sync."""
        line = f"{arrival.key} {arrival.day} {arrival.pid}\n".encode()
        with self._guard:
            os.write(self._log, line)
            self._written += 1
            mine = self._written
        if not self._is_synced:
            return
        while True:
            with self._guard:
                self._guard.wait_for(lambda: self._synced >= mine or not self._is_syncing)
                if self._synced >= mine:
                    return
                self._is_syncing, reached = True, self._written
            os.fdatasync(self._log)
            with self._guard:
                self._synced, self._is_syncing = reached, False
                self._guard.notify_all()


class SinkSender:
    """Sends to a sink, one message after the other. Repeating is not harmless to it."""

    name = "sink"
    is_quiet = True

    def __init__(self, path: Path, *, wave_size: int) -> None:
        self.wave_size = wave_size
        self._path = path
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send_wave(
        self, claims: Sequence[Claim], may_send: Callable[[Claim], bool]
    ) -> Iterator[tuple[Claim, Outcome] | None]:
        for claim in claims:
            try:
                sock = self._connection()
            except OSError as error:
                if not may_send(claim):
                    return
                yield claim, Retry(f"the sink cannot be reached: {error}")
                continue
            if not may_send(claim):
                return
            yield claim, self._hand_over(sock, claim)

    def _connection(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(ANSWER_SECONDS)
            try:
                self._socket.connect(str(self._path))
            except OSError:
                self.close()
                raise
        return self._socket

    def _hand_over(self, sock: socket.socket, claim: Claim) -> Outcome:
        try:
            sock.sendall(f"{claim.message_key} {claim.day} {os.getpid()}\n".encode())
            answer = sock.recv(64)
        except OSError as error:
            answer = str(error).encode()
        match answer:
            case b"ok\n":
                return Sent()
            case b"later\n":
                return Retry("the sink says later")
            case b"never\n":
                return Failed("the sink says never")
        self.close()
        return Unknown("the sink hung up")
