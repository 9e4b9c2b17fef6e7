"""Methods of the library door: leads out of files."""

from dataclasses import replace
from datetime import date

from hyperdrip.client.base import Base
from hyperdrip.importing import ImportOptions, Progress, import_file
from hyperdrip.models import ImportResult, UndoneImport
from hyperdrip.standing import undo_import

NO_OPTIONS = ImportOptions()


class ImportMethods(Base):
    """Importing, and taking an import back."""

    def import_file(
        self,
        source: str,
        options: ImportOptions = NO_OPTIONS,
        *,
        max_messages: int | None = None,
        campaign: str = "default",
        start: date | None = None,
        on_progress: Progress = lambda _what, _part: None,
    ) -> ImportResult:
        """Add the leads of a CSV or Excel file (`-`: standard input) in one transaction.

        Raises: InvalidDataError when it is no such file; NoRoomError; HyperdripError when the error
        file cannot be written. In all these cases nothing was taken.
        """
        enrolment = replace(
            self._enrolment(campaign=campaign, max_messages=max_messages), start=start
        )
        with self._session() as conn:
            return import_file(
                conn, self.clock, source, enrolment, options, on_progress=on_progress
            )

    def undo_import(self, import_id: int) -> UndoneImport:
        """Take back what has not been sent of an import: leads that had no message are removed.

        Raises: NotFoundError; ConflictError when it was undone already.
        """
        with self._session() as conn:
            return undo_import(conn, self.clock, import_id)
