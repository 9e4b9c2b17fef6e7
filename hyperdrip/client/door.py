"""The library door as a whole."""

from hyperdrip.client.campaigns import CampaignMethods
from hyperdrip.client.database import DatabaseMethods
from hyperdrip.client.importing import ImportMethods
from hyperdrip.client.leads import LeadMethods
from hyperdrip.client.running import RunningMethods
from hyperdrip.client.selections import SelectionMethods
from hyperdrip.client.suppressions import SuppressionMethods


class Hyperdrip(
    LeadMethods,
    ImportMethods,
    SelectionMethods,
    CampaignMethods,
    SuppressionMethods,
    RunningMethods,
    DatabaseMethods,
):
    """One connection to one database, with its settings. Not for several threads at once."""
