"""The tables of campaigns and their steps: a function per query. A stored version never changes."""

from collections.abc import Collection, Iterator
from datetime import datetime

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hyperdrip.campaign_settings import from_settings, to_settings
from hyperdrip.db import query
from hyperdrip.errors import NotFoundError
from hyperdrip.models import (
    Campaign,
    CampaignSummary,
    CampaignVersion,
    LeadUnderWay,
    Recipient,
    Step,
    StepStats,
)

BUILT_IN = "default"
LEADS_PER_PAGE = 1000
# For trials, before anybody has written a campaign; it can be said to whoever is in the list.
_BUILT_IN_STEP = Step(
    number=1,
    subject="A message for {{ first_name | default('you') }}",
    markdown="""\
Hi {{ first_name | default('there') }},

this is a message of Hyperdrip's built-in campaign. Whoever sends it has not written one of their
own yet.""",
)


def insert_version(conn: psycopg.Connection, campaign: Campaign, *, now: datetime) -> int:
    """Store a campaign as its next version, which is returned.

    Inside a planner transaction: nobody else stores a version meanwhile.
    """
    row = conn.execute(
        query("insert_campaign"),
        {"name": campaign.name, "settings": Jsonb(to_settings(campaign)), "now": now},
    ).fetchone()
    assert row is not None
    version = int(row[0])
    _insert_steps(conn, campaign, version)
    return version


def _insert_steps(conn: psycopg.Connection, campaign: Campaign, version: int) -> None:
    steps = campaign.steps
    conn.execute(
        query("insert_campaign_steps"),
        {
            "name": campaign.name,
            "version": version,
            "delays": [step.delay_days for step in steps],
            "subjects": [step.subject for step in steps],
            "preheaders": [step.preheader for step in steps],
            "markdowns": [step.markdown for step in steps],
            "plain_texts": [step.plain_text for step in steps],
        },
    )


def get_campaign(
    conn: psycopg.Connection, name: str, version: int | None = None
) -> CampaignVersion | None:
    """A version of a campaign; None: the newest. The built-in one has a step for every number."""
    row = conn.execute(query("get_campaign"), {"name": name, "version": version}).fetchone()
    if row is None:
        return None
    found, settings, is_paused, created_at = row
    if name == BUILT_IN:
        campaign = Campaign(BUILT_IN, (_BUILT_IN_STEP,), is_endless=True)
    else:
        campaign = from_settings(name, settings, list_steps(conn, name, found))
    return CampaignVersion(found, campaign, is_paused, created_at)


def require_campaign(
    conn: psycopg.Connection, name: str, version: int | None = None
) -> CampaignVersion:
    """As get_campaign. Raises: NotFoundError."""
    found = get_campaign(conn, name, version)
    if found is None:
        if version is not None and (newest := get_campaign(conn, name)) is not None:
            raise NotFoundError(
                f"no version {version} of the campaign {name!r}; the newest one is {newest.version}"
            )
        raise NotFoundError(f"no campaign {name!r}; `hyperdrip campaigns list` shows what is there")
    return found


def list_steps(conn: psycopg.Connection, name: str, version: int) -> list[Step]:
    """The steps of a version, by number."""
    with conn.cursor(row_factory=class_row(Step)) as cursor:
        return cursor.execute(query("list_steps"), {"name": name, "version": version}).fetchall()


def list_campaigns(conn: psycopg.Connection) -> list[CampaignSummary]:
    """All campaigns with their newest versions, by name."""
    with conn.cursor(row_factory=class_row(CampaignSummary)) as cursor:
        return cursor.execute(query("list_campaigns")).fetchall()


def list_names(conn: psycopg.Connection) -> list[str]:
    """The names of all campaigns, in order."""
    return [name for (name,) in conn.execute(query("list_campaign_names"))]


def count_under_way(conn: psycopg.Connection, name: str, version: int) -> int:
    """How many leads are ACTIVE or PAUSED in a campaign on a version before this one."""
    row = conn.execute(query("count_under_way"), {"name": name, "version": version}).fetchone()
    assert row is not None
    return int(row[0])


def list_leads_under_way(
    conn: psycopg.Connection, name: str, version: int
) -> Iterator[LeadUnderWay]:
    """Leads ACTIVE or PAUSED on a version before this one, by id, read as they are asked for."""
    values = {"name": name, "version": version, "limit": LEADS_PER_PAGE, "after": 0}
    while rows := conn.execute(query("list_leads_under_way"), values).fetchall():
        for lead_id, of_version, own_name, email, fields, numbers in rows:
            recipient = Recipient(own_name, email, fields)
            yield LeadUnderWay(lead_id, of_version, recipient, tuple(numbers))
        values["after"] = rows[-1][0]


def pin_leads(
    conn: psycopg.Connection, name: str, version: int, lead_ids: Collection[int]
) -> dict[int, int]:
    """Pin locked leads and their planned messages to a version: lead id -> how many messages."""
    values = {"name": name, "version": version, "lead_ids": sorted(lead_ids)}
    return dict(conn.execute(query("pin_leads"), values).fetchall())


def list_step_stats(conn: psycopg.Connection, name: str | None = None) -> list[StepStats]:
    """What became of the messages of each step, of one campaign or of all; by campaign, number."""
    with conn.cursor(row_factory=class_row(StepStats)) as cursor:
        return cursor.execute(query("list_step_stats"), {"name": name}).fetchall()
