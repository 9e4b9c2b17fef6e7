"""Reading spreadsheets from somebody else: CSV of any common kind, and Excel.

Text is read as a stream, so memory stays flat. What was detected is told in `Sheet.notes`.
"""

import codecs
import csv
import io
import re
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from hyperdrip.columns import FAULT, is_error_file
from hyperdrip.errors import InvalidDataError

LONGEST_CELL = 1_000_000
LONGEST_LINE = 32 << 20
CHUNK = 1 << 20
MOST_CELLS = 50_000_000
LONGEST_REFERENCE = 16
_CELL = re.compile(rb'\br="([A-Z]{1,3})([0-9]{1,7})"')
SAMPLE = 1 << 16
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Spaces that do not break, as spreadsheets and web pages put between words and digits.
STRANGE_SPACES = re.compile("[\u00a0\u2007\u202f]")
# .xlsx and .ods are zip files, .xls is an OLE container.
WORKBOOK_STARTS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
UTF32_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Codecs that make text of what no spreadsheet writes, half characters included.
STRANGE_CODECS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"}


class Row(NamedTuple):
    """The line on which a row begins, and its cells, as many as the header has or more.

    Fewer: it is the last row, and the file seems cut off in it.
    """

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Sheet:
    """A header, and rows; blank rows are left out."""

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

    `encoding` and `delimiter` replace what would be detected: Unicode by its byte order mark,
    UTF-8, else cp1252; and the most frequent of comma, semicolon, tab and bar in the first line.

    Raises: InvalidDataError when it is no such file, also while rows are read.
    """
    if delimiter is not None and not can_delimit(delimiter):
        raise InvalidDataError(f"delimiter {delimiter!r} cannot separate cells")
    with _open_bytes(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(SAMPLE)
        if start.startswith(WORKBOOK_STARTS):
            notes = list[str]()
            rows = _workbook_rows(source, file, notes)
        else:
            rows, notes = _text(source, file, start, encoding=encoding, delimiter=delimiter)
        with closing(rows):
            first = next(rows, None)
            if first is None:
                raise InvalidDataError(f"{source!r} is empty")
            header = _check_header(source, first[0].cells)
            yield Sheet(header, _padded(rows, len(header)), tuple(notes), size, file)


def can_delimit(delimiter: str) -> bool:
    """Can this stand between the cells of a row?"""
    return len(delimiter) == 1 and delimiter not in '"\r\n\0'


@contextmanager
def _open_bytes(source: str) -> Iterator[IO[bytes]]:
    """A file that can be read twice: standard input and pipes are copied first."""
    if source == "-":
        if sys.stdin is None:
            raise InvalidDataError("standard input is closed; name a file")
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
    own = header[: -len(FAULT)] if is_error_file(header) else header
    seen: set[str] = set()
    for name in own:
        if name and name.lower() in seen:
            raise InvalidDataError(
                f"{source!r} has the column {name!r} more than once; rename one of them"
            )
        seen.add(name.lower())
    return header


# A row, and whether its last line ends as lines do: that of a file which was cut off does not.
_Found = Generator[tuple[Row, bool], None, None]


def _padded(rows: _Found, width: int) -> Iterator[Row]:
    """Give short rows their empty cells back, and take empty ones from long rows.

    Not the last row's, when all before it are whole and its line does not end.
    """
    others_are_whole = False
    for number, (row, has_end) in enumerate(rows):
        line, cells = row
        while len(cells) > width and not cells[-1].strip():
            cells.pop()
        is_whole = len(cells) >= width
        if not is_whole and not (others_are_whole and not has_end):
            cells += [""] * (width - len(cells))
        others_are_whole = is_whole and (others_are_whole or not number)
        yield Row(line, cells)


def _clean(cell: str) -> str:
    return " ".join(cell.replace("\ufeff", "").split())


# Text


def _text(
    source: str, file: IO[bytes], start: bytes, *, encoding: str | None, delimiter: str | None
) -> tuple[_Found, list[str]]:
    found = _check_encoding(encoding, start) if encoding else _detect_encoding(source, file, start)
    notes = [] if found.startswith("utf-8") else [f"read as {found}"]
    sample = start.decode(found, errors="ignore").lstrip("\ufeff")
    mark = re.match(r'(?i)"?sep=([^"\r\n\0])"?(?=[\r\n]|$)', sample)  # Excel's own way to say it
    comma = delimiter or (mark[1] if mark else _detect_delimiter(sample))
    if comma != ",":
        notes.append(f"separated by {DELIMITERS.get(comma, repr(comma))}")
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=found, newline="")
    return _text_rows(source, file, text, comma, has_mark=mark is not None), notes


def _detect_delimiter(sample: str) -> str:
    """The most frequent one in the first line, outside of quotation marks."""
    unquoted = re.sub(r'"(?:[^"]|"")*"', "", sample).lstrip()
    first = re.split(r"[\r\n]", unquoted, maxsplit=1)[0]
    return max(DELIMITERS, key=first.count)


class _Lines:
    """The lines of a text, counted; a NUL is found on the very line."""

    def __init__(self, source: str, text: io.TextIOWrapper) -> None:
        self._source = source
        self._text = text
        self.count = 0
        self.has_end = True

    def __iter__(self) -> Iterator[str]:
        for line in iter(partial(self._text.readline, LONGEST_LINE), ""):
            self.count += 1
            fault = ""
            if "\0" in line:
                fault = "has a NUL: it is binary or damaged"
            elif len(line) == LONGEST_LINE:
                fault = f"has {LONGEST_LINE} characters or more"
            if fault:
                raise InvalidDataError(
                    f"{self._source!r} line {self.count} {fault}; nothing was taken"
                )
            self.has_end = line[-1] in "\r\n"
            yield line


def _text_rows(
    source: str, file: IO[bytes], text: io.TextIOWrapper, delimiter: str, *, has_mark: bool
) -> _Found:
    csv.field_size_limit(LONGEST_CELL)
    lines = _Lines(source, text)
    readable = iter(lines)
    line = 1
    try:
        if has_mark:
            next(readable)
            line = 2
        for cells in csv.reader(readable, delimiter=delimiter, strict=True):
            if any(cell.strip() for cell in cells):
                yield Row(line, cells), lines.has_end
            line = lines.count + 1
    except csv.Error as error:
        reason = str(error)
        if "field limit" in reason:
            reason = f"a cell has more than {LONGEST_CELL} characters"
        elif "unexpected end" in reason:
            reason = "a quotation mark is never closed; the file seems cut off"
        elif "expected after" in reason:
            reason = "a quotation mark is missing, or there is one too many"
        raise InvalidDataError(f"{source!r} line {line}: {reason}; nothing was taken") from None
    except UnicodeError as error:
        bad, reason = _find_undecodable(file, text.encoding) or (line, str(error))
        raise InvalidDataError(
            f"{source!r} line {bad} is not {text.encoding} ({reason}); nothing was taken"
        ) from None
    finally:
        text.detach()


def _find_undecodable(file: IO[bytes], encoding: str) -> tuple[int, str] | None:
    """The line with the first bytes that are no text, and why; a reader is chunks ahead of it."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    file.seek(0)
    while True:
        chunk = file.read(CHUNK)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # The bytes before it, in whatever way the decoder was given them, are text.
            before = error.object[: error.start].decode(encoding.removesuffix("-sig"), "ignore")
            return line + _count_line_ends(before), error.reason
        if not chunk:
            return None
        line += _count_line_ends(text)


def _count_line_ends(text: str) -> int:
    return len(re.findall(r"\r\n|\r|\n", text))


def _check_encoding(encoding: str, start: bytes) -> str:
    """The codec that is meant; a byte order mark of its kind is read over."""
    try:
        found = codecs.lookup(encoding)
        if not found._is_text_encoding or found.name in STRANGE_CODECS:
            raise LookupError
    except (LookupError, ValueError):
        raise InvalidDataError(
            f"encoding {encoding!r} is unknown; write one such as utf-8, utf-16 or cp1252"
        ) from None
    if found.name == "utf-8":
        return "utf-8-sig"
    for kind, marks in (("utf-32", UTF32_MARKS), ("utf-16", UTF16_MARKS)):
        if found.name.startswith(kind) and start.startswith(marks):
            return kind
    return found.name


def _detect_encoding(source: str, file: IO[bytes], start: bytes) -> str:
    """A byte order mark, or what the whole file can be read as."""
    if start.startswith(UTF32_MARKS):
        return "utf-32"
    if start.startswith(UTF16_MARKS):
        return "utf-16"
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start[1:4:2] == b"\0\0" and 0 not in start[0:4:2]:
        return "utf-16-le"
    if start[0:4:2] == b"\0\0" and 0 not in start[1:4:2]:
        return "utf-16-be"
    for name in ("utf-8", "cp1252"):
        if _can_read(file, name):
            return name
    if b"\0" in start:
        raise InvalidDataError(f"{source!r} is a binary file; name a CSV or Excel file")
    raise InvalidDataError(
        f"{source!r} is neither UTF-8 nor cp1252 text; save it as CSV UTF-8 or say --encoding"
    )


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


# Workbooks


def _workbook_rows(source: str, file: IO[bytes], notes: list[str]) -> _Found:
    """Rows of the first sheet that has any, with numbers and dates as a person would type them."""
    from python_calamine import CalamineError, CalamineWorkbook

    _refuse_far_cells(source, file)
    try:
        file.seek(0)
        book = CalamineWorkbook.from_filelike(file)
        names = book.sheet_names
        sheet = book.get_sheet_by_index(0)
        for number in range(1, len(names)):
            if sheet.start is not None:
                break
            sheet = book.get_sheet_by_index(number)
        if len(names) > 1:
            notes.append(f"read from the sheet {sheet.name!r} alone; there are {len(names)}")
        for line, cells in enumerate(sheet.iter_rows(), start=1):
            words = [_word(cell) for cell in cells]
            if any("\0" in word for word in words):
                raise InvalidDataError(
                    f"{source!r} line {line} has a NUL: it is damaged; nothing was taken"
                )
            if any(word.strip() for word in words):
                yield Row(line, words), True
    except (CalamineError, OSError, ValueError) as error:
        raise InvalidDataError(f"{source!r} is no Excel file that can be read: {error}") from None


def _refuse_far_cells(source: str, file: IO[bytes]) -> None:
    """Refuse sheets whose outermost cells span too much.

    The reader takes memory for the whole rectangle, and a single stray cell in the last row and
    column would take all there is and end the process.
    """
    file.seek(0)
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as book:
            for name in book.namelist():
                if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name):
                    with book.open(name) as sheet:
                        _refuse_far_cells_of(source, sheet)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise InvalidDataError(f"{source!r} is no Excel file that can be read: {error}") from None


def _refuse_far_cells_of(source: str, sheet: IO[bytes]) -> None:
    columns, rows, rest = 0, 0, b""
    while chunk := sheet.read(CHUNK):
        text = rest + chunk
        for letters, digits in _CELL.findall(text):
            column = 0
            for letter in letters:
                column = 26 * column + letter - 64
            columns, rows = max(columns, column), max(rows, int(digits))
        rest = text[-LONGEST_REFERENCE:]
        if columns * rows > MOST_CELLS:
            raise InvalidDataError(
                f"{source!r} has a cell in column {columns} and one in row {rows}, too far apart to"
                " be read; delete what is empty beyond the table, or save it as CSV UTF-8"
            )


def _word(cell: Any) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime) and not (cell.hour or cell.minute or cell.second):
        return cell.date().isoformat()
    if isinstance(cell, date | datetime):
        return cell.isoformat()
    return str(cell)
