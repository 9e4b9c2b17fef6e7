"""Tokens of unsubscribe links: who holds one may unsubscribe that id, and learns nothing else.

Links have to work for as long as the mail is kept, so tokens do not expire; a key that has been
taken out of SECRET_KEY ends those that it signed.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from hyperdrip.errors import SettingsError

if TYPE_CHECKING:
    from itsdangerous import Signer

SHORTEST_KEY = 16
PATH = "/unsubscribe/"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def sign(secret_key: str, opaque_id: str) -> str:
    """Make the token of an id; it can stand in an address as it is.

    `secret_key`: SECRET_KEY as it is set, keys separated by commas; the first one signs.
    `opaque_id`: up to 64 letters, digits, `_` and `-`. It can be read in the token: no address.

    Raises: SettingsError when there is no key, or a short one.
    """
    if not _ID.fullmatch(opaque_id):
        raise ValueError(f"{opaque_id[:80]!r} is no id of letters, digits, _ and -")
    # As Signer.sign, which works the key in anew for each signature.
    mac = _mac(secret_key).copy()
    mac.update(opaque_id.encode())
    return f"{opaque_id}.{urlsafe_b64encode(mac.digest()).decode().rstrip('=')}"


def verify(secret_key: str, token: str) -> str | None:
    """The id that a token was made for with any of the keys; None when it was not.

    Raises: SettingsError when there is no key, or a short one.
    """
    from itsdangerous import BadSignature

    try:
        return _signer(secret_key).unsign(token.encode("utf-8", "replace")).decode()
    except (BadSignature, UnicodeDecodeError):
        return None


@lru_cache(maxsize=8)
def _mac(secret_key: str) -> hmac.HMAC:
    return hmac.new(_signer(secret_key).secret_key, digestmod="sha256")


@lru_cache(maxsize=8)
def _signer(secret_key: str) -> "Signer":
    from itsdangerous import Signer

    keys = [key.strip() for key in secret_key.split(",") if key.strip()]
    if not keys:
        raise SettingsError(
            "SECRET_KEY is empty; unsubscribe links need one, such as from: openssl rand -hex 32"
        )
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise SettingsError(f"SECRET_KEY has a key of fewer than {SHORTEST_KEY} characters")
    # itsdangerous derives a key anew for each signature, and signs with the last one.
    derived = [
        Signer(
            key, "hyperdrip.unsubscribe", key_derivation="hmac", digest_method=hashlib.sha256
        ).derive_key()
        for key in reversed(keys)
    ]
    return Signer(derived, key_derivation="none", digest_method=hashlib.sha256)


def unsubscribe_url(public_url: str, token: str) -> str:
    """The page that asks (GET) and the address that unsubscribes (POST, RFC 8058)."""
    return f"{public_url.rstrip('/')}{PATH}{token}"


def unsubscribe_mailto(address: str, token: str) -> str:
    """The address to which a mail with the token in its subject unsubscribes."""
    return (
        f"mailto:{quote(address.removeprefix('mailto:'), safe='@')}?subject=unsubscribe%20{token}"
    )
