"""Claims and mails for tests that have no database."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from hyperdrip.models import Claim, Mail
from hyperdrip.senders import Outcome
from hyperdrip.senders.smtp import SmtpSender

_VALUES: dict[str, Any] = {
    "run": 1,
    "number": 1,
    "token": 1,
    "attempts": 1,
    "day": date(2024, 1, 15),
    "name": "Ada",
    "lead_fields": "{}",
    "campaign": "default",
    "campaign_version": 1,
    "message_count": 0,
    "max_messages": 5,
    "first_claimed_at": datetime(2024, 1, 15, 9, tzinfo=UTC),
}


def make_claim(lead_id: int, email: str | None = None) -> Claim:
    """A claim of a lead's first message."""
    return Claim(
        lead_id=lead_id, envelope_id=lead_id, email=email or f"l{lead_id}@example.com", **_VALUES
    )


def make_claims(count: int) -> list[Claim]:
    """Claims of as many leads, from 1."""
    return [make_claim(lead_id) for lead_id in range(1, count + 1)]


def write_mail(claim: Claim, body: bytes = b"Hello\r\n.\r\n..two\r\nEnd\r\n") -> Mail:
    """A small message, whose Message-ID is the message's key."""
    head = f"From: drip@example.org\r\nTo: {claim.email}\r\nMessage-ID: <{claim.message_key}>\r\n"
    return Mail(
        mail_from="drip@example.org",
        rcpt_to=claim.email,
        message_id=f"<{claim.message_key}>",
        data=head.encode() + b"\r\n" + body,
        needs_smtputf8=not claim.email.isascii(),
    )


def send(sender: SmtpSender, claims: Sequence[Claim]) -> list[Outcome]:
    """Send a wave with leave for all of it; outcomes in the order of the claims."""
    found = {
        answer[0].lead_id: answer[1]
        for answer in sender.send_wave(claims, lambda _: True)
        if answer is not None
    }
    return [found[claim.lead_id] for claim in claims]


def send_one(sender: SmtpSender, lead_id: int = 1) -> Outcome:
    """Send one message."""
    return send(sender, [make_claim(lead_id)])[0]
