"""The rows of an import that were not taken: shown to a person, and written to be mended."""

import csv
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from hyperdrip.columns import FAULT, Columns, is_error_file
from hyperdrip.errors import HyperdripError, SettingsError
from hyperdrip.staging import LeftOut

SHOWN = 20


class FaultFile:
    """Collects rows that were not taken; `path` None keeps only what is shown.

    The file has the columns of the source, and line, column, value and reason behind them. It is
    written beside its place, and put there by `publish`: an import that fails leaves the old one.
    """

    def __init__(self, path: Path | None, source: str, header: Sequence[str]) -> None:
        """Open the file. Raises: HyperdripError when it cannot be written."""
        self.rejected = 0
        self._shown: list[str] = []
        self._more = 0
        self._path = path
        self._fresh: Path | None = None
        self._file: IO[str] | None = None
        own = header[: -len(FAULT)] if is_error_file(header) else header
        self._width = len(own)
        if path is None:
            return
        if _is_same(path, source):
            raise SettingsError(f"--errors {str(path)!r} is the file that is read; name another")
        with self._said():
            # With a byte order mark: Excel takes it for something else without one.
            self._file = self._place(path).open("w", encoding="utf-8-sig", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow([*own, *FAULT])

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
        self._show(f"line {line}: {reason}")  # which names the value
        self._write(cells, line, column, value, reason)

    def leave_out(self, row: LeftOut, columns: Columns) -> None:
        """A row that the database does not need or must not have."""
        name, _ = columns.describe(row.culprit)
        value = (row.phone or "") if row.culprit == "phone" else row.email
        self._show(f"line {row.line}: {value}: {row.reason}")
        self._write(row.cells or [], row.line, name, value, row.reason)

    def sync(self) -> None:
        """Make sure that all of it is on the disk, while nothing is locked that others need."""
        if self._file is not None:
            with self._said():
                self._file.flush()
                if self._fresh is not None:
                    os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Put the file in its place, before anything is committed."""
        if self._file is not None:
            with self._said():
                self._file.close()
                if self._fresh is not None and self._path is not None:
                    self._fresh.replace(self._path.resolve())
                    self._fresh = None

    def __enter__(self) -> "FaultFile":
        """Use it as a context manager: it closes itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; what was not published is removed."""
        self._drop()

    def _place(self, path: Path) -> Path:
        """Where to write: a device or pipe itself, else a file beside it."""
        if path.is_dir() or (path.exists() and not path.is_file()):
            return path
        self._fresh = path.resolve().with_name(f".hyperdrip-{secrets.token_hex(8)}.csv")
        return self._fresh

    def _show(self, text: str) -> None:
        if len(self._shown) < SHOWN:
            self._shown.append(_printable(text))
        else:
            self._more += 1

    def _write(self, cells: Sequence[str], *fault: object) -> None:
        if self._file is not None:
            own = [*cells[: self._width], *[""] * (self._width - len(cells))]
            with self._said():
                self._writer.writerow([*own, *fault])

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._drop()
            raise HyperdripError(
                f"--errors {str(self._path)!r} cannot be written: {error.strerror or error};"
                " nothing was taken"
            ) from None

    def _drop(self) -> None:
        file, self._file = self._file, None
        fresh, self._fresh = self._fresh, None
        with suppress(OSError):
            if file is not None:
                file.close()
        with suppress(OSError):
            if fresh is not None:
                fresh.unlink(missing_ok=True)


def _is_same(path: Path, source: str) -> bool:
    """Would the file that is read be overwritten?"""
    try:
        read = os.fstat(sys.stdin.fileno()) if source == "-" else Path(source).stat()
        return path.is_file() and os.path.samestat(read, path.stat())
    except (OSError, ValueError, AttributeError):  # standard input that is no file at all
        return False


def _printable(text: str) -> str:
    """One line for a terminal, whatever a cell holds."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
