"""A mail server that misbehaves on demand: it speaks SMTP on a real socket, as a rule tells it."""

import re
import socket
import ssl
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto

USER, PASSWORD = "ada", "geheim: 50%"
ALL = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
MESSAGE_ID = re.compile(rb"^message-id:\s*<([^>]+)>", re.IGNORECASE | re.MULTILINE)


class Act(Enum):
    """What else than an answer a server may give."""

    HANG_UP = auto()  # without an answer
    TAKE_AND_HANG_UP = auto()  # the message is taken, no answer
    TAKE_ANSWER_AND_HANG_UP = auto()  # the message is taken and answered, then the line is cut
    SILENCE = auto()  # no answer, the line stays
    ASK_AND_HANG_UP = auto()  # at DATA: the message is asked for, and cut off as it begins to come


@dataclass(frozen=True)
class Event:
    """A command as it arrives. `verb`: GREETING, EHLO, ... or DOT for a whole message.

    `times`: how often this verb came before, on all connections; `connection`: its number, from 0.
    """

    verb: str
    argument: str
    times: int
    connection: int
    is_tls: bool


Rule = Callable[[Event], bytes | Act | None]  # None: as a good server answers


@dataclass
class ScriptedServer:
    """Listens on a free port of loopback until closed. `accepted`: Message-IDs, in order."""

    rule: Rule = lambda _event: None
    extensions: Sequence[str] = ALL
    context: ssl.SSLContext | None = None
    is_tls: bool = False  # from the first octet
    has_auth: bool = False
    auth: str = "AUTH PLAIN LOGIN"
    is_split: bool = False  # each octet of an answer in a packet of its own
    is_narrow: bool = False  # takes in little at a time, so that a long message waits to leave
    host: str = "127.0.0.1"
    accepted: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.socket(family)
        if self.is_narrow:
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind((self.host, 0))
        self._listener.listen(100)
        self.port: int = self._listener.getsockname()[1]
        self._guard = threading.Lock()
        self._times: Counter[str] = Counter()
        self._open: dict[int, socket.socket] = {}
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> "ScriptedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut every line."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """Cut every line that is open."""
        with self._guard:
            lines, self._open = list(self._open.values()), {}
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def verbs(self, connection: int | None = None) -> list[str]:
        """The verbs that came, in order; of one connection or of all."""
        return [e.verb for e in self.events if connection in (None, e.connection)]

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                number, self.connections = self.connections, self.connections + 1
                self._open[number] = sock
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        with suppress(OSError, ValueError):
            if self.is_tls:
                sock = self.encrypt(sock, number)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = _Conversation(self, sock, number)
            try:
                talk.run()
            finally:
                with suppress(OSError):
                    talk.sock.shutdown(socket.SHUT_RDWR)
                talk.sock.close()
        sock.close()

    def encrypt(self, sock: socket.socket, number: int) -> socket.socket:
        """Go on encrypted."""
        assert self.context is not None
        found = self.context.wrap_socket(sock, server_side=True)
        with self._guard:
            self._open[number] = found
        return found

    def note(self, verb: str, argument: str, connection: int, *, is_tls: bool) -> Event:
        """Write an event down."""
        with self._guard:
            event = Event(verb, argument, self._times[verb], connection, is_tls)
            self._times[verb] += 1
            self.events.append(event)
        return event

    def take(self, body: bytes) -> None:
        """Take a message."""
        match = MESSAGE_ID.search(body)
        with self._guard:
            self.accepted.append(match[1].decode() if match else "")
            self.bodies.append(body)


class _Hung(Exception):
    """The line is to be cut."""


class _Conversation:
    def __init__(self, server: ScriptedServer, sock: socket.socket, number: int) -> None:
        self._server, self.sock, self._number = server, sock, number
        self._is_tls = server.is_tls
        self._buffer = b""
        self._has_sender, self._recipients = False, 0

    def run(self) -> None:
        with suppress(_Hung):
            self._reply("GREETING", "", b"220 scripted ESMTP\r\n")
            while line := self._line():
                verb, _, argument = line.decode("utf-8", "replace").strip().partition(" ")
                self._command(verb.upper(), argument)

    def _command(self, verb: str, argument: str) -> None:
        server = self._server
        if verb == "EHLO":
            offered = list(server.extensions)
            if server.context is not None and not self._is_tls:
                offered.append("STARTTLS")
            if server.has_auth and self._is_tls:
                offered.append(server.auth)
            lines = ["scripted", *offered]
            text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
            self._reply(verb, argument, text.encode())
        elif verb == "STARTTLS":
            if self._reply(verb, argument, b"220 go on\r\n") and server.context is not None:
                self.sock = server.encrypt(self.sock, self._number)
                self._is_tls, self._buffer = True, b""
        elif verb == "AUTH" and argument == "LOGIN":
            said = [self._challenge(f"334 {ask}\r\n".encode()) for ask in ("VXNlcg==", "UGFzcw==")]
            good = said == [USER, PASSWORD]
            self._reply(verb, argument, b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 no\r\n")
        elif verb == "AUTH":
            good = b64decode(argument.partition(" ")[2]) == f"\0{USER}\0{PASSWORD}".encode()
            self._reply(verb, argument, b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 no\r\n")
        elif verb == "QUIT":
            self._reply(verb, argument, b"221 bye\r\n")
            raise _Hung
        else:
            self._transact(verb, argument)

    def _challenge(self, line: bytes) -> str:
        self._send(line)
        return b64decode(self._line()).decode()

    def _transact(self, verb: str, argument: str) -> None:
        if verb == "MAIL":
            self._recipients = 0
            self._has_sender = self._reply(verb, argument, b"250 2.1.0 ok\r\n")
        elif verb == "RCPT":
            good = b"250 2.1.5 ok\r\n" if self._has_sender else b"503 5.5.1 MAIL first\r\n"
            if self._reply(verb, argument, good):
                self._recipients += 1
        elif verb == "DATA":
            good = b"354 go on\r\n" if self._recipients else b"554 5.5.1 nobody\r\n"
            if self._reply(verb, argument, good):
                self._message()
        else:
            self._reply(verb, argument, b"250 ok\r\n")

    def _message(self) -> None:
        lines = list[bytes]()
        while (line := self._line()) != b".\r\n":
            if not line:
                raise _Hung
            lines.append(line[1:] if line.startswith(b".") else line)
        body = b"".join(lines)
        match = MESSAGE_ID.search(body)
        name = match[1].decode() if match else ""
        event = self._server.note("DOT", name, self._number, is_tls=self._is_tls)
        action = self._server.rule(event)
        if not self._recipients and action is None:
            action = b"554 5.5.1 nobody\r\n"
        takes = action in (None, Act.TAKE_AND_HANG_UP, Act.TAKE_ANSWER_AND_HANG_UP)
        if takes or (isinstance(action, bytes) and action.startswith(b"2")):
            self._server.take(body)
        if action in (None, Act.TAKE_ANSWER_AND_HANG_UP):
            self._send(b"250 2.0.0 Ok: queued as Q%d\r\n" % len(self._server.accepted))
        elif isinstance(action, bytes):
            self._send(action)
        if action not in (None, Act.SILENCE) and not isinstance(action, bytes):
            raise _Hung

    def _reply(self, verb: str, argument: str, good: bytes) -> bool:
        """Answer as the rule says; True when the answer is a good one."""
        event = self._server.note(verb, argument, self._number, is_tls=self._is_tls)
        action = self._server.rule(event)
        if isinstance(action, Act):
            if action is Act.SILENCE:
                return False
            if action is Act.ASK_AND_HANG_UP:
                self._send(b"354 go on\r\n")
                self.sock.recv(1, socket.MSG_PEEK)
            raise _Hung
        answer = good if action is None else action
        self._send(answer)
        if answer.startswith((b"421", b"221")):
            raise _Hung
        return answer[:1] in (b"2", b"3")

    def _send(self, answer: bytes) -> None:
        if not self._server.is_split:
            self.sock.sendall(answer)
            return
        for place in range(len(answer)):
            self.sock.sendall(answer[place : place + 1])

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            found = self.sock.recv(65_536)
            if not found:
                return b""
            self._buffer += found
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"
