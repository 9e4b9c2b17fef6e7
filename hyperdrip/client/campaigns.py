"""Methods of the library door: campaigns, their versions, and what they say."""

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hyperdrip import campaigns, leads
from hyperdrip.applying import Applied, Progress, apply_campaign
from hyperdrip.campaign_changes import Change, find_changes
from hyperdrip.client.base import Base
from hyperdrip.errors import InvalidDataError, NotFoundError, RenderError
from hyperdrip.fence import read_fence, require_open
from hyperdrip.lead_values import check_email
from hyperdrip.models import (
    Campaign,
    CampaignSummary,
    CampaignVersion,
    Claim,
    Lead,
    Recipient,
    Rendered,
    StepStats,
)
from hyperdrip.scheduler import read_moment
from hyperdrip.senders import Outcome, Sender, Unknown, close_sender, open_sender

# A path of names below `fields`, with dots or in brackets.
PART = re.compile(r"\.(\w+)|\[\s*['\"]([^'\"\]]+)['\"]\s*\]")
FIELD = re.compile(rf"\bfields((?:{PART.pattern})+)")
TEST_MARK = "[test]"


@dataclass(frozen=True)
class Preview:
    """One step written out; `lead` None: for a made-up one, whose fields are shown as `[name]`."""

    campaign: str
    version: int
    lead: Lead | None
    rendered: Rendered


@dataclass(frozen=True)
class Trial:
    """One step that was handed to a sender as a test, and what the sender said; `lead`: Preview."""

    campaign: str
    version: int
    lead: Lead | None
    to: str
    sender: str
    rendered: Rendered
    outcome: Outcome


class CampaignMethods(Base):
    """What is written to leads. A stored version never changes; an edit is a new version."""

    def list_campaign_names(self) -> list[str]:
        """The names of all campaigns, in order."""
        with self._session() as conn:
            return campaigns.list_names(conn)

    def list_campaigns(self) -> list[CampaignSummary]:
        """All campaigns with their newest versions, by name."""
        with self._session() as conn:
            return campaigns.list_campaigns(conn)

    def require_campaign(self, name: str, version: int | None = None) -> CampaignVersion:
        """A version of a campaign; None: the newest. Raises: NotFoundError."""
        with self._session() as conn:
            return campaigns.require_campaign(conn, name, version)

    def diff_campaign(self, campaign: Campaign) -> tuple[int | None, tuple[Change, ...]]:
        """The newest version that is stored (None: there is none), and what differs from it.

        `hyperdrip.campaign_files.read_campaign` makes a campaign of a folder.
        """
        with self._session() as conn:
            newest = campaigns.get_campaign(conn, campaign.name)
            return (
                newest.version if newest else None,
                find_changes(newest.campaign if newest else None, campaign),
            )

    def apply_campaign(
        self,
        campaign: Campaign,
        *,
        is_moving: bool = False,
        is_dry_run: bool = False,
        rehearsed: Applied | None = None,
        on_progress: Progress = lambda _what, _part: None,
    ) -> Applied:
        """Store a campaign as a new version if anything differs from the newest one.

        Leads under way stay on their version, unless `is_moving`. `rehearsed`: what a dry run said,
        so that no message is tried twice.

        Raises: InvalidDataError for the built-in campaign; CampaignError when leads are to be moved
        and messages to them could not be written; then nothing is stored.
        """
        with self._session() as conn:
            return apply_campaign(
                conn,
                self.clock,
                campaign,
                is_moving=is_moving,
                is_dry_run=is_dry_run,
                rehearsed=rehearsed,
                on_progress=on_progress,
            )

    def preview_step(
        self, name: str, number: int, *, lead: str | None = None, version: int | None = None
    ) -> Preview:
        """Write step `number` of a campaign for a lead, or for a made-up one.

        Raises: NotFoundError for a campaign, version, step or lead that is not there; RenderError
        when it cannot be written.
        """
        from hyperdrip.rendering import compile_campaign

        found, to = self._require_step(name, number, lead=lead, version=version)
        campaign = found.campaign
        compiled = compile_campaign(campaign)
        if to is not None:
            rendered = compiled.render(number, Recipient(to.name, to.email, to.fields))
        else:
            try:
                rendered = compiled.render(number, _make_recipient(campaign))
            except RenderError as error:
                raise InvalidDataError(
                    f"{error}; that is for a made-up lead: --lead LEAD takes one of yours"
                ) from None
        return Preview(name, found.version, to, self._with_notice(rendered))

    def try_step(
        self,
        name: str,
        number: int,
        *,
        to: str,
        lead: str | None = None,
        version: int | None = None,
        sender: Sender | None = None,
    ) -> Trial:
        """Send step `number` of a campaign to the address `to`, for real, marked as a test.

        Written for a lead, or for a made-up one. The ledger and the quota know nothing of it, and
        its unsubscribe link unsubscribes nobody. `sender`: one of your own; None opens the one that
        the settings name.

        Raises: as `preview_step`; InvalidDataError for an address that is none or is suppressed;
        FencedError when the database is a copy; SettingsError.
        """
        from hyperdrip.senders.kit import make_kit

        to = check_email(to)
        found, lead_of = self._require_step(name, number, lead=lead, version=version)
        with self._session() as conn:
            require_open(conn, self.dsn)
            if why := leads.list_suppressed(conn, [to]).get(to):
                raise InvalidDataError(f"{to!r} is suppressed ({why}) and never written to")
            moment = read_moment(conn, self.clock)
            fingerprint = read_fence(conn).stored
        campaign = found.campaign
        made_up = _make_recipient(campaign)
        claim = Claim(
            lead_id=lead_of.id if lead_of else 0,
            run=lead_of.run if lead_of else 1,
            number=number,
            envelope_id=0,
            token=1,
            attempts=1,
            day=moment.today,
            email=to,
            name=lead_of.name if lead_of else made_up.name,
            lead_fields=json.dumps(dict(lead_of.fields if lead_of else made_up.fields)),
            campaign=name,
            campaign_version=found.version,
            message_count=number - 1,
            max_messages=lead_of.max_messages if lead_of else len(campaign.steps),
            first_claimed_at=moment.now,
            trial=secrets.token_hex(8),
        )
        marked = replace(
            campaign,
            steps=tuple(
                replace(step, subject=f"{TEST_MARK} {step.subject}") for step in campaign.steps
            ),
        )
        kit = make_kit(self.settings, lambda _name, _version: marked, instance=fingerprint)
        given = sender
        sender = sender or open_sender(self.settings.sender, kit)
        try:
            rendered = kit.render(claim)
        except RenderError as error:
            if lead_of is not None:
                raise
            raise InvalidDataError(
                f"{error}; that is for a made-up lead: --lead LEAD takes one of yours"
            ) from None
        answers = sender.send_wave([claim], lambda _: True)
        outcomes = [answer[1] for answer in answers if answer is not None]
        if given is None:
            close_sender(sender)
        outcome = outcomes[0] if outcomes else Unknown("the sender gave no answer")
        return Trial(name, found.version, lead_of, to, sender.name, rendered, outcome)

    def _require_step(
        self, name: str, number: int, *, lead: str | None, version: int | None
    ) -> tuple[CampaignVersion, Lead | None]:
        with self._session() as conn:
            found = campaigns.require_campaign(conn, name, version)
            to = leads.require_lead(conn, lead) if lead is not None else None
        count = len(found.campaign.steps)
        if number < 1 or (number > count and not found.campaign.is_endless):
            raise NotFoundError(
                f"no step {number} in version {found.version} of the campaign {name!r};"
                f" it has {count}"
            )
        return found, to

    def _with_notice(self, rendered: Rendered) -> Rendered:
        """With the postal address and a link that unsubscribes nobody."""
        from hyperdrip.rendering import add_notice
        from hyperdrip.unsubscribing import unsubscribe_url

        url = self.settings.public_url
        return add_notice(
            rendered,
            unsubscribe_url=unsubscribe_url(url, "preview") if url else "",
            postal_address=self.settings.postal_address,
        )

    def campaign_stats(self, name: str | None = None) -> list[StepStats]:
        """What became of each step's messages, by campaign and number. Raises: NotFoundError."""
        with self._session() as conn:
            if name is not None:
                campaigns.require_campaign(conn, name)
            return campaigns.list_step_stats(conn, name)


def _make_recipient(campaign: Campaign) -> Recipient:
    """A lead that has every field which a campaign names: `company` is `[company]`."""
    fields: dict[str, Any] = {}
    sources = [campaign.footer or ""]
    for step in campaign.steps:
        sources += [step.subject, step.preheader or "", step.markdown, step.plain_text or ""]
    for found in FIELD.finditer("\n".join(sources)):
        _add_field(fields, [dotted or quoted for dotted, quoted in PART.findall(found[1])])
    return Recipient("Ada Marlowe", "ada@example.com", fields)


def _add_field(fields: dict[str, Any], path: list[str]) -> None:
    for name in path[:-1]:
        inner = fields.setdefault(name, {})
        if not isinstance(inner, Mapping):
            inner = fields[name] = {}
        fields = inner
    fields.setdefault(path[-1], f"[{path[-1]}]")
