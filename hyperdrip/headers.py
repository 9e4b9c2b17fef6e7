"""PURE: header values checked by our own code, and written as RFC 5322, 2047 and 6531 have them."""

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import NamedTuple

from hyperdrip.errors import InvalidDataError

LONGEST_VALUE = 900  # with its name it still is one line of 998 octets
LONGEST_ADDRESS = 320
LONGEST_LINE = 78
LONGEST_WORD = 60  # a longer one would leave the name of its header alone on a line
LONGEST_CHUNK = 42  # octets of one encoded word, which with `Subject: ` is one line
SHOWN = 60
# What ends a header, or hides in it: controls, line and paragraph separators, lone surrogates.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_WORDS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a1-\U0010ffff-]+"
_LOCAL_PART = re.compile(rf'{_ATOM}(?:\.{_ATOM})*|"(?:[^"\\]|\\.)*"')
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9\u00a1-\U0010ffff](?:[A-Za-z0-9\u00a1-\U0010ffff-]*"
    r"[A-Za-z0-9\u00a1-\U0010ffff])?)"
    r"(?:\.[A-Za-z0-9\u00a1-\U0010ffff](?:[A-Za-z0-9\u00a1-\U0010ffff-]*"
    r"[A-Za-z0-9\u00a1-\U0010ffff])?)*"
    r"|\[[0-9A-Fa-f:.]+\]|\[IPv6:[0-9A-Fa-f:.]+\]"
)
_PLAIN_ADDRESS = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*"
)
_MAILBOX = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^"<>]*?))\s*<(?P<email>.+)>\s*'
)


class Mailbox(NamedTuple):
    """A person at an address, checked. The domain is ASCII (IDNA)."""

    name: str
    email: str

    @property
    def domain(self) -> str:
        """What stands behind the @."""
        return self.email.rpartition("@")[2]

    @property
    def needs_smtputf8(self) -> bool:
        """Only servers with SMTPUTF8 (RFC 6531) take this address."""
        return not self.email.isascii()


def check_value(what: str, value: str) -> str:
    """Give `value` back if it can stand in a header.

    Raises: InvalidDataError for controls, line breaks, lone surrogates and what is too long.
    """
    if _FORBIDDEN.search(value):
        raise InvalidDataError(
            f"{what} {value[:SHOWN]!r} has a line break or a control character; take it out"
        )
    if len(value) > LONGEST_VALUE:
        raise InvalidDataError(
            f"{what} has {len(value)} characters; at most {LONGEST_VALUE} fit in a header"
        )
    return value


def check_address(what: str, address: str) -> str:
    """Give an address back as it is written to a server, its domain in ASCII.

    Raises: InvalidDataError when it is none: RFC 5321 4.1.2, with RFC 6531's characters.
    """
    if len(address) <= LONGEST_ADDRESS and _PLAIN_ADDRESS.fullmatch(address):
        return address  # as most are
    local, at, domain = check_value(what, address).rpartition("@")
    if (
        not at
        or len(address) > LONGEST_ADDRESS
        or not _LOCAL_PART.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
    ):
        raise InvalidDataError(f"{what} {address[:SHOWN]!r} is no e-mail address")
    if domain.isascii():
        return address
    import idna

    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode().rstrip('.')}"
    except idna.IDNAError:
        raise InvalidDataError(
            f"{what} {address[:SHOWN]!r} has a domain that cannot exist"
        ) from None


def parse_mailbox(what: str, text: str) -> Mailbox:
    """Read `ada@example.com`, `Ada <ada@example.com>` or `"Marlowe, Ada" <ada@example.com>`.

    Raises: InvalidDataError.
    """
    match = _MAILBOX.fullmatch(check_value(what, text))
    if not match:
        return Mailbox("", check_address(what, text.strip()))
    name = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
    return Mailbox(name, check_address(what, match["email"].strip()))


def write_text(name: str, value: str) -> str:
    """Write a header of free text, such as a subject, with its name and its line end.

    Raises: InvalidDataError.
    """
    check_value(name, value)
    if not value.isascii() or "=?" in value or value != value.strip():
        return f"{name}: {_encoded(value)}\r\n"
    line = f"{name}: {value}"
    if len(line) <= LONGEST_LINE:
        return f"{line}\r\n"
    if max(map(len, value.split(" "))) > LONGEST_WORD:
        return f"{name}: {_encoded(value)}\r\n"
    return f"{_folded(line)}\r\n"


def write_mailbox(name: str, mailbox: Mailbox) -> str:
    """Write a header of one mailbox, such as To, with its name and its line end.

    Raises: InvalidDataError when the name cannot stand there.
    """
    person = check_value(f"{name} name", mailbox.name).strip()
    if not person:
        return f"{name}: {mailbox.email}\r\n"
    if person.isascii() and "=?" not in person and len(person) <= LONGEST_CHUNK:
        if not _PLAIN_WORDS.fullmatch(person):
            person = '"' + person.replace("\\", "\\\\").replace('"', '\\"') + '"'
        elif "  " in person:
            person = f'"{person}"'
    else:
        person = _encoded(person)
    gap = " " if len(name) + len(person) + len(mailbox.email) < LONGEST_LINE - 5 else "\r\n "
    return f"{name}: {person}{gap}<{mailbox.email}>\r\n"


def _folded(line: str) -> str:
    """Break a long line of words."""
    lines = [""]
    for word in line.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= LONGEST_LINE and word:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] or len(lines) > 1 else word
    return "\r\n".join(lines)


def _encoded(text: str) -> str:
    """RFC 2047 encoded words, a line each; none ends within a character."""
    return "\r\n ".join(f"=?utf-8?b?{b64encode(chunk).decode()}?=" for chunk in _chunks(text))


def _chunks(text: str) -> Iterator[bytes]:
    octets = text.encode()
    start = 0
    while len(octets) - start > LONGEST_CHUNK:
        end = start + LONGEST_CHUNK
        while octets[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        yield octets[start:end]
        start = end
    yield octets[start:]
