"""Reading spreadsheets from somebody else: CSV of any common kind, and Excel.

Text is read as a stream, so memory stays flat. What was detected is told in `Sheet.notes`.
"""

import codecs
import csv
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

from hyperdrip.errors import InvalidDataError

LONGEST_CELL = 1_000_000
CHUNK = 1 << 20
SAMPLE = 1 << 16
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# .xlsx and .ods are zip files, .xls is an OLE container.
WORKBOOK_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")

Row = tuple[int, list[str]]  # line number, cells


@dataclass(frozen=True)
class Sheet:
    """A header, and rows as (line number, cells); blank rows are left out."""

    header: tuple[str, ...]
    rows: Iterator[Row]
    notes: tuple[str, ...]
    size: int
    _file: IO[bytes]

    @property
    def position(self) -> int:
        """How many of the `size` bytes have been read."""
        return min(self._file.tell(), self.size)


@contextmanager
def open_sheet(
    source: str, *, encoding: str | None = None, delimiter: str | None = None
) -> Iterator[Sheet]:
    """Open a CSV or Excel file; `-` is standard input.

    `encoding` and `delimiter` replace what would be detected: UTF-16 by its byte order mark, UTF-8,
    else cp1252; and the most frequent of comma, semicolon, tab and bar in the first line.

    Raises: InvalidDataError when it is no such file, also while rows are read.
    """
    with _open_bytes(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(SAMPLE)
        if not start.strip():
            raise InvalidDataError(f"{source!r} is empty")
        if start.startswith(WORKBOOK_STARTS):
            rows, notes = _workbook_rows(source, file), list[str]()
        else:
            rows, notes = _text(source, file, start, encoding=encoding, delimiter=delimiter)
        header = _check_header(source, next(rows, (0, []))[1])
        yield Sheet(header, _padded(rows, len(header)), tuple(notes), size, file)


@contextmanager
def _open_bytes(source: str) -> Iterator[IO[bytes]]:
    """A file that can be read twice: standard input and pipes are copied first."""
    if source == "-":
        with _copied(sys.stdin.buffer) as copy:
            yield copy
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - opened here, so that only this is caught
    except IsADirectoryError:
        raise InvalidDataError(f"{source!r} is a folder; name a CSV file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidDataError(f"{source!r} cannot be read: {reason}") from None
    with file:
        if file.seekable():
            yield file
        else:
            with _copied(file) as copy:
                yield copy


@contextmanager
def _copied(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as copy:
        while chunk := stream.read(CHUNK):
            copy.write(chunk)
        yield copy


def _check_header(source: str, cells: list[str]) -> tuple[str, ...]:
    header = tuple(_clean(cell) for cell in cells)
    while header and not header[-1]:
        header = header[:-1]
    seen: set[str] = set()
    for name in header:
        if name and name.lower() in seen:
            raise InvalidDataError(f"{source!r} has the column {name!r} more than once")
        seen.add(name.lower())
    return header


def _padded(rows: Iterator[Row], width: int) -> Iterator[Row]:
    """Give short rows their empty cells back, and take empty ones from long rows."""
    for line, cells in rows:
        while len(cells) > width and not cells[-1].strip():
            cells.pop()
        yield line, cells + [""] * (width - len(cells))


def _clean(cell: str) -> str:
    return " ".join(cell.replace("\ufeff", "").split())


# Text


def _text(
    source: str, file: IO[bytes], start: bytes, *, encoding: str | None, delimiter: str | None
) -> tuple[Iterator[Row], list[str]]:
    found = _check_encoding(encoding) if encoding else _detect_encoding(source, file, start)
    notes = [] if found.startswith("utf-8") else [f"read as {found}"]
    first = start.decode(found, errors="ignore").lstrip("\ufeff").split("\n", 1)[0]
    mark = re.fullmatch(r"sep=(.)\r?", first)  # Excel's own way to say it
    comma = delimiter or (mark[1] if mark else max(DELIMITERS, key=first.count))
    if comma != ",":
        notes.append(f"separated by {DELIMITERS.get(comma, comma)}")
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=found, newline="")
    if mark:
        text.readline()
    return _text_rows(source, text, comma, lines_before=int(mark is not None)), notes


def _text_rows(
    source: str, text: io.TextIOWrapper, delimiter: str, *, lines_before: int
) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = lines_before + 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = lines_before + reader.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if "field limit" in reason:
            reason = f"a cell has more than {LONGEST_CELL} characters"
        elif "unexpected end" in reason:
            reason = "a quotation mark is never closed; the file seems cut off"
        raise InvalidDataError(f"{source!r} line {line}: {reason}; nothing was taken") from None
    except UnicodeError as error:
        raise InvalidDataError(
            f"{source!r} line {line} is not {text.encoding} ({_first_words(error)});"
            " nothing was taken"
        ) from None
    finally:
        text.detach()


def _check_encoding(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise InvalidDataError(
            f"encoding {encoding!r} is unknown; write one such as utf-8, utf-16 or cp1252"
        ) from None


def _detect_encoding(source: str, file: IO[bytes], start: bytes) -> str:
    """A byte order mark, or what the whole file can be read as."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start[1:4:2] == b"\0\0" and 0 not in start[0:4:2]:
        return "utf-16-le"
    if start[0:4:2] == b"\0\0" and 0 not in start[1:4:2]:
        return "utf-16-be"
    _refuse_nul(source, file)
    for name in ("utf-8", "cp1252"):
        if _can_read(file, name):
            return name
    raise InvalidDataError(
        f"{source!r} is neither UTF-8 nor cp1252 text; save it as CSV UTF-8 or say --encoding"
    )


def _refuse_nul(source: str, file: IO[bytes]) -> None:
    line = 1
    file.seek(0)
    while chunk := file.read(CHUNK):
        nul = chunk.find(b"\0")
        if nul >= 0:
            line += chunk.count(b"\n", 0, nul)
            raise InvalidDataError(
                f"{source!r} line {line} has a NUL: it is binary or damaged; nothing was taken"
            )
        line += chunk.count(b"\n")


def _can_read(file: IO[bytes], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    try:
        while chunk := file.read(CHUNK):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _first_words(error: UnicodeError) -> str:
    return str(error).split(":", 1)[-1].strip()


# Workbooks


def _workbook_rows(source: str, file: IO[bytes]) -> Iterator[Row]:
    """Rows of the first sheet, with numbers and dates as a person would have typed them."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        file.seek(0)
        book = CalamineWorkbook.from_filelike(file)
        sheet = book.get_sheet_by_index(0)
        first = (sheet.start or (0, 0))[0] + 1
        for line, cells in enumerate(sheet.iter_rows(), start=first):
            words = [_word(cell) for cell in cells]
            if any(words):
                yield line, words
    except (CalamineError, OSError, ValueError) as error:
        raise InvalidDataError(f"{source!r} is no Excel file that can be read: {error}") from None


def _word(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime) and not (cell.hour or cell.minute or cell.second):
        return cell.date().isoformat()
    if isinstance(cell, date | datetime):
        return cell.isoformat()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)
