"""What a sender is made of: the settings, and the messages of claims written out."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from hyperdrip.errors import InvalidDataError, MissingSettingsError, RenderError
from hyperdrip.models import Campaign, Claim, Mail, Rendered
from hyperdrip.settings import Settings

if TYPE_CHECKING:
    from hyperdrip.compose import Letterhead
    from hyperdrip.rendering import CompiledCampaign

# Leads under way may be on many versions. Those that were met last are kept.
KEPT = 200

# Reads a version of a campaign.
Load = Callable[[str, int], Campaign]


@dataclass(frozen=True)
class Kit:
    """What a sender is made of. Both functions may be called by several threads at once.

    `compose`: a claimed message as the bytes of a mail, the same at every attempt. `render`: the
    same as subject, HTML and text, for whoever sends something else than mail; the way out stands
    in both parts.

    Both raise RenderError when the message cannot be written for this lead (`Unwritten`), and other
    HyperdripErrors when nothing can be written now, such as when the database is lost: let them
    pass, or answer `Refused`.
    """

    settings: Settings
    compose: Callable[[Claim], Mail] = field(repr=False)
    render: Callable[[Claim], Rendered] = field(repr=False)


def make_kit(settings: Settings, load: Load, *, instance: str) -> Kit:
    """Make the kit of one process. A stored version never changes, so each is read once.

    `instance`: the database's fingerprint, which keeps Message-IDs of two databases apart.
    """
    writer = _Writer(settings, load, instance)
    return Kit(settings, writer.compose, writer.render)


class _Version:
    """A version of a campaign, compiled; and what writes its messages, imported with it."""

    def __init__(self, campaign: Campaign) -> None:
        from hyperdrip.compose import compose
        from hyperdrip.rendering import compile_campaign

        self.compose = compose
        self.campaign = campaign
        self.compiled: CompiledCampaign = compile_campaign(campaign)
        self.letterhead: Letterhead | None = None


class _Writer:
    """Writes messages with versions of campaigns that it keeps. Jinja2 is imported at the first."""

    def __init__(self, settings: Settings, load: Load, instance: str) -> None:
        self._settings = settings
        self._load = load
        self._instance = instance
        self._versions: dict[tuple[str, int], _Version] = {}
        self._last: tuple[tuple[str, int], _Version] | None = None
        self._lock = threading.Lock()

    def compose(self, claim: Claim) -> Mail:
        version, recipient, key = self._version(claim), claim.recipient, claim.message_key
        return version.compose(
            version.compiled.render(claim.number, recipient),
            version.letterhead or self._letterhead(version),
            recipient,
            key=key,
            date=claim.first_claimed_at,
            token=self._token(key),
        )

    def render(self, claim: Claim) -> Rendered:
        from hyperdrip.rendering import add_notice

        return add_notice(
            self._version(claim).compiled.render(claim.number, claim.recipient),
            unsubscribe_url=self._way_out(claim),
            postal_address=self._settings.postal_address,
        )

    def _version(self, claim: Claim) -> _Version:
        key = claim.campaign, claim.campaign_version
        last = self._last
        if last is not None and last[0] == key:  # as most often
            return last[1]
        with self._lock:
            found = self._versions.pop(key, None)
            if found is None:
                found = self._read(*key)
            self._versions[key] = found  # the last one now, and the last to go
            if len(self._versions) > KEPT:
                del self._versions[next(iter(self._versions))]
            self._last = key, found
        return found

    def _read(self, name: str, number: int) -> _Version:
        campaign = self._load(name, number)
        try:
            return _Version(campaign)
        except InvalidDataError as error:  # stored by another version of Hyperdrip
            raise RenderError(" ".join(str(error).split())) from None

    def _letterhead(self, version: _Version) -> "Letterhead":
        from hyperdrip.compose import make_letterhead

        try:
            version.letterhead = make_letterhead(
                version.campaign, self._settings, instance=self._instance
            )
        except InvalidDataError as error:
            raise RenderError(f"campaign {version.campaign.name!r}: {error}") from None
        return version.letterhead

    def _token(self, message_key: str) -> str:
        secret_key = self._settings.secret_key
        return self._sign(secret_key, message_key) if secret_key else ""

    @cached_property
    def _sign(self) -> Callable[[str, str], str]:
        from hyperdrip.unsubscribing import sign

        return sign

    def _way_out(self, claim: Claim) -> str:
        from hyperdrip.unsubscribing import unsubscribe_mailto, unsubscribe_url

        token, settings = self._token(claim.message_key), self._settings
        if token and settings.public_url:
            return unsubscribe_url(settings.public_url, token)
        if token and settings.unsubscribe_mailto:
            return unsubscribe_mailto(settings.unsubscribe_mailto, token)
        return ""


def require_mail_settings(settings: Settings) -> None:
    """Check what a sender that talks to the world needs, before it sends anything.

    MAIL_FROM has to be there also when campaigns have a `from` of their own, which goes first.

    Raises: MissingSettingsError with a line for each setting that is missing; SettingsError for the
    first value that cannot be taken.
    """
    missing = [
        f"{name} is empty; write {what}"
        for name, value, what in (
            ("MAIL_FROM", settings.mail_from, "who sends: Your name <you@your-domain>"),
            ("POSTAL_ADDRESS", settings.postal_address, "the line that the law asks for"),
            ("SECRET_KEY", settings.secret_key, "a key, such as from: openssl rand -hex 32"),
            (
                "PUBLIC_URL",
                settings.public_url or settings.unsubscribe_mailto,
                "where people unsubscribe: https://your-domain, or a mailbox as UNSUBSCRIBE_MAILTO",
            ),
        )
        if not value
    ]
    if missing:
        raise MissingSettingsError("\n".join(missing))
    from hyperdrip.compose import make_letterhead
    from hyperdrip.unsubscribing import sign

    sign(settings.secret_key, "lead_1-1-1")
    make_letterhead(Campaign("default", ()), settings)
