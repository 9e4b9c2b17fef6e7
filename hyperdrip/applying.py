"""Planner operations on campaigns: storing an edited one, and moving leads under way to it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg

from hyperdrip import campaigns, leads, ledger
from hyperdrip.campaign_changes import Change, find_changes
from hyperdrip.clock import Clock
from hyperdrip.errors import CampaignError, InvalidDataError, RenderError
from hyperdrip.models import Campaign, LeadUnderWay
from hyperdrip.scheduler import Moment, in_planner_transaction

SHOWN = 20
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Unwritable:
    """A message that could not be written for a lead under way, and why."""

    lead_id: int
    number: int
    reason: str

    def __str__(self) -> str:
        """A line that names the lead; the reason names the step."""
        return f"lead_{self.lead_id}: {self.reason}"


@dataclass(frozen=True)
class Applied:
    """What was done with a campaign, or in a dry run would be done.

    `version`: what it is now. `changes`: none if it was that already, and nothing was stored.
    `under_way`: leads on older versions that have messages to come, by version. `moved`: those that
    got this one, `messages`: how many of theirs, `differences`: what that changes for those of each
    version. `left_out`: those that cannot, and why. `failures`: messages that could not be written
    for leads under way, among `rehearsed`.
    """

    campaign: str
    version: int
    steps: int
    changes: tuple[Change, ...]
    under_way: Mapping[int, int] = field(default_factory=dict)
    moved: tuple[int, ...] = ()
    messages: int = 0
    differences: Mapping[int, tuple[Change, ...]] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)
    failures: tuple[Unwritable, ...] = ()
    rehearsed: frozenset[int] = frozenset()


def apply_campaign(
    conn: psycopg.Connection,
    clock: Clock,
    campaign: Campaign,
    *,
    is_moving: bool = False,
    is_dry_run: bool = False,
    rehearsed: Applied | None = None,
    on_progress: Progress = lambda _what, _part: None,
) -> Applied:
    """Store a campaign as a new version if anything differs from the newest one.

    Leads under way stay on their version. With `is_moving` their planned messages get the new one,
    and keep their days; a message that is being sent keeps its version, also when it comes back.
    Each message to come is written out for each of these leads, most of them before the planner
    lock is taken; `rehearsed`: a dry run that has done so.

    Raises: InvalidDataError for the built-in campaign; CampaignError with lines that name messages
    that could not be written, when leads are to be moved: then nothing is stored. A dry run has all
    of them in its result instead.
    """
    if campaign.name == campaigns.BUILT_IN:
        raise InvalidDataError(
            f"name={campaign.name!r} is that of the built-in campaign, which stays as it is;"
            " choose another name in campaign.toml"
        )
    survey = _Survey(conn, campaign, rehearsed)
    if rehearsed is None:
        survey.look(survey.find_changes()[1], on_progress)

    def work(moment: Moment) -> Applied:
        changes, version = survey.find_changes()
        if changes:
            campaigns.insert_version(conn, campaign, now=moment.now)
        survey.look(version)  # whoever came in while nobody held the lock
        moved: dict[int, int] = {}
        differences: dict[int, tuple[Change, ...]] = {}
        if is_moving and not survey.failures:
            differences = survey.find_differences()
            moved = _move(conn, campaign.name, version, list(survey.movable))
        elif is_moving and not is_dry_run:
            raise CampaignError(_say(list(survey.failures.values())))
        return Applied(
            campaign=campaign.name,
            version=version,
            steps=len(campaign.steps),
            changes=changes,
            under_way=dict(sorted(survey.under_way.items())),
            moved=tuple(moved),
            messages=sum(moved.values()),
            differences=differences,
            left_out=survey.left_out,
            failures=tuple(survey.failures.values()),
            rehearsed=frozenset(survey.seen),
        )

    return in_planner_transaction(conn, clock, work, is_dry_run=is_dry_run)


class _Survey:
    """Leads under way on older versions, and what a campaign would write to them."""

    def __init__(
        self, conn: psycopg.Connection, campaign: Campaign, rehearsed: Applied | None
    ) -> None:
        from hyperdrip.rendering import compile_campaign

        self._conn = conn
        self._campaign = campaign
        self._compiled = compile_campaign(campaign)
        self.seen = set(rehearsed.rehearsed if rehearsed else ())
        self._known = {(f.lead_id, f.number): f for f in (rehearsed.failures if rehearsed else ())}
        self.failures: dict[tuple[int, int], Unwritable] = {}
        self.under_way: Counter[int] = Counter()
        self.movable: dict[int, int] = {}
        self.left_out: dict[int, str] = {}

    def find_changes(self) -> tuple[tuple[Change, ...], int]:
        """What differs from the newest version, and the version that the campaign is then."""
        newest = campaigns.get_campaign(self._conn, self._campaign.name)
        changes = find_changes(newest.campaign if newest else None, self._campaign)
        return changes, (newest.version if newest else 0) + bool(changes)

    def find_differences(self) -> dict[int, tuple[Change, ...]]:
        """What changes for leads that can be moved, by the version that they are on."""
        name = self._campaign.name
        return {
            version: find_changes(
                campaigns.require_campaign(self._conn, name, version).campaign, self._campaign
            )
            for version in sorted(set(self.movable.values()))
        }

    def look(self, version: int, on_progress: Progress = lambda _what, _part: None) -> None:
        """Look at all leads that are on a version before `version`; each is written to once."""
        name = self._campaign.name
        self.failures, self.under_way, self.movable, self.left_out = {}, Counter(), {}, {}
        count = max(1, campaigns.count_under_way(self._conn, name, version))
        for place, lead in enumerate(campaigns.list_leads_under_way(self._conn, name, version)):
            on_progress("Writing messages", place / count)
            if not lead.numbers:
                continue
            self.under_way[lead.version] += 1
            if lead.numbers[-1] > len(self._campaign.steps):
                self.left_out[lead.lead_id] = (
                    f"has a message {lead.numbers[-1]} to come and version {version} has"
                    f" {len(self._campaign.steps)} steps"
                )
                continue
            self.movable[lead.lead_id] = lead.version
            if lead.lead_id not in self.seen:
                self._rehearse(lead)
            self.failures.update(
                (key, self._known[key])
                for key in ((lead.lead_id, number) for number in lead.numbers)
                if key in self._known
            )

    def _rehearse(self, lead: LeadUnderWay) -> None:
        self.seen.add(lead.lead_id)
        for number in lead.numbers:
            try:
                self._compiled.render(number, lead.recipient)
            except RenderError as error:
                self._known[lead.lead_id, number] = Unwritable(lead.lead_id, number, str(error))


def _move(conn: psycopg.Connection, name: str, version: int, lead_ids: list[int]) -> dict[int, int]:
    """Pin leads and their planned messages to a version; lead id -> how many messages."""
    leads.lock_leads(conn, lead_ids)
    ledger.lock_planned(conn, lead_ids)
    return campaigns.pin_leads(conn, name, version, lead_ids)


def _say(failures: list[Unwritable]) -> str:
    lines = [str(failure) for failure in failures[:SHOWN]]
    if len(failures) > SHOWN:
        lines.append(f"and {len(failures) - SHOWN} more messages")
    return "\n".join(lines)
