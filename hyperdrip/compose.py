"""PURE: what was rendered, and the facts of its envelope -> the bytes of a message.

The bytes are put together from parts that are ready, instead of through `email.message`, which
takes most of the time of sending. The same message is the same bytes whenever it is written.
"""

import hashlib
from binascii import b2a_base64, b2a_qp
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from urllib.parse import urlsplit

from hyperdrip.errors import InvalidDataError, RenderError, SettingsError
from hyperdrip.headers import (
    Mailbox,
    check_address,
    check_value,
    parse_mailbox,
    write_mailbox,
    write_text,
)
from hyperdrip.models import Campaign, Mail, Recipient, Rendered
from hyperdrip.rendering import add_notice
from hyperdrip.settings import Settings
from hyperdrip.unsubscribing import unsubscribe_mailto, unsubscribe_url

LONGEST_LINE = 998  # octets, without the line end: RFC 5322 2.1.1
_CONTROLS = bytes({*range(32), 127} - {*b"\t\n"})


@dataclass(frozen=True)
class Letterhead:
    """What all messages of a campaign's version have in common, checked; make it once."""

    mail_from: Mailbox
    head: str
    list_id: str
    feedback_id: str
    message_id_end: str
    postal_address: str
    public_url: str
    unsubscribe_mailto: str


def make_letterhead(campaign: Campaign, settings: Settings, *, instance: str = "") -> Letterhead:
    """Gather the sender's side of a campaign: its own values first, then the settings.

    `instance`: the database's fingerprint, which keeps Message-IDs of two databases apart.

    Raises: SettingsError for a setting that cannot stand in a header; InvalidDataError for what
    the campaign says.
    """
    sender = _mailbox(campaign.mail_from, "from", settings.mail_from, "MAIL_FROM")
    if sender is None:
        raise SettingsError(
            "MAIL_FROM is empty; write Your name <you@your-domain>, there or as `from` in"
            f" the campaign {campaign.name!r}"
        )
    head = write_mailbox("From", sender)
    reply_to = _mailbox(campaign.reply_to, "reply-to", settings.reply_to, "REPLY_TO")
    if reply_to is not None:
        head += write_mailbox("Reply-To", reply_to)
    domain = sender.domain.strip("[]")
    database = hashlib.sha256(instance.encode()).hexdigest()[:12]
    return Letterhead(
        mail_from=sender,
        head=head,
        list_id=check_value("List-Id", f"{campaign.name}.{domain}"),
        feedback_id=f"{campaign.name.partition('.')[0]}:drip:hyperdrip",
        message_id_end=f".{database}@{domain}>",
        postal_address=_postal_address(settings.postal_address),
        public_url=_https(settings.public_url),
        unsubscribe_mailto=_mailto(settings.unsubscribe_mailto),
    )


def _mailbox(own: str | None, own_name: str, default: str, setting: str) -> Mailbox | None:
    if own:
        return parse_mailbox(f"campaign's {own_name}", own)
    try:
        return parse_mailbox(setting, default) if default else None
    except InvalidDataError as error:
        raise SettingsError(str(error)) from None


def _postal_address(address: str) -> str:
    """The lines of the address, each of which could stand in a header."""
    try:
        return "\n".join(
            check_value("POSTAL_ADDRESS", line.strip()) for line in address.strip().splitlines()
        )
    except InvalidDataError as error:
        raise SettingsError(str(error)) from None


def _https(public_url: str) -> str:
    if public_url and not _is_https(public_url):
        raise SettingsError(
            f"PUBLIC_URL={public_url[:80]!r} is no address such as https://mail.example.com;"
            " one-click unsubscribing works with https only (RFC 8058)"
        )
    return public_url


def _is_https(url: str) -> bool:
    """Can a path be put at its end, and the whole stand between < and > in a header?"""
    if not (url.isascii() and url.isprintable() and len(url) <= 500):
        return False
    if set(url) & set(' <>"\\,?#@'):  # no query or fragment, and nobody's password
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that cannot be
        return False


def _mailto(address: str) -> str:
    try:
        found = check_address("UNSUBSCRIBE_MAILTO", address.removeprefix("mailto:"))
    except InvalidDataError as error:
        if not address:
            return ""
        raise SettingsError(str(error)) from None
    if not found.isascii():
        raise SettingsError(
            f"UNSUBSCRIBE_MAILTO={address!r} is not ASCII; not all programs take it"
        )
    return found


def compose(
    rendered: Rendered,
    letterhead: Letterhead,
    recipient: Recipient,
    *,
    key: str,
    date: datetime,
    token: str = "",
) -> Mail:
    """Write the whole message.

    `key`: names this message among all, the same at every attempt: Message-ID and the boundary
    come of it. `date`: aware, and the same at every attempt, too. `token`: for unsubscribing.

    Raises: RenderError when a value of this lead cannot stand in a header.
    """
    try:
        to = Mailbox(recipient.name, check_address("To", recipient.email))
        url, unsubscribing = _unsubscribing(letterhead, token)
        message_id = f"<{key}{letterhead.message_id_end}"
        complete = add_notice(
            rendered, unsubscribe_url=url, postal_address=letterhead.postal_address
        )
        head = (
            f"{letterhead.head}{write_mailbox('To', to)}{write_text('Subject', rendered.subject)}"
            f"Date: {_date(date, date.utcoffset())}\r\n"
            f"Message-ID: {check_value('Message-ID', message_id)}\r\n"
            f"{unsubscribing}List-Id: <{letterhead.list_id}>\r\n"
            f"Feedback-ID: step-{rendered.number}:{letterhead.feedback_id}\r\n"
        )
        data = _alternatives(head, complete, message_id)
    except InvalidDataError as error:
        raise RenderError(f"step {rendered.number}: {error}") from None
    needs_smtputf8 = to.needs_smtputf8 or not letterhead.head.isascii()
    return Mail(
        mail_from=letterhead.mail_from.email,
        rcpt_to=to.email,
        message_id=message_id,
        data=data,
        needs_smtputf8=needs_smtputf8,
    )


@lru_cache(maxsize=100)
def _date(date: datetime, _offset: timedelta | None) -> str:
    """A wave has one date. Instants are equal also where offsets are not."""
    return format_datetime(date)


def _unsubscribing(letterhead: Letterhead, token: str) -> tuple[str, str]:
    """The visible link, and the headers of RFC 2369 and RFC 8058."""
    if not token:
        return "", ""
    ways: list[str] = []
    post = ""
    if letterhead.public_url:
        ways.append(unsubscribe_url(letterhead.public_url, token))
        post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    if letterhead.unsubscribe_mailto:
        ways.append(unsubscribe_mailto(letterhead.unsubscribe_mailto, token))
    if not ways:
        return "", ""
    value = ",\r\n ".join(f"<{check_value('List-Unsubscribe', way)}>" for way in ways)
    return ways[0], f"List-Unsubscribe: {value}\r\n{post}"


def _alternatives(head: str, rendered: Rendered, message_id: str) -> bytes:
    text_head, text = _part("plain", rendered.text)
    html_head, html = _part("html", rendered.html)
    digest = hashlib.blake2b(message_id.encode(), digest_size=12).hexdigest()
    boundary = f"=_{digest}"
    # Whoever knows an earlier Message-ID can guess it, and write it into a field of a lead.
    count = 0
    while (mark := boundary.encode()) in text or mark in html:
        count += 1
        boundary = f"=_{digest}.{count}"
    start = (
        f'{head}MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="{boundary}"'
        f"\r\n\r\n--{boundary}\r\n{text_head}"
    ).encode()
    return b"".join(
        (
            start,
            text,
            f"\r\n--{boundary}\r\n{html_head}".encode(),
            html,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def _part(subtype: str, text: str) -> tuple[str, bytes]:
    """The head and the octets of one part, encoded only where it has to be."""
    try:
        octets = text.encode()
    except UnicodeEncodeError:
        raise InvalidDataError("its text has half a character; take it out") from None
    if len(octets) != len(octets.translate(None, _CONTROLS)):
        raise InvalidDataError("its text has a control character; take it out")
    is_mostly_ascii = len(octets) - len(text) <= len(text) // 10
    if subtype == "html" and is_mostly_ascii and not octets.isascii():
        octets = text.encode("ascii", "xmlcharrefreplace")
    if octets.isascii() and _has_short_lines(octets):
        encoding = "7bit"
        octets = octets.replace(b"\n", b"\r\n")
    elif is_mostly_ascii:
        encoding = "quoted-printable"
        octets = b2a_qp(octets).replace(b"\n", b"\r\n")  # its own line ends, too
    else:
        # Shorter when most characters are not ASCII.
        encoding = "base64"
        octets = octets.replace(b"\n", b"\r\n")
        octets = b"\r\n".join(
            b2a_base64(octets[start : start + 57], newline=False)
            for start in range(0, len(octets), 57)
        )
    return (
        f"Content-Type: text/{subtype}; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ), octets


def _has_short_lines(octets: bytes) -> bool:
    """Is no line longer than LONGEST_LINE? Only every so many octets is a line end looked for."""
    start = 0
    while len(octets) - start > LONGEST_LINE:
        end = octets.rfind(b"\n", start, start + LONGEST_LINE + 1)
        if end < 0:
            return False
        start = end + 1
    return True
