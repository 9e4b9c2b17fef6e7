"""What a sender is made of: the settings, and the messages of claims written out.

Whatever writes is loaded by whoever writes: the console sender starts without it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hyperdrip.errors import SettingsError
from hyperdrip.models import Campaign, Claim, Mail, Rendered
from hyperdrip.settings import Settings
from hyperdrip.unsubscribing import sign, unsubscribe_mailto, unsubscribe_url

if TYPE_CHECKING:
    from hyperdrip.compose import Letterhead
    from hyperdrip.rendering import CompiledCampaign

# Leads under way may be on many versions; those that are met are kept.
KEPT = 200
_NOBODY = Campaign("default", ())


@dataclass(frozen=True)
class _Version:
    compiled: "CompiledCampaign"
    letterhead: "Letterhead | None"


@dataclass
class Kit:
    """Writes messages for a sender; may be used by several threads at once.

    `load` reads a version of a campaign. A stored version never changes, so it is read once.
    `instance`: the database's fingerprint, which keeps Message-IDs of two databases apart.
    """

    settings: Settings
    load: Callable[[str, int], Campaign]
    instance: str = ""
    _versions: dict[tuple[str, int], _Version] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def compose(self, claim: Claim) -> Mail:
        """Write a claimed message as the bytes of a mail, the same at every attempt.

        Raises: RenderError when it cannot be written for this lead (`Unwritten`); DatabaseError and
        its kin, or psycopg's own errors, when its campaign cannot be read now (`Refused`).
        """
        from hyperdrip.compose import compose

        version = self._version(claim)
        letterhead = version.letterhead or self._letterhead(self.load(*_key(claim)))
        return compose(
            version.compiled.render(claim.number, claim.recipient),
            letterhead,
            claim.recipient,
            key=claim.message_key,
            date=claim.first_claimed_at,
            token=self._token(claim),
        )

    def render(self, claim: Claim) -> Rendered:
        """Write a claimed message as subject, HTML and text, with the way out in both.

        Raises: as `compose`.
        """
        from hyperdrip.rendering import add_notice

        rendered = self._version(claim).compiled.render(claim.number, claim.recipient)
        return add_notice(
            rendered,
            unsubscribe_url=self._way_out(claim),
            postal_address=self.settings.postal_address,
        )

    def _version(self, claim: Claim) -> _Version:
        from hyperdrip.rendering import compile_campaign

        key = _key(claim)
        with self._lock:
            found = self._versions.get(key)
            if found is None:
                campaign = self.load(*key)
                letterhead = self._letterhead(campaign) if self._has_from(campaign) else None
                found = _Version(compile_campaign(campaign), letterhead)
                if len(self._versions) >= KEPT:
                    self._versions.pop(next(iter(self._versions)))
                self._versions[key] = found
        return found

    def _has_from(self, campaign: Campaign) -> bool:
        return bool(campaign.mail_from or self.settings.mail_from)

    def _letterhead(self, campaign: Campaign) -> "Letterhead":
        from hyperdrip.compose import make_letterhead

        return make_letterhead(campaign, self.settings, instance=self.instance)

    def _token(self, claim: Claim) -> str:
        key = self.settings.secret_key
        return sign(key, claim.message_key) if key else ""

    def _way_out(self, claim: Claim) -> str:
        token, settings = self._token(claim), self.settings
        if token and settings.public_url:
            return unsubscribe_url(settings.public_url, token)
        if token and settings.unsubscribe_mailto:
            return unsubscribe_mailto(settings.unsubscribe_mailto, token)
        return ""


def _key(claim: Claim) -> tuple[str, int]:
    return claim.campaign, claim.campaign_version


def require_mail_settings(settings: Settings) -> None:
    """Check what a sender that talks to the world needs, before it sends anything.

    Raises: SettingsError naming all that is missing, or the first value that cannot be taken.
    """
    missing = [
        f"{name} ({what})"
        for name, value, what in (
            ("MAIL_FROM", settings.mail_from, "who writes: Your name <you@your-domain>"),
            ("POSTAL_ADDRESS", settings.postal_address, "the line that the law asks for"),
            ("SECRET_KEY", settings.secret_key, "it signs unsubscribe links: openssl rand -hex 32"),
            (
                "PUBLIC_URL or UNSUBSCRIBE_MAILTO",
                settings.public_url or settings.unsubscribe_mailto,
                "the way out: an https address, or a mailbox",
            ),
        )
        if not value
    ]
    if missing:
        raise SettingsError(f"mail cannot be sent without {'; '.join(missing)}")
    from hyperdrip.compose import make_letterhead

    sign(settings.secret_key, "lead_1-1-1")
    make_letterhead(_NOBODY, settings)
