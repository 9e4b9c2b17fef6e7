"""One session with a mail server: each command has its own reply, so that a failure has a phase.

It is opened and closed by a thread that waits; messages are handed over step by step.
"""

import contextlib
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator

from hyperdrip.models import Mail
from hyperdrip.senders import Failed, Refused, Sent, Unknown
from hyperdrip.senders.smtp_replies import (
    SERVICE_CLOSES,
    JunkReply,
    Phase,
    Reply,
    Verdict,
    judge,
    lost,
    queue_id,
)
from hyperdrip.senders.smtp_wire import Dropped, Steps, T, Timeouts, Wait, Wire
from hyperdrip.smtp_url import Security, SmtpServer

MOST_MESSAGES = 500  # as Exim's connection_max_messages
LONGEST_AGE_SECONDS = 300.0
# Blanks and < > stand in a path within quotes alone (RFC 5321 4.1.2), and controls nowhere.
_PATH = re.compile(r'(?:[^\x00-\x20\x7f<>"]++|"(?:[^\x00-\x1f\x7f"\\]|\\[^\x00-\x1f\x7f])*")*')


class ServerRefuses(Exception):
    """No session: the server cannot be reached, or does not take mail from us. One line."""


class Session:
    """A connection that is ready for messages. Not for several threads at once."""

    def __init__(self, server: SmtpServer, context: ssl.SSLContext, timeouts: Timeouts) -> None:
        """Connect, greet, encrypt and authenticate. Raises: ServerRefuses."""
        self._server = server
        self._timeouts = timeouts
        self._extensions: dict[str, str] = {}
        self._sent = 0
        self.opened_at = self.used_at = time.monotonic()
        self._phase = Phase.CONNECT
        with self._refusals():
            self._wire = Wire.connect(server.host, server.port, timeouts)
            try:
                self._open(context)
            except BaseException:
                self._wire.close()
                raise
        self.used_at = time.monotonic()

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Whatever goes wrong before the first message is the server's as a whole."""
        try:
            yield
        except (Dropped, JunkReply) as error:
            text = f"{self._server}: {self._phase.value}: {error}"
            raise ServerRefuses(hide_credentials(text, self._server)) from None

    # Opening

    def _open(self, context: ssl.SSLContext) -> None:
        server, seconds = self._server, self._timeouts.greeting
        if server.security is Security.TLS:
            self._wire.start_tls(context, server.host, seconds=seconds)
        self._phase = Phase.GREETING
        self._expect(self._wire.run(self._wire.read_reply(seconds=seconds)))
        self._greet()
        if server.security is Security.STARTTLS:
            self._phase = Phase.STARTTLS
            if "STARTTLS" not in self._extensions:
                raise Dropped(
                    "it does not offer it; use its port for TLS (smtps://), or ?starttls=never in a"
                    " network that nobody else can read"
                )
            self._expect(self._ask("STARTTLS"))
            self._wire.start_tls(context, server.host, seconds=seconds)
            self._greet()
        if server.user:
            self._phase = Phase.AUTH
            self._authenticate()

    def _greet(self) -> None:
        """EHLO, or HELO where that is not known."""
        self._phase = Phase.EHLO
        name = _own_name(self._wire.local_address)
        reply = self._ask(f"EHLO {name}")
        if reply.code in (500, 501, 502, 504, 550):
            self._extensions = {}
            self._expect(self._ask(f"HELO {name}"))
            return
        self._expect(reply)
        # Servers of old say AUTH=LOGIN.
        lines = (line.upper().replace("AUTH=", "AUTH ", 1) for line in reply.lines[1:])
        words = (line.partition(" ") for line in lines)
        self._extensions = {keyword: rest for keyword, _, rest in words}

    def _authenticate(self) -> None:
        offered = self._extensions.get("AUTH", "").split()
        user, password = self._server.user, self._server.password
        if "PLAIN" in offered:
            token = b64encode(f"\0{user}\0{password}".encode()).decode()
            self._expect(self._ask(f"AUTH PLAIN {token}"))
        elif "LOGIN" in offered:
            self._expect(self._ask("AUTH LOGIN"), 334)
            self._expect(self._ask(b64encode(user.encode()).decode()), 334)
            self._expect(self._ask(b64encode(password.encode()).decode()))
        else:
            raise Dropped("it offers none of PLAIN and LOGIN for the user in SMTP_URL")

    def _ask(self, command: str) -> Reply:
        return self._wire.run(self._exchange(command, seconds=self._timeouts.reply))

    def _exchange(self, command: str, *, seconds: float) -> Steps[Reply]:
        yield from self._wire.write(f"{command}\r\n".encode(), seconds=seconds)
        return (yield from self._wire.read_reply(seconds=seconds))

    def _expect(self, reply: Reply, code: int | None = None) -> None:
        if reply.code != code if code else reply.code // 100 != 2:
            raise Dropped(f"it answered {reply.text}")

    # Between messages

    def is_spent(self) -> bool:
        """Has it had its share of messages or time, or been idle for too long?"""
        now = time.monotonic()
        return (
            self._sent >= MOST_MESSAGES
            or now - self.opened_at > LONGEST_AGE_SECONDS
            or now - self.used_at > self._timeouts.idle
        )

    def is_fresh(self) -> bool:
        """Used a moment ago: there is no need to ask whether it lives."""
        return time.monotonic() - self.used_at < self._timeouts.check

    def is_alive(self) -> bool:
        """Ask it."""
        try:
            reply = self._wire.run(self._exchange("NOOP", seconds=self._timeouts.probe))
        except (Dropped, JunkReply):
            return False
        self.used_at = time.monotonic()
        return reply.code // 100 == 2

    def quit(self) -> None:
        """Say goodbye and close; whatever is answered changes nothing."""
        with contextlib.suppress(Dropped, JunkReply):
            self._wire.run(self._exchange("QUIT", seconds=self._timeouts.quit))
        self._wire.close()

    def is_at_dot(self) -> bool:
        """Has the message itself been begun? Until then the server knows that there is none."""
        return self._phase is Phase.DOT

    def finish(self, steps: Steps[T], wait: Wait | None) -> T:
        """Take all steps that are left, and wait for each in this thread."""
        return self._wire.run(steps, wait)

    def fileno(self) -> int:
        """The descriptor that the steps of `deliver` wait for."""
        return self._wire.fileno()

    def close(self) -> None:
        """Close without a word."""
        self._wire.close()

    # Messages

    def deliver(self, mail: Mail) -> Steps[Verdict]:
        """Hand one message over, step by step.

        After a verdict that `is_lost`, or `Unknown`, the session is of no more use.
        """
        self._sent += 1
        data = wire_format(mail.data)
        command = self._mail_command(mail, data)
        if isinstance(command, Verdict):
            return command
        self._phase = Phase.MAIL
        try:
            found = yield from self._offer(
                f"{command}\r\nRCPT TO:<{mail.rcpt_to}>\r\nDATA\r\n".encode()
            )
        except (Dropped, JunkReply) as error:
            return self._said(lost(self._phase, f"{self._phase.value}: {error}"))
        if found is None:
            found = yield from self._write_out(data)
        elif isinstance(found.outcome, Refused):
            self._sent = MOST_MESSAGES  # the next try is made on another connection
        self.used_at = time.monotonic()
        return self._said(found)

    def _mail_command(self, mail: Mail, data: bytes) -> str | Verdict:
        """`MAIL FROM` with what this message needs, or the verdict when the server has it not."""
        extensions = self._extensions
        if not _PATH.fullmatch(mail.mail_from) or not _PATH.fullmatch(mail.rcpt_to):
            return Verdict(Failed("an address with a blank, a control character or < >"))
        words = f"MAIL FROM:<{mail.mail_from}>"
        if "SIZE" in extensions:
            size = len(data) - 3
            limit = extensions["SIZE"].strip()
            if limit.isdecimal() and 0 < int(limit) < size:
                return Verdict(
                    Failed(f"the message has {size} octets; the server takes {int(limit)}")
                )
            words += f" SIZE={size}"
        addresses = mail.mail_from + mail.rcpt_to
        if mail.needs_smtputf8 or not addresses.isascii():
            if "SMTPUTF8" not in extensions:
                why = "the server does not take addresses with characters beyond ASCII (SMTPUTF8)"
                # Also a Reply-To would be the same for all.
                is_ours = not mail.mail_from.isascii() or mail.rcpt_to.isascii()
                return Verdict(Refused(f"MAIL_FROM or REPLY_TO: {why}") if is_ours else Failed(why))
            return f"{words} BODY=8BITMIME SMTPUTF8"
        if not data.isascii():
            if "8BITMIME" not in extensions:
                return Verdict(Failed("the server takes no 8-bit text, and the message has it"))
            words += " BODY=8BITMIME"
        return words

    def _offer(self, commands: bytes) -> Steps[Verdict | None]:
        """MAIL, RCPT and DATA; None: the server waits for the message.

        With PIPELINING all three leave in one write (RFC 2920), and each reply is read.
        """
        wire, limit = self._wire, self._timeouts.reply
        is_pipelined = "PIPELINING" in self._extensions
        if is_pipelined:
            yield from wire.write(commands, seconds=limit)
        found: Verdict | None = None
        lines = iter(() if is_pipelined else commands.splitlines(keepends=True))
        for phase in (Phase.MAIL, Phase.RCPT, Phase.DATA):
            self._phase = phase
            try:
                if not is_pipelined:
                    yield from wire.write(next(lines), seconds=limit)
                reply = wire.take_reply() or (
                    yield from wire.read_reply(
                        seconds=self._timeouts.data if phase is Phase.DATA else limit
                    )
                )
                is_good = reply.code == 354 if phase is Phase.DATA else reply.code // 100 == 2
                if found is not None and phase is Phase.DATA and is_good:
                    # It takes a message for nobody: an empty one, and whatever is answered is
                    # nothing.
                    yield from wire.write(b".\r\n", seconds=limit)
                    yield from wire.read_reply(seconds=self._timeouts.data)
            except (Dropped, JunkReply):
                if found is None:
                    raise
                self._sent = MOST_MESSAGES
                return found  # what it said before it went away stands
            if found is None and not is_good:
                found = judge(phase, reply)
                if phase is Phase.MAIL and reply.code // 100 == 4 and self._sent > 1:
                    # It may only have had enough of this connection.
                    found = found._replace(is_lost=True)
            if found is not None and (
                found.is_lost or reply.code == SERVICE_CLOSES or not is_pipelined
            ):
                break
        if found is not None and not found.is_lost:
            yield from self._reset()
        return found

    def _reset(self) -> Steps[None]:
        """Forget a transaction that came to nothing; a session that cannot is given up."""
        try:
            reply = yield from self._exchange("RSET", seconds=self._timeouts.reply)
            is_good = reply.code // 100 == 2
        except (Dropped, JunkReply):
            is_good = False
        if not is_good:
            self._sent = MOST_MESSAGES

    def _write_out(self, data: bytes) -> Steps[Verdict]:
        """Write the message. From the moment its last octets may have left, only a reply tells."""
        self._phase = Phase.DOT
        try:
            yield from self._wire.write(data, seconds=self._timeouts.block)
            reply = yield from self._wire.read_reply(seconds=self._timeouts.dot)
        except (Dropped, JunkReply) as error:
            if isinstance(error, Dropped) and error.unsent > len(b"\r\n.\r\n"):
                return lost(Phase.DOT, f"{Phase.DOT.value}: {error}")
            return Verdict(Unknown(f"handed over, and no answer came: {error}"))
        kind = reply.code // 100
        if kind == 2:
            return Verdict(Sent(queue_id(reply)))
        if kind == 3:
            return Verdict(Unknown(f"handed over, and the answer says nothing: {reply.text}"))
        if reply.code == SERVICE_CLOSES:
            self._sent = MOST_MESSAGES
        return judge(Phase.DOT, reply)

    def _said(self, verdict: Verdict) -> Verdict:
        """The same without credentials, should the server have echoed them."""
        if not self._server.password:
            return verdict
        outcome = verdict.outcome
        key = "provider_id" if isinstance(outcome, Sent) else "reason"
        said = getattr(outcome, key) or ""
        hidden = hide_credentials(said, self._server)
        if hidden == said:
            return verdict
        without = type(outcome)(**{**vars(outcome), key: hidden})
        return verdict._replace(outcome=without)


def wire_format(data: bytes) -> bytes:
    """A message, whose lines end with CRLF, as it goes over: dots doubled, the final dot."""
    data = data.replace(b"\r\n.", b"\r\n..")
    if data.startswith(b"."):
        data = b"." + data
    return data + (b".\r\n" if data.endswith(b"\r\n") else b"\r\n.\r\n")


def hide_credentials(text: str, server: SmtpServer) -> str:
    """`text` without the password and without what AUTH makes of it, whole or cut off."""
    if not server.password:
        return text
    user, password = server.user, server.password
    secrets = [
        password,
        b64encode(password.encode()).decode(),
        b64encode(f"\0{user}\0{password}".encode()).decode(),
    ]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    words = re.split(r"(\s+)", text)
    for place, word in enumerate(words):
        bare = word.strip(".,;:()[]<>\"'=")
        if len(bare) >= 8 and any(bare in secret for secret in secrets):
            words[place] = "***"
    return "".join(words)


def _own_name(local_address: str) -> str:
    """What EHLO says: this host's name if it is a full one, else its address (RFC 5321 4.1.3)."""
    name = socket.gethostname()
    if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name):
        return name
    return f"[IPv6:{local_address}]" if ":" in local_address else f"[{local_address}]"


def make_context(server: SmtpServer) -> ssl.SSLContext:
    """TLS with certificates verified. Raises: OSError when `cafile` cannot be read."""
    if server.security is Security.NONE:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used
    context = ssl.create_default_context(cafile=server.cafile or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
