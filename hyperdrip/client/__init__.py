"""The library door: everything that the commands do, as methods of one object.

>>> from hyperdrip import Hyperdrip
>>> with Hyperdrip.open() as drip:
...     lead = drip.add_lead(name="Ada", email="ada@example.com")
...     drip.audit()
"""

from types import TracebackType

from hyperdrip import migrations
from hyperdrip.client.campaigns import CampaignMethods
from hyperdrip.client.database import DatabaseMethods
from hyperdrip.client.leads import LeadMethods
from hyperdrip.client.running import RunningMethods
from hyperdrip.client.selections import SelectionMethods
from hyperdrip.client.suppressions import SuppressionMethods
from hyperdrip.db import converted_errors
from hyperdrip.settings import Settings, load


class Hyperdrip(
    LeadMethods,
    SelectionMethods,
    CampaignMethods,
    SuppressionMethods,
    RunningMethods,
    DatabaseMethods,
):
    """One connection to one database, with its settings. Not for several threads at once."""

    @classmethod
    def open(cls, settings: Settings | None = None, *, is_checked: bool = True) -> "Hyperdrip":
        """Open the database of the settings (None: read the environment).

        Starts and migrates the embedded server when there is no DATABASE_URL. With `is_checked`,
        a database that is not migrated, or belongs to another environment, is refused.

        Raises: SettingsError, DatabaseError and its kin.
        """
        settings = settings or load()
        server = None
        dsn = settings.database_url
        if not dsn:
            from hyperdrip import embedded

            server = embedded.acquire(settings.hyperdrip_home, settings.hyperdrip_env)
            dsn = server.dsn
        drip = None
        try:
            drip = cls(dsn, settings, server=server)
            with converted_errors():
                if server is not None and migrations.read_status(drip._conn).pending:
                    drip.migrate()
                if is_checked:
                    drip._check()
        except BaseException:
            if drip is not None:
                drip.close()
            elif server is not None:
                server.release()
            raise
        return drip

    def __enter__(self) -> "Hyperdrip":
        """Use it as a context manager: it closes itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
