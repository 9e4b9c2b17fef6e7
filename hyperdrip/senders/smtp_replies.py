"""PURE: what a mail server answers, and what an answer in each phase means for the message.

The whole table of phases and replies is in docs/smtp.md.
"""

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from hyperdrip.senders import Failed, Outcome, Refused, Retry, Sent

LONGEST_TEXT = 300
SERVICE_CLOSES = 421


class Phase(Enum):
    """How far a conversation has come; each value is how a user reads it."""

    CONNECT = "connecting"
    GREETING = "its greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RESET = "RSET"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    DOT = "the message"


class JunkReply(Exception):
    """The other side does not speak SMTP, or no longer."""


class Reply(NamedTuple):
    """An answer: its code, and its lines without the code."""

    code: int
    lines: tuple[str, ...]

    @property
    def enhanced(self) -> tuple[int, int, int] | None:
        """The code of RFC 3463, if the text begins with one of the same class."""
        match = _ENHANCED.match(self.lines[0]) if self.lines else None
        if match is None or int(match[1]) != self.code // 100:
            return None
        return int(match[1]), int(match[2]), int(match[3])

    @property
    def text(self) -> str:
        """Code and text on one line, without control characters, of bounded length."""
        return clean(f"{self.code} {' '.join(self.lines)}")


class Verdict(NamedTuple):
    """What a reply means for the message.

    `is_policy`: the server may be refusing the sender and not this recipient; whoever sees more
    than one message decides (`PolicyWatch`). `is_lost`: the session is of no more use, and the
    message was not taken: it may be tried on another one.
    """

    outcome: Outcome
    is_policy: bool = False
    is_lost: bool = False


_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s|$)")
_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\r\n]*))?\r?\n")
_CONTROLS = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]+")


@lru_cache(maxsize=100)  # most servers answer most commands with the same words
def parse_reply_line(line: bytes) -> tuple[Reply, bool]:
    """Read one line of a reply, with its line end: what it says, and whether it is the last.

    Raises: JunkReply.
    """
    match = _REPLY_LINE.fullmatch(line)
    if match is None:
        raise JunkReply(f"it answered {clean(line.decode('utf-8', 'replace'))[:60]!r}")
    text = (match[3] or b"").decode("utf-8", "replace")
    return Reply(int(match[1]), (text,)), match[2] != b"-"


def clean(text: str) -> str:
    """One line of printable characters, `LONGEST_TEXT` at most."""
    found = _CONTROLS.sub(" ", text).strip()
    return found if len(found) <= LONGEST_TEXT else f"{found[: LONGEST_TEXT - 3]}..."


# Permanent codes that say of the address itself that it is gone (RFC 3463 and IANA's list). The
# others do not: 5.2.1 (disabled) is also used for a mailbox that gets too much mail at the moment,
# 5.2.2 is a full one, 5.1.7 and 5.1.8 are about the sender.
DEAD_ADDRESS = {
    (5, 1, 1): "no such mailbox",
    (5, 1, 2): "no such domain",
    (5, 1, 3): "the address is malformed",
    (5, 1, 6): "the mailbox has moved, nobody knows where",
    (5, 1, 10): "the domain takes no mail (null MX)",
}

# A command was out of turn or not understood: the session is in doubt.
_OUT_OF_STEP = frozenset({500, 502, 503, 504})
_AUTHENTICATE = frozenset({530, 534, 535, 538})
# About the sender, whatever phase they come in: its address, its domain, what it may send a day.
_ABOUT_SENDER = frozenset({(5, 1, 7), (5, 1, 8), (5, 1, 90), (5, 4, 5)})
_ABOUT_US = re.compile(
    r"\brelay(?! recipient)|authenticat|rcpthosts|#5\.7\.|is not verified"
    r"|sending (?:quota|limit)|throttling",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"<[^>]*>|\S+@\S+")
# How long a message stays behind the others, or the next try would be made with it again.
ASIDE_SECONDS = 1800.0
LOST_SECONDS = 300.0


def judge(phase: Phase, reply: Reply) -> Verdict:
    """What a reply to MAIL, RCPT, DATA or the final dot means, unless it is the expected one."""
    what = f"{reply.text} (to {phase.value})"
    if reply.code == SERVICE_CLOSES and phase is not Phase.DOT:
        return lost(phase, what)
    kind = reply.code // 100
    if kind not in (4, 5):
        return lost(phase, f"unexpected: {what}")
    if phase is Phase.MAIL:
        return Verdict(_of_mail(reply, what))
    if kind == 4:
        return Verdict(Retry(what), is_policy=is_about_us(reply))
    if is_about_us(reply):
        return Verdict(Retry(what), is_policy=True)
    if reply.enhanced is not None and reply.enhanced[1] == 7:
        return Verdict(Failed(what), is_policy=True)
    if reply.code in _OUT_OF_STEP:
        return Verdict(Retry(what), is_lost=True)
    is_dead = phase is Phase.RCPT and reply.enhanced in DEAD_ADDRESS
    return Verdict(Failed(what, is_address_dead=is_dead))


def lost(phase: Phase, reason: str) -> Verdict:
    """The session is of no more use. Before RCPT nothing was said of the recipient: it is us."""
    is_us = phase is Phase.MAIL
    return Verdict(Refused(reason, LOST_SECONDS) if is_us else Retry(reason), is_lost=True)


def _of_mail(reply: Reply, what: str) -> Outcome:
    """The server does not take mail from us, unless the reply is about this message."""
    too_big = reply.code == 552 and reply.enhanced is None
    if too_big or reply.enhanced in ((5, 3, 4), (5, 2, 3), (5, 6, 7)):
        return Failed(what)
    return Refused(what)


def is_about_us(reply: Reply) -> bool:
    """Is this refusal about us or the server: relaying, AUTH, our address or limits, 4.3.x?"""
    enhanced = reply.enhanced
    if reply.code in _AUTHENTICATE or enhanced in _ABOUT_SENDER:
        return True
    if enhanced is not None and enhanced[:2] == (4, 3):
        return True
    return bool(_ABOUT_US.search(_ADDRESS.sub("", reply.text)))


class PolicyWatch:
    """Tells a recipient's own policy from a server that refuses us as a whole.

    One relay that is closed to us must not fail a whole campaign: once `patience` messages in a row
    were refused so, and none taken in between, it is the server.
    """

    def __init__(self, patience: int = 3) -> None:
        """`patience`: from which refusal in a row it is the server's."""
        self._patience = patience
        self._in_a_row = 0
        self._has_taken = False

    def settle(self, verdict: Verdict) -> Outcome:
        """The outcome of a verdict, in the light of those before it."""
        outcome = verdict.outcome
        if isinstance(outcome, Sent):
            self._in_a_row, self._has_taken = 0, True
        if not verdict.is_policy or not isinstance(outcome, Failed | Retry):
            return outcome
        self._in_a_row += 1
        if self._in_a_row >= self._patience:
            # Put aside, or a few recipients with a policy would be all that is ever tried.
            return Refused(outcome.reason, ASIDE_SECONDS)
        return outcome if self._has_taken else Retry(outcome.reason)


_QUEUE_IDS = (
    re.compile(r"queued as ([!-~]{1,100}?)[.,;]?(?:\s|$)", re.IGNORECASE),  # Postfix and many more
    re.compile(r"\bInternalId=([!-~]{1,100}?)[],;]?(?:\s|,|$)", re.IGNORECASE),  # Exchange
    re.compile(r"\bid=([!-~]{1,100})(?:\s|$)", re.IGNORECASE),  # Exim
    re.compile(r"^(?:2\.\d+\.\d+ )?([!-~]{6,100}) Message accepted", re.IGNORECASE),  # Sendmail
    re.compile(r"^(?:2\.\d+\.\d+ )?OK:? +\d{9,} ([!-~]{6,100}) - gsmtp", re.IGNORECASE),  # Google
    re.compile(r"^(?:2\.\d+\.\d+ )?OK:? ([!-~]{16,100})(?:\s|$)", re.IGNORECASE),  # Amazon SES
)


def queue_id(reply: Reply) -> str | None:
    """The id under which the server knows a message that it took, if it says one."""
    text = clean(" ".join(reply.lines))
    for pattern in _QUEUE_IDS:
        match = pattern.search(text)
        if match:
            return match[1]
    return None
