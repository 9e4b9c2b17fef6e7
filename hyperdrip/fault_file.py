"""The rows of an import that were not taken: shown to a person, and written to be mended."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from hyperdrip.columns import FAULT, Columns
from hyperdrip.errors import HyperdripError
from hyperdrip.staging import LeftOut

SHOWN = 20


class FaultFile:
    """Collects rows that were not taken; `path` None keeps only what is shown.

    The file has the columns of the source, and line, column, value and reason behind them.
    """

    def __init__(self, path: Path | None, source: str, header: Sequence[str]) -> None:
        """Open the file. Raises: HyperdripError when it cannot be written."""
        self.rejected = 0
        self._shown: list[str] = []
        self._more = 0
        self._path = path
        self._width = len(header)
        self._mark = 0
        self._shown_mark = (0, 0)
        self._file: IO[str] | None = None
        if path is None:
            return
        if source != "-" and path.exists() and path.samefile(source):
            raise HyperdripError(f"--errors {str(path)!r} is the file that is read; name another")
        with self._said():
            # With a byte order mark: Excel takes it for something else without one.
            self._file = path.open("w+", encoding="utf-8-sig", newline="")
            self._writer = csv.writer(self._file)
            kept = header[:-4] if tuple(n.lower() for n in header[-4:]) == FAULT else header
            self._width = len(kept)
            self._writer.writerow([*kept, *FAULT])

    @property
    def is_wanted(self) -> bool:
        """Is there a file to write to?"""
        return self._file is not None

    @property
    def shown(self) -> tuple[str, ...]:
        """The first faults, a line each, and how many more there are."""
        more = (f"and {self._more} more",) if self._more else ()
        return (*self._shown, *more)

    def reject(
        self, line: int, cells: Sequence[str], *, column: str, value: str, reason: str
    ) -> None:
        """A row whose values cannot be taken."""
        self.rejected += 1
        self._add(line, cells, column=column, value=value, reason=reason)
        self._mark = self._file.tell() if self._file is not None else 0
        self._shown_mark = (len(self._shown), self._more)

    def leave_out(self, row: LeftOut, columns: Columns) -> None:
        """A row that the database does not need or must not have."""
        name, _ = columns.describe(row.culprit)
        value = (row.phone or "") if row.culprit == "phone" else row.email
        self._add(row.line, row.cells or [], column=name, value=value, reason=row.reason)

    def forget_left_out(self) -> None:
        """Forget what `leave_out` took: the transaction begins again."""
        shown, self._more = self._shown_mark
        del self._shown[shown:]
        if self._file is not None and self._mark:
            with self._said():
                self._file.seek(self._mark)
                self._file.truncate()

    def sync(self) -> None:
        """Make sure that the file is on the disk, before anything is committed."""
        if self._file is not None:
            with self._said():
                self._file.flush()
                os.fsync(self._file.fileno())

    def __enter__(self) -> "FaultFile":
        """Use it as a context manager: it closes itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            with self._said():
                self._file.close()

    def _add(
        self, line: int, cells: Sequence[str], *, column: str, value: str, reason: str
    ) -> None:
        if len(self._shown) < SHOWN:
            self._shown.append(
                f"line {line}: {value[:80]}: {reason}" if value else f"line {line}: {reason}"
            )
        else:
            self._more += 1
        if self._file is not None:
            own = [*cells[: self._width], *[""] * (self._width - len(cells))]
            with self._said():
                self._writer.writerow([*own, line, column, value, reason])

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            file, self._file = self._file, None
            if file is not None:
                _close_quietly(file)
            raise HyperdripError(
                f"--errors {str(self._path)!r} cannot be written: {error.strerror};"
                " nothing was taken"
            ) from None


def _close_quietly(file: IO[Any]) -> None:
    try:
        file.close()
    except OSError:
        return
