"""The line to a mail server: octets out, replies in, each with a deadline."""

import socket
import ssl
import time
from dataclasses import dataclass

from hyperdrip.senders.smtp_replies import JunkReply, Reply, parse_reply_line

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

    @property
    def tick(self) -> float:
        """How long a single system call may wait."""
        return min(1.0, self.connect, self.greeting, self.reply, self.data, self.block, self.dot)


class Dropped(Exception):
    """The line is gone, or silent for too long. `unsent`: octets that certainly did not leave."""

    def __init__(self, why: str, *, unsent: int = 0) -> None:
        """`why`: one line."""
        super().__init__(why)
        self.unsent = unsent


class Wire:
    """One connection. After `Dropped` or `JunkReply` nothing but `close` is of use."""

    def __init__(self, sock: socket.socket, timeouts: Timeouts) -> None:
        self._sock = sock
        self._tick = timeouts.tick
        self._buffer = bytearray()
        sock.settimeout(self._tick)
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
        return cls(sock, timeouts)

    def start_tls(self, context: ssl.SSLContext, host: str, *, seconds: float) -> None:
        """Go on encrypted, with the certificate verified for `host`. Raises: Dropped."""
        if self._buffer:
            # Whoever is in between could have put answers in front of the encrypted ones.
            raise Dropped("it sent something in plain text behind its answer to STARTTLS")
        try:
            self._sock.settimeout(seconds)
            self._sock = context.wrap_socket(self._sock, server_hostname=host)
            self._sock.settimeout(self._tick)
        except ssl.SSLCertVerificationError as error:
            raise Dropped(f"its certificate was not accepted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            raise Dropped(f"no TLS: {_why(error)}") from None

    @property
    def local_address(self) -> str:
        """The address of this end."""
        address: str = self._sock.getsockname()[0]
        return address.partition("%")[0]

    def write(self, octets: bytes | memoryview, *, seconds: float) -> None:
        """Write all of it; when it fails, some may have left. Raises: Dropped."""
        view = memoryview(octets)
        ends = 0.0
        while view:
            try:
                view = view[self._sock.send(view[:CHUNK]) :]
                ends = 0.0
            except TimeoutError:
                now = time.monotonic()
                ends = ends or now + seconds - self._tick
                if now >= ends:
                    why = f"it took nothing for {seconds:g} s"
                    raise Dropped(why, unsent=len(view)) from None
            except OSError as error:
                raise Dropped(_why(error), unsent=len(view)) from None

    def read_reply(self, *, seconds: float) -> Reply:
        """Read one reply of one or more lines. Raises: Dropped, JunkReply."""
        line = self._read_line(0.0, seconds)
        code, is_last, text = parse_reply_line(line)
        if is_last:
            return Reply(code, (text,))
        ends = time.monotonic() + seconds
        lines = [text]
        while not is_last:
            again, is_last, text = parse_reply_line(self._read_line(ends, seconds))
            if again != code or len(lines) == MOST_LINES:
                raise JunkReply(f"its answer began with {code} and went on with {again}")
            lines.append(text)
        return Reply(code, tuple(lines))

    def _read_line(self, ends: float, seconds: float) -> bytes:
        buffer = self._buffer
        while (end := buffer.find(b"\n")) < 0:
            if len(buffer) > LONGEST_LINE:
                raise JunkReply("it answered with a line without an end")
            try:
                found = self._sock.recv(65_536)
            except TimeoutError:
                found = None
            except OSError as error:
                raise Dropped(_why(error)) from None
            if found == b"":
                raise Dropped("it closed the connection")
            if found is None or found[-1:] != b"\n":
                now = time.monotonic()
                ends = ends or now + seconds - (0.0 if found else self._tick)
                if now >= ends:
                    raise Dropped(f"it did not answer within {seconds:g} s")
            buffer += found or b""
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        return line

    def close(self) -> None:
        """Close; never fails."""
        try:
            self._sock.close()
        except OSError:
            return


def _why(error: Exception) -> str:
    """What the system says, without addresses and numbers of its own."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
