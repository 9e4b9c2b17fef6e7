"""PURE: what a lead may hold: checked, normalised, and how leads and phones are compared."""

import re
from collections.abc import Mapping

from hyperdrip.errors import InvalidDataError
from hyperdrip.models import MessageKey, NewLead

LONGEST_NAME = 200
LONGEST_PHONE = 40
LONGEST_NOTES = 10_000
LONGEST_FIELD_NAME = 60
LONGEST_FIELD = 2_000
LONGEST_REASON = 200
LAYOUT = "\n\r\t"


def check_new_lead(
    *,
    name: str,
    email: str,
    phone: str | None = None,
    notes: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> NewLead:
    """Check and normalise what a person typed.

    Raises: InvalidDataError naming the first value that cannot be taken.
    """
    return NewLead(
        name=_one_line("name", name, LONGEST_NAME),
        email=check_email(email),
        phone=_phone(phone),
        notes=_notes(notes),
        fields={_field_name(key): _field(key, value) for key, value in (fields or {}).items()},
    )


def check_reason(reason: str) -> str:
    """Why somebody pauses, stops or suppresses. Raises: InvalidDataError for more than a line."""
    if not reason.strip():
        raise InvalidDataError("reason is empty; say why, or leave it out")
    return _one_line("reason", reason, LONGEST_REASON)


def phone_key(phone: str | None) -> str | None:
    """The form in which phones are compared: digits, with 00 written as +. The table's own rule."""
    if phone is None:
        return None
    return re.sub(r"^00", "+", re.sub(r"[^0-9+]", "", phone))


def parse_key(text: str) -> tuple[int | None, str | None]:
    """Read a LEAD as commands take it: (id, None) for `lead_123` or `123`, else (None, address)."""
    key = text.strip()
    match = re.fullmatch(r"(?:lead_)?([0-9]{1,18})", key)
    if match:
        return int(match[1]), None
    # What no address has is not for the database to refuse: it is nobody's.
    return None, key if key.isprintable() else ""


_MESSAGE_KEY = re.compile(r"lead_([0-9]{1,18})-([0-9]{1,9})-([0-9]{1,9})")


def parse_message_key(text: str) -> MessageKey | None:
    """Read a message's own word, `lead_5-1-2`: lead, run, number; None when it is none."""
    match = _MESSAGE_KEY.fullmatch(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _one_line(what: str, value: str, longest: int) -> str:
    text = value.replace("\u00a0", " ").strip()
    if not text:
        raise InvalidDataError(f"{what} is empty; every lead needs one", column=what)
    if len(text) > longest:
        raise InvalidDataError(
            f"{what} has {len(text)} characters; at most {longest} fit", column=what
        )
    if _CONTROL.search(text):
        raise InvalidDataError(
            f"{what}={text[:60]!r} has control characters or a line break", column=what
        )
    return text


# Plain addresses, in the form that email-validator gives back; all others are left to it. The last
# label is at least two letters, and none of the names that are not addresses on the internet.
_PLAIN_EMAIL = re.compile(
    r"(?!.{64,}@)[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*"
    r"@(?=.{4,250}$)(?:(?!..--)[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?\.)+"
    r"(?!(?:arpa|invalid|local|localhost|onion|alt|test)$)[a-z]{2,30}"
)


def check_email(value: str) -> str:
    """An address as it is stored. Raises: InvalidDataError."""
    text = value.replace("\u00a0", " ").strip()
    if _PLAIN_EMAIL.fullmatch(text):
        return text
    # Late: it takes longer to import than a lead to add.
    from email_validator import EmailNotValidError, validate_email

    try:
        if len(text) > 320:
            raise EmailNotValidError("it is longer than an address can be")
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        reason = str(error).rstrip(".")
        raise InvalidDataError(
            f"email={text[:80]!r} is no e-mail address: {reason}", column="email"
        ) from None
    return found.normalized


def _phone(value: str | None) -> str | None:
    text = (value or "").replace("\u00a0", " ").strip()
    if not text:
        return None
    digits = re.sub(r"[^0-9]", "", text)
    if not re.fullmatch(r"\+?[0-9 ().\-/]+", text) or not 3 <= len(digits) <= 20:
        raise InvalidDataError(
            f"phone={text[:60]!r} is no phone number; write digits, such as +1 202 555 0143",
            column="phone",
        )
    if len(text) > LONGEST_PHONE:
        raise InvalidDataError(
            f"phone has {len(text)} characters; at most {LONGEST_PHONE} fit", column="phone"
        )
    return text


def _notes(value: str | None) -> str | None:
    text = (value or "").strip()
    if len(text) > LONGEST_NOTES:
        raise InvalidDataError(
            f"notes have {len(text)} characters; at most {LONGEST_NOTES} fit", column="notes"
        )
    if _CONTROL_BESIDES_LAYOUT.search(text):
        raise InvalidDataError(
            "notes have control characters; only line breaks and tabs are fine", column="notes"
        )
    return text or None


def _field_name(key: str) -> str:
    name = re.sub("[ \u00a0]+", " ", key).strip()  # as a column of a spreadsheet is called
    if not name or len(name) > LONGEST_FIELD_NAME or _CONTROL.search(name):
        raise InvalidDataError(
            f"field name {name[:60]!r} is empty, longer than {LONGEST_FIELD_NAME} characters,"
            " or has control characters",
            column=key,
        )
    return name


def _field(key: str, value: str) -> str:
    text = value.strip()
    if len(text) > LONGEST_FIELD:
        raise InvalidDataError(
            f"field {key[:60]!r} has {len(text)} characters; at most {LONGEST_FIELD} fit",
            column=key,
        )
    if _CONTROL_BESIDES_LAYOUT.search(text):
        raise InvalidDataError(
            f"field {key[:60]!r} has control characters; only line breaks and tabs are fine",
            column=key,
        )
    return text


# Characters that no text needs, or that no database takes (lone surrogates).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_BESIDES_LAYOUT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)
