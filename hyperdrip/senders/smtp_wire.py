"""The line to a mail server: octets out, replies in, each with a deadline.

What is said on it is written as steps, which stop where they would have to wait: one thread can go
on with whichever of many lines has something to say, or with one line to its end (`Wire.run`).
"""

import selectors
import socket
import ssl
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from hyperdrip.senders.smtp_replies import JunkReply, Reply, parse_reply_line

T = TypeVar("T")

LONGEST_LINE = 8192
MOST_LINES = 200
CHUNK = 262_144


@dataclass(frozen=True)
class Timeouts:
    """Seconds. RFC 5321 4.5.3.2 asks for the time of the final dot: a shorter one makes unknowns.

    The others are shorter than there: a message that was not handed over is only tried later.
    `second_try`: how long after its hand-over a message may still begin on another connection.
    `idle`: after this a connection is given up; `check`: after this it is asked whether it lives.
    """

    connect: float = 30.0
    greeting: float = 60.0
    reply: float = 120.0
    data: float = 120.0
    block: float = 180.0
    dot: float = 600.0
    quit: float = 2.0
    second_try: float = 20.0
    idle: float = 60.0
    check: float = 5.0
    probe: float = 10.0


class Wait(NamedTuple):
    """What steps wait for: `selectors.EVENT_READ` or `EVENT_WRITE`, until `ends` (monotonic)."""

    events: int
    ends: float


# They are sent whether what they wait for came in time.
Steps = Generator[Wait, bool, T]
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Dropped(Exception):
    """The line is gone, or silent for too long. `unsent`: octets that certainly did not leave."""

    def __init__(self, why: str, *, unsent: int = 0) -> None:
        """`why`: one line."""
        super().__init__(why)
        self.unsent = unsent


class Wire:
    """One connection. After `Dropped` or `JunkReply` nothing but `close` is of use."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, host: str, port: int, timeouts: Timeouts) -> "Wire":
        """Connect in plain text. Raises: Dropped."""
        try:
            sock = socket.create_connection((host, port), timeout=timeouts.connect)
        except TimeoutError:
            raise Dropped(f"no connection within {timeouts.connect:g} s") from None
        except (OSError, UnicodeError) as error:
            raise Dropped(_why(error)) from None
        return cls(sock)

    def start_tls(self, context: ssl.SSLContext, host: str, *, seconds: float) -> None:
        """Go on encrypted, with the certificate verified for `host`. Raises: Dropped."""
        if self._buffer:
            # Whoever is in between could have put answers in front of the encrypted ones.
            raise Dropped("it sent something in plain text behind its answer to STARTTLS")
        try:
            self._sock.settimeout(seconds)
            self._sock = context.wrap_socket(self._sock, server_hostname=host)
            self._sock.setblocking(False)
        except ssl.SSLCertVerificationError as error:
            raise Dropped(f"its certificate was not accepted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            raise Dropped(f"no TLS: {_why(error)}") from None

    @property
    def local_address(self) -> str:
        """The address of this end."""
        address: str = self._sock.getsockname()[0]
        return address.partition("%")[0]

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._sock.fileno()

    def run(self, steps: Steps[T], wait: Wait | None = None) -> T:
        """Take steps of this line to their end, and wait in this thread. Raises: as they do.

        `wait`: what they wait for, when they have begun already.
        """
        with selectors.DefaultSelector() as selector:
            try:
                wait = wait or next(steps)
                while True:
                    selector.register(self._sock, wait.events)
                    found = selector.select(max(0.0, wait.ends - time.monotonic()))
                    selector.unregister(self._sock)
                    wait = steps.send(bool(found))
            except StopIteration as end:
                value: T = end.value
                return value

    def write(self, octets: bytes, *, seconds: float) -> Steps[None]:
        """Write all of it; when it fails, some may have left. Raises: Dropped."""
        gone, size = 0, len(octets)
        while gone < size:
            try:
                gone += self._sock.send(memoryview(octets)[gone : gone + CHUNK])
            except _BLOCKED as blocked:
                if not (yield Wait(_event(blocked, selectors.EVENT_WRITE), _in(seconds))):
                    why = f"it took nothing for {seconds:g} s"
                    raise Dropped(why, unsent=size - gone) from None
            except OSError as error:
                raise Dropped(_why(error), unsent=size - gone) from None

    def read_reply(self, *, seconds: float) -> Steps[Reply]:
        """Read one reply of one or more lines. Raises: Dropped, JunkReply."""
        if b"\n" not in self._buffer:
            yield from self._fill(_in(seconds), seconds)
        reply, is_last = parse_reply_line(self._take_line())
        if is_last:
            return reply
        ends = _in(seconds)
        lines = list(reply.lines)
        while not is_last:
            if b"\n" not in self._buffer:
                yield from self._fill(ends, seconds)
            more, is_last = parse_reply_line(self._take_line())
            if more.code != reply.code or len(lines) == MOST_LINES:
                raise JunkReply(f"its answer began with {reply.code} and went on with {more.code}")
            lines += more.lines
        return Reply(reply.code, tuple(lines))

    def take_reply(self) -> Reply | None:
        """The next reply, if it is of one line and there already. Raises: JunkReply."""
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return None
        reply, is_last = parse_reply_line(line + end)
        if not is_last:
            return None
        self._buffer = rest
        return reply

    def _take_line(self) -> bytes:
        line, end, self._buffer = self._buffer.partition(b"\n")
        return line + end

    def _fill(self, ends: float, seconds: float) -> Steps[None]:
        """Receive until a whole line is there."""
        event, is_late = selectors.EVENT_READ, False
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_LINE:
                raise JunkReply("it answered with a line without an end")
            if not self._has_more() and (is_late or not (yield Wait(event, ends))):
                raise Dropped(f"it did not answer within {seconds:g} s")
            try:
                found = self._sock.recv(LONGEST_LINE)
            except _BLOCKED as blocked:
                event = _event(blocked, selectors.EVENT_READ)
                continue
            except OSError as error:
                raise Dropped(_why(error)) from None
            if not found:
                raise Dropped("it closed the connection")
            self._buffer += found
            # Whoever sends octet by octet gets no more time than others.
            is_late = found[-1:] != b"\n" and time.monotonic() >= ends

    def _has_more(self) -> bool:
        """Is something decrypted already, which no selector sees?"""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def close(self) -> None:
        """Close; never fails."""
        try:
            self._sock.close()
        except OSError:
            return


def _in(seconds: float) -> float:
    return time.monotonic() + seconds


def _event(blocked: Exception, otherwise: int) -> int:
    """What to wait for: TLS may have to read before it writes, and the other way round."""
    if isinstance(blocked, ssl.SSLWantReadError):
        return selectors.EVENT_READ
    return selectors.EVENT_WRITE if isinstance(blocked, ssl.SSLWantWriteError) else otherwise


def _why(error: Exception) -> str:
    """What the system says, without addresses and numbers of its own."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
