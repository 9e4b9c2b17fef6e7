"""How long a message takes, rendered and written by us, and only written by EmailMessage.

Run it with: python benchmarks/composing.py
"""

import email
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from hyperdrip.campaign_files import read_campaign
from hyperdrip.compose import compose, make_letterhead
from hyperdrip.models import Mail, Recipient
from hyperdrip.rendering import compile_campaign
from hyperdrip.settings import Settings

FOLDER = Path(__file__).parents[1] / "examples" / "campaigns" / "trial-onboarding"
SETTINGS = Settings(
    postal_address="Tallybook, 1 Road, Town", public_url="https://tallybook.example"
)
CAMPAIGN = read_campaign(FOLDER)
COMPILED = compile_campaign(CAMPAIGN)
LETTERHEAD = make_letterhead(CAMPAIGN, SETTINGS)
DATE = datetime(2024, 1, 15, 9, tzinfo=UTC)


def write(recipient: Recipient) -> Mail:
    """Render and write one message."""
    rendered = COMPILED.render(1, recipient)
    return compose(rendered, LETTERHEAD, recipient, key="lead_7-1-1", date=DATE, token="lead_7.abc")


def microseconds(function: Callable[[], object], times: int) -> float:
    """The processor time of one call, the best of ten rounds."""

    def once() -> float:
        start = time.process_time()
        for _ in range(times):
            function()
        return (time.process_time() - start) / times

    return min(once() for _ in range(10)) * 1_000_000


def main() -> None:
    """Print one line for a name in ASCII, and one for another."""
    for name in ("Ada Marlowe", "Zoë Ångström"):
        recipient = Recipient(name, "ada@example.com")
        parsed = email.message_from_bytes(write(recipient).data, policy=SMTP)
        headers = [(key, str(value)) for key, value in parsed.items()][:-2]
        text, html = (part.get_content() for part in parsed.iter_parts())

        def by_email(
            headers: list[tuple[str, str]] = headers, text: str = text, html: str = html
        ) -> bytes:
            message = EmailMessage(policy=SMTP)
            for key, value in headers:
                message[key] = value
            message.set_content(text)
            message.add_alternative(html, subtype="html")
            return message.as_bytes()

        theirs = microseconds(by_email, 50)
        ours = microseconds(lambda recipient=recipient: write(recipient), 300)
        print(f"{name}: {ours:.0f} us; EmailMessage {theirs:.0f} us; {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
