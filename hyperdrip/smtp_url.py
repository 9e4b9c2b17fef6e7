"""PURE: SMTP_URL -> the mail server it names.

What is wrong with it is said without any part of it: a character that should have been encoded
shifts the parts, so that a piece of the password may stand where a host or an option is looked for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from hyperdrip.errors import SettingsError

_EXAMPLE = "write smtp://user:password@host:587 or smtps://user:password@host:465"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_Refuse = Callable[[str], NoReturn]


class Security(Enum):
    """How a connection is protected."""

    TLS = "smtps"  # from the first octet
    STARTTLS = "starttls"  # before anything else, or not at all
    NONE = "none"


@dataclass(frozen=True)
class SmtpServer:
    """A mail server and how to reach it; neither `repr` nor `str` shows a credential.

    `cafile`: a file of certificates that are trusted instead of the system's; empty: the system's.
    """

    host: str
    port: int
    security: Security = Security.STARTTLS
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    cafile: str = ""

    def __str__(self) -> str:
        """As it may be written into a log: `smtp://host:port`."""
        scheme = "smtps" if self.security is Security.TLS else "smtp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def parse_smtp_url(name: str, value: str) -> SmtpServer:
    """Read `smtp://user:password@host:587` or `smtps://...:465`, credentials percent-encoded.

    `name`: the setting's. Options: `?starttls=never` (with smtp: and without a user) and
    `?cafile=PATH`.

    Raises: SettingsError, which holds no part of the value.
    """

    def refuse(why: str) -> NoReturn:
        raise SettingsError(f"{name} {why}") from None

    text = value.strip()
    if not text.isprintable() or " " in text:
        refuse("has a blank or a control character; write it percent-encoded, a blank as %20")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        refuse(f"is no address; {_EXAMPLE}, and : / ? # @ [ ] % in a password percent-encoded")
    if parts.scheme not in ("smtp", "smtps"):
        refuse(f"does not begin with smtp:// or smtps://; {_EXAMPLE}")
    if parts.path not in ("", "/") or "#" in text or (port is not None and not port):
        refuse(
            "has more than user, password, host and port; "
            "in a password : / ? # @ [ ] % have to be percent-encoded"
        )
    try:
        user = unquote(parts.username or "", errors="strict")
        password = unquote(parts.password or "", errors="strict")
    except UnicodeDecodeError:
        refuse("has a user or password whose percent-encoding is not UTF-8")
    if "\0" in user + password:
        refuse("has a user or password with a NUL, which no server takes")
    if bool(user) != bool(password):
        refuse(f"has a user without a password, or a password without a user; {_EXAMPLE}")
    security, cafile = _options(refuse, parts.scheme, parts.query)
    if user and security is Security.NONE:
        refuse(
            "has a user and starttls=never; a password is sent over TLS only, also within one"
            " host, where whoever takes the port first would get it; leave out one of the two"
        )
    default_port = 465 if security is Security.TLS else 587
    return SmtpServer(
        host=_host(refuse, parts.hostname or ""),
        port=port or default_port,
        security=security,
        user=user,
        password=password,
        cafile=cafile,
    )


def _options(refuse: _Refuse, scheme: str, query: str) -> tuple[Security, str]:
    security = Security.TLS if scheme == "smtps" else Security.STARTTLS
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        given = [("", "")]
    options = dict(given)
    if len(options) != len(given) or not options.keys() <= {"starttls", "cafile"}:
        refuse("has an option other than ?starttls=never and ?cafile=PATH, or one of them twice")
    starttls = options.get("starttls", "required")
    if starttls not in ("required", "never"):
        refuse("has a starttls other than never and required")
    if "starttls" in options and security is Security.TLS:
        refuse("has starttls with smtps://, which is TLS from the start; leave one of them out")
    if starttls == "never":
        security = Security.NONE
    cafile = options.get("cafile", "")
    if "cafile" in options and (not cafile or security is Security.NONE):
        refuse("has a cafile that is empty, or of no use with starttls=never")
    return security, cafile


def _host(refuse: _Refuse, host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    if not host.isascii():
        import idna

        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            refuse("has a host that cannot exist")
    if not _HOST.fullmatch(host) or len(host) > 253:
        refuse(f"has no host; {_EXAMPLE}")
    return host.rstrip(".")
