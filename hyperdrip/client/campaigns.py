"""Methods of the library door: campaigns, their versions, and what they say."""

from hyperdrip import campaigns
from hyperdrip.client.base import Base
from hyperdrip.models import CampaignSummary, CampaignVersion


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
